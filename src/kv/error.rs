//! The errors of a store.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of a store. Its variants are the kinds that a caller can tell apart, and
/// [`Error::source`] is the error behind it, if there is one.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreError {
    /// Another process has the store. Its number and its command line are given as far as they are
    /// known. `is_stopped` says that a signal has stopped it, so that it can't be asked.
    InUse { folder: PathBuf, pid: Option<u32>, command: Option<String>, is_stopped: bool },
    /// The process that has the store is of another version, so this one can't ask it.
    OtherVersion { source: Cause },
    /// The path of the store is that of a file.
    NoFolder { path: PathBuf },
    /// A newer version of this program made the store.
    Newer { found: u32, known: u32 },
    /// Something that was acknowledged is missing or differs from what was written.
    Damaged { what: String },
    /// The disk has no room, or a quota or limit is reached, in an attempt to do `what`.
    Full { what: String, source: Cause },
    /// Another error of the operating system, in an attempt to do `what`.
    Io { what: String, source: Cause },
    /// The store can be read, and not written.
    ReadOnly { folder: PathBuf, source: Cause },
    /// A file of the store was removed or replaced while the store was in use.
    Replaced { path: PathBuf },
    /// The system has too few threads or too little memory for the store. A later attempt may
    /// succeed.
    Transient { what: String, source: Option<Cause> },
    /// Another worker owns the partition now, so nothing more is written here.
    Fenced { partition: u32 },
    /// The server of the database can't be reached, or breaks the connection off, in an attempt to
    /// do `what`. A later attempt may succeed.
    Unreachable { what: String, source: Cause },
    /// The server of the database refuses to do `what`. `hint` says what to do about it.
    Refused { what: String, source: Cause, hint: String },
    /// The database has no schema of a store.
    NoSchema { url: String },
    /// An older version of this program made the database's schema.
    Older { found: u32, known: u32 },
    /// The database lacks commits that were acknowledged: it was restored to an earlier time, or a
    /// standby that was behind has taken over.
    Restored { partition: u32, found: u64, acknowledged: u64 },
    /// The database library broke down.
    Broken { source: Cause },
    /// A rule of this program's own is broken.
    Internal { what: String },
}

