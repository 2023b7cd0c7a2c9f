//! Going back to before a failed step.

use std::collections::BTreeSet;

use super::history::{Asked, Chunk, Entry, History};
use super::record::{InstanceRecord, Status};
use super::{Batch, keys};

/// The writes that let a failed instance go back to before the step whose error ended it: that step is open again,
/// and what came after it is as if it had not been. Errors are reasons in words.
pub fn rewind(record: &InstanceRecord, history: &History) -> Result<Batch, String> {
    let Status::Failed(error) = &record.status else {
        return Err(format!("{} has not failed: it is {}", record.id, record.status.word()));
    };
    if history.after.is_some() {
        return Err(format!(
            "{} keeps its history only since its last checkpoint, and so can't go back",
            record.id
        ));
    }
    let failed = |entry: &Entry| matches!(entry, Entry::Answered { result: Err(answer), .. } if answer.value == error.value);
    let Some(at) = history.entries.iter().rposition(failed) else {
        return Err(format!(
            "{} failed by itself, and not by a step: it would fail again in the same way",
            record.id
        ));
    };
    let mut kept = history.entries[..at].to_vec();
    // Within a critical section the entities are not held any more; it has to begin anew, if that changes nothing.
    if let Some(lock) = open_section(&kept) {
        let called = kept[lock + 1..]
            .iter()
            .any(|entry| matches!(entry, Entry::Requested { what: Asked::Operation { .. }, .. }));
        if called {
            return Err(format!(
                "{} failed within a critical section that had called its entities already",
                record.id
            ));
        }
        kept.truncate(lock);
    }
    let Entry::Answered { seq, .. } = history.entries[at] else { return Err("no answer".into()) };
    // A failed activity is tried anew, not where its attempts had come to.
    let open: BTreeSet<u64> = open_requests(&kept);
    kept.retain(|entry| !matches!(entry, Entry::Retried { seq, .. } if open.contains(seq)));
    let mut batch = Batch::default();
    for number in record.first..record.chunks {
        batch.delete(keys::chunk(&record.id, number));
    }
    let mut record = record.clone();
    record.status = Status::Running;
    record.ended = None;
    record.first = record.chunks;
    record.rewound = open.contains(&seq).then_some(seq).into_iter().collect();
    if !kept.is_empty() {
        let (bytes, _) = Chunk::encode(kept, 0);
        batch.put(keys::chunk(&record.id, record.first), bytes);
    }
    batch.put(keys::instance(&record.id), record.encode());
    batch.put(keys::active(&record.id), record.root.clone().into_bytes());
    Ok(batch)
}

fn open_requests(entries: &[Entry]) -> BTreeSet<u64> {
    let mut open = BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::Requested { seq, .. } => {
                open.insert(*seq);
            }
            Entry::Answered { seq, .. } | Entry::Cancelled { seq, .. } => {
                open.remove(seq);
            }
            _ => {}
        }
    }
    open
}

/// Where the critical section was asked for that the last of these entries is in.
fn open_section(entries: &[Entry]) -> Option<usize> {
    let mut section = None;
    for (at, entry) in entries.iter().enumerate() {
        if let Entry::Requested { what: Asked::Effect(name), .. } = entry {
            match name.as_str() {
                "lock" => section = Some(at),
                "unlock" => section = None,
                _ => {}
            }
        }
    }
    section
}
