//! Calls that leave the code: builtins, effects, activities, and methods by kind.

use std::mem;
use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64;

use crate::builtins::{self, Context, Effect, Kind};

use super::address::handle;
use super::error::{Fail, fail};
use super::frames::{call_place, push_frame, release};
use super::operate as op;
use super::task::{How, tasks_of};
use super::value::{EntityRef, Record, Value, intern};
use super::{Data, Fiber, Machine, Request, RequestKind, Wait, natives, secret};

/// The outcome of a call of a builtin.
pub(super) enum Flow {
    Go,
    /// The fiber waits.
    Wait(Wait),
    /// Another fiber runs first.
    Yield,
}

impl Machine {
    pub(super) fn builtin(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        builtin: u16,
        at: usize,
        count: usize,
        result: usize,
    ) -> Result<Flow, Fail> {
        let info = &builtins::TABLE[builtin as usize];
        if count < info.min as usize || count > info.max as usize {
            return Err(op::arity(info.name, info.min as usize, info.max as usize, count));
        }
        if !info.contexts.allow(self.context) {
            return Err(fail(
                "context",
                format!("`{}` is not allowed in {}", info.name, self.context.describe()),
            ));
        }
        match info.kind {
            Kind::Native => {
                let args = &mut fiber.stack[at..at + count];
                let value = (natives::table()[builtin as usize].native)(args)?;
                release(args);
                fiber.stack[result] = value;
                Ok(Flow::Go)
            }
            Kind::Identity if info.name == "expired" => {
                let value = mem::take(&mut fiber.stack[at]);
                Err(self.expired(value))
            }
            Kind::Identity => {
                fiber.stack[result] = match info.name {
                    "self" => {
                        let key = match &self.identity.entity {
                            Some(entity) => entity.key.decode(),
                            None => Value::str(&*self.identity.key),
                        };
                        Value::record([("id", Value::str(self.identity.id())), ("key", key)])
                    }
                    "attempt" => Value::Int(self.attempt(fiber)),
                    "has_tasks" => Value::bool(self.context == Context::Orchestration),
                    "retry_seed" => {
                        let (id, key) = (self.identity.id(), &self.identity.key);
                        let seed = xxh3_64(format!("{id} {key} {}", self.next_request).as_bytes());
                        Value::Int(seed.cast_signed())
                    }
                    "delete_state" => {
                        self.delete_state();
                        Value::Null
                    }
                    _ => Value::str(&*self.identity.key),
                };
                Ok(Flow::Go)
            }
            Kind::Effect(effect) => {
                match effect {
                    Effect::Lock => return self.lock(fiber, id),
                    Effect::Unlock => {
                        let token = mem::replace(&mut fiber.stack[at], Value::Null);
                        return self.unlock(fiber, id, &token);
                    }
                    Effect::ContinueAsNew => self.may_continue(fiber, count)?,
                    Effect::StatesOf => fiber.stack[at] = self.entity_kind(&fiber.stack[at])?,
                    Effect::Wait | Effect::Status | Effect::OutcomeOf => {
                        fiber.stack[at] = Value::str(handle(&fiber.stack[at], effect.name())?);
                    }
                    _ => {}
                }
                let args = &fiber.stack[at..at + count];
                match effect {
                    Effect::Http
                    | Effect::HttpDownload
                    | Effect::Exec
                    | Effect::ExecStart
                    | Effect::FsWrite
                    | Effect::FsAppend
                        if args[1..].iter().any(secret::holds) =>
                    {
                        let masked = [&args[..1], &secret::masked(&args[1..])].concat();
                        natives::check_effect(effect, &masked)?;
                    }
                    _ => natives::check_effect(effect, args)?,
                }
                let mut args = fiber.stack[at..at + count].to_vec();
                if effect == Effect::Print && count != 1 {
                    args = vec![joined(args)?];
                }
                if effect.is_line() {
                    // Values that aren't data are shown as text.
                    for arg in &mut args {
                        if Data::encode(arg).is_err() {
                            *arg = Value::str(super::format::to_text(arg)?);
                        }
                    }
                }
                let args = Data::encode_named(&Value::list(args), "args")?;
                Ok(Flow::Wait(self.request(fiber, id, RequestKind::Effect(effect), args)))
            }
            Kind::Message(Effect::Cancel) if matches!(fiber.stack[at], Value::Task(_)) => {
                self.cancel_task(fiber, id, at, count, result)
            }
            Kind::Message(effect) => self.message(fiber, id, effect, at, count, result),
            Kind::Scheduling if info.name == "section" => {
                let args: Vec<Value> = fiber.stack[at..at + count].iter_mut().map(mem::take).collect();
                fiber.stack[result] = self.section(fiber, &args[0], &args[1])?;
                Ok(Flow::Go)
            }
            Kind::Scheduling if matches!(info.name, "scope" | "scope_end") => {
                let args: Vec<Value> = fiber.stack[at..at + count].iter_mut().map(mem::take).collect();
                fiber.stack[result] = match info.name {
                    "scope" => self.begin_scope(fiber, &args[0]),
                    _ => {
                        self.end_scope(fiber, &args[0], matches!(&args[1], Value::Bool(b) if b.get()));
                        Value::Null
                    }
                };
                Ok(Flow::Go)
            }
            Kind::Scheduling => {
                let arg = mem::take(&mut fiber.stack[at]);
                let (how, (tasks, keys)) = match info.name {
                    "async" => {
                        let task = self.spawn(&arg, fiber, id)?;
                        fiber.stack[result] = task;
                        return Ok(Flow::Yield);
                    }
                    "await" => match &arg {
                        Value::Task(task) => (How::One, (vec![task.clone()], None)),
                        other => {
                            let hint = match other {
                                Value::List(_) => {
                                    "; `all` awaits a list of tasks, and gives their values by itself"
                                }
                                Value::Record(record) if record.get_str("id").is_some() => {
                                    "; `wait(handle)` waits for an instance that was started"
                                }
                                _ => "; a call without `async` has given its value already",
                            };
                            return Err(fail(
                                "type_error",
                                format!("`await` takes a task, not {}{hint}", other.a_kind()),
                            ));
                        }
                    },
                    "all" => (How::All, tasks_of(&arg, "all")?),
                    "any" => (How::Any, tasks_of(&arg, "any")?),
                    "select" => (How::Select, tasks_of(&arg, "select")?),
                    "settle" => (How::Settle, tasks_of(&arg, "all")?),
                    _ => (How::Race, tasks_of(&arg, "race")?),
                };
                if tasks.iter().any(|task| Rc::ptr_eq(task, &fiber.task)) {
                    return Err(fail("type_error", "a task can't wait for itself"));
                }
                let outcome = self.join(fiber, id, how, tasks, keys);
                if let Some(cause) = fiber.cancelled.take() {
                    return Err(cause.error(&self.image));
                }
                match outcome {
                    Ok(Some(Ok(value))) => {
                        fiber.stack[result] = value;
                        Ok(Flow::Go)
                    }
                    Ok(Some(Err(failure))) => Err(failure),
                    Ok(None) => Err(fail("internal", "a wait without an outcome")),
                    Err(join) => Ok(Flow::Wait(Wait::Tasks(join))),
                }
            }
        }
    }

