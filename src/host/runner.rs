//! A runner: it carries out activities that other hosts have offered.
//!
//! Invariant: a runner has no engine and no store. It begins no effect while its lease is over, and
//! each attempt that it has begun either ends in [`Ran::Finished`] or is dropped.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::code::Code;
use crate::machine::{Data, ErrorData};
use crate::permissions::Permissions;

use super::effect_call::{EffectCall, Owner};
use super::measures::Measures;
use super::offers::{Attempt, CallOf, Finished, Offer};
use super::outgoing::{AwaitingCommit, Writing};
use super::performers::Performers;
use super::running::Running;
use super::settings::Settings;
use super::{Clock, EffectResult, Lease, Message, Terminal};

/// Carries out activities of other hosts.
pub struct Runner {
    messages: Receiver<Message>,
    sender: Sender<Message>,
    performers: Performers,
    terminal: Terminal,
    lease: Lease,
    clock: Clock,
    /// What this process permits.
    permissions: Permissions,
    /// The effects that wait for the lease.
    held: Vec<EffectCall>,
}

/// Something that became of an activity.
pub enum Ran {
    /// It has ended.
    Finished(Box<Finished>),
    /// It calls an entity, and waits for the answer.
    Calls(Box<CallOf>, CallReply),
    /// Nothing: somebody has woken the runner.
    Woken,
}

/// The means to answer the call of an activity.
pub struct CallReply {
    sender: Sender<Message>,
    ticket: u64,
}

impl CallReply {
    pub fn give(self, result: EffectResult) {
        // The runner may be gone.
        let _ = self.sender.send(Message::Done { ticket: self.ticket, result });
    }
}

/// Wakes a runner that waits. Clones wake the same one.
#[derive(Clone)]
pub struct Waker(Sender<Message>);

impl Waker {
    pub fn wake(&self) {
        let _ = self.0.send(Message::Wake);
    }
}

impl Runner {
    /// Returns a runner with the settings of the hosts of this process.
    pub fn new(settings: &Settings, lease: Lease) -> Runner {
        let (sender, messages) = channel();
        let settings = Settings { offers: None, stays: true, ..settings.clone() };
        Runner {
            performers: Performers::new(sender.clone(), None, &settings, Measures::default()),
            messages,
            sender,
            terminal: Terminal::new(),
            lease,
            clock: settings.clock,
            permissions: settings.permissions,
            held: Vec::new(),
        }
    }

    pub fn waker(&self) -> Waker {
        Waker(self.sender.clone())
    }

    /// Begins an activity. Returns its end if the system gives no thread for it.
    pub fn begin(&mut self, code: Arc<Code>, offer: Offer) -> Option<Finished> {
        let Offer { attempt, name, args, key, permissions, .. } = offer;
        let permissions = self.permissions.and(&permissions);
        let failed = self.performers.begin_activity(attempt.step(), code, name, args, key, permissions);
        failed.map(|failed| Finished::new(attempt, failed.result, Vec::new()))
    }

    /// Drops an activity that nobody waits for.
    pub fn drop(&mut self, attempt: &Attempt) {
        let gone = self.performers.abandon(attempt.step());
        self.held.retain(|call| !gone.has(&call.owner));
    }

    /// Works until something became of an activity, for some time at most.
    pub fn work(&mut self, patience: Duration) -> Option<Ran> {
        let until = Instant::now() + patience;
        loop {
            self.perform_held();
            let now = self.clock.now_after(0);
            self.performers.activities.wake(now);
            let due = self.performers.activities.next_due();
            let due = due.map(|due| Duration::from_nanos(due.saturating_sub(now).max(0) as u64));
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(due.map_or(left, |due| due.min(left)));
            if let Ok(message) = message {
                if matches!(message, Message::Wake) {
                    return Some(Ran::Woken);
                }
                if let Some(ran) = self.message(message) {
                    return Some(ran);
                }
            } else if left.is_zero() {
                return None;
            }
        }
    }

    fn message(&mut self, message: Message) -> Option<Ran> {
        match message {
            Message::Done { ticket, result } => {
                let answered = self.performers.done(ticket, result, &mut self.terminal);
                debug_assert!(answered.is_none(), "a runner has no steps of instances");
                None
            }
            Message::Activity { ticket, result, sends } => {
                let attempt = Attempt::of(&self.performers.activity_done(ticket, &result)?)?;
                Some(Ran::Finished(Box::new(Finished::new(attempt, result, sends))))
            }
            Message::Asks { ticket, effect, args, permissions } => {
                if self.performers.activities.has(ticket) {
                    let call = EffectCall { owner: Owner::Activity(ticket), effect, args, permissions };
                    self.held.push(call);
                }
                None
            }
            Message::Calls { ticket, entity, operation, args, permissions } => {
                let attempt = Attempt::of(self.performers.activities.step(ticket)?)?;
                let call = CallOf { attempt, entity, operation, args, permissions };
                let number = self.performers.ticket();
                let owner = Owner::Activity(ticket);
                self.performers.effects.begin(number, Running { owner, abort: None, reads_input: false });
                Some(Ran::Calls(Box::new(call), CallReply { sender: self.sender.clone(), ticket: number }))
            }
            _ => None,
        }
    }

    /// Begins the effects that were asked for, unless the lease is over: then another process may
    /// have their activities.
    fn perform_held(&mut self) {
        if self.held.is_empty() || !self.lease.holds() {
            return;
        }
        for call in std::mem::take(&mut self.held) {
            match AwaitingCommit::effect(call) {
                AwaitingCommit::Line { writer: Writing::Effect(owner), line } => {
                    let written = line.and_then(|line| {
                        let written = self.terminal.line(&line).and_then(|()| self.terminal.flush());
                        written.map_err(|error| ErrorData::new("io_error", crate::os::reason(&error)))
                    });
                    self.performers.answer(owner, written.map(|()| Data::null()));
                }
                AwaitingCommit::Effect(call) => {
                    let time = self.clock.now_after(0);
                    self.performers.perform(call, time, &mut self.terminal);
                }
                _ => {}
            }
        }
        self.performers.begin_files();
    }
}
