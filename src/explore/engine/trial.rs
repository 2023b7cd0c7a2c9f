//! One run of a test on the real engine. Time passes when nothing else can happen. Each mock gives
//! its outcomes in turn, and the last one repeats.

use std::collections::{BTreeSet, HashMap};

use crate::builtins::{Effect, Route};
use crate::engine::StepId;
use crate::machine::{EntityId, RequestKind, format};
use crate::model::evaluate::{Chooser, Done, Moment};
use crate::model::observe::{Observation, broken, wrong_at_rest, wrong_now};
use crate::model::tasks;
use crate::model::{Evaluator, Model, Program, START, Stop, Violation};
use crate::syntax::tree::PropertyKind;

use super::super::walk::Random;
use super::RealEngine;
use super::world::{UnderWay, World, Worlds};

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The violation; `None` if the test passed.
    pub violation: Option<Violation>,
    /// The observation at the end of the run.
    pub observed: Observation,
    /// The printed and logged lines, in order.
    pub printed: Vec<String>,
    /// The number of crash points: one before and one after each commit.
    pub points: u32,
    /// The duration in the run's own time, in nanoseconds.
    pub lasted: i64,
    /// The activities that failed: their instances and the numbers of their requests.
    pub failed: BTreeSet<(String, u64)>,
}

/// The end of a test's process at a crash point. Point 1 is before the first commit, 2 after it,
/// and so on.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub at: u32,
    /// Whether an attempt that the crash breaks off counts, as it does outside of tests. Otherwise
    /// it is made again as if it had not begun.
    pub costs_attempt: bool,
}

/// The most steps of one run.
const MOST_STEPS: usize = 1_000_000;
/// The most steps after the end of the test, in which other instances may come to rest.
const MOST_STEPS_AFTER: usize = 10_000;

/// The outcomes of each mock in turn; the last one repeats. An attempt that is made again gets the
/// same choices again.
struct InTurn {
    taken: HashMap<String, usize>,
    random: Random,
    chosen: HashMap<StepId, Vec<u64>>,
}

/// The choices of one attempt.
struct Attempt<'c> {
    taken: &'c mut HashMap<String, usize>,
    random: &'c mut Random,
    chosen: &'c mut Vec<u64>,
    at: usize,
}

impl InTurn {
    fn new() -> InTurn {
        InTurn { taken: HashMap::new(), random: Random::new(1), chosen: HashMap::new() }
    }

    /// Returns the choices for an attempt, and whether this is the first time that it is made.
    fn attempt(&mut self, step: &StepId) -> (Attempt<'_>, bool) {
        let first = !self.chosen.contains_key(step);
        let chosen = self.chosen.entry(step.clone()).or_default();
        (Attempt { taken: &mut self.taken, random: &mut self.random, chosen, at: 0 }, first)
    }
}

impl Attempt<'_> {
    fn choose(&mut self, new: impl FnOnce(&mut Self) -> u64) -> u64 {
        if self.at == self.chosen.len() {
            let choice = new(self);
            self.chosen.push(choice);
        }
        self.at += 1;
        self.chosen[self.at - 1]
    }
}

impl Chooser for Attempt<'_> {
    fn outcome(&mut self, mock: &str, _: usize) -> usize {
        let next = |me: &mut Self| {
            let taken = me.taken.entry(mock.to_string()).or_default();
            *taken += 1;
            *taken as u64 - 1
        };
        self.choose(next) as usize
    }

    fn bits(&mut self) -> u64 {
        self.choose(|me| ((me.random.below(1 << 32) as u64) << 32) | me.random.below(1 << 32) as u64)
    }
}

/// Runs a test, and kills its process if a crash is given. An attempt that is made again after the
/// crash has the same result.
pub fn trial(program: &Program, crash: Option<Crash>) -> Result<Trial, Stop> {
    let mut evaluator = Evaluator::new(program)?;
    let mut world = World::new(&evaluator, crash.is_some().into());
    (world.crash, world.places) = (crash.map(|crash| crash.at), false);
    world.costs_attempts = crash.is_none_or(|crash| crash.costs_attempt);
    let mut chooser = InTurn::new();
    let ends = program.properties.iter().any(|property| property.kind == PropertyKind::Eventually);
    world.begin()?;
    world.drive(&mut evaluator)?;
    let mut after = 0;
    for steps in 0.. {
        if steps > MOST_STEPS {
            return Err(Stop::Endless);
        }
        after += usize::from(world.main_ended);
        if !world.trouble.is_empty() || after > MOST_STEPS_AFTER {
            break;
        }
        if let Some((step, task)) = world.under_way.pop_front() {
            let (mut attempt, first) = chooser.attempt(&world.uninterrupted(&step));
            let done = perform(&mut evaluator, &world, &step, &task, &mut attempt)?;
            if first {
                world.printed.extend(line(&task));
            }
            world.done(step, done);
        } else if let Some(due) = world.engine.next_due().filter(|_| !world.main_ended || ends) {
            world.now = world.now.max(due);
        } else {
            break;
        }
        world.drive(&mut evaluator)?;
    }
    let model = RealEngine { crashes: 0 };
    let config = world.config(Vec::new())?;
    let violation = match wrong_now(&model, &mut evaluator, &config)? {
        Some(violation) => Some(violation),
        None => match wrong_at_rest(&model, &mut evaluator, &config)? {
            // Other instances may wait for ever when the test has ended.
            Some(Violation::Deadlock { .. }) if world.main_ended => {
                broken(&model, &mut evaluator, &config, PropertyKind::Eventually)?
            }
            other => other,
        },
    };
    let observed = model.seen(&config).observe();
    let lasted = world.now - START;
    let failed = world.failed_activities()?;
    Ok(Trial { violation, observed, printed: world.printed, points: world.points, lasted, failed })
}

fn perform(
    evaluator: &mut Evaluator<'_>,
    world: &World,
    step: &StepId,
    task: &UnderWay,
    chooser: &mut Attempt<'_>,
) -> Result<Done, Stop> {
    let state = |id: &EntityId| world.world.get(id).cloned().flatten();
    if let RequestKind::Effect(effect) = task.asked.what
        && effect.route() == Route::Look
    {
        let seen = evaluator.look(&task.asked.what, &task.asked.args, &world.config(Vec::new())?);
        return Ok(Done::of(Some(crate::model::message::answer(Ok(seen)))));
    }
    let now = Moment { clock: vec![world.now], ..Moment::default() };
    let done = if task.asked.what == RequestKind::Effect(Effect::Status) {
        let config = world.config(Vec::new())?;
        tasks::outcome(evaluator, &task.task(), &now, &config, &state, chooser)
    } else {
        tasks::outcome(evaluator, &task.task(), &now, &Worlds(&world.world), &state, chooser)
    };
    done.map_err(|stop| match stop {
        // The place of the request is looked up only now.
        Stop::NoMock { request } if request.place == Default::default() => {
            let mut request = (*request).clone();
            if let crate::engine::Address::Instance(id) = &step.owner {
                request.place = world.place(id, step.seq).unwrap_or_default();
            }
            Stop::NoMock { request: crate::model::message::asked(request) }
        }
        stop => stop,
    })
}

/// Returns the line that the task writes, if it is a `print` or `log`.
fn line(task: &UnderWay) -> Option<String> {
    let args = task.asked.args.items();
    let text = |at: usize| args.get(at).map(format::display).unwrap_or_default();
    match task.asked.what {
        RequestKind::Effect(Effect::Print) => Some(text(0)),
        RequestKind::Effect(Effect::Log) => Some(format!("{}: {}", text(0), text(1))),
        _ => None,
    }
}
