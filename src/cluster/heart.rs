//! The lease of this process: prolonged in the database, and counted here by the monotonic clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::Handle;
use crate::kv::{Cause, StoreError};
use crate::store::postgres::{Cluster, PartitionState};

use super::leases::Leases;
use super::postman::Postman;

/// The part of a lease for which a process trusts it, in tenths. The rest is room for the
/// difference of two clocks' speeds, and for a process that was stopped between its look and its
/// act.
const TRUSTED: u32 = 7;
/// The number of heartbeats in a lease.
pub(super) const BEATS: u32 = 4;

/// The thread that prolongs the lease of a process.
pub(super) struct Heart {
    pub cluster: Cluster,
    pub worker: String,
    pub name: String,
    pub address: String,
    pub length: Duration,
    pub leases: Leases,
    pub is_over: Arc<AtomicBool>,
    pub postman: Postman,
}

impl Heart {
    /// Begins the lease, and prolongs it on a thread of its own.
    pub fn begin(self) -> Result<(), StoreError> {
        let began = Instant::now();
        self.cluster.enroll(&self.worker, &self.name, &self.address, self.length)?;
        self.leases.prolong(began + self.length * TRUSTED / 10);
        let begun = thread::Builder::new().name("lease".into()).spawn(move || self.work());
        begun.map(drop).map_err(|error| StoreError::Transient {
            what: "the system gives no thread for a lease".into(),
            source: Some(Cause::new(error)),
        })
    }

    fn work(self) {
        while !self.is_over.load(Ordering::Acquire) {
            let began = Instant::now();
            // An error says that the database is away: the lease goes on as long as it does.
            let is_alive = match self.cluster.beat(&self.worker) {
                Ok(false) => {
                    let again = self.cluster.enroll(&self.worker, &self.name, &self.address, self.length);
                    again.is_ok()
                }
                Ok(true) => true,
                Err(_) => false,
            };
            if is_alive {
                // The database counts from a later time than this one.
                self.prolong(began + self.length * TRUSTED / 10);
            }
            let pause = match is_alive {
                true => self.length / BEATS,
                false => (self.length / BEATS / 4).max(Duration::from_millis(50)),
            };
            thread::sleep(pause.saturating_sub(began.elapsed()));
        }
    }

    /// Prolongs the leases of the partitions that the worker still owns. While a lease is over,
    /// another worker may take its partition; so the owners are read before it holds again.
    fn prolong(&self, until: Instant) {
        if self.leases.have_lapsed() {
            let Ok(overview) = self.cluster.overview() else { return };
            self.leases.retain(|partition, epoch| {
                let is_same = |state: &&PartitionState| state.partition == partition && state.epoch == epoch;
                overview
                    .partitions
                    .iter()
                    .any(|state| is_same(&state) && state.owner.as_ref() == Some(&self.worker))
            });
            self.leases.prolong(until);
            // What waited for the lease may leave.
            self.postman.handles().iter().for_each(Handle::wake);
        } else {
            self.leases.prolong(until);
        }
    }
}
