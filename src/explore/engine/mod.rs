//! The real engine as a model: the same engine that runs programs, over a store in memory. The
//! environment has the choices of the high-level model, and the process can die before and after
//! every commit.
//!
//! The engine can't be copied. So a configuration is the list of choices that led to it, and the
//! engine makes them again to reach it. When the engine has nothing to do, its memory follows from
//! its store, the work under way and the time. So two configurations that agree in these count as
//! equal.

pub mod trial;
mod world;

use crate::machine::{Data, EntityId, ErrorData, Value};
use crate::model::entity::Entity;
use crate::model::instance::Outcome;
use crate::model::message::EntityName;
use crate::model::message::describe;
use crate::model::observe::{Seen, Stand};
use crate::model::orphan;
use crate::model::part::fingerprint;
use crate::model::view::View;
use crate::model::{Anomaly, Evaluator, Model, Program, Shown, Stop};

/// The engine, with the number of crashes allowed in one run.
#[derive(Clone, Copy, Debug)]
pub struct RealEngine {
    pub crashes: u32,
}

/// A choice of the environment.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The first process begins.
    Begin,
    /// The work at this position finishes after so many nanoseconds, with this outcome.
    Perform { at: usize, outcome: usize, after: i64 },
    /// An attempt that was given up happens after all, with this outcome.
    Late { at: usize, outcome: usize },
    /// An attempt that was given up will not happen.
    Lapse { at: usize },
    /// Time passes until the next timer is due.
    Elapse,
    /// Nothing but a crash.
    Crash,
}

/// A choice, and the crash point at which the process dies, if any. Point 1 is before the first
/// commit, 2 after it, and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub choice: Choice,
    pub crash: Option<u32>,
}

use world::{Known, UnderWay, World};

/// A moment of a run at which the engine has nothing to do.
#[derive(Clone, Debug)]
pub struct Config {
    path: Vec<Step>,
    hash: u128,
    under_way: Vec<UnderWay>,
    orphans: Vec<UnderWay>,
    instances: Vec<Known>,
    entities: Vec<(EntityName, Entity)>,
    trouble: Vec<Anomaly>,
    crashes: u32,
    now: i64,
    /// The due times of all timers, in order.
    dues: Vec<i64>,
    /// The earliest deadline for an answer.
    until: Option<i64>,
}

impl RealEngine {
    /// Returns the world after making the choices of a run again.
    fn reach(&self, evaluator: &mut Evaluator<'_>, path: &[Step]) -> Result<World, Stop> {
        let mut world = World::new(evaluator, self.crashes);
        for step in path {
            world.take(evaluator, step)?;
        }
        Ok(world)
    }
}

impl RealEngine {
    /// Returns further delays after which the work of a step may finish. With each delay, the new
    /// timers get another position among the existing ones; each position is covered once.
    fn later(&self, evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Result<Vec<i64>, Stop> {
        let Some(first) = c.dues.first() else { return Ok(Vec::new()) };
        let most = c.until.map_or(*first, |until| until.min(*first)).saturating_sub(c.now);
        let mut world = self.reach(evaluator, &c.path)?;
        world.take(evaluator, step)?;
        let mut new = world.engine.dues();
        for due in &c.dues {
            if let Some(at) = new.iter().position(|known| known == due) {
                new.remove(at);
            }
        }
        let apart = new.iter().flat_map(|due| c.dues.iter().map(move |known| known.saturating_sub(*due)));
        let mut places: Vec<i64> = apart.filter(|delay| (1..most).contains(delay)).collect();
        places.push(most);
        places.sort_unstable();
        places.dedup();
        let between = |pair: &[i64]| pair[0] + (pair[1] - pair[0]) / 2;
        Ok(places.windows(2).map(between).collect())
    }
}

impl Config {
    /// Whether time must not pass now, in a test that controls the clock.
    fn holds_time(&self, program: &Program) -> bool {
        let prompt = |task: &UnderWay| program.is_prompt(&task.asked);
        program.facts.takes_the_clock && self.under_way.iter().any(prompt)
    }

