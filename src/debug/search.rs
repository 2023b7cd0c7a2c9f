//! Steps, and the search for the next or the last moment of which something holds.

use std::rc::Rc;

use crate::engine::Entry;
use crate::machine::pauses::{Pauses, Thrown};
use crate::machine::{EntityId, RequestKind, inspect::CallView, options};

use super::replay::{End, Tick};
use super::session::Session;

/// A direction in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the next statement of this call, or of its callers.
    Over,
    /// To the next statement of the task, in whatever call.
    Into,
    /// To the next statement of a caller.
    Out,
}

/// The place to which a step led.
#[derive(Clone, Debug, PartialEq)]
pub enum Stepped {
    /// A statement of the task.
    Statement,
    /// The task has asked for a child instance, whose own run goes on. Its id follows.
    Child(String),
    /// The task has called an operation of an entity. The key of the call's step follows.
    Operation(EntityId, String),
    Start,
    End(End),
}

impl Session {
    /// Takes a step within the task.
    pub fn step(&mut self, step: Step) -> Stepped {
        let pauses = Pauses { follows: true, ..self.pauses_of(step) };
        self.clear();
        *self.replay.pauses = pauses;
        self.replay.pauses.most = u64::MAX;
        let task = self.task();
        self.passed = None;
        loop {
            match self.tick() {
                Tick::Statement { wanted: true } => {
                    self.follow_this();
                    return Stepped::Statement;
                }
                Tick::Entry if self.is_trimmed() => {
                    self.follow_this();
                    return Stepped::Statement;
                }
                Tick::Entry if step == Step::Into => {
                    if let Some(callee) = self.callee_of(task) {
                        return callee;
                    }
                }
                Tick::End => return Stepped::End(self.end().cloned().unwrap_or(End::Waits)),
                _ => {}
            }
        }
    }

    /// Takes a step backwards within the task.
    pub fn back(&mut self, step: Step) -> Stepped {
        let pauses = self.pauses_of(step);
        let found = self.backward(&pauses, &mut |session, tick| match tick {
            Tick::Statement { wanted: true } => Some(session.ticks()),
            Tick::Entry if session.is_trimmed() => Some(session.ticks()),
            _ => None,
        });
        self.stop_at(found)
    }

    /// Goes to a tick that was found, or to the beginning.
    fn stop_at(&mut self, found: Option<u64>) -> Stepped {
        self.go_to(found.unwrap_or(0));
        self.follow_this();
        match found {
            Some(_) => Stepped::Statement,
            None => Stepped::Start,
        }
    }

    /// Returns the pauses of a step.
    fn pauses_of(&self, step: Step) -> Pauses {
        let task = self.task();
        let all = self.replay.machine.calls(task);
        let own: Vec<usize> =
            all.iter().enumerate().filter(|(_, call)| self.is_own(**call)).map(|(at, _)| at + 1).collect();
        let calls = match step {
            Step::Into => usize::MAX,
            Step::Over => own.last().copied().unwrap_or(usize::MAX),
            Step::Out => own.iter().rev().nth(1).copied().unwrap_or(0),
        };
        // A task that has ended has no further statements.
        let task = (!all.is_empty()).then_some(task);
        let calls = if task.is_none() { usize::MAX } else { calls };
        Pauses { task, calls, statements: None, ..Pauses::none() }
    }

    /// Whether a call is one of the program's own, and not of the standard library or of a stub.
    pub(super) fn is_own(&self, call: CallView) -> bool {
        let code = &self.image.code;
        let function = &code.functions[call.function as usize];
        let file = code.sources.files.get(function.place.source as usize);
        function.hidden == 0 && file.is_some_and(|file| !file.name.starts_with(crate::check::STD))
    }

    /// Returns the run that goes on elsewhere after the last entry, if the task called a child or an
    /// operation. Notes a call of an activity.
    fn callee_of(&mut self, task: u64) -> Option<Stepped> {
        let Some(Entry::Requested { seq, .. }) = self.replay.last_entry() else { return None };
        let seq = *seq;
        let asked = self.replay.asked(seq).filter(|asked| asked.task == Some(task))?;
        match &asked.request.what {
            RequestKind::Orchestration { options, start: false, .. } => {
                let own = options::recorded_child(options).id;
                Some(Stepped::Child(own.unwrap_or_else(|| self.record.child_id(seq))))
            }
            RequestKind::Operation { entity, signal: None, .. } => {
                Some(Stepped::Operation(entity.clone(), self.record.step_key(seq)))
            }
            RequestKind::Activity { name, .. } => {
                self.passed = Some(name.clone());
                None
            }
            _ => None,
        }
    }

    // ---- searching

    /// Leaves an error at which the replay stopped, so that it stands at a tick again.
    pub(super) fn clear(&mut self) {
        if self.replay.pauses.errors {
            self.go_to(self.replay.ticks());
        }
    }

