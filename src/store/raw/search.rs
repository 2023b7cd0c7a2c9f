//! The search for whole messages in a segment, wherever they begin.

use super::super::sled::SEGMENT_BYTES;
use super::layout::SEGMENT_HEAD;
use super::messages::{LAST_PLACE, head};

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
