//! Pauses of a machine that the debugger runs: at statements, and where errors are thrown.
//!
//! The run loop has a variant for this, so the loop that programs run by has none of it. A pause
//! lies between two instructions, as everything at which a machine can stop.

use std::mem;
use std::rc::Rc;

use crate::syntax::Place;

use super::value::{Failure, Value};
use super::{Fiber, Machine, Progress, frames};

/// The places at which a machine stops, and what it came across.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// The number of statements that have begun.
    pub begun: u64,
    /// The machine stops once so many statements have begun, wherever that is.
    pub most: u64,
    /// The statements at which the machine stops, by their numbers; `None` means all.
    pub statements: Option<Rc<[bool]>>,
    /// The only task in which the machine stops, if there is one.
    pub task: Option<u64>,
    /// The greatest number of calls in which the machine stops.
    pub calls: usize,
    /// Whether calls that the task leaves lower that number to those that remain: a step then ends
    /// in the caller, and not in the next call that goes as deep.
    pub follows: bool,
    /// Whether the machine stops where an error is thrown.
    pub errors: bool,
    /// The reason for the last stop, if it was a pause.
    pub pause: Option<Pause>,
    /// Whether the error at which the machine stopped is about to be thrown again.
    pub resumes: bool,
}

/// The reason for a pause.
#[derive(Clone, Debug)]
pub enum Pause {
    /// A statement is about to be executed.
    Statement { task: u64, statement: u32, wanted: bool },
    /// An error is about to be thrown.
    Error(Thrown),
}

/// An error that is about to be thrown.
#[derive(Clone, Debug)]
pub struct Thrown {
    pub task: u64,
    pub value: Value,
    pub place: Place,
    /// Whether the error goes on after a `catch` or a `finally` that did not end it.
    pub again: bool,
}

impl Pauses {
    /// Returns pauses that never stop.
    pub fn none() -> Pauses {
        Pauses { most: u64::MAX, statements: Some([].into()), calls: usize::MAX, ..Pauses::default() }
    }

    /// Whether a statement that a task begins with so many calls is one of those to stop at.
    pub fn want(&self, task: u64, calls: usize, statement: u32) -> bool {
        let is_chosen = |all: &Rc<[bool]>| all.get(statement as usize).copied().unwrap_or(false);
        calls <= self.calls
            && self.task.is_none_or(|wanted| wanted == task)
            && self.statements.as_ref().is_none_or(is_chosen)
    }
}

impl Machine {
    /// Runs debug code until a pause, or as `run` does. The pauses tell which.
    pub fn run_with_pauses(&mut self, fuel: u64, pauses: &mut Box<Pauses>) -> Progress {
        pauses.pause = None;
        self.pauses = Some(mem::take(pauses));
        let progress = self.run_and_pause(fuel);
        if let Some(back) = self.pauses.take() {
            *pauses = back;
        }
        progress
    }

    /// Counts a statement that begins, and returns whether the machine stops at it.
    pub(super) fn pauses_at_statement(&mut self, task: u64, calls: usize, statement: u32) -> bool {
        let Some(pauses) = &mut self.pauses else { return false };
        pauses.begun += 1;
        let wanted = pauses.want(task, calls, statement);
        let stops = wanted || pauses.begun >= pauses.most;
        if stops {
            pauses.pause = Some(Pause::Statement { task, statement, wanted });
        }
        stops
    }

    /// Returns whether the machine stops at an error that is about to be thrown.
    pub(super) fn pauses_at_error(&mut self, fiber: &Fiber, task: u64, failure: &Failure) -> bool {
        let Some(pauses) = &mut self.pauses else { return false };
        if !pauses.errors || mem::take(&mut pauses.resumes) {
            return false;
        }
        pauses.resumes = true;
        let again = failure.trace.as_ref().is_some_and(|trace| !frames::is_foreign(trace));
        let place = frames::call_place(&self.image, fiber);
        let value = failure.value.clone();
        pauses.pause = Some(Pause::Error(Thrown { task, value, place, again }));
        true
    }

    /// Notes that a task has ended. A step that follows it goes on to whatever comes next.
    pub(super) fn task_ended(&mut self, task: u64) {
        if let Some(pauses) = &mut self.pauses
            && pauses.follows
            && pauses.task == Some(task)
        {
            (pauses.task, pauses.calls) = (None, usize::MAX);
        }
    }

    /// Notes that a task has left a call, and has so many left.
    pub(super) fn left_call(&mut self, task: u64, calls: usize) {
        if let Some(pauses) = &mut self.pauses
            && pauses.follows
            && pauses.calls < usize::MAX
            && pauses.task == Some(task)
        {
            pauses.calls = pauses.calls.min(calls);
        }
    }
}
