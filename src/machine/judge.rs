//! The `when` of a retry policy: a function of the program that says whether an error is retried.
//!
//! The function runs between two instructions of the program, on a copy of its captured variables,
//! so all its changes are lost. A replay finds the decision in the history and need not run it
//! again.

use std::mem;
use std::rc::Rc;

use crate::builtins::Context;

use super::error::{ErrorData, Fail, Failure, fail, type_error};
use super::execute::{NOTING, Step};
use super::run::error_data;
use super::snapshot::copied;
use super::value::{Charge, Value, intern};
use super::{Fiber, Machine, Wait, frames, operate, task::Task};

/// The fuel of one decision, in calls and repetitions.
const FUEL: u64 = 1_000_000;

impl Machine {
    /// Returns whether the `when` of a request's policy wants another attempt after an error. An
    /// error of `when` itself is returned as one.
    pub fn judge(&mut self, seq: u64, error: &ErrorData) -> Result<bool, ErrorData> {
        let when = self.waiting.get(&seq).and_then(|id| self.fibers.get(id)?.judge.clone());
        let Some(when) = when else { return Ok(true) };
        match self.decide(&when, error.value.decode()) {
            Ok(Value::Bool(again)) => Ok(again.get()),
            Ok(other) => {
                let message = format!("the `when` of a policy gives true or false, not {}", other.a_kind());
                Err(error_data(*type_error(message), self))
            }
            Err(failure) => Err(error_data(*worded(failure), self)),
        }
    }

    fn decide(&mut self, when: &Value, error: Value) -> Result<Value, Fail> {
        let copy = copied(when).ok_or_else(|| fail("internal", "a function can't be copied"))?;
        let Value::Function(closure) = &copy else { return Err(operate::not_a_function(&copy)) };
        let image = self.image.clone();
        operate::fits(&image.code.functions[closure.function as usize], 1)?;
        let task = Task::new(u64::MAX);
        let mut fiber = Fiber {
            stack: vec![error],
            frames: Vec::new(),
            handlers: Vec::new(),
            task,
            wait: Wait::Nothing,
            thrown: None,
            cancelled: None,
            given_up: false,
            reported: false,
            parent: u64::MAX,
            inner: Default::default(),
            attempts: Vec::new(),
            charge: Charge::default(),
            judge: None,
        };
        frames::push_frame(&image, &mut fiber, closure.function, 0, 1, 0, &closure.env)?;
        let context = mem::replace(&mut self.context, Context::Pure);
        let mut fuel = FUEL;
        let step = self.step::<NOTING>(&mut fiber, u64::MAX, &mut fuel);
        self.context = context;
        self.spent += FUEL - fuel;
        match step {
            Step::Finished(result) => result,
            _ => Err(fail("limit", "the `when` of a policy computes for too long")),
        }
    }
}

/// Corrects the message of an effect that is not allowed in a `when`.
fn worded(mut failure: Fail) -> Fail {
    if let Value::Record(record) = &failure.value
        && let Some(Value::Str(message)) = record.get_str("message")
    {
        let told = message.as_str().replace(Context::Pure.describe(), "the `when` of a policy");
        let mut record = (**record).clone();
        record.set(intern("message"), Value::str(told));
        *failure = Failure { value: Value::Record(Rc::new(record)), trace: failure.trace.take() };
    }
    failure
}
