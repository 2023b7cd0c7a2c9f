//! The real engine as a model: the same engine that runs programs, over a store in memory, where the environment's
//! choices are those of the high-level model, and the process can be broken off before and after every commit.
//!
//! The engine is no value that could be copied, so a configuration is the choices that led to it, and is reached by
//! making them again. What the engine has in memory when it has nothing to do follows from its store, what is under way
//! and the time, so two configurations that agree in these are taken for equal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::code::ProgramHash;
use crate::engine::{
    Address, Args, Asked as Recorded, Engine, Entry, Event, Hold, InstanceRecord, Outcome as Ended, Output,
    Status, StepId, fetch, keys, load_image, read_history, read_record, recovery,
};
use crate::machine::{Data, EntityId, ErrorData, Image, Request, Value, What};
use crate::model::entity::Entity;
use crate::model::evaluate::{Done, View};
use crate::model::instance::Outcome;
use crate::model::message::{Asked, Id, Waiter, answer, asked, describe};
use crate::model::observe::{Seen, Stand, Violation, broken};
use crate::model::part::{Part, fingerprint};
use crate::model::{Evaluator, Model, START, Shown, Stop, Subject, Trouble};
use crate::store::{MemoryTree, Store};
use crate::syntax::tree::PropertyKind;

/// The engine, with how often its process may be broken off in one run.
#[derive(Clone, Copy, Debug)]
pub struct RealEngine {
    pub crashes: u32,
}

/// A choice of the environment.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The first process begins.
    Begin,
    /// What is under way at this place is done, with the outcome of that number.
    Perform { at: usize, outcome: usize },
    /// Time passes to what is due next.
    Elapse,
    /// Nothing but a crash.
    Crash,
}

/// A choice, and the commit that the process does not survive: before the first is 1, after it is 2, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub choice: Choice,
    pub crash: Option<u32>,
}

/// Something that the engine has asked the outside for.
#[derive(Clone, Debug)]
struct UnderWay {
    who: String,
    asked: Asked,
    key: Id,
}

/// An instance as its record and its history have it.
#[derive(Clone, Debug)]
struct Known {
    id: Id,
    function: String,
    outcome: Option<Outcome>,
    told: bool,
    suspended: bool,
    waits: Vec<Asked>,
    printed: Vec<Data>,
}

/// A moment of a run at which the engine has nothing to do.
#[derive(Clone, Debug)]
pub struct Config {
    path: Vec<Step>,
    hash: u128,
    under_way: Vec<UnderWay>,
    instances: Vec<Known>,
    entities: Vec<(Arc<EntityId>, Entity)>,
    trouble: Vec<Trouble>,
    crashes: u32,
    now: i64,
    due: Option<i64>,
}

/// The engine with all that is around it.
struct World {
    engine: Engine,
    store: MemoryTree,
    image: Rc<Image>,
    images: HashMap<ProgramHash, Rc<Image>>,
    main: InstanceRecord,
    now: i64,
    under_way: Vec<(StepId, UnderWay)>,
    /// States of entities that stand for the world, as mocks have left them.
    world: BTreeMap<EntityId, Option<Part<Data>>>,
    told: BTreeSet<String>,
    trouble: Vec<Trouble>,
    /// The crash point that is not survived, and how many were passed.
    crash: Option<u32>,
    points: u32,
    left: u32,
}

/// Runs of the engine between two choices, at most.
const MOST_TURNS: usize = 100_000;

fn fault(reason: impl std::fmt::Display) -> Stop {
    Stop::Fault(reason.to_string())
}

impl World {
    fn new(evaluator: &Evaluator<'_>, crashes: u32) -> World {
        let program = evaluator.program;
        let image = evaluator.image();
        let function = match program.subject {
            Subject::Script => crate::engine::SCRIPT.to_string(),
            Subject::Test(at) => crate::engine::test_function(&program.code.tests[at].name),
        };
        let args = match program.subject {
            Subject::Script => program.args.clone(),
            Subject::Test(_) => Data::encode(&Value::list(Vec::new())).unwrap_or_default(),
        };
        let hash = image.code.hash;
        let main = InstanceRecord::new(&program.main, hash, "explored.df", &function, args, START);
        World {
            engine: Engine::new(),
            store: MemoryTree::default(),
            images: HashMap::from([(hash, image.clone())]),
            image,
            main,
            now: START,
            under_way: Vec::new(),
            world: BTreeMap::new(),
            told: BTreeSet::new(),
            trouble: Vec::new(),
            crash: None,
            points: 0,
            left: crashes,
        }
    }

