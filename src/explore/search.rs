//! Breadth-first search. It reaches shortest schedules first, so every violation comes with a
//! shortest schedule. A limit on depth covers all schedules up to that length, as iterative
//! deepening does elsewhere.
//!
//! All threads explore the configurations of one depth and collect those of the next. Of a visited
//! configuration, the search keeps only the hash, the depth and its predecessor. It rebuilds a
//! schedule from the hashes by taking the steps again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use crate::machine::coverage;
use crate::model::notices::Notices;
use crate::model::observe::{wrong_at_rest, wrong_now};
use crate::model::{Evaluator, Model, Observation, Program, Stop, Violation};

use super::schedule::follow;
use super::visited::{Edges, Known, Visited, goes_round, lock};
use super::{Bound, Found, Limits, Progress, Report, Rounds, Searched, memory};

/// The approximate number of configurations that a thread takes at a time.
const CHUNK: usize = 64;
/// The number of steps between two checks of the memory.
const WATCH: u64 = 256;
/// The most configurations that can be numbered.
const MOST: u64 = u32::MAX as u64 - 1_000_000;

/// Configurations for one thread, with the position of the first one within its depth.
struct Chunk<C> {
    first: usize,
    configs: Vec<(u32, C)>,
}

/// Chunks of configurations of the next depth.
type Gathered<C> = Vec<Vec<(u32, C)>>;

/// The results of one thread at one depth.
struct Round<C> {
    depth: u32,
    next: Vec<(u32, C)>,
    /// The steps before the main instance has ended, and those after.
    before: Vec<(u32, u32)>,
    after: Vec<(u32, u32)>,
}

/// The configuration whose steps are being taken.
#[derive(Clone, Copy)]
struct Here {
    /// The configuration's position within its depth.
    at: usize,
    number: u32,
    /// Whether the main instance has ended.
    ended: bool,
}

/// The state that the threads of a search share.
struct Shared<'a, M: Model> {
    model: &'a M,
    limits: &'a Limits,
    visited: Visited,
    /// The configurations of this depth, and of the next. Each thread has lists of its own, so that
    /// it mostly leaves the memory of other threads alone.
    level: Vec<Mutex<VecDeque<Chunk<M::Config>>>>,
    next: Vec<Mutex<Gathered<M::Config>>>,
    /// All steps before the main instance has ended, and those after.
    before: Mutex<Edges>,
    after: Mutex<Edges>,
    /// Whether a step has led to a configuration that is not deeper.
    turned: AtomicBool,
    steps: AtomicU64,
    /// Whether to skip the rest of this depth.
    over: AtomicBool,
    /// Whether there is no further depth. Changes only while all threads wait.
    finished: AtomicBool,
    bound: Mutex<Option<Bound>>,
    stop: Mutex<Option<Stop>>,
    /// The position in this depth, the violation, and the configuration's number. The lowest
    /// position wins, so that every search finds the same violation.
    found: Mutex<Option<(usize, Violation, u32)>>,
    outcomes: Mutex<BTreeSet<Observation>>,
    notices: Mutex<Notices>,
    memory: AtomicU64,
    /// The memory of the process at the beginning of the search, in bytes.
    resident: u64,
}

