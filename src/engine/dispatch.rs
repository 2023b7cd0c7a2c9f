//! Dispatch of requests: each becomes a timer, an effect for the host, a message, or work that the
//! engine does itself.
//!
//! The batch that records a request that is a message also sends the message. So an instance that
//! is read from the store again has sent its *recorded* requests, and they are not sent twice.

use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::{Effect, databases, files, immediate, lines, looks, messages, outside, programs};
use crate::machine::{
    Cancellation, Canceller, Data, EntityId, ErrorData, RequestKind, Value, ids, locate, options, sql,
};

use super::address::{Address, LifeId};
use super::arrivals::first_text;
use super::errand::{Errand, errand};
use super::events::{Ending, Leaving, Output, StepId};
use super::fault::{self, Fault};
use super::instance::Instance;
use super::message::Message;
use super::open::{Attempt, Children, Open};
use super::outbox::Line;
use super::section::entities;
use super::send::Sender;
use super::step::Engine;
use super::timers::Timer;

impl Engine {
    /// Dispatches an instance's new requests, and drops those that it no longer waits for.
    pub(super) fn dispatch(&mut self, id: &Arc<str>, now: i64) {
        let Some(mut instance) = self.residents.get_mut(id) else { return };
        if instance.evaluation.agenda.has_leavings() {
            self.dispatch_leavings(id, now);
            let Some(same) = self.residents.get_mut(id) else { return };
            instance = same;
        }
        for seq in std::mem::take(&mut instance.record.rewound) {
            instance.record_changed = true;
            if let Some(open) = instance.evaluation.open.get_mut(seq) {
                open.recorded = false;
                instance.evaluation.agenda.remove(seq);
                instance.evaluation.agenda.add(seq);
            }
        }
        for seq in instance.take_requests() {
            if !self.dispatch_one(id, seq, now) {
                break;
            }
        }
        for (due, id, seq, timer) in self.scheduler.take_overdue() {
            self.scheduler.clear_timer(&id, seq);
            if let Some(life) = self.residents.get(&id).map(|instance| instance.record.life) {
                self.due(&id, life, seq, timer, due);
            }
        }
    }

    /// Emits the lines of an instance, sends the messages of its activities, and drops the requests
    /// that it no longer waits for.
    pub(super) fn dispatch_leavings(&mut self, id: &Arc<str>, now: i64) {
        let Some(instance) = self.residents.get_mut(id) else { return };
        let agenda = &mut instance.evaluation.agenda;
        let (lines, dropped) = (std::mem::take(&mut agenda.lines), std::mem::take(&mut agenda.dropped));
        let outgoing = std::mem::take(&mut agenda.outgoing);
        let outgoing: Vec<_> =
            outgoing.into_iter().map(|(step, sends)| (Sender::of(instance, step), sends)).collect();
        if !lines.is_empty() {
            // Lines leave before their consequences.
            let root = instance.record.root.clone();
            self.print(id, &root, lines);
        }
        for (sender, sends) in outgoing {
            self.send_all(&sender, sends, now);
        }
        for (seq, open) in dropped {
            self.drop_open(id, seq, &open, Children::Cancelled);
        }
    }

    fn print(&mut self, id: &Arc<str>, root: &str, lines: Vec<Line>) {
        for line in lines {
            let run = self.outbox.add(id, root, line.clone());
            self.emit(Leaving::Line { run, line });
        }
    }

