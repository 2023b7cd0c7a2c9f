//! Writes that wait for the next commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::engine::{Unwritten, Writes};
use crate::kv::{Batch, Read, StoreError, Visit, first_of, overlay};

/// Writes gathered from many steps, the last one to a key winning.
#[derive(Default)]
pub(crate) struct Pending {
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// Since when something is not durable.
    since: Option<Instant>,
    /// The engine's writes among them.
    unwritten: Option<Unwritten>,
    /// How long the last commit took.
    took: Duration,
}

/// Writes that something waits for are made durable after this, when the engine has more to do.
const HELD_AGE: Duration = Duration::from_millis(5);
/// Writes are made durable after this even when nothing waits for them.
const MAX_AGE: Duration = Duration::from_millis(20);
/// Or after as long as the last commit took, but never longer than this.
const LONGEST: Duration = Duration::from_millis(500);
/// And when there are so many bytes of them.
const MAX_BYTES: usize = 512 << 10;

impl Pending {
    /// Adds what the engine wants written.
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
    }

    /// There is something to write, which is not here yet.
    pub(crate) fn expect(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    /// Whether there are so many writes that they can't wait.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// Whether it is time to write even though the engine has more to do. `holds` says whether something waits for it.
    pub(crate) fn is_due(&self, holds: bool) -> bool {
        let most = if holds { HELD_AGE } else { self.most() };
        self.is_full() || self.since.is_some_and(|since| since.elapsed() >= most)
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

    /// Takes the writes, in the order of their keys, with the engine's among them; they count as durable from now on.
    /// `None` if the engine was not asked since.
    pub(crate) fn take(&mut self) -> Option<(Batch, Unwritten)> {
        let unwritten = self.unwritten.take()?;
        self.since = None;
        self.bytes = 0;
        Some((Batch { writes: std::mem::take(&mut self.writes).into_iter().collect() }, unwritten))
    }
}

/// A store as it will be once the writes that are under way and those that wait are made.
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
        // Of two writes to a key the later one counts.
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
            .prop_map(|writes| Batch { writes: writes.into_iter().collect() })
    }

    proptest! {
        /// What is on its way and what waits is seen as if it were written.
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