impl<M: Model> Shared<'_, M> {
    fn found(&self, at: usize, violation: Violation, number: u32) {
        let mut found = lock(&self.found);
        if found.as_ref().is_none_or(|(known, ..)| at < *known) {
            *found = Some((at, violation, number));
        }
    }

    fn configurations(&self) -> u64 {
        u64::from(self.visited.count())
    }

    fn end(&self, bound: Bound) {
        lock(&self.bound).get_or_insert(bound);
        self.over.store(true, Ordering::Relaxed);
    }

    /// Ends the search if the memory is used up.
    fn watch(&self) {
        let resident = memory::resident();
        self.memory.fetch_max(resident, Ordering::Relaxed);
        if self.limits.are_reached(resident.saturating_sub(self.resident)) {
            self.end(Bound::Memory);
        }
    }

    /// Explores configurations of this depth until none are left.
    fn work(&self, evaluator: &mut Evaluator<'_>, me: usize, depth: usize) -> Result<(), Stop> {
        let (next, before, after) = (Vec::new(), Vec::new(), Vec::new());
        let mut round = Round { depth: depth as u32, next, before, after };
        let main = &evaluator.program.main.clone();
        while !self.over.load(Ordering::Relaxed) {
            let own = lock(&self.level[me]).pop_front();
            let other = || self.level.iter().find_map(|level| lock(level).pop_back());
            let Some(chunk) = own.or_else(other) else { break };
            for (at, (number, config)) in chunk.configs.iter().enumerate() {
                let ended = self.model.has_ended(config, main);
                let here = Here { at: chunk.first + at, number: *number, ended };
                self.expand(evaluator, here, config, &mut round)?;
                if round.next.len() >= CHUNK {
                    lock(&self.next[me]).push(std::mem::take(&mut round.next));
                }
            }
        }
        if !round.next.is_empty() {
            lock(&self.next[me]).push(round.next);
        }
        for (all, own) in [(&self.before, round.before), (&self.after, round.after)] {
            if !own.is_empty() {
                lock(all).push(own);
            }
        }
        Ok(())
    }

    /// Takes the steps of one configuration.
    fn expand(
        &self,
        evaluator: &mut Evaluator<'_>,
        here: Here,
        config: &M::Config,
        round: &mut Round<M::Config>,
    ) -> Result<(), Stop> {
        let enough = match self.limits.reduced {
            true => self.model.ample_set(evaluator, config)?,
            false => None,
        };
        if let Some(steps) = enough {
            let mut turns = false;
            for (_, reached) in steps {
                turns |= self.reach(evaluator, here, reached, round)?;
            }
            // A cycle could put the other steps off for ever. So on each cycle, some configuration
            // takes all steps.
            if !turns {
                return Ok(());
            }
        }
        let steps = self.model.enabled(evaluator, config)?;
        if steps.is_empty() {
            if self.limits.collect {
                lock(&self.outcomes).insert(self.model.seen(config).observe());
            } else if let Some(violation) = wrong_at_rest(self.model, evaluator, config)? {
                self.found(here.at, violation, here.number);
            }
            return Ok(());
        }
        for step in &steps {
            if self.configurations() >= self.limits.configurations.min(MOST) {
                self.end(Bound::Configurations);
            }
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            let reached = self.model.apply(evaluator, config, step)?;
            self.reach(evaluator, here, reached, round)?;
        }
        Ok(())
    }

    /// Adds a configuration that is reached from another. Returns whether the step leads back, to a
    /// configuration that is not deeper.
    fn reach(
        &self,
        evaluator: &mut Evaluator<'_>,
        from: Here,
        config: M::Config,
        round: &mut Round<M::Config>,
    ) -> Result<bool, Stop> {
        if self.steps.fetch_add(1, Ordering::Relaxed).is_multiple_of(WATCH) {
            self.watch();
        }
        let hash = self.model.fingerprint(&config);
        let (Known { number, depth, .. }, new) = self.visited.insert(hash, from.number, round.depth + 1);
        if !self.limits.collect {
            match from.ended {
                true => round.after.push((from.number, number)),
                false => round.before.push((from.number, number)),
            }
        }
        if !new {
            let turns = depth <= round.depth;
            if turns {
                self.turned.store(true, Ordering::Relaxed);
            }
            return Ok(turns);
        }
        match wrong_now(self.model, evaluator, &config)? {
            // A search that collects outcomes goes on.
            Some(violation) if !self.limits.collect => self.found(from.at, violation, number),
            _ => round.next.push((number, config)),
        }
        Ok(false)
    }
}

