//! Evaluation: the machine as a function from states to states.
//!
//! A program is deterministic, so what it does next depends on nothing but its state and the answer that it gets.
//! What was evaluated once is remembered by its hash, and not evaluated again.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::Context;
use crate::check::closest;
use crate::code::{FunctionId, Outcome, Property};
use crate::machine::{
    Data, EntityId, ErrorData, Identity, Image, Machine, Progress, Request, Value, What, instance_handle,
};

use super::instance::Turn;
use super::message::{Answer, Asked, Id, answer, asked};
use super::part::{ByHash, Part, fingerprint};
use super::program::{Program, Subject};

/// A suspended evaluation: the machine as bytes, its requests named by the fibers that wait for them.
pub type Eval = Part<Vec<u8>>;

/// Requests of one step are numbered from here, so that none has the number of a fiber.
const BASE: u64 = 1 << 40;
/// Fuel of one step, in calls and repetitions.
const FUEL: u64 = 20_000_000;
/// Different results that one task may have, at most.
const MOST_OUTCOMES: usize = 64;
/// What is remembered at most: of operations and properties in entries, of instances in bytes.
const REMEMBERED: usize = 100_000;
const REMEMBERED_BYTES: usize = 96 << 20;

/// What one step of an instance's evaluation comes to.
pub struct Evaluated {
    /// Where it waits; none when it is at its end.
    pub eval: Option<Eval>,
    /// What it newly asks for: the fiber that waits, the number of the request among those of the step, the request.
    pub requests: Vec<(u64, u64, Asked)>,
    /// How many requests it made, those that never left included.
    pub count: u64,
    /// The fibers whose requests nobody waits for any more.
    pub withdrawn: Vec<u64>,
    /// How it ended.
    pub result: Option<Answer>,
}

/// One thing that can come of a task or of an operation.
#[derive(Clone)]
pub struct Done {
    /// Which of the choices of the environment: for people.
    pub choice: Option<String>,
    /// The result; none when it is never done.
    pub result: Option<Answer>,
    /// An operation's entity: its state afterwards, if it has become another.
    pub state: Option<Option<Part<Data>>>,
    /// What it sent.
    pub sends: Vec<Asked>,
    /// An operation on the entity that stands for the world, to be done with it.
    pub world: Option<(Arc<EntityId>, Arc<str>)>,
}

/// What properties and mocks can look at.
pub trait View {
    fn state(&self, entity: &EntityId) -> Option<Data>;
    fn states(&self, kind: &str) -> Vec<(Data, Data)>;
    /// Null when there is no such instance.
    fn outcome(&self, id: &str) -> Value;
}

/// Why a program can't be explored.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// An effect of the outside that no mock stands for.
    NoMock { request: Asked },
    /// It computes without an end.
    Endless,
    /// It starts instances whose ids come from keys of steps: requests have to be named by their numbers.
    LooksAtNames,
    /// A replay asks for something else than the history holds.
    Nondeterminism { id: Id },
    /// A fault of the model.
    Fault(String),
}

/// The machine with one program, and what it was seen to do. One to a thread.
pub struct Evaluator<'a> {
    pub program: &'a Program,
    image: Rc<Image>,
    instances: ByHash<Rc<Evaluated>>,
    bytes: usize,
    turns: ByHash<Rc<Turn>>,
    done: ByHash<Rc<Vec<Done>>>,
    properties: HashMap<(usize, u128), bool>,
}

/// A way through the choices of the environment.
#[derive(Default)]
struct Choices {
    path: Vec<(usize, usize)>,
    at: usize,
    names: Vec<String>,
}

impl Choices {
    /// One of so many.
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, count));
        }
        self.at += 1;
        self.path[self.at - 1].0
    }

    /// The next way; false when there is none.
    fn next(&mut self) -> bool {
        self.at = 0;
        self.names.clear();
        while let Some((chosen, count)) = self.path.pop() {
            if chosen + 1 < count {
                self.path.push((chosen + 1, count));
                return true;
            }
        }
        false
    }
}

