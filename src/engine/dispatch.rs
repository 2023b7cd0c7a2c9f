//! What becomes of a request: a timer, an effect for the host, a message, or something that the engine does itself.
//!
//! Requests that are messages are sent in the batch that records them. An instance that is read from the store again
//! has sent them: what it asked for as *recorded* is not sent twice.

use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::{Effect, files, immediate, lines, looks, messages, outside, programs};
use crate::machine::options::{self, Child};
use crate::machine::{
    Data, ErrorData, IfExists, Image, Request, RequestKind, Value, format, ids, started_id,
};
use crate::permissions::Permissions;

use super::Open;
use super::address::{Address, LifeId, Waiter};
use super::events::{Leaving, Outcome, Output, StepId};
use super::fault::{self, Fault};
use super::instance::first_text;
use super::message::Message;
use super::record::InstanceRecord;
use super::step::Engine;
use super::timers::Timer;

/// Who sends: what is needed to send in its name.
pub(super) struct Sender {
    /// The key of its step.
    pub from: String,
    pub root: Arc<str>,
    /// The program of what it starts, and the file that it came from.
    pub image: Rc<Image>,
    pub file: String,
    /// The instance, if it is one: what it starts under automatic ids is purged with it.
    pub owner: Option<LifeId>,
    /// What it may do outside, and what it starts.
    pub permissions: Permissions,
}

