//! Output commit: what is written, when, and what may leave once it is durable.

use std::sync::Arc;

use crate::builtins::Effect;
use crate::engine::{Event, Line, Outcome as Ending};
use crate::machine::{Data, ErrorData};
use crate::permissions::Permissions;
use crate::resident;

use super::Answer;
use super::command::Reply;
use super::run::{Host, Owner};
use super::settings::{Durability, HostError};
use super::writer::Written;

/// When the engine has changed so much it is asked for what it wants written, so that what is counted as waiting is what does.
const MAX_CHANGES: usize = 1024;

/// Each of so many batches at the beginning is followed by code that was not executed before: an instance's begin, its first
/// effect, and perhaps its end.
pub(super) const FIRST_BATCHES: u32 = 3;

/// What waits until the writes that it depends on are durable.
pub(super) enum AwaitingCommit {
    Effect { owner: Owner, effect: Effect, args: Data, permissions: Permissions },
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
    /// An effect that somebody asks for. What it writes leaves in turn with other lines.
    pub(super) fn effect(
        owner: Owner,
        effect: Effect,
        args: Data,
        permissions: Permissions,
    ) -> AwaitingCommit {
        match Line::of(effect, &args) {
            Some(line) => AwaitingCommit::Line { writer: Writing::Effect(owner), line },
            None => AwaitingCommit::Effect { owner, effect, args, permissions },
        }
    }

    /// Who waits for it, if it is an effect.
    pub(super) fn owner(&self) -> Option<&Owner> {
        match self {
            AwaitingCommit::Effect { owner, .. }
            | AwaitingCommit::Line { writer: Writing::Effect(owner), .. } => Some(owner),
            _ => None,
        }
    }
}

impl Host {
    /// Takes what the engine wants written, to be written with the next commit.
    pub(super) fn gather(&mut self) {
        if self.beginning > 0 {
            self.beginning -= 1;
            resident::begin_phase();
        }
        self.pending.gather(self.engine.take_writes());
    }

    /// Writes what is to be written now: beside the engine, when that goes on or answers may come to it, else at once.
    /// Whether something may follow from it.
    pub(super) fn write(&mut self) -> Result<bool, HostError> {
        if self.engine.changes() >= MAX_CHANGES {
            self.gather();
        }
        if self.pending.is_full() {
            // The engine has run far enough ahead.
            let written = self.writer.settle();
            self.on_committed(written)?;
        }
        let durable = self.settings.durability != Durability::None;
        let is_ready = self.engine.is_ready();
        let goes_on = is_ready || !self.effects.is_empty() || !self.activities.is_empty();
        let holds = self.holds();
        let wanted = self.pending.is_due(holds) || (holds && !is_ready);
        let each = self.settings.durability == Durability::Each;
        if each || (wanted && !goes_on && self.writer.is_idle()) {
            let changes = !self.pending.is_empty() || holds;
            self.commit_and_release(durable)?;
            return Ok(changes);
        }
        if wanted && self.writer.is_idle() {
            self.gather();
            let Some((batch, unwritten)) = self.pending.take() else { return Ok(false) };
            if batch.is_empty() {
                // All that it depends on is durable.
                self.gate.advance(unwritten.written());
                self.release()?;
                return Ok(true);
            }
            self.gate.send(&unwritten);
            self.writer.send(batch, unwritten, durable);
        }
        Ok(false)
    }

    /// What was under way is written, if something was: what waited for it goes.
    pub(super) fn on_committed(&mut self, written: Option<Written>) -> Result<(), HostError> {
        let Some(written) = written else { return Ok(()) };
        self.pass(written)?;
        self.release()
    }

    /// Takes note of what is durable now.
    fn pass(&mut self, written: Written) -> Result<(), HostError> {
        let (took, proof) = written?;
        self.pending.written(took);
        self.gate.advance(proof);
        Ok(())
    }

