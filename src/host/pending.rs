//! Writes that wait for the next commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::{Unwritten, Writes};
use crate::kv::{Batch, Read, StoreError, Transit, Visit, first_of, overlay};

/// Writes gathered from many turns. The last write to a key wins.
#[derive(Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    transit: Transit,
    bytes: usize,
    /// The time of the oldest write that is not durable.
    since: Option<Instant>,
    /// The engine's record of its writes among these.
    unwritten: Option<Unwritten>,
    /// The duration of the last commit.
    took: Duration,
}

/// The age at which writes become due if something waits for them, while the engine has more to do.
const HELD_AGE: Duration = Duration::from_millis(5);
/// The age at which writes become due even if nothing waits for them.
const MAX_AGE: Duration = Duration::from_millis(20);
/// The largest such age. Up to this, the age grows with the duration of the last commit.
const LONGEST: Duration = Duration::from_millis(500);
/// The number of bytes above which writes become due.
const MAX_BYTES: usize = 512 << 10;

impl Pending {
    /// Adds the writes of the engine.
    pub(crate) fn gather(&mut self, writes: Writes) {
        let Writes { batch, unwritten } = writes;
        self.unwritten = Some(match self.unwritten.take() {
            Some(earlier) => earlier.and(unwritten),
            None => unwritten,
        });
        self.add(batch);
    }

    fn add(&mut self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += batch.bytes();
        self.writes.extend(batch.writes);
        self.transit.join(batch.transit);
    }

    /// Notes that there is something to write, which comes later.
    pub(crate) fn expect(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Returns whether others wait for what is to be written.
    pub(crate) fn sends(&self) -> bool {
        self.transit.is_awaited()
    }

    /// Returns whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Returns whether the writes are too many to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// Returns whether writes are due although the engine has more to do. `holds` says whether
    /// something waits for them.
    pub(crate) fn is_due(&self, holds: bool) -> bool {
        let most = if holds { HELD_AGE } else { self.most() };
        self.is_full() || self.since.is_some_and(|since| since.elapsed() >= most)
    }

    /// Returns the time until writes are due, or `None` if there are none.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| self.most().saturating_sub(since.elapsed()))
    }

    /// Returns the age at which writes become due that nothing waits for. At most half of the time
    /// goes into writing.
    fn most(&self) -> Duration {
        self.took.clamp(MAX_AGE, LONGEST)
    }

    /// Notes the duration of a commit.
    pub(crate) fn written(&mut self, took: Duration) {
        self.took = took;
    }

    /// Takes the writes in the order of their keys, with the engine's record of its own. They are
    /// no longer pending. Returns `None` if the engine gave no writes since the last call.
    pub(crate) fn take(&mut self) -> Option<(Batch, Unwritten)> {
        let unwritten = self.unwritten.take()?;
        self.since = None;
        self.bytes = 0;
        let writes = std::mem::take(&mut self.writes).into_iter().collect();
        Some((Batch { writes, transit: std::mem::take(&mut self.transit) }, unwritten))
    }
}

/// The store as it will be after the batch in flight and the pending writes.
pub(crate) struct View<'a> {
    pub reader: &'a dyn Read,
    pub under_way: Option<&'a Batch>,
    pub pending: &'a Pending,
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(value) = self.pending.writes.get(key) {
            return Ok(value.clone());
        }
        let writes = self.under_way.map_or(&[][..], |batch| &batch.writes);
        match writes.binary_search_by(|(known, _)| known.as_slice().cmp(key)) {
            Ok(at) => Ok(writes[at].1.clone()),
            Err(_) => self.reader.get(key),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let first = first_of(prefix, from);
        let writes = self.under_way.map_or(&[][..], |batch| &batch.writes);
        let at = writes.partition_point(|(key, _)| key.as_slice() < first);
        let under_way = writes[at..].iter().map(|(key, value)| (key, value));
        // Of two writes to a key, the later one counts.
        let above: BTreeMap<&Vec<u8>, &Option<Vec<u8>>> = under_way
            .take_while(|(key, _)| key.starts_with(prefix))
            .chain(self.pending.writes.range(first.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)))
            .collect();
        let above = above.into_iter().map(|(key, value)| (key, value.as_ref()));
        overlay(above, |visit| self.reader.scan_from(prefix, from, visit), visit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::{MemoryTree, Store};

    fn batch() -> impl Strategy<Value = Batch> {
        let key = proptest::collection::vec(0..3_u8, 1..4);
        let value = proptest::option::of(proptest::collection::vec(0..9_u8, 0..2));
        proptest::collection::btree_map(key, value, 0..12)
            .prop_map(|writes| Batch::from(Vec::from_iter(writes)))
    }

    proptest! {
        /// The view shows the batch in flight and the pending writes as if they were written.
        #[test]
        fn a_view_is_the_store_of_later(stored in batch(), under_way in batch(), waits in batch()) {
            let mut store = MemoryTree::default();
            store.commit(&stored).expect("memory");
            let mut pending = Pending::default();
            pending.add(waits.clone());
            let view = View { reader: &store, under_way: Some(&under_way), pending: &pending };
            let mut later = store.clone();
            later.commit(&under_way).expect("memory");
            later.commit(&waits).expect("memory");
            for first in 0..3_u8 {
                prop_assert_eq!(view.all(&[first]).expect("memory"), later.all(&[first]).expect("memory"));
                for second in 0..3_u8 {
                    let key = [first, second];
                    prop_assert_eq!(view.get(&key).expect("memory"), later.get(&key).expect("memory"));
                    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
                    view.scan_from(&[first], &key, &mut |key, value| { seen.push((key.to_vec(), value.to_vec())); seen.len() < 3 }).expect("memory");
                    later.scan_from(&[first], &key, &mut |key, value| { wanted.push((key.to_vec(), value.to_vec())); wanted.len() < 3 }).expect("memory");
                    prop_assert_eq!(seen, wanted);
                }
            }
        }
    }
}