impl<'a> Evaluator<'a> {
    /// An error is that of a `const` of the program.
    pub fn new(program: &'a Program) -> Result<Evaluator<'a>, Stop> {
        let image = Image::new(program.code.clone())
            .map_err(|(name, error)| Stop::Fault(format!("const {name}: {}", error.title())))?;
        Ok(Evaluator {
            program,
            image,
            instances: ByHash::default(),
            bytes: 0,
            turns: ByHash::default(),
            done: ByHash::default(),
            properties: HashMap::new(),
        })
    }

    /// The program, ready to run.
    pub fn image(&self) -> Rc<Image> {
        self.image.clone()
    }

    // ---- instances

    /// An instance at its beginning, up to its first requests.
    pub fn begin(&mut self, function: &str, args: &Data, id: &str) -> Result<Rc<Evaluated>, Stop> {
        let key = fingerprint(&("begin", function, args, id));
        if let Some(known) = self.instances.get(&key) {
            return Ok(known.clone());
        }
        let code = &self.image.code;
        let body = match function == MAIN_FUNCTION {
            true => self.program.function(),
            false => {
                let found = code.isolated.iter().find(|item| item.name == function);
                let found = found.filter(|item| item.context == Some(Context::Orchestration));
                found.ok_or_else(|| Stop::Fault(format!("no orchestration `{function}`")))?.body
            }
        };
        let args = match (function == MAIN_FUNCTION, self.program.subject) {
            (true, Subject::Test(_)) => Vec::new(),
            _ => args.items(),
        };
        let identity = Identity { id: id.to_string(), ..Identity::default() };
        let machine = Machine::new(self.image.clone(), Context::Orchestration, body, args, identity);
        self.remember(key, machine, 0)
    }

    /// Goes on with an answer for the request of a fiber.
    pub fn resume(&mut self, eval: &Eval, fiber: u64, with: &Answer) -> Result<Rc<Evaluated>, Stop> {
        let key = fingerprint(&(eval.mark(), fiber, with.mark()));
        if let Some(known) = self.instances.get(&key) {
            return Ok(known.clone());
        }
        let mut machine = self.restore(eval)?;
        machine.answer(fiber, (**with).clone());
        self.remember(key, machine, BASE)
    }

    /// As if these answers had come at one moment: what a replay does that knows of no turns.
    pub fn resume_at_once(&mut self, eval: &Eval, with: &[(u64, Answer)]) -> Result<Rc<Evaluated>, Stop> {
        let mut machine = self.restore(eval)?;
        for (fiber, answer) in with {
            machine.answer(*fiber, (**answer).clone());
        }
        Ok(Rc::new(step(machine, BASE)?))
    }

    fn restore(&self, eval: &Eval) -> Result<Machine, Stop> {
        let machine = Machine::restore(self.image.clone(), eval);
        machine.ok_or_else(|| Stop::Fault("a machine can't be restored".into()))
    }

    fn remember(&mut self, key: u128, machine: Machine, base: u64) -> Result<Rc<Evaluated>, Stop> {
        let evaluated = Rc::new(step(machine, base)?);
        self.bytes += 400 + evaluated.eval.as_ref().map_or(0, |eval| eval.len());
        if self.bytes > REMEMBERED_BYTES {
            self.instances.clear();
            self.bytes = 0;
        }
        self.instances.insert(key, evaluated.clone());
        Ok(evaluated)
    }

    /// A turn that was seen.
    pub fn turn(&self, key: u128) -> Option<Rc<Turn>> {
        self.turns.get(&key).cloned()
    }

    pub fn remember_turn(&mut self, key: u128, turn: Rc<Turn>) {
        if self.turns.len() >= REMEMBERED {
            self.turns.clear();
        }
        self.turns.insert(key, turn);
    }

    // ---- operations and activities

    /// An operation of an entity, run to its end: what can come of it.
    pub fn operate(
        &mut self,
        entity: &EntityId,
        operation: &str,
        args: &Data,
        state: Option<&Part<Data>>,
        key: &str,
        now: i64,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let seen = if self.program.facts.reads_clock { now } else { 0 };
        let known = if self.program.facts.reads_keys { key } else { "" };
        let hash = fingerprint(&("operate", entity, operation, args, state.map(Part::mark), known, seen));
        if let Some(known) = self.done.get(&hash) {
            return Ok(known.clone());
        }
        let image = self.image.clone();
        let mut choices = Choices::default();
        let mut all = Vec::new();
        loop {
            let value = state.map(|state| state.decode());
            let machine = begin_operation(&image, entity, operation, args, value, key);
            let done = match machine {
                Err(error) => Done::of(Some(answer(Err(error)))),
                Ok(machine) => self.to_its_end(machine, &mut choices, key, now, None)?,
            };
            all.push(done);
            if !choices.next() || all.len() >= MOST_OUTCOMES {
                break;
            }
        }
        self.keep(hash, all)
    }

    /// An attempt at an activity: what can come of it.
    pub fn perform(
        &mut self,
        task: &Asked,
        key: &str,
        now: i64,
        view: &dyn View,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let seen = if self.program.facts.reads_clock { now } else { 0 };
        let known = if self.program.facts.reads_keys { key } else { "" };
        let hash = fingerprint(&("perform", task.mark(), known, seen));
        if let Some(known) = self.done.get(&hash) {
            return Ok(known.clone());
        }
        let mut choices = Choices::default();
        let mut all = Vec::new();
        loop {
            let done = match &task.what {
                What::Activity { name, .. } => match self.program.mock(name, true) {
                    Some(mock) => self.mocked(&mock.outcomes.clone(), task, &mut choices, view)?,
                    None => {
                        let code = &self.image.code;
                        let body = code.find_isolated(name).map(|at| code.isolated[at].body);
                        let body = body.ok_or_else(|| Stop::Fault(format!("no activity `{name}`")))?;
                        let identity =
                            Identity { id: String::new(), key: key.to_string(), ..Identity::default() };
                        let args = task.args.items();
                        let image = self.image.clone();
                        let machine = Machine::new(image, Context::Activity, body, args, identity);
                        self.to_its_end(machine, &mut choices, key, now, Some(view))?
                    }
                },
                _ => self.effect(task, &mut choices, key, now, view)?,
            };
            all.push(done);
            if !choices.next() || all.len() >= MOST_OUTCOMES {
                break;
            }
        }
        self.keep(hash, all)
    }

    fn keep(&mut self, hash: u128, mut all: Vec<Done>) -> Result<Rc<Vec<Done>>, Stop> {
        if all.len() == 1 {
            all.iter_mut().for_each(|done| done.choice = None);
        }
        if self.done.len() >= REMEMBERED {
            self.done.clear();
        }
        let all = Rc::new(all);
        self.done.insert(hash, all.clone());
        Ok(all)
    }

    /// Runs an activity or an operation to its end; its own effects are done at once.
    fn to_its_end(
        &mut self,
        mut machine: Machine,
        choices: &mut Choices,
        key: &str,
        now: i64,
        view: Option<&dyn View>,
    ) -> Result<Done, Stop> {
        loop {
            match machine.run(FUEL) {
                Progress::OutOfFuel => return Err(Stop::Endless),
                Progress::Waiting => {
                    let requests = machine.take_requests();
                    if requests.is_empty() {
                        return Err(Stop::Fault("it waits for nothing".into()));
                    }
                    for request in requests {
                        let seq = request.seq;
                        let key = format!("{key}.{seq}");
                        let done =
                            self.effect(&asked(request), choices, &key, now, view.unwrap_or(&Nothing))?;
                        let result = done.result.map(|result| (*result).clone());
                        machine.answer(seq, result.unwrap_or_else(|| Ok(Data::null())));
                    }
                }
                Progress::Done(result) => {
                    let mut state = None;
                    let result = result.and_then(|value| {
                        state = machine.take_state()?;
                        Ok(value)
                    });
                    let sends = match &result {
                        Ok(_) => machine.take_sends().into_iter().map(asked).collect(),
                        Err(_) => Vec::new(),
                    };
                    let state = state.map(|state| state.map(|(_, data)| Part::new(data)));
                    let choice = (!choices.names.is_empty()).then(|| choices.names.join(", "));
                    return Ok(Done { choice, result: Some(answer(result)), state, sends, world: None });
                }
            }
        }
    }

    /// One of the outcomes of a mock.
    fn mocked(
        &mut self,
        outcomes: &[Outcome],
        task: &Asked,
        choices: &mut Choices,
        view: &dyn View,
    ) -> Result<Done, Stop> {
        let at = choices.choose(outcomes.len());
        let done = match &outcomes[at] {
            Outcome::Never => Done::of(None),
            Outcome::Function(function) => Done::of(Some(answer(self.mock_function(*function, task, view)?))),
            Outcome::Operation(function, operation) => match self.value(*function, Vec::new(), view)? {
                Ok(Value::Entity(entity)) => match EntityId::of(&entity) {
                    Ok(entity) => Done {
                        world: Some((Arc::new(entity), operation.as_str().into())),
                        ..Done::of(Some(answer(Ok(Data::null()))))
                    },
                    Err(failure) => Done::of(Some(answer(Err(ErrorData {
                        value: Data::encode(&failure.value).unwrap_or_default(),
                        trace: Default::default(),
                    })))),
                },
                Ok(_) => return Err(Stop::Fault("a mock's entity is none".into())),
                Err(error) => Done::of(Some(answer(Err(error)))),
            },
        };
        let name = match &done.result {
            None => "never".to_string(),
            Some(_) if done.world.is_some() => "done in the world".to_string(),
            Some(result) => match &**result {
                Ok(value) => super::message::shown(value),
                Err(error) => format!("error {}", error.title()),
            },
        };
        Ok(Done { choice: Some(name), ..done })
    }

    /// A mock's function of the arguments; it may have fewer parameters than there are arguments.
    fn mock_function(
        &mut self,
        function: FunctionId,
        task: &Asked,
        view: &dyn View,
    ) -> Result<Result<Data, ErrorData>, Stop> {
        let params = usize::from(self.image.code.functions[function as usize].params);
        let mut args = task.args.items();
        args.truncate(params);
        let value = self.value(function, args, view)?;
        Ok(value.and_then(|value| {
            Data::encode_named(&value, "the mock's value").map_err(|failure| ErrorData {
                value: Data::encode(&failure.value).unwrap_or_default(),
                trace: Default::default(),
            })
        }))
    }

    /// What a function of a mock or a property gives.
    fn value(
        &mut self,
        function: FunctionId,
        args: Vec<Value>,
        view: &dyn View,
    ) -> Result<Result<Value, ErrorData>, Stop> {
        let required = usize::from(self.image.code.functions[function as usize].required);
        if args.len() < required {
            let message = format!("the mock takes {required} arguments, and the call gives {}", args.len());
            return Ok(Err(ErrorData::new("mock", message)));
        }
        let mut machine =
            Machine::new(self.image.clone(), Context::Trial, function, args, Identity::default());
        machine.keep_value();
        loop {
            match machine.run(FUEL) {
                Progress::OutOfFuel => return Err(Stop::Endless),
                Progress::Done(Ok(_)) => return Ok(Ok(machine.take_value())),
                Progress::Done(Err(error)) => return Ok(Err(error)),
                Progress::Waiting => {
                    for request in machine.take_requests() {
                        machine.answer(request.seq, self.look(&request, view));
                    }
                }
            }
        }
    }

    /// What a property or a mock finds when it looks around.
    fn look(&self, request: &Request, view: &dyn View) -> Result<Data, ErrorData> {
        let args = request.args.items();
        let value = match (&request.what, args.first()) {
            (What::Effect("state_of"), Some(Value::Entity(entity))) => match EntityId::of(entity) {
                Ok(entity) => match view.state(&entity) {
                    Some(state) => state.decode(),
                    None => self.initial(&entity.name),
                },
                Err(_) => Value::Null,
            },
            (What::Effect("states_of"), Some(Value::Str(kind))) => {
                let entry = |(key, state): (Data, Data)| {
                    Value::record([("key", key.decode()), ("state", state.decode())])
                };
                Value::list(view.states(kind.as_str()).into_iter().map(entry).collect())
            }
            (What::Effect("outcome_of"), Some(Value::Str(id))) => view.outcome(id.as_str()),
            _ => Value::Null,
        };
        Ok(Data::encode(&value).unwrap_or_else(|_| Data::null()))
    }

    fn initial(&self, entity: &str) -> Value {
        let initial = self.image.code.find_entity(entity).and_then(|entity| entity.initial);
        initial.map_or(Value::Null, |at| self.image.globals.borrow()[at].clone())
    }

    /// An effect of an instance, an activity or an operation.
    fn effect(
        &mut self,
        request: &Asked,
        choices: &mut Choices,
        key: &str,
        now: i64,
        view: &dyn View,
    ) -> Result<Done, Stop> {
        let What::Effect(name) = request.what else {
            return Err(Stop::Fault("not an effect".into()));
        };
        if let Some(mock) = self.program.mock(name, false) {
            let done = self.mocked(&mock.outcomes.clone(), request, choices, view)?;
            choices.names.extend(done.choice.clone());
            return Ok(done);
        }
        let args = request.args.items();
        let value = match name {
            "print" | "log" | "sleep" => Value::Null,
            "now" => Value::Instant(now),
            "random" => Value::Float([0.0, 0.5][choices.choose(2)]),
            "random_int" => {
                let (Some(Value::Int(low)), Some(Value::Int(high))) = (args.first(), args.get(1)) else {
                    return Err(Stop::Fault("random_int without bounds".into()));
                };
                let span = high.saturating_sub(*low);
                match span {
                    0..16 => Value::Int(low + choices.choose(span as usize + 1) as i64),
                    _ => Value::Int([*low, low + span / 2, *high][choices.choose(3)]),
                }
            }
            "uuid" => {
                let hash = fingerprint(&("uuid", key));
                Value::str(format!(
                    "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                    hash as u32,
                    (hash >> 32) as u16,
                    (hash >> 48) as u16 & 0xfff,
                    (hash >> 64) as u16 & 0xfff,
                    (hash >> 80) & 0xffff_ffff_ffff
                ))
            }
            _ => return Err(Stop::NoMock { request: request.clone() }),
        };
        let name = matches!(name, "random" | "random_int").then(|| super::message::shown(&data(&value)));
        choices.names.extend(name.clone());
        Ok(Done { choice: name, ..Done::of(Some(answer(Ok(data(&value))))) })
    }

    // ---- properties

    /// Whether a property holds; one that throws or gives no bool does not.
    pub fn holds(
        &mut self,
        at: usize,
        property: &Property,
        seen: u128,
        view: &dyn View,
    ) -> Result<bool, Stop> {
        if let Some(known) = self.properties.get(&(at, seen)) {
            return Ok(*known);
        }
        let value = self.value(property.function, Vec::new(), view)?;
        let holds = matches!(value, Ok(Value::Bool(true)));
        if self.properties.len() >= REMEMBERED {
            self.properties.clear();
        }
        self.properties.insert((at, seen), holds);
        Ok(holds)
    }

    /// What a property gives, for people.
    pub fn explain(&mut self, property: &Property, view: &dyn View) -> Result<String, Stop> {
        Ok(match self.value(property.function, Vec::new(), view)? {
            Ok(Value::Bool(false)) => "it is false".to_string(),
            Ok(other) => format!("it gives {}, not a bool", super::message::shown(&data(&other))),
            Err(error) => format!("it throws {}", error.title()),
        })
    }
}

/// The function of the main instance, as its messages name it.
pub const MAIN_FUNCTION: &str = "script";

/// Nothing to look at.
struct Nothing;

impl View for Nothing {
    fn state(&self, _: &EntityId) -> Option<Data> {
        None
    }

