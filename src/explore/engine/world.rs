//! The surroundings of the engine: a store in memory, the work under way outside, time, and
//! crashes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::engine::{
    Address, Args, Ending, Engine, Entry, Event, Gate, Hold, InstanceRecord, Leaving, Line, Output,
    RecordedRequest, Status, StepId, Writes, keys, look_up, read_history, read_record, recovery,
};
use crate::kv::{Batch, MemoryTree, Read, Store};
use crate::machine::{Data, EntityId, Image, Request, RequestKind, Value};
use crate::model::entity::Entity;
use crate::model::evaluate::{Done, Moment, Turns};
use crate::model::instance::{Outcome, Task};
use crate::model::lives::Execution;
use crate::model::message::{Asked, EntityName, Id, Waiter, answer, asked};
use crate::model::observe::{Violation, broken};
use crate::model::orphan;
use crate::model::part::{Part, fingerprint};
use crate::model::view::View;
use crate::model::{Anomaly, Evaluator, Program, START, Stop, Subject};
use crate::syntax::tree::PropertyKind;

use super::{Choice, Config, RealEngine, Step};

/// A request of the engine to the outside.
#[derive(Clone, Debug)]
pub(super) struct UnderWay {
    pub who: String,
    pub asked: Asked,
    pub key: Id,
    /// The deadline for the answer, if there is one.
    pub until: Option<i64>,
}

/// An instance according to its record and its history.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub id: Id,
    pub function: String,
    pub outcome: Option<Outcome>,
    pub told: bool,
    pub suspended: bool,
    pub scheduled: bool,
    pub waits: Vec<Asked>,
    pub printed: Vec<Data>,
}

/// The engine and its surroundings.
pub(super) struct World {
    pub engine: Engine,
    /// The gate that holds back outputs until their writes are durable.
    gate: Gate,
    pub store: MemoryTree,
    pub image: Rc<Image>,
    pub images: HashMap<ProgramHash, Rc<Image>>,
    pub main: InstanceRecord,
    pub now: i64,
    pub under_way: VecDeque<(StepId, UnderWay)>,
    /// Attempts that were given up and may still happen.
    pub orphans: Vec<UnderWay>,
    /// The positions of mocks: now, and when each step was first done. A step that is done again
    /// has the same outcome.
    turns: Turns,
    begun: Vec<(StepId, Turns)>,
    /// The states of entities that stand for the world, as mocks have left them.
    pub world: BTreeMap<EntityId, Option<Part<Data>>>,
    pub told: BTreeSet<String>,
    /// Whether `world` has changed since an invariant was last checked.
    world_changed: bool,
    pub trouble: Vec<Anomaly>,
    /// The lines that have left the process, in order. A line that leaves again after a crash is
    /// not repeated.
    pub printed: Vec<String>,
    /// For each run of lines in the store: how many lines have left, and how many since the last
    /// crash.
    lines: BTreeMap<u64, (usize, usize)>,
    /// Whether the main instance has ended.
    pub main_ended: bool,
    /// Whether requests are shown with their places.
    pub places: bool,
    /// Whether attempts that a crash breaks off count.
    pub costs_attempts: bool,
    /// The crash point at which the process dies, the number of points passed, and the crashes
    /// left.
    pub crash: Option<u32>,
    pub points: u32,
    pub left: u32,
}

/// The most turns of the engine between two choices, and the most in a row without an output.
const MOST_TURNS: usize = 1_000_000;
const MOST_SILENT_TURNS: usize = 10_000;

pub(super) fn fault(reason: impl std::fmt::Display) -> Stop {
    Stop::Fault(reason.to_string())
}

