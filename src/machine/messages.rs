//! Messages to instances and entities, and the rules of critical sections.
//!
//! An orchestration requests a message like any other effect. An activity or an operation keeps its
//! messages until its end. They are sent together with its result, or not at all.

use std::mem;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::{Context, Effect};
use crate::syntax::Place;

use super::address::{EntityId, handle, started_id};
use super::calls::Flow;
use super::cancel::{Cause, locate};
use super::error::{Fail, fail, type_error};
use super::frames::{call_place, trace_of};
use super::operate as op;
use super::options;
use super::value::Value;
use super::{Data, Fiber, Machine, Request, RequestKind, Wait, bad_own_id, secret};

/// A critical section of an instance. It is plain data between two instructions, like the rest of a
/// machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    /// The number of the section within the run. `lock` and `unlock` name the section by it.
    pub token: u64,
    /// The entities, sorted and without duplicates.
    pub entities: Vec<EntityId>,
    pub options: Data,
    pub place: Place,
    pub stage: Stage,
    /// The running calls of held entities.
    pub calls: Vec<(u64, EntityId)>,
}

/// The progress of a critical section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The entities are not held: not requested yet, or the request was given up.
    Open,
    /// The request of this number asked for the entities.
    Asked(u64),
    Held,
}

impl Machine {
    pub(super) fn held(&self) -> Option<&Section> {
        self.section.as_ref().filter(|section| section.stage == Stage::Held)
    }

    /// Returns the error of something that a critical section forbids, with the place of the
    /// section.
    fn forbidden(&self, fiber: &Fiber, message: String) -> Fail {
        let mut failure = fail("critical_section", message);
        if let Some(section) = &self.section {
            let mut trace = trace_of(&self.image, fiber);
            trace.also.push((section.place, "the critical section".to_string()));
            failure.trace = Some(Rc::new(trace));
        }
        failure
    }

    /// Executes `Entity(key).operation(args)`.
    pub(super) fn entity_call(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        entity: &Value,
        operation: &str,
        args: &[Value],
    ) -> Result<Flow, Fail> {
        let Value::Entity(entity) = entity else { return Err(fail("internal", "not an entity")) };
        if secret::is_of(entity) {
            return Err(secret::misused(operation));
        }
        if !matches!(self.context, Context::Orchestration | Context::Activity) {
            let context = self.context.describe();
            return Err(fail("context", format!("calling an entity is not allowed in {context}")));
        }
        let entity = EntityId::of(entity)?;
        let mut within = false;
        if let Some(section) = self.held() {
            if section.entities.binary_search(&entity).is_err() {
                return Err(self.forbidden(
                    fiber,
                    format!("{entity} is called in a critical section that does not hold it"),
                ));
            }
            if section.calls.iter().any(|(_, known)| *known == entity) {
                return Err(self.forbidden(
                    fiber,
                    format!("{entity} is called while another call of it is under way in a critical section"),
                ));
            }
            within = true;
        }
        let args = Data::encode_named(&Value::list(args.to_vec()), "args")?;
        let what =
            RequestKind::Operation { entity: entity.clone(), operation: operation.to_string(), signal: None };
        let seq = self.next_request;
        let wait = self.request(fiber, id, what, args);
        if within && let Some(section) = &mut self.section {
            section.calls.push((seq, entity));
        }
        Ok(Flow::Wait(wait))
    }

    /// Calls an orchestration as a child.
    pub(super) fn call_child(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        name: &str,
        args: &[Value],
        options: &Value,
    ) -> Result<Flow, Fail> {
        if self.held().is_some() {
            return Err(
                self.forbidden(fiber, format!("orchestration `{name}` is called in a critical section"))
            );
        }
        self.child_options(options)?;
        let options = Data::encode_named(options, "options")?;
        let args = Data::encode_named(&Value::list(given(args)), "args")?;
        let what = RequestKind::Orchestration { name: name.to_string(), options, start: false };
        Ok(Flow::Wait(self.request(fiber, id, what, args)))
    }

