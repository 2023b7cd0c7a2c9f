//! The high-level model: what programs mean, without crashes and without storage.
//!
//! A configuration is ⟨instances; entities; tasks in flight; messages in flight; timers; time⟩. Each rule is a function
//! of its name, and [`HighLevel::enabled`] lists the steps that the rules allow.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::machine::{Data, EntityId, ErrorData, Value, What};

use super::entity::Entity;
use super::evaluate::{Done, Eval, Evaluator, MAIN_FUNCTION, Stop, View};
use super::instance::{self, Instance, Out, Task, Trouble};
use super::map::Map;
use super::message::{Answer, Id, Mail, Message, Name, Timer, answer, describe};
use super::observe::{self, Seen};
use super::part::{Part, Shared, fingerprint};
use super::{Model, START, Shown};

/// Messages of one sender to one receiver, in the order sent.
pub type Channel = Part<VecDeque<Mail>>;

/// A moment of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    pub instances: Shared<Map<Id, Part<Instance<Eval>>>>,
    pub entities: Shared<Map<Arc<EntityId>, Part<Entity>>>,
    /// Activities and effects in flight, by the request that they are for.
    pub tasks: Shared<Map<(Id, u64), Part<Task>>>,
    /// By sender and receiver.
    pub mail: Shared<Map<(Name, Name), Channel>>,
    pub timers: Shared<Timers>,
    pub now: i64,
    pub trouble: Vec<Trouble>,
}

/// What is due when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timers(pub Map<(i64, Name, u64), Mail>);

/// A step that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Deliver {
        from: Name,
        to: Name,
    },
    /// With the outcome of that number.
    Operate {
        entity: Arc<EntityId>,
        outcome: usize,
    },
    Acquire {
        entity: Arc<EntityId>,
    },
    Perform {
        instance: Id,
        seq: u64,
        outcome: usize,
    },
    Elapse {
        timer: (i64, Name, u64),
    },
}

/// The model of a program.
pub struct HighLevel;

impl HighLevel {
    /// **begin**: the main instance is evaluated up to its first requests.
    fn begin(&self, evaluator: &mut Evaluator<'_>) -> Result<Config, Stop> {
        let program = evaluator.program;
        let (id, function): (Id, Id) = (program.main.clone(), MAIN_FUNCTION.into());
        let mut config = Config { now: START, ..Config::default() };
        let turn = instance::begin(evaluator, config.now, &id, &function, &program.args, None, Vec::new())?;
        config.instances.edit().insert(id.clone(), turn.instance);
        config.bring_about(&Name::Instance(id), turn.out);
        Ok(config)
    }

    /// **deliver**: the first message of a sender to a receiver arrives. An instance takes it and evaluates, up to
    /// its next requests or its end; an entity keeps it until its turn.
    fn deliver(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        from: &Name,
        to: &Name,
    ) -> Result<(), Stop> {
        let Some(mail) = c.take_mail(from, to) else { return Ok(()) };
        match to {
            Name::Instance(id) => {
                let now = c.now;
                let outs = match (c.instances.get(id), &*mail) {
                    (Some(known), _) => {
                        let turn = instance::take(evaluator, now, id, known, &mail)?;
                        c.instances.edit().insert(id.clone(), turn.instance.clone());
                        turn.out.clone()
                    }
                    (None, Message::Begin { function, args, parent, waiter, started }) => {
                        let waiters = waiter.iter().cloned().collect();
                        let turn =
                            instance::begin(evaluator, now, id, function, args, parent.clone(), waiters)?;
                        c.instances.edit().insert(id.clone(), turn.instance);
                        let started =
                            started.iter().map(|waiter| instance::reply(waiter, super::evaluate::handle(id)));
                        started.chain(turn.out).collect()
                    }
                    (None, message) => instance::absent(id, message),
                };
                c.bring_about(to, outs);
            }
            Name::Entity(id) => {
                let mut entity = c.entity(id);
                let outs = entity.arrive(&mail);
                c.put_entity(id, entity);
                c.bring_about(to, outs);
            }
            Name::Clock | Name::World => return Err(Stop::Fault(format!("{to} was sent {}", *mail))),
        }
        Ok(())
    }

    /// **operate**: an entity takes the message whose turn it is and runs that operation to its end, atomically.
    fn operate(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        id: &Arc<EntityId>,
        outcome: usize,
    ) -> Result<(), Stop> {
        let mut entity = c.entity(id);
        let all = entity.operations(id, evaluator, c.now)?;
        let done = all.get(outcome).ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        let outs = entity.operate(id, done, evaluator, c.now)?;
        c.put_entity(id, entity);
        c.bring_about(&Name::Entity(id.clone()), outs);
        Ok(())
    }

