//! Cancellation: a task owns the tasks that it begins, and they end with it. The cancellation of
//! an instance is that of its main task.
//!
//! Invariant: every running task belongs to one task around it, up to the main one. The
//! cancellation of a task cancels everything that belongs to it, innermost first, so that resources
//! of inner tasks are free when outer ones clean up. Cancellation reaches a task once: the
//! cancellation of a task around it does not cut its clean-up short. Only `cancel` of that very
//! task throws again where its clean-up waits.

use std::cell::OnceCell;
use std::mem;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::check::STD;
use crate::syntax::Place;

use super::error::{ErrorData, Fail, Failure, fail, fail_with, title};
use super::value::{Task, Value};
use super::{Data, Fiber, Image, Machine, Request, RequestKind, Wait, format};

/// The party that cancels an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Canceller {
    /// A command, or a program that embeds the engine.
    Client,
    /// `cancel` in a program.
    Program,
    /// The instance that called it, and does not wait for it any more.
    Caller,
}

impl Canceller {
    /// Returns the word that the error and the stored forms have.
    pub fn word(self) -> &'static str {
        match self {
            Canceller::Client => "client",
            Canceller::Program => "cancel",
            Canceller::Caller => "caller",
        }
    }

    /// Returns the party of a word.
    pub fn named(word: &str) -> Option<Canceller> {
        [Canceller::Client, Canceller::Program, Canceller::Caller].into_iter().find(|by| by.word() == word)
    }
}

/// The cancellation of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cancellation {
    pub by: Canceller,
    /// The place of the call of `cancel`, or of the call that is given up, as `file.df:3:7`; empty
    /// for a client.
    pub place: String,
    pub reason: Data,
    /// The time that the instance has for its clean-up, in nanoseconds.
    pub grace: i64,
}

impl Cancellation {
    /// Returns the error that everything in the instance gets where it waits.
    fn error(&self) -> Fail {
        let reason = self.reason.decode();
        let place = if self.place.is_empty() { Value::Null } else { Value::str(self.place.as_str()) };
        let more = [("by", Value::str(self.by.word())), ("place", place), ("reason", reason)];
        fail_with("cancelled", self.to_string(), more)
    }
}

/// The cancellation, described for people.
impl std::fmt::Display for Cancellation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            Canceller::Client => f.write_str("this instance was cancelled by a client")?,
            Canceller::Program => write!(f, "this instance was cancelled by `cancel` at {}", self.place)?,
            Canceller::Caller => write!(f, "this instance was cancelled by its caller at {}", self.place)?,
        }
        match self.reason.decode() {
            Value::Null => Ok(()),
            reason => write!(f, ": {}", format::display(&reason)),
        }
    }
}

/// The cancellation of an instance, as the cause for all of its fibers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct OfInstance {
    what: Cancellation,
    /// The value of the error, which all fibers share.
    #[serde(skip)]
    error: OnceCell<Value>,
}

impl OfInstance {
    fn error(&self) -> Fail {
        let value = self.error.get_or_init(|| self.what.error().value).clone();
        Box::new(Failure { value, trace: None })
    }
}

/// The stored form of a shared value.
mod shared {
    use super::{Deserialize, OfInstance, Rc};

    pub fn serialize<S: serde::Serializer>(of: &Option<Rc<OfInstance>>, to: S) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&of.as_deref(), to)
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Rc<OfInstance>>, D::Error> {
        Ok(Option::<OfInstance>::deserialize(from)?.map(Rc::new))
    }
}

/// The reason for a cancellation, and its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cause {
    /// `race`, `task.timeout`, `cancel` and so on; `failure` if the task around failed.
    pub by: String,
    pub place: Place,
    /// The cancellation of the instance, if that is the cause.
    #[serde(with = "shared")]
    pub instance: Option<Rc<OfInstance>>,
}

