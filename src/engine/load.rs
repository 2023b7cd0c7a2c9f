//! Loading: the first contents of an engine, and instances that begin or are read from the store.

use std::rc::Rc;
use std::sync::Arc;

use crate::internal::sure;
use crate::machine::{EntityId, Image};
use crate::permissions::Permissions;

use super::active::Doing;
use super::address::{Address, LifeId};
use super::entity::Hold;
use super::entry::Entry;
use super::events::{Ending, Leaving, Output, StepId};
use super::history::History;
use super::instance::Instance;
use super::keys;
use super::message::{Mail, Message, StoredMail};
use super::outbox::StoredLines;
use super::reads::Deployed;
use super::record::InstanceRecord;
use super::rewind::{Back, Rewinding};
use super::run::UNREAD;
use super::scheduler::Ready;
use super::step::Engine;
use super::timers::Timer;
use super::undo::Undo;

impl Engine {
    /// Recovers lines that may not be out. Those of the root, or all of them without a root, leave
    /// before anything else.
    pub(super) fn recover_lines(&mut self, runs: Vec<(u64, StoredLines)>, root: Option<&str>) {
        for (run, stored) in runs {
            let is_ours = self.goes_on && root.is_none_or(|root| root == stored.root);
            self.outbox.recover(run, &stored, is_ours);
            if is_ours {
                for line in stored.lines {
                    self.emit(Leaving::Line { run, line });
                }
            }
        }
    }

    /// Recovers the stored messages and the stored holders of entities.
    pub(super) fn recover(
        &mut self,
        mut mail: Vec<(Address, u64, StoredMail)>,
        holds: Vec<(EntityId, Hold)>,
        root: Option<&str>,
    ) {
        for (entity, hold) in holds {
            self.asks(&hold.owner, &hold.set);
            self.entities.recover(entity, hold);
        }
        // A signal that became due while no process ran came at the time when it was due.
        let now = self.scheduler.now;
        let came = |stored: &StoredMail| match stored.message {
            Message::Signal { due, .. } if due > 0 && due <= now => due,
            _ => stored.time,
        };
        mail.sort_by_key(|(_, number, stored)| (came(stored), *number));
        for (to, number, stored) in mail {
            self.post.has_sent(number);
            let mail = Mail::stored(number, stored);
            match to {
                Address::Instance(id) => {
                    let ours = self.goes_on && root.is_none_or(|root| *root == *mail.root);
                    self.residents.mailbox(&id).put(mail);
                    if ours {
                        self.fetch(Address::Instance(id));
                    }
                }
                entity => self.put(entity, mail),
            }
        }
    }

    /// Rewinds instances, which are then read from the store.
    pub(super) fn rewind(&mut self, rewinding: Rewinding) {
        self.batch.writes.extend(rewinding.batch.writes);
        self.wanted.wait_for_writes();
        for back in rewinding.instances {
            self.goes_back(back);
        }
    }

    /// Breaks off what an instance in memory has under way.
    pub(super) fn break_off(&mut self, id: &Arc<str>) {
        let Some(instance) = self.residents.get(id) else { return };
        for (seq, open) in instance.evaluation.open.iter() {
            self.scheduler.clear_timer(id, *seq);
            if open.dispatched {
                let step = StepId::of(id, &instance.record, open);
                self.outputs.push(Output::Abandon { step });
            }
        }
    }

    /// Takes an instance back. What it had under way is broken off, and it is read from the store
    /// again.
    pub(super) fn undo(&mut self, undo: Undo) {
        let Undo { id, image, batch, .. } = undo;
        let id: Arc<str> = id.into();
        self.break_off(&id);
        self.residents.put_away(&id);
        self.programs.store(&image, &mut self.batch);
        self.batch.writes.extend(batch.writes);
        self.wanted.wait_for_writes();
        self.fetch(Address::Instance(id));
    }

    /// Replaces the record of an instance that is not in memory by one with fewer permissions.
    pub(super) fn restrict(&mut self, record: &InstanceRecord) {
        assert!(!self.residents.contains(&record.id), "it is not in memory");
        self.batch.put(keys::instance(&record.id), record.encode());
        self.wanted.wait_for_writes();
    }

    /// Lets a rewound instance go on.
    fn goes_back(&mut self, back: Back) {
        let Back { steps, life, mail, children } = back;
        let id: Arc<str> = steps.id.as_str().into();
        for old in self.residents.mailboxes.remove(&id).unwrap_or_default().drain() {
            // The rewind's batch deletes this mail, and the mail in its place is sent below.
            old.take();
        }
        let caller = LifeId { id: steps.id, life };
        for child in children {
            let child: Arc<str> = child.as_str().into();
            let Some(mailbox) = self.residents.mail_mut(&child) else { continue };
            for mail in mailbox.take_ends_by(&caller) {
                self.taken(&Address::Instance(child.clone()), &mail);
            }
        }
        let to = Address::Instance(id.clone());
        for StoredMail { from, root, ack, time, message, .. } in mail {
            self.send_at(time, to.clone(), from, root.into(), ack, message);
        }
        self.set_aside.remove(&id);
        self.fetch(to);
    }

