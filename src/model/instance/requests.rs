//! The requests of an instance, and their withdrawal.

use std::sync::Arc;

use crate::builtins::{Effect, databases, files, immediate, lines, looks, messages, outside, programs};
use crate::machine::options;
use crate::machine::{
    Cancellation, Canceller, Data, EntityId, ErrorData, IfExists, RequestKind, Value, ids, locate,
};

use super::super::evaluate::Stop;
use super::super::lives::{LifeId, Owner};
use super::super::message::{Answer, Asked, EntityName, Id, Message, PlaceOf, Timer, answer};
use super::super::part::{Part, fingerprint};
use super::super::program::{Mutation, Naming};
use super::super::timers::When;
use super::ends::Children;
use super::past::automatic;
use super::sends::{is_sent, signal, told};
use super::{Anomaly, Open, Out, Outcome, Ready, Section, Step, Task, first_text, lock_timeout, null};

impl Step<'_, '_> {
    /// Returns the id of the child that a request calls or starts, if there is one.
    pub(super) fn child(&mut self, asked: &Asked, name: u64) -> Option<Id> {
        let RequestKind::Orchestration { options, .. } = &asked.what else { return None };
        if let Some(own) = options::recorded_child(options).id {
            return Some(own.into());
        }
        let number = match self.evaluator.program.naming {
            Naming::ByNumber => name,
            Naming::ByPlace => self.me.children,
        };
        self.me.children += 1;
        Some(automatic(&self.id, self.me.execution, number))
    }

