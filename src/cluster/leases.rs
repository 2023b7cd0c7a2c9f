//! The leases of the partitions of this process. All end at the same time, unless a partition is
//! lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::host::Lease;
use crate::kv::Partition;

/// The leases by partition. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Leases {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The end of all leases; `None` before the first one.
    until: Option<Instant>,
    /// The lease of the process itself, which ends with the others.
    own: Lease,
    /// Each lease with the epoch of the ownership.
    all: BTreeMap<Partition, (u64, Lease)>,
}

impl Leases {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lease of the process itself.
    pub fn own(&self) -> Lease {
        self.state().own.clone()
    }

    /// Adds the lease of a partition that was taken in an epoch.
    pub fn add(&self, partition: Partition, epoch: u64) -> Lease {
        let mut state = self.state();
        let lease = Lease::default();
        if let Some(until) = state.until {
            lease.prolong(until);
        }
        state.all.insert(partition, (epoch, lease.clone()));
        lease
    }

    /// Forgets the lease of a partition, which is not prolonged any more.
    pub fn remove(&self, partition: Partition) {
        self.state().all.remove(&partition);
    }

    /// Forgets the leases that do not fulfil a condition on the partition and the epoch.
    pub fn retain(&self, holds: impl Fn(Partition, u64) -> bool) {
        self.state().all.retain(|partition, (epoch, _)| holds(*partition, *epoch));
    }

    /// Whether the leases are over.
    pub fn have_lapsed(&self) -> bool {
        self.state().until.is_some_and(|until| until <= Instant::now())
    }

    /// Prolongs all leases.
    pub fn prolong(&self, until: Instant) {
        let mut state = self.state();
        state.until = state.until.max(Some(until));
        state.own.prolong(until);
        state.all.values().for_each(|(_, lease)| lease.prolong(until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lost_partition_is_not_prolonged() {
        let leases = Leases::default();
        let now = Instant::now();
        leases.prolong(now);
        let (kept, lost) = (leases.add(1, 5), leases.add(2, 7));
        assert!(leases.have_lapsed() && !kept.holds() && !lost.holds());
        leases.retain(|partition, epoch| (partition, epoch) == (1, 5));
        leases.prolong(now + Duration::from_secs(600));
        assert!(kept.holds() && !lost.holds() && !leases.have_lapsed());
        assert!(leases.add(3, 1).holds());
    }
}