impl Engine {
    /// Sees to what an instance newly asks for, and to what it asks for no more.
    pub(super) fn dispatch(&mut self, id: &Arc<str>, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let outgoing = std::mem::take(&mut instance.outgoing);
        let lines = std::mem::take(&mut instance.lines);
        if !lines.is_empty() {
            // Lines leave before what follows from them.
            let root = instance.record.root.clone();
            for line in lines {
                let run = self.outbox.add(id, &root, line.clone());
                self.emit(Leaving::Line { run, line });
            }
        }
        for (step, sends) in outgoing {
            if let Some(sender) = self.sender(id, step) {
                self.send_all(&sender, sends, now);
            }
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        for (seq, open) in std::mem::take(&mut instance.dropped) {
            self.drop_open(id, seq, &open);
        }
        let Some(instance) = self.instances.get_mut(id) else { return };
        for seq in std::mem::take(&mut instance.record.rewound) {
            instance.record_changed = true;
            if let Some(open) = instance.open.get_mut(seq) {
                open.recorded = false;
                instance.undispatched.retain(|known| *known != seq);
                instance.undispatched.push(seq);
            }
        }
        for seq in instance.take_undispatched() {
            if !self.dispatch_one(id, seq, now) {
                break;
            }
        }
        // The earlier comes first, however long nobody was there to see it.
        let mut overdue = std::mem::take(&mut self.overdue);
        overdue.sort_by_key(|(due, ..)| *due);
        for (due, id, seq, timer) in overdue {
            self.timers.clear(&(id.clone(), seq));
            if let Some(life) = self.instances.get(&id).map(|instance| instance.record.life) {
                self.due(&id, life, seq, timer, due);
            }
        }
    }

    pub(super) fn sender(&self, id: &Arc<str>, step: u64) -> Option<Sender> {
        let instance = self.instances.get(id)?;
        Some(Sender {
            from: instance.step_key(step),
            root: instance.record.root.as_str().into(),
            image: instance.image.clone(),
            file: instance.record.file.clone(),
            owner: Some(instance.life_id()),
            permissions: instance.record.permissions.clone(),
        })
    }

    /// Sees to one request; false when the instance has begun anew, and its other requests are gone.
    fn dispatch_one(&mut self, id: &Arc<str>, seq: u64, now: i64) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        let life = instance.record.life;
        let Some(open) = instance.open.get_mut(seq).filter(|open| !open.dispatched) else { return true };
        let step = StepId::of(id, &instance.record, open);
        let recorded = open.recorded;
        let args = open.request.args.clone();
        match open.request.what.clone() {
            RequestKind::Effect(Effect::Sleep | Effect::SleepUntil) => {
                open.dispatched = true;
                let due = open.due().unwrap_or(now);
                self.set_timer(due, id, life, seq, Timer::Sleep, now);
            }
            RequestKind::Effect(Effect::Receive) => {}
            RequestKind::Effect(Effect::Wait) if first_text(&args) == **id => {
                instance.deliver(seq, Err(ids::waits_for_itself(id)), Vec::new(), now);
            }
            RequestKind::Effect(Effect::Wait) => {
                let waiter = instance.waiter(seq);
                if !recorded {
                    self.send_from(
                        id,
                        seq,
                        Address::instance(&first_text(&args)),
                        None,
                        Message::Wait(waiter),
                    );
                } else {
                    // Whoever it waits for goes on too.
                    self.fetch_if_away(&first_text(&args));
                }
            }
            RequestKind::Effect(Effect::Status) => {
                open.dispatched = true;
                let target = first_text(&args);
                match self.instances.get(target.as_str()) {
                    Some(instance) => {
                        let record = instance.record.clone();
                        self.status(step, Some(&record), now);
                    }
                    None => self.outputs.push(Output::Status { step, id: target }),
                }
            }
            RequestKind::Effect(effect @ messages!()) => {
                if !recorded {
                    let waiter = instance.waiter(seq);
                    if let Some((target, message)) = message(effect, &args) {
                        self.send_from(id, seq, Address::instance(&target), Some(waiter), message);
                    }
                } else {
                    self.fetch_if_away(&first_text(&args));
                }
            }
            RequestKind::Effect(Effect::SetStatus) => {
                instance.record.custom = args.items().first().and_then(|value| Data::encode(value).ok());
                instance.record_changed = true;
                instance.deliver_at_once(seq);
            }
            RequestKind::Effect(Effect::ContinueAsNew) => {
                self.continue_as_new(id, args);
                return false;
            }
            RequestKind::Effect(Effect::Lock) => {
                if let Some(due) = open.due() {
                    self.set_timer(due, id, life, seq, Timer::Timeout, now);
                }
                if !recorded {
                    self.lock(id, seq, &args, now);
                }
            }
            RequestKind::Effect(Effect::Unlock) => {
                instance.deliver_at_once(seq);
                let owner = instance.life_id();
                self.release(&owner);
            }
            // The host answers.
            RequestKind::Effect(
                effect @ (lines!() | immediate!() | outside!() | files!() | programs!() | looks!()),
            ) => {
                open.dispatched = true;
                let permissions = instance.record.permissions.clone();
                self.ask_effect(step, effect, args, permissions);
            }
            RequestKind::Activity { .. } if open.begins > now => {
                self.timers.set(open.begins, (id.clone(), seq), (life, Timer::Retry))
            }
            RequestKind::Activity { .. } if open.recorded => {
                // Another process handed it to a host, and did not see its end.
                open.recorded = false;
                if open.attempt == 1 || open.begun {
                    self.interrupted(id, seq, now);
                } else {
                    return self.dispatch_one(id, seq, now);
                }
            }
            RequestKind::Activity { name, .. } => {
                open.dispatched = true;
                let due = open.due();
                let key = instance.step_key(seq);
                let program = instance.record.program;
                let permissions = instance.record.permissions.clone();
                instance.begins(seq, now);
                if let Some(due) = due {
                    self.set_timer(due, id, life, seq, Timer::Timeout, now);
                }
                self.outputs.push(Output::Activity { step, program, name, args, key, permissions });
            }
            RequestKind::Orchestration { name, options, start } => {
                let child = options::child(&options.decode()).unwrap_or_default();
                if !start && child.id.as_deref() == Some(&**id) && child.if_exists == IfExists::Join {
                    instance.deliver(seq, Err(ids::waits_for_itself(id)), Vec::new(), now);
                    return true;
                }
                let due = open.due();
                let owner = instance.life_id();
                let is_automatic = child.id.is_none() || child.attempt > 1;
                let child_id = child.id.unwrap_or_else(|| instance.child_id(seq));
                let mut record = InstanceRecord::new(
                    &child_id,
                    instance.record.program,
                    &instance.record.file,
                    &name,
                    args,
                    now,
                );
                record.root = instance.record.root.clone();
                record.permissions = instance.record.permissions.clone();
                record.attempt = child.attempt.max(1);
                record.owner = is_automatic.then(|| owner.clone());
                let waiter = instance.waiter(seq);
                let mut ack = None;
                match start {
                    true => ack = Some(waiter),
                    false => {
                        record.parent = Some(owner.clone());
                        record.waiters.push(waiter);
                    }
                }
                match recorded {
                    true => self.fetch_if_away(&child_id),
                    false => {
                        let message = Message::Begin(Box::new(record), child.if_exists);
                        self.send_from(id, seq, Address::instance(&child_id), ack, message);
                    }
                }
                if let Some(due) = due {
                    self.set_timer(due, id, life, seq, Timer::Timeout, now);
                }
            }
            RequestKind::Operation { entity, operation, signal: None } => {
                if !recorded {
                    let caller = instance.waiter(seq);
                    let within = self.entities.is_held_by(&entity, &caller.life_id());
                    let message = Message::Call { caller, operation, args, within };
                    self.send_from(id, seq, Address::entity(entity), None, message);
                } else {
                    self.wake_entity(&Rc::new(entity));
                }
            }
            RequestKind::Operation { entity, operation, signal: Some(after) } => {
                instance.deliver_at_once(seq);
                if !recorded {
                    let due = signal_due(&after, now);
                    let message = Message::Signal { operation, args, due };
                    self.send_from(id, seq, Address::entity(entity), None, message);
                }
            }
        }
        true
    }

