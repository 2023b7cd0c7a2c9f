//! Writes that belong together.

use hashbrown::HashSet;

/// Puts and deletions that a store makes all of or none of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// A key and its new value, or none to delete it. A key occurs once.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push((key, Some(value)));
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Keeps the last write of each key.
    pub fn settle(&mut self) {
        let mut seen = HashSet::new();
        let mut last: Vec<bool> = self.writes.iter().rev().map(|(key, _)| seen.insert(key.clone())).collect();
        self.writes.retain(|_| last.pop().unwrap_or(true));
    }

    /// A key that occurs more than once, if there is one.
    pub fn repeated(&self) -> Option<&[u8]> {
        /// Up to so many, each is compared with each.
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

    /// The bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }
}
