//! Stores: ordered keys with atomic, durable batches, and a digest that shows when data is missing.
//!
//! Invariant: a store does not know what its bytes mean. A batch that
//! [`Verified::commit`](Store::commit) was given is there as a whole or not at all; after
//! [`Store::flush`], it survives a crash of the process and of the machine. Whatever the disk
//! holds, opening and reading end in a value or a [`StoreError`], never in a panic.

mod change;
mod compact;
mod digest;
mod disk;
mod earlier;
mod large;
mod lock;
mod memtable;
pub mod postgres;
#[doc(hidden)]
pub mod probe;
mod raw;
mod record;
mod resources;
mod sled;
mod tree;
mod wal;
mod watermark;

pub use self::sled::SledTree;
pub use digest::{Report, Verified};
pub use disk::DiskStore;
pub use lock::Lock;
pub use record::FORMAT;

use std::path::Path;

use crate::kv::StoreError;

/// Opens the store in a folder, and makes the folder if there is none. Fails if another process has
/// the store, if the store is damaged or of a newer format, or if the disk can't be read or
/// written.
pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(folder)
}
