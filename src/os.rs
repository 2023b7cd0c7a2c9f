//! The operating system: its words, and its files as sources.

use std::fmt::Display;
use std::path::Path;

use crate::syntax::source::MAX_SOURCE;

/// What an error says, in small letters and without its number.
pub fn reason(error: &dyn Display) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or("").to_lowercase()
}

/// The text of a source file; an error says why there is none.
pub fn read_text(path: &Path) -> Result<String, String> {
    let plain = |error: std::io::Error| reason(&error);
    let data = std::fs::metadata(path).map_err(plain)?;
    if data.is_dir() {
        return Err("it is a folder".into());
    }
    if data.len() > MAX_SOURCE as u64 {
        return Err("it has more than 16 MiB".into());
    }
    let bytes = std::fs::read(path).map_err(plain)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("it is not UTF-8 text (line {line})")
    })
}
