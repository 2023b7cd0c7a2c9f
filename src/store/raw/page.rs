//! The nodes of trees, and the changes to them.

use super::bytes::{byte, count, number, string, take};

/// Keys and their values.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A node of a tree, with keys and values or with the pages below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The page of the next node on the same level.
    pub next: Option<u64>,
    /// The lower bound of the node's keys, inclusive.
    pub low: Vec<u8>,
    /// The upper bound of the node's keys, exclusive; empty if there is none.
    pub high: Vec<u8>,
    /// Whether the node's contents have moved to another node.
    pub merged: bool,
    pub within: Within,
    /// The number of bytes at the beginning of `low` that all keys share and that are not stored
    /// with them.
    prefix: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Within {
    /// Keys without the node's prefix, and their values.
    Leaf(Pairs),
    Index(Vec<u64>),
}

/// Decodes a node from a message's body.
pub(super) fn node(mut body: &[u8]) -> Option<Node> {
    let bytes = &mut body;
    let next = number(bytes)?;
    let _merging_child = number(bytes)?;
    let merged = byte(bytes)? != 0;
    let prefix = usize::from(byte(bytes)?);
    let (low, high) = (string(bytes)?.to_vec(), string(bytes)?.to_vec());
    let is_index = match byte(bytes)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let entries = count(bytes)?;
    let keys = (0..entries).map(|_| string(bytes)).collect::<Option<Vec<_>>>()?;
    let within = match is_index {
        true => Within::Index((0..entries).map(|_| number(bytes)).collect::<Option<_>>()?),
        false => {
            let values = (0..entries).map(|_| string(bytes)).collect::<Option<Vec<_>>>()?;
            Within::Leaf(keys.iter().zip(values).map(|(key, value)| (key.to_vec(), value.to_vec())).collect())
        }
    };
    low.get(..prefix)?;
    Some(Node { next: (next != 0).then_some(next), low, high, merged, within, prefix })
}

impl Node {
    /// Applies the change in a message's body.
    pub fn change(&mut self, mut body: &[u8]) -> Option<()> {
        let bytes = &mut body;
        let kind = byte(bytes)?;
        match (kind, &mut self.within) {
            (0, Within::Leaf(pairs)) => {
                let (key, value) = (string(bytes)?, string(bytes)?);
                match pairs.binary_search_by(|(known, _)| known.as_slice().cmp(key)) {
                    Ok(at) => pairs[at].1 = value.to_vec(),
                    Err(at) => pairs.insert(at, (key.to_vec(), value.to_vec())),
                }
            }
            (1, Within::Leaf(pairs)) => {
                let key = string(bytes)?;
                if let Ok(at) = pairs.binary_search_by(|(known, _)| known.as_slice().cmp(key)) {
                    pairs.remove(at);
                }
            }
            // A merge of nodes below this one, which does not affect a search by their order.
            (2, _) => drop(number(bytes)?),
            (3, _) => {}
            (4, _) => self.merged = true,
            _ => return None,
        }
        Some(())
    }

    /// Returns the keys and values of a leaf; an index has none.
    pub fn pairs(self) -> Pairs {
        let Within::Leaf(pairs) = self.within else { return Pairs::new() };
        let prefix = &self.low[..self.prefix];
        pairs.into_iter().map(|(key, value)| ([prefix, &key].concat(), value)).collect()
    }
}

/// Decodes the names of trees and the pages of their roots.
pub(super) fn roots(mut body: &[u8]) -> Option<Vec<(Vec<u8>, u64)>> {
    let mut found = Vec::new();
    while !body.is_empty() {
        found.push((string(&mut body)?.to_vec(), number(&mut body)?));
    }
    Some(found)
}

/// Decodes a message's body that names a file of its own.
pub(super) fn apart(mut body: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(take(&mut body, 8)?.try_into().ok()?))
}