    /// Returns the name of the entities of a declaration.
    fn entity_kind(&self, declaration: &Value) -> Result<Value, Fail> {
        let stub = match declaration {
            Value::Function(closure) => {
                self.image.code.isolated.iter().find(|i| i.stub == closure.function && i.entity.is_some())
            }
            _ => None,
        };
        match stub {
            Some(item) => Ok(Value::str(item.name.as_str())),
            None => Err(super::error::type_error(format!(
                "`states_of` takes the name of an entity's declaration, not {}",
                declaration.a_kind()
            ))),
        }
    }

    pub(super) fn request(&mut self, fiber: &mut Fiber, id: u64, what: RequestKind, args: Data) -> Wait {
        let seq = self.next_request;
        self.next_request += 1;
        let place = call_place(&self.image, fiber);
        self.charge(fiber, id, &args);
        self.requests.push(Request { seq, what, args, place });
        self.waiting.insert(seq, id);
        Wait::Answer { seq }
    }

    /// Charges a fiber for the arguments of its request, which are kept with the request and in the
    /// history.
    fn charge(&mut self, fiber: &mut Fiber, id: u64, args: &Data) {
        if id > 0 && args.0.len() > super::TASK_BYTES / 8 {
            let bytes = super::TASK_BYTES + 2 * args.0.len();
            self.tasks_hold = self.tasks_hold + bytes - fiber.charge.set(bytes);
        }
    }

