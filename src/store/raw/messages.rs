//! The messages of a segment of the log.

use super::super::sled::SEGMENT_BYTES;
use super::bytes::{byte, count, four, number};

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
