//! The store of a partition that tells others where to look after each commit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::Reads;
use crate::kv::{Batch, Partition, Read, Reader, SharedStore, Store, StoreError, Visit};
use crate::store::postgres::PartitionStore;

use super::hints::{Hint, Hints};
use super::postman::Postman;

/// The addresses of the workers that own partitions, as far as they are known. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Owners {
    addresses: Arc<Mutex<BTreeMap<Partition, SocketAddr>>>,
}

impl Owners {
    pub fn set(&self, addresses: BTreeMap<Partition, SocketAddr>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub fn of(&self, partition: Partition) -> Option<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }
}

/// The receivers of news about commits.
#[derive(Clone)]
pub(super) struct News {
    pub postman: Postman,
    pub hints: Hints,
    pub owners: Owners,
    /// The reads of this process, whose followers learn of changes.
    pub reads: Reads,
}

impl News {
    /// Makes the owner of a partition look for messages.
    pub fn sent_to(&self, partition: Partition) {
        if self.postman.has(partition) {
            self.postman.hint();
        } else if let Some(owner) = self.owners.of(partition) {
            self.hints.send(owner, Hint::Mail);
        }
    }

    fn committed(&self, partition: Partition, batch: &Batch) {
        self.postman.consumed(partition, &batch.transit.consumed);
        for to in batch.transit.sends.keys() {
            self.sent_to(*to);
        }
        self.reads.changed(batch);
    }
}

pub(super) struct HintingStore {
    partition: Partition,
    store: PartitionStore,
    news: News,
}

impl HintingStore {
    pub fn new(partition: Partition, store: PartitionStore, news: News) -> HintingStore {
        HintingStore { partition, store, news }
    }
}

impl Read for HintingStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(key)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.store.scan_from(prefix, from, visit)
    }
}

impl Store for HintingStore {
    /// Writes a batch, which is durable when this returns.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.store.commit(batch)?;
        self.news.committed(self.partition, batch);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.store.flush()
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.store.end()
    }

    fn size_bytes(&self) -> u64 {
        self.store.size_bytes()
    }
}

impl SharedStore for HintingStore {
    fn reader(&self) -> Reader {
        self.store.reader()
    }
}
