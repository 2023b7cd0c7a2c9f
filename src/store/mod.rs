//! Stores: ordered keys with atomic, durable batches, and the proof that nothing of them is missing.
//!
//! Invariant: a store knows nothing of what its bytes mean. What [`Proven::commit`](Store::commit) was given is there together or
//! not at all; after [`Store::flush`] it survives a crash of the process and of the machine. Whatever the disk holds,
//! opening and reading end in a value or a [`StoreError`], never in a panic.

mod change;
mod compact;
mod disk;
mod earlier;
mod error;
mod large;
mod lock;
mod memory;
mod memtable;
mod proof;
mod raw;
mod record;
mod resources;
mod sled;
mod tree;
mod wal;
mod watermark;

pub use self::sled::SledTree;
pub use disk::{DiskStore, Reader};
pub use error::StoreError;
pub use lock::Lock;
pub use memory::MemoryTree;
pub use proof::{Proven, Report};
pub use record::FORMAT;

use std::path::Path;

use crate::engine::{Batch, Read};

/// Calls a function with each key and value of a scan; it gives false to stop.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Ordered keys with atomic batches.
pub trait Store {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits all keys with a prefix, in order.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Writes a batch. It can be read at once, and is durable after the next `flush`. A tree writes in order, and may be
    /// left with a first part of a batch when it breaks off; with its proof ([`Proven`]) it is all of it or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes all commits before durable.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Ends cleanly: all commits durable, nothing held any more. It can't be used afterwards.
    fn end(&mut self) -> Result<(), StoreError>;

    /// Bytes on disk, about.
    fn size_bytes(&self) -> u64;

    /// All keys with a prefix and their values, in order.
    fn all(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        collected(|visit| self.scan(prefix, visit))
    }
}

/// All that a scan visits.
fn collected(scan: impl FnOnce(Visit<'_>) -> Result<(), StoreError>) -> Result<Vec<Pair>, StoreError> {
    let mut found = Vec::new();
    scan(&mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(found)
}

/// Opens the store in a folder, or makes it there. Errors: another process has it, it is damaged or of a newer format,
/// the disk can't be read or written.
pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(folder)
}

impl<S: Store> Read for S {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Store::get(self, key).map_err(|error| error.to_string())
    }

    fn all(&self, prefix: &[u8]) -> Result<Vec<Pair>, String> {
        Store::all(self, prefix).map_err(|error| error.to_string())
    }
}
