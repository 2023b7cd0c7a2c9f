//! The storage port: ordered keys with atomic batches, and the errors that a store may have.
//!
//! Invariant: this layer knows nothing of the project. A store is whatever implements [`Store`] and passes
//! [`conformance`]: a batch is there together or not at all, a flushed batch survives a crash of the process and of the
//! machine, and a scan visits keys in the order of their bytes.

mod batch;
pub mod conformance;
mod error;
mod memory;

pub use batch::Batch;
pub use error::StoreError;
pub use memory::MemoryTree;

/// Receives each key and value of a scan, and returns false to stop it.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Ordered keys that can be read.
pub trait Read {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys with a prefix that are not before `from`, in the order of their bytes. The visitor must not read
    /// the store.
    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Visits all keys with a prefix, in the order of their bytes.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.scan_from(prefix, prefix, visit)
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
    /// Writes a batch. Reads see it at once; it is durable after the next `flush`. A bare tree writes in order and may
    /// keep a first part of a batch when it breaks off; with its proof (`store::Verified`) it keeps all
    /// or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes all earlier commits durable.
    fn flush(&mut self) -> Result<(), StoreError>;

    /// Ends cleanly: all commits are durable, and nothing is held any more. The store can't be used afterwards.
    fn end(&mut self) -> Result<(), StoreError>;

    /// Returns the approximate size on disk, in bytes.
    fn size_bytes(&self) -> u64;
}

/// The first key that a scan of `prefix` from `from` may visit.
pub(crate) fn first_of<'a>(prefix: &'a [u8], from: &'a [u8]) -> &'a [u8] {
    prefix.max(from)
}

/// Visits keys with writes laid over them, in order: `above` has the writes to the keys that are scanned, in order, and
/// `below` scans what they lie over.
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
