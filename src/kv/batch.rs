//! Batches: writes that belong together.

use hashbrown::HashSet;

use super::error::StoreError;
use super::transit::Transit;

/// Puts and deletions that a store makes as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The keys with their new values, or `None` to delete a key. Each key occurs once.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What the batch sends to other partitions of the store, and what it consumes of theirs. Only
    /// the batches of a partition have such parts.
    pub transit: Transit,
}

/// Writes alone.
impl From<Vec<(Vec<u8>, Option<Vec<u8>>)>> for Batch {
    fn from(writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Batch {
        Batch { writes, ..Batch::default() }
    }
}

impl Batch {
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push((key, Some(value)));
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.transit.is_empty()
    }

    /// Removes all writes except the last one of each key.
    pub fn settle(&mut self) {
        let mut seen = HashSet::new();
        let mut last: Vec<bool> = self.writes.iter().rev().map(|(key, _)| seen.insert(key.clone())).collect();
        self.writes.retain(|_| last.pop().unwrap_or(true));
    }

    /// Returns a key that occurs more than once, if there is one.
    pub fn repeated(&self) -> Option<&[u8]> {
        /// The number of writes up to which all keys are compared with each other.
        const FEW: usize = 12;
        let keys = || self.writes.iter().map(|(key, _)| &key[..]);
        if self.writes.len() <= FEW {
            return keys()
                .enumerate()
                .find(|(at, key)| keys().take(*at).any(|known| known == *key))
                .map(|(_, key)| key);
        }
        if self.writes.is_sorted_by(|(one, _), (other, _)| one < other) {
            return None;
        }
        let mut seen = HashSet::with_capacity(self.writes.len());
        keys().find(|key| !seen.insert(*key))
    }

    /// Checks that a batch sends nothing and consumes nothing, in a store without other partitions.
    pub fn stays_here(&self) -> Result<(), StoreError> {
        match self.transit.is_empty() {
            true => Ok(()),
            false => {
                let what = "a batch concerns other partitions, and this store has none".to_string();
                Err(StoreError::Internal { what })
            }
        }
    }

    /// Returns the total size of the keys, the values and the messages in bytes.
    pub fn bytes(&self) -> usize {
        let writes = self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
        writes.sum::<usize>() + self.transit.bytes()
    }
}
