//! The running activities, with their steps.
//!
//! Invariant: a running activity has one step, and that step has no other activity. An abandoned
//! activity has no sleep and no call left.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use crate::engine::StepId;
use crate::machine::Data;

use super::workers::{Job, Workers};
use super::{Answer, EffectResult};

/// The running activities, and the workers that run them.
pub(super) struct Activities {
    workers: Workers,
    /// The steps by the tickets of their activities.
    steps: HashMap<u64, StepId>,
    /// The tickets by the steps.
    tickets: HashMap<StepId, u64>,
    /// The sleeps: the time of the end, and the ticket of the activity.
    sleeps: BTreeSet<(i64, u64)>,
    /// The calls of entities that wait for answers, with the tickets of their activities. An
    /// activity has one at a time.
    calls: HashMap<String, u64>,
    /// The activities that are offered to other processes.
    offered: HashSet<u64>,
    /// The calls of activities that run in other processes, with the receivers of the answers.
    distant: HashMap<String, Answer>,
}

impl Activities {
    pub(super) fn new(workers: Workers) -> Activities {
        let (steps, tickets, calls) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (offered, distant) = (HashSet::new(), HashMap::new());
        Activities { workers, steps, tickets, sleeps: BTreeSet::new(), calls, offered, distant }
    }

    /// Begins an activity. Gives the step back if there is no thread for it.
    pub(super) fn begin(&mut self, job: Job, step: StepId) -> Result<(), StepId> {
        let ticket = job.ticket;
        if !self.workers.begin(job) {
            return Err(step);
        }
        self.steps.insert(ticket, step.clone());
        self.tickets.insert(step, ticket);
        Ok(())
    }

    /// Removes an activity that is done. Returns its step, unless the activity was abandoned.
    pub(super) fn done(&mut self, ticket: u64) -> Option<StepId> {
        let step = self.steps.remove(&ticket)?;
        self.tickets.remove(&step);
        self.offered.remove(&ticket);
        Some(step)
    }

    /// Notes that an activity is offered to other processes. Returns its step, unless the activity
    /// was abandoned.
    pub(super) fn offer(&mut self, ticket: u64) -> Option<&StepId> {
        let step = self.steps.get(&ticket)?;
        self.offered.insert(ticket);
        Some(step)
    }

    /// Whether an activity is offered to other processes.
    pub(super) fn is_offered(&self, ticket: u64) -> bool {
        self.offered.contains(&ticket)
    }

    /// Takes the result of an attempt from another process. Returns the ticket, unless nobody waits
    /// for the attempt. An activity of the attempt that runs here is dropped.
    pub(super) fn finished(&mut self, step: &StepId) -> Option<u64> {
        let ticket = self.ticket(step)?;
        self.stop(ticket);
        Some(ticket)
    }

    /// Ends what an activity does here.
    fn stop(&mut self, ticket: u64) {
        self.workers.drop(ticket);
        self.sleeps.retain(|(_, sleeper)| *sleeper != ticket);
        self.calls.retain(|_, caller| *caller != ticket);
    }

    /// Notes a call by an activity that runs in another process.
    pub(super) fn distant_call(&mut self, caller: &str, to: Answer) {
        self.distant.insert(caller.to_string(), to);
    }

    /// Removes a call of another process that is answered, and returns the receiver of the answer.
    pub(super) fn distant_called(&mut self, caller: &str) -> Option<Answer> {
        self.distant.remove(caller)
    }

    /// Drops the activity of a step that nobody waits for. Returns the ticket, if there was an
    /// activity.
    pub(super) fn abandon(&mut self, step: &StepId) -> Option<u64> {
        let ticket = self.tickets.remove(step)?;
        self.steps.remove(&ticket);
        self.offered.remove(&ticket);
        self.stop(ticket);
        Some(ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns whether an activity is running.
    pub(super) fn has(&self, ticket: u64) -> bool {
        self.steps.contains_key(&ticket)
    }

    /// Returns the ticket of the activity of a step.
    pub(super) fn ticket(&self, step: &StepId) -> Option<u64> {
        self.tickets.get(step).copied()
    }

    /// Returns the step of a running activity.
    pub(super) fn step(&self, ticket: u64) -> Option<&StepId> {
        self.steps.get(&ticket)
    }

    /// Answers the effect that an activity waits for.
    pub(super) fn answer(&mut self, ticket: u64, result: EffectResult) {
        self.workers.answer(ticket, result);
    }

    /// Notes that an activity calls an entity, under this name. Returns its step, or `None` if the
    /// activity was abandoned.
    pub(super) fn calls(&mut self, ticket: u64, caller: &str) -> Option<StepId> {
        let step = self.steps.get(&ticket)?.clone();
        self.calls.insert(caller.to_string(), ticket);
        Some(step)
    }

    /// Removes a call that is answered. Returns the ticket of its activity, unless that was
    /// abandoned.
    pub(super) fn called(&mut self, caller: &str) -> Option<u64> {
        self.calls.remove(caller)
    }

    /// Lets an activity sleep until a time.
    pub(super) fn sleep(&mut self, ticket: u64, until: i64) {
        self.sleeps.insert((until, ticket));
    }

    /// Returns the time at which the next sleep ends.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.sleeps.first().map(|(due, _)| *due)
    }

    /// Wakes the activities whose sleeps are over. Returns whether there were any.
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
