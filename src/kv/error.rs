//! What can be wrong with a store.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq)]
pub enum StoreError {
    /// Another process has it open.
    Locked { folder: PathBuf, pid: Option<u32> },
    /// The process that has it open can't be asked by this version.
    OtherVersion { reason: String },
    /// There is something else than a folder where the store is to be.
    NoFolder { path: PathBuf },
    /// A newer version of this program made it.
    Newer { found: u32, known: u32 },
    /// Something that was acknowledged is not there, or not as it was written.
    Damaged { what: String },
    /// The disk, or a right to use it. `what` was being done.
    Io { what: String, reason: String },
    /// It may be read, and not written.
    ReadOnly { folder: PathBuf, reason: String },
    /// A file of it was removed, or another was put in its place, while it was in use.
    Replaced { path: PathBuf },
    /// The system gives no threads or no memory.
    Scarce { what: String },
    /// The database library broke down.
    Broken { reason: String },
    /// A rule of this program's own is broken.
    Internal { what: String },
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
            StoreError::OtherVersion { .. } => {
                "use the version of durable that the process is of, or stop it".into()
            }
            StoreError::NoFolder { .. } => "use another one with `--store`, or move the file away".into(),
            StoreError::Newer { .. } => "use the newer version, or another store with `--store`".into(),
            StoreError::Damaged { .. } => {
                "nothing was changed: keep a copy of the folder, look at it with `durable store verify`, save what can be read with `durable store export --damaged`, or restore a backup".into()
            }
            StoreError::Io { .. } => "nothing that was acknowledged is lost; once the disk is in order, go on with `durable resume`".into(),
            StoreError::ReadOnly { .. } => {
                "what only looks works, as `durable list` and `durable store export`; to write, run as its owner or copy the folder"
                    .into()
            }
            StoreError::Replaced { .. } => {
                "what was written since is not in the folder, and what was acknowledged may be gone with the file: stop whatever changes the folder, check what is left with `durable store verify`, and restore a backup if it is not whole"
                    .into()
            }
            StoreError::Scarce { .. } => {
                "nothing was changed; raise the limit (`ulimit -a` shows them), or end other processes, and go on with `durable resume`"
                    .into()
            }
            StoreError::Internal { .. } => {
                "this is a fault of durable itself; what was acknowledged is in the store, and `durable store export` saves it".into()
            }
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
            StoreError::OtherVersion { reason } => {
                write!(f, "the process that has the store can't be asked: {reason}")
            }
            StoreError::NoFolder { path } => {
                write!(f, "{} is a file, and a store is a folder", path.display())
            }
            StoreError::Newer { found, known } => {
                write!(f, "the store has format {found}; this version of durable knows formats up to {known}")
            }
            StoreError::Damaged { what } => write!(f, "the store is damaged: {what}"),
            StoreError::Io { what, reason } => write!(f, "could not {what}: {reason}"),
            StoreError::ReadOnly { folder, reason } => {
                write!(f, "the store {} can't be written: {reason}", folder.display())
            }
            StoreError::Replaced { path } => {
                write!(f, "{} was removed or replaced while the store was in use", path.display())
            }
            StoreError::Scarce { what } => write!(f, "the database can't be opened: {what}"),
            StoreError::Internal { what } => write!(f, "durable itself is at fault: {what}"),
            StoreError::Broken { reason } => write!(f, "the store can't be read: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// For those who are told why in words.
impl From<StoreError> for String {
    fn from(error: StoreError) -> String {
        error.to_string()
    }
}
