//! The memtable: writes that the database does not have yet, laid over the database.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::kv::{StoreError, Visit, first_of, overlay};

use super::change::{Change, Writes};
use super::record::Write;

/// Writes by their keys, shared with threads that read while another thread writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Memtable {
    writes: Arc<RwLock<Writes>>,
}

impl Memtable {
    fn read(&self) -> RwLockReadGuard<'_, Writes> {
        self.writes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Writes> {
        self.writes.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Returns whether the memtable has a write to a key.
    pub fn has(&self, key: &[u8]) -> bool {
        self.read().contains_key(key)
    }

    /// Returns the change that a write makes to the memtable.
    pub fn change(&self, key: &[u8], value: Option<&[u8]>) -> Change {
        Change::of(&self.read(), key, value)
    }

    /// Lays writes over those of the memtable.
    pub fn extend(&self, writes: impl IntoIterator<Item = Write>) {
        self.write().extend(writes);
    }

    /// Returns all writes of the memtable with `writes` laid over them, in the order of the keys.
    pub fn with(&self, writes: &[Write]) -> Vec<Write> {
        let mut all = self.read().clone();
        all.extend(writes.iter().cloned());
        all.into_iter().collect()
    }

    /// Removes all writes, after the database has taken them.
    pub fn clear(&self) {
        self.write().clear();
    }

    /// Returns the value of a key: the memtable's, or the one that `below` reads if the memtable
    /// has no write to the key.
    pub fn get(
        &self,
        key: &[u8],
        below: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        // The lock is released before `below` runs.
        let own = self.read().get(key).cloned();
        own.map_or_else(below, Ok)
    }

    /// Returns the writes to keys with a prefix that are not before `from`, in order.
    pub fn writes_from(&self, prefix: &[u8], from: &[u8]) -> Vec<Write> {
        let writes = self.read();
        let range = writes.range(first_of(prefix, from).to_vec()..);
        let within = range.take_while(|(key, _)| key.starts_with(prefix));
        within.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Visits the keys with a prefix from `from` on, in order, in the memtable and the store below
    /// it, which `below` scans.
    pub fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        below: impl FnOnce(Visit<'_>) -> Result<(), StoreError>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        // The memtable is read first: writes that leave it during the scan are in the store below.
        overlay(self.writes_from(prefix, from).into_iter(), below, visit)
    }
}