/// Searches everything that a program can do in a model.
pub fn search<M: Model>(
    model: &M,
    program: &Program,
    limits: &Limits,
    progress: Progress<'_>,
) -> Searched<M::Step> {
    let begun = Instant::now();
    coverage::take();
    let mut evaluator = Evaluator::new(program)?;
    let initial = model.initial(&mut evaluator)?;
    let first = model.fingerprint(&initial);
    let jobs = limits.jobs.max(1);
    let shared = Shared {
        model,
        limits,
        visited: Visited::new(),
        level: (0..jobs).map(|_| Mutex::default()).collect(),
        next: (0..jobs).map(|_| Mutex::default()).collect(),
        before: Mutex::default(),
        after: Mutex::default(),
        turned: AtomicBool::new(false),
        steps: AtomicU64::new(0),
        over: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        bound: Mutex::new(None),
        stop: Mutex::new(None),
        found: Mutex::new(None),
        outcomes: Mutex::default(),
        notices: Mutex::default(),
        memory: AtomicU64::new(memory::resident()),
        resident: memory::resident(),
    };
    shared.visited.insert(first, 0, 0);
    match wrong_now(model, &mut evaluator, &initial)? {
        Some(violation) if !limits.collect => shared.found(0, violation, 0),
        _ => lock(&shared.level[0]).push_back(Chunk { first: 0, configs: vec![(0, initial.clone())] }),
    }
    let barrier = Barrier::new(jobs);
    let depth = AtomicUsize::new(0);
    let left = AtomicU64::new(0);
    let worker = |mut evaluator: Result<&mut Evaluator<'_>, Stop>, me: usize| {
        loop {
            barrier.wait();
            if shared.finished.load(Ordering::Relaxed) {
                if let Ok(evaluator) = &mut evaluator {
                    let notices = std::mem::take(&mut evaluator.notices);
                    lock(&shared.notices).add(Notices { executed: coverage::take(), ..notices });
                }
                return;
            }
            let worked = match &mut evaluator {
                Ok(evaluator) => shared.work(evaluator, me, depth.load(Ordering::Relaxed)),
                Err(stop) => Err(stop.clone()),
            };
            if let Err(stop) = worked {
                lock(&shared.stop).get_or_insert(stop);
                shared.over.store(true, Ordering::Relaxed);
            }
            // Configurations of this depth that a limit left out count as waiting.
            if barrier.wait().is_leader() {
                shared.turn_the_page(&depth, &left);
            }
            if me == 0 {
                let waiting = shared.waiting() as u64;
                progress(shared.configurations(), waiting, depth.load(Ordering::Relaxed));
            }
        }
    };
    if !shared.ready_for_another(&depth, &left) {
        shared.finished.store(true, Ordering::Relaxed);
    }
    std::thread::scope(|scope| {
        for me in 1..jobs {
            let worker = &worker;
            scope.spawn(move || worker(Evaluator::new(program).as_mut().map_err(|stop| stop.clone()), me));
        }
        worker(Ok(&mut evaluator), 0);
    });
    if let Some(stop) = lock(&shared.stop).take() {
        return Err(stop);
    }
    let found = match lock(&shared.found).take() {
        Some((_, violation, number)) => {
            let way = shared.visited.way(number);
            let (schedule, _) = follow(model, &mut evaluator, initial, way)?;
            Some(Found { violation, schedule, cycle: Vec::new() })
        }
        None => None,
    };
    let bound = *lock(&shared.bound);
    let rounds = match found.is_none() && bound.is_none() {
        true => shared.rounds(),
        false => Rounds::default(),
    };
    Ok(Report {
        configurations: shared.configurations(),
        steps: shared.steps.load(Ordering::Relaxed),
        depth: depth.load(Ordering::Relaxed),
        left: left.load(Ordering::Relaxed),
        bound,
        notices: std::mem::take(&mut *lock(&shared.notices)),
        rounds,
        outcomes: std::mem::take(&mut *lock(&shared.outcomes)),
        found,
        took: begun.elapsed(),
        memory: shared.memory.load(Ordering::Relaxed),
    })
}

impl<M: Model> Shared<'_, M> {
    /// Begins the next depth or ends the search, when all threads have finished a depth.
    fn turn_the_page(&self, depth: &AtomicUsize, left: &AtomicU64) {
        let next = self.next.iter().map(|next| std::mem::take(&mut *lock(next)));
        if self.over.load(Ordering::Relaxed) {
            let next: usize = next.flatten().map(|configs| configs.len()).sum();
            left.store((self.waiting() + next) as u64, Ordering::Relaxed);
            self.finished.store(true, Ordering::Relaxed);
            return;
        }
        let mut first = 0;
        for (level, next) in self.level.iter().zip(next) {
            for configs in next {
                let chunk = Chunk { first, configs };
                first += chunk.configs.len();
                lock(level).push_back(chunk);
            }
        }
        if self.ready_for_another(depth, left) {
            depth.fetch_add(1, Ordering::Relaxed);
        } else {
            self.finished.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the number of configurations of this depth that are not yet explored.
    fn waiting(&self) -> usize {
        let waiting = |level: &Mutex<VecDeque<Chunk<M::Config>>>| -> usize {
            lock(level).iter().map(|chunk| chunk.configs.len()).sum()
        };
        self.level.iter().map(waiting).sum()
    }

    /// Whether to explore another depth. If not, records the unexplored configurations and the
    /// depth limit.
    fn ready_for_another(&self, depth: &AtomicUsize, left: &AtomicU64) -> bool {
        let waiting = self.waiting();
        if lock(&self.found).is_some() {
            left.store(waiting as u64, Ordering::Relaxed);
            return false;
        }
        if waiting > 0 && depth.load(Ordering::Relaxed) >= self.limits.depth {
            left.store(waiting as u64, Ordering::Relaxed);
            lock(&self.bound).get_or_insert(Bound::Depth);
            return false;
        }
        waiting > 0
    }

    /// Finds out whether there are cycles. There are none if every step leads to the next depth.
    fn rounds(&self) -> Rounds {
        if !self.turned.load(Ordering::Relaxed) {
            return Rounds::default();
        }
        let go_round =
            |edges: &Mutex<Edges>| goes_round(self.visited.count(), &std::mem::take(&mut *lock(edges)));
        Rounds { before: go_round(&self.before), after: go_round(&self.after) }
    }
}
