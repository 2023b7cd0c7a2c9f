//! The recovery that sled would do, in its order and by its rules (`sled::pagecache::iterator` and
//! `snapshot` of 0.34.7).

use std::collections::BTreeMap;

use crate::kv::StoreError;

use super::super::sled::SEGMENT_BYTES;
use super::damaged;
use super::layout::{Files, Page, Pointer, SEGMENT_HEAD, segments};
use super::messages::{Kind, LAST_PLACE, head, message};
use super::page::apart;
use super::search::may_have_message;

const SEGMENT: i64 = SEGMENT_BYTES as i64;

/// The pages that sled would recover.
pub(super) struct Recovered {
    pub pages: Vec<Page>,
    /// Whether sled would discard something, such as whole messages behind the place where it would
    /// stop reading.
    pub is_torn: bool,
}

/// The bytes of a segment, padded with zeros if the file ends before it does.
struct Segment {
    at: u64,
    bytes: Vec<u8>,
    /// The number of bytes that the file has.
    written: usize,
}

/// A walk over messages, in the way of sled.
struct Walk<'a> {
    files: &'a Files,
    segments: BTreeMap<i64, u64>,
    /// The segment that is being read.
    current: Option<Segment>,
    lsn: Option<i64>,
    /// The place behind which nothing is read.
    most: Option<i64>,
    /// Whether a message that is not whole ends only its segment, and not the walk.
    goes_on: bool,
    is_torn: bool,
}

impl Walk<'_> {
    fn next(&mut self) -> Result<Option<(Kind, u64, Pointer)>, StoreError> {
        loop {
            let place = self.lsn.unwrap_or(0) % SEGMENT;
            if place < SEGMENT_HEAD as i64 || place > LAST_PLACE as i64 {
                self.current = None;
            }
            if self.current.is_none() && !self.begin_segment()? {
                return Ok(None);
            }
            let (Some(Segment { at: base, bytes, written }), Some(lsn)) = (&self.current, self.lsn) else {
                return Ok(None);
            };
            if self.most.is_some_and(|most| lsn > most) {
                return Ok(None);
            }
            let (base, place) = (*base, (lsn % SEGMENT) as usize);
            // sled stops reading where the file ends within a message.
            if head(bytes, place).is_some_and(|head| place + head.bytes > *written) {
                self.is_torn = true;
                return Ok(None);
            }
            let Some(found) = message(bytes, place, (lsn / SEGMENT) as u64) else {
                self.is_torn |= may_have_message(bytes, place, (lsn / SEGMENT) as u64);
                if self.goes_on {
                    self.current = None;
                    continue;
                }
                return Ok(None);
            };
            let (kind, page, after) = (found.kind, found.page, lsn + found.bytes as i64);
            let pointer = Pointer {
                lsn,
                at: base + place as u64,
                apart: if kind.is_apart() { apart(found.body) } else { None },
            };
            match kind {
                Kind::Cap => {
                    self.current = None;
                    continue;
                }
                Kind::Manifest => {
                    let last = apart(found.body);
                    if self.most.is_some_and(|most| last.is_none_or(|last| last > most)) {
                        return Ok(None);
                    }
                    self.lsn = Some(after);
                }
                Kind::Canceled => self.lsn = Some(after),
                Kind::Free | Kind::Replace { .. } | Kind::Link { .. } => {
                    if let Some(id) = pointer.apart {
                        match self.files.apart(id) {
                            Ok(Some(_)) => {}
                            Ok(None) => {
                                self.lsn = Some(after);
                                continue;
                            }
                            Err(_) => {
                                self.is_torn = true;
                                return Ok(None);
                            }
                        }
                    }
                    self.lsn = Some(after);
                    return Ok(Some((kind, page, pointer)));
                }
            }
        }
    }

    /// Begins the next segment, if there is one to be read.
    fn begin_segment(&mut self) -> Result<bool, StoreError> {
        let Some((&lsn, &at)) = self.segments.first_key_value() else { return Ok(false) };
        if self.most.is_some_and(|most| lsn > most) {
            return Ok(false);
        }
        self.lsn = Some(lsn + SEGMENT_HEAD as i64);
        let mut bytes = self.files.segment(at)?;
        let written = bytes.len();
        bytes.resize(SEGMENT_BYTES as usize, 0);
        self.current = Some(Segment { at, bytes, written });
        self.segments.remove(&lsn);
        Ok(true)
    }
}

/// Returns the pages of a database that sled would recover. Fails if sled would break down, or if
/// the data that it reads is damaged.
pub(super) fn recover(files: &Files) -> Result<Recovered, StoreError> {
    let snapshot = files.snapshot()?;
    let stable = snapshot.stable.unwrap_or(0);
    let least = stable / SEGMENT * SEGMENT;
    let (places, max_stable) = segments(files, least)?;
    let (end, mut is_torn) = end_of_tail(files, &places, max_stable)?;
    let mut walk = Walk {
        files,
        segments: places,
        current: None,
        lsn: None,
        most: Some(end),
        goes_on: true,
        is_torn: false,
    };
    let mut pages = snapshot.pages;
    while let Some((kind, page, pointer)) = walk.next()? {
        if pointer.lsn >= snapshot.stable.unwrap_or(-1) {
            apply(&mut pages, files.log_bytes, kind, page, pointer)?;
        }
    }
    // sled overwrites everything behind the end with zeros.
    if let (Some(segment), Some(lsn)) = (&walk.current, walk.lsn) {
        is_torn |= may_have_message(&segment.bytes, (lsn % SEGMENT) as usize, (lsn / SEGMENT) as u64);
    }
    for (lsn, at) in &walk.segments {
        is_torn |= may_have_message(&files.segment(*at)?, SEGMENT_HEAD, (lsn / SEGMENT) as u64);
    }
    if pages.contains(&Page::Unknown) {
        return Err(damaged("pages of the database are missing"));
    }
    Ok(Recovered { pages, is_torn: is_torn || walk.is_torn })
}

/// Returns the last place of the messages that follow one another without a gap, and whether
/// something lies behind it.
fn end_of_tail(
    files: &Files,
    places: &BTreeMap<i64, u64>,
    max_stable: i64,
) -> Result<(i64, bool), StoreError> {
    let lowest = (max_stable / SEGMENT * SEGMENT).max(0);
    let (mut expected, mut missing) = (lowest, None);
    let mut tail = BTreeMap::new();
    for (lsn, at) in places.range(lowest..) {
        if *lsn != expected {
            missing = Some(expected);
            break;
        }
        tail.insert(*lsn, *at);
        expected += SEGMENT;
    }
    let mut walk = Walk {
        files,
        segments: tail,
        current: None,
        lsn: None,
        most: missing,
        goes_on: false,
        is_torn: false,
    };
    while walk.next()?.is_some() {}
    Ok((walk.lsn.unwrap_or(0) - 1, walk.is_torn || missing.is_some()))
}

/// Applies a message to its page. Every page has a message in the log, so page numbers are less
/// than `most`, the size of the log in bytes.
pub(super) fn apply(
    pages: &mut Vec<Page>,
    most: u64,
    kind: Kind,
    page: u64,
    pointer: Pointer,
) -> Result<(), StoreError> {
    let index = usize::try_from(page).ok().filter(|_| page < most);
    let index = index.ok_or_else(|| damaged("a page of the database has a number that no page has"))?;
    if matches!(kind, Kind::Replace { .. } | Kind::Free) && pages.len() <= index {
        pages.resize(index + 1, Page::Unknown);
    }
    if let Some(page) = pages.get_mut(index) {
        page.apply(kind, pointer);
    }
    Ok(())
}