    /// The process that made an attempt ended before it: the attempt failed. The next one has its deadline.
    fn interrupted(&mut self, id: &Arc<str>, seq: u64, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(open) = instance.open.get(&seq) else { return };
        let RequestKind::Activity { name, .. } = &open.request.what else { return };
        let message = format!("the process that ran `{name}` ended before it was done");
        let error = ErrorData::with("interrupted", message, [("activity", Value::str(name.as_str()))]);
        let begins = open.begins;
        let verdict = match (open.outlives(&error, now), open.policy.asks) {
            (true, true) => instance.judge(seq, &error),
            (outlives, _) => Ok(outlives),
        };
        self.changed.push(id.clone());
        match verdict {
            Ok(true) => {
                instance.retry(seq, error, begins, now);
                instance.undispatched.retain(|known| *known != seq);
                self.dispatch_one(id, seq, now);
            }
            verdict => {
                instance.deliver(seq, Err(verdict.err().unwrap_or(error)), Vec::new(), now);
                self.wake(id);
            }
        }
    }

    /// Sets a timer; one that is due already has an answer at once, so that whoever is read from the store for it
    /// goes on before he is dropped again.
    fn set_timer(&mut self, due: i64, id: &Arc<str>, life: u64, seq: u64, timer: Timer, now: i64) {
        self.timers.set(due, (id.clone(), seq), (life, timer));
        if due <= now {
            self.overdue.push((due, id.clone(), seq, timer));
        }
    }

    /// Whoever is waited for goes on too, if he does not already.
    fn fetch_if_away(&mut self, id: &str) {
        if !self.is_under_way(id) {
            self.fetch(Address::instance(id));
        }
    }

    /// Sends for a request of an instance.
    pub(super) fn send_from(
        &mut self,
        id: &Arc<str>,
        seq: u64,
        to: Address,
        ack: Option<Waiter>,
        message: Message,
    ) {
        let Some(instance) = self.instances.get(id) else { return };
        let (from, root) = (instance.step_key(seq), instance.record.root.as_str().into());
        let permissions = instance.record.permissions.clone();
        self.send_permitted(permissions, to, from, root, ack, message);
    }

