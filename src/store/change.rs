//! Changes: the writes of the write-ahead log, each as a difference from the writes before.
//!
//! Neighbouring keys are of one kind, and values often grow at their end. So a change has the
//! number of bytes that its key shares with the key of the change before, the number of bytes that
//! are kept of the key's value in the log, and the bytes that follow them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::internal::sure;

/// The new value of each key, or `None` if the key was removed.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// An upper bound of the bytes of a change's numbers; most are small.
const NUMBERS: usize = 24;

/// A write to a key. `rest` follows the first `kept` bytes of the key's value in the log, and is
/// `None` if the key is removed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub key: Vec<u8>,
    pub kept: usize,
    pub rest: Option<Vec<u8>>,
}

/// A change as it is stored in a list of changes.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    shared: usize,
    #[serde(borrow)]
    key: &'a [u8],
    kept: usize,
    #[serde(borrow)]
    rest: Option<&'a [u8]>,
}

impl Change {
    /// Returns the change that a write makes to the writes in the log.
    pub fn of(writes: &Writes, key: &[u8], value: Option<&[u8]>) -> Change {
        let (before, now) = (writes.get(key).and_then(Option::as_deref).unwrap_or(&[]), value.unwrap_or(&[]));
        let kept = shared(before, now);
        Change { key: key.to_vec(), kept, rest: value.map(|value| value[kept..].to_vec()) }
    }

    /// Returns an upper bound of the change's encoded size in bytes.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.rest.as_ref().map_or(0, Vec::len) + NUMBERS
    }
}

/// Encodes changes that follow a change to the key `last`.
pub(super) fn pack<'a>(changes: &'a [Change], mut last: &'a [u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for Change { key, kept, rest } in changes {
        let shared = shared(last, key);
        let packed = Packed { shared, key: &key[shared..], kept: *kept, rest: rest.as_deref() };
        out = sure(postcard::to_extend(&packed, out), "writing to memory does not fail");
        last = key;
    }
    out
}

/// Applies encoded changes to `writes`, and sets `last` to the key of the last change. Returns
/// `None` if the bytes are not changes.
pub(super) fn replay(writes: &mut Writes, last: &mut Vec<u8>, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        let (Packed { shared, key, kept, rest }, after) = postcard::take_from_bytes(bytes).ok()?;
        *last = [last.get(..shared)?, key].concat();
        let before = writes.get(last).and_then(Option::as_deref).unwrap_or(&[]);
        let value = match rest {
            Some(rest) => Some([before.get(..kept)?, rest].concat()),
            None => None,
        };
        writes.insert(last.clone(), value);
        bytes = after;
    }
    Some(())
}

/// Applies changes like [`replay`], after a gap in the log. `last` is `None` while the last key is
/// unknown. `fresh` has the keys whose values were written as a whole since the gap. A change is
/// skipped if its key is unknown, or if it keeps bytes of the value of a key that is not in
/// `fresh`; that value stays as it was.
pub(super) fn replay_after_gap(
    writes: &mut Writes,
    last: &mut Option<Vec<u8>>,
    fresh: &mut BTreeSet<Vec<u8>>,
    mut bytes: &[u8],
) -> Option<()> {
    while !bytes.is_empty() {
        let (Packed { shared, key, kept, rest }, after) = postcard::take_from_bytes(bytes).ok()?;
        bytes = after;
        let known = match last.as_deref() {
            Some(last) => last.get(..shared)?,
            None if shared == 0 => &[],
            None => continue,
        };
        let key = [known, key].concat();
        *last = Some(key.clone());
        let before = writes.get(&key).and_then(Option::as_deref).unwrap_or(&[]);
        let value = match rest {
            Some(_) if kept > 0 && !fresh.contains(&key) => continue,
            Some(rest) => Some([before.get(..kept)?, rest].concat()),
            None => None,
        };
        fresh.insert(key.clone());
        writes.insert(key, value);
    }
    Some(())
}

/// Returns the number of bytes that two byte strings share at their beginning.
pub(super) fn shared(one: &[u8], other: &[u8]) -> usize {
    // Compares whole pieces first.
    const PIECE: usize = 64;
    let pieces = one.chunks_exact(PIECE).zip(other.chunks_exact(PIECE));
    let alike = PIECE * pieces.take_while(|(one, other)| one == other).count();
    let rest = one[alike..].iter().zip(&other[alike..]);
    alike + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared() {
        let long: Vec<u8> = (0..300).map(|n| n as u8).collect();
        for length in [0, 1, 63, 64, 65, 200, 300] {
            let mut other = long.clone();
            if let Some(byte) = other.get_mut(length) {
                *byte ^= 1;
            }
            assert_eq!((shared(&long, &other), shared(&other, &long)), (length, length));
            assert_eq!(shared(&long, &long[..length]), length);
        }
    }

    #[test]
    fn changes_come_back() {
        let values: [(&str, Option<&str>); 8] = [
            ("h/1", Some("begin")),
            ("h/1", Some("begin and more")),
            ("h/2", None),
            ("h/1", Some("be")),
            ("h/1", Some("")),
            ("", Some("x")),
            ("h/1", None),
            ("h/1", Some("begin")),
        ];
        let (mut writes, mut read) = (Writes::new(), Writes::new());
        let (mut last, mut last_read) = (Vec::new(), Vec::new());
        for (key, value) in values {
            let change = Change::of(&writes, key.as_bytes(), value.map(str::as_bytes));
            let bytes = pack(&[change], &last);
            last = key.as_bytes().to_vec();
            writes.insert(last.clone(), value.map(|value| value.as_bytes().to_vec()));
            assert_eq!(replay(&mut read, &mut last_read, &bytes), Some(()));
            assert_eq!((&read, &last_read), (&writes, &last));
            assert!(key != "h/1" || value != Some("begin and more") || bytes.len() < 16, "{bytes:?}");
        }
        for odd in [&[9][..], &[1, 0, 0, 0], &[0, 1, 65, 7, 1, 0]] {
            assert_eq!(replay(&mut Writes::new(), &mut Vec::new(), odd), None, "{odd:?}");
        }
    }
}
