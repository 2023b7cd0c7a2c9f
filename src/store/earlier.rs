//! Stores of earlier formats, which go on in this one with their next commit.
//!
//! The record of the second format had the writes of a small batch, which it went before, to make them again; before a
//! large one went what undid it, under a key of its own, and the record followed. That of the first had neither.

use crate::kv::{Batch, Store, StoreError};

use super::record::{Record, Write, checked, unpack, unreadable};

/// The key of what undoes the batch under way.
const UNDO: &[u8] = b"!undo";

/// Undoes the batch that did not come to its end, if there is one. It comes before the record is read.
pub(super) fn undo(store: &mut impl Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(UNDO)? else { return Ok(()) };
    let before = checked(&bytes).and_then(unpack);
    let unreadable = || StoreError::Damaged { what: "what undoes its last batch is not readable".into() };
    // In an order in which undoing may itself be broken off, and be done again.
    store.commit(&Batch { writes: before.ok_or_else(unreadable)? })?;
    store.commit(&Batch { writes: vec![(UNDO.to_vec(), None)] })?;
    store.flush()
}

/// What the body of a record says: the record, and the writes to make again.
pub(super) fn decode(body: &[u8]) -> Result<(Record, Vec<Write>), StoreError> {
    let read = || {
        let ((commits, sum), rest) = postcard::take_from_bytes(body).ok()?;
        Some((Record { commits, sum }, unpack(rest)?))
    };
    read().ok_or_else(unreadable)
}

/// Makes those of a batch's writes that are not there.
pub(super) fn make_again(store: &mut impl Store, writes: Vec<Write>) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for (key, value) in writes {
        if store.get(&key)? != value {
            missing.push((key, value));
        }
    }
    if missing.is_empty() { Ok(()) } else { store.commit(&Batch { writes: missing }) }
}
