//! The operating system: its error texts, source files, and files that only their owner may read.

use std::fmt::Display;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::syntax::source::MAX_SOURCE;

/// Returns the text of an error in lower case, without its number.
pub fn reason(error: &dyn Display) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or("").to_lowercase()
}

/// Returns the text of a source file; an error says why there is none.
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

/// Returns the command line of a process as people type it, if the system shows it. The program is
/// named without its folder.
pub fn command_of(pid: u32) -> Option<String> {
    const MOST: usize = 100;
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.trim_end_matches('\0').split('\0');
    let program = words.next()?;
    let program = program.rsplit('/').next().filter(|name| !name.is_empty())?;
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    let word = |word: &str| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let all: Vec<String> = std::iter::once(program).chain(words).map(word).collect();
    let all: String = all.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(match all.chars().count() > MOST {
        true => all.chars().take(MOST).chain(['…']).collect(),
        false => all,
    })
}

/// Returns whether a signal has stopped a process, as far as the system shows it.
pub fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name of the program, which is in parentheses.
    let state = status.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

/// The mode of a private folder: only its owner may look into it.
const PRIVATE_FOLDER: u32 = 0o700;
/// The mode of a private file: only its owner may read and write it.
const PRIVATE_FILE: u32 = 0o600;

/// Returns options that make new files private, whatever the process's umask is. The mode of an
/// existing file does not change.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(PRIVATE_FILE);
    options
}

/// Makes a private folder. Missing folders above it get the usual mode.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(PRIVATE_FOLDER).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Removes the rights of other users to a file or a folder, and returns whether it removed any.
/// Symbolic links and files of other users stay as they are.
pub fn make_private(path: &Path) -> bool {
    let Ok(data) = fs::symlink_metadata(path) else { return false };
    let mode = if data.is_dir() { PRIVATE_FOLDER } else { PRIVATE_FILE };
    let is_open = data.permissions().mode() & 0o077 != 0 && !data.is_symlink();
    is_open && fs::set_permissions(path, Permissions::from_mode(mode)).is_ok()
}

/// Whether a file exists that only its owner may read.
pub fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o077 == 0)
}

/// Does the same as [`make_private`], for a folder and everything in it.
pub fn make_all_private(folder: &Path) {
    make_private(folder);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => make_all_private(&entry.path()),
            _ => drop(make_private(&entry.path())),
        }
    }
}
