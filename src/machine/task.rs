//! Tasks: running computations, and waits for them.
//!
//! A task settles once. The fibers that wait for it get its outcome in the order in which they
//! began to wait. One queue decides which fiber runs next, so the same answers in the same order
//! give the same run.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::cancel::Cause;
use super::error::{Fail, Failure, fail, fail_with, type_error};
use super::provenance::{joined, make_useless, with_all};
use super::value::{Charge, Keys, List, Record, Value, intern};
use super::{Fiber, Image, MAX_TASKS, Machine, TASK_BYTES, Wait};

pub(crate) use super::value::{Outcome, Task};

/// The number of tasks in one wait that cost as much fuel as a call.
const TASKS_PER_FUEL: u64 = 16;

/// The kind of a wait for tasks.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum How {
    One,
    All,
    Any,
    Race,
    /// The first task to settle, by its index or its name. The task is not awaited.
    Select,
    /// All tasks, once all have settled.
    Settle,
}

impl How {
    /// Returns whether the first outcome that counts makes the other tasks useless.
    pub(crate) fn is_race(self) -> bool {
        matches!(self, How::Any | How::Race)
    }

    /// Returns the cause with which this kind of wait cancels the losers, if it does.
    fn cause(self, image: &Image, fiber: &Fiber) -> Option<Cause> {
        let builtin = match self {
            How::One | How::All | How::Select | How::Settle => return None,
            How::Any => "any",
            How::Race => "race",
        };
        Some(Cause::of_call(image, fiber, builtin))
    }
}

/// A wait for tasks.
#[derive(Debug)]
pub(crate) struct Join {
    pub how: How,
    pub tasks: Vec<Rc<Task>>,
    /// The names, if the tasks are those of a record.
    pub keys: Option<Rc<Keys>>,
    /// The number of tasks that have not settled.
    pub remaining: usize,
}

impl Join {
    /// Records which errors count no more after an `all` has its result.
    fn make_useless(&self, result: &Result<Value, Fail>) {
        if self.how == How::All {
            make_useless(&self.tasks, result);
        }
    }

    /// Returns the result of the wait, if it is over.
    fn result(&self) -> Option<Result<Value, Fail>> {
        let outcome = |at: usize| self.tasks[at].outcome.borrow().clone();
        match self.how {
            How::One => match outcome(0) {
                Outcome::Running => None,
                Outcome::Value(value) => Some(Ok(value)),
                Outcome::Failed(failure) => Some(Err(Box::new(failure))),
            },
            How::All | How::Settle if self.remaining > 0 => None,
            How::All | How::Settle => {
                let mut values = Vec::with_capacity(self.tasks.len());
                for at in 0..self.tasks.len() {
                    match outcome(at) {
                        Outcome::Value(value) => values.push(value),
                        Outcome::Failed(failure) if self.how == How::Settle => {
                            return Some(Err(self.several_failed(failure)));
                        }
                        Outcome::Failed(failure) => return Some(Err(Box::new(failure))),
                        Outcome::Running => return None,
                    }
                }
                Some(Ok(match &self.keys {
                    Some(keys) => Value::Record(Rc::new(Record::new(keys.clone(), values))),
                    None => Value::list(values),
                }))
            }
            How::Any | How::Race | How::Select => None,
        }
    }

    /// Returns the result of the wait, if it ended when the task at `at` settled.
    fn settled(&self, at: usize) -> Option<Result<Value, Fail>> {
        let outcome = self.tasks[at].outcome.borrow().clone();
        let named = |value: Value| match &self.keys {
            Some(keys) if self.how == How::Race => {
                let mut record = Record::default();
                record.set(keys.names()[at].clone(), value);
                Value::Record(Rc::new(record))
            }
            _ => value,
        };
        match (self.how, outcome) {
            (How::All, Outcome::Failed(failure)) => Some(Err(Box::new(failure))),
            (How::Any | How::Race, Outcome::Value(value)) => Some(Ok(named(value))),
            (How::Race, Outcome::Failed(failure)) => Some(Err(Box::new(failure))),
            (How::Select, _) => Some(Ok(match &self.keys {
                Some(keys) => Value::str(&*keys.names()[at]),
                None => Value::Int(at as i64),
            })),
            (How::Any, Outcome::Failed(_)) if self.remaining == 0 => Some(Err(self.all_failed())),
            _ => self.result(),
        }
    }

    /// Returns the errors of the failed tasks.
    fn errors(&self) -> Vec<Value> {
        let errors = self.tasks.iter().filter_map(|task| match &*task.outcome.borrow() {
            Outcome::Failed(failure) => Some(failure.value.clone()),
            _ => None,
        });
        errors.collect()
    }

    /// Returns the error of the first failed task, with the errors of all.
    fn several_failed(&self, first: Failure) -> Fail {
        let errors = Value::list(self.errors());
        let value = match &first.value {
            Value::Record(record) => {
                let mut record = (**record).clone();
                record.set(intern("errors"), errors);
                Value::Record(Rc::new(record))
            }
            other => {
                let message = format!("a task failed: {}", super::error::title(other));
                let more = [("error", other.clone()), ("errors", errors)];
                fail_with("task_failed", message, more).value
            }
        };
        with_all(Box::new(Failure { value, trace: first.trace }), &self.tasks)
    }

    fn all_failed(&self) -> Fail {
        let errors = self.errors();
        let message = match errors.first() {
            Some(first) => format!("every task failed; the first: {}", super::error::title(first)),
            None => "there is no task that could succeed".to_string(),
        };
        joined(fail_with("all_failed", message, [("errors", Value::list(errors))]), &self.tasks)
    }
}

/// Tasks that are awaited together, with their names if they are those of a record.
pub(crate) type Awaited = (Vec<Rc<Task>>, Option<Rc<Keys>>);

