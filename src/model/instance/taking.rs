//! The effects of messages, and evaluation with the answers that have come.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::options::{self, Policy};
use crate::machine::{Cancellation, ErrorData, RequestKind, Value, format, is_cancellation};

use super::super::evaluate::{Evaluated, Stop, handle};
use super::super::message::{Answer, Asked, GRACE, Id, Message, Timer, Waiter, answer};
use super::super::part::{Part, fingerprint};
use super::super::program::{Mutation, Naming};
use super::super::timers::When;
use super::ends::Children;
use super::past::Input;
use super::sends::sent;
use super::{Open, Out, Outcome, Ready, Step, first_text, lock_timeout, null, reply};

impl Step<'_, '_> {
    pub(super) fn take(&mut self, message: &Message) -> Result<(), Stop> {
        match message {
            Message::Answer { .. } | Message::Due { .. } if self.me.suspended => {
                self.me.held_back.push_back(Part::new(message.clone()));
            }
            // There is nothing to clean up in an instance that has not begun.
            Message::Cancel { what, of, ack } if self.me.scheduled => {
                if of.is_none() || *of == self.me.parent {
                    self.finish(Outcome::Terminated(what.reason.clone()), Children::Terminated);
                }
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            // So has the cancellation.
            Message::Cancel { what, of, ack } if self.me.suspended => {
                let cancel = Message::Cancel { what: what.clone(), of: of.clone(), ack: None };
                self.me.held_back.push_back(Part::new(cancel));
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            // The event has arrived, and is taken in its turn.
            Message::Event { name, payload, ack } if self.me.suspended => {
                let event = Message::Event { name: name.clone(), payload: payload.clone(), ack: None };
                self.me.held_back.push_back(Part::new(event));
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            Message::Answer { execution, seq, result, sends } => {
                if *execution != self.me.execution {
                    return Ok(());
                }
                match self.me.open_named(*seq) {
                    Some((fiber, _)) => self.answered(fiber, result.clone(), sends)?,
                    None => {
                        self.me.stale.remove(seq);
                    }
                }
            }
            Message::Due { execution, timer: Timer::Grace, .. } if *execution == self.me.execution => {
                if let Some(what) = &self.me.cancelled {
                    self.finish(Outcome::Terminated(what.reason.clone()), Children::Terminated);
                }
            }
            Message::Due { timer: Timer::Begin, .. } if self.me.scheduled => {
                self.me.scheduled = false;
                self.begin()?;
            }
            Message::Due { execution, seq, timer } if *execution == self.me.execution => {
                if let Some((fiber, _)) = self.me.open_named(*seq) {
                    self.due(fiber, *timer)?;
                }
            }
            Message::Due { .. } => {}
            Message::Event { name, payload, ack } => {
                self.me.events.push((name.clone(), payload.clone()));
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            Message::Cancel { what, of, ack } => {
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
                if (of.is_none() || *of == self.me.parent) && self.me.cancelled.is_none() {
                    self.cancel(what)?;
                }
            }
            Message::Wait(waiter) => self.waits(waiter),
            Message::Begin { function, args, if_exists, waiter, started, .. } => {
                if let Err(error) = self.known(function, args, *if_exists) {
                    let error = answer(Err(error));
                    self.refuse_begin(waiter.as_ref(), started.as_ref(), error);
                    return Ok(());
                }
                if let Some(waiter) = waiter {
                    self.waits(waiter);
                }
                let id = self.id.clone();
                self.out.extend(started.as_ref().map(|started| reply(started, handle(&id))));
            }
            Message::Suspend { ack } => {
                self.me.suspended = true;
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            Message::Resume { ack } => {
                self.me.suspended = false;
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
                for message in std::mem::take(&mut self.me.held_back) {
                    self.take(&message)?;
                    self.go_on()?;
                    if self.eval.is_none() {
                        break;
                    }
                }
            }
            Message::Terminate { why, children, by, ack } => {
                if by.is_some() && *by != self.me.parent {
                    return Ok(());
                }
                let children = if *children { Children::Terminated } else { Children::Left };
                self.finish(Outcome::Terminated(why.clone()), children);
                self.out.extend(ack.as_ref().map(|ack| reply(ack, null())));
            }
            other => return Err(Stop::Fault(format!("{} was sent {other}", self.id))),
        }
        Ok(())
    }

    /// Cancels everything in the instance, and begins its grace period.
    fn cancel(&mut self, what: &Part<Cancellation>) -> Result<(), Stop> {
        let Some(eval) = self.eval.clone() else { return Ok(()) };
        self.me.cancelled = Some(what.clone());
        self.begin_grace(what);
        let evaluated = self.evaluator.cancel(&eval, what)?;
        self.note(&Input::Cancel(what.clone()), &evaluated);
        self.evaluated(&evaluated)
    }

    pub(super) fn begin_grace(&mut self, what: &Cancellation) {
        if self.evaluator.program.mutation == Mutation::NoGrace {
            return;
        }
        let when = When::After(what.grace);
        self.out.push(Out::SetTimer { when, seq: GRACE, timer: Timer::Grace });
    }

    pub(super) fn waits(&mut self, waiter: &Waiter) {
        if !self.me.waiters.contains(waiter) {
            self.me.waiters.push(waiter.clone());
        }
    }

    /// Handles the answer to a request: plans another attempt, or closes the request.
    pub(super) fn answered(&mut self, fiber: u64, result: Answer, sends: &[Asked]) -> Result<(), Stop> {
        let Some(open) = self.me.open.get_mut(&fiber) else { return Ok(()) };
        let policy = open.policy();
        let name = open.name;
        let mut result = result;
        let mut again = open.attempt < policy.times
            && (*result).as_ref().is_err_and(|error| policy.tries_again(&error.value.decode()));
        if again
            && policy.asks
            && let Some(eval) = &self.eval
        {
            match self.evaluator.judge(eval, fiber, &result)? {
                Ok(verdict) => again = verdict,
                Err(own) => (again, result) = (false, answer(Err(own))),
            }
        }
        let Some(open) = self.me.open.get_mut(&fiber) else { return Ok(()) };
        if again {
            let when = pause(&policy, open.attempt);
            open.attempt += 1;
            open.failed = Some(result);
            self.out.push(Out::Clear { seq: name, all: false });
            self.out.push(Out::SetTimer { when, seq: name, timer: Timer::Retry });
            return Ok(());
        }
        self.closed(fiber, result, sends)
    }

    /// Closes a request with its final answer.
    fn closed(&mut self, fiber: u64, result: Answer, sends: &[Asked]) -> Result<(), Stop> {
        let Some(open) = self.me.open.get(&fiber) else { return Ok(()) };
        let name = open.name;
        self.note_uncertain(fiber, (*result).as_ref().err());
        self.me.open.remove(&fiber);
        self.out.push(Out::Clear { seq: name, all: true });
        let key = self.key(name);
        self.send_all(&key, sends)?;
        if let Some(section) =
            self.me.section.as_mut().filter(|section| section.owner.seq == name && !section.held)
        {
            section.held = result.is_ok();
        }
        self.ready.push_back(Ready { fiber, seq: name, result });
        Ok(())
    }

    /// Notes an activity that may have done its work although it has no result.
    pub(super) fn note_uncertain(&mut self, fiber: u64, error: Option<&ErrorData>) {
        let Some(open) = self.me.open.get(&fiber) else { return };
        let RequestKind::Activity { name, .. } = &open.asked.what else { return };
        let uncertain = match error.map(|error| error.kind().unwrap_or_default()) {
            Some(kind) => {
                ["timeout", "cancelled", "http", "io", "unknown", "interrupted", "lost"].contains(&&*kind)
            }
            None => false,
        };
        if uncertain && self.evaluator.program.is_keyed(name) {
            self.me.uncertain.insert(fingerprint(&(name, &open.asked.args)));
        }
    }

    pub(super) fn due(&mut self, fiber: u64, timer: Timer) -> Result<(), Stop> {
        let Some(open) = self.me.open.get(&fiber) else { return Ok(()) };
        let (name, asked) = (open.name, open.asked.clone());
        match timer {
            // This timer is of no request.
            Timer::Begin => Ok(()),
            Timer::Sleep => self.answered(fiber, null(), &[]),
            Timer::Retry => {
                if let Some(open) = self.me.open.get_mut(&fiber) {
                    open.failed = None;
                }
                self.attempt(fiber);
                Ok(())
            }
            // The next attempt would begin too late, so there is none.
            Timer::Within if open.failed.is_some() => {
                let last = open.failed.clone().unwrap_or_else(null);
                self.closed(fiber, last, &[])
            }
            // The grace period belongs to no request.
            Timer::Grace => Ok(()),
            Timer::Timeout | Timer::Within => {
                let policy = open.policy();
                let timeout = |after: Option<i64>| format::duration(after.unwrap_or(0));
                let error = match &asked.what {
                    RequestKind::Activity { name, .. } => {
                        let limit = if timer == Timer::Within { policy.within } else { policy.timeout };
                        let after = timeout(limit);
                        let message = format!("`{name}` was not done within {after}");
                        ErrorData::with("timeout", message, [("activity", Value::str(name.as_str()))])
                    }
                    RequestKind::Orchestration { name, options, .. } => {
                        let after = options::child(&options.decode()).ok().and_then(|child| child.timeout);
                        let message = format!("`{name}` was not done within {}", timeout(after));
                        ErrorData::with("timeout", message, [("orchestration", Value::str(name.as_str()))])
                    }
                    _ => {
                        let after = lock_timeout(&asked.args);
                        ErrorData::new(
                            "timeout",
                            format!("the entities were not free within {}", timeout(after)),
                        )
                    }
                };
                match &asked.what {
                    RequestKind::Orchestration { .. } => {
                        let open = open.clone();
                        self.cancel_child(&open, "its caller did not wait longer");
                        self.me.stale.insert(name);
                    }
                    RequestKind::Effect(Effect::Lock) => {
                        self.leave_section();
                        self.me.stale.insert(name);
                    }
                    _ => {}
                }
                match timer {
                    Timer::Within => self.closed(fiber, answer(Err(error)), &[]),
                    _ => self.answered(fiber, answer(Err(error)), &[]),
                }
            }
        }
    }

    /// Evaluates the instance from its beginning.
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        let (function, args) = (self.me.function.clone(), self.me.args.clone());
        let evaluated = self.evaluator.begin(&function, &args, &self.id, self.me.attempt)?;
        self.evaluated(&evaluated)?;
        self.go_on()
    }

    /// Evaluates with the answers that have come, until the instance waits for more or ends.
    pub(super) fn go_on(&mut self) -> Result<(), Stop> {
        while let Some(eval) = self.eval.clone()
            && !self.me.suspended
        {
            let line = self.lines.pop_front().map(|(fiber, seq)| Ready { fiber, seq, result: null() });
            let Ready { fiber, seq, result } = match line.or_else(|| self.ready.pop_front()) {
                Some(next) => next,
                None => match self.receive() {
                    Some(next) => next,
                    None => break,
                },
            };
            let evaluated = self.evaluator.resume(&eval, fiber, &result)?;
            self.note(&Input::Answer(seq, result), &evaluated);
            self.evaluated(&evaluated)?;
        }
        Ok(())
    }

    /// Returns the first event that a request waits for, and the request that gets the event. Among
    /// requests for the same name, this is the oldest.
    pub(super) fn receive(&mut self) -> Option<Ready> {
        if self.me.events.is_empty() {
            return None;
        }
        let mut waiting: BTreeMap<Id, (u64, u64)> = BTreeMap::new();
        for (fiber, open) in &self.me.open {
            if open.asked.what == RequestKind::Effect(Effect::Receive) {
                let name: Id = first_text(&open.asked.args).into();
                let first = waiting.entry(name).or_insert((open.turn, *fiber));
                *first = (*first).min((open.turn, *fiber));
            }
        }
        let at = self.me.events.iter().position(|(name, _)| waiting.contains_key(name))?;
        let (name, payload) = self.me.events.remove(at);
        let (_, fiber) = *waiting.get(&name)?;
        let open = self.me.open.remove(&fiber)?;
        Some(Ready { fiber, seq: open.name, result: answer(Ok(payload)) })
    }

    /// Returns the position of a new request among those that wait for an event of the same name:
    /// the last. For other requests the order does not matter.
    fn turn(&mut self, asked: &Asked) -> u64 {
        if asked.what != RequestKind::Effect(Effect::Receive) {
            return 0;
        }
        let alike = |open: &&mut Open| open.asked.what == asked.what && open.asked.args == asked.args;
        let mut known: Vec<&mut Open> = self.me.open.values_mut().filter(alike).collect();
        known.sort_by_key(|open| open.turn);
        // New numbers, so that they say nothing about requests that are gone.
        (0..).zip(&mut known).for_each(|(turn, open)| open.turn = turn);
        known.len() as u64
    }

    /// Applies the result of a step of evaluation.
    pub(super) fn evaluated(&mut self, evaluated: &Rc<Evaluated>) -> Result<(), Stop> {
        self.eval = evaluated.eval.clone();
        // After a rewind, requests that a failure withdraws may be waited for again. `finish`
        // handles them.
        let goes_back = self.evaluator.program.interventions.rewinds > 0
            && evaluated.result.as_ref().is_some_and(|result| result.is_err());
        for fiber in &evaluated.withdrawn {
            self.note_uncertain(*fiber, Some(&ErrorData::new("cancelled", "")));
            if goes_back {
                continue;
            }
            if let Some(open) = self.me.open.remove(fiber) {
                self.withdraw(&open, Children::Cancelled);
            }
        }
        let first = self.me.next;
        if self.evaluator.program.naming == Naming::ByNumber {
            self.me.next += evaluated.count;
        }
        for (fiber, offset, asked) in &evaluated.requests {
            let name = match self.evaluator.program.naming {
                Naming::ByNumber => first + offset,
                Naming::ByPlace => self.free_name(),
            };
            self.asked.push(asked.clone());
            let child = self.child(asked, name);
            let turn = self.turn(asked);
            let open = Open { name, asked: asked.clone(), attempt: 1, child, failed: None, turn };
            self.me.open.insert(*fiber, open);
            if !self.dispatch(*fiber, name, asked)? {
                return Ok(());
            }
        }
        if let Some(result) = &evaluated.result {
            let outcome = match (&**result, &self.me.cancelled) {
                (Ok(_), _) => Outcome::Completed(result.clone()),
                // Nobody has caught the error of the cancellation.
                (Err(error), Some(what)) if is_cancellation(error) => {
                    Outcome::Terminated(what.reason.clone())
                }
                (Err(_), _) => Outcome::Failed(result.clone()),
            };
            self.finish(outcome, Children::Cancelled);
        }
        Ok(())
    }

    pub(super) fn free_name(&self) -> u64 {
        let used =
            |name: u64| self.me.stale.contains(&name) || self.me.open.values().any(|open| open.name == name);
        (0..).find(|name| !used(*name)).unwrap_or(u64::MAX)
    }

    /// Sends the messages of an activity together with its result.
    fn send_all(&mut self, key: &Id, sends: &[Asked]) -> Result<(), Stop> {
        let outs = sent(self.evaluator.program.naming, Some(&self.id), key, sends)?;
        self.out.extend(outs);
        Ok(())
    }
}

/// Returns the pause before the next attempt, a part of which may be random.
fn pause(policy: &Policy, attempt: u32) -> When {
    let whole = Policy { jitter: 0.0, ..policy.clone() }.pause(attempt, 0);
    When::Between((whole as f64 * (1.0 - policy.jitter)) as i64, whole)
}
