//! The explorer: all that a program can do, under every schedule.
//!
//! Invariant: what is reported as covered was looked at, and a limit that ended a search is named in its report. A
//! schedule that is shown leads to what is shown when it is taken again.

mod endless;
mod engine;
mod memory;
pub mod schedule;
mod search;
mod visited;
mod walk;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::notices::Notices;
use crate::model::{Observation, Stop, Violation};

pub use endless::{Goal, endless, goals};
pub use engine::RealEngine;
pub use engine::trial::{Trial, trial};
pub use search::search;
pub use walk::{Random, Walk, walk};

/// How far a search goes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Steps of one schedule, at most.
    pub depth: usize,
    /// Configurations, at most.
    pub configurations: u64,
    /// Memory that the search may take, in bytes, at most.
    pub memory: u64,
    /// Threads that search.
    pub jobs: usize,
    /// Whether steps are left out that change nothing but the order of what does not matter.
    pub reduced: bool,
    /// Whether the outcomes are gathered.
    pub collect: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth: usize::MAX,
            configurations: u64::MAX,
            memory: 2 << 30,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            reduced: true,
            collect: false,
        }
    }
}

impl Limits {
    /// Whether so many bytes are as many as a search may take: with a margin, for what it takes until it next looks.
    fn are_reached(&self, bytes: u64) -> bool {
        bytes > self.memory / 20 * 17
    }
}

/// What ended a search before all was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Depth,
    Configurations,
    Memory,
}

/// Whether steps lead back to where they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Before the main instance has ended.
    pub before: bool,
    /// After that.
    pub after: bool,
}

/// What a search has seen.
#[derive(Clone, Debug)]
pub struct Report<S> {
    /// Configurations, each once.
    pub configurations: u64,
    pub steps: u64,
    /// The steps of the longest of the shortest schedules to each configuration.
    pub depth: usize,
    /// Configurations that were reached and not looked further from.
    pub left: u64,
    /// None when all was seen.
    pub bound: Option<Bound>,
    /// When all was seen: whether there are schedules without an end.
    pub rounds: Rounds,
    pub outcomes: BTreeSet<Observation>,
    /// What was seen of the program.
    pub notices: Notices,
    pub found: Option<Found<S>>,
    pub took: Duration,
    /// The most memory that the process took, in bytes, where that is known.
    pub memory: u64,
}

/// A violation, and a schedule that leads to it.
#[derive(Clone, Debug)]
pub struct Found<S> {
    pub violation: Violation,
    pub schedule: Vec<S>,
    /// For one without an end: the steps that are taken for ever.
    pub cycle: Vec<S>,
}

/// Called with the configurations seen, those that wait, and the depth.
pub type Progress<'a> = &'a (dyn Fn(u64, u64, usize) + Sync);

/// What a search comes to: a report, or why there is none.
pub type Searched<S> = Result<Report<S>, Stop>;
