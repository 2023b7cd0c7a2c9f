//! Undo: an instance goes back to where it waited for an event, as if the event had not come. The
//! prompt takes back entries of its sessions in this way.
//!
//! The instance leaves memory, and is read from the store again once the undo is among the writes.
//! What it had under way is broken off. Requests from before the undo are asked again, as after a
//! crash.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::builtins::Effect;
use crate::kv::Batch;
use crate::machine::{Data, Image};

use super::active::Active;
use super::entry::Entry;
use super::history::{Chunk, History};
use super::keys;
use super::open::described;
use super::record::{InstanceRecord, Status};

/// A planned undo.
pub struct Undo {
    pub(super) id: String,
    /// The program of the instance from now on.
    pub(super) image: Rc<Image>,
    /// The writes that take the instance back.
    pub(super) batch: Batch,
    /// The requests that are removed, in order.
    dropped: Vec<Entry>,
}

impl Undo {
    /// Plans the undo of everything since an instance waited for an event, without changing
    /// anything. `image` and `custom` are its program and its status of that time. Answers to
    /// earlier requests stay. `history` is the whole history, and all of it is in the store. The
    /// error says why the undo is impossible.
    pub fn plan(
        record: &InstanceRecord,
        history: &History,
        event: &str,
        image: &Rc<Image>,
        custom: Data,
    ) -> Result<Undo, String> {
        if record.status != Status::Running {
            return Err(format!("it is {}", record.status.word()));
        }
        if history.after.is_some() {
            return Err("its history is kept only since its last checkpoint".into());
        }
        let waits = |entry: &Entry| match entry {
            Entry::Requested { what, args, .. } => {
                what.effect() == Some(Effect::Receive) && args.describe() == format!("{event:?}")
            }
            _ => false,
        };
        let at = history.entries.iter().rposition(waits);
        let at = at.ok_or_else(|| format!("it never waited for {event}"))?;
        let (before, after) = history.entries.split_at(at + 1);
        let awaited =
            after.iter().find(|entry| is_answered_by_others(entry) && !is_settled(after, requested(entry)));
        if let Some(open) = awaited {
            return Err(format!("an answer to {} may still come", described(open)));
        }
        let (entries, dropped) = split(before, after);
        let mut batch = Batch::default();
        for number in record.first..record.chunks.max(history.chunks) {
            batch.delete(keys::chunk(&record.id, number));
        }
        let record = InstanceRecord {
            program: image.code.hash,
            custom: Some(custom),
            ended: None,
            first: history.chunks,
            ..record.clone()
        };
        let (bytes, _) = Chunk::encode(entries, 0);
        batch.put(keys::chunk(&record.id, record.first), bytes);
        batch.put(keys::instance(&record.id), record.encode());
        batch.put(keys::active(&record.id), Active { root: record.root.clone(), due: None }.encode());
        batch.delete(keys::checkpoint(&record.id));
        Ok(Undo { id: record.id, image: image.clone(), batch, dropped })
    }

    /// Returns the removed requests as text for people, in order.
    pub fn dropped(&self) -> Vec<String> {
        self.dropped.iter().map(described).collect()
    }
}

/// Returns the history that is kept, and the requests that are removed.
fn split(before: &[Entry], after: &[Entry]) -> (Vec<Entry>, Vec<Entry>) {
    let asked = |entries: &[Entry]| -> BTreeSet<u64> { entries.iter().filter_map(requested).collect() };
    let (kept, gone) = (asked(before), asked(after));
    let own = before.last().and_then(requested);
    let (mut entries, mut dropped) = (before.to_vec(), Vec::new());
    for entry in after {
        match entry {
            Entry::Answered { seq, .. } | Entry::Retried { seq, .. } | Entry::Begun { seq, .. }
                if kept.contains(seq) && Some(*seq) != own =>
            {
                entries.push(entry.clone());
            }
            Entry::Requested { seq, .. } if gone.contains(seq) => dropped.push(entry.clone()),
            // A request that was cancelled since is open again.
            _ => {}
        }
    }
    // The numbers of removed requests are not reused.
    if let (false, Some(seq)) = (dropped.is_empty(), after.iter().filter_map(number_after).max()) {
        let used = before.iter().chain(after).filter_map(Entry::greatest).max();
        entries.push(Entry::Rewound { seq, time: after.last().map_or(0, Entry::time), used });
    }
    (entries, dropped)
}

/// Returns the number after that of a request, or the number that a rewind set.
pub(super) fn number_after(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Requested { seq, .. } => Some(seq.saturating_add(1)),
        Entry::Rewound { seq, .. } => Some(*seq),
        _ => None,
    }
}

fn requested(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Requested { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// Whether another instance or an entity answers the request, by a message.
fn is_answered_by_others(entry: &Entry) -> bool {
    match entry {
        Entry::Requested { what, .. } => {
            what.kind() == "call" || matches!(what.effect(), Some(Effect::Lock | Effect::Wait))
        }
        _ => false,
    }
}

fn is_settled(entries: &[Entry], wanted: Option<u64>) -> bool {
    entries.iter().any(|entry| match entry {
        Entry::Answered { seq, .. } => Some(*seq) == wanted,
        _ => false,
    })
}
