//! Writes that wait for the next commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::Batch;

/// Writes gathered from many steps, the last one to a key winning.
#[derive(Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Since when something is not durable.
    since: Option<Instant>,
}

/// Writes are made durable after this even when nothing waits for them.
const MAX_AGE: Duration = Duration::from_millis(20);
/// And when there are so many bytes of them.
const MAX_BYTES: usize = 8 << 20;

impl Pending {
    pub(crate) fn add(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += batch.bytes();
        self.writes.extend(batch.writes);
    }

    /// Whether something is not durable yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.since.is_some()
    }

    /// Whether it is time to write even though nothing waits for it.
    pub(crate) fn is_due(&self) -> bool {
        self.bytes > MAX_BYTES || self.since.is_some_and(|since| since.elapsed() >= MAX_AGE)
    }

    /// How long until it is time to write.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| MAX_AGE.saturating_sub(since.elapsed()))
    }

    /// Takes the writes; they count as durable from now on.
    pub(crate) fn take(&mut self) -> Batch {
        self.since = None;
        self.bytes = 0;
        Batch { writes: std::mem::take(&mut self.writes).into_iter().collect() }
    }
}
