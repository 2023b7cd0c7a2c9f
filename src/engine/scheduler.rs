//! The scheduler: ready instances and entities, timers, and the time.

use std::rc::Rc;
use std::sync::Arc;

use crate::kv::Batch;
use crate::machine::EntityId;

use super::instance::Instance;
use super::keys;
use super::message::Mail;
use super::quotas::Uses;
use super::timers::{Timer, Timers};
use super::turns::Turns;

/// An instance or an entity that can run.
pub(super) enum Ready {
    Instance(Arc<str>),
    Entity(Rc<EntityId>),
}

/// A timer that was due when it was set: its time, instance, request and kind.
type Overdue = (i64, Arc<str>, u64, Timer);

/// The ready instances and entities, the timers, and the time.
///
/// Invariant: time never goes back. Everything that is due at a time happens before anything else
/// at that time.
pub(super) struct Scheduler {
    pub ready: Turns<Ready>,
    /// The timers of requests, each with the life of its instance.
    pub timers: Timers<(Arc<str>, u64), (u64, Timer)>,
    overdue: Vec<Overdue>,
    /// Delayed signals.
    pub delayed: Timers<(Rc<EntityId>, u64), Rc<Mail>>,
    /// The time of the present event, in nanoseconds since 1970.
    pub now: i64,
    /// Whether the store has that time.
    is_time_written: bool,
    /// The fuel that all turns have used.
    pub fuel: u64,
}

impl Default for Scheduler {
    fn default() -> Scheduler {
        Scheduler {
            ready: Turns::default(),
            timers: Timers::default(),
            overdue: Vec::new(),
            delayed: Timers::default(),
            now: 0,
            is_time_written: true,
            fuel: 0,
        }
    }
}

impl Scheduler {
    // ---- time

    /// Advances to a time, unless it has passed, and returns the present time.
    pub fn reach(&mut self, time: i64) -> i64 {
        if time > self.now {
            (self.now, self.is_time_written) = (time, false);
        }
        self.now
    }

    /// Advances to the time of a store.
    pub fn recover(&mut self, time: i64) {
        self.reach(time);
        self.is_time_written = self.now == time;
    }

    /// Adds the time to a batch that is not empty, if the store does not have that time.
    pub fn take_writes(&mut self, batch: &mut Batch) {
        if !batch.is_empty() && !std::mem::replace(&mut self.is_time_written, true) {
            batch.put(keys::TIME.to_vec(), self.now.to_be_bytes().to_vec());
        }
    }

    // ---- timers

    /// Returns when the next timer is due, in nanoseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        [self.timers.next(), self.delayed.next()].into_iter().flatten().min()
    }

    /// Returns when each timer is due, in order.
    pub fn dues(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.timers.all().chain(self.delayed.all()).collect();
        all.sort_unstable();
        all
    }

    /// Sets a timer. A timer that is due already fires at once, so that an instance that was read
    /// for it goes on before it is dropped again.
    pub fn set_timer(&mut self, due: i64, id: &Arc<str>, life: u64, seq: u64, timer: Timer) {
        self.timers.set(due, (id.clone(), seq), (life, timer));
        if due <= self.now {
            self.overdue.push((due, id.clone(), seq, timer));
        }
    }

    pub fn clear_timer(&mut self, id: &Arc<str>, seq: u64) {
        self.timers.clear(&(id.clone(), seq));
    }

    /// Takes the timers that were due when they were set. The earliest comes first, however late
    /// the engine sees them.
    pub fn take_overdue(&mut self) -> Vec<Overdue> {
        let mut overdue = std::mem::take(&mut self.overdue);
        overdue.sort_by_key(|(due, ..)| *due);
        overdue
    }

    // ---- turns

    /// Gives an instance a turn, unless it is queued for one.
    pub fn wake(&mut self, id: &Arc<str>, instance: &mut Instance, uses: &Uses) {
        if !instance.residency.wake() {
            return;
        }
        let root = match instance.has_ended() {
            // The instance may not be under way any more.
            true => uses.root(id).unwrap_or(id),
            false => &instance.root,
        };
        debug_assert!(instance.has_ended() || uses.root(id) == Some(root), "who can run is under way");
        self.ready.push(root, Ready::Instance(id.clone()));
    }

    /// Adds fuel that was used.
    pub fn spend(&mut self, fuel: u64) {
        self.fuel = self.fuel.saturating_add(fuel);
    }
}
