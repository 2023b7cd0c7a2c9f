//! Changes: writes as the write-ahead log has them, said by what differs from the writes before.
//!
//! Keys of one kind lie together and values often grow at their end, so a change says how many bytes its key shares with that of
//! the change before, how many bytes of the key's value in the log are kept, and what follows them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::internal::sure;

/// What each key became: a value, or none when it was removed.
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// At most what the numbers of a change take; most are small.
const NUMBERS: usize = 24;

/// A write to a key: what follows the first `kept` bytes of its value in the log; none when it is removed.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub key: Vec<u8>,
    pub kept: usize,
    pub rest: Option<Vec<u8>>,
}

/// A change in a list of them.
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
    /// That of a write over those that the log has.
    pub fn of(writes: &Writes, key: &[u8], value: Option<&[u8]>) -> Change {
        let (before, now) = (writes.get(key).and_then(Option::as_deref).unwrap_or(&[]), value.unwrap_or(&[]));
        let kept = shared(before, now);
        Change { key: key.to_vec(), kept, rest: value.map(|value| value[kept..].to_vec()) }
    }

    /// Bytes that it takes at most.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.rest.as_ref().map_or(0, Vec::len) + NUMBERS
    }
}

/// The bytes of changes after one to the key `last`.
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

/// Makes the changes of such bytes; `last` becomes the key of the last of them. None when they are something else.
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

/// As [`replay`], of changes after some that are gone. `last` is none while it is not known. What is said by what it keeps
/// of a value that is not in `fresh`, which are the keys that were written as a whole since, stays as it was.
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

/// How many bytes two have in common at their beginning.
pub(super) fn shared(one: &[u8], other: &[u8]) -> usize {
    // Pieces are compared at once.
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
