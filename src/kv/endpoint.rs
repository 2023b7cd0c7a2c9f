//! The place where the processes that use a store meet.

use std::path::{Path, PathBuf};

/// A folder of this machine by which processes find each other around a store: one has the store,
/// and the others ask it. The files of a local store are in the same folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    folder: PathBuf,
}

impl Endpoint {
    pub fn new(folder: impl Into<PathBuf>) -> Endpoint {
        Endpoint { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the file that the process with the store has locked.
    pub fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// Returns the path of the socket on which the process with the store listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}