    /// **acquire**: the request of a critical section has its turn at an entity that is free; it holds it, and the
    /// request goes on to the next entity, or is granted.
    fn acquire(&self, c: &mut Config, id: &Arc<EntityId>) {
        let mut entity = c.entity(id);
        let outs = entity.acquire();
        c.put_entity(id, entity);
        c.bring_about(&Name::Entity(id.clone()), outs);
    }

    /// **perform**: a task in flight has a result, which is the environment's choice, or none and never will.
    fn perform(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        instance: &Id,
        seq: u64,
        outcome: usize,
    ) -> Result<(), Stop> {
        let done = c.outcomes(evaluator, instance, seq)?;
        let done = done.get(outcome).cloned().ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        let Some(task) = c.tasks.edit().remove(&(instance.clone(), seq)) else { return Ok(()) };
        if let (Some((entity, _)), Some(state)) = (&done.world, done.state) {
            let changed = Entity { state, ..c.entity(entity) };
            c.put_entity(entity, changed);
        }
        if let Some(result) = done.result {
            let message = Message::Answer { execution: task.execution, seq, result, sends: done.sends };
            c.send(&Name::World, Name::Instance(instance.clone()), Part::new(message));
        }
        Ok(())
    }

    /// **elapse**: time passes to what is due next, and that becomes a message.
    fn elapse(&self, evaluator: &Evaluator<'_>, c: &mut Config, timer: &(i64, Name, u64)) {
        let Some(mail) = c.timers.edit().0.remove(timer) else { return };
        c.now = c.now.max(timer.0);
        c.send(&Name::Clock, timer.1.clone(), mail);
        if !evaluator.program.facts.reads_clock {
            c.forget_the_time();
        }
    }
}

impl Model for HighLevel {
    type Config = Config;
    type Step = Step;

    fn name(&self) -> &'static str {
        "high-level"
    }

    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Config, Stop> {
        self.begin(evaluator)
    }

    fn enabled(&self, evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Vec<Step>, Stop> {
        let mut steps = Vec::new();
        for (from, to) in c.mail.keys() {
            steps.push(Step::Deliver { from: from.clone(), to: to.clone() });
        }
        for (id, entity) in c.entities.iter() {
            match entity.next() {
                None => {}
                Some(Message::Lock { .. }) => steps.push(Step::Acquire { entity: id.clone() }),
                Some(_) => {
                    let count = entity.operations(id, evaluator, c.now)?.len();
                    steps.extend((0..count).map(|outcome| Step::Operate { entity: id.clone(), outcome }));
                }
            }
        }
        for (instance, seq) in c.tasks.keys() {
            let count = c.outcomes(evaluator, instance, *seq)?.len();
            let step = |outcome| Step::Perform { instance: instance.clone(), seq: *seq, outcome };
            steps.extend((0..count).map(step));
        }
        steps.extend(c.timers.next().map(|timer| Step::Elapse { timer: timer.clone() }));
        Ok(steps)
    }

    fn apply(&self, evaluator: &mut Evaluator<'_>, config: &Config, step: &Step) -> Result<Config, Stop> {
        let mut c = config.clone();
        match step {
            Step::Deliver { from, to } => self.deliver(evaluator, &mut c, from, to)?,
            Step::Operate { entity, outcome } => self.operate(evaluator, &mut c, entity, *outcome)?,
            Step::Acquire { entity } => self.acquire(&mut c, entity),
            Step::Perform { instance, seq, outcome } => {
                self.perform(evaluator, &mut c, instance, *seq, *outcome)?
            }
            Step::Elapse { timer } => self.elapse(evaluator, &mut c, timer),
        }
        Ok(c)
    }

    fn enough(&self, evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Option<Vec<(Step, Config)>>, Stop> {
        super::reduce::enough(evaluator, c)
    }

    fn fingerprint(&self, c: &Config) -> u128 {
        let marks = [c.instances.mark(), c.entities.mark(), c.tasks.mark(), c.mail.mark(), c.timers.mark()];
        fingerprint(&(marks, c.now, &c.trouble))
    }

    fn seen<'c>(&self, config: &'c Config) -> Seen<'c> {
        let mut seen = Seen { trouble: &config.trouble, ..Seen::default() };
        for (id, instance) in config.instances.iter() {
            seen.instances.push((id, observe::stand(instance)));
        }
        for (id, entity) in config.entities.iter() {
            seen.entities.push((id, entity));
        }
        seen
    }

    fn trouble<'c>(&self, config: &'c Config) -> &'c [Trouble] {
        &config.trouble
    }

    fn visible(&self, config: &Config, instances: bool) -> u128 {
        let states =
            config.entities.iter().filter_map(|(id, entity)| Some((id, entity.state.as_ref()?.mark())));
        match instances {
            true => fingerprint(&(states.collect::<Vec<_>>(), config.instances.mark())),
            false => fingerprint(&states.collect::<Vec<_>>()),
        }
    }

    fn failure(&self, config: &Config, id: &str) -> Option<ErrorData> {
        config.instances.get(id)?.failure()
    }

    fn show(&self, evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Shown {
        show(evaluator, c, step)
    }

    fn choice(&self, c: &Config, step: &Step) -> Option<u128> {
        match step {
            Step::Perform { instance, seq, outcome } => {
                let task = c.tasks.get(&(instance.clone(), *seq))?;
                Some(fingerprint(&(instance, task.asked.mark(), outcome)))
            }
            Step::Operate { entity, outcome } => {
                Some(fingerprint(&(entity, c.entities.get(entity)?.next(), outcome)))
            }
            _ => None,
        }
    }

    fn agent(&self, step: &Step) -> u128 {
        match step {
            Step::Deliver { from, to } => fingerprint(&("deliver", from, to)),
            Step::Operate { entity, .. } | Step::Acquire { entity } => fingerprint(&("entity", entity)),
            Step::Perform { instance, seq, .. } => fingerprint(&("task", instance, seq)),
            Step::Elapse { .. } => fingerprint(&"clock"),
        }
    }
}