    /// The process begins: it finds what is in the store.
    fn begin(&mut self) -> Result<(), Stop> {
        self.engine = Engine::new();
        self.under_way.clear();
        for event in recovery(&self.store, None).map_err(fault)? {
            self.engine.handle(event, self.now);
        }
        let records = Store::all(&self.store, keys::INSTANCES).map_err(fault)?;
        let records: Vec<InstanceRecord> =
            records.iter().filter_map(|(_, bytes)| InstanceRecord::decode(bytes)).collect();
        for record in records.iter().filter(|record| !record.status.is_ended()) {
            self.engine.handle(Event::Wake { id: record.id.clone() }, self.now);
        }
        if records.is_empty() {
            let (record, image) = (self.main.clone(), self.image.clone());
            self.engine.handle(Event::Begin { record, image }, self.now);
        }
        Ok(())
    }

    /// A point at which the process may be broken off; whether it is.
    fn dies(&mut self) -> bool {
        self.points += 1;
        if self.crash == Some(self.points) {
            self.crash = None;
            self.left = self.left.saturating_sub(1);
            return true;
        }
        false
    }

    /// Lets the engine do all that it can, through the crash that is chosen.
    fn drive(&mut self, evaluator: &mut Evaluator<'_>) -> Result<(), Stop> {
        let watched = evaluator.program.properties.iter().any(|p| p.kind == PropertyKind::Invariant);
        let mut held: Vec<Output> = Vec::new();
        for _ in 0..MOST_TURNS {
            self.engine.handle(Event::Tick, self.now);
            if self.engine.is_ready() {
                self.engine.handle(Event::Run, self.now);
            }
            for output in self.engine.take_outputs() {
                match output {
                    Output::Fetch { .. } | Output::FetchProgram { .. } | Output::Status { .. } => {
                        let event = self.read(&output)?;
                        self.engine.handle(event, self.now);
                    }
                    other => held.push(other),
                }
            }
            let batch = self.engine.take_writes();
            if !batch.is_empty() {
                let before = self.dies();
                if !before {
                    self.store.commit(&batch).map_err(fault)?;
                }
                if !before && watched && self.trouble.is_empty() {
                    let config = self.config(Vec::new())?;
                    if let Some(Violation::Property { at, why }) =
                        broken(&RealEngine { crashes: 0 }, evaluator, &config, PropertyKind::Invariant)?
                    {
                        self.trouble.push(Trouble::Broken { at, why });
                    }
                }
                if before || self.dies() {
                    held.clear();
                    self.begin()?;
                    continue;
                }
            }
            for output in std::mem::take(&mut held) {
                self.release(output)?;
            }
            if !self.engine.is_ready() {
                return Ok(());
            }
        }
        Err(Stop::Endless)
    }

    fn read(&mut self, output: &Output) -> Result<Event, Stop> {
        let (store, images) = (&self.store, &mut self.images);
        let mut image = |hash: ProgramHash| -> Result<Rc<Image>, String> {
            if let Some(image) = images.get(&hash) {
                return Ok(image.clone());
            }
            let image = load_image(hash, store)?;
            images.insert(hash, image.clone());
            Ok(image)
        };
        match output {
            Output::Fetch { address } => fetch(store, address, &mut image).map_err(fault),
            Output::FetchProgram { hash } => Ok(Event::Program { image: image(*hash).map_err(fault)? }),
            Output::Status { step, id } => {
                Ok(Event::Status { step: step.clone(), record: read_record(store, id).map_err(fault)? })
            }
            _ => Err(fault("not a question")),
        }
    }

    /// What leaves the engine.
    fn release(&mut self, output: Output) -> Result<(), Stop> {
        match output {
            Output::Effect { step, name, args, .. } => {
                let key: Id = format!("{}-{}", step.owner, step.seq).into();
                self.asks(step, What::Effect(name), args, key);
            }
            Output::Activity { step, name, args, key, .. } => {
                let what = What::Activity { name, options: Data::null() };
                self.asks(step, what, args, key.as_str().into());
            }
            Output::Abandon { step } => self.under_way.retain(|(known, _)| *known != step),
            Output::Told { instance } => {
                self.told.insert(instance);
            }
            Output::Lost { what, error } => {
                self.trouble.push(Trouble::Lost { what, error: answer(Err(error)) });
            }
            Output::Ended { outcome: Ended::Stuck(_), instance, .. } => {
                return Err(Stop::Nondeterminism { id: instance });
            }
            Output::Ended { outcome: Ended::Unfit(reason), .. } => return Err(fault(reason)),
            _ => {}
        }
        Ok(())
    }