impl Cause {
    /// Returns the cause for the current call of a fiber: the outermost function of the standard
    /// library that the program called, or the builtin itself.
    pub fn of_call(image: &Image, fiber: &Fiber, builtin: &str) -> Cause {
        let mut by = builtin.to_string();
        for frame in fiber.frames.iter().rev() {
            let function = &image.code.functions[frame.function as usize];
            if function.hidden > 0 {
                continue;
            }
            let place = image.code.place(frame.function, (frame.pc as usize).saturating_sub(1));
            let file = &image.code.sources.files[place.source as usize].name;
            let Some(module) = file.strip_prefix(STD).and_then(|name| name.strip_suffix(".df")) else {
                return Cause { by, place, instance: None };
            };
            let name = function.name.rsplit('.').next().unwrap_or(&function.name);
            by = if module == "prelude" { name.to_string() } else { format!("{module}.{name}") };
        }
        Cause { by, place: super::frames::call_place(image, fiber), instance: None }
    }

    /// Returns the cause for a failure of the task around.
    fn of_failure(failure: &Failure) -> Cause {
        let place = failure.trace.as_ref().and_then(|trace| trace.entries.first()).map(|entry| entry.place);
        Cause { by: "failure".to_string(), place: place.unwrap_or_default(), instance: None }
    }

    /// Returns the error that a cancelled task gets where it waits.
    pub fn error(&self, image: &Image) -> Fail {
        if let Some(of) = &self.instance {
            return of.error();
        }
        if !image.code.structured {
            return fail("cancelled", "this task was cancelled");
        }
        let place = locate(image, self.place);
        let message = match self.by.as_str() {
            "failure" => format!("this task was cancelled by the failure at {place}"),
            by => format!("this task was cancelled by `{by}` at {place}"),
        };
        let more = [("by", Value::str(self.by.as_str())), ("place", Value::str(place))];
        fail_with("cancelled", message, more)
    }
}

/// Returns a place in the form `file.df:3:7`.
pub fn locate(image: &Image, place: Place) -> String {
    let Some(file) = image.code.sources.files.get(place.source as usize) else { return "?".to_string() };
    let (line, column) = image.code.sources.line_column(place);
    format!("{}:{line}:{column}", file.name)
}

/// Returns whether an error only says that it was cancelled, and not that a clean-up failed.
pub fn is_cancellation(error: &ErrorData) -> bool {
    is_cancelled(&error.value.decode())
}

/// Returns whether an error only says that a task was cancelled, and not that its clean-up failed.
fn is_cancelled(value: &Value) -> bool {
    match value {
        Value::Record(record) => {
            let is_cancelled =
                matches!(record.get_str("kind"), Some(Value::Str(kind)) if kind.as_str() == "cancelled");
            is_cancelled && record.get_str("undo_errors").is_none()
        }
        _ => false,
    }
}

impl Machine {
    /// Cancels everything in the instance: each fiber gets the error where it waits, the innermost
    /// first. A clean-up that runs already is not cut short. The machine must be waiting.
    pub fn cancel_instance(&mut self, cancellation: &Cancellation) {
        let instance = Some(Rc::new(OfInstance { what: cancellation.clone(), error: OnceCell::new() }));
        let cause = Cause { by: String::new(), place: Place::default(), instance };
        let main = self.main.clone();
        if !main.is_settled() {
            self.cancel(&main, &cause, false, None);
        }
        // The main fiber does not own tasks that it left at its end. In programs with unstructured
        // cancellation, no fiber owns another.
        let ids: Vec<u64> = self.fibers.keys().copied().collect();
        self.cancel_all(ids.into_iter(), &cause);
    }

