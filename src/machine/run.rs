//! Running: fibers in turn, requests out, answers in.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;

use crate::builtins::Context;
use crate::code::FunctionId;

use super::error::{Fail, Failure};
use super::execute::Step;
use super::frames::{push_frame, resume};
use super::task::{Outcome, Task};
use super::value::Value;
use super::{Data, ErrorData, Fiber, Identity, Image, Machine, Progress, Request, ResultMode, Wait};

impl Machine {
    /// A machine that is about to call a function of the program.
    pub fn new(
        image: Rc<Image>,
        context: Context,
        function: FunctionId,
        args: Vec<Value>,
        identity: Identity,
    ) -> Machine {
        let main = Task::new(0);
        main.observed.set(true);
        let mut fiber = Fiber {
            stack: args,
            frames: Vec::new(),
            handlers: Vec::new(),
            task: main.clone(),
            wait: Wait::Nothing,
            thrown: None,
            cancelled: false,
        };
        let count = fiber.stack.len();
        if let Err(fail) = push_frame(&image, &mut fiber, function, 0, count, 0, Value::Null) {
            fiber.thrown = Some(fail);
        }
        let lenient = function == image.code.script;
        Machine {
            image,
            context,
            identity,
            fibers: BTreeMap::from([(0, fiber)]),
            ready: VecDeque::from([0]),
            next_fiber: 1,
            next_request: 0,
            waiting: BTreeMap::new(),
            requests: Vec::new(),
            withdrawn: Vec::new(),
            main,
            failed: Vec::new(),
            ending: false,
            result: if lenient { ResultMode::Lenient } else { ResultMode::Data },
            value: Value::Null,
        }
    }

    /// Keeps the main function's value as it is, for `take_value`.
    pub(crate) fn keep_value(&mut self) {
        self.result = ResultMode::Value;
    }

    pub(crate) fn take_value(&mut self) -> Value {
        mem::take(&mut self.value)
    }

    /// The requests made since this was last asked.
    pub fn take_requests(&mut self) -> Vec<Request> {
        mem::take(&mut self.requests)
    }

    /// The numbers of requests whose answers nobody waits for any more.
    pub fn take_withdrawn(&mut self) -> Vec<u64> {
        mem::take(&mut self.withdrawn)
    }

    /// Answers a request. An answer that nobody waits for is dropped.
    pub fn answer(&mut self, seq: u64, result: Result<Data, ErrorData>) {
        let Some(id) = self.waiting.remove(&seq) else { return };
        let Some(fiber) = self.fibers.get_mut(&id) else { return };
        fiber.wait = Wait::Nothing;
        let result = result.map(|data| data.decode()).map_err(|error| {
            Box::new(Failure { value: error.value.decode(), trace: Some(Rc::new(error.trace)) })
        });
        resume(&self.image, fiber, result);
        self.ready.push_back(id);
    }

    /// Runs until nothing is ready or the fuel is used up: about one unit a call and a repetition.
    pub fn run(&mut self, mut fuel: u64) -> Progress {
        while let Some(id) = self.ready.pop_front() {
            let Some(mut fiber) = self.fibers.remove(&id) else { continue };
            match self.step(&mut fiber, id, &mut fuel) {
                Step::OutOfFuel => {
                    self.fibers.insert(id, fiber);
                    self.ready.push_front(id);
                    return Progress::OutOfFuel;
                }
                Step::Off => {
                    self.fibers.insert(id, fiber);
                }
                Step::Finished(result) => self.finished(fiber, result),
            }
        }
        if !self.fibers.is_empty() {
            return Progress::Waiting;
        }
        let unawaited = self.failed.iter().find(|task| !task.observed.get());
        let outcome = match (&*self.main.outcome.borrow(), unawaited) {
            (Outcome::Value(_), Some(task)) => task.outcome.borrow().clone(),
            (outcome, _) => outcome.clone(),
        };
        Progress::Done(match outcome {
            Outcome::Value(value) => match self.result {
                ResultMode::Value => {
                    self.value = value;
                    Ok(Data::default())
                }
                ResultMode::Lenient => Ok(Data::encode(&value).unwrap_or_else(|_| Data(vec![0]))),
                ResultMode::Data => {
                    Data::encode_named(&value, "the result").map_err(|fail| error_data(*fail))
                }
            },
            Outcome::Failed(failure) => Err(error_data(failure)),
            Outcome::Running => Err(ErrorData::new("internal", "the program ended without a result")),
        })
    }

    fn finished(&mut self, fiber: Fiber, result: Result<Value, Fail>) {
        let failed = result.is_err();
        let is_main = Rc::ptr_eq(&fiber.task, &self.main);
        let task = fiber.task.clone();
        drop(fiber);
        self.settle(&task, result);
        if failed && is_main && !self.ending {
            self.ending = true;
            let others: Vec<Rc<Task>> = self.fibers.values().map(|fiber| fiber.task.clone()).collect();
            for task in others {
                self.cancel(&task);
            }
        } else if failed && !is_main {
            self.failed.push(task);
        }
    }
}

/// A failure as data; it crosses a boundary here.
pub(crate) fn error_data(failure: Failure) -> ErrorData {
    let value = Data::encode_named(&failure.value, "the error").or_else(|fail| Data::encode(&fail.value));
    let mut trace = failure.trace.map(|trace| (*trace).clone()).unwrap_or_default();
    if let Some(last) = trace.entries.last_mut() {
        last.boundary = true;
    }
    ErrorData { value: value.unwrap_or_default(), trace }
}
