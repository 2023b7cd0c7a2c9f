//! Stores that several threads read, while one of them writes.

use std::ops::Range;
use std::sync::Arc;

use super::{Endpoint, Ranges, Read, Store, StoreError, Visit};

/// A store that other threads can read while one thread writes. A host runs on such a store.
pub trait SharedStore: Store + Send {
    /// Returns a reader. All readers must be dropped before the store ends.
    fn reader(&self) -> Reader;

    /// Returns the place where other processes find the process that has the store. Without an
    /// endpoint, no other process reaches that process.
    fn endpoint(&self) -> Option<Endpoint> {
        None
    }

    /// Returns the size in bytes up to which a value that gets more at its end is better written
    /// again than left for another key. Without a limit, the store writes the added part alone.
    fn growth(&self) -> usize {
        usize::MAX
    }
}

/// A reader of a [`SharedStore`], on any thread. During a commit, it sees each key of the batch
/// before or after the change, and all other keys as they are.
#[derive(Clone)]
pub struct Reader(Arc<dyn Read + Send + Sync>);

impl Reader {
    pub fn new(reads: impl Read + Send + Sync + 'static) -> Reader {
        Reader(Arc::new(reads))
    }

    /// Returns the reader that the store gave.
    pub fn as_read(&self) -> &dyn Read {
        &*self.0
    }
}

impl Read for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.scan_from(prefix, from, visit)
    }

    fn ranges(&self, ranges: &[Range<Vec<u8>>], most: usize, bytes: usize) -> Result<Ranges, StoreError> {
        self.0.ranges(ranges, most, bytes)
    }
}