    /// Handles a new request. Returns false if the instance has begun anew.
    pub(super) fn dispatch(&mut self, fiber: u64, name: u64, asked: &Asked) -> Result<bool, Stop> {
        let args = &asked.args;
        match &asked.what {
            RequestKind::Effect(Effect::Sleep | Effect::SleepUntil) => {
                let when = match args.items().first() {
                    Some(Value::Duration(duration)) => When::After(*duration),
                    Some(Value::Instant(instant)) => When::At(*instant),
                    _ => When::After(0),
                };
                self.out.push(Out::SetTimer { when, seq: name, timer: Timer::Sleep });
            }
            RequestKind::Effect(Effect::Receive) => {}
            RequestKind::Effect(Effect::Wait) if first_text(args) == *self.id => {
                self.known_at_once(fiber, ids::waits_for_itself(&self.id));
            }
            RequestKind::Effect(Effect::Wait) => {
                self.say(&first_text(args), Message::Wait(self.waiter(name)))
            }
            RequestKind::Effect(effect @ messages!()) => {
                if let Some((to, message)) = told(*effect, args, Some(self.waiter(name))) {
                    self.say(&to, message);
                }
            }
            RequestKind::Effect(Effect::SetStatus) => {
                self.me.custom = args.items().first().and_then(|value| Data::encode(value).ok());
                self.immediate(fiber);
            }
            RequestKind::Effect(Effect::ContinueAsNew) if self.me.cancelled.is_some() => {
                let reason = self.me.cancelled.as_ref().map(|what| what.reason.clone());
                self.finish(Outcome::Terminated(reason.unwrap_or_default()), Children::Cancelled);
                return Ok(false);
            }
            RequestKind::Effect(Effect::ContinueAsNew) => {
                self.continue_as_new(args.clone())?;
                return Ok(false);
            }
            RequestKind::Effect(Effect::Lock) => self.lock(fiber, name, args),
            RequestKind::Effect(Effect::Unlock) => {
                self.leave_section();
                self.immediate(fiber);
            }
            RequestKind::Effect(effect @ lines!()) => {
                if *effect == Effect::Print && self.evaluator.program.observes {
                    self.me.printed.push(args.clone());
                }
                self.me.open.remove(&fiber);
                self.lines.push_back((fiber, name));
            }
            RequestKind::Effect(
                Effect::Status | immediate!() | outside!() | files!() | programs!() | databases!() | looks!(),
            ) => self.attempt(fiber),
            RequestKind::Activity { name: activity, .. } => {
                if self.me.uncertain.contains(&fingerprint(&(activity, args))) {
                    let trouble = Anomaly::Repeated { by: self.id.clone(), asked: asked.clone() };
                    self.out.push(Out::Anomaly(trouble));
                }
                self.attempt(fiber);
            }
            RequestKind::Orchestration { name: function, options, start } => {
                let child = options::recorded_child(options);
                let id = self.me.open.get(&fiber).and_then(|open| open.child.clone()).unwrap_or_default();
                if !start && id == self.id && child.if_exists == IfExists::Join {
                    self.known_at_once(fiber, ids::waits_for_itself(&id));
                    return Ok(true);
                }
                let waiter = self.waiter(name);
                let function: Id = function.as_str().into();
                let owner = Owner(child.id.is_none().then(|| self.id.clone()));
                let message = match start {
                    true => Message::Begin {
                        function,
                        args: args.clone(),
                        if_exists: child.if_exists,
                        parent: None,
                        owner,
                        waiter: None,
                        started: Some(waiter),
                        attempt: 1,
                        later: child.later,
                    },
                    false => Message::Begin {
                        function,
                        args: args.clone(),
                        if_exists: child.if_exists,
                        parent: Some(self.me.life_id(&self.id)),
                        owner,
                        waiter: Some(waiter),
                        started: None,
                        attempt: child.attempt.max(1),
                        later: None,
                    },
                };
                self.say(&id, message);
                if let (false, Some(timeout)) = (*start, child.timeout) {
                    let when = When::After(timeout);
                    self.out.push(Out::SetTimer { when, seq: name, timer: Timer::Timeout });
                }
            }
            RequestKind::Operation { entity, operation, signal: None } => {
                let entity = EntityName::from(entity.clone());
                let within = self
                    .me
                    .section
                    .as_ref()
                    .is_some_and(|section| section.held && section.set.contains(&entity));
                let message = Message::Call {
                    caller: self.waiter(name),
                    operation: operation.as_str().into(),
                    args: args.clone(),
                    key: self.key(name),
                    within,
                    place: PlaceOf(asked.place),
                };
                self.tell(&entity, message);
            }
            RequestKind::Operation { entity, operation, signal: Some(after) } => {
                self.immediate(fiber);
                let message = Message::Signal {
                    operation: operation.as_str().into(),
                    args: args.clone(),
                    key: self.key(name),
                    place: PlaceOf(asked.place),
                };
                self.out.push(signal(EntityName::from(entity.clone()), message, after));
            }
        }
        Ok(true)
    }

    /// Answers a request as soon as it is made.
    pub(super) fn immediate(&mut self, fiber: u64) {
        self.answer_at_once(fiber, null());
    }

    /// Answers a request with an error as soon as it is made.
    fn known_at_once(&mut self, fiber: u64, error: ErrorData) {
        self.answer_at_once(fiber, answer(Err(error)));
    }

    fn answer_at_once(&mut self, fiber: u64, result: Answer) {
        if let Some(open) = self.me.open.remove(&fiber) {
            self.ready.push_back(Ready { fiber, seq: open.name, result });
        }
    }

    /// Begins an attempt at an activity or an effect.
    pub(super) fn attempt(&mut self, fiber: u64) {
        let Some(open) = self.me.open.get(&fiber) else { return };
        let (seq, policy) = (open.name, open.policy());
        let (execution, attempt, asked) = (self.me.execution, open.attempt, open.asked.clone());
        let task = Task { execution, attempt, asked, key: self.key(seq) };
        self.out.push(Out::Begin { seq, task });
        if let Some(timeout) = policy.timeout {
            self.out.push(Out::SetTimer { when: When::After(timeout), seq, timer: Timer::Timeout });
        }
        if let (1, Some(within)) = (attempt, policy.within) {
            self.out.push(Out::SetTimer { when: When::After(within), seq, timer: Timer::Within });
        }
    }

