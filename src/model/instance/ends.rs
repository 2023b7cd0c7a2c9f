//! How instances end, begin anew, and answer messages after their end.

use crate::builtins::Effect;
use crate::machine::{Data, ErrorData, IfExists, RequestKind, ids};

use super::super::evaluate::{Stop, handle};
use super::super::message::{Answer, GRACE, Id, Message, Waiter, answer};
use super::super::part::Part;
use super::super::program::{Mutation, Naming};
use super::past::Past;
use super::sends::is_sent;
use super::{Anomaly, NO_REQUEST, Open, Out, Outcome, State, Step, null, reply};

/// What becomes of the called children when an instance ends or gives up.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Children {
    Left,
    Cancelled,
    Terminated,
}

impl Step<'_, '_> {
    pub(super) fn finish(&mut self, outcome: Outcome, children: Children) {
        self.eval = None;
        if self.me.cancelled.take().is_some() {
            self.out.push(Out::Clear { seq: GRACE, all: true });
        }
        if std::mem::take(&mut self.me.scheduled) {
            self.out.push(Out::Clear { seq: NO_REQUEST, all: true });
        }
        let waiters = std::mem::take(&mut self.me.waiters);
        let open = std::mem::take(&mut self.me.open);
        let is_section = |open: &Open| open.asked.what == RequestKind::Effect(Effect::Lock);
        let in_section = self.me.section.is_some() || open.values().any(is_section);
        self.me.state = State::Ended { outcome, told: !waiters.is_empty() };
        match self.may_go_back() {
            true => {
                let is_sleep =
                    |open: &Open| matches!(open.asked.what, RequestKind::Effect(effect) if effect.is_sleep());
                for open in open.values() {
                    if !is_sleep(open) {
                        self.out.push(Out::GiveUp { seq: open.name });
                    }
                    self.leave(open, children);
                }
                let events = std::mem::take(&mut self.me.events).into_iter();
                let events = events.map(|(name, payload)| Message::Event { name, payload, ack: None });
                let came = std::mem::take(&mut self.me.held_back);
                self.me.held_back = events.map(Part::new).chain(came).collect();
                (self.me.open, self.me.past.in_section) = (open, in_section);
                self.me.waiters.clone_from(&waiters);
            }
            false => {
                open.values().for_each(|open| self.withdraw(open, children));
                self.me.past = Past::default();
            }
        }
        self.leave_section();
        self.ready.clear();
        self.me.events.clear();
        self.me.stale.clear();
        if let Some(result) = self.me.result(&self.id) {
            for waiter in &waiters {
                self.out.push(reply(waiter, result.clone()));
            }
        }
        if !self.may_go_back() {
            for message in std::mem::take(&mut self.me.held_back) {
                self.refuse(&message);
            }
        }
    }

    /// Whether the instance has ended in a way that may be rewound.
    fn may_go_back(&self) -> bool {
        self.evaluator.program.interventions.rewinds > 0 && self.me.goes_back()
    }

    /// Keeps a message for an instance that may be rewound.
    fn keep(&mut self, message: &Message) {
        let execution = self.me.execution;
        let is_sleep = |seq: u64| {
            let open = self.me.open_named(seq).map(|(_, open)| &open.asked.what);
            matches!(open, Some(RequestKind::Effect(effect)) if effect.is_sleep())
        };
        let kept = match message {
            _ if !self.may_go_back() || self.evaluator.program.mutation == Mutation::FailedDrops => None,
            Message::Answer { execution: of, .. } if *of == execution => Some(message.clone()),
            Message::Due { execution: of, seq, .. } if *of == execution && is_sleep(*seq) => {
                Some(message.clone())
            }
            Message::Event { name, payload, .. } => {
                Some(Message::Event { name: name.clone(), payload: payload.clone(), ack: None })
            }
            _ => None,
        };
        self.me.held_back.extend(kept.map(Part::new));
    }

