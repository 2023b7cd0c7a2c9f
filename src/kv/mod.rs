//! The storage port: ordered keys with atomic batches, and the errors that a store may have.
//!
//! Invariant: this layer knows nothing of the project. A store is any type that implements
//! [`Store`] and passes [`conformance`]: a batch is there as a whole or not at all, a flushed batch
//! survives a crash of the process and of the machine, and a scan visits keys in the order of their
//! bytes.

use std::ops::Range;

mod batch;
pub mod conformance;
mod endpoint;
mod error;
mod memory;
mod shared;
mod transit;

pub use batch::Batch;
pub use endpoint::Endpoint;
pub use error::{Cause, StoreError};
pub use memory::{MemoryStore, MemoryTree};
pub use shared::{Reader, SharedStore};
pub use transit::{Arrival, Partition, Receipt, Source, Transit};

/// A visitor, which receives each key and value of a scan, and returns false to stop the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The answer to a question for several ranges.
pub type Ranges = Option<Vec<Option<Vec<Pair>>>>;

/// Ordered keys that can be read.
pub trait Read {
    /// Returns the value of a key, or `None` if there is no such key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys with a prefix that are not before `from`, in the order of their bytes. The
    /// visitor must not read the store.
    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Visits all keys with a prefix, in the order of their bytes.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.scan_from(prefix, prefix, visit)
    }

    /// Returns the keys of each range, with one question to a store that is far away; `None` if the
    /// store is near, so that a question for each costs nothing. A range with more than `most` keys,
    /// or with a value of more than `bytes` bytes, comes as `None`.
    fn ranges(&self, _: &[Range<Vec<u8>>], most: usize, bytes: usize) -> Result<Ranges, StoreError> {
        let _ = (most, bytes);
        Ok(None)
    }

    /// Returns all keys with a prefix and their values, in order.
    fn all(&self, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let mut found = Vec::new();
        self.scan(prefix, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            true
        })?;
        Ok(found)
    }
}

/// Ordered keys with atomic batches.
pub trait Store: Read {
    /// Writes a batch. Reads see the batch at once; it is durable after the next `flush`. A bare
    /// tree writes in order, so an interrupted commit may leave a first part of a batch. With its
    /// digest (`store::Verified`), a tree keeps all or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes all earlier commits durable.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Ends the store cleanly: all commits are durable, and all resources are released. The store
    /// can't be used afterwards.
    fn end(&mut self) -> Result<(), StoreError>;

    /// Returns the approximate size on disk, in bytes.
    fn size_bytes(&self) -> u64;
}

/// Returns the first key that a scan of `prefix` from `from` may visit.
pub(crate) fn first_of<'a>(prefix: &'a [u8], from: &'a [u8]) -> &'a [u8] {
    prefix.max(from)
}

/// Returns the first text after all that begin with a prefix, or `None` if there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let at = prefix.iter().rposition(|byte| *byte < 0xff)?;
    let mut after = prefix[..=at].to_vec();
    after[at] += 1;
    Some(after)
}

/// Visits the keys of a store with writes laid over them, in order. `above` has the writes to the
/// scanned keys, in order, and `below` scans the store.
pub(crate) fn overlay<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    above: impl Iterator<Item = (K, Option<V>)>,
    below: impl FnOnce(Visit<'_>) -> Result<(), StoreError>,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    let mut above = above.peekable();
    let mut goes_on = true;
    let show =
        |key: &[u8], value: Option<V>, visit: Visit<'_>| value.is_none_or(|value| visit(key, value.as_ref()));
    below(&mut |key, value| {
        while goes_on && let Some((own, value)) = above.next_if(|(own, _)| own.as_ref() < key) {
            goes_on = show(own.as_ref(), value, visit);
        }
        goes_on = goes_on
            && match above.next_if(|(own, _)| own.as_ref() == key) {
                Some((_, changed)) => show(key, changed, visit),
                None => visit(key, value),
            };
        goes_on
    })?;
    for (key, value) in above {
        goes_on = goes_on && show(key.as_ref(), value, visit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a prefix is the prefix with its last byte counted up, as far as that goes.
    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(after_prefix(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff"), None);
        assert_eq!(after_prefix(b""), None);
    }
}
