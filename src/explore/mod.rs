//! The explorer: everything that a program can do, under every schedule.
//!
//! Invariant: everything that is reported as covered was looked at, and the report names the limit
//! that ended a search. A schedule in a report leads to the reported violation when it is taken
//! again.

mod endless;
mod engine;
mod fork;
mod memory;
pub mod schedule;
mod search;
mod visited;
mod walk;
mod written;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::notices::Notices;
use crate::model::{Observation, Stop, Violation};

pub use endless::{Goal, endless, goals};
pub use engine::RealEngine;
pub use engine::trial::{Crash, Trial, trial};
pub use fork::{CannotFork, ForkAnswer, ForkEnd, ForkStep, Forked, Given, Source, fork, shown};
pub use search::search;
pub use walk::{Random, Walk, walk};
pub use written::written;

/// The limits and options of a search.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most steps of one schedule.
    pub depth: usize,
    /// The most configurations.
    pub configurations: u64,
    /// The most memory that the search may take, in bytes.
    pub memory: u64,
    /// The number of threads.
    pub jobs: usize,
    /// Whether to reduce the search to ample sets, which leave out only irrelevant orders of steps.
    pub reduced: bool,
    /// Whether to collect the outcomes. The search then reports no violations.
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
    /// Whether a search that takes so many bytes must end. The margin covers the growth until the
    /// next check.
    fn are_reached(&self, bytes: u64) -> bool {
        bytes > self.memory / 20 * 17
    }
}

/// The limit that ended a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Depth,
    Configurations,
    Memory,
}

/// Whether schedules can go round in cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// Whether there is a cycle before the main instance has ended.
    pub before: bool,
    /// Whether there is a cycle after that.
    pub after: bool,
}

/// The results of a search.
#[derive(Clone, Debug)]
pub struct Report<S> {
    /// The number of distinct configurations.
    pub configurations: u64,
    pub steps: u64,
    /// The greatest depth of a configuration, in steps of a shortest schedule to it.
    pub depth: usize,
    /// The number of configurations that were reached but not explored further.
    pub left: u64,
    /// The limit that ended the search, if one did.
    pub bound: Option<Bound>,
    /// Whether there are cycles; computed only if the search was complete.
    pub rounds: Rounds,
    pub outcomes: BTreeSet<Observation>,
    /// The notices about the program.
    pub notices: Notices,
    pub found: Option<Found<S>>,
    pub took: Duration,
    /// The peak memory of the process in bytes, or 0 if unknown.
    pub memory: u64,
}

/// A violation, and a schedule that leads to it.
#[derive(Clone, Debug)]
pub struct Found<S> {
    pub violation: Violation,
    pub schedule: Vec<S>,
    /// The steps that repeat for ever, for an infinite schedule.
    pub cycle: Vec<S>,
}

/// A callback that gets the number of configurations seen, the number waiting, and the depth.
pub type Progress<'a> = &'a (dyn Fn(u64, u64, usize) + Sync);

/// The result of a search: a report, or the reason why there is none.
pub type Searched<S> = Result<Report<S>, Stop>;
