//! The gate: what is to leave the process, and waits until the writes that it depends on are durable.
//!
//! Invariant: what leaves comes from [`Outgoing::next_open`] alone, in the order in which it was held. Nothing overtakes an
//! output that waits before it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::{Durable, Gate, Gated, Leaving, Line, Outcome as Ending, Unwritten};
use crate::machine::ErrorData;
use crate::permissions::Permissions;

use super::Answer;
use super::command::Reply;
use super::effect_call::{EffectCall, Owner};

/// What waits until the writes that it depends on are durable.
pub(super) enum AwaitingCommit {
    Effect(EffectCall),
    Ended { instance: Arc<str>, outcome: Ending, told: bool },
    Reply { to: Answer, reply: Reply },
    Lost { what: String, error: ErrorData },
    Line { writer: Writing, line: Result<Line, ErrorData> },
}

/// Who hears that a line is out: the run that it is of, or who asked for an effect.
pub(super) enum Writing {
    Run(u64),
    Effect(Owner),
}

impl AwaitingCommit {
    /// What the engine lets out, in a process that permits so much outside.
    pub(super) fn of(leaving: Leaving, permitted: &Permissions) -> AwaitingCommit {
        match leaving {
            Leaving::Effect { step, effect, args, permissions } => {
                let permissions = permitted.and(&permissions);
                AwaitingCommit::effect(EffectCall { owner: Owner::Step(step), effect, args, permissions })
            }
            Leaving::Line { run, line } => AwaitingCommit::Line { writer: Writing::Run(run), line: Ok(line) },
            Leaving::Ended { instance, outcome, told } => AwaitingCommit::Ended { instance, outcome, told },
            Leaving::Lost { what, error } => AwaitingCommit::Lost { what, error },
        }
    }

    /// An effect that somebody asks for. What it writes leaves in turn with other lines.
    pub(super) fn effect(call: EffectCall) -> AwaitingCommit {
        match Line::of(call.effect, &call.args) {
            Some(line) => AwaitingCommit::Line { writer: Writing::Effect(call.owner), line },
            None => AwaitingCommit::Effect(call),
        }
    }

    /// Who waits for it, if it is an effect.
    fn owner(&self) -> Option<&Owner> {
        match self {
            AwaitingCommit::Effect(EffectCall { owner, .. })
            | AwaitingCommit::Line { writer: Writing::Effect(owner), .. } => Some(owner),
            _ => None,
        }
    }
}

/// The queue of what is to leave, and the gate before it.
#[derive(Default)]
pub(super) struct Outgoing {
    queue: VecDeque<Gated<AwaitingCommit>>,
    gate: Gate,
}

impl Outgoing {
    /// Holds an output until its writes are durable.
    pub(super) fn hold(&mut self, output: Gated<AwaitingCommit>) {
        self.queue.push_back(output);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether something waits for writes that are not on their way.
    pub(super) fn lacks_writes(&self) -> bool {
        self.queue.back().is_some_and(|last| self.gate.lacks_writes(last))
    }

    /// Writes are on their way.
    pub(super) fn send(&mut self, unwritten: &Unwritten) {
        self.gate.send(unwritten);
    }

    /// More writes are durable.
    pub(super) fn advance(&mut self, proof: Durable) {
        self.gate.advance(proof);
    }

    /// Takes the next output, if its writes are durable.
    pub(super) fn next_open(&mut self) -> Option<AwaitingCommit> {
        let first = self.queue.pop_front()?;
        match self.gate.open(first) {
            Ok(output) => Some(output),
            Err(first) => {
                self.queue.push_front(first);
                None
            }
        }
    }

    /// Drops the effects of owners that do not wait for them any more.
    pub(super) fn break_off(&mut self, is_gone: impl Fn(&Owner) -> bool) {
        self.queue.retain(|held| !held.peek().owner().is_some_and(&is_gone));
    }
}
