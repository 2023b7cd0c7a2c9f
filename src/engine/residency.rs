//! What an instance in memory does between two of its turns.

/// Whether an instance that is in memory wants a turn, has one, or waits.
///
/// Invariant: one that wants a turn is among those of the [`Scheduler`](super::scheduler::Scheduler) who can run. Only one
/// that is parked may be dropped from memory, and only by the number that it was parked under last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residency {
    /// It has come into memory, and nobody has woken it yet.
    Loaded,
    /// It wants a turn; or, while it has one, another one after that.
    Queued {
        /// Its last turn was used up: it goes on where it was, and nothing needs to come for it.
        computes: bool,
    },
    /// It has a turn.
    Running {
        /// It goes on with the turn that was used up.
        computes: bool,
    },
    /// It waits, since a time by the engine's count.
    Parked(u64),
}

impl Residency {
    /// It wants a turn; whether it did not before.
    pub fn wake(&mut self) -> bool {
        let was_queued = self.is_queued();
        if !was_queued {
            *self = Residency::Queued { computes: self.computes() };
        }
        !was_queued
    }

    /// It has a turn.
    pub fn begin_turn(&mut self) {
        *self = Residency::Running { computes: self.computes() };
    }

    /// Its turn is over; whether that was used up.
    pub fn end_turn(&mut self, is_used_up: bool) {
        self.set_computes(is_used_up);
    }

    /// It has taken in something, and no longer only goes on with the turn that was used up.
    pub fn goes_on(&mut self) {
        self.set_computes(false);
    }

    /// It waits, unless it was woken in its turn.
    pub fn park(&mut self, since: u64) {
        if !self.is_queued() {
            *self = Residency::Parked(since);
        }
    }

    pub fn is_queued(&self) -> bool {
        matches!(self, Residency::Queued { .. })
    }

    /// Whether it goes on although a turn was used up.
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
