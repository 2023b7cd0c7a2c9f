//! The gate, and the queue of outputs before it.
//!
//! Invariant: an output leaves by [`Outgoing::next_open`] alone, once its writes are durable.
//! Outputs leave in the order in which they were held, so none overtakes another.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::{Durable, Ending, Gate, Gated, Leaving, Line, Unwritten};
use crate::machine::ErrorData;
use crate::permissions::Permissions;

use super::command::Reply;
use super::effect_call::{EffectCall, Owner};
use super::{Answer, EffectResult};

/// An output that waits until the writes that it depends on are durable.
pub(super) enum AwaitingCommit {
    Effect(EffectCall),
    Ended {
        instance: Arc<str>,
        outcome: Ending,
        told: bool,
    },
    Reply {
        to: Answer,
        reply: Reply,
    },
    Lost {
        what: String,
        error: ErrorData,
    },
    /// The answer to a call of a client or an activity.
    Answered {
        caller: String,
        result: EffectResult,
    },
    Line {
        writer: Writing,
        line: Result<Line, ErrorData>,
    },
}

/// The party that is told that a line is out: the run of the line, or the owner of an effect.
pub(super) enum Writing {
    Run(u64),
    Effect(Owner),
}

impl AwaitingCommit {
    /// Returns the form in which the host holds an output of the engine. `permitted` is what this
    /// process permits.
    pub(super) fn of(leaving: Leaving, permitted: &Permissions) -> AwaitingCommit {
        match leaving {
            Leaving::Effect { step, effect, args, permissions } => {
                let permissions = permitted.and(&permissions);
                AwaitingCommit::effect(EffectCall { owner: Owner::Step(step), effect, args, permissions })
            }
            Leaving::Line { run, line } => AwaitingCommit::Line { writer: Writing::Run(run), line: Ok(line) },
            Leaving::Ended { instance, outcome, told } => AwaitingCommit::Ended { instance, outcome, told },
            Leaving::Lost { what, error } => AwaitingCommit::Lost { what, error },
            Leaving::Answered { caller, result } => AwaitingCommit::Answered { caller, result },
        }
    }

    /// Returns the form in which the host holds an effect. An effect that writes a line takes its
    /// turn among the other lines.
    pub(super) fn effect(call: EffectCall) -> AwaitingCommit {
        match Line::of(call.effect, &call.args) {
            Some(line) => AwaitingCommit::Line { writer: Writing::Effect(call.owner), line },
            None => AwaitingCommit::Effect(call),
        }
    }

    /// Returns the owner of an effect, or `None` for other outputs.
    fn owner(&self) -> Option<&Owner> {
        match self {
            AwaitingCommit::Effect(EffectCall { owner, .. })
            | AwaitingCommit::Line { writer: Writing::Effect(owner), .. } => Some(owner),
            _ => None,
        }
    }
}

/// The outputs that are to leave the process, and their gate.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Gated<AwaitingCommit>>,
    gate: Gate,
}

impl Outgoing {
    /// Adds an output, which waits until its writes are durable.
    pub(super) fn hold(&mut self, output: Gated<AwaitingCommit>) {
        self.queue.push_back(output);
    }

    /// Returns whether no output waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether an output waits for writes that are not in flight yet.
    pub(super) fn lacks_writes(&self) -> bool {
        self.queue.back().is_some_and(|last| self.gate.lacks_writes(last))
    }

    /// Takes note that writes are in flight.
    pub(super) fn send(&mut self, unwritten: &Unwritten) {
        self.gate.send(unwritten);
    }

    /// Takes note that more writes are durable.
    pub(super) fn advance(&mut self, proof: Durable) {
        self.gate.advance(proof);
    }

    /// Removes and returns the next output, if its writes are durable.
    pub(super) fn next_open(&mut self) -> Option<AwaitingCommit> {
        if !self.gate.is_open(self.queue.front()?) {
            return None;
        }
        self.queue.pop_front().and_then(|first| self.gate.open(first).ok())
    }

    /// Removes and returns the replies to clients of this process whose writes are durable.
    pub(super) fn take_replies(&mut self) -> Vec<(Answer, Reply)> {
        let (mut replies, mut rest) = (Vec::new(), VecDeque::new());
        for held in std::mem::take(&mut self.queue) {
            let is_reply = matches!(held.peek(), AwaitingCommit::Reply { to: Answer::Here(_), .. });
            if !is_reply || !self.gate.is_open(&held) {
                rest.push_back(held);
            } else if let Ok(AwaitingCommit::Reply { to, reply }) = self.gate.open(held) {
                replies.push((to, reply));
            }
        }
        self.queue = rest;
        replies
    }

    /// Drops the effects whose owners no longer wait for them.
    pub(super) fn break_off(&mut self, is_gone: impl Fn(&Owner) -> bool) {
        self.queue.retain(|held| !held.peek().owner().is_some_and(&is_gone));
    }
}
