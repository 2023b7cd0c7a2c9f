//! The operating system's words.

use std::fmt::Display;

/// What an error says, in small letters and without its number.
pub fn reason(error: &dyn Display) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or("").to_lowercase()
}
