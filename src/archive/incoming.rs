//! The keys and values of an import, and the checks before they are written: each key has one
//! value, the store has no other value, and nothing is incomplete.

use std::collections::BTreeMap;

use crate::code::{ProgramHash, modules_hash};
use crate::engine::{
    Address, ClientCall, Deployed, Function, Hold, InstanceRecord, Kept, KeptRange, StoredProgram, keys,
    read_history,
};
use crate::kv::{Batch, Read, StoreError, Visit, first_of, overlay};
use crate::machine::EntityId;

use super::error::Refusal;

/// A key with its new value.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// A value, and the number of its line.
struct Line {
    value: Vec<u8>,
    number: usize,
}

/// The keys and values of the lines that were read.
#[derive(Default)]
pub struct Incoming {
    lines: BTreeMap<Vec<u8>, Line>,
}

impl Incoming {
    /// Adds the key and value of a line. A key may occur twice with the same value, as in two
    /// exports of one store one after another.
    pub(super) fn add(&mut self, key: Vec<u8>, value: Vec<u8>, number: usize) -> Result<(), Refusal> {
        match self.lines.get(&key) {
            Some(known) if known.value == value => Ok(()),
            // Time and the number of lives only grow.
            Some(known) if grows(&key) && known.value > value => Ok(()),
            Some(known) if !grows(&key) => {
                let what = named(&key);
                let reason = format!("it says something else of {what} than line {}", known.number);
                Err(Refusal { line: Some(number), reason })
            }
            _ => {
                self.lines.insert(key, Line { value, number });
                Ok(())
            }
        }
    }

    /// Returns the number of instances.
    pub fn instances(&self) -> usize {
        self.lines.keys().filter(|key| key.starts_with(keys::INSTANCES)).count()
    }

    /// Removes incomplete entries, and then everything that needs a removed entry. Returns the
    /// reasons for the removals.
    pub fn leave_out(&mut self, store: &dyn Read) -> Vec<Refusal> {
        let mut left_out = Vec::new();
        loop {
            let view = View { incoming: self, store };
            let incomplete = self.lines.iter().filter_map(|(key, line)| {
                let reason = view.complete(key, &line.value).err()?;
                Some((key.clone(), Refusal { line: Some(line.number), reason }))
            });
            let incomplete: Vec<(Vec<u8>, Refusal)> = incomplete.collect();
            if incomplete.is_empty() {
                return left_out;
            }
            for (key, refusal) in incomplete {
                // The history of an instance is removed with it.
                if let Some(id) = key.strip_prefix(keys::INSTANCES) {
                    let history = keys::history(&String::from_utf8_lossy(id));
                    let former = keys::formers(&String::from_utf8_lossy(id));
                    for prefix in [history, former] {
                        let below = self.lines.range(prefix.clone()..).map(|(key, _)| key);
                        let below: Vec<Vec<u8>> =
                            below.take_while(|key| key.starts_with(&prefix)).cloned().collect();
                        for key in below {
                            self.lines.remove(&key);
                        }
                    }
                    for prefix in [keys::CHECKPOINTS, keys::ACTIVE] {
                        self.lines.remove(&[prefix, id].concat());
                    }
                }
                self.lines.remove(&key);
                left_out.push(refusal);
            }
        }
    }

    /// Returns the batch that writes everything into a store. Refuses existing instances, keys that
    /// the store has with another value, and incomplete entries.
    pub fn batch(&self, store: &dyn Read) -> Result<Batch, Refusal> {
        let mut batch = Batch::default();
        let known =
            |key: &[u8]| store.get(key).map_err(|error| Refusal { line: None, reason: error.to_string() });
        let refused = |line: &Line, reason: String| Refusal { line: Some(line.number), reason };
        for (key, line) in self.lines.iter().filter(|(key, _)| key.starts_with(keys::INSTANCES)) {
            if known(key)?.is_some() {
                return Err(refused(line, format!("the store has {} already", named(key))));
            }
        }
        for (key, line) in &self.lines {
            match known(key)? {
                Some(known) if known == line.value => {}
                Some(known) if grows(key) && known >= line.value => {}
                _ if key == keys::KEEPS_OPERATIONS => {}
                Some(_) if !grows(key) => {
                    let what = named(key);
                    return Err(refused(line, format!("the store has another value of {what} already")));
                }
                _ => batch.put(key.clone(), line.value.clone()),
            }
        }
        let view = View { incoming: self, store };
        let keeps = view.keeps().map_err(|error| Refusal { line: None, reason: error.to_string() })?;
        batch.writes.extend(keeps);
        for (key, line) in &self.lines {
            view.complete(key, &line.value).map_err(|reason| refused(line, reason))?;
        }
        let places = self.places(store, &batch);
        batch.writes.extend(places.map_err(|error| Refusal { line: None, reason: error.to_string() })?);
        Ok(batch)
    }