impl Timers {
    /// What may be due next: all that is due at the earliest time.
    pub fn next(&self) -> impl Iterator<Item = &(i64, Name, u64)> {
        let earliest = self.0.keys().next().map(|(due, ..)| *due);
        self.0.keys().take_while(move |(due, ..)| Some(*due) == earliest)
    }

    pub fn set(&mut self, due: i64, to: &Id, execution: u32, seq: u64, timer: Timer) {
        let message = Message::Due { execution, seq, timer };
        self.0.insert((due, Name::Instance(to.clone()), seq * 4 + timer as u64), Part::new(message));
    }

    pub fn clear(&mut self, to: &Id, seq: u64) {
        self.0.retain(|(_, name, number), _| {
            !(number / 4 == seq && matches!(name, Name::Instance(id) if id == to))
        });
    }

    /// A signal for later.
    pub fn later(&mut self, due: i64, to: &Arc<EntityId>, mail: Mail) {
        let to = Name::Entity(to.clone());
        let number = (0..).find(|number| !self.0.contains_key(&(due, to.clone(), *number)));
        self.0.insert((due, to, number.unwrap_or(0)), mail);
    }

    /// All of it earlier.
    pub fn shift(&mut self, by: i64) {
        let all = std::mem::take(&mut self.0);
        self.0 = all
            .into_iter()
            .map(|((due, to, n), message)| ((due.saturating_sub(by), to, n), message))
            .collect();
    }
}

impl Config {
    pub fn entity(&self, id: &Arc<EntityId>) -> Entity {
        self.entities.get(id).map(|entity| (**entity).clone()).unwrap_or_default()
    }

    pub fn put_entity(&mut self, id: &Arc<EntityId>, entity: Entity) {
        match entity.is_untouched() {
            true => self.entities.edit().remove(id),
            false => self.entities.edit().insert(id.clone(), Part::new(entity)),
        };
    }

    fn send(&mut self, from: &Name, to: Name, mail: Mail) {
        let key = (from.clone(), to);
        let mut queue = self.mail.get(&key).map(|queue| (**queue).clone()).unwrap_or_default();
        queue.push_back(mail);
        self.mail.edit().insert(key, Part::new(queue));
    }

    fn take_mail(&mut self, from: &Name, to: &Name) -> Option<Mail> {
        let key = (from.clone(), to.clone());
        let mut queue = (**self.mail.get(&key)?).clone();
        let message = queue.pop_front();
        match queue.is_empty() {
            true => self.mail.edit().remove(&key),
            false => self.mail.edit().insert(key, Part::new(queue)),
        };
        message
    }