    /// Stores a program, unless it is known to be stored, and makes it the newest for its entities.
    /// Their operations get the permissions of the deployer.
    pub(super) fn deploy(&mut self, image: &Rc<Image>, permissions: &Permissions) {
        self.programs.store(image, &mut self.batch);
        self.programs.replace(image);
        let mut version = None;
        for name in image.code.entities() {
            if self.entities.deploy(name, image, permissions) {
                version = version.or_else(|| self.new_version());
                let program = image.code.hash;
                self.programs.deploy(name, Deployed { program, permissions: permissions.clone(), version });
            }
        }
    }

    /// Takes in a stored instance, which goes on where its history ends.
    pub(super) fn load(&mut self, record: InstanceRecord, history: History, image: Rc<Image>) {
        // An imported history may have a later time.
        let last = history.entries.last().map_or(record.created, Entry::time);
        self.scheduler.reach(last);
        self.programs.is_stored(record.program);
        self.wanted.came(&Address::instance(&record.id));
        self.add(record, history, image, false);
    }

    /// Puts an instance into memory, with the mail that waits for it.
    pub(super) fn add(
        &mut self,
        mut record: InstanceRecord,
        history: History,
        image: Rc<Image>,
        fresh: bool,
    ) {
        let id: Arc<str> = record.id.as_str().into();
        if self.residents.contains(&id) {
            return;
        }
        match fresh {
            true => record.life = self.life,
            false => self.scheduler.clear_timer(&id, UNREAD),
        }
        self.release_lives(&id, Some(record.life));
        self.programs.know(&image);
        let mut instance = match Instance::new(&image, record, history) {
            Ok(instance) => Box::new(instance),
            Err(reason) => {
                let outcome = Ending::Incompatible(reason);
                self.emit(Leaving::Ended { instance: id, outcome, told: false });
                return;
            }
        };
        instance.root = self.uses.enter(&id, &instance.record.root);
        self.active.insert(id.clone());
        if fresh {
            instance.record_changed = true;
            instance.saving.indexed = Some(Doing::Nothing);
            self.changed.push(id.clone());
        }
        let mail = self.residents.mailboxes.remove(&id).unwrap_or_default();
        self.residents.instances.insert(id.clone(), instance);
        for mail in { mail }.drain() {
            sure(self.arrive(&id, mail), "an instance that was added is in memory");
        }
        self.begin_if_due(&id);
        if !self.holds_back(&id, self.scheduler.now) {
            self.wake(&id);
        }
    }

    /// Notes an instance of the store that does nothing by itself before a time. It is read when
    /// the time has come, or when something comes for it.
    pub(super) fn waits_until(&mut self, id: &str, root: &str, due: i64) {
        if self.residents.contains(id) {
            return;
        }
        let id: Arc<str> = id.into();
        self.uses.enter(&id, root);
        self.active.insert(id.clone());
        self.scheduler.timers.set(due, (id, UNREAD), (0, Timer::Begin));
    }

    /// Removes an instance from those under way.
    pub(super) fn left(&mut self, id: &str) {
        self.active.remove(id);
        self.uses.leave(id);
        self.courier.seen_to_wait.remove(id);
    }

    /// Stops an instance that can't go on, though it has not ended. Messages to it wait.
    pub(super) fn stop(&mut self, id: &Arc<str>) {
        self.left(id);
        self.residents.put_away(id);
        self.set_aside.insert(id.clone());
    }

    pub(super) fn wake(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.residents.get_mut(id) {
            self.scheduler.wake(id, instance, &self.uses);
        }
    }

    pub(super) fn wake_entity(&mut self, entity: &Rc<EntityId>) {
        if self.entities.queue(entity) {
            let root = self.entities.root(entity);
            self.scheduler.ready.push(&root, Ready::Entity(entity.clone()));
        }
    }

    /// Requests an instance or an entity from the store, once. It is read when there is room for
    /// it.
    pub(super) fn fetch(&mut self, address: Address) {
        if let Address::Instance(id) = &address
            && (self.set_aside.contains(id) || self.waits_for_its_end(id))
        {
            return; // The instance would only stop again.
        }
        if self.elsewhere(&address).is_some() {
            return; // Its partition sees to it.
        }
        if self.wanted.want(&address) {
            let root = match &address {
                Address::Instance(id) => {
                    let mail = self.residents.mailboxes.get(id).and_then(|mailbox| mailbox.iter().next());
                    let root = self.uses.root(id).or(mail.map(|mail| &mail.root));
                    root.unwrap_or(id).clone()
                }
                Address::Entity(entity) => self.entities.root(entity),
            };
            self.wanted.queue(&root, address);
        }
    }

    /// Whether an instance is a suspect, which is not evaluated, and no message to terminate it has
    /// come.
    fn waits_for_its_end(&self, id: &Arc<str>) -> bool {
        let is_end = |mail: &Mail| matches!(mail.message, Message::Terminate { .. });
        let has_end = || {
            let mailbox = self.residents.mailboxes.get(id);
            mailbox.is_some_and(|mailbox| mailbox.iter().any(|mail| is_end(mail)))
        };
        self.suspects.contains(id) && !has_end()
    }

    /// Wakes an instance whose lines are all out, if its end waited for them.
    pub(super) fn lines_are_out(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.residents.get_mut(id)
            && instance.evaluation.is_ending()
        {
            self.scheduler.wake(id, instance, &self.uses);
        }
    }
}