    /// Executes a message from the table of builtins. The arguments are in the stack from `at` on.
    pub(super) fn message(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        effect: Effect,
        at: usize,
        count: usize,
        result: usize,
    ) -> Result<Flow, Fail> {
        let args: Vec<Value> = fiber.stack[at..at + count].iter_mut().map(mem::take).collect();
        let (what, args) = match effect {
            Effect::Start => self.start(&args)?,
            Effect::Signal => self.signal(fiber, &args)?,
            Effect::Cancel => self.cancellation(fiber, args)?,
            _ => {
                let mut args = args;
                args[0] = Value::str(handle(&args[0], effect.name())?);
                match (effect, args.get(1)) {
                    (Effect::Raise, Some(event)) if !matches!(event, Value::Str(_)) => {
                        return Err(type_error(format!(
                            "an event's name is a string, not {}",
                            event.a_kind()
                        )));
                    }
                    _ => {}
                }
                if effect == Effect::Terminate {
                    options::terminate(&args[2])?;
                }
                (RequestKind::Effect(effect), Data::encode_named(&Value::list(args), "args")?)
            }
        };
        if self.context == Context::Orchestration {
            return Ok(Flow::Wait(self.request(fiber, id, what, args)));
        }
        let number = self.sends.len() as u64;
        fiber.stack[result] = match &what {
            RequestKind::Orchestration { options, .. } => {
                let own = options::child(&options.decode())?.id;
                instance_handle(&own.unwrap_or_else(|| started_id(&self.identity.key, number)))
            }
            _ => Value::Null,
        };
        let place = call_place(&self.image, fiber);
        self.sends.push(Request { seq: number, what, args, place });
        Ok(Flow::Go)
    }

    /// Executes `cancel(task)`. The arguments are in the stack from `at` on.
    pub(super) fn cancel_task(
        &mut self,
        fiber: &mut Fiber,
        id: u64,
        at: usize,
        count: usize,
        result: usize,
    ) -> Result<Flow, Fail> {
        let options = (1..count).map(|nth| &fiber.stack[at + nth]);
        if options.into_iter().any(|options| !matches!(options, Value::Null | Value::Missing)) {
            return Err(type_error("a task is cancelled without options: they are for instances"));
        }
        let Value::Task(task) = mem::take(&mut fiber.stack[at]) else {
            return Err(fail("internal", "not a task"));
        };
        let cause = Cause::of_call(&self.image, fiber, "cancel");
        self.cancel(&task, &cause, true, Some((id, &mut *fiber)));
        if let Some(cause) = fiber.cancelled.take() {
            return Err(cause.error(&self.image));
        }
        if !self.image.code.structured {
            return Ok(Flow::Go);
        }
        // The cancelled tasks first clean up as far as they can without waiting.
        fiber.stack[result] = Value::Null;
        self.ready.push_back(id);
        Ok(Flow::Yield)
    }

    /// Returns the request to cancel an instance.
    fn cancellation(&self, fiber: &Fiber, args: Vec<Value>) -> Result<(RequestKind, Data), Fail> {
        let (target, options) = (&args[0], args.get(1).unwrap_or(&Value::Null));
        let id = handle(target, "cancel").map_err(|failure| match target {
            Value::Str(_) | Value::Record(_) => failure,
            other => type_error(format!("`cancel` takes a task or an instance, not {}", other.a_kind())),
        })?;
        let (reason, grace) = options::cancel(options)?;
        let place = locate(&self.image, call_place(&self.image, fiber));
        let args = vec![Value::str(id), reason, Value::Duration(grace), Value::str(place)];
        Ok((RequestKind::Effect(Effect::Cancel), Data::encode_named(&Value::list(args), "args")?))
    }

    /// Checks the options of a call or a start. The program can't choose an id of the automatic
    /// form.
    fn child_options(&self, given: &Value) -> Result<options::Child, Fail> {
        let child = options::child(given)?;
        // The later attempts of a call with an id have ids of the automatic form.
        if let Some(id) = child.id.as_ref().filter(|_| !self.names_freely && child.attempt < 2)
            && let Some(reason) = bad_own_id(id)
        {
            return Err(type_error(format!("{id:?} can't be an id: {reason}")));
        }
        Ok(child)
    }

    fn start(&self, args: &[Value]) -> Result<(RequestKind, Data), Fail> {
        let image = self.image.clone();
        let stub = match &args[0] {
            Value::Function(closure) => image.code.isolated.iter().find(|i| i.stub == closure.function),
            _ => None,
        };
        let Some(item) = stub.filter(|item| item.context == Some(Context::Orchestration)) else {
            return Err(type_error(format!("`start` takes an orchestration, not {}", args[0].a_kind())));
        };
        let Value::List(list) = &args[1] else { return Err(fail("internal", "arguments that are no list")) };
        op::fits(&image.code.functions[item.body as usize], list.len())?;
        self.child_options(&args[2])?;
        let options = match (args.get(3), args.get(4)) {
            (None, _) => args[2].clone(),
            (Some(after), None) => options::beginning_later(&args[2], after, false)?,
            (Some(_), Some(at)) => options::beginning_later(&args[2], at, true)?,
        };
        let options = Data::encode_named(&options, "options")?;
        let what = RequestKind::Orchestration { name: item.name.clone(), options, start: true };
        Ok((what, Data::encode_named(&args[1], "args")?))
    }