/// The error behind another one. Clones share it. Two causes with the same message are equal.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Makes a cause of an error or of a text.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Cause {
        Cause(error.into().into())
    }

    /// Returns the error.
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.0
    }

    /// Returns the message. An error of the operating system loses its number and what libraries
    /// add.
    pub fn words(&self) -> String {
        let text = self.to_string();
        let inner =
            text.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"')).map(|(words, _)| words);
        match (inner, text.split_once(" (os error")) {
            (Some(words), _) | (None, Some((words, _))) => words.to_lowercase(),
            (None, None) => text,
        }
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StoreError {
    /// Makes the error of an attempt to do `what` to a file or a folder.
    pub fn io(what: &str, path: &Path, error: io::Error) -> StoreError {
        StoreError::of_io(format!("{what} {}", path.display()), error)
    }

    /// Makes the error of an attempt to do `what`, a full disk being of its own kind.
    pub fn of_io(what: String, error: io::Error) -> StoreError {
        let is_full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        );
        let source = Cause::new(error);
        if is_full { StoreError::Full { what, source } } else { StoreError::Io { what, source } }
    }

    /// Makes the error of a database library that broke down.
    pub fn broken(reason: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Broken { source: Cause::new(reason) }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            StoreError::InUse { pid: Some(pid), is_stopped: true, .. } => format!(
                "`fg` in its terminal or `kill -CONT {pid}` lets that process go on; another store is used with `--store`"
            ),
            StoreError::InUse { .. } => "wait for that process or stop it, or use another store with `--store`".into(),
            StoreError::OtherVersion { .. } => {
                "use the version of durable that the process is of, or stop it".into()
            }
            StoreError::NoFolder { .. } => "use another one with `--store`, or move the file away".into(),
            StoreError::Newer { .. } => "use the newer version, or another store with `--store`".into(),
            StoreError::Damaged { .. } => {
                "nothing was changed: keep a copy of the folder, look at it with `durable store verify`, save what can be read with `durable store export --damaged`, or restore a backup".into()
            }
            StoreError::Full { .. } | StoreError::Io { .. } => "nothing that was acknowledged is lost; once the disk is in order, go on with `durable resume`".into(),
            StoreError::ReadOnly { .. } => {
                "what only looks works, as `durable list` and `durable store export`; to write, run as its owner or copy the folder"
                    .into()
            }
            StoreError::Replaced { .. } => {
                "what was written since is not in the folder, and what was acknowledged may be gone with the file: stop whatever changes the folder, check what is left with `durable store verify`, and restore a backup if it is not whole"
                    .into()
            }
            StoreError::Transient { .. } => {
                "nothing was changed; raise the limit (`ulimit -a` shows them), or end other processes, and go on with `durable resume`"
                    .into()
            }
            StoreError::Internal { .. } => {
                "this is a fault of durable itself; what was acknowledged is in the store, and `durable store export` saves it".into()
            }
            StoreError::Fenced { .. } => {
                "nothing is lost: the other worker goes on with everything that was acknowledged".into()
            }
            StoreError::Unreachable { .. } => {
                "nothing that was acknowledged is lost; check the URL and that the server of the database runs".into()
            }
            StoreError::Refused { hint, .. } => hint.clone(),
            StoreError::NoSchema { .. } => "check the database's name, or make the schema: `durable store init URL`".into(),
            StoreError::Older { .. } => {
                "export the store with the version that made it, and import that into another database".into()
            }
            StoreError::Restored { .. } => {
                "nothing more is written; restore a newer state, or accept this one with `durable store adopt URL`: what was acknowledged since is lost then".into()
            }
            StoreError::Broken { .. } => {
                "nothing was changed: keep a copy of the folder, and restore a backup or use another store with `--store`".into()
            }
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::InUse { folder, pid: Some(pid), command, is_stopped } => {
                write!(f, "the store {} is in use by process {pid}", folder.display())?;
                match (command, is_stopped) {
                    (Some(command), false) => write!(f, ", which is `{command}`"),
                    (Some(command), true) => write!(f, ", which is `{command}` and is stopped"),
                    (None, true) => f.write_str(", which is stopped"),
                    (None, false) => Ok(()),
                }
            }
            StoreError::InUse { folder, .. } => {
                write!(f, "the store {} is in use by another process", folder.display())
            }
            StoreError::OtherVersion { source } => {
                write!(f, "the process that has the store can't be asked: {source}")
            }
            StoreError::NoFolder { path } => {
                write!(f, "{} is a file, and a store is a folder", path.display())
            }
            StoreError::Newer { found, known } => {
                write!(f, "the store has format {found}; this version of durable knows formats up to {known}")
            }
            StoreError::Damaged { what } => write!(f, "the store is damaged: {what}"),
            StoreError::Full { what, source } | StoreError::Io { what, source } => {
                write!(f, "could not {what}: {}", source.words())
            }
            StoreError::ReadOnly { folder, source } => {
                write!(f, "the store {} can't be written: {}", folder.display(), source.words())
            }
            StoreError::Replaced { path } => {
                write!(f, "{} was removed or replaced while the store was in use", path.display())
            }
            StoreError::Transient { what, .. } => write!(f, "the database can't be opened: {what}"),
            StoreError::Fenced { partition } => {
                write!(f, "another worker has taken over partition {partition}")
            }
            StoreError::Unreachable { what, source } | StoreError::Refused { what, source, .. } => {
                write!(f, "could not {what}: {}", source.words())
            }
            StoreError::NoSchema { url } => write!(f, "there is no store in {url}"),
            StoreError::Older { found, known } => {
                write!(
                    f,
                    "the store has format {found}, which is older than the format {known} of this version"
                )
            }
            StoreError::Restored { partition, found, acknowledged } => {
                write!(
                    f,
                    "the database is of an earlier time: it has {found} commits of partition {partition}, and {acknowledged} were acknowledged"
                )
            }
            StoreError::Internal { what } => write!(f, "durable itself is at fault: {what}"),
            StoreError::Broken { source } => write!(f, "the store can't be read: {source}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StoreError::OtherVersion { source }
            | StoreError::Full { source, .. }
            | StoreError::Io { source, .. }
            | StoreError::ReadOnly { source, .. }
            | StoreError::Broken { source }
            | StoreError::Unreachable { source, .. }
            | StoreError::Refused { source, .. }
            | StoreError::Transient { source: Some(source), .. } => Some(source.error()),
            StoreError::InUse { .. }
            | StoreError::NoFolder { .. }
            | StoreError::Newer { .. }
            | StoreError::Damaged { .. }
            | StoreError::Replaced { .. }
            | StoreError::Fenced { .. }
            | StoreError::NoSchema { .. }
            | StoreError::Older { .. }
            | StoreError::Restored { .. }
            | StoreError::Transient { source: None, .. }
            | StoreError::Internal { .. } => None,
        }
    }
}

/// For those who are told why in words.
impl From<StoreError> for String {
    fn from(error: StoreError) -> String {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of the system is the source, whatever the kind is, and the message has its words.
    #[test]
    fn errors_have_kinds_and_sources() {
        for (kind, is_full) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::FileTooLarge, true),
            (ErrorKind::PermissionDenied, false),
        ] {
            let error = StoreError::io("write to", Path::new("wal"), kind.into());
            assert_eq!(matches!(error, StoreError::Full { .. }), is_full, "{error:?}");
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(source.map(io::Error::kind), Some(kind));
            assert_eq!(error.clone(), error);
        }
        let error = StoreError::io("sync", Path::new("db"), io::Error::from_raw_os_error(5));
        let said = error.to_string();
        assert!(said.starts_with("could not sync db: ") && !said.contains("os error"), "{said}");
        assert_eq!(StoreError::broken("it is closed").to_string(), "the store can't be read: it is closed");
    }
}
