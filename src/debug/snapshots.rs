//! Snapshots of a replay, close together near the present and sparse far from it.

use std::collections::BTreeMap;

use super::position::Position;
use super::replay::Snapshot;

/// The most snapshots, and the most bytes of all of them together.
const MOST: usize = 512;
const MOST_BYTES: usize = 64 << 20;

/// The least work between two snapshots.
const LEAST_WORK: u64 = 8_192;

/// Snapshots by their ticks.
#[derive(Default)]
pub(super) struct Snapshots {
    all: BTreeMap<u64, Snapshot>,
    bytes: usize,
    /// The work since the last snapshot, and the size of that one.
    work: u64,
    last: usize,
}

impl Snapshots {
    /// Returns the last snapshot at or before a tick.
    pub fn before(&self, tick: u64) -> Option<(u64, &Snapshot)> {
        self.all.range(..=tick).next_back().map(|(tick, snapshot)| (*tick, snapshot))
    }

    /// Returns the tick of the last snapshot at or before a position.
    pub fn before_position(&self, position: Position) -> u64 {
        let mut before = self.all.iter().rev().filter(|(_, snapshot)| snapshot.position() <= position);
        before.next().map_or(0, |(tick, _)| *tick)
    }

    /// Whether a snapshot is due after some work. A large one is due less often, so that snapshots
    /// never take most of the time.
    pub fn is_due(&mut self, tick: u64, work: u64) -> bool {
        self.work += work;
        if self.work < LEAST_WORK.max(self.last as u64 / 2) {
            return false;
        }
        // There may be one from an earlier visit.
        let is_new = !self.all.contains_key(&tick);
        if !is_new {
            self.work = 0;
        }
        is_new
    }

    /// Returns the work after which the next snapshot is due.
    pub fn slice(&self) -> u64 {
        LEAST_WORK.max(self.last as u64 / 2).saturating_sub(self.work).max(1)
    }

    /// Notes that the replay stands at another moment, so that work begins anew.
    pub fn moved(&mut self) {
        self.work = 0;
    }

    /// Adds a snapshot, and removes others if there are too many.
    pub fn add(&mut self, tick: u64, snapshot: Snapshot) {
        self.work = 0;
        self.last = snapshot.bytes();
        self.bytes += self.last;
        if let Some(replaced) = self.all.insert(tick, snapshot) {
            self.bytes -= replaced.bytes();
        }
        while (self.all.len() > MOST || self.bytes > MOST_BYTES) && self.thin_out(tick) {}
    }

    /// Removes the snapshot whose gap is smallest for its distance from the present. Returns false
    /// if only the first and the last are left.
    fn thin_out(&mut self, now: u64) -> bool {
        let ticks: Vec<u64> = self.all.keys().copied().collect();
        let least = ticks.windows(3).min_by(|a, b| {
            let cost = |three: &[u64]| (three[2] - three[0]) as f64 / (now.abs_diff(three[1]) + 1) as f64;
            cost(a).total_cmp(&cost(b))
        });
        let Some(removed) = least.and_then(|three| self.all.remove(&three[1])) else { return false };
        self.bytes -= removed.bytes();
        true
    }
}