    /// Dispatches one request. Returns false if the instance has begun a new execution, so that its
    /// other requests are gone.
    fn dispatch_one(&mut self, id: &Arc<str>, seq: u64, now: i64) -> bool {
        let Some(instance) = self.residents.get_mut(id) else { return false };
        let life = instance.record.life;
        let open = instance.evaluation.open.get_mut(seq);
        let Some(open) = open.filter(|open| !open.dispatched) else { return true };
        match open.request.what {
            RequestKind::Effect(Effect::Receive) => {}
            RequestKind::Effect(Effect::Sleep | Effect::SleepUntil) => {
                open.dispatched = true;
                self.scheduler.set_timer(open.due().unwrap_or(now), id, life, seq, Timer::Sleep);
            }
            RequestKind::Effect(Effect::Status) => {
                open.dispatched = true;
                let target = first_text(&open.request.args);
                let step = StepId::of(id, &instance.record, open);
                match self.residents.get(&target).map(|known| known.record.clone()) {
                    Some(record) => self.status(step, Some(&record), now),
                    None => self.outputs.push(Output::Status { step, id: target }),
                }
            }
            RequestKind::Effect(Effect::SetStatus) => {
                let status = open.request.args.items().first().and_then(|value| Data::encode(value).ok());
                instance.set_status(status);
                instance.arrivals.deliver_at_once(seq);
            }
            RequestKind::Effect(Effect::ContinueAsNew) => {
                let args = open.request.args.clone();
                self.continue_as_new(id, args, now);
                return false;
            }
            RequestKind::Effect(Effect::Lock) => {
                if let Some(due) = open.due() {
                    self.scheduler.set_timer(due, id, life, seq, Timer::Timeout);
                }
                if !open.recorded {
                    match entities(&open.request.args) {
                        set if set.is_empty() => instance.arrivals.deliver_at_once(seq),
                        set => {
                            let (owner, from) = (instance.waiter(seq), instance.step_key(seq));
                            let root = instance.root.clone();
                            self.lock(owner, set, from, root, now);
                        }
                    }
                }
            }
            RequestKind::Effect(Effect::Unlock) => {
                let was_left = open.recorded;
                self.unlock(id, seq, was_left);
            }
            // The host answers.
            RequestKind::Effect(
                effect @ (lines!()
                | immediate!()
                | outside!()
                | files!()
                | programs!()
                | databases!()
                | looks!()),
            ) => {
                open.dispatched = true;
                let step = StepId::of(id, &instance.record, open);
                let (args, permissions) = (open.request.args.clone(), instance.record.permissions.clone());
                let args = sql::keyed(effect, args, || instance.record.step_key(seq));
                self.ask_effect(step, effect, args, permissions);
            }
            RequestKind::Activity { .. } => match open.next_attempt(now) {
                Attempt::Later(begins) => {
                    self.scheduler.timers.set(begins, (id.clone(), seq), (life, Timer::Retry));
                }
                Attempt::Interrupted if self.costs_attempts => self.interrupted(id, seq, now),
                Attempt::Interrupted | Attempt::Begins => {
                    open.dispatched = true;
                    if let Some(due) = open.due() {
                        self.scheduler.set_timer(due, id, life, seq, Timer::Timeout);
                    }
                    let step = StepId::of(id, &instance.record, open);
                    self.outputs.extend(instance.begin_activity(step, now));
                }
            },
            // Other instances and entities answer.
            RequestKind::Effect(Effect::Wait | messages!())
            | RequestKind::Orchestration { .. }
            | RequestKind::Operation { .. } => {
                let errand = errand(&instance.record, open, &self.entities, self.placement.as_ref(), now);
                if let (Some(due), false) = (open.due(), matches!(errand, Errand::ForItself)) {
                    self.scheduler.set_timer(due, id, life, seq, Timer::Timeout);
                }
                if matches!(open.request.what, RequestKind::Operation { signal: Some(_), .. }) {
                    instance.arrivals.deliver_at_once(seq);
                }
                self.run_errand(id, seq, errand);
            }
        }
        true
    }

    /// Leaves the critical section of an instance. `was_left` says that an earlier process has told
    /// other partitions of it.
    fn unlock(&mut self, id: &Arc<str>, seq: u64, was_left: bool) {
        let Some(instance) = self.residents.get_mut(id) else { return };
        instance.arrivals.deliver_at_once(seq);
        let owner = instance.life_id();
        let spread = self.placement.is_some() && !was_left;
        let left = spread.then(|| instance.evaluation.machine().left_entities().to_vec());
        self.release(&owner);
        self.release_spread(&owner, left.unwrap_or_default());
    }

    /// Wakes an entity, unless it belongs to another partition.
    fn wake_if_here(&mut self, entity: &Rc<EntityId>) {
        if !self.is_elsewhere(entity) {
            self.wake_entity(entity);
        }
    }

    /// Sends an instance's request to those that answer it, or lets them go on if it was sent.
    fn run_errand(&mut self, id: &Arc<str>, seq: u64, errand: Errand) {
        match errand {
            Errand::Send { to, ack, message } => {
                let Some(instance) = self.residents.get(id) else { return };
                let sender = instance.envelope(seq);
                self.send_from(sender, to, ack, message);
            }
            // The instance or entity that is waited for must run, too.
            Errand::Sent(Address::Instance(target)) => self.fetch_if_away(&target),
            Errand::Sent(Address::Entity(entity)) => self.wake_if_here(&entity),
            Errand::ForItself => {
                let Some(instance) = self.residents.get_mut(id) else { return };
                instance.arrivals.deliver(seq, Err(ids::waits_for_itself(id)), Vec::new(), i64::MIN);
            }
            Errand::Nothing => {}
        }
    }

    /// Handles an attempt whose process ended before the attempt did: the attempt failed. The next
    /// attempt has the deadline of the failed one.
    fn interrupted(&mut self, id: &Arc<str>, seq: u64, now: i64) {
        let Some(instance) = self.residents.get_mut(id) else { return };
        let Some(open) = instance.evaluation.open.get(&seq) else { return };
        let RequestKind::Activity { name, .. } = &open.request.what else { return };
        let message = format!("the process that ran `{name}` ended before it was done");
        let error = ErrorData::with("interrupted", message, [("activity", Value::str(name.as_str()))]);
        let begins = open.begins;
        let verdict = match (open.outlives(&error, now), open.policy().asks) {
            (true, true) => instance.evaluation.judge(seq, &error),
            (outlives, _) => Ok(outlives),
        };
        self.changed.push(id.clone());
        match verdict {
            Ok(true) => {
                instance.retry(seq, error, begins, now);
                instance.evaluation.agenda.remove(seq);
                self.dispatch_one(id, seq, now);
            }
            verdict => {
                let result = Err(verdict.err().unwrap_or(error));
                instance.arrivals.deliver(seq, result, Vec::new(), now);
                self.scheduler.wake(id, instance, &self.uses);
            }
        }
    }

