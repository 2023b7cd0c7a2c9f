//! The database below the digest: sled's database, or its files without sled.

use std::sync::{Arc, Mutex, PoisonError};

use crate::kv::{Batch, Read, Store, StoreError, Visit};

use super::raw::RawTree;
use super::{SledTree, sled};

/// A database that is written to, or one that is only looked at.
pub(super) enum Tree {
    Live(SledTree),
    Still(Arc<Mutex<RawTree>>),
}

/// A reader of the database, also while another thread writes to it.
#[derive(Clone)]
pub(super) enum Reader {
    Live(sled::Reader),
    Still(Arc<Mutex<RawTree>>),
}

fn still<R>(tree: &Mutex<RawTree>, run: impl FnOnce(&mut RawTree) -> R) -> R {
    run(&mut tree.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Read for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Reader::Live(reader) => reader.get(key),
            Reader::Still(tree) => still(tree, |tree| tree.get(key)),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        match self {
            Reader::Live(reader) => reader.scan_from(prefix, from, visit),
            Reader::Still(tree) => still(tree, |tree| tree.scan_from(prefix, from, visit)),
        }
    }
}

impl Tree {
    /// Returns a database that is only looked at.
    pub fn still(tree: RawTree) -> Tree {
        Tree::Still(Arc::new(Mutex::new(tree)))
    }

    /// Returns a reader. All readers must be dropped before the database ends.
    pub fn reader(&self) -> Reader {
        match self {
            Tree::Live(tree) => Reader::Live(tree.reader()),
            Tree::Still(tree) => Reader::Still(tree.clone()),
        }
    }

    /// Checks that the database's file is still in its place.
    pub fn check_file(&self) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.check_file(),
            Tree::Still(_) => Ok(()),
        }
    }

    /// Returns the size on the disk in bytes, with the files of large values.
    pub fn disk_bytes(&self) -> u64 {
        match self {
            Tree::Live(tree) => tree.disk_bytes(),
            Tree::Still(_) => self.size_bytes(),
        }
    }

    /// Rewrites the database; does nothing for one that is only looked at.
    pub fn compact(&mut self) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.compact(),
            Tree::Still(_) => Ok(()),
        }
    }
}

impl Read for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Tree::Live(tree) => tree.get(key),
            Tree::Still(tree) => still(tree, |tree| tree.get(key)),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.scan_from(prefix, from, visit),
            Tree::Still(tree) => still(tree, |tree| tree.scan_from(prefix, from, visit)),
        }
    }
}

impl Store for Tree {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.commit(batch),
            Tree::Still(tree) => still(tree, |tree| tree.commit(batch)),
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.flush(),
            Tree::Still(_) => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), StoreError> {
        match self {
            Tree::Live(tree) => tree.end(),
            Tree::Still(_) => Ok(()),
        }
    }

    fn size_bytes(&self) -> u64 {
        match self {
            Tree::Live(tree) => tree.size_bytes(),
            Tree::Still(tree) => still(tree, |tree| tree.size_bytes()),
        }
    }
}
