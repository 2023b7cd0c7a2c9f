//! Purging within the engine, and instances that replace ended ones.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::kv::Batch;
use crate::machine::{Data, ErrorData, Value};

use super::address::{Address, LifeId};
use super::events::Output;
use super::keys;
use super::known::{Known, known_id, not_ended};
use super::message::{Mail, Message};
use super::purge::Tree;
use super::record::{InstanceRecord, Status};
use super::run::UNREAD;
use super::step::Engine;

impl Engine {
    /// Returns the ids of a tree's instances that have not ended: first those in the store, then
    /// those that are not there yet.
    pub fn unfinished(&self, tree: &Tree) -> Vec<String> {
        let running = tree.records.iter().filter(|record| !record.status.is_ended());
        running.map(|record| record.id.clone()).chain(self.begun_by(tree)).collect()
    }

    /// Returns the ids of instances that the tree's instances own, and that are not in the store or
    /// have not begun.
    fn begun_by(&self, tree: &Tree) -> Vec<String> {
        let mut found: Vec<LifeId> = Vec::new();
        let is_new = |id: &str| !tree.records.iter().any(|record| record.id == id);
        loop {
            let owned = |record: &InstanceRecord| {
                record.owner.as_ref().is_some_and(|owner| tree.has(owner) || found.contains(owner))
            };
            let in_memory = self.residents.instances.values().map(|instance| &instance.record);
            let waiting = self.residents.mailboxes.values().flat_map(|mailbox| mailbox.iter());
            let waiting = waiting.filter_map(|mail| match &mail.message {
                Message::Begin(record, _) => Some(&**record),
                _ => None,
            });
            let next = in_memory.chain(waiting).find(|record| {
                is_new(&record.id) && owned(record) && !found.iter().any(|known| known.id == record.id)
            });
            match next {
                Some(record) => found.push(record.life_id()),
                None => break,
            }
        }
        let mut ids: Vec<String> = found.into_iter().map(|found| found.id).collect();
        ids.sort();
        ids
    }

    /// Removes instances. Messages under way to them are answered as after their end. Instances
    /// that begin under their ids from now on have another life.
    ///
    /// Instances of other partitions stay. They are trees of their own from now on.
    pub(super) fn purge(&mut self, mut tree: Tree) {
        if self.placement.is_some() {
            tree.keep(|id| self.is_here(id));
        }
        for (asked, set) in std::mem::take(&mut tree.sections) {
            self.withdraw_spread(&asked, &set);
        }
        for record in &tree.records {
            let id: Arc<str> = record.id.as_str().into();
            self.residents.instances.remove(&id);
            self.purged.insert(id.clone());
            self.left(&id);
            self.scheduler.clear_timer(&id, UNREAD);
            self.set_aside.remove(&id);
            self.release_lives(&id, None);
            self.programs.drop_unbegun(&record.id);
            let record = &purged(record);
            if let (false, Some(result)) = (record.waiters.is_empty(), record.status.result(&id)) {
                self.tell_waiters(record, result);
            }
            for mail in self.residents.mailboxes.remove(&id).unwrap_or_default().drain() {
                // A message that begins a replacement still begins it.
                match replaces(&mail, record) {
                    true => self.residents.mailbox(&id).put(mail),
                    false => self.refuse_ended(&id, &mail, record),
                }
            }
        }
        // Mail that was kept for a rewind of these instances is not kept any more.
        let ids: HashSet<&str> = tree.records.iter().map(|record| record.id.as_str()).collect();
        let is_of_them = |key: &[u8]| match keys::parse_mail(key) {
            Some((Address::Instance(id), _)) => ids.contains(&*id),
            _ => false,
        };
        self.batch.writes.retain(|(key, value)| value.is_none() || !is_of_them(key));
        self.batch.writes.extend(tree.writes.writes);
        self.life += 1;
        self.batch.put(keys::LIFE.to_vec(), self.life.to_be_bytes().to_vec());
    }

