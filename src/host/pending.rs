//! Writes that wait for the next commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::{Batch, Read};
use crate::store::{Pair, Store};

/// Writes gathered from many steps, the last one to a key winning.
#[derive(Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Since when something is not durable.
    since: Option<Instant>,
    /// How long the last commit took.
    took: Duration,
}

/// Writes are made durable after this even when nothing waits for them.
const MAX_AGE: Duration = Duration::from_millis(20);
/// Or after as long as the last commit took, but never longer than this.
const LONGEST: Duration = Duration::from_millis(500);
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

    /// There is something to write, which is not here yet.
    pub(crate) fn expect(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// The value of a key, if a write of it waits: none in it for a deletion.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.writes.get(key)
    }

    /// The writes to keys with a prefix.
    fn with_prefix<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)> {
        self.writes.range(prefix.to_vec()..).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Whether it is time to write even though nothing waits for it.
    pub(crate) fn is_due(&self) -> bool {
        self.bytes > MAX_BYTES || self.since.is_some_and(|since| since.elapsed() >= self.most())
    }

    /// How long until it is time to write.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| self.most().saturating_sub(since.elapsed()))
    }

    /// How old writes become that nothing waits for: at most half of the time goes into writing.
    fn most(&self) -> Duration {
        self.took.clamp(MAX_AGE, LONGEST)
    }

    /// A commit took this long.
    pub(crate) fn written(&mut self, took: Duration) {
        self.took = took;
    }

    /// Takes the writes; they count as durable from now on.
    pub(crate) fn take(&mut self) -> Batch {
        self.since = None;
        self.bytes = 0;
        Batch { writes: std::mem::take(&mut self.writes).into_iter().collect() }
    }
}

/// A store as it will be once the writes that wait are made.
pub(crate) struct View<'a, S> {
    pub store: &'a S,
    pub pending: &'a Pending,
}

impl<S: Store> Read for View<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match self.pending.get(key) {
            Some(value) => Ok(value.clone()),
            None => Store::get(self.store, key).map_err(|error| error.to_string()),
        }
    }

    fn all(&self, prefix: &[u8]) -> Result<Vec<Pair>, String> {
        let stored = Store::all(self.store, prefix).map_err(|error| error.to_string())?;
        let mut changed = self.pending.with_prefix(prefix).peekable();
        if changed.peek().is_none() {
            return Ok(stored);
        }
        let mut all: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, value) in changed {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        Ok(all.into_iter().collect())
    }
}