    /// Fetches an instance that others wait for, unless it is under way already.
    fn fetch_if_away(&mut self, id: &str) {
        if !self.is_under_way(id) {
            self.fetch(Address::instance(id));
        }
    }

    /// Drops a request whose answer nobody waits for any more.
    pub(super) fn drop_open(&mut self, id: &Arc<str>, seq: u64, open: &Open, children: Children) {
        self.scheduler.clear_timer(id, seq);
        match &open.request.what {
            RequestKind::Effect(Effect::Lock) => {
                if let Some(owner) = self.residents.get(id).map(|instance| instance.waiter(seq)) {
                    self.withdraw(&owner, &entities(&open.request.args));
                }
            }
            RequestKind::Orchestration { start: false, .. } => match children {
                Children::Left => {}
                Children::Cancelled => self.cancel_child(id, seq, open, "its caller gave up"),
                Children::Terminated => self.end_child(id, seq, open, |by| {
                    let why = Data::of(&Value::str("its caller gave up"));
                    Message::Terminate { why, children: true, by: Some(by) }
                }),
            },
            _ if open.dispatched => {
                let Some(instance) = self.residents.get(id) else { return };
                let step = StepId::of(id, &instance.record, open);
                self.outputs.push(Output::Abandon { step });
            }
            _ => {}
        }
    }

    /// Cancels a child whose caller no longer waits for it, unless the child is detached.
    pub(super) fn cancel_child(&mut self, id: &Arc<str>, seq: u64, open: &Open, why: &str) {
        let Some(instance) = self.residents.get(id) else { return };
        let place = locate(&instance.image, open.request.place);
        let reason = Data::of(&Value::str(why));
        let what = Cancellation { by: Canceller::Caller, place, reason, grace: options::GRACE };
        self.end_child(id, seq, open, |by| Message::Cancel { what: Box::new(what), of: Some(by) });
    }

    /// Sends a child, unless it is detached, the message that its caller's end or its caller's wish
    /// ends it.
    fn end_child(&mut self, id: &Arc<str>, seq: u64, open: &Open, end: impl FnOnce(LifeId) -> Message) {
        let RequestKind::Orchestration { options, .. } = &open.request.what else { return };
        let child = options::recorded_child(options);
        let Some(instance) = self.residents.get(id).filter(|_| !child.detached) else { return };
        let to = child.id.unwrap_or_else(|| instance.child_id(seq));
        let message = end(instance.life_id());
        let sender = instance.envelope(seq);
        self.send_from(sender, Address::instance(&to), None, message);
    }

    /// Begins an instance anew. One that is being cancelled ends instead.
    fn continue_as_new(&mut self, id: &Arc<str>, args: Data, now: i64) {
        let called =
            |open: &&Open| matches!(open.request.what, RequestKind::Orchestration { start: false, .. });
        let Some(instance) = self.residents.get_mut(id) else { return };
        if let Some(reason) = instance.evaluation.open.cancelled_for() {
            instance.terminated(reason, now);
            return self.finish(id, Children::Cancelled, now);
        }
        let open = instance.evaluation.open.values().map(|open| &**open);
        let children: Vec<Open> = open.filter(called).cloned().collect();
        let leaves = fault::is_in(Fault::ContinuationLeavesChildren);
        for open in children.into_iter().filter(|_| !leaves) {
            self.cancel_child(id, open.request.seq, &open, "its caller began anew");
        }
        let Some(instance) = self.residents.instances.remove(id) else { return };
        for number in instance.kept_from()..instance.journal.chunks() {
            self.batch.delete(super::keys::chunk(id, number));
        }
        let before = instance.record.clone();
        match instance.continued(args) {
            Ok((next, open)) => {
                self.residents.instances.insert(id.clone(), Box::new(next));
                for (seq, open) in open.into_all() {
                    self.scheduler.clear_timer(id, seq);
                    if open.dispatched {
                        let step = StepId::of(id, &before, &open);
                        self.outputs.push(Output::Abandon { step });
                    }
                }
                self.wake(id);
            }
            Err(reason) => {
                let outcome = Ending::Incompatible(reason);
                self.emit(Leaving::Ended { instance: id.clone(), outcome, told: false });
                self.left(id);
            }
        }
    }
}

impl Instance {
    /// Begins an attempt at an activity, and returns the output that hands it to the host.
    fn begin_activity(&mut self, step: StepId, now: i64) -> Option<Output> {
        let request = &self.evaluation.open.get(&step.seq)?.request;
        let RequestKind::Activity { name, .. } = &request.what else { return None };
        let (name, args) = (name.clone(), request.args.clone());
        let key = self.step_key(step.seq);
        let (program, permissions) = (self.record.program, self.record.permissions.clone());
        self.begins(step.seq, now);
        Some(Output::Activity { step, program, name, args, key, permissions })
    }
}
