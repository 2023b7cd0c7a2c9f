//! The performers, which carry out effects and activities beside the loop.
//!
//! Invariant: the performers never call the engine, the store or the loop. They return what is
//! answered at once, and send the loop a message about everything that takes time. Whatever they
//! are given may leave the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::code::Code;
use crate::engine::{Ending, StepId};
use crate::machine::{Data, ErrorData, Identity};
use crate::permissions::Permissions;

use super::activities::Activities;
use super::disk::{Disk, FileJob};
use super::effect_call::{Answered, Owner};
use super::externs::Externs;
use super::groups::Groups;
use super::http::HttpClients;
use super::measures::{Measures, Watches};
use super::running::RunningEffects;
use super::settings::Settings;
use super::spans::Spans;
use super::sql::Databases;
use super::streams::Streams;
use super::threads::{Threads, no_threads};
use super::workers::{Job, Workers};
use super::{Clock, EffectResult, Message, Terminal};

/// Everything that carries out effects and activities.
pub(super) struct Performers {
    pub(super) messages: Sender<Message>,
    pub(super) activities: Activities,
    pub(super) threads: Threads,
    disk: Disk,
    /// The effects on files that begin with the next [`Performers::begin_files`].
    pub(super) files: Vec<FileJob>,
    pub(super) http: HttpClients,
    pub(super) effects: RunningEffects,
    /// The programs that are read line by line.
    pub(super) streams: Streams,
    pub(super) databases: Databases,
    next_ticket: u64,
    pub(super) spans: Spans,
    pub(super) watches: Watches,
    pub(super) measures: Measures,
    /// The `extern activity` that was called and that this process does not provide.
    pub(super) not_provided: Option<String>,
    /// The folder of the store, as a path without links.
    pub(super) folder: Option<Arc<Path>>,
    pub(super) clock: Clock,
    pub(super) externs: Arc<Externs>,
    /// Whether the process stays when there is nothing to do.
    pub(super) stays: bool,
}

impl Performers {
    pub(super) fn new(
        messages: Sender<Message>,
        folder: Option<PathBuf>,
        settings: &Settings,
        measures: Measures,
    ) -> Performers {
        let workers = Workers::new(messages.clone(), settings.clock.clone(), settings.offers.is_some());
        Performers {
            activities: Activities::new(workers),
            threads: Threads::default(),
            disk: Disk::new(messages.clone()),
            messages,
            files: Vec::new(),
            http: HttpClients::default(),
            effects: RunningEffects::default(),
            streams: Streams::default(),
            databases: Databases::default(),
            next_ticket: 0,
            spans: Spans::default(),
            watches: Watches::default(),
            measures,
            not_provided: None,
            folder: folder.map(Arc::from),
            clock: settings.clock.clone(),
            externs: settings.externs.clone(),
            stays: settings.stays,
        }
    }

    /// Returns a new number for an effect or an activity.
    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Returns the process groups of the programs that were started.
    pub(super) fn programs(&self) -> Groups {
        self.threads.programs.clone()
    }

    /// Returns whether nothing is running, so that no answer can come.
    pub(super) fn is_idle(&self) -> bool {
        self.effects.is_empty() && self.activities.is_empty()
    }

    /// Passes an answer to an activity, or returns the answer to a step.
    pub(super) fn answer(&mut self, owner: Owner, result: EffectResult) -> Option<Answered> {
        match owner {
            Owner::Step(step) => Some(Answered { step, result }),
            Owner::Activity(ticket) => {
                self.activities.answer(ticket, result);
                None
            }
        }
    }

    /// Begins an activity. Returns an error as the answer if there is no thread for it.
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
        self.watches.begin(ticket, "activity");
        self.note_attempt(&step);
        let identity = Identity { id: step.owner.to_string(), key, attempt: step.attempt, entity: None };
        let begun = self.activities.begin(Job { ticket, code, name, args, identity, permissions }, step);
        let no_threads = |step| {
            let result = Err(ErrorData::new("io_error", "the system gives no threads to run activities"));
            Answered { step, result }
        };
        begun.err().map(no_threads)
    }

    /// Counts the attempt at a step, unless it is the first one.
    pub(super) fn note_attempt(&self, step: &StepId) {
        if step.attempt > 1 {
            self.measures.retries.inc();
        }
    }

    /// Begins the effects on files that were performed since the last call. Returns errors as the
    /// answers to those for which there is no thread.
    pub(super) fn begin_files(&mut self) -> Vec<Answered> {
        let mut answers = Vec::new();
        for job in self.disk.add(std::mem::take(&mut self.files)) {
            if let Some(owner) = self.effects.done(job.ticket) {
                answers.extend(self.answer(owner, Err(no_threads("it has none left"))));
            }
        }
        answers
    }

    /// Takes the result of an effect.
    pub(super) fn done(
        &mut self,
        ticket: u64,
        result: EffectResult,
        terminal: &mut Terminal,
    ) -> Option<Answered> {
        if let Some(owner) = self.effects.done(ticket) {
            self.spans.end(ticket, Some(&result));
            self.watches.end(ticket, &self.measures);
            return self.answer(owner, result);
        }
        // The effect was broken off, and its line goes to the next reader.
        if self.effects.was_stray(ticket) {
            terminal.keep(result);
        }
        None
    }

    /// Takes note that an activity is done. Returns its step, unless the activity was abandoned.
    pub(super) fn activity_done(&mut self, ticket: u64, result: &EffectResult) -> Option<StepId> {
        self.streams.activity_ended(ticket);
        self.databases.activity_ended(ticket);
        let step = self.activities.done(ticket)?;
        self.spans.end(ticket, Some(result));
        self.watches.end(ticket, &self.measures);
        Some(step)
    }

    /// Breaks off the activity and the effects of a step that nobody waits for. Returns the owners
    /// that are gone.
    pub(super) fn abandon(&mut self, step: StepId) -> Gone {
        let gone = Gone { activity: self.activities.abandon(&step), step };
        if let Some(ticket) = gone.activity {
            self.spans.end(ticket, None);
            self.watches.forget(ticket);
            self.streams.activity_ended(ticket);
            self.databases.activity_ended(ticket);
        }
        for ticket in self.effects.break_off(|owner| gone.has(owner)) {
            self.spans.end(ticket, None);
            self.watches.forget(ticket);
        }
        gone
    }

    /// Breaks off all effects, at the end of the process.
    pub(super) fn abort_all(&self) {
        self.effects.abort_all();
    }

    /// Takes note of the end of an instance.
    pub(super) fn instance_ended(&mut self, instance: &str, outcome: &Ending) {
        self.streams.instance_ended(instance);
        self.spans.ended(instance, outcome);
    }
}

/// Owners that no longer wait for effects: a step and its activity.
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