    fn states(&self, _: &str) -> Vec<(Data, Data)> {
        Vec::new()
    }

    fn outcome(&self, _: &str) -> Value {
        Value::Null
    }
}

impl Done {
    pub fn of(result: Option<Answer>) -> Done {
        Done { choice: None, result, state: None, sends: Vec::new(), world: None }
    }
}

fn data(value: &Value) -> Data {
    Data::encode(value).unwrap_or_else(|_| Data::null())
}

/// The handle of an instance, as an answer.
pub fn handle(id: &str) -> Answer {
    answer(Ok(data(&instance_handle(id))))
}

/// Runs a machine, whose new requests are numbered from `base`, up to its next requests or its end.
fn step(mut machine: Machine, base: u64) -> Result<Evaluated, Stop> {
    let progress = machine.run(FUEL);
    if matches!(progress, Progress::OutOfFuel) {
        return Err(Stop::Endless);
    }
    let requests = machine.take_requests();
    let withdrawn = machine.take_withdrawn();
    let count = machine.requested_since(base);
    let fibers = machine.renumber(BASE);
    let requests = requests.into_iter().filter_map(|request| {
        let fiber = *fibers.get(&request.seq)?;
        Some((fiber, request.seq - base, asked(request)))
    });
    let requests = requests.collect();
    let (eval, result) = match progress {
        Progress::Done(result) => (None, Some(answer(result))),
        _ => {
            let bytes = machine.snapshot();
            let part = Part::of(bytes.clone(), &bytes);
            (Some(part), None)
        }
    };
    Ok(Evaluated { eval, requests, count, withdrawn, result })
}

fn begin_operation(
    image: &Rc<Image>,
    entity: &EntityId,
    operation: &str,
    args: &Data,
    state: Option<Value>,
    key: &str,
) -> Result<Machine, ErrorData> {
    let name = &entity.name;
    let unknown = || ErrorData::new("unknown_entity", format!("no program here declares entity `{name}`"));
    let declared = image.code.find_entity(name).ok_or_else(unknown)?;
    let Some(found) = declared.operations.iter().find(|known| known.name == operation) else {
        let near = closest(operation, declared.operations.iter().map(|o| o.name.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let message = format!("entity `{name}` has no operation `{operation}`{hint}");
        return Err(ErrorData::new("unknown_operation", message));
    };
    let identity = Identity { id: entity.to_string(), key: key.to_string(), entity: Some(entity.clone()) };
    Machine::operation(image.clone(), declared, found, args.items(), state, identity)
}
