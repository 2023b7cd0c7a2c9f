//! News of commits: who is told where to look after each one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::Reads;
use crate::kv::{Batch, Partition};
use crate::store::postgres::{Cluster, Overview, PartitionState};

use super::hints::{Hint, Hints};
use super::postman::Postman;

/// The addresses of the workers that own partitions, as far as they are known. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Owners {
    addresses: Arc<Mutex<BTreeMap<Partition, SocketAddr>>>,
}

impl Owners {
    /// Notes the owners that were read.
    pub fn set(&self, overview: &Overview) {
        let address = |state: &PartitionState| {
            let owner = state.owner.as_ref()?;
            let worker = overview.workers.iter().find(|worker| worker.id == *owner)?;
            Some((state.partition, worker.address.parse().ok()?))
        };
        let addresses = overview.partitions.iter().filter_map(address).collect();
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Returns the addresses of all workers that own partitions.
    pub fn all(&self) -> BTreeSet<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
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
    /// Opens the socket for hints. Port 0 takes any free port.
    pub fn open(cluster: &Cluster, address: SocketAddr) -> io::Result<News> {
        Ok(News {
            postman: Postman::default(),
            hints: Hints::open(address)?,
            owners: Owners::default(),
            reads: Reads::new(cluster.reader()),
        })
    }

    /// Begins to pass on what is sent to the partitions of this process.
    pub fn begin(&self, cluster: &Cluster) -> io::Result<()> {
        let cluster = cluster.clone();
        self.postman.begin(Box::new(move |partitions, known| cluster.arrivals(partitions, known)))
    }

    /// Makes the owner of a partition look for messages.
    pub fn sent_to(&self, partition: Partition) {
        if self.postman.has(partition) {
            self.postman.hint();
        } else if let Some(owner) = self.owners.of(partition) {
            self.hints.send(owner, Hint::Mail);
        }
    }

    /// Makes the other workers look for activities.
    pub fn offered(&self) {
        for owner in self.owners.all() {
            self.hints.send(owner, Hint::Tasks);
        }
    }

    /// Tells everybody of a commit of a partition.
    pub fn committed(&self, partition: Partition, batch: &Batch) {
        self.postman.consumed(partition, &batch.transit.consumed);
        for to in batch.transit.sends.keys() {
            self.sent_to(*to);
        }
        self.reads.changed(batch);
    }
}
