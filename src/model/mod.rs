//! The three models of *Durable Functions: Semantics for Stateful Serverless* (OOPSLA 2021), as
//! small-step transition systems over the machine.
//!
//! Invariant: the models know nothing of the engine, of a store or of real time. A configuration is
//! a plain value, and a step is one of those that the rules allow. Applying a step to a
//! configuration always gives the same configuration. Two configurations that differ only in their
//! past are equal.

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
pub mod tasks;
pub mod timers;
pub mod view;
mod zone;

use crate::machine::ErrorData;
use crate::syntax::Place;

pub use compute_storage::{ComputeStorage, Faults, Storage};
pub use evaluate::{Eval, Evaluator, Stop};
pub use high_level::HighLevel;
pub use instance::Anomaly;
pub use interventions::{Intervention, Interventions};
pub use observe::{Observation, Seen, Violation};
pub use program::{Mutation, Naming, Program, Subject};
pub use record_replay::RecordReplay;
pub use view::View;

/// The beginning of time, in nanoseconds since 1970.
pub const START: i64 = 1_700_000_000_000_000_000;

/// Steps of a model, with the configurations that they lead to.
pub type Steps<M> = Vec<(<M as Model>::Step, <M as Model>::Config)>;

/// A small-step transition system.
pub trait Model: Sync + Sized {
    type Config: Clone + Send + Sync + View;
    type Step: Clone + PartialEq + std::fmt::Debug + Send + Sync;

    fn name(&self) -> &'static str;

    /// Returns the first configuration of all runs.
    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Self::Config, Stop>;

    /// Returns all steps that the rules allow, in an order that depends only on the configuration.
    fn enabled(&self, evaluator: &mut Evaluator<'_>, config: &Self::Config) -> Result<Vec<Self::Step>, Stop>;

    /// Returns the configuration that a step leads to.
    fn apply(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
        step: &Self::Step,
    ) -> Result<Self::Config, Stop>;

    /// Returns an ample set of steps, with the configurations that they lead to; `None` if all
    /// steps have to be explored.
    fn ample_set(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
    ) -> Result<Option<Steps<Self>>, Stop>;

    /// Returns the hash of a configuration.
    fn fingerprint(&self, config: &Self::Config) -> u128;

    /// Returns the anomalies of a configuration.
    fn trouble<'c>(&self, config: &'c Self::Config) -> &'c [Anomaly];

    /// Returns a hash of everything that properties can look at: the states of entities, and also
    /// instances if `instances` is set.
    fn visible(&self, config: &Self::Config, instances: bool) -> u128;

    /// Returns the visible part of a configuration.
    fn seen<'c>(&self, config: &'c Self::Config) -> Seen<'c>;

    /// Whether an instance has ended.
    fn has_ended(&self, config: &Self::Config, id: &str) -> bool;

    /// Returns the error of a failed instance.
    fn failure(&self, config: &Self::Config, id: &str) -> Option<ErrorData>;

    /// Describes a step for people.
    fn show(&self, evaluator: &mut Evaluator<'_>, config: &Self::Config, step: &Self::Step) -> Shown;

    /// Returns the outcome of a task that a step chooses, if several are possible.
    fn choice(&self, config: &Self::Config, step: &Self::Step) -> Option<u128>;

    /// Returns the agent that takes a step. In a fair run, an agent that could always take a step
    /// takes one at some time.
    fn agent(&self, step: &Self::Step) -> u128;
}

/// A step, described for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub who: String,
    pub what: String,
    pub place: Option<Place>,
}
