//! Sending: a message joins the next writes, and is put where its receiver finds it.

use std::rc::Rc;
use std::sync::Arc;

use crate::kv::Batch;
use crate::machine::options::{self, Child};
use crate::machine::{Data, Image, Request, RequestKind, started_id};
use crate::permissions::Permissions;

use super::address::{Address, LifeId, Waiter};
use super::errand::{message, signal_due};
use super::instance::{Envelope, Instance};
use super::keys;
use super::message::{Mail, Message};
use super::record::InstanceRecord;
use super::step::Engine;

/// The sender of messages, and all that is needed to send in its name.
pub(super) struct Sender {
    /// The key of the sender's step.
    pub from: String,
    pub root: Arc<str>,
    /// The program of the instances that the sender starts, and the program's file.
    pub image: Rc<Image>,
    pub file: String,
    /// The instance, if the sender is one. Instances that it starts under automatic ids are purged
    /// with it.
    pub owner: Option<LifeId>,
    /// The permissions of the sender and of the instances that it starts.
    pub permissions: Permissions,
}

impl Sender {
    /// Returns the sender for the messages of an instance's activity.
    pub(super) fn of(instance: &Instance, step: u64) -> Sender {
        Sender {
            from: instance.step_key(step),
            root: instance.root.clone(),
            image: instance.image.clone(),
            file: instance.record.file.clone(),
            owner: Some(instance.life_id()),
            permissions: instance.record.permissions.clone(),
        }
    }
}

impl Engine {
    /// Sends a message. It is written with the next commit, unless it is consumed before.
    pub(super) fn send(
        &mut self,
        to: Address,
        from: String,
        root: Arc<str>,
        ack: Option<Waiter>,
        message: Message,
    ) {
        self.send_at(self.scheduler.now, to, from, root, ack, message);
    }

    /// Sends a message whose cause was at `time`.
    pub(super) fn send_at(
        &mut self,
        time: i64,
        to: Address,
        from: String,
        root: Arc<str>,
        ack: Option<Waiter>,
        message: Message,
    ) {
        let number = self.post.number();
        self.post(to, Mail::fresh(number, from, root, ack, time, message, Permissions::default()));
    }

    /// Sends a message as `send` does, with the permissions of its sender.
    pub(super) fn send_from(&mut self, sender: Envelope, to: Address, ack: Option<Waiter>, message: Message) {
        let Envelope { from, root, permissions } = sender;
        let (number, now) = (self.post.number(), self.scheduler.now);
        self.post(to, Mail::fresh(number, from, root, ack, now, message, permissions));
    }

    /// Sends the messages of an activity or an operation.
    pub(super) fn send_all(&mut self, sender: &Sender, sends: Vec<Request>, now: i64) {
        for request in sends {
            let from = format!("{}.{}", sender.from, request.seq);
            let root = sender.root.clone();
            let (to, message) = match request.what {
                RequestKind::Operation { entity, operation, signal } => {
                    let due = signal_due(&signal.unwrap_or_else(Data::null), now);
                    let message = Message::Signal { operation, args: request.args, due };
                    (Address::entity(entity), message)
                }
                RequestKind::Orchestration { name, options, .. } => {
                    let Child { id, if_exists, later, .. } = options::recorded_child(&options);
                    let owner = id.is_none().then(|| sender.owner.clone()).flatten();
                    let id = id.unwrap_or_else(|| started_id(&sender.from, request.seq));
                    self.programs.know(&sender.image);
                    let hash = sender.image.code.hash;
                    let mut record = InstanceRecord::new(&id, hash, &sender.file, &name, request.args, now);
                    record.root = root.to_string();
                    record.permissions = sender.permissions.clone();
                    record.owner = owner;
                    record.begins_later(later.and_then(|later| later.due(now)));
                    (Address::instance(&id), Message::Begin(Box::new(record), if_exists))
                }
                RequestKind::Effect(effect) => match message(effect, &request.args) {
                    Some((to, message)) => (Address::instance(&to), message),
                    None => continue,
                },
                RequestKind::Activity { .. } => continue,
            };
            let permissions = sender.permissions.clone();
            self.send_from(Envelope { from, root, permissions }, to, None, message);
        }
    }

    /// Adds a message to the next writes, and puts it where its receiver finds it. A message to
    /// another partition leaves with these writes.
    pub(super) fn post(&mut self, to: Address, mail: Rc<Mail>) {
        if let Some(partition) = self.elsewhere(&to) {
            return self.send_away(partition, &to, &mail);
        }
        self.post.push(to.clone(), mail.clone());
        self.put(to, mail);
    }

    /// Stores a message again under a new number, without the acknowledgement, which its sender
    /// has.
    pub(super) fn store(&mut self, to: Address, mail: &Mail) {
        let Mail { from, root, time, message, permissions, .. } = mail;
        let (from, root, permissions) = (from.clone(), root.clone(), permissions.clone());
        let number = self.post.number();
        let copy = Mail::fresh(number, from, root, None, *time, message.clone(), permissions);
        if let Some(bytes) = copy.write() {
            self.batch.put(keys::mail(&to, copy.number), bytes);
        }
    }

    /// Puts a message where its receiver finds it.
    pub(super) fn put(&mut self, to: Address, mail: Rc<Mail>) {
        match to {
            Address::Instance(id) => {
                let Err(mail) = self.arrive(&id, mail) else { return };
                let is_control = mail.message.is_control();
                if is_control {
                    self.set_aside.remove(&id);
                }
                self.residents.mailbox(&id).put(mail);
                if self.goes_on || is_control {
                    self.fetch(Address::Instance(id));
                }
            }
            Address::Entity(entity) => {
                if let Message::Signal { due, .. } = &mail.message
                    && *due > self.scheduler.now
                {
                    self.scheduler.delayed.set(*due, (entity, mail.number), mail);
                } else {
                    if let Message::Lock { owner, set, .. } = &mail.message {
                        self.asks(owner, set);
                    }
                    self.entities.arrive(&entity, mail);
                    self.wake_entity(&entity);
                }
            }
        }
    }

    /// Notes that a message was consumed, or is of no use any more.
    pub(super) fn taken(&mut self, to: &Address, mail: &Mail) {
        consume(to, mail, &mut self.batch);
    }
}

/// Notes in a batch that a message was consumed, or is of no use any more.
pub(super) fn consume(to: &Address, mail: &Mail, batch: &mut Batch) {
    if mail.take() {
        batch.delete(keys::mail(to, mail.number));
    }
}
