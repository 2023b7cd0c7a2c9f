//! Everything that is whole in a damaged store's log, wherever it lies.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::sled::SEGMENT_BYTES;
use super::layout::{Files, Leaf, Page, Pointer, SEGMENT_HEAD, segment_head};
use super::messages::{Kind, LAST_PLACE, Message, head, message};
use super::page::apart;
use super::search::search;

const SEGMENT: i64 = SEGMENT_BYTES as i64;

/// The contents found in a log.
#[derive(Default)]
struct Found {
    /// Whole messages by their places in the log: their kinds, their pages, and pointers to them.
    messages: BTreeMap<i64, (Kind, u64, Pointer)>,
    /// The place of a broken message, by its page.
    broken: HashMap<u64, i64>,
    lost: Vec<String>,
}

/// Returns the readable leaves of a log, the newest first, and descriptions of the losses.
pub(super) fn leaves(files: &Files) -> (Vec<Leaf>, Vec<String>) {
    let mut found = Found::default();
    for index in 0..files.segments() {
        let at = index * SEGMENT_BYTES;
        match files.segment(at) {
            Ok(bytes) => found.read_segment(at, &bytes),
            Err(error) => found.lost.push(error.to_string()),
        }
    }
    let mut pages: BTreeMap<u64, Page> = BTreeMap::new();
    for (kind, page, pointer) in found.messages.values() {
        pages.entry(*page).or_default().apply(*kind, *pointer);
    }
    let unknown = found.unknown(files);
    let mut leaves = Vec::new();
    for (page, state) in pages {
        let Page::Present { base, links } = state else { continue };
        let newest = links.last().unwrap_or(&base).lsn;
        let is_broken =
            found.broken.get(&page).is_some_and(|lsn| *lsn >= base.lsn) || unknown.contains(&page);
        if is_broken {
            found.lost.push(format!("page {page} of the database is not whole"));
        } else if matches!(found.messages.get(&base.lsn), Some((Kind::Replace { is_node: true, .. }, ..))) {
            leaves.push((newest, Leaf { base, links, page, end: None }));
        }
    }
    leaves.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
    (leaves.into_iter().map(|(_, leaf)| leaf).collect(), found.lost)
}

impl Found {
    /// Reads the messages of a segment. After a broken message, it looks for the next whole one.
    fn read_segment(&mut self, at: u64, bytes: &[u8]) {
        let known = segment_head(bytes).map(|head| (head.lsn / SEGMENT) as u64);
        // If the header is gone, each message still names its segment.
        let Some(number) = known.or_else(|| commonest(bytes, &search(bytes, None).whole)) else { return };
        if known.is_none() {
            self.lost.push(format!("the header at byte {at} of the database's log is not readable"));
        }
        // The whole messages of the segment, from the first broken one on.
        let mut whole: Option<Vec<usize>> = None;
        let mut place = SEGMENT_HEAD;
        while place <= LAST_PLACE && place < bytes.len() {
            let lsn = number as i64 * SEGMENT + place as i64;
            if let Some(message) = message(bytes, place, number) {
                self.take(&message, lsn, at + place as u64);
                if message.kind == Kind::Cap {
                    return;
                }
                place += message.bytes;
                continue;
            }
            let whole = whole.get_or_insert_with(|| self.search(at, bytes, number));
            let next = whole.get(whole.partition_point(|whole| *whole <= place)).copied();
            // The end of the written part.
            if next.is_none() && bytes[place..].iter().all(|byte| *byte == 0) {
                return;
            }
            let broken = head(bytes, place).and_then(|head| head.page(number));
            match (next, broken) {
                (_, Some(page)) => {
                    // Segments are used again, so the file does not have messages in their order.
                    let last = self.broken.entry(page).or_insert(lsn);
                    *last = lsn.max(*last);
                }
                (Some(next), None) => self.lost.push(format!(
                    "{} bytes at byte {} of the database's log are not readable",
                    next - place,
                    at + place as u64
                )),
                (None, None) => {}
            }
            let Some(next) = next else { return };
            place = next;
        }
    }

    /// Searches a segment for whole messages.
    fn search(&mut self, at: u64, bytes: &[u8], number: u64) -> Vec<usize> {
        let found = search(bytes, Some(number));
        if let Some(skipped) = found.skipped {
            self.lost.push(format!(
                "the part at byte {at} of the database's log has too many places that look like messages; \
                 those of {skipped} bytes and more were not looked for"
            ));
        }
        found.whole
    }

    fn take(&mut self, message: &Message<'_>, lsn: i64, at: u64) {
        if matches!(message.kind, Kind::Free | Kind::Replace { .. } | Kind::Link { .. }) {
            let apart = if message.kind.is_apart() { apart(message.body) } else { None };
            self.messages.insert(lsn, (message.kind, message.page, Pointer { lsn, at, apart }));
        }
    }

    /// Returns the pages that the snapshot knows by messages that were not found.
    fn unknown(&self, files: &Files) -> HashSet<u64> {
        let Ok(snapshot) = files.snapshot() else { return HashSet::new() };
        let mut unknown = HashSet::new();
        // A page that was replaced since does not need its earlier messages.
        let mut replaced: HashMap<u64, i64> = HashMap::new();
        for (lsn, (kind, page, _)) in &self.messages {
            if !matches!(kind, Kind::Link { .. }) {
                replaced.insert(*page, *lsn);
            }
        }
        for (page, state) in (0..).zip(&snapshot.pages) {
            let Page::Present { base, links } = state else { continue };
            let is_newer = replaced.get(&page).is_some_and(|lsn| *lsn > base.lsn);
            let is_there = |pointer: &Pointer| self.messages.contains_key(&pointer.lsn);
            let is_whole = is_newer || (is_there(base) && links.iter().all(is_there));
            if !is_whole {
                unknown.insert(page);
            }
        }
        unknown
    }
}

/// Returns the segment number that most of the messages at some places name.
fn commonest(bytes: &[u8], whole: &[usize]) -> Option<u64> {
    let mut counts: HashMap<u64, usize> = HashMap::new();
    let mut after = 0;
    for at in whole {
        if let Some(head) = head(bytes, *at).filter(|_| *at >= after) {
            *counts.entry(head.segment).or_default() += 1;
            after = at + head.bytes;
        }
    }
    counts.into_iter().max_by_key(|(number, count)| (*count, *number)).map(|(number, _)| number)
}