/// Returns the tasks of a list or a record.
pub(crate) fn tasks_of(value: &Value, what: &str) -> Result<Awaited, Fail> {
    let one = |value: &Value, place: String| match value {
        Value::Task(task) => Ok(task.clone()),
        other => Err(type_error(format!(
            "`{what}` takes tasks, but {place} is {}; `async` before a call makes a task",
            other.a_kind()
        ))),
    };
    match value {
        Value::List(list) => {
            let list: &Rc<List> = list;
            let tasks =
                list.as_slice().iter().enumerate().map(|(at, value)| one(value, format!("element {at}")));
            Ok((tasks.collect::<Result<_, _>>()?, None))
        }
        Value::Record(record) => {
            let tasks = record.iter().map(|(name, value)| one(value, format!("`{name}`")));
            Ok((tasks.collect::<Result<_, _>>()?, Some(record.keys().clone())))
        }
        other => {
            Err(type_error(format!("`{what}` takes a list or a record of tasks, not {}", other.a_kind())))
        }
    }
}

impl Machine {
    /// Begins a task of a fiber. The task runs before the fiber goes on.
    pub(crate) fn spawn(&mut self, function: &Value, around: &mut Fiber, parent: u64) -> Result<Value, Fail> {
        if self.image.code.structured && self.tasks_hold + TASK_BYTES > MAX_TASKS {
            let message = "too many tasks: what this instance has under way takes more than 512 MiB; await tasks \
                           before beginning more, as `task.par_map` does";
            return Err(fail("limit", message));
        }
        let id = self.next_fiber;
        self.next_fiber += 1;
        let task = Task::new(id);
        let mut fiber = Fiber {
            stack: Vec::with_capacity(16),
            frames: Vec::new(),
            handlers: Vec::new(),
            task: task.clone(),
            wait: Wait::Nothing,
            thrown: None,
            cancelled: None,
            given_up: false,
            reported: false,
            parent,
            inner: BTreeMap::new(),
            attempts: around.attempts.last().copied().into_iter().collect(),
            charge: Charge::new(TASK_BYTES),
            judge: None,
        };
        super::frames::enter(&self.image, &mut fiber, function)?;
        self.tasks_hold += TASK_BYTES;
        around.inner.insert(id, around.attempts.len() as u32);
        self.fibers.insert(id, Box::new(fiber));
        self.ready.push_front(parent);
        self.ready.push_front(id);
        Ok(Value::Task(task))
    }

    /// Begins a wait for tasks. Returns the result if there is one already, or else the wait.
    pub(crate) fn join(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        how: How,
        tasks: Vec<Rc<Task>>,
        keys: Option<Rc<Keys>>,
    ) -> Result<Option<Result<Value, Fail>>, Join> {
        // The program awaits the selected task by itself.
        for task in tasks.iter().filter(|_| how != How::Select) {
            task.observed.set(true);
        }
        self.spent += tasks.len() as u64 / TASKS_PER_FUEL;
        let remaining = tasks.iter().filter(|task| !task.is_settled()).count();
        let join = Join { how, tasks, keys, remaining };
        if join.tasks.is_empty() {
            return Ok(match how {
                How::Any => Some(Err(join.all_failed())),
                How::Race => Some(Err(fail("type_error", "a race needs at least one task"))),
                How::Select => Some(Err(fail("type_error", "`select` needs at least one task"))),
                _ => join.result(),
            });
        }
        // Tasks that have settled already count in the given order.
        let settled: Vec<usize> = (0..join.tasks.len()).filter(|at| join.tasks[*at].is_settled()).collect();
        for at in settled {
            if let Some(result) = join.settled(at) {
                join.make_useless(&result);
                let cause = how.cause(&self.image, fiber);
                self.losers(&join, cause, Some((id, &mut *fiber)));
                return Ok(Some(result));
            }
        }
        for (at, task) in join.tasks.iter().enumerate() {
            if !task.is_settled() {
                task.waiters.borrow_mut().push((id, at));
            }
        }
        Err(join)
    }

    /// Cancels the tasks that lost a race.
    fn losers(&mut self, join: &Join, cause: Option<Cause>, mut current: Option<(u64, &mut Fiber)>) {
        let Some(cause) = &cause else { return };
        for task in &join.tasks {
            self.cancel(task, cause, false, current.as_mut().map(|(id, fiber)| (*id, &mut **fiber)));
        }
    }

    /// Records the outcome of a task, and wakes the fibers that wait for it.
    pub(crate) fn settle(&mut self, task: &Rc<Task>, outcome: Result<Value, Fail>) {
        let waiters = std::mem::take(&mut *task.waiters.borrow_mut());
        if let Err(failure) = &outcome {
            self.task_failed(task, failure, !waiters.is_empty());
        }
        *task.outcome.borrow_mut() = match outcome {
            Ok(value) => Outcome::Value(value),
            Err(failure) => Outcome::Failed(*failure),
        };
        for (id, at) in waiters {
            let Some(fiber) = self.fibers.get_mut(&id) else { continue };
            let Wait::Tasks(join) = &mut fiber.wait else { continue };
            join.remaining = join.remaining.saturating_sub(1);
            let Some(result) = join.settled(at) else { continue };
            let Wait::Tasks(join) = std::mem::replace(&mut fiber.wait, Wait::Nothing) else { continue };
            for other in &join.tasks {
                other.waiters.borrow_mut().retain(|(waiter, _)| *waiter != id);
            }
            join.make_useless(&result);
            let cause = join.how.cause(&self.image, fiber);
            super::frames::resume(&self.image, fiber, result);
            // The losers are cancelled before the winner's result is used.
            self.losers(&join, cause, None);
            self.ready.push_back(id);
        }
    }
}
