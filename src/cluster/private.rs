//! A private partition: one that a process owns alone, for the script that it runs.
//!
//! A private partition has no slots. Its instances are reached by their ids, which end with its
//! number. When the process dies, the partition stays, and goes on in a worker, or in the process
//! that goes on with the script.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::engine::{OWN, Placement};
use crate::host::{Handle, Lease, unique};
use crate::kv::{Cause, Partition, SharedStore, StoreError};
use crate::store::postgres::{Cluster, Ownership, PartitionStore, Patience};

use super::heart::Heart;
use super::leases::Leases;
use super::news::{News, placement};

/// A private partition of this process.
pub struct Private {
    cluster: Cluster,
    worker: String,
    ownership: Ownership,
    placement: Placement,
    leases: Leases,
    lease: Lease,
    news: News,
    is_over: Arc<AtomicBool>,
}

impl Private {
    /// Takes a private partition, or a new one. Returns `None` if another process has it.
    pub fn take(
        cluster: &Cluster,
        partition: Option<Partition>,
        name: &str,
        lease: Duration,
    ) -> Result<Option<Private>, StoreError> {
        let no_socket = |error| StoreError::Io { what: "open a socket".into(), source: Cause::new(error) };
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let (worker, leases, is_over) = (unique(), Leases::default(), Arc::<AtomicBool>::default());
        let news = News::open(cluster, any).map_err(no_socket)?;
        // A process without an address has no share of the other partitions.
        let heart = Heart {
            cluster: cluster.clone(),
            worker: worker.clone(),
            name: name.to_string(),
            address: String::new(),
            length: lease,
            leases: leases.clone(),
            is_over: is_over.clone(),
            postman: news.postman.clone(),
        };
        heart.begin()?;
        let taken = match partition {
            Some(partition) => cluster.take(&worker, partition),
            None => cluster.add_private().and_then(|partition| cluster.take(&worker, partition)),
        };
        let leave = || {
            is_over.store(true, Ordering::Release);
            cluster.leave(&worker)
        };
        let Some(ownership) = taken? else {
            leave()?;
            return Ok(None);
        };
        let placement = placement(ownership.partition, &cluster.overview()?)?;
        let lease = leases.add(ownership.partition, ownership.epoch);
        let cluster = cluster.clone();
        news.begin(&cluster).map_err(|error| StoreError::Transient {
            what: "the system gives no thread for messages".into(),
            source: Some(Cause::new(error)),
        })?;
        Ok(Some(Private { cluster, worker, ownership, placement, leases, lease, news, is_over }))
    }

    /// Takes the partition anew, after this process could not write any more: partitions were split,
    /// or the lease was over for a while. Returns false if another process has it.
    pub fn again(&mut self) -> Result<bool, StoreError> {
        let partition = self.ownership.partition;
        self.news.postman.remove(partition);
        self.leases.remove(partition);
        let Some(ownership) = self.cluster.take(&self.worker, partition)? else { return Ok(false) };
        // The slots are read last: after another split, this ownership can't write.
        self.placement = placement(partition, &self.cluster.overview()?)?;
        self.lease = self.leases.add(partition, ownership.epoch);
        self.ownership = ownership;
        Ok(true)
    }

    pub fn partition(&self) -> Partition {
        self.ownership.partition
    }

    pub fn placement(&self) -> Placement {
        self.placement.clone()
    }

    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Returns the store of the partition.
    pub fn store(&self, patience: &Patience) -> Result<Box<dyn SharedStore>, StoreError> {
        let store = PartitionStore::open(&self.cluster, self.ownership.clone(), None, patience)?;
        let (partition, news) = (self.ownership.partition, self.news.clone());
        Ok(Box::new(store.telling(move |batch| news.committed(partition, batch))))
    }

    /// Passes on what is sent to the partition, from now on.
    pub fn pass_on(&self, host: Handle) {
        self.news.postman.add(self.ownership.partition, host);
    }

    /// Gives the partition back. One that has nothing more to do is removed.
    pub fn end(self) -> Result<(), StoreError> {
        self.news.postman.end();
        self.is_over.store(true, Ordering::Release);
        self.cluster.remove_private(&self.worker, self.ownership.partition, &[OWN])?;
        self.cluster.leave(&self.worker)
    }
}
