//! The measurements that a host makes of itself.
//!
//! A measurement costs some tens of nanoseconds, and is made only where something leaves the engine:
//! a batch, an activity, an effect on the outside, a timer, an instance that is read back.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The measurements of a host. Clones share them.
#[derive(Clone)]
pub struct Measures {
    /// The seconds of commits.
    pub commits: Histogram,
    /// The seconds of activities, and of effects on the outside.
    pub steps: Family<Kind, Histogram>,
    /// Attempts after the first ones.
    pub retries: Counter,
    /// The seconds by which timers were late.
    pub timer_lag: Histogram,
    /// The seconds that instances took to be where they were, when they were read back.
    pub replays: Histogram,
    /// The commands that wait for the engine.
    pub queue: Gauge,
}

/// The kind of a step: `activity`, or the name of an effect.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Kind {
    pub kind: &'static str,
}

/// Returns a histogram from a tenth of a millisecond to some seven minutes.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 12))
}

impl Default for Measures {
    fn default() -> Measures {
        Measures {
            commits: seconds(),
            steps: Family::new_with_constructor(seconds),
            retries: Counter::default(),
            timer_lag: seconds(),
            replays: seconds(),
            queue: Gauge::default(),
        }
    }
}

/// The largest number of instances whose replay is measured at a time.
const MOST_REPLAYS: usize = 64;

/// The running steps, with the times at which they began.
#[derive(Default)]
pub(super) struct Watches {
    begun: HashMap<u64, (&'static str, Instant)>,
}

impl Watches {
    /// Notes that a step begins.
    pub(super) fn begin(&mut self, ticket: u64, kind: &'static str) {
        self.begun.insert(ticket, (kind, Instant::now()));
    }

    /// Notes that a step is done.
    pub(super) fn end(&mut self, ticket: u64, measures: &Measures) {
        if let Some((kind, begun)) = self.begun.remove(&ticket) {
            measures.steps.get_or_create(&Kind { kind }).observe(begun.elapsed().as_secs_f64());
        }
    }

    /// Drops a step that was broken off.
    pub(super) fn forget(&mut self, ticket: u64) {
        self.begun.remove(&ticket);
    }
}

/// The instances that are read back, with the time that this has taken so far.
#[derive(Default)]
pub(super) struct Replays {
    begun: HashMap<String, Duration>,
}

impl Replays {
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Notes that an instance was read, which took some time.
    pub(super) fn read(&mut self, id: &str, took: Duration) {
        // An instance that is read for a message alone has no turn.
        if self.begun.len() >= MOST_REPLAYS {
            self.begun.clear();
        }
        self.begun.insert(id.into(), took);
    }

    /// Notes the first turn of an instance, in which it replays its history.
    pub(super) fn ran(&mut self, id: &str, took: Duration, measures: &Measures) {
        if let Some(read) = self.begun.remove(id) {
            measures.replays.observe((read + took).as_secs_f64());
        }
    }
}