    /// Returns the places of the answers to clients that a batch writes, after those of the store.
    fn places(&self, store: &dyn Read, batch: &Batch) -> Result<Vec<Write>, StoreError> {
        let new = batch.writes.iter().filter_map(|(key, value)| {
            let id = std::str::from_utf8(key.strip_prefix(keys::CALLS)?).ok()?;
            let bytes = value.as_ref()?;
            let call = ClientCall::decode(bytes).filter(|call| call.answer.is_some())?;
            Some((call.asked, id.to_string(), bytes.len() as u64))
        });
        let mut new: Vec<(i64, String, u64)> = new.collect();
        new.sort();
        let mut next = 0;
        store.scan(keys::ANSWERS, &mut |key, _| {
            next = keys::parse_answer(key).map_or(next, |number| next.max(number + 1));
            true
        })?;
        let place = |((_, id, bytes), number): ((i64, String, u64), u64)| {
            (keys::answer(number), Some(Kept { number, id, bytes }.encode()))
        };
        Ok(new.into_iter().zip(next..).map(place).collect())
    }
}

/// A store as it will be after the import.
struct View<'a> {
    incoming: &'a Incoming,
    store: &'a dyn Read,
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.incoming.lines.get(key) {
            Some(line) => Ok(Some(line.value.clone())),
            None => self.store.get(key),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let coming = self.incoming.lines.range(first_of(prefix, from).to_vec()..);
        let coming = coming.take_while(|(key, _)| key.starts_with(prefix));
        let above = coming.map(|(key, line)| (key, Some(&line.value)));
        overlay(above, |visit| self.store.scan_from(prefix, from, visit), visit)
    }
}

impl View<'_> {
    /// Returns the write that says since when the store keeps operations, if it does and the import
    /// has any. What the file does not have may have changed the imported entities before.
    fn keeps(&self) -> Result<Option<Write>, StoreError> {
        let lines = &self.incoming.lines;
        let has_kept = lines.keys().any(|key| key.starts_with(keys::KEPT) || key == keys::KEEPS_OPERATIONS);
        if !has_kept || self.get(keys::KEEPS_OPERATIONS)?.is_none() {
            return Ok(None);
        }
        let times = [self.store.get(keys::TIME)?, lines.get(keys::TIME).map(|line| line.value.clone())];
        let time = times.into_iter().flatten().max().unwrap_or_default();
        Ok(Some((keys::KEEPS_OPERATIONS.to_vec(), Some(time))))
    }

    /// Checks that everything that a key needs is there.
    fn complete(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(hash) = key.strip_prefix(keys::PROGRAMS) {
            return self.whole_program(hash, value);
        }
        if key.starts_with(keys::INSTANCES) {
            let unreadable = || format!("the record of {} is not readable", named(key));
            let record = InstanceRecord::decode(value).ok_or_else(unreadable)?;
            self.needs_program(&record.program.0, &format!("instance `{}`", record.id))?;
            read_history(self, &record)?;
        } else if let Some((id, program)) = keys::parse_former(key) {
            self.needs_instance(id, "a former program")?;
            self.needs_program(&program.0, &format!("instance `{id}`"))?;
        } else if let Some((id, _)) = keys::parse_chunk(key) {
            self.needs_instance(id, "a part of the history")?;
        } else if let Some(id) = key.strip_prefix(keys::CHECKPOINTS) {
            self.needs_instance(&String::from_utf8_lossy(id), "a checkpoint")?;
        } else if let Some(id) = key.strip_prefix(keys::ACTIVE) {
            let id = String::from_utf8_lossy(id);
            // An instance that is about to begin has no record, but a message.
            if self.all(&keys::mail_of(&Address::instance(&id)))?.is_empty() {
                self.needs_instance(&id, "the root")?;
            }
        } else if let Some(name) = key.strip_prefix(keys::DEPLOYED) {
            let deployed =
                Deployed::decode(value).ok_or_else(|| format!("{} is not readable", named(key)))?;
            self.needs_program(&deployed.program.0, &format!("entity {}", String::from_utf8_lossy(name)))?;
        } else if let Some(name) = key.strip_prefix(keys::FUNCTIONS) {
            let function =
                Function::decode(value).ok_or_else(|| format!("{} is not readable", named(key)))?;
            self.needs_program(&function.program.0, &format!("function {}", String::from_utf8_lossy(name)))?;
        } else if let Some(entity) = keys::parse_kept(key) {
            self.whole_operations(&entity, value)?;
        } else if let Some((entity, number)) = keys::parse_operation(key) {
            let kept = self.get(&keys::kept(&entity))?.and_then(|bytes| KeptRange::decode(&bytes));
            if !kept.is_some_and(|kept| (kept.first()..kept.next()).contains(&number)) {
                return Err(format!("{} is in no list of kept operations", named(key)));
            }
        } else if key.starts_with(keys::LOCKS) {
            let hold = Hold::decode(value).ok_or_else(|| format!("{} is not readable", named(key)))?;
            self.needs_instance(&hold.owner.instance, "a lock")?;
        }
        Ok(())
    }

    /// Checks that the kept operations of an entity are there, with their programs.
    fn whole_operations(&self, entity: &EntityId, value: &[u8]) -> Result<(), String> {
        let unreadable = || format!("the list of the operations of `{entity}` is not readable");
        let kept = KeptRange::decode(value).ok_or_else(unreadable)?;
        for program in kept.programs() {
            self.needs_program(&program.0, &format!("operations of `{entity}`"))?;
        }
        let mut expected = kept.first();
        self.scan(&keys::operations(entity), &mut |key, _| {
            let is_next = keys::parse_operation(key).is_some_and(|(_, number)| number == expected);
            expected += u64::from(is_next);
            is_next
        })?;
        match expected == kept.next() {
            true => Ok(()),
            false => {
                Err(format!("operation {expected} of `{entity}` is neither in the file nor in the store"))
            }
        }
    }

    fn needs_instance(&self, id: &str, what: &str) -> Result<(), String> {
        match self.get(&keys::instance(id))? {
            Some(_) => Ok(()),
            None => {
                Err(format!("it is {what} of instance `{id}`, which is neither in the file nor in the store"))
            }
        }
    }

    fn needs_program(&self, hash: &[u8; 32], whose: &str) -> Result<(), String> {
        match self.get(&keys::program(hash))? {
            Some(_) => Ok(()),
            None => {
                let hash = ProgramHash(*hash);
                Err(format!("the program {hash} of {whose} is neither in the file nor in the store"))
            }
        }
    }

    /// Checks that the texts of a program are there, and that they have the program's hash.
    fn whole_program(&self, hash: &[u8], value: &[u8]) -> Result<(), String> {
        let shown = hex::encode(&hash[..hash.len().min(8)]);
        let program =
            StoredProgram::decode(value).ok_or_else(|| format!("program {shown} is not readable"))?;
        let mut modules = Vec::new();
        for (name, text) in &program.modules {
            let missing =
                || format!("the text of {name}, of program {shown}, is neither in the file nor in the store");
            let bytes = self.get(&keys::text(text))?.ok_or_else(missing)?;
            let text = String::from_utf8(bytes).map_err(|_| format!("the text of {name} is not readable"))?;
            modules.push((name.clone(), text));
        }
        let is_right =
            modules_hash(modules.iter().map(|(name, text)| (name.as_str(), text.as_str()))).0 == *hash;
        if is_right { Ok(()) } else { Err(format!("program {shown} has other texts than it had")) }
    }
}

