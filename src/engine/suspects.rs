//! Suspects: instances and entities that are thought to crash the process. They are not evaluated,
//! and the others go on.
//!
//! A suspected instance can be terminated without being evaluated. The current message of a
//! suspected entity can be removed.

use std::rc::Rc;
use std::sync::Arc;

use crate::machine::{Data, EntityId, ErrorData, Value};

use super::address::Address;
use super::entry::{Entry, RecordedRequest};
use super::message::Message;
use super::scheduler::Ready;
use super::step::Engine;

impl Engine {
    /// Returns the instance or entity that runs next.
    pub fn next_to_run(&self) -> Option<Address> {
        Some(match self.scheduler.ready.first()? {
            Ready::Instance(id) => Address::Instance(id.clone()),
            Ready::Entity(entity) => Address::Entity(entity.clone()),
        })
    }

    /// Sets an instance or an entity aside, by its name. This must come before the store is
    /// recovered.
    pub fn suspect(&mut self, name: &str) {
        self.suspects.insert(name.into());
    }

    /// Whether a loaded instance is not to be evaluated. If it was terminated, it ends here.
    pub(super) fn holds_back(&mut self, id: &Arc<str>, now: i64) -> bool {
        if !self.suspects.contains(id) {
            return false;
        }
        let Some(instance) = self.residents.get_mut(id) else { return true };
        let Some(mail) = instance.arrivals.mail.take_end() else {
            if let Some(instance) = self.residents.instances.remove(id) {
                self.residents.mailboxes.insert(id.clone(), instance.arrivals.mail);
            }
            self.left(id);
            return true;
        };
        // Only its history shows the children that it called.
        let caller = instance.life_id();
        let children: Vec<(u64, String)> =
            instance.called().map(|seq| (seq, instance.child_id(seq))).collect();
        self.suspects.remove(id);
        self.control(id, &mail, now);
        for (seq, child) in children {
            let why = Data::of(&Value::str("its caller was terminated"));
            let message = Message::Terminate { why, children: true, by: Some(caller.clone()) };
            if let Some(sender) = self.residents.get(id).map(|instance| instance.envelope(seq)) {
                self.send_from(sender, Address::instance(&child), None, message);
            }
        }
        true
    }

    /// Whether an entity is not to be evaluated.
    pub(super) fn is_held_back(&self, entity: &EntityId) -> bool {
        !self.suspects.is_empty() && self.suspects.contains(entity.to_string().as_str())
    }

    /// Removes the current or the next message of an entity. Its caller gets an error. Returns
    /// false if there is no message.
    pub fn drop_message(&mut self, entity: EntityId) -> bool {
        let entity = Rc::new(entity);
        let slot = self.entities.slot(&entity);
        let running = slot.running.take();
        let mail = match running {
            Some(running) => {
                self.entities.busy -= 1;
                running.mail
            }
            None => match slot.lane.pop_front().or_else(|| slot.queue.pop_front()) {
                Some(mail) => mail,
                None => return false,
            },
        };
        self.suspects.remove(entity.to_string().as_str());
        let error = ErrorData::new("dropped", format!("this message to {entity} was removed by an operator"));
        match &mail.message {
            Message::Lock { owner, set, .. } => {
                let (owner, set) = (owner.clone(), set.clone());
                self.taken(&Address::Entity(entity.clone()), &mail);
                self.withdraw(&owner, &set);
                self.reply(&mail, owner, Err(error));
            }
            _ => self.operation_done(&entity, &mail, Err(error)),
        }
        self.wake_entity(&entity);
        true
    }
}

impl super::instance::Instance {
    /// Returns the calls of children without an answer in the history, before its replay.
    fn called(&self) -> impl Iterator<Item = u64> + '_ {
        let is_over = |wanted: u64| {
            self.evaluation.past().any(|entry| {
                matches!(entry, Entry::Answered { seq, .. } | Entry::Cancelled { seq, .. } if *seq == wanted)
            })
        };
        self.evaluation.past().filter_map(move |entry| match entry {
            Entry::Requested { seq, what: RecordedRequest::Orchestration { start: false, .. }, .. }
                if !is_over(*seq) =>
            {
                Some(*seq)
            }
            _ => None,
        })
    }
}
