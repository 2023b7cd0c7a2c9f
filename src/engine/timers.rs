//! What is due when.

use std::collections::{BTreeSet, HashMap};

/// Why an instance is to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A `sleep` ends.
    Sleep,
    /// An attempt at an activity has taken too long.
    Timeout,
    /// The next attempt at an activity begins.
    Retry,
}

/// Timers in the order in which they are due; each request has at most one.
#[derive(Default)]
pub struct Timers {
    due: BTreeSet<(i64, String, u64)>,
    of: HashMap<(String, u64), (i64, Timer)>,
}

impl Timers {
    /// Sets the timer of a request, in place of the one it may have.
    pub fn set(&mut self, due: i64, instance: &str, seq: u64, timer: Timer) {
        self.clear(instance, seq);
        self.due.insert((due, instance.to_string(), seq));
        self.of.insert((instance.to_string(), seq), (due, timer));
    }

    pub fn clear(&mut self, instance: &str, seq: u64) {
        if let Some((due, _)) = self.of.remove(&(instance.to_string(), seq)) {
            self.due.remove(&(due, instance.to_string(), seq));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<i64> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// Takes the next one if it is due at `now`.
    pub fn take(&mut self, now: i64) -> Option<(String, u64, Timer)> {
        if self.next()? > now {
            return None;
        }
        let (_, instance, seq) = self.due.pop_first()?;
        let (_, timer) = self.of.remove(&(instance.clone(), seq))?;
        Some((instance, seq, timer))
    }
}