/// Whether the value of a key only grows. Of two values the greater counts.
fn grows(key: &[u8]) -> bool {
    key == keys::TIME || key == keys::LIFE
}

/// Describes a key for people.
fn named(key: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Some((id, number)) = keys::parse_chunk(key) {
        return format!("part {number} of the history of `{id}`");
    }
    if let Some((id, program)) = keys::parse_former(key) {
        return format!("the former program {program} of `{id}`");
    }
    if let Some((to, number)) = keys::parse_mail(key) {
        return format!("message {number} for `{to}`");
    }
    if let Some(entity) = keys::parse_entity_key(key) {
        let what = if key.starts_with(keys::LOCKS) { "the lock" } else { "the state" };
        return format!("{what} of `{entity}`");
    }
    if let Some((entity, number)) = keys::parse_operation(key) {
        return format!("operation {number} of `{entity}`");
    }
    if let Some(entity) = keys::parse_kept(key) {
        return format!("the list of the operations of `{entity}`");
    }
    if let Some(entity) = keys::parse_version(key) {
        return format!("the version of the state of `{entity}`");
    }
    let kinds = [
        (keys::INSTANCES, "an instance"),
        (keys::CHECKPOINTS, "the checkpoint of"),
        (keys::ACTIVE, "the root of"),
        (keys::DEPLOYED, "the program of entity"),
        (keys::FUNCTIONS, "the deployed function"),
        (keys::CALLS, "the call"),
    ];
    for (prefix, what) in kinds {
        if let Some(id) = key.strip_prefix(prefix) {
            return format!("{what} `{}`", text(id));
        }
    }
    if key.starts_with(keys::PROGRAMS) {
        return "a program".into();
    }
    if key.starts_with(keys::TEXTS) {
        return "a text".into();
    }
    match keys::parse_lines(key) {
        Some(number) => format!("the lines of number {number}"),
        None => format!("`{}`", text(key)),
    }
}
