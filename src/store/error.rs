//! What can be wrong with a store.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub enum StoreError {
    /// Another process has it open.
    Locked { folder: PathBuf, pid: Option<u32> },
    /// There is something else than a folder where the store is to be.
    NoFolder { path: PathBuf },
    /// A newer version of this program made it.
    Newer { found: u32, known: u32 },
    /// Something that was acknowledged is not there, or not as it was written.
    Damaged { what: String },
    /// The disk, or a right to use it. `what` was being done.
    Io { what: String, reason: String },
    /// The database library broke down.
    Broken { reason: String },
}

impl StoreError {
    /// An error of the operating system.
    pub fn io(what: &str, path: &Path, error: &std::io::Error) -> StoreError {
        StoreError::Io { what: format!("{what} {}", path.display()), reason: plain(error) }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            StoreError::Locked { .. } => "wait for that process or stop it, or use another store with `--store`".into(),
            StoreError::NoFolder { .. } => "use another one with `--store`, or move the file away".into(),
            StoreError::Newer { .. } => "use the newer version, or another store with `--store`".into(),
            StoreError::Damaged { .. } => {
                "nothing was changed: keep a copy of the folder, look at it with `durable store verify`, save what can be read with `durable store export --damaged`, or restore a backup".into()
            }
            StoreError::Io { .. } => "nothing that was acknowledged is lost; once the disk is in order, go on with `durable resume`".into(),
            StoreError::Broken { .. } => {
                "nothing was changed: keep a copy of the folder, and restore a backup or use another store with `--store`".into()
            }
        }
    }
}

/// The operating system's words, without its number and without what libraries put around them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let inner =
        text.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"')).map(|(words, _)| words);
    match (inner, text.split_once(" (os error")) {
        (Some(words), _) | (None, Some((words, _))) => words.to_lowercase(),
        (None, None) => text,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Locked { folder, pid: Some(pid) } => {
                write!(f, "the store {} is in use by process {pid}", folder.display())
            }
            StoreError::Locked { folder, pid: None } => {
                write!(f, "the store {} is in use by another process", folder.display())
            }
            StoreError::NoFolder { path } => {
                write!(f, "{} is a file, and a store is a folder", path.display())
            }
            StoreError::Newer { found, known } => {
                write!(f, "the store has format {found}; this version of durable knows formats up to {known}")
            }
            StoreError::Damaged { what } => write!(f, "the store is damaged: {what}"),
            StoreError::Io { what, reason } => write!(f, "could not {what}: {reason}"),
            StoreError::Broken { reason } => write!(f, "the store can't be read: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}
