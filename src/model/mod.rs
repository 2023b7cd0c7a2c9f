//! The three models of *Durable Functions: Semantics for Stateful Serverless* (OOPSLA 2021) as small-step transition
//! systems over the machine.
//!
//! Invariant: nothing here knows of the engine, of a store or of real time. A configuration is a plain value; a step
//! is a choice among those that the rules allow; applying a step to a configuration gives one configuration, and
//! always the same. Two configurations that differ only in the past that led to them are equal.

pub mod compute_storage;
pub mod entity;
pub mod evaluate;
pub mod high_level;
pub mod instance;
mod interventions;
pub mod lives;
pub mod map;
pub mod message;
pub mod name;
mod names;
pub mod notices;
pub mod observe;
pub mod operator;
pub mod orphan;
mod pace;
pub mod part;
pub mod program;
pub mod record_replay;
pub mod reduce;
pub mod tasks;
pub mod timers;
mod zone;

use crate::machine::ErrorData;
use crate::syntax::Place;

pub use compute_storage::{ComputeStorage, Faults, Storage};
pub use evaluate::{Eval, Evaluator, Stop, View};
pub use high_level::HighLevel;
pub use instance::Anomaly;
pub use interventions::{Intervention, Interventions};
pub use observe::{Observation, Seen, Violation};
pub use program::{Mutation, Naming, Program, Subject};
pub use record_replay::RecordReplay;

/// When time begins, in nanoseconds since 1970.
pub const START: i64 = 1_700_000_000_000_000_000;

/// Steps of a model, with where they lead.
pub type Steps<M> = Vec<(<M as Model>::Step, <M as Model>::Config)>;

/// A small-step transition system.
pub trait Model: Sync + Sized {
    type Config: Clone + Send + Sync + View;
    type Step: Clone + PartialEq + std::fmt::Debug + Send + Sync;

    fn name(&self) -> &'static str;

    /// Where all runs begin.
    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Self::Config, Stop>;

    /// All steps that the rules allow, in an order that depends on the configuration alone.
    fn enabled(&self, evaluator: &mut Evaluator<'_>, config: &Self::Config) -> Result<Vec<Self::Step>, Stop>;

    /// Where a step leads.
    fn apply(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
        step: &Self::Step,
    ) -> Result<Self::Config, Stop>;

    /// Some of the steps, with where they lead, if it is enough to look at these; none when all have to be looked at.
    fn ample_set(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
    ) -> Result<Option<Steps<Self>>, Stop>;

    /// The hash of a configuration.
    fn fingerprint(&self, config: &Self::Config) -> u128;

    /// What should not have happened.
    fn trouble<'c>(&self, config: &'c Self::Config) -> &'c [Anomaly];

    /// A hash of all that properties can look at: the states of entities, and of instances if so said.
    fn visible(&self, config: &Self::Config, instances: bool) -> u128;

    /// What can be seen of it.
    fn seen<'c>(&self, config: &'c Self::Config) -> Seen<'c>;

    /// Whether an instance has come to its end.
    fn has_ended(&self, config: &Self::Config, id: &str) -> bool;

    /// The error with which an instance has failed.
    fn failure(&self, config: &Self::Config, id: &str) -> Option<ErrorData>;

    /// A step, for people.
    fn show(&self, evaluator: &mut Evaluator<'_>, config: &Self::Config, step: &Self::Step) -> Shown;

    /// What comes of a task by a step, when several things can.
    fn choice(&self, config: &Self::Config, step: &Self::Step) -> Option<u128>;

    /// Whose turn a step is. A run is fair when nobody whose turn it could be for ever never has it.
    fn agent(&self, step: &Self::Step) -> u128;
}

/// A step, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub who: String,
    pub what: String,
    pub place: Option<Place>,
}