    fn asks(&mut self, step: StepId, what: What, args: Data, key: Id) {
        let place = match &step.owner {
            Address::Instance(id) => self.place(id, step.seq),
            Address::Entity(_) => None,
        };
        let request = Request { seq: step.seq, what, args, place: place.unwrap_or_default() };
        let who = step.owner.to_string();
        self.under_way.push((step, UnderWay { who, asked: asked(request), key }));
    }

    fn place(&self, id: &str, seq: u64) -> Option<crate::syntax::Place> {
        let record = read_record(&self.store, id).ok()??;
        let history = read_history(&self.store, &record).ok()?;
        history.entries.iter().rev().find_map(|entry| match entry {
            Entry::Requested { seq: known, place, .. } if *known == seq => Some(*place),
            _ => None,
        })
    }

    /// A choice of the environment happens.
    fn take(&mut self, evaluator: &mut Evaluator<'_>, step: &Step) -> Result<(), Stop> {
        (self.crash, self.points) = (step.crash, 0);
        match &step.choice {
            Choice::Begin => self.begin()?,
            Choice::Crash => {
                self.left = self.left.saturating_sub(1);
                self.begin()?;
            }
            Choice::Elapse => {
                if let Some(due) = self.engine.next_due() {
                    self.now = self.now.max(due);
                }
            }
            Choice::Perform { at, outcome } => {
                let all = self.outcomes(evaluator, *at)?;
                let done = all.get(*outcome).cloned().ok_or_else(|| fault("no such outcome"))?;
                let (step, _) = self.under_way.remove(*at);
                if let (Some((entity, _)), Some(state)) = (&done.world, done.state) {
                    self.world.insert((**entity).clone(), state);
                }
                if let Some(result) = done.result {
                    let sends = done.sends.iter().map(|request| (**request).clone()).collect();
                    let result = (*result).clone();
                    self.engine.handle(Event::Answer { step, result, sends }, self.now);
                }
            }
        }
        self.drive(evaluator)
    }

    fn outcomes(&self, evaluator: &mut Evaluator<'_>, at: usize) -> Result<Vec<Done>, Stop> {
        let Some((_, task)) = self.under_way.get(at) else { return Ok(Vec::new()) };
        outcomes(evaluator, task, self.now, &self.world)
    }

    /// What can be seen of it now.
    fn config(&self, path: Vec<Step>) -> Result<Config, Stop> {
        let mut instances = Vec::new();
        for (_, bytes) in Store::all(&self.store, keys::INSTANCES).map_err(fault)? {
            let Some(record) = InstanceRecord::decode(&bytes) else { continue };
            instances.push(self.known(&record)?);
        }
        let mut entities: BTreeMap<EntityId, Entity> = BTreeMap::new();
        for (key, state) in Store::all(&self.store, keys::ENTITIES).map_err(fault)? {
            if let Some(id) = keys::parse_entity_key(&key) {
                entities.entry(id).or_default().state = Some(Part::new(Data(state)));
            }
        }
        for (key, hold) in Store::all(&self.store, keys::LOCKS).map_err(fault)? {
            if let (Some(id), Some(hold)) = (keys::parse_entity_key(&key), Hold::decode(&hold)) {
                let owner = hold.owner;
                let holder =
                    Waiter { instance: owner.instance.into(), execution: owner.execution, seq: owner.seq };
                entities.entry(id).or_default().holder = Some(holder);
            }
        }
        for (id, state) in &self.world {
            entities.entry(id.clone()).or_default().state = state.clone();
        }
        let under_way: Vec<UnderWay> = self.under_way.iter().map(|(_, task)| task.clone()).collect();
        let tasks: Vec<_> = under_way.iter().map(|task| (&task.who, task.asked.mark(), &task.key)).collect();
        let worlds: Vec<_> =
            self.world.iter().map(|(id, state)| (id, state.as_ref().map(Part::mark))).collect();
        let hash = fingerprint(&(
            path.is_empty(),
            &self.store.tree,
            tasks,
            worlds,
            self.now,
            self.left,
            &self.trouble,
        ));
        Ok(Config {
            path,
            hash,
            under_way,
            instances,
            entities: entities.into_iter().map(|(id, entity)| (Arc::new(id), entity)).collect(),
            trouble: self.trouble.clone(),
            crashes: self.left,
            now: self.now,
            due: self.engine.next_due(),
        })
    }