    /// Cancels a task and everything that belongs to it. `current` is the running fiber, which gets
    /// its own cancellation when the call is over. With `again`, even a clean-up of the task is cut
    /// short.
    pub(super) fn cancel(
        &mut self,
        task: &Rc<Task>,
        cause: &Cause,
        again: bool,
        mut current: Option<(u64, &mut Fiber)>,
    ) {
        task.observed.set(true);
        if task.is_settled() {
            self.forget_failure(task);
            return;
        }
        let mut open = vec![task.id];
        let mut found = Vec::new();
        while let Some(id) = open.pop() {
            let fiber = match &current {
                Some((own, fiber)) if *own == id => Some(&**fiber),
                _ => self.fibers.get(&id).map(|fiber| &**fiber),
            };
            let Some(fiber) = fiber else { continue };
            if self.image.code.structured {
                if fiber.given_up && !(again && id == task.id) {
                    continue;
                }
                open.extend(fiber.inner.keys());
            }
            found.push(id);
        }
        for id in found.into_iter().rev() {
            match &mut current {
                Some((own, fiber)) if *own == id => {
                    // In programs with unstructured cancellation, a task that cancels itself goes
                    // on.
                    if self.image.code.structured {
                        fiber.given_up = true;
                        fiber.task.observed.set(true);
                        fiber.cancelled = Some(Box::new(cause.clone()));
                    }
                }
                _ => self.give_up(id, cause),
            }
        }
    }

    /// Ends the wait of a fiber, which goes on with a `cancelled` error.
    fn give_up(&mut self, id: u64, cause: &Cause) {
        let Some(fiber) = self.fibers.get_mut(&id) else { return };
        fiber.task.observed.set(true);
        fiber.given_up = true;
        fiber.cancelled = Some(Box::new(cause.clone()));
        let structured = self.image.code.structured;
        match mem::replace(&mut fiber.wait, Wait::Nothing) {
            Wait::Nothing => return, // the fiber is ready
            Wait::Shielded { seq } if structured => {
                fiber.wait = Wait::Shielded { seq };
                return;
            }
            Wait::Answer { seq } | Wait::Shielded { seq } => {
                self.tasks_hold -= fiber.charge.set(super::TASK_BYTES);
                self.tasks_hold += super::TASK_BYTES;
                self.waiting.remove(&seq);
                self.section_answered(seq, false);
                // A request that has not left yet is treated as never made.
                match self.requests.binary_search_by_key(&seq, |request| request.seq) {
                    Ok(_) => {
                        self.unmade.insert(seq);
                    }
                    Err(_) => self.withdrawn.push(seq),
                }
            }
            Wait::Tasks(join) => {
                for other in &join.tasks {
                    other.waiters.borrow_mut().retain(|(waiter, _)| *waiter != id);
                }
            }
        }
        self.ready.push_back(id);
    }

    /// Ends a fiber. After a failure, its tasks are cancelled. Otherwise, they belong to the task
    /// around.
    pub(super) fn finished(&mut self, mut fiber: Box<Fiber>, result: Result<Value, Fail>) {
        let is_main = Rc::ptr_eq(&fiber.task, &self.main);
        let id = fiber.task.id;
        let result = match result {
            Err(failure) if self.reports(&fiber, &failure) => return self.report(fiber, failure),
            result => result,
        };
        self.tasks_hold -= fiber.charge.set(0);
        let inner = mem::take(&mut fiber.inner);
        if let Err(failure) = &result
            && self.image.code.structured
        {
            let cause = Cause::of_failure(failure);
            self.cancel_all(inner.keys().copied(), &cause);
        }
        let around = fiber.parent;
        for id in inner.keys() {
            if let Some(fiber) = self.fibers.get_mut(id) {
                fiber.parent = around;
            }
        }
        if let Some(around) = self.fibers.get_mut(&around).filter(|_| !is_main) {
            // The tasks that the fiber leaves belong to the scope in which the fiber began.
            let scope = around.inner.remove(&id).unwrap_or(0);
            around.inner.extend(inner.into_keys().map(|id| (id, scope)));
        }
        let task = fiber.task.clone();
        drop(fiber);
        let failed = result.is_err();
        self.settle(&task, result);
        if failed && is_main && !self.ending {
            self.ending = true;
            if !self.image.code.structured {
                let cause = Cause { by: String::new(), place: Place::default(), instance: None };
                let others: Vec<Rc<Task>> = self.fibers.values().map(|fiber| fiber.task.clone()).collect();
                for task in others {
                    self.cancel(&task, &cause, false, None);
                }
            }
        } else if failed && !is_main && !task.observed.get() {
            self.failed.push(task);
        }
    }

