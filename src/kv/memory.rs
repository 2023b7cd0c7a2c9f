//! A store in memory, for tests and the simulator.

use std::collections::BTreeMap;

use super::{Batch, Read, Store, StoreError, Visit, first_of};

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
