//! Stores: ordered keys with atomic, durable batches, and the proof that nothing of them is missing.
//!
//! Invariant: a store knows nothing of what its bytes mean. What [`Verified::commit`](Store::commit) was given is there together or
//! not at all; after [`Store::flush`] it survives a crash of the process and of the machine. Whatever the disk holds,
//! opening and reading end in a value or a [`StoreError`], never in a panic.

mod change;
mod compact;
mod digest;
mod disk;
mod earlier;
mod large;
mod lock;
mod memtable;
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
pub use disk::{DiskStore, Reader};
pub use lock::Lock;
pub use record::FORMAT;

use std::path::Path;

use crate::kv::StoreError;

/// Opens the store in a folder, or makes it there. Errors: another process has it, it is damaged or of a newer format,
/// the disk can't be read or written.
pub fn open(folder: &Path) -> Result<DiskStore, StoreError> {
    DiskStore::open(folder)
}