    /// Cancels tasks of a fiber that is not among them.
    fn cancel_all(&mut self, ids: impl Iterator<Item = u64>, cause: &Cause) {
        for id in ids {
            if let Some(task) = self.fibers.get(&id).map(|fiber| fiber.task.clone()) {
                self.cancel(&task, cause, false, None);
            }
        }
    }

    /// Begins a scope within the scopes of a fiber, and returns its number. `attempt` is the value
    /// of `attempt()` in the scope.
    pub(super) fn begin_scope(&mut self, fiber: &mut Fiber, attempt: &Value) -> Value {
        let attempt = match attempt {
            Value::Int(n) => *n,
            _ => self.attempt(fiber),
        };
        fiber.attempts.push(attempt);
        Value::Int(fiber.attempts.len() as i64)
    }

    /// Ends a scope and the scopes within it. After a failure, the tasks that began in them are
    /// cancelled.
    pub(super) fn end_scope(&mut self, fiber: &mut Fiber, scope: &Value, failed: bool) {
        let Value::Int(scope) = scope else { return };
        let scope = (*scope).clamp(1, u32::MAX.into()) as u32;
        fiber.attempts.truncate(scope as usize - 1);
        let within: Vec<u64> =
            fiber.inner.iter().filter(|(_, of)| **of >= scope).map(|(id, _)| *id).collect();
        if failed {
            let cause = Cause::of_call(&self.image, fiber, "failure");
            self.cancel_all(within.into_iter(), &cause);
        } else {
            for id in within {
                fiber.inner.insert(id, scope - 1);
            }
        }
    }

    /// Returns the value of `attempt()`: the attempt of the innermost scope, or else of the
    /// activity.
    pub(super) fn attempt(&self, fiber: &Fiber) -> i64 {
        fiber.attempts.last().copied().unwrap_or_else(|| i64::from(self.identity.attempt.max(1)))
    }

    /// Returns whether the failure of a task's clean-up would otherwise be lost.
    fn reports(&self, fiber: &Fiber, failure: &Failure) -> bool {
        self.image.code.structured
            && fiber.given_up
            && !fiber.reported
            && fiber.task.waiters.borrow().is_empty()
            && !Rc::ptr_eq(&fiber.task, &self.main)
            && !is_cancelled(&failure.value)
    }

    /// Logs the failure of a task's clean-up. The task ends after that.
    fn report(&mut self, mut fiber: Box<Fiber>, failure: Fail) {
        let trace = failure.trace.as_ref();
        let place = trace.and_then(|trace| trace.entries.first()).map_or_else(Place::default, |at| at.place);
        let text = format!(
            "the clean-up of a cancelled task failed at {}: {}",
            locate(&self.image, place),
            title(&failure.value)
        );
        let line = |text: String| Value::list(vec![Value::str("error"), Value::str(text)]);
        let (seq, id) = (self.next_request, fiber.task.id);
        self.next_request += 1;
        let args = Data::encode(&line(text)).unwrap_or_else(|fail| Data::of(&line(title(&fail.value))));
        self.requests.push(Request { seq, what: RequestKind::Effect(Effect::Log), args, place });
        self.waiting.insert(seq, id);
        fiber.wait = Wait::Shielded { seq };
        fiber.thrown = Some(failure);
        fiber.reported = true;
        self.fibers.insert(id, fiber);
    }
}