    fn known(&self, record: &InstanceRecord) -> Result<Known, Stop> {
        let outcome = match &record.status {
            Status::Running | Status::Suspended => None,
            Status::Completed(value) => Some(Outcome::Completed(answer(Ok(value.clone())))),
            Status::Failed(error) => Some(Outcome::Failed(answer(Err(error.clone())))),
            Status::Terminated(why) => Some(Outcome::Terminated(why.clone())),
        };
        let history = read_history(&self.store, record).map_err(fault)?;
        let mut waits: BTreeMap<u64, Asked> = BTreeMap::new();
        let mut printed = Vec::new();
        for entry in history.entries {
            match entry {
                Entry::Requested { seq, what, args, place, .. } => {
                    let Args::Whole(args) = args else { continue };
                    if what == Recorded::Effect("print".into()) {
                        printed.push(args.clone());
                    }
                    waits.insert(seq, asked(Request { seq, what: again(what), args, place }));
                }
                Entry::Answered { seq, .. } | Entry::Cancelled { seq, .. } => {
                    waits.remove(&seq);
                }
                _ => {}
            }
        }
        Ok(Known {
            id: record.id.as_str().into(),
            function: record.function.clone(),
            told: !record.waiters.is_empty() || self.told.contains(&record.id),
            suspended: record.status == Status::Suspended,
            waits: if outcome.is_some() { Vec::new() } else { waits.into_values().collect() },
            outcome,
            printed,
        })
    }
}

/// What was asked for, as the history has it.
fn again(what: Recorded) -> What {
    match what {
        Recorded::Effect(name) => {
            What::Effect(crate::builtins::find(&name).map_or("effect", |id| id.get().name))
        }
        Recorded::Activity(name) => What::Activity { name, options: Data::null() },
        Recorded::Orchestration { name, start } => What::Orchestration { name, options: Data::null(), start },
        Recorded::Operation { entity, operation, signal } => What::Operation { entity, operation, signal },
    }
}

fn outcomes(
    evaluator: &mut Evaluator<'_>,
    task: &UnderWay,
    now: i64,
    world: &BTreeMap<EntityId, Option<Part<Data>>>,
) -> Result<Vec<Done>, Stop> {
    let task = crate::model::instance::Task {
        execution: 0,
        attempt: 1,
        asked: task.asked.clone(),
        key: task.key.clone(),
    };
    let state = |id: &EntityId| world.get(id).cloned().flatten();
    crate::model::high_level::outcomes(evaluator, &task, now, &Worlds(world), &state)
}

/// What mocks see: what they have done themselves.
struct Worlds<'w>(&'w BTreeMap<EntityId, Option<Part<Data>>>);

impl View for Worlds<'_> {
    fn state(&self, entity: &EntityId) -> Option<Data> {
        self.0.get(entity)?.as_ref().map(|state| (**state).clone())
    }

    fn states(&self, kind: &str) -> Vec<(Data, Data)> {
        let of = self.0.iter().filter(|(id, _)| id.name == kind);
        of.filter_map(|(id, state)| Some((id.key.clone(), (**state.as_ref()?).clone()))).collect()
    }

    fn outcome(&self, _: &str) -> Value {
        Value::Null
    }
}

impl RealEngine {
    /// Makes the choices of a run again.
    fn reach(&self, evaluator: &mut Evaluator<'_>, path: &[Step]) -> Result<World, Stop> {
        let mut world = World::new(evaluator, self.crashes);
        for step in path {
            world.take(evaluator, step)?;
        }
        Ok(world)
    }
}

impl Model for RealEngine {
    type Config = Config;
    type Step = Step;