impl World {
    pub(super) fn new(evaluator: &Evaluator<'_>, crashes: u32) -> World {
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
            gate: Gate::default(),
            store: MemoryTree::default(),
            images: HashMap::from([(hash, image.clone())]),
            image,
            main,
            now: START,
            under_way: VecDeque::new(),
            orphans: Vec::new(),
            turns: program.turns(),
            begun: Vec::new(),
            world: BTreeMap::new(),
            told: BTreeSet::new(),
            world_changed: true,
            trouble: Vec::new(),
            printed: Vec::new(),
            lines: BTreeMap::new(),
            main_ended: false,
            places: true,
            costs_attempts: true,
            crash: None,
            points: 0,
            left: crashes,
        }
    }

    /// Begins the process, which recovers from the store.
    pub(super) fn begin(&mut self) -> Result<(), Stop> {
        self.engine = Engine::new();
        self.engine.costs_attempts = self.costs_attempts;
        self.gate = Gate::default();
        self.under_way.clear();
        self.lines.values_mut().for_each(|(_, left)| *left = 0);
        for event in recovery(&self.store, None).map_err(fault)? {
            self.engine.handle(event, self.now);
        }
        let records = self.store.all(keys::INSTANCES).map_err(fault)?;
        let records: Vec<InstanceRecord> =
            records.iter().filter_map(|(_, bytes)| InstanceRecord::decode(bytes)).collect();
        self.main_ended = records.iter().any(|record| record.id == self.main.id && record.status.is_ended());
        for record in records.iter().filter(|record| !record.status.is_ended()) {
            self.engine.handle(Event::Wake { id: record.id.clone() }, self.now);
        }
        if records.is_empty() {
            let (record, image) = (self.main.clone(), self.image.clone());
            self.engine.handle(Event::Begin { record, image }, self.now);
        }
        Ok(())
    }

    /// Passes a crash point. Returns whether the process dies there.
    pub(super) fn dies(&mut self) -> bool {
        self.points += 1;
        if self.crash == Some(self.points) {
            self.crash = None;
            self.left = self.left.saturating_sub(1);
            return true;
        }
        false
    }

    /// Runs the engine until it has nothing to do, through the chosen crash.
    pub(super) fn drive(&mut self, evaluator: &mut Evaluator<'_>) -> Result<(), Stop> {
        let watched = evaluator.program.properties.iter().any(|p| p.kind == PropertyKind::Invariant);
        let mut held: Vec<Output> = Vec::new();
        let mut later: Vec<Output> = Vec::new();
        let mut silent = 0;
        for _ in 0..MOST_TURNS {
            self.engine.handle(Event::Tick, self.now);
            if self.engine.is_ready() {
                self.engine.handle(Event::Run, self.now);
            }
            let mut outputs = std::mem::take(&mut later);
            outputs.extend(self.engine.take_outputs());
            silent = if outputs.is_empty() { silent + 1 } else { 0 };
            if silent > MOST_SILENT_TURNS {
                break;
            }
            for output in outputs {
                match look_up(&self.store, &mut self.images, &output).map_err(fault)? {
                    Some(event) => self.engine.handle(event, self.now),
                    None => held.push(output),
                }
            }
            // Facts hold as soon as the writes of this turn are durable. Other outputs have their
            // turn after it.
            let (facts, rest): (Vec<_>, Vec<_>) = self.engine.take_outputs().into_iter().partition(is_fact);
            held.extend(facts);
            later = rest;
            let Writes { batch, unwritten } = self.engine.take_writes();
            if batch.is_empty() {
                self.gate.advance(unwritten.written());
            } else {
                let before = self.dies();
                if !before {
                    self.store.commit(&batch).map_err(fault)?;
                    self.gate.advance(unwritten.written());
                    let store = &self.store;
                    self.lines.retain(|run, _| store.tree.contains_key(&keys::lines(*run)));
                }
                if !before && watched && self.is_visible(evaluator, &batch) && self.trouble.is_empty() {
                    let config = self.config(Vec::new())?;
                    if let Some(Violation::Property { at, why }) =
                        broken(&RealEngine { crashes: 0 }, evaluator, &config, PropertyKind::Invariant)?
                    {
                        self.trouble.push(Anomaly::Broken { at, why });
                    }
                }
                if before || self.dies() {
                    let mut facts =
                        std::mem::take(&mut held).into_iter().filter(|output| !before && is_fact(output));
                    facts.try_for_each(|fact| self.release(evaluator.program, fact))?;
                    later.clear();
                    self.begin()?;
                    continue;
                }
            }
            for output in std::mem::take(&mut held) {
                self.release(evaluator.program, output)?;
            }
            if !self.engine.is_ready() && !self.engine.has_writes() && later.is_empty() {
                return Ok(());
            }
        }
        Err(Stop::Endless)
    }

    /// Whether a property could see something of this batch, or of earlier changes by mocks.
    fn is_visible(&mut self, evaluator: &Evaluator<'_>, batch: &Batch) -> bool {
        let instances = evaluator.program.facts.watches_instances;
        std::mem::take(&mut self.world_changed)
            || batch.writes.iter().any(|(key, _)| {
                key.starts_with(keys::ENTITIES) || (instances && key.starts_with(keys::INSTANCES))
            })
    }

    /// Handles an output of the engine.
    pub(super) fn release(&mut self, program: &Program, output: Output) -> Result<(), Stop> {
        match output {
            Output::Effect { step, effect, args, .. } => self.asks_effect(program, step, effect, args),
            Output::Gated(gated) => match self.gate.open(gated) {
                Ok(leaving) => return self.leave(program, leaving),
                Err(early) => return Err(fault(format!("{:?} leaves before its writes", early.peek()))),
            },
            Output::Activity { step, name, args, key, .. } => {
                let what = RequestKind::Activity { name, options: Data::null() };
                self.asks(program, step, what, args, key.as_str().into());
            }
            Output::Abandon { step } => self.give_up(program, &step),
            Output::Told { instance } => {
                self.told.insert(instance);
            }
            _ => {}
        }
        Ok(())
    }

    fn asks_effect(&mut self, program: &Program, step: StepId, effect: Effect, args: Data) {
        let key: Id = format!("{}-{}", step.owner, step.seq).into();
        self.asks(program, step, RequestKind::Effect(effect), args, key);
    }

    /// Handles an output that leaves the process, because its writes are durable.
    fn leave(&mut self, program: &Program, leaving: Leaving) -> Result<(), Stop> {
        match leaving {
            Leaving::Effect { step, effect, args, .. } => self.asks_effect(program, step, effect, args),
            Leaving::Line { run, line } => {
                let (out, left) = self.lines.entry(run).or_default();
                *left += 1;
                if *left > *out {
                    *out = *left;
                    self.printed.push(match line {
                        Line::Print(text) => text,
                        Line::Log { level, text } => format!("{level}: {text}"),
                    });
                }
                self.engine.handle(Event::LinesOut { run, count: 1 }, self.now);
            }
            Leaving::Lost { what, error } => {
                self.trouble.push(Anomaly::Lost { what, error: answer(Err(error)) });
            }
            Leaving::Ended { outcome: Ending::Nondeterminism(_), instance, .. } => {
                return Err(Stop::Nondeterminism { id: Id::from(&*instance) });
            }
            Leaving::Ended { outcome: Ending::Incompatible(reason), .. } => return Err(fault(reason)),
            Leaving::Ended { instance, .. } if *instance == *self.main.id => self.main_ended = true,
            // Nobody outside calls: a test is an orchestration, and its activities are mocked.
            Leaving::Ended { .. } | Leaving::Answered { .. } => {}
        }
        Ok(())
    }

    /// Gives up work under way that nothing waits for any more.
    fn give_up(&mut self, program: &Program, step: &StepId) {
        let Some(at) = self.under_way.iter().position(|(known, _)| known == step) else { return };
        if let Some((_, task)) = self.under_way.remove(at)
            && program.is_of_the_world(&task.asked)
            && self.orphans.len() < orphan::MOST
        {
            self.orphans.push(task);
        }
    }

    fn asks(&mut self, program: &Program, step: StepId, what: RequestKind, args: Data, key: Id) {
        let place = match &step.owner {
            Address::Instance(id) if self.places => self.place(id, step.seq),
            _ => None,
        };
        let request = Request { seq: step.seq, what, args, place: place.unwrap_or_default() };
        let who = step.owner.to_string();
        let limit = || match &step.owner {
            Address::Instance(id) => {
                let open = self.engine.waits_for(id)?;
                open.iter().find(|open| open.request.seq == step.seq)?.policy().timeout
            }
            _ => None,
        };
        let within = program.within_limit(&request, limit);
        let until = within.map(|within| self.now.saturating_add(within));
        self.under_way.push_back((step, UnderWay { who, asked: asked(request), key, until }));
    }

    pub(super) fn place(&self, id: &str, seq: u64) -> Option<crate::syntax::Place> {
        let record = read_record(&self.store, id).ok()??;
        let history = read_history(&self.store, &record).ok()?;
        history.entries.iter().rev().find_map(|entry| match entry {
            Entry::Requested { seq: known, place, .. } if *known == seq => Some(*place),
            _ => None,
        })
    }

    /// Returns the activities that failed: their instances and the numbers of their requests.
    pub(super) fn failed_activities(&self) -> Result<BTreeSet<(String, u64)>, Stop> {
        let mut failed = BTreeSet::new();
        for (_, bytes) in self.store.all(keys::INSTANCES).map_err(fault)? {
            let Some(record) = InstanceRecord::decode(&bytes) else { continue };
            let history = read_history(&self.store, &record).map_err(fault)?;
            let mut activities = BTreeSet::new();
            for entry in &history.entries {
                match entry {
                    Entry::Requested { seq, what: RecordedRequest::Activity(_), .. } => {
                        activities.insert(*seq);
                    }
                    Entry::Answered { seq, result: Err(_), .. } if activities.contains(seq) => {
                        failed.insert((record.id.clone(), *seq));
                    }
                    _ => {}
                }
            }
        }
        Ok(failed)
    }

    /// Makes a choice of the environment.
    pub(super) fn take(&mut self, evaluator: &mut Evaluator<'_>, step: &Step) -> Result<(), Stop> {
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
            Choice::Perform { at, outcome, after } => {
                self.now = self.now.saturating_add(*after);
                let all = self.outcomes(evaluator, *at)?;
                let done = all.get(*outcome).cloned().ok_or_else(|| fault("no such outcome"))?;
                if let Some((step, _)) = self.under_way.remove(*at) {
                    if !self.turns.is_empty() && self.begun_at(&step).is_none() {
                        self.begun.push((self.uninterrupted(&step), self.turns.clone()));
                        self.turns_are(&done);
                    }
                    self.done(step, done);
                }
            }
            Choice::Late { at, outcome } => {
                let task = self.orphans.remove(*at);
                let all = self.outcomes_of(evaluator, &task, &self.turns)?;
                let done = all.get(*outcome).ok_or_else(|| fault("no such outcome"))?;
                self.turns_are(done);
                self.change_the_world(done);
            }
            Choice::Lapse { at } => {
                self.orphans.remove(*at);
            }
        }
        self.drive(evaluator)
    }

    /// Finishes work that was under way.
    pub(super) fn done(&mut self, step: StepId, done: Done) {
        self.change_the_world(&done);
        if let Some(result) = done.result {
            let sends = done.sends.iter().map(|request| (**request).clone()).collect();
            let result = (*result).clone();
            self.engine.handle(Event::Answer { step, result, sends }, self.now);
        }
    }

    /// Applies the effect of an attempt to the entities that stand for the world.
    fn change_the_world(&mut self, done: &Done) {
        if let (Some((entity, _)), Some(state)) = (&done.world, &done.state) {
            self.world.insert((**entity).clone(), state.clone());
            self.world_changed = true;
        }
    }

    /// Returns the earliest deadline, beyond which time may not pass.
    pub(super) fn until(&self) -> Option<i64> {
        self.under_way.iter().filter_map(|(_, task)| task.until).min()
    }

    /// Returns the possible outcomes of an attempt that was given up.
    pub(super) fn late(&self, evaluator: &mut Evaluator<'_>, at: usize) -> Result<Rc<Vec<Done>>, Stop> {
        let Some(task) = self.orphans.get(at) else { return Ok(Rc::default()) };
        self.outcomes_of(evaluator, task, &self.turns)
    }

    pub(super) fn outcomes(&self, evaluator: &mut Evaluator<'_>, at: usize) -> Result<Rc<Vec<Done>>, Stop> {
        let Some((step, task)) = self.under_way.get(at) else { return Ok(Rc::default()) };
        self.outcomes_of(evaluator, task, self.begun_at(step).unwrap_or(&self.turns))
    }

    fn outcomes_of(
        &self,
        evaluator: &mut Evaluator<'_>,
        task: &UnderWay,
        turns: &Turns,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let state = |id: &EntityId| self.world.get(id).cloned().flatten();
        let now = Moment { clock: vec![self.now], turns: turns.clone() };
        crate::model::tasks::outcomes(evaluator, &task.task(), &now, &Worlds(&self.world), &state)
    }

    /// Returns the positions of mocks when a step was first done.
    fn begun_at(&self, step: &StepId) -> Option<&Turns> {
        let step = self.uninterrupted(step);
        self.begun.iter().find(|(known, _)| *known == step).map(|(_, turns)| turns)
    }

    /// Returns the step with the attempt's number as if no process had died. Then an attempt in the
    /// place of an interrupted one has the same outcome.
    pub(super) fn uninterrupted(&self, step: &StepId) -> StepId {
        let mut step = step.clone();
        let Address::Instance(id) = &step.owner else { return step };
        if step.attempt < 2 {
            return step;
        }
        let Ok(Some(record)) = read_record(&self.store, id) else { return step };
        let Ok(history) = read_history(&self.store, &record) else { return step };
        let seq = step.seq;
        let interrupted = |entry: &&Entry| match entry {
            Entry::Retried { seq: known, error, .. } => {
                *known == seq && error.kind().as_deref() == Some("interrupted")
            }
            _ => false,
        };
        let count = history.entries.iter().filter(interrupted).count() as u32;
        step.attempt = step.attempt.saturating_sub(count).max(1);
        step
    }

    fn turns_are(&mut self, done: &Done) {
        if !done.turns.is_empty() {
            self.turns.clone_from(&done.turns);
        }
    }

    /// Returns the visible state of the world as a configuration.
    pub(super) fn config(&self, path: Vec<Step>) -> Result<Config, Stop> {
        let mut instances = Vec::new();
        for (_, bytes) in self.store.all(keys::INSTANCES).map_err(fault)? {
            let Some(record) = InstanceRecord::decode(&bytes) else { continue };
            instances.push(self.known(&record)?);
        }
        let mut entities: BTreeMap<EntityId, Entity> = BTreeMap::new();
        for (key, state) in self.store.all(keys::ENTITIES).map_err(fault)? {
            if let Some(id) = keys::parse_entity_key(&key) {
                entities.entry(id).or_default().state = Some(Part::new(Data(state)));
            }
        }
        for (key, hold) in self.store.all(keys::LOCKS).map_err(fault)? {
            if let (Some(id), Some(hold)) = (keys::parse_entity_key(&key), Hold::decode(&hold)) {
                let owner = hold.owner;
                let execution = Execution { number: owner.execution, ..Execution::default() };
                let holder = Waiter { instance: owner.instance.into(), execution, seq: owner.seq };
                entities.entry(id).or_default().holder = Some(holder);
            }
        }
        for (id, state) in &self.world {
            entities.entry(id.clone()).or_default().state = state.clone();
        }
        let under_way: Vec<UnderWay> = self.under_way.iter().map(|(_, task)| task.clone()).collect();
        let mark = |task: &UnderWay| (task.who.clone(), task.asked.mark(), task.key.clone(), task.until);
        let tasks: Vec<_> = under_way.iter().map(mark).collect();
        let orphans: Vec<_> = self.orphans.iter().map(mark).collect();
        let worlds: Vec<_> =
            self.world.iter().map(|(id, state)| (id, state.as_ref().map(Part::mark))).collect();
        // The time of the last write is not visible to anybody.
        let stored: Vec<_> = self.store.tree.iter().filter(|(key, _)| *key != keys::TIME).collect();
        let hash = fingerprint(&(
            path.is_empty(),
            stored,
            (tasks, orphans),
            worlds,
            self.now,
            self.left,
            (&self.turns, self.begun.len()),
            &self.trouble,
        ));
        Ok(Config {
            path,
            hash,
            under_way,
            orphans: self.orphans.clone(),
            instances,
            entities: entities.into_iter().map(|(id, entity)| (EntityName::from(id), entity)).collect(),
            trouble: self.trouble.clone(),
            crashes: self.left,
            now: self.now,
            dues: self.engine.dues(),
            until: self.until(),
        })
    }

    pub(super) fn known(&self, record: &InstanceRecord) -> Result<Known, Stop> {
        let outcome = match &record.status {
            Status::Running | Status::Suspended | Status::Scheduled { .. } => None,
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
                    if what.effect() == Some(Effect::Print) {
                        printed.push(args.clone());
                    }
                    let Some(what) = again(what) else { continue };
                    waits.insert(seq, asked(Request { seq, what, args, place }));
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
            suspended: record.status.is_suspended(),
            scheduled: record.status.begins().is_some(),
            waits: if outcome.is_some() { Vec::new() } else { waits.into_values().collect() },
            outcome,
            printed,
        })
    }
}

/// Whether an output holds as soon as its batch is durable, even if the process dies right after.
fn is_fact(output: &Output) -> bool {
    match output {
        Output::Told { .. } => true,
        Output::Gated(gated) => matches!(gated.peek(), Leaving::Lost { .. }),
        _ => false,
    }
}

/// Returns the request kind of a recorded request; `None` for an effect that this version doesn't
/// know.
fn again(what: RecordedRequest) -> Option<RequestKind> {
    Some(match what {
        RecordedRequest::Effect(name) => RequestKind::Effect(Effect::find(&name)?),
        RecordedRequest::Activity(name) => RequestKind::Activity { name, options: Data::null() },
        RecordedRequest::Orchestration { name, start } => {
            RequestKind::Orchestration { name, options: Data::null(), start }
        }
        RecordedRequest::Operation { entity, operation, signal } => {
            RequestKind::Operation { entity, operation, signal }
        }
    })
}

impl UnderWay {
    pub(super) fn task(&self) -> Task {
        Task { execution: Execution::default(), attempt: 1, asked: self.asked.clone(), key: self.key.clone() }
    }
}

/// The view of mocks, which see only their own effects.
pub(super) struct Worlds<'w>(pub &'w BTreeMap<EntityId, Option<Part<Data>>>);

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
