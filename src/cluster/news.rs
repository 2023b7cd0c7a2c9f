//! News of commits: who is told where to look after each one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Placement, SlotRange};
use crate::host::Reads;
use crate::kv::{Batch, Partition, StoreError};
use crate::store::postgres::{Cluster, Overview, PartitionState, WorkerState};

use super::hints::{Hint, Hints};
use super::postman::Postman;

/// The slots of the partitions, and the addresses of the workers that own them, as they were last
/// read. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Owners {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    addresses: BTreeMap<Partition, SocketAddr>,
    /// The addresses of all workers that are alive.
    workers: BTreeSet<SocketAddr>,
    placement: Option<Placement>,
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
        let workers = overview.workers.iter().filter_map(WorkerState::reached_at).collect();
        *self.known() = Known { addresses, workers, placement: placement(Partition::MAX, overview).ok() };
    }

    /// Returns the addresses of all workers that are alive, with partitions or without.
    pub fn workers(&self) -> BTreeSet<SocketAddr> {
        self.known().workers.clone()
    }

    pub fn of(&self, partition: Partition) -> Option<SocketAddr> {
        self.known().addresses.get(&partition).copied()
    }

    /// Returns the places of everything, from outside of all partitions.
    pub fn placement(&self) -> Option<Placement> {
        self.known().placement.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Returns the place of a partition among those that were read.
pub(super) fn placement(own: Partition, overview: &Overview) -> Result<Placement, StoreError> {
    let range = |state: &PartitionState| SlotRange {
        lo: state.slots.start,
        hi: state.slots.end,
        partition: state.partition,
    };
    let ranges = overview.partitions.iter().map(range).collect();
    Placement::new(own, ranges).map_err(|what| StoreError::Damaged { what })
}

/// Lets followers read everything again when partitions that are not here have written. `before` is
/// the number of their commits that was known, and `now` the one that is.
pub(super) fn note_others(reads: &Reads, before: &mut u64, now: u64) {
    if std::mem::replace(before, now) != now {
        reads.has_gap();
    }
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
        for worker in self.owners.workers() {
            self.hints.send(worker, Hint::Tasks);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::kv::{MemoryTree, Reader};

    use super::*;

    /// Commits of others are a gap for a follower, also for one who comes back after a long time.
    #[test]
    fn whoever_follows_reads_again_after_commits_of_others() {
        let reads = Reads::new(Reader::new(MemoryTree::default()));
        let news = |since| reads.news(since, Duration::ZERO).expect("the host is there");
        let (mut known, first) = (3, news(None).followed);
        note_others(&reads, &mut known, 3);
        assert!(news(Some(first)).is_empty(), "nothing was written");
        note_others(&reads, &mut known, 4);
        let second = news(Some(first));
        assert!(second.has_gap);
        reads.forget_followers();
        note_others(&reads, &mut known, 9);
        assert!(news(Some(second.followed)).has_gap, "others have written while nobody asked");
    }
}
