//! The messages of a segment of the log.

use super::super::sled::SEGMENT_BYTES;
use super::bytes::{byte, count, four, number};

/// The last place of a segment where a message may begin.
pub(super) const LAST_PLACE: usize = SEGMENT_BYTES as usize - 32;

/// What a message is, by sled's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// It says nothing.
    Canceled,
    /// Nothing follows it in its segment.
    Cap,
    /// Messages up to a place belong together.
    Manifest,
    /// A page is free.
    Free,
    /// A page is replaced.
    Replace { is_node: bool, apart: bool },
    /// A page is changed.
    Link { apart: bool },
}

/// The page of the names of trees.
pub(super) const META_PAGE: u64 = 0;

/// A message that fits its checksum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message<'a> {
    pub kind: Kind,
    /// The number of its segment.
    pub segment: u64,
    pub page: u64,
    pub body: &'a [u8],
    /// Bytes from its beginning to the next.
    pub bytes: usize,
}

/// What a message's beginning says, whether it fits its checksum or not.
pub(super) struct Head<'a> {
    check: u32,
    kind: Kind,
    segment: u64,
    page: u64,
    /// What its checksum is of, beside the body.
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

    /// Whether the body is in a file of its own.
    pub fn is_apart(self) -> bool {
        matches!(self, Kind::Replace { apart: true, .. } | Kind::Link { apart: true })
    }
}

/// What begins at a place of a segment, if it could be a message.
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
    /// The message, if it fits its checksum.
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

    /// The page that it replaces or changes, as far as it can be trusted, and what kind it is.
    pub fn page(&self, segment: u64) -> Option<u64> {
        let is_of_page = matches!(self.kind, Kind::Free | Kind::Replace { .. } | Kind::Link { .. });
        (is_of_page && self.segment == segment).then_some(self.page)
    }
}

/// The message that begins at a place of a segment of that number, if it is whole.
pub(super) fn message(segment: &[u8], at: usize, number: u64) -> Option<Message<'_>> {
    let head = head(segment, at)?;
    if at > LAST_PLACE || head.segment != number { None } else { head.whole() }
}