    fn keep_mail(&mut self, from: Name, to: &Name, keep: impl Fn(&Message) -> bool) {
        let key = (from, to.clone());
        let Some(queue) = self.mail.get(&key) else { return };
        if queue.iter().all(|mail| keep(mail)) {
            return;
        }
        let queue: VecDeque<Mail> = queue.iter().filter(|mail| keep(mail)).cloned().collect();
        match queue.is_empty() {
            true => self.mail.edit().remove(&key),
            false => self.mail.edit().insert(key, Part::new(queue)),
        };
    }

    /// Lets happen what a participant's step brings about.
    pub fn bring_about(&mut self, by: &Name, outs: Vec<Out>) {
        for out in outs {
            match (out, by) {
                (Out::Send { to, mail }, _) => self.send(by, to, mail),
                (Out::Later { due, to, mail }, _) => self.timers.edit().later(due, &to, mail),
                (Out::Trouble(trouble), _) => self.trouble.push(trouble),
                (Out::Begin { seq, task }, Name::Instance(id)) => {
                    self.tasks.edit().insert((id.clone(), seq), Part::new(task));
                }
                (Out::SetTimer { due, seq, timer }, Name::Instance(id)) => {
                    let execution = self.instances.get(id).map_or(0, |instance| instance.execution);
                    self.timers.edit().set(due, id, execution, seq, timer);
                }
                (Out::Clear { seq }, Name::Instance(id)) => {
                    if self.tasks.contains_key(&(id.clone(), seq)) {
                        self.tasks.edit().remove(&(id.clone(), seq));
                    }
                    if !self.timers.0.is_empty() {
                        self.timers.edit().clear(id, seq);
                    }
                    let of = |message: &Message| !matches!(message, Message::Answer { seq: s, .. } | Message::Due { seq: s, .. } if *s == seq);
                    self.keep_mail(Name::World, by, of);
                    self.keep_mail(Name::Clock, by, of);
                }
                _ => {}
            }
        }
    }

    /// What can come of a task in flight.
    pub fn outcomes(
        &self,
        evaluator: &mut Evaluator<'_>,
        instance: &Id,
        seq: u64,
    ) -> Result<Vec<Done>, Stop> {
        let Some(task) = self.tasks.get(&(instance.clone(), seq)) else { return Ok(Vec::new()) };
        outcomes(evaluator, task, self.now, self, &|id| self.entities.get(id).and_then(|e| e.state.clone()))
    }

    /// A program that does not read the clock can't tell the time: only the distances to what is due count.
    fn forget_the_time(&mut self) {
        let passed = self.now - START;
        if passed != 0 && !self.timers.0.is_empty() {
            self.timers.edit().shift(passed);
        }
        self.now = START;
    }
}

/// What can come of a task; a mock that is an operation is run on the state of its entity.
pub fn outcomes(
    evaluator: &mut Evaluator<'_>,
    task: &Task,
    now: i64,
    view: &dyn View,
    state: &dyn Fn(&EntityId) -> Option<Part<Data>>,
) -> Result<Vec<Done>, Stop> {
    if task.asked.what == What::Effect("status") {
        return Ok(vec![Done::of(Some(status(&task.asked.args, view)))]);
    }
    let all = evaluator.perform(&task.asked, &task.key, now, view)?;
    if all.iter().all(|done| done.world.is_none()) {
        return Ok(all.to_vec());
    }
    let mut outcomes = Vec::new();
    for done in all.iter() {
        let Some((entity, operation)) = &done.world else {
            outcomes.push(done.clone());
            continue;
        };
        let state = state(entity);
        let ran = evaluator.operate(entity, operation, &task.asked.args, state.as_ref(), &task.key, now)?;
        for one in ran.iter() {
            outcomes.push(Done { world: done.world.clone(), choice: done.choice.clone(), ..one.clone() });
        }
    }
    Ok(outcomes)
}

/// The answer to `status`.
fn status(args: &Data, view: &dyn View) -> Answer {
    let target = args.items().first().map(crate::machine::format::display).unwrap_or_default();
    match view.outcome(&target) {
        Value::Record(record) => {
            let field = |name: &str| record.get_str(name).cloned().unwrap_or(Value::Null);
            let value = Value::record([
                ("id", Value::str(target.as_str())),
                ("function", field("function")),
                ("status", field("status")),
                ("custom", field("custom")),
            ]);
            answer(Ok(Data::encode(&value).unwrap_or_else(|_| Data::null())))
        }
        _ => answer(Err(ErrorData::with(
            "unknown_instance",
            format!("there is no instance `{target}`"),
            [("id", Value::str(target.as_str()))],
        ))),
    }
}

