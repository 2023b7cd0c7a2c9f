//! The loop of a machine: runs fibers in turn, collects requests, takes answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::rc::Rc;

use crate::builtins::Context;
use crate::check::closest;
use crate::code::{Entity, FunctionId, Operation};
use crate::internal::sure;

use super::compare;
use super::durations;
use super::error::Failure;
use super::execute::{NOTING, PAUSING, PLAIN, Step};
use super::frames::{push_frame, resume};
use super::operate as op;
use super::provenance::Provenance;
use super::task::{Outcome, Task};
use super::value::{Charge, Record, Shared, Value};
use super::{
    Data, ErrorData, Fiber, Identity, Image, Machine, Progress, Request, ResultMode, TASK_BYTES, Wait, format,
};

/// The state of the entity whose operation runs.
#[derive(Debug)]
pub(crate) struct State {
    before: Option<Value>,
    initial: Value,
    cell: Rc<Shared>,
    deleted: bool,
}

/// Returns whether two values are identical, without looking into them.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Record(a), Value::Record(b)) => Rc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        _ => false,
    }
}

/// Returns the operation of that name. The error of a missing one says what was meant.
pub fn find_operation<'e>(
    declared: &'e Entity,
    entity: &str,
    operation: &str,
) -> Result<&'e Operation, ErrorData> {
    if let Some(found) = declared.operations.iter().find(|known| known.name == operation) {
        return Ok(found);
    }
    let near = || closest(operation, declared.operations.iter().map(|known| known.name.as_str()));
    let hint = match declared.private.iter().any(|name| name == operation) {
        true => format!("; `{operation}` is a private function of the entity"),
        false => near().map_or(String::new(), |near| format!("; did you mean `{near}`?")),
    };
    let message = format!("entity `{entity}` has no operation `{operation}`{hint}");
    Err(ErrorData::new("unknown_operation", message))
}

/// The fuel of one migration of a state, in calls and repetitions.
const MIGRATION: u64 = 10_000_000;

impl Machine {
    /// Makes a machine that is about to call a function of the program.
    pub fn new(
        image: Rc<Image>,
        context: Context,
        function: FunctionId,
        args: Vec<Value>,
        identity: Identity,
    ) -> Machine {
        let lenient = function == image.code.script;
        let main = Task::new(0);
        main.observed.set(true);
        let mut fiber = Fiber {
            stack: args,
            frames: Vec::new(),
            handlers: Vec::new(),
            task: main.clone(),
            wait: Wait::Nothing,
            thrown: None,
            cancelled: None,
            given_up: false,
            reported: false,
            parent: 0,
            inner: BTreeMap::new(),
            attempts: Vec::new(),
            charge: Charge::default(),
            judge: None,
        };
        let count = fiber.stack.len();
        if let Err(fail) = push_frame(&image, &mut fiber, function, 0, count, 0, &Value::Null) {
            fiber.thrown = Some(fail);
        }
        Machine {
            image,
            context,
            function,
            identity,
            fibers: BTreeMap::from([(0, Box::new(fiber))]),
            ready: VecDeque::from([0]),
            next_fiber: 1,
            next_request: 0,
            spent: 0,
            waiting: BTreeMap::new(),
            requests: Vec::new(),
            unmade: BTreeSet::new(),
            withdrawn: Vec::new(),
            tasks_hold: 0,
            main,
            failed: Vec::new(),
            provenance: Provenance::default(),
            ending: false,
            result: if lenient { ResultMode::Lenient } else { ResultMode::Data },
            value: Value::Null,
            section: None,
            next_section: 0,
            left: Vec::new(),
            names_freely: false,
            sends: Vec::new(),
            state: None,
            pauses: None,
        }
    }

    /// Makes a machine that is about to run an operation of an entity. `state` is the entity's, or
    /// `None` if it has none. A wrong number of arguments is an error.
    pub fn operation(
        image: Rc<Image>,
        entity: &Entity,
        operation: &Operation,
        mut args: Vec<Value>,
        state: Option<Value>,
        identity: Identity,
    ) -> Result<Machine, ErrorData> {
        if args.len() < operation.required || args.len() > operation.params {
            let name = &image.code.functions[operation.function as usize].name;
            let fail = op::arity(name, operation.required, operation.params, args.len());
            return Err(ErrorData { value: Data::of(&fail.value), trace: Default::default() });
        }
        let initial = entity.initial.map_or(Value::Null, |at| image.globals.borrow()[at].clone());
        let cell = Rc::new(Shared { value: RefCell::new(state.clone().unwrap_or_else(|| initial.clone())) });
        args.resize(operation.params, Value::Missing);
        args.push(Value::Cell(cell.clone()));
        let mut machine = Machine::new(image, Context::Operation, operation.function, args, identity);
        machine.state = Some(State { before: state, initial, cell, deleted: false });
        Ok(machine)
    }

