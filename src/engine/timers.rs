//! Timers, in the order in which they are due.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;

/// The reason to wake a request of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A `sleep` ends.
    Sleep,
    /// An attempt at an activity, a call of a child, or the wait for a lock has taken too long.
    Timeout,
    /// The next attempt at an activity begins.
    Retry,
    /// An instance begins that was started for a later time. The timer is of no request.
    Begin,
}

/// Timers in the order in which they are due. Each key has at most one timer. Equal times keep the
/// order of the keys.
pub struct Timers<K, T> {
    due: BTreeMap<(i64, K), T>,
    of: HashMap<K, i64>,
}

impl<K, T> Default for Timers<K, T> {
    fn default() -> Timers<K, T> {
        Timers { due: BTreeMap::new(), of: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash, T> Timers<K, T> {
    /// Sets the timer of a key, in place of the one it may have.
    pub fn set(&mut self, due: i64, key: K, timer: T) {
        self.clear(&key);
        self.of.insert(key.clone(), due);
        self.due.insert((due, key), timer);
    }

    pub fn clear(&mut self, key: &K) {
        // Each answer comes here, and many programs have no timers.
        if self.of.is_empty() {
            return;
        }
        if let Some(due) = self.of.remove(key) {
            self.due.remove(&(due, key.clone()));
        }
    }

    /// Returns when the next timer is due.
    pub fn next(&self) -> Option<i64> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// Returns when each timer is due, in order.
    pub fn all(&self) -> impl Iterator<Item = i64> {
        self.due.keys().map(|(due, _)| *due)
    }

    /// Takes the next timer if it is due at `now`, with its time.
    pub fn take(&mut self, now: i64) -> Option<(i64, K, T)> {
        if self.next()? > now {
            return None;
        }
        let ((due, key), timer) = self.due.pop_first()?;
        self.of.remove(&key);
        Some((due, key, timer))
    }
}