    /// What an activity or an operation sent goes out.
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
                    let Child { id, if_exists, .. } = options::child(&options.decode()).unwrap_or_default();
                    let owner = id.is_none().then(|| sender.owner.clone()).flatten();
                    let id = id.unwrap_or_else(|| started_id(&sender.from, request.seq));
                    let hash = sender.image.code.hash;
                    self.images.entry(hash).or_insert_with(|| sender.image.clone());
                    let mut record = InstanceRecord::new(&id, hash, &sender.file, &name, request.args, now);
                    record.root = root.to_string();
                    record.permissions = sender.permissions.clone();
                    record.owner = owner;
                    (Address::instance(&id), Message::Begin(Box::new(record), if_exists))
                }
                RequestKind::Effect(effect) => match message(effect, &request.args) {
                    Some((to, message)) => (Address::instance(&to), message),
                    None => continue,
                },
                RequestKind::Activity { .. } => continue,
            };
            self.send_permitted(sender.permissions.clone(), to, from, root, None, message);
        }
    }

    /// A request that nobody waits for any more.
    pub(super) fn drop_open(&mut self, id: &Arc<str>, seq: u64, open: &Open) {
        self.timers.clear(&(id.clone(), seq));
        match &open.request.what {
            RequestKind::Effect(Effect::Lock) => {
                if let Some(owner) = self.instances.get(id).map(|instance| instance.life_id()) {
                    self.release(&owner);
                }
            }
            RequestKind::Orchestration { start: false, .. } => {
                self.terminate_child(id, seq, open, "its caller gave up")
            }
            _ if open.dispatched => {
                let Some(instance) = self.instances.get(id) else { return };
                let step = StepId::of(id, &instance.record, open);
                self.outputs.push(Output::Abandon { step });
            }
            _ => {}
        }
    }

    /// A child whose caller waits no more ends too, unless it was called otherwise.
    pub(super) fn terminate_child(&mut self, id: &Arc<str>, seq: u64, open: &Open, why: &str) {
        let RequestKind::Orchestration { options, .. } = &open.request.what else { return };
        let child = options::child(&options.decode()).unwrap_or_default();
        let Some(instance) = self.instances.get(id).filter(|_| !child.detached) else { return };
        let to = child.id.unwrap_or_else(|| instance.child_id(seq));
        let why = Data::encode(&Value::str(why)).unwrap_or_else(|_| Data::null());
        let message = Message::Terminate { why, children: true, by: Some(instance.life_id()) };
        self.send_from(id, seq, Address::instance(&to), None, message);
    }

    fn continue_as_new(&mut self, id: &Arc<str>, args: Data) {
        let called =
            |open: &&Open| matches!(open.request.what, RequestKind::Orchestration { start: false, .. });
        let Some(instance) = self.instances.get(id) else { return };
        let children: Vec<Open> =
            instance.open.values().map(|open| &**open).filter(called).cloned().collect();
        let leaves = fault::is_in(Fault::ContinuationLeavesChildren);
        for open in children.into_iter().filter(|_| !leaves) {
            self.terminate_child(id, open.request.seq, &open, "its caller began anew");
        }
        let Some(instance) = self.instances.remove(id) else { return };
        for number in instance.kept_from()..instance.journal.chunks() {
            self.batch.delete(super::keys::chunk(id, number));
        }
        let before = instance.record.clone();
        match instance.continued(args) {
            Ok((next, open)) => {
                self.instances.insert(id.clone(), Box::new(next));
                for (seq, open) in open {
                    self.timers.clear(&(id.clone(), seq));
                    if open.dispatched {
                        let step = StepId::of(id, &before, &open);
                        self.outputs.push(Output::Abandon { step });
                    }
                }
                self.wake(id);
            }
            Err(reason) => {
                let outcome = Outcome::Incompatible(reason);
                self.emit(Leaving::Ended { instance: id.clone(), outcome, told: false });
                self.left(id);
            }
        }
    }
}

/// The message of an effect that is one, and to whom.
fn message(effect: Effect, args: &Data) -> Option<(String, Message)> {
    let args = args.items();
    let Value::Str(target) = args.first()? else { return None };
    let data =
        |at: usize| Data::encode(args.get(at).unwrap_or(&Value::Null)).unwrap_or_else(|_| Data::null());
    let message = match effect {
        Effect::Raise => Message::Event { name: format::display(args.get(1)?), payload: data(2) },
        Effect::Terminate => Message::Terminate {
            why: data(1),
            children: options::terminate(args.get(2)?).unwrap_or(true),
            by: None,
        },
        Effect::Suspend => Message::Suspend,
        Effect::Resume => Message::Resume,
        // Those that are not sent to an instance have requests of their own kind.
        _ => return None,
    };
    Some((target.as_str().to_string(), message))
}

/// When a signal is due: 0 for at once, as for one whose time is over.
fn signal_due(after: &Data, now: i64) -> i64 {
    let due = match after.decode() {
        Value::Duration(duration) => now.saturating_add(duration),
        Value::Instant(instant) => instant,
        _ => 0,
    };
    if due > now { due } else { 0 }
}