    /// Calls an activity or an orchestration, or makes a reference to an entity.
    pub(super) fn invoke(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        global: u16,
        at: usize,
        count: usize,
    ) -> Result<Flow, Fail> {
        let image = self.image.clone();
        let item = &image.code.isolated[global as usize];
        match (item.context, self.context) {
            (None, _) => {
                let key = mem::take(&mut fiber.stack[at]);
                fiber.stack[at] = Value::Entity(Rc::new(EntityRef { name: item.name.as_str().into(), key }));
                Ok(Flow::Go)
            }
            (Some(Context::Activity), Context::Orchestration) => {
                let mut args = fiber.stack[at..at + count].to_vec();
                while matches!(args.last(), Some(Value::Missing)) {
                    args.pop();
                }
                check_options(&fiber.stack[at + count])?;
                let (options, judge) = split_when(&fiber.stack[at + count]);
                let options = Data::encode_named(&options, "options")?;
                let args = Data::encode_named(&Value::list(args), "args")?;
                fiber.judge = judge;
                Ok(Flow::Wait(self.request(
                    fiber,
                    id,
                    RequestKind::Activity { name: item.name.clone(), options },
                    args,
                )))
            }
            (Some(Context::Activity), Context::Activity | Context::Operation) => {
                // The frame of the body replaces the stub's.
                push_frame(&image, fiber, item.body, at, count, at, &Value::Null)?;
                Ok(Flow::Go)
            }
            (Some(Context::Activity), context) => {
                Err(fail("context", format!("calling an activity is not allowed in {}", context.describe())))
            }
            (Some(_), Context::Orchestration) => {
                let args = fiber.stack[at..at + count].to_vec();
                let options = fiber.stack[at + count].clone();
                self.call_child(fiber, id, &item.name, &args, &options)
            }
            (Some(_), context) => Err(fail(
                "context",
                format!("calling an orchestration is not allowed in {}", context.describe()),
            )),
        }
    }
}

fn check_options(options: &Value) -> Result<(), Fail> {
    super::natives::options::policy(options).map(|_| ())
}

/// Splits the options of an activity into options that are data, and the function `when` of its
/// policy.
fn split_when(options: &Value) -> (Value, Option<Value>) {
    let whole = || (options.clone(), None);
    let Value::Record(outer) = options else { return whole() };
    let Some(Value::Record(retry)) = outer.get_str("retry") else { return whole() };
    let Some(when @ Value::Function(_)) = retry.get_str("when") else { return whole() };
    let with = |record: &Record, name: &str, value: Value| {
        let mut record = record.clone();
        record.set(intern(name), value);
        Value::Record(Rc::new(record))
    };
    let retry = with(retry, "when", Value::bool(true));
    (with(outer, "retry", retry), Some(when.clone()))
}

/// Returns the texts of values with spaces between them.
fn joined(values: Vec<Value>) -> Result<Value, Fail> {
    let mut parts: Vec<Value> = Vec::with_capacity(values.len() * 2);
    for value in values {
        if !parts.is_empty() {
            parts.push(Value::str(" "));
        }
        parts.push(value);
    }
    op::concat(&mut parts)
}
