//! The right of this process to act on a store that other processes may take over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time until which this process may let outputs leave. Clones share it.
///
/// The store refuses the batches of a process that was deposed, whatever this says. The lease only
/// keeps such a process from beginning effects that its successor begins as well.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The end of the lease, in microseconds after `origin`.
    until_us: Arc<AtomicU64>,
    origin: Instant,
}

impl Default for Lease {
    /// Returns a lease that is over.
    fn default() -> Lease {
        Lease { until_us: Arc::default(), origin: Instant::now() }
    }
}

impl Lease {
    /// Prolongs the lease to a time of this machine's monotonic clock.
    pub fn prolong(&self, until: Instant) {
        let until = until.saturating_duration_since(self.origin).as_micros();
        self.until_us.fetch_max(u64::try_from(until).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// Returns the time that is left, which is zero when the lease is over.
    pub fn left(&self) -> Duration {
        let until = self.origin + Duration::from_micros(self.until_us.load(Ordering::Acquire));
        until.saturating_duration_since(Instant::now())
    }

    /// Whether outputs may leave now.
    pub fn holds(&self) -> bool {
        !self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_unless_it_is_prolonged() {
        let lease = Lease::default();
        assert!(!lease.holds());
        let shared = lease.clone();
        shared.prolong(Instant::now() + Duration::from_secs(600));
        assert!(lease.holds());
        // A late answer of the database takes nothing away.
        shared.prolong(Instant::now());
        assert!(lease.holds());
        assert!(lease.left() <= Duration::from_secs(600));
    }
}
