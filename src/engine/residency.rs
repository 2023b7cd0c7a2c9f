//! The state of an instance in memory between two of its turns.

/// Whether an instance in memory wants a turn, has one, or waits.
///
/// Invariant: an instance that wants a turn is ready in the
/// [`Scheduler`](super::scheduler::Scheduler). Only a parked instance may be dropped from memory,
/// and only by the number under which it was last parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residency {
    /// The instance has come into memory, and nothing has woken it yet.
    Loaded,
    /// The instance wants a turn, or another one after its present turn.
    Queued {
        /// Whether the last turn was used up. If so, the instance continues even if nothing comes
        /// for it.
        computes: bool,
    },
    /// The instance has a turn.
    Running {
        /// Whether the turn continues one that was used up.
        computes: bool,
    },
    /// The instance waits. The number says since when, by the engine's count.
    Parked(u64),
}

impl Residency {
    /// Queues the instance for a turn, and returns whether it was not queued before.
    pub fn wake(&mut self) -> bool {
        let was_queued = self.is_queued();
        if !was_queued {
            *self = Residency::Queued { computes: self.computes() };
        }
        !was_queued
    }

    /// Begins a turn.
    pub fn begin_turn(&mut self) {
        *self = Residency::Running { computes: self.computes() };
    }

    /// Ends a turn, and notes whether it was used up.
    pub fn end_turn(&mut self, is_used_up: bool) {
        self.set_computes(is_used_up);
    }

    /// Notes that the instance has consumed something, so that it does not only continue a turn
    /// that was used up.
    pub fn goes_on(&mut self) {
        self.set_computes(false);
    }

    /// Parks the instance, unless it was woken in its turn.
    pub fn park(&mut self, since: u64) {
        if !self.is_queued() {
            *self = Residency::Parked(since);
        }
    }

    pub fn is_queued(&self) -> bool {
        matches!(self, Residency::Queued { .. })
    }

    /// Whether the instance continues a turn that was used up.
    pub fn computes(&self) -> bool {
        match self {
            Residency::Queued { computes } | Residency::Running { computes } => *computes,
            Residency::Loaded | Residency::Parked(_) => false,
        }
    }

    fn set_computes(&mut self, now: bool) {
        if let Residency::Queued { computes } | Residency::Running { computes } = self {
            *computes = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_woken_in_a_turn_has_another_one() {
        let mut residency = Residency::Loaded;
        assert!(residency.wake() && !residency.wake());
        residency.begin_turn();
        assert!(residency.wake());
        residency.end_turn(false);
        residency.park(1);
        assert_eq!(residency, Residency::Queued { computes: false });
        residency.begin_turn();
        residency.park(2);
        assert_eq!(residency, Residency::Parked(2));
    }

    #[test]
    fn a_turn_that_is_used_up_goes_on_until_something_is_taken_in() {
        let mut residency = Residency::Loaded;
        residency.begin_turn();
        residency.end_turn(true);
        assert!(residency.wake() && residency.computes());
        residency.begin_turn();
        assert!(residency.computes());
        residency.goes_on();
        assert_eq!(residency, Residency::Running { computes: false });
    }
}