    /// Returns the initial state of the entity, when this is an operation.
    pub(crate) fn initial_state(&self) -> Option<Value> {
        self.state.as_ref().map(|state| state.initial.clone())
    }

    /// Makes the machine know the state of an operation again, after it was restored from a
    /// snapshot. The operation has the state in the register after its parameters.
    pub(crate) fn find_state(&mut self, initial: Value) {
        let Some(fiber) = self.fibers.get(&0) else { return };
        let params = self.image.code.functions[self.function as usize].params as usize;
        if let Some(Value::Cell(cell)) = params.checked_sub(1).and_then(|at| fiber.stack.get(at)) {
            self.state = Some(State { before: None, initial, cell: cell.clone(), deleted: false });
        }
    }

    /// Makes a state of the newest version of one of an earlier version, by the migrations of the
    /// entity's program. Returns the state, its bytes, and the fuel that they took.
    pub fn migrate(
        image: &Rc<Image>,
        entity: &Entity,
        mut state: Value,
        version: u32,
    ) -> Result<(Value, Data, u64), ErrorData> {
        let mut spent = 0;
        for function in entity.migrations.iter().skip(version as usize) {
            let identity = Identity::default();
            let mut machine = Machine::new(image.clone(), Context::Pure, *function, vec![state], identity);
            machine.keep_value();
            state = match machine.run(MIGRATION) {
                Progress::Done(Ok(_)) => machine.take_value(),
                Progress::Done(Err(error)) => return Err(error),
                _ => {
                    return Err(ErrorData::new(
                        "limit",
                        "the migration of a state takes too long to compute",
                    ));
                }
            };
            spent += machine.take_spent();
        }
        match Data::encode_named(&state, "state") {
            Ok(data) => Ok((state, data, spent)),
            Err(fail) => Err(ErrorData { value: Data::of(&fail.value), trace: Default::default() }),
        }
    }

    /// Takes the state after the end of an operation. Returns `None` if the state has not changed,
    /// and otherwise the new state with its bytes, or an inner `None` if the state was deleted. A
    /// state that is not data is an error.
    pub fn take_state(&mut self) -> Result<Option<Option<(Value, Data)>>, ErrorData> {
        let Some(state) = self.state.take() else { return Ok(None) };
        let now = state.cell.value.borrow().clone();
        let is_initial = || compare::equal(&now, &state.initial).unwrap_or(false);
        match &state.before {
            Some(_) if state.deleted && is_initial() => return Ok(Some(None)),
            Some(before) if same(before, &now) => return Ok(None),
            None if is_initial() => return Ok(None),
            _ => {}
        }
        match Data::encode_named(&now, "state") {
            Ok(data) => Ok(Some(Some((now, data)))),
            Err(fail) => Err(error_data(*fail, self)),
        }
    }

    /// Executes `delete_state()`.
    pub(super) fn delete_state(&mut self) {
        if let Some(state) = &mut self.state {
            *state.cell.value.borrow_mut() = state.initial.clone();
            state.deleted = true;
        }
    }

    /// Takes the messages of an activity or an operation.
    pub fn take_sends(&mut self) -> Vec<Request> {
        mem::take(&mut self.sends)
    }

