//! Rows that are read before they are needed, from a store where each question takes a while.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use crate::kv::{Batch, Read, Reader, StoreError, Visit, after_prefix, first_of};

/// The most rows of a range that is read ahead, and the most bytes of one of them. What has more is
/// read when it is needed.
const MOST: (usize, usize) = (8, 16 << 10);

/// A reader that knows parts of the store.
///
/// Invariant: the known parts are as the store has them. Nobody else writes there, and
/// [`Ahead::wrote`] learns of each batch.
pub(crate) struct Ahead {
    reader: Reader,
    /// Whether the store is near, so that nothing is read ahead.
    pub is_near: bool,
    /// The first key of each known part, and the first one after it.
    parts: BTreeMap<Vec<u8>, Vec<u8>>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Ahead {
    pub fn new(reader: Reader) -> Ahead {
        Ahead { reader, is_near: false, parts: BTreeMap::new(), rows: BTreeMap::new() }
    }

    /// Reads ranges together, and forgets those of before.
    pub fn read(&mut self, ranges: Vec<Range<Vec<u8>>>) -> Result<(), StoreError> {
        let Some(found) = self.reader.ranges(&ranges, MOST.0, MOST.1)? else {
            self.is_near = true;
            return Ok(());
        };
        self.parts.clear();
        self.rows.clear();
        for (range, rows) in ranges.into_iter().zip(found) {
            if let Some(rows) = rows {
                self.parts.insert(range.start, range.end);
                self.rows.extend(rows);
            }
        }
        Ok(())
    }

    /// Takes in a batch that is written.
    pub fn wrote(&mut self, batch: &Batch) {
        if self.parts.is_empty() {
            return;
        }
        for (key, value) in &batch.writes {
            if self.knows_key(key) {
                match value {
                    Some(value) => self.rows.insert(key.clone(), value.clone()),
                    None => self.rows.remove(key),
                };
            }
        }
    }

    /// Whether the keys from `first` until `after` are known.
    pub fn knows(&self, first: &[u8], after: &[u8]) -> bool {
        self.end_of(first).is_some_and(|end| after <= end)
    }

    fn knows_key(&self, key: &[u8]) -> bool {
        self.end_of(key).is_some_and(|end| key < end)
    }

    /// Returns the end of the last part that begins before a key or with it.
    fn end_of(&self, key: &[u8]) -> Option<&[u8]> {
        self.parts
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .map(|(_, end)| end.as_slice())
    }
}

impl Read for Ahead {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.knows_key(key) {
            true => Ok(self.rows.get(key).cloned()),
            false => self.reader.get(key),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let first = first_of(prefix, from);
        let is_known = after_prefix(prefix).is_some_and(|after| self.knows(first, &after));
        if !is_known {
            return self.reader.scan_from(prefix, from, visit);
        }
        let rows = self
            .rows
            .range::<[u8], _>((Bound::Included(first), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        for (key, value) in rows {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;
    use crate::kv::{MemoryTree, Pair, Ranges, Store};

    /// A store that answers questions for ranges.
    struct Far(Arc<Mutex<MemoryTree>>);

    impl Read for Far {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.lock().expect("a store").get(key)
        }

        fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
            self.0.lock().expect("a store").scan_from(prefix, from, visit)
        }

        fn ranges(&self, ranges: &[Range<Vec<u8>>], most: usize, _: usize) -> Result<Ranges, StoreError> {
            let all = self.all(&[])?;
            let of = |range: &Range<Vec<u8>>| {
                let rows: Vec<Pair> = all.iter().filter(|(key, _)| range.contains(key)).cloned().collect();
                (rows.len() <= most).then_some(rows)
            };
            Ok(Some(ranges.iter().map(of).collect()))
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..3_u8, 1..4)
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let value = proptest::option::of(proptest::collection::vec(0..9_u8, 0..2));
        proptest::collection::btree_map(key(), value, 0..12)
            .prop_map(|writes| Batch::from(Vec::from_iter(writes)))
    }

    proptest! {
        /// What is known is as the store has it, whatever is read ahead and written in between.
        #[test]
        fn known_parts_are_as_the_store_has_them(
            stored in batch(),
            rounds in proptest::collection::vec((proptest::collection::vec((key(), any::<bool>()), 0..4), batch()), 1..4),
        ) {
            let store = Arc::new(Mutex::new(MemoryTree::default()));
            store.lock().expect("a store").commit(&stored).expect("memory");
            let far = Far(store.clone());
            let mut ahead = Ahead::new(Reader::new(Far(store.clone())));
            for (wanted, written) in rounds {
                // Ranges of one key, and of a prefix, that do not overlap.
                let mut ranges: Vec<Range<Vec<u8>>> = Vec::new();
                for (key, is_prefix) in wanted {
                    let after = if is_prefix { after_prefix(&key).expect("a prefix") } else { [&key[..], &[0]].concat() };
                    let overlaps = |other: &Range<Vec<u8>>| key < other.end && other.start < after;
                    if !ranges.iter().any(overlaps) {
                        ranges.push(key..after);
                    }
                }
                ahead.read(ranges).expect("memory");
                for _ in 0..2 {
                    for first in 0..3_u8 {
                        prop_assert_eq!(ahead.all(&[first]).expect("memory"), far.all(&[first]).expect("memory"));
                        for second in 0..3_u8 {
                            let key = [first, second];
                            prop_assert_eq!(ahead.get(&key).expect("memory"), far.get(&key).expect("memory"));
                            prop_assert_eq!(ahead.all(&key).expect("memory"), far.all(&key).expect("memory"));
                        }
                    }
                    store.lock().expect("a store").commit(&written).expect("memory");
                    ahead.wrote(&written);
                }
            }
        }
    }
}