    /// Writes what the engine wants written, after what is under way, and makes it durable if so asked. All that is held
    /// can then be released.
    pub(super) fn commit(&mut self, durable: bool) -> Result<(), HostError> {
        if let Some(written) = self.writer.settle() {
            self.pass(written)?;
        }
        self.gather();
        match self.pending.take() {
            Some((batch, unwritten)) if batch.is_empty() => self.gate.advance(unwritten.written()),
            Some((batch, unwritten)) => {
                let written = self.writer.write(&batch, unwritten, durable);
                self.pass(written)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Commits, and lets go all that waited for it.
    pub(super) fn commit_and_release(&mut self, durable: bool) -> Result<(), HostError> {
        self.commit(durable)?;
        self.release()
    }

    /// Holds something until all that the engine has done so far is durable.
    pub(super) fn hold(&mut self, held: AwaitingCommit) {
        self.held.push_back(self.engine.gated(held));
    }

    /// Whether something waits for writes that are not on their way.
    pub(super) fn holds(&self) -> bool {
        self.held.back().is_some_and(|last| self.gate.lacks_writes(last))
    }

    /// The next of what waits, if its writes are durable.
    fn next_open(&mut self) -> Option<AwaitingCommit> {
        let first = self.held.pop_front()?;
        match self.gate.open(first) {
            Ok(held) => Some(held),
            Err(first) => {
                self.held.push_front(first);
                None
            }
        }
    }

    /// Lets go what waited for writes that are durable now.
    fn release(&mut self) -> Result<(), HostError> {
        let mut written = Vec::new();
        // The lines that were written, by their runs.
        let mut lines: Vec<(u64, usize)> = Vec::new();
        // What is held meanwhile depends on writes to come.
        while let Some(held) = self.next_open() {
            if !matches!(held, AwaitingCommit::Line { .. }) {
                // Whatever leaves after a line leaves when the line is out.
                self.terminal.flush().map_err(HostError::Output)?;
            }
            match held {
                AwaitingCommit::Line { writer, line } => {
                    if let Ok(line) = &line {
                        self.terminal.line(line).map_err(HostError::Output)?;
                    }
                    match (writer, lines.last_mut()) {
                        (Writing::Run(run), Some((last, count))) if *last == run => *count += 1,
                        (Writing::Run(run), _) => lines.push((run, 1)),
                        (Writing::Effect(owner), _) => written.push((owner, line.map(|_| Data::null()))),
                    }
                }
                AwaitingCommit::Ended { instance, outcome, told } => self.ended(instance, outcome, told)?,
                AwaitingCommit::Reply { to, reply } => {
                    // Who asked may have gone away.
                    let _ = to.send(reply);
                }
                AwaitingCommit::Lost { what, error } => {
                    self.terminal.log("error", &format!("{what} had no effect: {}", error.title()));
                }
                AwaitingCommit::Effect { owner, effect, args, permissions } => {
                    self.perform(owner, effect, args, permissions)
                }
            }
        }
        self.begin_files();
        // A line counts as written when it is out.
        self.terminal.flush().map_err(HostError::Output)?;
        for (run, count) in lines {
            self.feed(Event::LinesOut { run, count });
        }
        for (owner, result) in written {
            self.answer(owner, result);
        }
        match self.not_provided.take() {
            Some(name) => Err(HostError::NotProvided(name)),
            None => Ok(()),
        }
    }

    /// The end of an instance is durable. A failure that nobody waits for is told to people.
    fn ended(&mut self, instance: Arc<str>, outcome: Ending, told: bool) -> Result<(), HostError> {
        for client in self.waiting.remove(&*instance).unwrap_or_default() {
            let _ = client.send(Reply::Ended);
        }
        self.spans.ended(&instance, &outcome);
        let can_go_on = !matches!(outcome, Ending::Nondeterminism(_) | Ending::Incompatible(_));
        self.purge_ended(&instance, can_go_on)?;
        match self.watched.get_mut(&instance) {
            Some(watched) => *watched = Some(outcome),
            None => {
                let why = match outcome {
                    Ending::Failed(_) if told => return Ok(()),
                    Ending::Failed(error) => error.title(),
                    Ending::Nondeterminism(_) => {
                        "nondeterminism: it does not do what its history holds".to_string()
                    }
                    Ending::Incompatible(reason) => reason,
                    Ending::Completed(_) | Ending::Terminated(_) => return Ok(()),
                };
                match self.settings.stays {
                    true if self.settings.quiet => {}
                    true => self.terminal.log("error", &format!("{instance} failed: {why}")),
                    // Somebody may ask for it before the end.
                    false => {
                        self.unheard.insert(instance.to_string(), why);
                    }
                }
            }
        }
        Ok(())
    }
}