    /// Withdraws a request that nobody waits for any more.
    pub(super) fn withdraw(&mut self, open: &Open, children: Children) {
        self.out.push(Out::Clear { seq: open.name, all: true });
        self.leave(open, children);
    }

    /// Tells others that nobody waits for a request any more.
    pub(super) fn leave(&mut self, open: &Open, children: Children) {
        match &open.asked.what {
            RequestKind::Effect(Effect::Lock) => {
                self.leave_section();
                self.me.stale.insert(open.name);
            }
            RequestKind::Effect(effect) if is_sent(*effect) => {
                self.me.stale.insert(open.name);
            }
            RequestKind::Operation { .. } => {
                self.me.stale.insert(open.name);
            }
            RequestKind::Orchestration { start, .. } => {
                self.me.stale.insert(open.name);
                match children {
                    _ if *start => {}
                    Children::Left => {}
                    Children::Cancelled => self.cancel_child(open, "its caller gave up"),
                    Children::Terminated => {
                        let why = Data::of(&Value::str("its caller gave up"));
                        self.end_child(open, |by| Message::Terminate {
                            why,
                            children: true,
                            by: Some(by),
                            ack: None,
                        });
                    }
                }
            }
            _ => {}
        }
    }

    /// Cancels a child whose caller no longer waits, unless it was called as detached.
    pub(super) fn cancel_child(&mut self, open: &Open, why: &str) {
        if self.evaluator.program.mutation == Mutation::ChildrenDoNotCleanUp {
            let why = Data::of(&Value::str(why));
            return self.end_child(open, |by| Message::Terminate {
                why,
                children: true,
                by: Some(by),
                ack: None,
            });
        }
        let what = Cancellation {
            by: Canceller::Caller,
            place: locate(&self.evaluator.image(), open.asked.place),
            reason: Data::of(&Value::str(why)),
            grace: options::GRACE,
        };
        self.end_child(open, |by| Message::Cancel { what: Part::new(what), of: Some(by), ack: None });
    }

    fn end_child(&mut self, open: &Open, end: impl FnOnce(LifeId) -> Message) {
        let RequestKind::Orchestration { options, .. } = &open.asked.what else { return };
        let detached = options::recorded_child(options).detached;
        if let Some(child) = open.child.clone().filter(|_| !detached) {
            self.say(&child, end(self.me.life_id(&self.id)));
        }
    }

    pub(super) fn lock(&mut self, fiber: u64, name: u64, args: &Data) {
        let mut set = Vec::new();
        if let Some(Value::List(entities)) = args.items().first() {
            for entity in entities.as_slice() {
                if let Value::Entity(entity) = entity
                    && let Ok(entity) = EntityId::of(entity)
                {
                    set.push(EntityName::from(entity));
                }
            }
        }
        if self.evaluator.program.mutation == Mutation::UnsortedLocks && self.id.ends_with(['1', '3', '5']) {
            set.reverse();
        }
        let owner = self.waiter(name);
        let Some(first) = set.first().cloned() else {
            self.immediate(fiber);
            return;
        };
        let set: Arc<[EntityName]> = set.into();
        self.me.section = Some(Section { owner: owner.clone(), set: set.clone(), held: false });
        if let Some(timeout) = lock_timeout(args) {
            self.out.push(Out::SetTimer { when: When::After(timeout), seq: name, timer: Timer::Timeout });
        }
        self.tell(&first, Message::Lock { owner, set, at: 0 });
    }

    /// Leaves the critical section, whether it is held or only requested.
    pub(super) fn leave_section(&mut self) {
        let Some(Section { owner, set, held }) = self.me.section.take() else { return };
        if held {
            for entity in set.iter() {
                self.tell(entity, Message::Release { owner: owner.clone() });
            }
        } else if let Some(first) = set.first().cloned() {
            self.tell(&first, Message::Withdraw { owner, set, at: 0 });
        }
    }
}
