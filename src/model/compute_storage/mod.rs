//! The compute-storage model: compute may vanish at any moment, and only storage lasts.
//!
//! For each participant, storage keeps its state, a version, the messages that it has not taken,
//! and the messages that it has sent and that were not passed on. Compute reads one participant,
//! evaluates, and asks storage for one atomic step: the new state, the message taken, the messages
//! sent. Storage accepts the step if the version is still the one that was read. Whatever compute
//! holds may be lost at any moment, and is then computed again.
//!
//! The model is generic in the stored form of a running instance ([`Keep`]). Here it is the state
//! ([`States`]).

mod config;
mod rules;
mod show;

use std::fmt::Debug;
use std::hash::Hash;

use crate::machine::ErrorData;

use super::entity::Entity;
use super::evaluate::{Eval, Evaluator, Stop};
use super::instance::{Anomaly, Back, Instance, Turn};
use super::interventions::Intervention;
use super::message::{EntityName, Id, Mail, Name};
use super::observe::{self, Seen};
use super::orphan;
use super::part::{Part, fingerprint};
use super::program::Mutation;
use super::timers::TimerId;
use super::{Model, Shown};

pub use config::{Config, Stored, Unrecorded};

/// The stored form of a running instance.
pub trait Keep: Sync + Send + Copy + 'static {
    type State: Clone + Debug + Eq + Hash + Send + Sync;

    const NAME: &'static str;

    /// **read**: returns the instance in a form that can be resumed.
    fn read(
        evaluator: &mut Evaluator<'_>,
        id: &Id,
        kept: &Instance<Self::State>,
    ) -> Result<Instance<Eval>, Stop>;

    /// Returns the stored form after a turn. `before` is the stored form before the turn, or `None`
    /// at the beginning.
    fn keep(before: Option<&Instance<Self::State>>, mail: &Mail, turn: &Turn) -> Instance<Self::State>;

    /// Returns the stored form of an instance that was rewound.
    fn keep_rewound(before: Instance<Eval>, back: Back, turn: &Turn) -> Instance<Self::State>;
}

/// Storage that keeps states.
#[derive(Clone, Copy, Debug)]
pub struct States;

impl Keep for States {
    type State = Eval;

    const NAME: &'static str = "compute-storage";

    fn read(_: &mut Evaluator<'_>, _: &Id, kept: &Instance<Eval>) -> Result<Instance<Eval>, Stop> {
        Ok(kept.clone())
    }

    fn keep(_: Option<&Instance<Eval>>, _: &Mail, turn: &Turn) -> Instance<Eval> {
        (*turn.instance).clone()
    }

    fn keep_rewound(_: Instance<Eval>, _: Back, turn: &Turn) -> Instance<Eval> {
        (*turn.instance).clone()
    }
}

/// A participant that compute has read and not yet committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Work<S> {
    pub read: Read<S>,
    /// Whether storage has another version by now. Nothing else about versions matters, so they
    /// have no numbers here.
    pub overtaken: bool,
    /// Whether the messages of the step have left already: a mutation.
    released: bool,
}

/// A participant as compute has read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Read<S> {
    Instance {
        id: Id,
        kept: Part<Stored<Instance<S>>>,
    },
    /// An entity that takes a message from its inbox, or has its turn.
    Entity {
        id: EntityName,
        kept: Part<Stored<Entity>>,
        turn: bool,
    },
}

/// The number of faults of each kind that may happen in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Crashes, in which compute vanishes.
    pub crashes: u32,
    /// Reads of a participant that is read already, and repeated executions of a task.
    pub slow: u32,
    /// Messages that are passed on twice.
    pub duplicates: u32,
}

/// A step that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageStep {
    Transfer {
        from: Name,
        to: Name,
        again: bool,
    },
    Read {
        who: Name,
        /// Whether an entity has its turn.
        turn: bool,
    },
    /// Commits a step, with the outcome of this number.
    Commit {
        work: u128,
        outcome: usize,
    },
    Refuse {
        work: u128,
    },
    Perform {
        instance: Id,
        seq: u64,
        outcome: usize,
    },
    Record {
        result: u128,
    },
    Elapse {
        timer: TimerId,
    },
    /// An attempt that was given up happens after all, with the outcome of this number.
    Late {
        orphan: u128,
        outcome: usize,
    },
    /// An attempt that was given up will not happen.
    Lapse {
        orphan: u128,
    },
    /// The operator intervenes.
    Intervene(Intervention),
    Crash,
}

