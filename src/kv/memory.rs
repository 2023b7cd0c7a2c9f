//! Stores in memory: a bare tree for tests and the simulator, and a store that a host can run on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Batch, Read, Reader, SharedStore, Store, StoreError, Visit, first_of};

#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    pub tree: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Read for MemoryTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tree.get(key).cloned())
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        for (key, value) in self.tree.range(first_of(prefix, from).to_vec()..) {
            if !key.starts_with(prefix) || !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Store for MemoryTree {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for (key, value) in &batch.writes {
            match value {
                Some(value) => self.tree.insert(key.clone(), value.clone()),
                None => self.tree.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.tree.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

/// A store in memory that several threads can read. Clones are the same store, so a store survives
/// the host that it is lent to.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tree: Arc<RwLock<MemoryTree>>,
}

impl MemoryStore {
    fn reads(&self) -> RwLockReadGuard<'_, MemoryTree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writes(&self) -> RwLockWriteGuard<'_, MemoryTree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads().get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.reads().scan_from(prefix, from, visit)
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        batch.stays_here()?;
        self.writes().commit(batch)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.reads().size_bytes()
    }
}

impl SharedStore for MemoryStore {
    fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }
}
