//! Invariants of every simulated world, checked after each step, when an output leaves, and at the
//! end.

use std::collections::{BTreeMap, BTreeSet};

use durable::engine::{
    Address, Checkpoint, Entry, InstanceRecord, Line, Message, RecordedRequest, Status, StepId, StoredLines,
    keys, read_history, read_record,
};
use durable::kv::{MemoryTree, Read};
use durable::machine::{Data, format};

use super::sim::World;

impl World {
    /// Checks an attempt at an activity that begins: its request has no recorded answer and is not
    /// cancelled, no result of it was kept before, and the pause after the attempt before is over.
    pub(super) fn check_attempt(&self, step: &StepId, name: &str) -> Result<(), String> {
        let Address::Instance(id) = &step.owner else { return Ok(()) };
        let Some(record) = read_record(&self.durable, id)? else { return Ok(()) };
        if (record.life, record.execution) != (step.life, step.execution) {
            return Ok(());
        }
        let history = read_history(&self.durable, &record)?;
        if self.answered.contains(&StepId { round: 0, attempt: 0, ..step.clone() }) {
            return Err(format!("{name} #{} of {id} begins, though its result came and is kept", step.seq));
        }
        let failed =
            |reason: &str| Err(format!("attempt {} at {name} #{} of {id} {reason}", step.attempt, step.seq));
        for entry in history.entries.iter().filter(|entry| entry.seq() == Some(step.seq)) {
            match entry {
                Entry::Answered { .. } => return failed("begins, though its answer is recorded"),
                Entry::Cancelled { .. } => return failed("begins, though nobody waits for it"),
                Entry::Retried { again, .. } if *again > self.driver.now => {
                    return failed("begins too early");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that the request of an output that leaves is durable.
    pub(super) fn check_durable(&self, step: &StepId, name: &str) -> Result<(), String> {
        match &step.owner {
            Address::Instance(id) => {
                let record = read_record(&self.durable, id)?;
                let record = record.ok_or_else(|| format!("{name} of {id}, which is not durable"))?;
                let history = read_history(&self.durable, &record)?;
                let asked = |entry: &Entry| matches!(entry, Entry::Requested { seq, .. } if *seq == step.seq);
                let open = history.after.as_ref().map(Checkpoint::open_entries).unwrap_or_default();
                match open.iter().chain(&history.entries).any(asked) {
                    true => Ok(()),
                    false => Err(format!("{name} #{} of {id} left before it was durable", step.seq)),
                }
            }
            Address::Entity(entity) => {
                let mut key = keys::mail(&step.owner, 0);
                key.truncate(key.len() - 8);
                let mail = self.durable.all(&key).map_err(|error| error.to_string())?;
                match mail.is_empty() {
                    false => Ok(()),
                    true => Err(format!("{name} of {entity} left before its message was durable")),
                }
            }
        }
    }

    /// Checks that a line that leaves is durable, and is the next of its instance or one that
    /// leaves again.
    pub(super) fn check_line(&mut self, run: u64, line: &Line) -> Result<(), String> {
        let Some(bytes) = self.durable.tree.get(&self.driver.key(keys::lines(run))) else {
            return Err(format!("{line:?} left before it was durable"));
        };
        let instance = StoredLines::decode(bytes).ok_or("lines can't be read")?.instance;
        let (most, at) = self.out.entry(instance.clone()).or_default();
        let lines = self.durable_lines.get(&instance).map(Vec::as_slice).unwrap_or_default();
        if lines.get(*at) != Some(line) {
            // After a crash, lines that may not be out leave again, from some line on.
            *at = lines[..*most].iter().rposition(|known| known == line).ok_or_else(|| {
                format!("{line:?} of {instance} left out of turn: {at} lines before it left")
            })?;
        }
        *at += 1;
        *most = (*most).max(*at);
        Ok(())
    }

    /// Checks that an effect leaves after the lines that its instance wrote before it.
    pub(super) fn check_lines(&self, step: &StepId, name: &str) -> Result<(), String> {
        let Address::Instance(id) = &step.owner else { return Ok(()) };
        let Some(record) = read_record(&self.durable, id)? else { return Ok(()) };
        let history = read_history(&self.durable, &record)?;
        let asked = |entry: &Entry| matches!(entry, Entry::Requested { seq, .. } if *seq == step.seq);
        let Some(at) = history.entries.iter().position(asked) else { return Ok(()) };
        let is_line = |entry: &Entry| matches!(entry, Entry::Requested { what, .. } if is_line(what));
        let later = history.entries[at..].iter().filter(|entry| is_line(entry)).count();
        let recorded = self.durable_lines.get(&**id).map_or(0, Vec::len);
        let out = self.out.get(&**id).map_or(0, |(most, _)| *most);
        match out + later >= recorded {
            true => Ok(()),
            false => Err(format!(
                "{name} of {id} left before {} lines that come before it",
                recorded - later - out
            )),
        }
    }

    /// Checks that only running instances hold locks.
    pub(super) fn check_locks(&self) -> Result<(), String> {
        for (entity, hold) in self.driver.engine.holds() {
            let owner = hold.owner.instance.as_str();
            // Over several partitions, an end releases by messages, which may be on their way.
            if self.driver.engine.is_under_way(owner) || self.driver.partitions() > 1 {
                continue;
            }
            let record = read_record(&self.driver.store, owner)?;
            if record.is_none_or(|record| record.status.is_ended()) {
                return Err(format!("{entity} is held by {owner}, which does not run"));
            }
        }
        Ok(())
    }

    /// Checks the end of a run: all lines are out, and what is left in the store is right.
    pub(super) fn check_end(&self) -> Result<(), String> {
        for record in self.records() {
            let recorded = self.recorded.get(&record.id).map_or(0, Vec::len);
            let out = self.out.get(&record.id).map_or(0, |(most, _)| *most);
            if out != recorded {
                return Err(format!("{out} of the {recorded} lines of {} are out at the end", record.id));
            }
        }
        check_rest(&self.driver.store, self.driver.now)
    }
}

/// Checks what a run leaves in its store: each request has at most one answer, nothing can go on,
/// and ended instances leave no locks, messages or index entries.
pub fn check_rest(store: &MemoryTree, now: i64) -> Result<(), String> {
    for record in all_records(store) {
        let history = read_history(store, &record)?;
        let mut answered = BTreeSet::new();
        for entry in &history.entries {
            if let Entry::Answered { seq, .. } = entry
                && !answered.insert(*seq)
            {
                return Err(format!("request {seq} of {} was answered twice", record.id));
            }
        }
        for entry in &history.entries {
            if let Entry::Cancelled { seq, .. } = entry {
                answered.insert(*seq);
            }
        }
        let open = history.entries.iter().filter(|entry| match entry {
            Entry::Requested { seq, what, .. } => {
                !answered.contains(seq) && *what != RecordedRequest::Effect("receive".into())
            }
            _ => false,
        });
        let has_begun = !history.entries.is_empty();
        if record.status == Status::Running && (!has_begun || open.count() > 0) {
            return Err(format!("{} can go on, and nobody lets it", record.id));
        }
        if let Status::Scheduled { due, suspended: false } = record.status
            && due <= now
        {
            return Err(format!("{} is to begin, and nobody lets it", record.id));
        }
        if record.status.is_ended() && store.tree.contains_key(&keys::active(&record.id)) {
            return Err(format!("{} has ended and is in the index of active instances", record.id));
        }
    }
    check_rest_of_locks(store)?;
    check_rest_of_mail(store)
}

fn check_rest_of_locks(store: &MemoryTree) -> Result<(), String> {
    for (key, _) in store.all(keys::LOCKS).map_err(|error| error.to_string())? {
        let entity = keys::parse_entity_key(&key).ok_or("a lock's key")?;
        let hold = durable::engine::Hold::decode(&store.tree[&key]).ok_or("a lock's holder")?;
        let owner = read_record(store, &hold.owner.instance)?;
        if owner.is_none_or(|owner| owner.status.is_ended()) {
            return Err(format!("{entity} is held at the end by {}, which has ended", hold.owner.instance));
        }
    }
    Ok(())
}

fn check_rest_of_mail(store: &MemoryTree) -> Result<(), String> {
    for (key, bytes) in store.all(keys::MAIL).map_err(|error| error.to_string())? {
        let (to, _) = keys::parse_mail(&key).ok_or("a message's key")?;
        let mail = durable::engine::StoredMail::decode(&bytes).ok_or("a message")?;
        let left = match (&to, &mail.message) {
            // Allowed are events that nobody has received, messages that a rewound instance may
            // need, and delayed signals.
            (Address::Instance(id), message) => {
                let kept = matches!(message, Message::Answer { .. } | Message::Event { .. });
                read_record(store, id)?.is_some_and(|record| match record.status {
                    Status::Running | Status::Suspended | Status::Scheduled { .. } => true,
                    Status::Failed(_) => kept,
                    Status::Terminated(_) => kept && record.parent.is_some(),
                    Status::Completed(_) => false,
                })
            }
            (Address::Entity(_), Message::Signal { due, .. }) => *due > 0,
            _ => false,
        };
        if !left {
            return Err(format!("a message for {to} is left: {:?}", mail.message));
        }
    }
    Ok(())
}

/// Returns all instances of a store.
pub fn all_records(store: &MemoryTree) -> Vec<InstanceRecord> {
    let all = store.all(keys::INSTANCES).expect("memory can be read");
    all.iter().filter_map(|(_, bytes)| InstanceRecord::decode(bytes)).collect()
}

/// Returns the states of all entities of a store, for people.
pub fn all_entities(store: &MemoryTree) -> BTreeMap<String, String> {
    let all = store.all(keys::ENTITIES).expect("memory can be read");
    let shown = |(key, state): (Vec<u8>, Vec<u8>)| {
        let entity = keys::parse_entity_key(&key).expect("an entity's key");
        (entity.to_string(), format::display(&Data(state).decode()))
    };
    all.into_iter().map(shown).collect()
}

fn is_line(what: &RecordedRequest) -> bool {
    matches!(what, RecordedRequest::Effect(name) if name == "print" || name == "log")
}