    pub(super) fn continue_as_new(&mut self, args: Data) -> Result<(), Stop> {
        for (_, open) in std::mem::take(&mut self.me.open) {
            self.out.push(Out::Clear { seq: open.name, all: true });
            if let RequestKind::Orchestration { start: false, .. } = &open.asked.what {
                self.cancel_child(&open, "its caller began anew");
            }
            let answered = !matches!(open.asked.what, RequestKind::Activity { .. })
                && !matches!(open.asked.what, RequestKind::Effect(effect) if !is_sent(effect));
            if answered {
                self.me.stale.insert(open.name);
            }
        }
        self.ready.clear();
        self.me.printed.clear();
        self.me.uncertain.clear();
        if self.evaluator.program.interventions.rewinds > 0 {
            self.me.past = Past { args: Some(args.clone()), ..Past::default() };
        }
        if self.evaluator.program.naming == Naming::ByNumber {
            self.me.execution.number += 1;
            self.me.next = 0;
            self.me.stale.clear();
        }
        let evaluated = self.evaluator.begin(&self.me.function, &args, &self.id, self.me.attempt)?;
        self.evaluated(&evaluated)
    }

    /// Handles a message for an instance that has ended.
    pub(super) fn refuse(&mut self, message: &Message) {
        self.keep(message);
        match message {
            Message::Begin { function, args, if_exists, waiter, started, .. } => {
                let result = match self.known(function, args, *if_exists) {
                    Ok(()) => self.me.result(&self.id).unwrap_or_else(null),
                    Err(error) => answer(Err(error)),
                };
                self.refuse_begin(waiter.as_ref(), started.as_ref(), result);
            }
            Message::Wait(waiter) => {
                let result = self.me.result(&self.id).unwrap_or_else(null);
                self.learned();
                self.out.push(reply(waiter, result));
            }
            Message::Event { ack: Some(ack), .. }
            | Message::Terminate { ack: Some(ack), .. }
            | Message::Cancel { ack: Some(ack), .. }
            | Message::Suspend { ack: Some(ack) }
            | Message::Resume { ack: Some(ack) } => self.out.push(reply(ack, null())),
            _ => {}
        }
    }

    pub(super) fn learned(&mut self) {
        if let State::Ended { told, .. } = &mut self.me.state {
            *told = true;
        }
    }

    /// Answers a message that should begin an instance, where the id has an instance that has ended
    /// or is another one.
    pub(super) fn refuse_begin(&mut self, waiter: Option<&Waiter>, started: Option<&Waiter>, result: Answer) {
        if let Some(waiter) = waiter {
            self.learned();
            self.out.push(reply(waiter, result.clone()));
        }
        let is_taken = (*result).as_ref().is_err_and(|error| error.kind().as_deref() == Some("id_taken"));
        match started {
            Some(started) if is_taken => self.out.push(reply(started, result)),
            Some(started) => self.out.push(reply(started, handle(&self.id.clone()))),
            None if waiter.is_none() && result.is_err() => {
                let what = format!("start of {}", self.id);
                self.out.push(Out::Anomaly(Anomaly::Lost { what, error: result }));
            }
            None => {}
        }
    }

    /// **known ids**: a call or a start joins an instance with the same function and arguments.
    /// With any other instance it is an error.
    pub(super) fn known(&self, function: &Id, args: &Data, if_exists: IfExists) -> Result<(), ErrorData> {
        let known = ids::shown_call(&self.me.function, &self.me.args);
        let wanted = ids::shown_call(function, args);
        let is_same = *function == self.me.function && ids::same_arguments(&self.me.args, args);
        match if_exists {
            IfExists::Join if is_same => Ok(()),
            IfExists::Join => Err(ids::taken(&self.id, &known, &wanted)),
            IfExists::Fail => Err(ids::exists(&self.id, &known, &wanted)),
            IfExists::Replace | IfExists::Supersede => {
                Err(ids::not_ended(&self.id, &self.id, &known, &wanted))
            }
        }
    }

    /// Answers a message that should replace this ended instance, where `running` in its tree has
    /// not ended.
    pub(super) fn is_not_replaced(&mut self, message: &Message, running: &Id) {
        let Message::Begin { function, args, waiter, started, .. } = message else { return };
        let known = ids::shown_call(&self.me.function, &self.me.args);
        let error = ids::not_ended(&self.id, running, &known, &ids::shown_call(function, args));
        self.refuse_begin(waiter.as_ref(), started.as_ref(), answer(Err(error)));
    }
}