    fn signal(&self, fiber: &Fiber, args: &[Value]) -> Result<(RequestKind, Data), Fail> {
        let [Value::Entity(entity), Value::Str(operation), list, after] = args else {
            return Err(type_error(format!(
                "`signal` takes an operation of an entity, not a method of {}",
                args[0].a_kind()
            )));
        };
        if !matches!(after, Value::Null | Value::Duration(_) | Value::Instant(_)) {
            return Err(type_error(format!(
                "`after` takes a duration or an instant, not {}",
                after.a_kind()
            )));
        }
        let entity = EntityId::of(entity)?;
        if self.held().is_some_and(|section| section.entities.binary_search(&entity).is_ok()) {
            return Err(
                self.forbidden(fiber, format!("{entity} is signalled in the critical section that holds it"))
            );
        }
        let after = Data::encode_named(after, "after")?;
        let operation = operation.as_str().to_string();
        Ok((
            RequestKind::Operation { entity, operation, signal: Some(after) },
            Data::encode_named(list, "args")?,
        ))
    }

    /// Declares a critical section, and returns its token.
    pub(super) fn section(
        &mut self,
        fiber: &Fiber,
        entities: &Value,
        options: &Value,
    ) -> Result<Value, Fail> {
        if self.section.is_some() {
            return Err(self.forbidden(fiber, "a critical section within a critical section".to_string()));
        }
        let mut set = Vec::new();
        let Value::List(items) = entities else { return Err(fail("internal", "entities that are no list")) };
        for item in items.as_slice() {
            let several = match item {
                Value::List(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            for item in several {
                let Value::Entity(entity) = item else {
                    return Err(type_error(format!("`lock` takes entities, not {}", item.a_kind())));
                };
                set.push(EntityId::of(entity)?);
            }
        }
        set.sort();
        set.dedup();
        options::lock(options)?;
        let token = self.next_section;
        self.next_section += 1;
        self.section = Some(Section {
            token,
            entities: set,
            options: Data::encode_named(options, "options")?,
            place: call_place(&self.image, fiber),
            stage: Stage::Open,
            calls: Vec::new(),
        });
        Ok(Value::Int(token as i64))
    }

    /// Requests the entities of the section.
    pub(super) fn lock(&mut self, fiber: &mut Fiber, id: u64) -> Result<Flow, Fail> {
        let Some(section) = &mut self.section else {
            return Err(fail("internal", "a lock without a section"));
        };
        let args = Value::list(vec![
            Value::list(section.entities.iter().map(EntityId::value).collect()),
            section.options.decode(),
        ]);
        section.stage = Stage::Asked(self.next_request);
        let args = Data::encode_named(&args, "args")?;
        Ok(Flow::Wait(self.request(fiber, id, RequestKind::Effect(Effect::Lock), args)))
    }

    /// Leaves the section of a token, if the instance is still in it.
    pub(super) fn unlock(&mut self, fiber: &mut Fiber, id: u64, token: &Value) -> Result<Flow, Fail> {
        let ours = |section: &Section| matches!(token, Value::Int(n) if *n == section.token as i64);
        let Some(section) = self.section.take_if(|section| ours(section)) else { return Ok(Flow::Go) };
        if section.stage != Stage::Held {
            return Ok(Flow::Go);
        }
        self.left = section.entities;
        let args = Data::encode(&Value::list(Vec::new()))?;
        let Wait::Answer { seq } = self.request(fiber, id, RequestKind::Effect(Effect::Unlock), args) else {
            return Err(fail("internal", "a request that nobody waits for"));
        };
        Ok(Flow::Wait(Wait::Shielded { seq }))
    }

    /// Checks that `continue_as_new` is possible here, with `count` arguments.
    pub(super) fn may_continue(&self, fiber: &Fiber, count: usize) -> Result<(), Fail> {
        if self.section.is_some() {
            return Err(self.forbidden(fiber, "`continue_as_new` in a critical section".to_string()));
        }
        let own = self.function;
        if own == self.image.code.script {
            return match count {
                0 | 1 => Ok(()),
                _ => Err(op::arity("continue_as_new", 0, 1, count)),
            };
        }
        op::fits(&self.image.code.functions[own as usize], count)
    }

    /// Updates the section after an answer.
    pub(super) fn section_answered(&mut self, seq: u64, granted: bool) {
        if let Some(section) = &mut self.section {
            if section.stage == Stage::Asked(seq) {
                section.stage = if granted { Stage::Held } else { Stage::Open };
            }
            section.calls.retain(|(call, _)| *call != seq);
        }
    }
}

/// Returns the arguments up to the last given one.
fn given(args: &[Value]) -> Vec<Value> {
    let count = args.iter().rposition(|arg| !matches!(arg, Value::Missing)).map_or(0, |at| at + 1);
    args[..count].to_vec()
}

/// Returns the handle of an instance, a record.
pub fn instance_handle(id: &str) -> Value {
    Value::record([("id", Value::str(id))])
}
