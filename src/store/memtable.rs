//! The memtable: writes that the database has not got yet, laid over what it has.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::kv::{StoreError, Visit, first_of, overlay};

use super::change::{Change, Writes};
use super::record::Write;

/// Writes by their keys, shared with those who read while another thread writes.
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

    /// Whether it has a write to a key.
    pub fn has(&self, key: &[u8]) -> bool {
        self.read().contains_key(key)
    }

    /// That of a write over those that it has.
    pub fn change(&self, key: &[u8], value: Option<&[u8]>) -> Change {
        Change::of(&self.read(), key, value)
    }

    /// Lays writes over those that it has.
    pub fn extend(&self, writes: impl IntoIterator<Item = Write>) {
        self.write().extend(writes);
    }

    /// All that it has, with `writes` laid over it, in the order of the keys.
    pub fn with(&self, writes: &[Write]) -> Vec<Write> {
        let mut all = self.read().clone();
        all.extend(writes.iter().cloned());
        all.into_iter().collect()
    }

    /// Forgets everything: the database has it.
    pub fn clear(&self) {
        self.write().clear();
    }

    /// The value of a key over a store; `below` gives it of that store.
    pub fn get(
        &self,
        key: &[u8],
        below: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        // The lock is not held meanwhile.
        let own = self.read().get(key).cloned();
        own.map_or_else(below, Ok)
    }

    /// The writes to keys with a prefix that are not before `from`, in order.
    pub fn writes_from(&self, prefix: &[u8], from: &[u8]) -> Vec<Write> {
        let writes = self.read();
        let range = writes.range(first_of(prefix, from).to_vec()..);
        let within = range.take_while(|(key, _)| key.starts_with(prefix));
        within.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Visits the keys with a prefix of a store that this lies over, from `from` on, in order; `below` scans that store.
    pub fn scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        below: impl FnOnce(Visit<'_>) -> Result<(), StoreError>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        // It is looked at first: what leaves it meanwhile is in the store below.
        overlay(self.writes_from(prefix, from).into_iter(), below, visit)
    }
}
