//! Listed paths, and paths as the system resolves them.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::Capability;
use super::capability::{Item, Side};

/// Returns the items of a listed path. A denied path is denied under its own name and under its
/// target.
pub(super) fn items(text: &str, side: Side) -> Result<Vec<Item>, String> {
    if text.contains('*') {
        return Err("can match nothing: a path has no `*`; a folder stands for all that is in it".into());
    }
    if text.contains('\0') {
        return Err("can't be a path".into());
    }
    let target = real(Path::new(text));
    let mut found = vec![target.clone()];
    let own = located(Path::new(text));
    if side == Side::Deny && own != target {
        found.push(own);
    }
    if found.iter().any(|path| path.to_str().is_none()) {
        return Err("is in a folder whose name is not UTF-8 text, and can't be recorded".into());
    }
    Ok(found.into_iter().map(Item::Path).collect())
}

/// Returns a path whose folder is without links, and whose last name is as written.
pub(super) fn located(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (whole.parent(), whole.file_name()) {
        (Some(folder), Some(name)) => real(folder).join(name),
        _ => real(&whole),
    }
}

/// Returns a path as the system would follow it: absolute, without `..`, and without links as far
/// as it exists.
pub fn real(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut rest: Vec<OsString> = Vec::new();
    let mut known = whole.clone();
    let mut found = loop {
        if let Ok(found) = known.canonicalize() {
            break found;
        }
        match (known.file_name(), known.parent()) {
            (Some(name), Some(parent)) => {
                rest.push(name.to_os_string());
                known = parent.to_path_buf();
            }
            // The path ends in `..` below something that does not exist.
            (None, Some(parent)) => {
                rest.push("..".into());
                known = parent.to_path_buf();
            }
            _ => break known,
        }
    };
    for part in rest.iter().rev() {
        match Path::new(part).components().next() {
            Some(Component::ParentDir) => {
                found.pop();
            }
            _ => found.push(part),
        }
    }
    found
}

/// Files that every store has, and hardly any other folder.
const MARKS: [&str; 2] = ["wal", "lock"];

/// Returns whether a path is the folder of a store, or is within one, whatever that folder is
/// called.
pub(super) fn is_of_a_store(real: &Path) -> bool {
    real.ancestors().any(|folder| MARKS.iter().all(|mark| folder.join(mark).is_file()))
}

/// Devices that expose no data.
const HARMLESS: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Returns whether a file shows or controls the system: processes with their variables and memory,
/// devices, settings of the kernel.
pub(super) fn is_of_the_system(capability: Capability, real: &Path) -> bool {
    let below = |folder: &str| real.starts_with(folder) && real != Path::new(folder);
    below("/proc")
        || (below("/sys") && capability == Capability::Write)
        || (below("/dev")
            && !real.starts_with("/dev/shm")
            && !HARMLESS.iter().any(|known| real == Path::new(known)))
}
