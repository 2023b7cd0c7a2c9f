//! Purging: the removal of ended instances, and of programs that nothing uses.

use std::collections::HashSet;

use crate::kv::{Batch, Read};
use crate::machine::{EntityId, HEAD, child_id};

use super::address::{Address, LifeId, Waiter};
use super::fault::{self, Fault};
use super::kept::KeptRange;
use super::message::{Message, StoredMail};
use super::read_error::ReadError;
use super::reads::{Deployed, read_history, read_lines};
use super::record::InstanceRecord;
use super::section::section_in;
use super::{StoredProgram, keys};

/// The instances that are purged together: the given ones, and the instances that they called or
/// started under automatic ids, recursively.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub records: Vec<InstanceRecord>,
    /// The writes that remove the instances, with their histories and checkpoints.
    pub writes: Batch,
    /// The entities that instances hold or ask for which are given up, each with the request.
    pub(super) sections: Vec<(Waiter, Vec<EntityId>)>,
}

impl Tree {
    /// Reads the trees of the given instances that exist. Errors are reasons in words.
    pub fn read(store: &dyn Read, roots: &[String]) -> Result<Tree, ReadError> {
        let mut tree = Tree::default();
        let mut seen = HashSet::new();
        for id in roots {
            if let Some(root) = super::read_record(store, id)?
                && seen.insert(root.id.clone())
            {
                let candidates = candidates(store, id)?;
                tree.records.push(root);
                let mut at = tree.records.len() - 1;
                while let Some(member) = tree.records.get(at).cloned() {
                    let owned = candidates.iter().filter(|record| is_owned(record, &member));
                    tree.records.extend(owned.filter(|record| seen.insert(record.id.clone())).cloned());
                    at += 1;
                }
            }
        }
        for (number, run) in read_lines(store)? {
            if tree.records.iter().any(|record| record.id == run.instance) {
                tree.writes.delete(keys::lines(number));
            }
        }
        for record in &tree.records {
            let id = &record.id;
            for (key, _) in store.all(&keys::history(id))? {
                tree.writes.delete(key);
            }
            // Answers and events are kept for the case that the instance is rewound.
            for (key, bytes) in store.all(&keys::mail_of(&Address::instance(id)))? {
                let mail = StoredMail::decode(&bytes).ok_or("a message in the store is not readable")?;
                if matches!(mail.message, Message::Answer { .. } | Message::Event { .. }) {
                    tree.writes.delete(key);
                }
            }
            for (key, _) in store.all(&keys::formers(id))? {
                tree.writes.delete(key);
            }
            for key in [keys::checkpoint(id), keys::active(id)] {
                if store.get(&key)?.is_some() {
                    tree.writes.delete(key);
                }
            }
            tree.writes.delete(keys::instance(id));
        }
        Ok(tree)
    }

    /// Reads what the instances hold that are given up. The partitions of these entities are told
    /// of the end.
    pub fn read_sections(&mut self, store: &dyn Read) -> Result<(), ReadError> {
        for record in self.records.iter().filter(|record| !record.status.is_ended()) {
            let history = read_history(store, record)?;
            self.sections.extend(
                section_in(record, None, history.entries.iter()).and_then(|(asked, set)| Some((asked?, set))),
            );
        }
        Ok(())
    }

    /// Leaves out all instances but those that are meant.
    pub(super) fn keep(&mut self, is_meant: impl Fn(&str) -> bool) {
        self.records.retain(|record| is_meant(&record.id));
        self.writes.writes.retain(|(key, _)| keys::instance_of(key).is_none_or(|id| is_meant(&id)));
    }

    /// Whether an instance is in the tree.
    pub fn has(&self, of: &LifeId) -> bool {
        self.records.iter().any(|record| record.id == of.id && record.life == of.life)
    }
}

/// Returns the instances that may have automatic ids of the tree of an instance. Such ids begin
/// with the same characters as its own id.
pub(super) fn candidates(store: &dyn Read, id: &str) -> Result<Vec<InstanceRecord>, ReadError> {
    let head: String = id.chars().take(HEAD).collect();
    let mut records = Vec::new();
    for (_, bytes) in store.all(&keys::instance(&head))? {
        let record = InstanceRecord::decode(&bytes).ok_or("the record of an instance is not readable")?;
        if record.id.contains(':') {
            records.push(record);
        }
    }
    Ok(records)
}

/// Whether an instance called or started another under an automatic id.
fn is_owned(record: &InstanceRecord, by: &InstanceRecord) -> bool {
    match &record.owner {
        _ if fault::is_in(Fault::PurgeLeavesChildren) => false,
        Some(owner) => owner.id == by.id && owner.life == by.life,
        // Instances from before owners were recorded are recognized by the form of their ids.
        None => {
            record.life == 0 && by.life == 0 && record.root == by.root && is_earlier_child(&record.id, by)
        }
    }
}

/// Whether an id has the form of a child's id, for instances from before owners were recorded.
pub(super) fn is_earlier_child(id: &str, by: &InstanceRecord) -> bool {
    let Some((parent, number)) = id.rsplit_once(':') else { return false };
    let Ok(number) = number.parse::<u64>() else { return false };
    let later = |execution: u32| child_id(&format!("{}.{execution}", by.id), number);
    child_id(&by.id, number) == id
        || parent.starts_with(&format!("{}-{:x}", by.id, by.created))
        || (1..=by.execution).any(|execution| later(execution) == id)
}

/// Returns the writes that remove programs that no instance, entity or deployed function needs, and
/// texts without programs. Errors are reasons in words. In a store of several partitions, another
/// partition may be about to use a program that nothing uses yet, so nothing is removed there.
pub fn unused_programs(store: &dyn Read) -> Result<Batch, ReadError> {
    let mut used: HashSet<Vec<u8>> = HashSet::new();
    for (_, bytes) in store.all(keys::INSTANCES)? {
        let record = InstanceRecord::decode(&bytes).ok_or("the record of an instance is not readable")?;
        used.insert(keys::program(&record.program.0));
    }
    for (_, bytes) in store.all(keys::DEPLOYED)? {
        let deployed = Deployed::decode(&bytes).ok_or("the program of an entity is not readable")?;
        used.insert(keys::program(&deployed.program.0));
    }
    for (key, _) in store.all(keys::FORMERS)? {
        used.extend(keys::parse_former(&key).map(|(_, program)| keys::program(&program.0)));
    }
    for (_, bytes) in store.all(keys::KEPT)? {
        let kept = KeptRange::decode(&bytes).ok_or("the list of an entity's operations is not readable")?;
        used.extend(kept.programs().map(|program| keys::program(&program.0)));
    }
    for (_, function) in super::functions(store)? {
        used.insert(keys::program(&function.program.0));
    }
    for (_, mail) in super::read_mail(store)?.into_iter().map(|(to, _, mail)| (to, mail)) {
        if let super::Message::Begin(record, _) = mail.message {
            used.insert(keys::program(&record.program.0));
        }
    }
    let mut batch = Batch::default();
    let mut texts: HashSet<Vec<u8>> = HashSet::new();
    for (key, bytes) in store.all(keys::PROGRAMS)? {
        if !used.contains(&key) {
            batch.delete(key);
        } else {
            let program = StoredProgram::decode(&bytes).ok_or("a program of an instance is not readable")?;
            texts.extend(program.modules.iter().map(|(_, text)| keys::text(text)));
        }
    }
    for (key, _) in store.all(keys::TEXTS)? {
        if !texts.contains(&key) {
            batch.delete(key);
        }
    }
    Ok(batch)
}
