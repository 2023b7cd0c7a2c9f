//! Stores of earlier formats, which get the present format with their next commit.
//!
//! In the second format, the record before a small batch had the batch's writes, to redo them. A
//! large batch was preceded by its undo writes, under a key of their own, and followed by the
//! record. The first format had neither.

use crate::kv::{Batch, Store, StoreError};

use super::record::{Record, Write, checked, unpack, unreadable};

/// The key of the undo writes of the batch in progress.
const UNDO: &[u8] = b"!undo";

/// Undoes the incomplete batch, if there is one. This must happen before the record is read.
pub(super) fn undo(store: &mut impl Store) -> Result<(), StoreError> {
    let Some(bytes) = store.get(UNDO)? else { return Ok(()) };
    let before = checked(&bytes).and_then(unpack);
    let unreadable = || StoreError::Damaged { what: "what undoes its last batch is not readable".into() };
    // The order allows the undoing to break off and be repeated.
    store.commit(&Batch::from(before.ok_or_else(unreadable)?))?;
    store.commit(&Batch::from(vec![(UNDO.to_vec(), None)]))?;
    store.flush()
}

/// Decodes a record's body: the record, and the writes to redo.
pub(super) fn decode(body: &[u8]) -> Result<(Record, Vec<Write>), StoreError> {
    let read = || {
        let ((commits, sum), rest) = postcard::take_from_bytes(body).ok()?;
        Some((Record { commits, sum }, unpack(rest)?))
    };
    read().ok_or_else(unreadable)
}

/// Redoes the writes of a batch that are missing.
pub(super) fn make_again(store: &mut impl Store, writes: Vec<Write>) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for (key, value) in writes {
        if store.get(&key)? != value {
            missing.push((key, value));
        }
    }
    if missing.is_empty() { Ok(()) } else { store.commit(&Batch::from(missing)) }
}