    /// Returns the beginning of the program's hash.
    fn program(&self) -> u64 {
        self.image.code.hash.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Makes the machine keep the main function's value as it is, for `take_value`.
    pub(crate) fn keep_value(&mut self) {
        self.result = ResultMode::Value;
    }

    pub(crate) fn take_value(&mut self) -> Value {
        mem::take(&mut self.value)
    }

    /// Takes the requests made since the last call of this function.
    pub fn take_requests(&mut self) -> Vec<Request> {
        let mut requests = mem::take(&mut self.requests);
        if !self.unmade.is_empty() {
            let unmade = mem::take(&mut self.unmade);
            requests.retain(|request| !unmade.contains(&request.seq));
        }
        requests
    }

    /// Takes the numbers of requests whose answers nobody waits for any more.
    pub fn take_withdrawn(&mut self) -> Vec<u64> {
        mem::take(&mut self.withdrawn)
    }

    /// Answers a request. An answer that nobody waits for is dropped.
    pub fn answer(&mut self, seq: u64, result: Result<Data, ErrorData>) {
        let Some(id) = self.waiting.remove(&seq) else { return };
        self.section_answered(seq, result.is_ok());
        let own = self.program();
        let Some(fiber) = self.fibers.get_mut(&id) else { return };
        fiber.wait = Wait::Nothing;
        let held = fiber.charge.get();
        if held > TASK_BYTES {
            self.tasks_hold -= held - TASK_BYTES;
            fiber.charge.set(TASK_BYTES);
        }
        self.provenance.answered(seq);
        let result = result.map(|data| data.decode()).map_err(|error| {
            let mut trace = error.trace;
            if trace.program != 0 && trace.program != own {
                // The places are in the texts of another program.
                trace.entries.iter_mut().for_each(|entry| entry.place.source = u32::MAX);
                trace.also.clear();
            }
            trace.program = 0;
            trace.requests = self.provenance.from(seq);
            Box::new(Failure { value: error.value.decode(), trace: Some(Rc::new(trace)) })
        });
        resume(&self.image, fiber, result);
        self.ready.push_back(id);
    }

    /// Takes the fuel used since the last call of this function.
    pub fn take_spent(&mut self) -> u64 {
        mem::take(&mut self.spent)
    }

    /// Runs until no fiber is ready or the fuel is used up. Each call and each repetition costs
    /// about one unit.
    pub fn run(&mut self, fuel: u64) -> Progress {
        self.run_and::<PLAIN>(fuel)
    }

    /// As `run`, and records coverage for [`super::coverage::take`].
    pub fn run_and_note(&mut self, fuel: u64) -> Progress {
        self.run_and::<NOTING>(fuel)
    }

    /// As `run`, and pauses where [`super::pauses::Pauses`] say.
    pub(super) fn run_and_pause(&mut self, fuel: u64) -> Progress {
        self.run_and::<PAUSING>(fuel)
    }

    fn run_and<const VARIANT: u8>(&mut self, mut fuel: u64) -> Progress {
        let _style = durations::Style::set(self.image.code.readable);
        while let Some(id) = self.ready.pop_front() {
            let Some(mut fiber) = self.fibers.remove(&id) else { continue };
            let before = fuel;
            let step = self.step::<VARIANT>(&mut fiber, id, &mut fuel);
            self.spent += before - fuel;
            match step {
                Step::OutOfFuel => {
                    self.fibers.insert(id, fiber);
                    self.ready.push_front(id);
                    return Progress::OutOfFuel;
                }
                Step::Off => {
                    self.fibers.insert(id, fiber);
                }
                Step::Finished(result) => {
                    if VARIANT == PAUSING {
                        self.task_ended(id);
                    }
                    self.finished(fiber, result);
                }
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
                    Data::encode_named(&value, "the result").map_err(|fail| error_data(*fail, self))
                }
            },
            Outcome::Failed(failure) => {
                self.provenance.fatal =
                    failure.trace.as_ref().map(|trace| trace.requests.clone()).unwrap_or_default();
                Err(error_data(failure, self))
            }
            Outcome::Running => Err(ErrorData::new("internal", "the program ended without a result")),
        })
    }
}

/// The most parts of an error that are looked at for values that are no data.
const MOST_PARTS: usize = 10_000;
/// The greatest depth of these parts.
const MOST_LEVELS: u32 = 100;

/// Returns a value with the functions and tasks in it shown as text, or `None` if it is too large.
fn shown_as_data(value: &Value, levels: u32, parts: &mut usize) -> Option<Value> {
    *parts = parts.checked_sub(1)?;
    let levels = levels.checked_sub(1)?;
    Some(match value {
        Value::Function(_) | Value::Builtin(_) | Value::Task(_) => Value::str(format::display(value)),
        Value::List(list) => {
            let items = list.as_slice().iter().map(|item| shown_as_data(item, levels, parts));
            Value::list(items.collect::<Option<_>>()?)
        }
        Value::Record(record) => {
            let mut out = Record::default();
            for (name, value) in record.iter() {
                out.set(name.clone(), shown_as_data(value, levels, parts)?);
            }
            Value::Record(Rc::new(out))
        }
        other => other.clone(),
    })
}

/// Returns a failure as data. The failure crosses a boundary here.
pub(crate) fn error_data(failure: Failure, machine: &Machine) -> ErrorData {
    // What is no data in an error is shown as text, so that the error keeps its kind.
    let value = Data::encode(&failure.value)
        .or_else(|_| {
            let shown = shown_as_data(&failure.value, MOST_LEVELS, &mut MOST_PARTS.clone());
            Data::encode_named(shown.as_ref().unwrap_or(&failure.value), "the error")
        })
        .or_else(|fail| Data::encode(&fail.value));
    let mut trace = failure.trace.map(|trace| (*trace).clone()).unwrap_or_default();
    if let Some(last) = trace.entries.last_mut() {
        last.boundary = Some(machine.context);
    }
    trace.program = machine.program();
    trace.requests = Vec::new();
    let value = sure(value.map_err(|fail| super::error::title(&fail.value)), "an error of encoding is data");
    ErrorData { value, trace }
}
