//! Instances whose programs grow while they wait, and the way back: the sessions of the prompt.
//!
//! The longer program must do the same up to where the instance waits. Otherwise its replay does
//! not fit the history, which is nondeterminism.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::Effect;
use crate::kv::Batch;
use crate::machine::Image;

use super::address::Address;
use super::entry::Entry;
use super::history::{Chunk, History};
use super::keys;
use super::record::{InstanceRecord, Status};
use super::step::Engine;

impl Engine {
    /// Lets an instance that waits go on with a longer program. `history` is its whole history. The
    /// replay happens here, at once, so that later arrivals find the instance where it was. The
    /// error says why the instance can't go on.
    pub fn extend(&mut self, id: &str, image: &Rc<Image>, history: History, now: i64) -> Result<(), String> {
        self.scheduler.now = now;
        let known = self.residents.get(id).filter(|instance| instance.is_at_rest());
        let known = known.ok_or_else(|| format!("{id} does not wait"))?;
        let next = known.extended(image, history)?;
        self.deploy(image, &next.record.permissions);
        let id: Arc<str> = id.into();
        self.residents.instances.insert(id.clone(), Box::new(next));
        self.active.insert(id.clone());
        self.changed.push(id.clone());
        while self.residents.get(&id).is_some_and(|instance| !instance.is_live()) {
            self.run_instance(&id, now);
        }
        self.wake(&id);
        Ok(())
    }

    /// Whether an instance is neither under way nor about to be.
    pub fn is_gone(&self, id: &str) -> bool {
        !self.is_under_way(id) && !self.wanted.has(&Address::instance(id))
    }

    /// Whether an instance in memory waits. Some of its entries may not be written yet.
    pub fn is_waiting(&self, id: &str) -> bool {
        self.residents.get(id).is_some_and(|instance| instance.waits())
    }

    /// Returns the status that an instance in memory has set, or `None` if it has set none or is
    /// not in memory.
    pub fn says(&self, id: &str) -> Option<&crate::machine::Data> {
        self.residents.get(id)?.record.custom.as_ref()
    }
}

/// An undo: the writes that take an instance back, and the requests that they remove.
pub struct Cut {
    pub batch: Batch,
    /// The removed requests, in order.
    pub dropped: Vec<Entry>,
}

/// Returns the writes that take an instance back to where it waited for an event, with its program
/// and its status of that time. Answers to earlier requests stay. The error says why this is
/// impossible.
pub fn cut(
    record: &InstanceRecord,
    history: &History,
    event: &str,
    earlier: InstanceRecord,
) -> Result<Cut, String> {
    if history.after.is_some() {
        return Err("its history is kept only since its last checkpoint".into());
    }
    let waits = |entry: &Entry| match entry {
        Entry::Requested { what, args, .. } => {
            what.effect() == Some(Effect::Receive) && args.describe() == format!("{event:?}")
        }
        _ => false,
    };
    let at = history.entries.iter().rposition(waits).ok_or_else(|| format!("it never waited for {event}"))?;
    let (before, after) = history.entries.split_at(at + 1);
    let asked = |entries: &[Entry]| -> BTreeSet<u64> { entries.iter().filter_map(requested).collect() };
    let (kept, gone) = (asked(before), asked(after));
    let own = requested(&before[at]);
    if let Some(open) =
        after.iter().find(|entry| is_answered_by_others(entry) && !is_settled(after, requested(entry)))
    {
        return Err(format!("an answer to {} may still come", described(open)));
    }
    let mut entries = before.to_vec();
    let mut dropped = Vec::new();
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
    let numbers = |entry: &Entry| match entry {
        Entry::Requested { seq, .. } => Some(seq + 1),
        Entry::Rewound { seq, .. } => Some(*seq),
        _ => None,
    };
    if let (false, Some(seq)) = (dropped.is_empty(), after.iter().filter_map(numbers).max()) {
        entries.push(Entry::Rewound { seq, time: after.last().map_or(0, Entry::time) });
    }
    let mut batch = Batch::default();
    for number in record.first..record.chunks.max(history.chunks) {
        batch.delete(keys::chunk(&record.id, number));
    }
    let mut record = InstanceRecord { program: earlier.program, custom: earlier.custom, ..record.clone() };
    (record.status, record.ended) = (Status::Running, None);
    record.first = history.chunks;
    let (bytes, _) = Chunk::encode(entries, 0);
    batch.put(keys::chunk(&record.id, record.first), bytes);
    batch.put(keys::instance(&record.id), record.encode());
    batch.put(keys::active(&record.id), record.root.clone().into_bytes());
    batch.delete(keys::checkpoint(&record.id));
    Ok(Cut { batch, dropped })
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

/// Describes a request for people.
pub fn described(entry: &Entry) -> String {
    match entry {
        Entry::Requested { what, args, .. } => super::open::describe(what, args),
        _ => String::new(),
    }
}