    /// Removes programs and texts that nothing uses.
    pub(super) fn collect(&mut self, unused: Batch) {
        assert!(self.placement.is_none(), "a partition does not know what others use");
        self.programs.collect(unused, &mut self.batch);
    }

    /// Sends the result to all that wait for a purged instance.
    fn tell_waiters(&mut self, record: &InstanceRecord, result: Result<Data, ErrorData>) {
        for (number, waiter) in record.waiters.iter().enumerate() {
            let (life, execution, seq) = (waiter.life, waiter.execution, waiter.seq);
            let message = Message::Answer { life, execution, seq, result: result.clone() };
            let from = format!("{}-{:x}.{:x}-purged.{number}", record.id, record.created, record.life);
            let to = Address::instance(&waiter.instance);
            self.send(to, from, record.root.as_str().into(), None, message);
        }
    }

    /// Lets an instance replace an ended one, once the end is in the store.
    pub(super) fn replace_later(&mut self, id: &Arc<str>, mail: &Rc<Mail>) {
        self.residents.mailbox(id).put(mail.clone());
        self.ending.push(id.clone());
    }

    /// Asks for the tree of an ended instance, as the store has it, to replace the instance. All
    /// mail for it waits meanwhile.
    pub(super) fn begin_to_replace(&mut self, id: &Arc<str>) {
        if self.replacing.insert(id.clone()) {
            self.outputs.push(Output::Tree { id: id.to_string() });
        }
    }

    /// Replaces an ended instance, whose tree was read. The replacement is refused if an instance
    /// of the tree has not ended.
    pub(super) fn replace(&mut self, id: &str, tree: Tree, now: i64) {
        let id: Arc<str> = id.into();
        self.replacing.remove(&id);
        let in_memory = |record: &InstanceRecord| self.residents.get(record.id.as_str());
        if tree.records.iter().filter_map(in_memory).any(|instance| instance.record.ended.is_some()) {
            // The end of one of them is not written yet.
            self.ending.push(id);
            return;
        }
        let Some(mut mailbox) = self.residents.mailboxes.remove(&id) else { return };
        let mut mail = mailbox.drain().into_iter();
        let Some(first) = mail.next() else { return };
        let (Some(known), Message::Begin(wanted, _)) = (tree.records.first().cloned(), &first.message) else {
            // The instance to replace is gone, or the message that replaces it.
            self.put_back(&id, Some(first), mail);
            self.absent(&id, tree.records.first().cloned(), now);
            return;
        };
        match self.unfinished(&tree).into_iter().next() {
            Some(running) => {
                self.taken(&Address::Instance(id.clone()), &first);
                self.refuse_begin(&first, wanted, Err(not_ended(&known, wanted, &running)));
                self.put_back(&id, None, mail);
                self.absent(&id, Some(known), now);
            }
            None => {
                self.purge(tree);
                self.put_back(&id, Some(first), mail);
                self.absent(&id, None, now);
            }
        }
    }

    fn put_back(&mut self, id: &Arc<str>, first: Option<Rc<Mail>>, rest: impl Iterator<Item = Rc<Mail>>) {
        for mail in first.into_iter().chain(rest) {
            self.residents.mailbox(id).put(mail);
        }
    }
}

/// Whether a message begins an instance that replaces an ended one.
fn replaces(mail: &Mail, known: &InstanceRecord) -> bool {
    match &mail.message {
        Message::Begin(wanted, if_exists) => known_id(known, wanted, *if_exists) == Known::Replaces,
        _ => false,
    }
}

/// Returns the record of an instance that ends by being purged.
fn purged(record: &InstanceRecord) -> InstanceRecord {
    if record.status.is_ended() {
        return InstanceRecord { waiters: Vec::new(), ..record.clone() };
    }
    let why = Data::of(&Value::str("it was purged"));
    InstanceRecord { status: Status::Terminated(why), ..record.clone() }
}