    /// Whether time may pass until the next timer is due.
    fn may_elapse(&self, program: &Program) -> bool {
        !self.holds_time(program)
            && self.dues.first().is_some_and(|due| self.until.is_none_or(|until| *due < until))
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
            choices.extend((0..count).map(|outcome| Choice::Perform { at, outcome, after: 0 }));
        }
        if c.may_elapse(evaluator.program) {
            choices.push(Choice::Elapse);
        }
        for at in 0..c.orphans.len() {
            let all = world.late(evaluator, at)?;
            choices.extend(orphan::effects(&all).map(|outcome| Choice::Late { at, outcome }));
            choices.push(Choice::Lapse { at });
        }
        let mut steps: Vec<Step> = Vec::new();
        for choice in &choices {
            let whole = Step { choice: choice.clone(), crash: None };
            steps.push(whole.clone());
            if let Choice::Perform { at, outcome, .. } = *choice
                && !c.holds_time(evaluator.program)
            {
                let later = self.later(evaluator, c, &whole)?.into_iter();
                let choice = |after| Choice::Perform { at, outcome, after };
                steps.extend(later.map(|after| Step { choice: choice(after), crash: None }));
            }
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

    fn ample_set(&self, _: &mut Evaluator<'_>, _: &Config) -> Result<Option<Vec<(Step, Config)>>, Stop> {
        Ok(None)
    }

    fn fingerprint(&self, config: &Config) -> u128 {
        config.hash
    }

    fn trouble<'c>(&self, config: &'c Config) -> &'c [Anomaly] {
        &config.trouble
    }

    fn visible(&self, config: &Config, _: bool) -> u128 {
        config.hash
    }

    fn seen<'c>(&self, config: &'c Config) -> Seen<'c> {
        let mut seen = Seen::default();
        for known in &config.instances {
            let stand = Stand {
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

    fn has_ended(&self, config: &Config, id: &str) -> bool {
        config.instances.iter().any(|known| *known.id == *id && known.outcome.is_some())
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
            Choice::Perform { at, outcome, after } => {
                let Some(task) = c.under_way.get(*at) else {
                    return Shown { who: String::new(), what: String::new(), place: None };
                };
                let world = self.reach(evaluator, &c.path).ok();
                let done = world.and_then(|world| world.outcomes(evaluator, *at).ok());
                let gives = done.as_ref().and_then(|all| all.get(*outcome));
                let gives = gives.map(crate::model::tasks::gives).unwrap_or_default();
                let after = match after {
                    0 => String::new(),
                    after => format!(" after {}", crate::machine::format::duration(*after)),
                };
                let what = format!("{}{gives}{after}{crash}", describe(&task.asked));
                let place = Some(task.asked.place).filter(|place| *place != Default::default());
                Shown { who: task.who.clone(), what, place }
            }
            Choice::Elapse => {
                let passed = c.dues.first().map_or(0, |due| due.saturating_sub(c.now).max(0));
                let what = format!("{} pass{crash}", crate::machine::format::duration(passed));
                Shown { who: "time".into(), what, place: None }
            }
            Choice::Late { at, .. } => given_up(c.orphans.get(*at), "is done all the same"),
            Choice::Lapse { at } => given_up(c.orphans.get(*at), "is not done"),
            Choice::Begin => Shown { who: "durable".into(), what: format!("begins{crash}"), place: None },
            Choice::Crash => {
                Shown { who: "crash".into(), what: "the process dies, and begins again".into(), place: None }
            }
        }
    }

    fn choice(&self, c: &Config, step: &Step) -> Option<u128> {
        match &step.choice {
            Choice::Perform { at, outcome, .. } => {
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

/// Shows the fate of an attempt that was given up.
fn given_up(task: Option<&UnderWay>, what: &str) -> Shown {
    let Some(task) = task else { return Shown { who: String::new(), what: String::new(), place: None } };
    let place = Some(task.asked.place).filter(|place| *place != Default::default());
    Shown {
        who: task.who.clone(),
        what: format!("{}, which was given up, {what}", describe(&task.asked)),
        place,
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
            None if known.scheduled => "scheduled",
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
