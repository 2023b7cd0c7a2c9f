//! The messages of a segment of the log.

use super::super::sled::SEGMENT_BYTES;
use super::bytes::{byte, count, four, number};
use super::layout::SEGMENT_HEAD;

/// The last place in a segment where a message may begin.
pub(super) const LAST_PLACE: usize = SEGMENT_BYTES as usize - 32;

/// The kind of a message, by sled's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A message without effect.
    Canceled,
    /// The last message of its segment.
    Cap,
    /// A place up to which messages belong together.
    Manifest,
    /// A page becomes free.
    Free,
    /// A page is replaced.
    Replace { is_node: bool, apart: bool },
    /// A page is changed.
    Link { apart: bool },
}

/// The page that has the names of trees.
pub(super) const META_PAGE: u64 = 0;

/// A message that fits its checksum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message<'a> {
    pub kind: Kind,
    /// The number of the message's segment.
    pub segment: u64,
    pub page: u64,
    pub body: &'a [u8],
    /// The number of bytes from the message's beginning to the next message.
    pub bytes: usize,
}

/// The head of a message, whether the message fits its checksum or not.
pub(super) struct Head<'a> {
    check: u32,
    kind: Kind,
    /// The number of the segment that the message names.
    pub segment: u64,
    page: u64,
    /// The bytes that the checksum covers, beside the body.
    checked: &'a [u8],
    body: &'a [u8],
    pub bytes: usize,
}

impl Kind {
    pub fn of(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Canceled,
            2 => Kind::Cap,
            3 => Kind::Manifest,
            4 => Kind::Free,
            5 => Kind::Replace { is_node: false, apart: false },
            6 => Kind::Replace { is_node: false, apart: false },
            7 => Kind::Replace { is_node: false, apart: true },
            8 => Kind::Replace { is_node: true, apart: false },
            9 => Kind::Replace { is_node: true, apart: true },
            10 => Kind::Link { apart: false },
            11 => Kind::Link { apart: true },
            _ => return None,
        })
    }

    /// Returns whether the body is in a file of its own.
    pub fn is_apart(self) -> bool {
        matches!(self, Kind::Replace { apart: true, .. } | Kind::Link { apart: true })
    }
}

/// Returns the head at a place of a segment, if a message could begin there.
pub(super) fn head(segment: &[u8], at: usize) -> Option<Head<'_>> {
    let whole = segment.get(at..)?;
    let mut rest = whole;
    let check = four(&mut rest)?;
    let kind = Kind::of(byte(&mut rest)?)?;
    let length = count(&mut rest)?;
    let (segment, page) = (number(&mut rest)?, number(&mut rest)?);
    let head_bytes = whole.len() - rest.len();
    let body = rest.get(..length)?;
    Some(Head {
        check,
        kind,
        segment,
        page,
        checked: &whole[4..head_bytes],
        body,
        bytes: head_bytes + length,
    })
}

impl<'a> Head<'a> {
    /// Returns the message, or `None` if it does not fit its checksum.
    pub fn whole(&self) -> Option<Message<'a>> {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.body);
        hasher.update(self.checked);
        (hasher.finalize() ^ u32::MAX == self.check).then_some(Message {
            kind: self.kind,
            segment: self.segment,
            page: self.page,
            body: self.body,
            bytes: self.bytes,
        })
    }

    /// Returns the page that the message frees, replaces or changes, or `None` if it is no such
    /// message or names another segment.
    pub fn page(&self, segment: u64) -> Option<u64> {
        let is_of_page = matches!(self.kind, Kind::Free | Kind::Replace { .. } | Kind::Link { .. });
        (is_of_page && self.segment == segment).then_some(self.page)
    }
}

/// Returns the message at a place of the segment with that number, or `None` if it is not whole.
pub(super) fn message(segment: &[u8], at: usize, number: u64) -> Option<Message<'_>> {
    let head = head(segment, at)?;
    if at > LAST_PLACE || head.segment != number { None } else { head.whole() }
}

