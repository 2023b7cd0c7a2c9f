//! How instances end, begin anew, and answer what comes after their end.

use crate::machine::{Data, ErrorData, IfExists, What, ids};

use super::super::evaluate::{Stop, handle};
use super::super::message::{Answer, Id, Message, Waiter, answer};
use super::super::program::Naming;
use super::sends::is_sent;
use super::{Out, Outcome, State, Step, Trouble, null, reply};

impl Step<'_, '_> {
    pub(super) fn finish(&mut self, outcome: Outcome, children: bool) {
        self.eval = None;
        for (_, open) in std::mem::take(&mut self.me.open) {
            self.withdraw(&open, children);
        }
        self.leave_section();
        self.ready.clear();
        self.me.events.clear();
        self.me.stale.clear();
        let waiters = std::mem::take(&mut self.me.waiters);
        self.me.state = State::Ended { outcome, told: !waiters.is_empty() };
        if let Some(result) = self.me.result(&self.id) {
            for waiter in &waiters {
                self.out.push(reply(waiter, result.clone()));
            }
        }
        for message in std::mem::take(&mut self.me.held_back) {
            self.refuse(&message);
        }
    }

    pub(super) fn continue_as_new(&mut self, args: Data) -> Result<(), Stop> {
        for (_, open) in std::mem::take(&mut self.me.open) {
            self.out.push(Out::Clear { seq: open.name, all: true });
            if let What::Orchestration { start: false, .. } = &open.asked.what {
                self.terminate_child(&open, "its caller began anew");
            }
            let answered = !matches!(open.asked.what, What::Activity { .. })
                && !matches!(open.asked.what, What::Effect(name) if !is_sent(name));
            if answered {
                self.me.stale.insert(open.name);
            }
        }
        self.ready.clear();
        self.me.printed.clear();
        self.me.uncertain.clear();
        if self.evaluator.program.naming == Naming::ByNumber {
            self.me.execution += 1;
            self.me.next = 0;
            self.me.stale.clear();
        }
        let evaluated = self.evaluator.begin(&self.me.function, &args, &self.id, self.me.attempt)?;
        self.evaluated(&evaluated)
    }

    /// A message for an instance that has ended.
    pub(super) fn refuse(&mut self, message: &Message) {
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

    /// An instance of that id is there already, and has ended or is another one.
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
                self.out.push(Out::Trouble(Trouble::Lost { what, error: result }));
            }
            None => {}
        }
    }

    /// **known ids**: a call or a start joins an instance of the same function and arguments, and is an error of any other.
    pub(super) fn known(&self, function: &Id, args: &Data, if_exists: IfExists) -> Result<(), ErrorData> {
        let known = ids::shown_call(&self.me.function, &self.me.args);
        let wanted = ids::shown_call(function, args);
        let is_same = *function == self.me.function && ids::same_arguments(&self.me.args, args);
        match if_exists {
            IfExists::Join if is_same => Ok(()),
            IfExists::Join => Err(ids::taken(&self.id, &known, &wanted)),
            IfExists::Fail => Err(ids::exists(&self.id, &known, &wanted)),
            IfExists::Replace => Err(ids::not_ended(&self.id, &self.id, &known, &wanted)),
        }
    }
}
