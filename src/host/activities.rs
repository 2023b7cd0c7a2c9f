//! Activities under way, with the steps that they are of.
//!
//! Invariant: an activity under way has one step, and that step has no other activity. An activity that was abandoned has
//! no sleep left.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::engine::StepId;
use crate::machine::Data;

use super::Outcome;
use super::workers::{Job, Workers};

/// Activities under way, and the workers that run them.
pub(super) struct Activities {
    workers: Workers,
    /// Both ways: the steps by the tickets, and the tickets by the steps.
    steps: HashMap<u64, StepId>,
    tickets: HashMap<StepId, u64>,
    /// Sleeps: when they end, and of which activity they are.
    sleeps: BTreeSet<(i64, u64)>,
}

impl Activities {
    pub(super) fn new(workers: Workers) -> Activities {
        Activities { workers, steps: HashMap::new(), tickets: HashMap::new(), sleeps: BTreeSet::new() }
    }

    /// Begins an activity. Gives its step back when there is no thread for it.
    pub(super) fn begin(&mut self, job: Job, step: StepId) -> Result<(), StepId> {
        let ticket = job.ticket;
        if !self.workers.begin(job) {
            return Err(step);
        }
        self.steps.insert(ticket, step.clone());
        self.tickets.insert(step, ticket);
        Ok(())
    }

    /// An activity is done. Returns its step, if it is waited for.
    pub(super) fn done(&mut self, ticket: u64) -> Option<StepId> {
        let step = self.steps.remove(&ticket)?;
        self.tickets.remove(&step);
        Some(step)
    }

    /// Nobody waits for a step any more. Returns the ticket of its activity, if one is under way.
    pub(super) fn abandon(&mut self, step: &StepId) -> Option<u64> {
        let ticket = self.tickets.remove(step)?;
        self.steps.remove(&ticket);
        self.workers.drop(ticket);
        self.sleeps.retain(|(_, sleeper)| *sleeper != ticket);
        Some(ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether an activity is under way.
    pub(super) fn has(&self, ticket: u64) -> bool {
        self.steps.contains_key(&ticket)
    }

    /// Answers an effect that an activity waits for.
    pub(super) fn answer(&mut self, ticket: u64, result: Outcome) {
        self.workers.answer(ticket, result);
    }

    /// An activity sleeps until then.
    pub(super) fn sleep(&mut self, ticket: u64, until: i64) {
        self.sleeps.insert((until, ticket));
    }

    /// When the next one wakes.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.sleeps.first().map(|(due, _)| *due)
    }

    /// Wakes those whose sleeps are over; whether there were any.
    pub(super) fn wake(&mut self, now: i64) -> bool {
        let mut any = false;
        while let Some(&(due, ticket)) = self.sleeps.first() {
            if due > now {
                break;
            }
            self.sleeps.pop_first();
            self.answer(ticket, Ok(Data::null()));
            any = true;
        }
        any
    }
}
