//! The parts of the database's files, for fuzzing: random bytes do not fit a checksum.

use crate::kv::{Pair, StoreError};

use super::layout::{Page, Pointer, segment_head, snapshot};
use super::messages::{Kind, head, message};
use super::page::{apart, node, roots};
use super::recover::apply;

/// Returns the keys and values of a node after some changes, or `None` if the bytes are not a node.
pub fn leaf(bytes: &[u8], changes: &[&[u8]]) -> Option<Vec<Pair>> {
    let mut node = node(bytes)?;
    for change in changes {
        node.change(change)?;
    }
    Some(node.pairs())
}

/// Returns the names of trees and the pages of their roots.
pub fn names(bytes: &[u8]) -> Option<Vec<(Vec<u8>, u64)>> {
    roots(bytes)
}

/// Returns the number of pages in a snapshot, or `None` if the bytes are not a snapshot.
pub fn pages(bytes: &[u8]) -> Option<usize> {
    apart(bytes);
    segment_head(bytes);
    snapshot(bytes).map(|snapshot| snapshot.pages.len())
}

/// Returns the number of pages that messages make, without looking at checksums.
pub fn walk(segment: &[u8]) -> Result<usize, StoreError> {
    let (mut pages, mut at) = (Vec::<Page>::new(), 0);
    while let Some(found) = head(segment, at) {
        message(segment, at, 0);
        if let Some(page) = found.page(0) {
            let pointer = Pointer { lsn: at as i64, at: at as u64, apart: None };
            // A message with a head has a kind, the byte after its checksum.
            let kind = segment.get(at + 4).and_then(|byte| Kind::of(*byte)).unwrap_or(Kind::Cap);
            apply(&mut pages, segment.len() as u64, kind, page, pointer)?;
        }
        at += found.bytes;
    }
    Ok(pages.len())
}
