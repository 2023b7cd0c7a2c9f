//! The performers: what carries effects and activities out, beside the loop.
//!
//! Invariant: performers tell the loop of what is done by messages, and give back what is answered at once. They know
//! nothing of the engine and of the store: nothing here decides what may leave.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::code::Code;
use crate::engine::{Outcome as Ending, StepId};
use crate::machine::{Data, ErrorData, Identity};
use crate::permissions::Permissions;

use super::activities::Activities;
use super::disk::{Disk, Job as FileJob};
use super::effect_call::{Answered, Owner};
use super::externs::Externs;
use super::groups::Groups;
use super::http::HttpClients;
use super::running::RunningEffects;
use super::settings::Settings;
use super::spans::Spans;
use super::threads::{Threads, no_threads};
use super::workers::{Job, Workers};
use super::{Clock, Message, Outcome, Terminal};

/// What carries effects and activities out.
pub(super) struct Performers {
    pub(super) messages: Sender<Message>,
    pub(super) activities: Activities,
    pub(super) threads: Threads,
    disk: Disk,
    /// Effects on files that are to be begun.
    pub(super) files: Vec<FileJob>,
    pub(super) http: HttpClients,
    pub(super) effects: RunningEffects,
    next_ticket: u64,
    pub(super) spans: Spans,
    /// An `extern activity` that was called and that this process does not provide.
    pub(super) not_provided: Option<String>,
    /// The folder of the store, without links.
    pub(super) folder: Option<PathBuf>,
    pub(super) clock: Clock,
    pub(super) externs: Arc<Externs>,
    /// The process stays when there is nothing to do.
    pub(super) stays: bool,
}

impl Performers {
    pub(super) fn new(messages: Sender<Message>, folder: Option<PathBuf>, settings: &Settings) -> Performers {
        Performers {
            activities: Activities::new(Workers::new(messages.clone(), settings.clock.clone())),
            threads: Threads::default(),
            disk: Disk::new(messages.clone()),
            messages,
            files: Vec::new(),
            http: HttpClients::default(),
            effects: RunningEffects::default(),
            next_ticket: 0,
            spans: Spans::default(),
            not_provided: None,
            folder,
            clock: settings.clock.clone(),
            externs: settings.externs.clone(),
            stays: settings.stays,
        }
    }

    /// A number for what begins now, that nothing else has.
    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The process groups of the programs that were started.
    pub(super) fn programs(&self) -> Groups {
        self.threads.programs.clone()
    }

    /// Whether nothing is under way, so that no answer comes by itself.
    pub(super) fn is_idle(&self) -> bool {
        self.effects.is_empty() && self.activities.is_empty()
    }

    /// Gives an answer to an activity, or gives it back for the engine.
    pub(super) fn answer(&mut self, owner: Owner, result: Outcome) -> Option<Answered> {
        match owner {
            Owner::Step(step) => Some(Answered { step, result }),
            Owner::Activity(ticket) => {
                self.activities.answer(ticket, result);
                None
            }
        }
    }

    /// Begins an activity. The answer says that there is no thread for it.
    pub(super) fn begin_activity(
        &mut self,
        step: StepId,
        code: Arc<Code>,
        name: String,
        args: Data,
        key: String,
        permissions: Permissions,
    ) -> Option<Answered> {
        let ticket = self.ticket();
        self.spans.begin(ticket, "activity", &step.owner, step.seq, &name);
        let identity = Identity { id: step.owner.to_string(), key, attempt: step.attempt, entity: None };
        let begun = self.activities.begin(Job { ticket, code, name, args, identity, permissions }, step);
        let no_threads = |step| {
            let result = Err(ErrorData::new("io_error", "the system gives no threads to run activities"));
            Answered { step, result }
        };
        begun.err().map(no_threads)
    }

    /// Begins the effects on files that were performed since the last time. The answers are of those that can't be.
    pub(super) fn begin_files(&mut self) -> Vec<Answered> {
        let mut answers = Vec::new();
        for job in self.disk.add(std::mem::take(&mut self.files)) {
            if let Some(owner) = self.effects.done(job.ticket) {
                answers.extend(self.answer(owner, Err(no_threads("it has none left"))));
            }
        }
        answers
    }

    /// An effect is done.
    pub(super) fn done(&mut self, ticket: u64, result: Outcome, terminal: &mut Terminal) -> Option<Answered> {
        if let Some(owner) = self.effects.done(ticket) {
            self.spans.end(ticket, Some(&result));
            return self.answer(owner, result);
        }
        // A line that was read for somebody who is gone is the next one's.
        if self.effects.was_stray(ticket) {
            terminal.keep(result);
        }
        None
    }

    /// An activity is done. Returns its step, if it is waited for.
    pub(super) fn activity_done(&mut self, ticket: u64, result: &Outcome) -> Option<StepId> {
        let step = self.activities.done(ticket)?;
        self.spans.end(ticket, Some(result));
        Some(step)
    }

    /// Nobody waits for a step any more: its activity and its effects are broken off. Returns who is gone with it.
    pub(super) fn abandon(&mut self, step: StepId) -> Gone {
        let gone = Gone { activity: self.activities.abandon(&step), step };
        if let Some(ticket) = gone.activity {
            self.spans.end(ticket, None);
        }
        for ticket in self.effects.break_off(|owner| gone.has(owner)) {
            self.spans.end(ticket, None);
        }
        gone
    }

    /// Breaks all effects off: the process goes.
    pub(super) fn abort_all(&self) {
        self.effects.abort_all();
    }

    /// An instance has ended.
    pub(super) fn instance_ended(&mut self, instance: &str, outcome: &Ending) {
        self.spans.ended(instance, outcome);
    }
}

/// Whoever does not wait for effects any more: a step, and its activity.
pub(super) struct Gone {
    step: StepId,
    activity: Option<u64>,
}

impl Gone {
    pub(super) fn has(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Step(step) => *step == self.step,
            Owner::Activity(ticket) => Some(*ticket) == self.activity,
        }
    }
}