    /// Visits the ticks after this one until `wanted` returns something. The run then stands behind
    /// what was found.
    pub(super) fn forward<T>(
        &mut self,
        pauses: &Pauses,
        wanted: &mut dyn FnMut(&mut Session, &Tick) -> Option<T>,
    ) -> Option<T> {
        self.clear();
        *self.replay.pauses = pauses.clone();
        loop {
            let tick = self.tick();
            if let Tick::End = tick {
                return None;
            }
            if let Some(found) = wanted(self, &tick) {
                return Some(found);
            }
        }
    }

    /// Visits the ticks before this one, and returns what `wanted` returns for the last of them.
    /// Where the run stands afterwards is not said.
    pub(super) fn backward<T>(
        &mut self,
        pauses: &Pauses,
        wanted: &mut dyn FnMut(&mut Session, &Tick) -> Option<T>,
    ) -> Option<T> {
        let mut until = self.ticks();
        while until > 0 {
            self.go_before(until - 1);
            let from = self.ticks();
            *self.replay.pauses = pauses.clone();
            // A snapshot's own moment is the first of its part.
            let first = self.here(pauses);
            let mut found = first.and_then(|tick| wanted(self, &tick));
            loop {
                if self.ticks() + 1 > until {
                    break;
                }
                self.limit(until);
                let tick = self.tick();
                let is_error = matches!(tick, Tick::Error(_));
                if matches!(tick, Tick::End) || (self.ticks() >= until && !is_error) {
                    break;
                }
                if let Some(later) = wanted(self, &tick) {
                    found = Some(later);
                }
            }
            if found.is_some() {
                return found;
            }
            until = from;
        }
        None
    }

    /// Returns the tick at which the run stands, as the pauses see it. The beginning is none.
    fn here(&self, pauses: &Pauses) -> Option<Tick> {
        if self.ticks() == 0 {
            return None;
        }
        let at = self.at();
        let Some(statement) = at.statement else { return Some(Tick::Entry) };
        let calls = self.replay.machine.count_calls(at.task);
        Some(Tick::Statement { wanted: pauses.want(at.task, calls, statement) })
    }

    /// Returns statements as pauses name them.
    pub(super) fn chosen<'s>(&self, statements: impl IntoIterator<Item = &'s u32>) -> Rc<[bool]> {
        let mut chosen = vec![false; self.tables().statements.len()];
        for statement in statements {
            if let Some(chosen) = chosen.get_mut(*statement as usize) {
                *chosen = true;
            }
        }
        chosen.into()
    }

    /// Returns all moments at which one of these statements was about to be executed.
    pub fn hits(&mut self, statements: &[u32]) -> Vec<super::Position> {
        let here = self.ticks();
        let pauses = Pauses { statements: Some(self.chosen(statements)), ..Pauses::none() };
        let mut found = Vec::new();
        self.go_to(0);
        self.forward(&pauses, &mut |session, tick| {
            if let Tick::Statement { wanted: true } = tick {
                found.push(session.position());
            }
            None::<()>
        });
        self.go_to(here);
        found
    }

    /// Goes to the beginning of a running call: its first statement. Returns whether that was found.
    pub fn restart(&mut self, task: u64, call: usize) -> bool {
        let here = self.ticks();
        let Some(function) = self.replay.machine.function_of(task, call) else { return false };
        let Some(first) = self.tables().first_of(function) else { return false };
        let is_it = |session: &Session| {
            let at = session.at();
            at.task == task
                && at.statement == Some(first)
                && session.replay.machine.count_calls(task) == call + 1
        };
        let found = match is_it(self) {
            true => Some(here),
            false => {
                let pauses = Pauses { task: Some(task), calls: call + 1, statements: None, ..Pauses::none() };
                self.backward(&pauses, &mut |session, _| is_it(session).then(|| session.ticks()))
            }
        };
        self.go_to(found.unwrap_or(here));
        self.follow(task);
        found.is_some()
    }

    /// Returns the position of the error that ended the instance: the moment at which the statement
    /// that threw it was about to be executed.
    pub fn failure(&mut self) -> Option<super::Position> {
        if let Some(known) = self.failure {
            return known;
        }
        let here = self.ticks();
        let found = self.find_failure();
        self.go_to(here);
        self.failure = Some(found);
        found
    }

    /// Goes to the moment that is looked at first: where the error was thrown that ended the
    /// instance, and otherwise the end. Returns whether there is such an error.
    pub fn seek_interest(&mut self) -> bool {
        let failure = self.failure();
        match failure {
            Some(position) => {
                self.seek(position);
            }
            None => self.seek_end(),
        }
        failure.is_some()
    }

    fn find_failure(&mut self) -> Option<super::Position> {
        let crate::engine::Status::Failed(error) = self.record.status.clone() else { return None };
        let title = error.title();
        let is_it = |thrown: &Thrown| {
            !thrown.again
                && crate::machine::format::title(&thrown.value) == title
                && error.trace.entries.iter().any(|entry| entry.place == thrown.place)
        };
        let mut last = None;
        self.go_to(0);
        let pauses = Pauses { errors: true, ..Pauses::none() };
        self.forward(&pauses, &mut |session, tick| {
            if let Tick::Error(thrown) = tick
                && is_it(thrown)
            {
                last = Some(session.position());
            }
            None::<()>
        });
        last
    }
}