/// The model, with the number of faults that may happen.
#[derive(Clone, Copy, Debug)]
pub struct Storage<K> {
    pub faults: Faults,
    pub keep: K,
}

pub type ComputeStorage = Storage<States>;

impl<S> Read<S> {
    fn who(&self) -> Name {
        match self {
            Read::Instance { id, .. } => Name::Instance(id.clone()),
            Read::Entity { id, .. } => Name::Entity(id.clone()),
        }
    }

    pub(super) fn is_of(&self, who: &Name) -> bool {
        match (self, who) {
            (Read::Instance { id, .. }, Name::Instance(other)) => id == other,
            (Read::Entity { id, .. }, Name::Entity(other)) => id == other,
            _ => false,
        }
    }
}

impl<K: Keep> Model for Storage<K> {
    type Config = Config<K::State>;
    type Step = StorageStep;

    fn name(&self) -> &'static str {
        K::NAME
    }

    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Self::Config, Stop> {
        Ok(self.begin(evaluator))
    }

    fn enabled(&self, evaluator: &mut Evaluator<'_>, c: &Self::Config) -> Result<Vec<StorageStep>, Stop> {
        let mut steps = Vec::new();
        for work in &c.work {
            if work.overtaken && evaluator.program.mutation != Mutation::NoRefusal {
                steps.push(StorageStep::Refuse { work: work.mark() });
                continue;
            }
            let count = self.count(evaluator, c, &work.read)?;
            steps.extend((0..count).map(|outcome| StorageStep::Commit { work: work.mark(), outcome }));
        }
        let may_read = |who: &Name| c.faults.slow > 0 || !c.work.iter().any(|work| work.read.is_of(who));
        for (id, stored) in &c.instances {
            let who = Name::Instance(id.clone());
            if !stored.inbox.is_empty() && may_read(&who) {
                steps.push(StorageStep::Read { who, turn: false });
            }
        }
        for (id, stored) in &c.entities {
            let who = Name::Entity(id.clone());
            if !may_read(&who) {
                continue;
            }
            if !stored.inbox.is_empty() {
                steps.push(StorageStep::Read { who: who.clone(), turn: false });
            }
            if stored.state.as_ref().is_some_and(|entity| entity.next().is_some()) {
                steps.push(StorageStep::Read { who, turn: true });
            }
        }
        for (from, to) in c.outbox.keys() {
            steps.push(StorageStep::Transfer { from: from.clone(), to: to.clone(), again: false });
            if c.faults.duplicates > 0 {
                steps.push(StorageStep::Transfer { from: from.clone(), to: to.clone(), again: true });
            }
        }
        for (instance, seq) in c.tasks.keys() {
            let performed = c.results.iter().any(|result| result.is_of(instance, *seq));
            if performed && c.faults.slow == 0 {
                continue;
            }
            let count = c.outcomes(evaluator, instance, *seq)?.len();
            let step = |outcome| StorageStep::Perform { instance: instance.clone(), seq: *seq, outcome };
            steps.extend((0..count).map(step));
        }
        steps.extend(c.results.iter().map(|result| StorageStep::Record { result: result.mark() }));
        if !(evaluator.program.facts.takes_the_clock && c.is_busy(evaluator.program)) {
            let in_order = evaluator.program.mutation != Mutation::NoOrderOfTimers;
            steps.extend(c.timers.next(in_order).map(|timer| StorageStep::Elapse { timer }));
        }
        for orphan in orphan::different(&c.orphans) {
            let all = c.attempted(evaluator, &orphan.task)?;
            let mark = orphan.mark();
            steps.extend(orphan::effects(&all).map(|outcome| StorageStep::Late { orphan: mark, outcome }));
            if evaluator.program.mutation != Mutation::NoLapse {
                steps.push(StorageStep::Lapse { orphan: mark });
            }
        }
        let interventions = c.interventions(evaluator)?.into_iter().map(StorageStep::Intervene);
        // The operator need not intervene. That is settled when nothing else can happen.
        let leaves = steps.is_empty() && !c.left.is_none();
        steps.extend(interventions.chain(leaves.then_some(StorageStep::Intervene(Intervention::Leave))));
        if c.faults.crashes > 0 && !(c.work.is_empty() && c.results.is_empty()) {
            steps.push(StorageStep::Crash);
        }
        Ok(steps)
    }

    fn apply(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
        step: &StorageStep,
    ) -> Result<Self::Config, Stop> {
        let mut c = config.clone();
        let work = |hash: &u128| config.work.iter().find(|work| work.mark() == *hash);
        match step {
            StorageStep::Transfer { from, to, again } => self.transfer(evaluator, &mut c, from, to, *again),
            StorageStep::Read { who, turn } => self.read(evaluator, &mut c, who, *turn)?,
            StorageStep::Commit { work: hash, outcome } => {
                if let Some(work) = work(hash) {
                    self.commit(evaluator, &mut c, work, *outcome)?;
                }
            }
            StorageStep::Refuse { work: hash } => {
                if let Some(work) = work(hash) {
                    if evaluator.program.mutation == Mutation::RefusedIsLost {
                        c.lose(&work.read.who());
                    }
                    self.refuse(&mut c, work);
                }
            }
            StorageStep::Perform { instance, seq, outcome } => {
                self.perform(evaluator, &mut c, instance, *seq, *outcome)?
            }
            StorageStep::Record { result } => self.record(evaluator.program, &mut c, *result),
            StorageStep::Elapse { timer } => self.elapse(evaluator.program, &mut c, timer),
            StorageStep::Late { orphan, outcome } => self.late(evaluator, &mut c, *orphan, *outcome)?,
            StorageStep::Lapse { orphan } => self.lapse(&mut c, *orphan),
            StorageStep::Intervene(intervention) => self.intervene(evaluator, &mut c, intervention)?,
            StorageStep::Crash => self.crash(evaluator.program, &mut c),
        }
        if evaluator.program.mutation != Mutation::NoWork {
            c.let_time_pass(evaluator.program);
        }
        Ok(c)
    }

    fn ample_set(
        &self,
        _: &mut Evaluator<'_>,
        _: &Self::Config,
    ) -> Result<Option<Vec<(StorageStep, Self::Config)>>, Stop> {
        Ok(None)
    }

    fn fingerprint(&self, config: &Self::Config) -> u128 {
        fingerprint(config)
    }

    fn seen<'c>(&self, config: &'c Self::Config) -> Seen<'c> {
        let mut seen = Seen::default();
        for (id, stored) in &config.instances {
            if let Some(instance) = &stored.state {
                seen.instances.push((id, observe::stand(instance)));
            }
        }
        for (id, stored) in &config.entities {
            if let Some(entity) = &stored.state {
                seen.entities.push((id, entity));
            }
        }
        seen
    }

    fn trouble<'c>(&self, config: &'c Self::Config) -> &'c [Anomaly] {
        &config.trouble
    }

    fn visible(&self, c: &Self::Config, instances: bool) -> u128 {
        let states = c
            .entities
            .iter()
            .filter_map(|(id, stored)| Some((id, stored.state.as_ref()?.state.as_ref()?.mark())));
        match instances {
            true => fingerprint(&(states.collect::<Vec<_>>(), &c.instances)),
            false => fingerprint(&states.collect::<Vec<_>>()),
        }
    }

    fn has_ended(&self, config: &Self::Config, id: &str) -> bool {
        config
            .instances
            .get(id)
            .is_some_and(|kept| kept.state.as_ref().is_some_and(|state| state.has_ended()))
    }

    fn failure(&self, config: &Self::Config, id: &str) -> Option<ErrorData> {
        config.instances.get(id)?.state.as_ref()?.failure()
    }

    fn show(&self, evaluator: &mut Evaluator<'_>, c: &Self::Config, step: &StorageStep) -> Shown {
        self.shown(evaluator, c, step)
    }

    fn choice(&self, c: &Self::Config, step: &StorageStep) -> Option<u128> {
        match step {
            StorageStep::Perform { instance, seq, outcome } => {
                let task = c.tasks.get(&(instance.clone(), *seq))?;
                Some(fingerprint(&(instance, task.asked.mark(), outcome)))
            }
            _ => None,
        }
    }

    fn agent(&self, step: &StorageStep) -> u128 {
        match step {
            StorageStep::Commit { work, .. } | StorageStep::Refuse { work } => fingerprint(&("work", work)),
            StorageStep::Perform { instance, seq, .. } => fingerprint(&("task", instance, seq)),
            StorageStep::Elapse { timer: (to, _) } => fingerprint(&("clock", to)),
            StorageStep::Late { orphan, .. } | StorageStep::Lapse { orphan } => {
                fingerprint(&("late", orphan))
            }
            other => fingerprint(other),
        }
    }
}