/// The bytes of bodies that are checked in search of whole messages, for each segment. Honest
/// segments do not come near this bound. In one made for it, a long message could begin at each
/// byte.
const SEARCHED: usize = 256 * SEGMENT_BYTES as usize;

/// The whole messages of a segment, wherever they begin.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Search {
    /// The places of the messages, in order.
    pub whole: Vec<usize>,
    /// The number of bytes from which messages were not looked for, if there were too many.
    pub skipped: Option<usize>,
    /// The bytes of bodies that were checked.
    pub checked: usize,
}

/// Searches a segment for whole messages that name a segment, or any if `number` is `None`. Short
/// messages are looked for first.
pub(super) fn search(segment: &[u8], number: Option<u64>) -> Search {
    let candidates = (SEGMENT_HEAD..segment.len().min(LAST_PLACE + 1)).filter_map(|at| {
        let head = head(segment, at)?;
        number.is_none_or(|number| head.segment == number).then_some((head.bytes, at))
    });
    let mut candidates: Vec<(usize, usize)> = candidates.collect();
    candidates.sort_unstable();
    let mut found = Search::default();
    for (bytes, at) in candidates {
        if found.checked + bytes > SEARCHED {
            found.skipped = Some(bytes);
            break;
        }
        found.checked += bytes;
        if head(segment, at).is_some_and(|head| head.whole().is_some()) {
            found.whole.push(at);
        }
    }
    found.whole.sort_unstable();
    found
}

/// Returns whether a segment may have a whole message at or after a place.
pub(super) fn may_have_message(segment: &[u8], from: usize, number: u64) -> bool {
    // Most of a segment is empty.
    let empty = segment.rchunks(4096).take_while(|chunk| chunk.iter().all(|byte| *byte == 0));
    let end = segment.len() - empty.map(<[u8]>::len).sum::<usize>();
    let mut left = SEARCHED;
    let mut candidates = (from..end.min(LAST_PLACE + 1)).filter_map(|at| head(segment, at));
    candidates.any(|head| {
        if head.segment != number {
            return false;
        }
        let rest = left.checked_sub(head.bytes);
        left = rest.unwrap_or(0);
        rest.is_none() || head.whole().is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message without a page, with a body.
    fn canceled(number: u8, body: &[u8]) -> Vec<u8> {
        let length = [250, body.len() as u8, (body.len() >> 8) as u8, (body.len() >> 16) as u8];
        let checked = [&[1], &length[..], &[number, 0]].concat();
        let check = crc32fast::hash(&[body, &checked].concat()) ^ u32::MAX;
        [&check.to_le_bytes()[..], &checked, body].concat()
    }

    #[test]
    fn whole_messages_are_found_wherever_they_begin() {
        let mut segment = vec![0; SEGMENT_BYTES as usize];
        let mut places = Vec::new();
        for (at, length) in [(100, 5), (333, 70_000), (80_001, 0)] {
            let message = canceled(3, &vec![9; length]);
            segment[at..at + message.len()].copy_from_slice(&message);
            places.push(at);
        }
        assert_eq!(search(&segment, Some(3)).whole, places);
        assert_eq!(search(&segment, Some(4)).whole, Vec::<usize>::new());
        assert!(may_have_message(&segment, 80_001, 3) && !may_have_message(&segment, 80_002, 3));
    }

    /// Many places at which long messages seem to begin cost no more than the bound, and do not
    /// hide a whole one that is shorter.
    #[test]
    fn a_segment_full_of_heads_costs_no_more_than_the_bound() {
        let period = [0, 0, 0, 0, 1, 250, 0xFF, 0xFF, 3, 3, 1];
        let mut segment: Vec<u8> = period.iter().copied().cycle().take(SEGMENT_BYTES as usize).collect();
        let message = canceled(3, b"a body");
        segment[400_000..400_000 + message.len()].copy_from_slice(&message);
        let found = search(&segment, Some(3));
        assert_eq!(found.whole, [400_000]);
        assert!(found.skipped.is_some(), "{found:?}");
        assert!(found.checked <= SEARCHED, "{found:?}");
        assert!(may_have_message(&segment, 0, 3), "not all of it was looked at");
    }
}