impl View for Config {
    fn state(&self, entity: &EntityId) -> Option<Data> {
        let known = self.entities.get(entity).and_then(|entity| entity.state.as_ref());
        known.map(|state| (**state).clone())
    }

    fn states(&self, kind: &str) -> Vec<(Data, Data)> {
        let of = self.entities.iter().filter(|(id, _)| id.name == kind);
        of.filter_map(|(id, entity)| Some((id.key.clone(), (**entity.state.as_ref()?).clone()))).collect()
    }

    fn outcome(&self, id: &str) -> Value {
        self.instances.get(id).map_or(Value::Null, |instance| observe::outcome(id, instance))
    }
}

fn show(evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Shown {
    match step {
        Step::Deliver { from, to } => {
            let message =
                c.mail.get(&(from.clone(), to.clone())).and_then(|queue| queue.front()).map(|mail| &**mail);
            let text = message.map_or(String::new(), Message::to_string);
            let place = match (message, to) {
                (Some(Message::Call { place, .. } | Message::Signal { place, .. }), _) => Some(place.0),
                (Some(Message::Answer { seq, .. } | Message::Due { seq, .. }), Name::Instance(id)) => {
                    c.instances.get(id).and_then(|i| Some(i.open_named(*seq)?.1.asked.place))
                }
                _ => None,
            };
            let what = match from {
                Name::Clock => text,
                Name::World => format!("has its {text}"),
                from => format!("gets {text} from {from}"),
            };
            Shown { who: to.to_string(), what, place }
        }
        Step::Operate { entity, outcome } => {
            let known = c.entity(entity);
            let (text, place) = match known.next() {
                Some(message @ (Message::Call { place, .. } | Message::Signal { place, .. })) => {
                    (message.to_string(), Some(place.0))
                }
                _ => (String::new(), None),
            };
            let done = known.operations(entity, evaluator, c.now).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            Shown { who: entity.to_string(), what: format!("runs {text}{gives}"), place }
        }
        Step::Acquire { entity } => {
            let known = c.entity(entity);
            let owner = match known.next() {
                Some(Message::Lock { owner, .. }) => owner.instance.to_string(),
                _ => String::new(),
            };
            let place = owner_place(c, &owner);
            Shown { who: entity.to_string(), what: format!("is held by {owner}"), place }
        }
        Step::Perform { instance, seq, outcome } => {
            let task = c.tasks.get(&(instance.clone(), *seq));
            let text = task.map_or(String::new(), |task| describe(&task.asked));
            let done = c.outcomes(evaluator, instance, *seq).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            let place = task.map(|task| task.asked.place);
            Shown { who: instance.to_string(), what: format!("{text}{gives}"), place }
        }
        Step::Elapse { timer: (due, to, number) } => {
            let after = crate::machine::format::duration(due.saturating_sub(c.now).max(0));
            let what = match c.timers.0.get(&(*due, to.clone(), *number)).map(|mail| &**mail) {
                Some(Message::Due { seq, timer, .. }) => {
                    let place = match to {
                        Name::Instance(id) => {
                            c.instances.get(id).and_then(|i| Some(i.open_named(*seq)?.1.asked.place))
                        }
                        _ => None,
                    };
                    let of = match timer {
                        Timer::Sleep => "a sleep of",
                        Timer::Timeout => "a time limit of",
                        Timer::Retry => "a next attempt of",
                    };
                    return Shown {
                        who: "time".into(),
                        what: format!("{after} pass: {of} {to} is due"),
                        place,
                    };
                }
                Some(message) => format!("{after} pass: {message} for {to} is due"),
                None => String::new(),
            };
            Shown { who: "time".into(), what, place: None }
        }
    }
}

/// Where the section stands for which an instance asks.
fn owner_place(c: &Config, owner: &str) -> Option<crate::syntax::Place> {
    let instance = c.instances.get(owner)?;
    let lock = instance.open.values().find(|open| open.asked.what == What::Effect("lock"))?;
    Some(lock.asked.place)
}

/// What came of it, for people.
pub fn gives(done: &Done) -> String {
    match &done.result {
        None => " is never done".to_string(),
        Some(result) => match &**result {
            Ok(value) if *value == Data::null() && done.choice.is_none() => String::new(),
            Ok(value) => format!(" gives {}", super::message::shown(value)),
            Err(error) => format!(" fails: {}", error.title()),
        },
    }
}