    fn name(&self) -> &'static str {
        "engine"
    }

    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Config, Stop> {
        self.reach(evaluator, &[])?.config(Vec::new())
    }

    fn enabled(&self, evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Vec<Step>, Stop> {
        let mut choices = Vec::new();
        if c.path.is_empty() {
            choices.push(Choice::Begin);
        }
        let world = self.reach(evaluator, &c.path)?;
        for at in 0..c.under_way.len() {
            let count = world.outcomes(evaluator, at)?.len();
            choices.extend((0..count).map(|outcome| Choice::Perform { at, outcome }));
        }
        choices.extend(c.due.map(|_| Choice::Elapse));
        let mut steps: Vec<Step> = Vec::new();
        for choice in &choices {
            let whole = Step { choice: choice.clone(), crash: None };
            steps.push(whole.clone());
            if c.crashes > 0 {
                let mut world = self.reach(evaluator, &c.path)?;
                world.take(evaluator, &whole)?;
                let broken = |point| Step { choice: choice.clone(), crash: Some(point) };
                steps.extend((1..=world.points).map(broken));
            }
        }
        if c.crashes > 0 && !c.under_way.is_empty() {
            steps.push(Step { choice: Choice::Crash, crash: None });
        }
        Ok(steps)
    }

    fn apply(&self, evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Result<Config, Stop> {
        let mut world = self.reach(evaluator, &c.path)?;
        world.take(evaluator, step)?;
        let mut path = c.path.clone();
        path.push(step.clone());
        world.config(path)
    }

    fn enough(&self, _: &mut Evaluator<'_>, _: &Config) -> Result<Option<Vec<(Step, Config)>>, Stop> {
        Ok(None)
    }

    fn fingerprint(&self, config: &Config) -> u128 {
        config.hash
    }

    fn trouble<'c>(&self, config: &'c Config) -> &'c [Trouble] {
        &config.trouble
    }

    fn visible(&self, config: &Config, _: bool) -> u128 {
        config.hash
    }

    fn seen<'c>(&self, config: &'c Config) -> Seen<'c> {
        let mut seen = Seen { trouble: &config.trouble, ..Seen::default() };
        for known in &config.instances {
            let stand = Stand {
                function: &known.function,
                ended: known.outcome.as_ref().map(|outcome| (outcome, known.told)),
                suspended: known.suspended,
                waits: known.waits.iter().collect(),
                printed: &known.printed,
            };
            seen.instances.push((&known.id, stand));
        }
        seen.entities.extend(config.entities.iter().map(|(id, entity)| (id, entity)));
        seen
    }

    fn failure(&self, config: &Config, id: &str) -> Option<ErrorData> {
        let known = config.instances.iter().find(|known| *known.id == *id)?;
        known.outcome.as_ref()?.error()
    }

    fn show(&self, evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Shown {
        let crash = match step.crash {
            None => String::new(),
            Some(point) if point % 2 == 1 => {
                format!(", and the process dies before commit {}", point / 2 + 1)
            }
            Some(point) => format!(", and the process dies after commit {}", point / 2),
        };
        match &step.choice {
            Choice::Perform { at, outcome } => {
                let Some(task) = c.under_way.get(*at) else {
                    return Shown { who: String::new(), what: String::new(), place: None };
                };
                let world = self.reach(evaluator, &c.path).ok();
                let done = world.and_then(|world| world.outcomes(evaluator, *at).ok());
                let gives = done.as_ref().and_then(|all| all.get(*outcome));
                let gives = gives.map(crate::model::high_level::gives).unwrap_or_default();
                let what = format!("{}{gives}{crash}", describe(&task.asked));
                let place = Some(task.asked.place).filter(|place| *place != Default::default());
                Shown { who: task.who.clone(), what, place }
            }
            Choice::Elapse => {
                let passed = c.due.unwrap_or(c.now).saturating_sub(c.now).max(0);
                let what = format!("{} pass{crash}", crate::machine::format::duration(passed));
                Shown { who: "time".into(), what, place: None }
            }
            Choice::Begin => Shown { who: "durable".into(), what: format!("begins{crash}"), place: None },
            Choice::Crash => {
                Shown { who: "crash".into(), what: "the process dies, and begins again".into(), place: None }
            }
        }
    }

    fn choice(&self, c: &Config, step: &Step) -> Option<u128> {
        match &step.choice {
            Choice::Perform { at, outcome } => {
                let task = c.under_way.get(*at)?;
                Some(fingerprint(&(&task.who, task.asked.mark(), outcome)))
            }
            _ => None,
        }
    }

    fn agent(&self, step: &Step) -> u128 {
        fingerprint(&format!("{:?}", step.choice))
    }
}

impl View for Config {
    fn state(&self, entity: &EntityId) -> Option<Data> {
        let (_, known) = self.entities.iter().find(|(id, _)| **id == *entity)?;
        known.state.as_ref().map(|state| (**state).clone())
    }

    fn states(&self, kind: &str) -> Vec<(Data, Data)> {
        let of = self.entities.iter().filter(|(id, _)| id.name == kind);
        of.filter_map(|(id, entity)| Some((id.key.clone(), (**entity.state.as_ref()?).clone()))).collect()
    }

    fn outcome(&self, id: &str) -> Value {
        let Some(known) = self.instances.iter().find(|known| *known.id == *id) else { return Value::Null };
        let status = match &known.outcome {
            None if known.suspended => "suspended",
            None => "running",
            Some(Outcome::Completed(_)) => "completed",
            Some(Outcome::Failed(_)) => "failed",
            Some(Outcome::Terminated(_)) => "terminated",
        };
        let mut fields =
            vec![("status", Value::str(status)), ("function", Value::str(known.function.as_str()))];
        if let Some(Outcome::Completed(result) | Outcome::Failed(result)) = &known.outcome {
            match &**result {
                Ok(value) => fields.push(("result", value.decode())),
                Err(error) => fields.push(("error", error.value.decode())),
            }
        }
        Value::record(fields)
    }
}
