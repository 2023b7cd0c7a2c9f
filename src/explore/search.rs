//! Breadth first search: shortest schedules come first, so what is found has a shortest schedule, and a bound on
//! depth covers all schedules up to it (what iterative deepening is for elsewhere).
//!
//! The configurations of one depth are looked at by all threads; those of the next depth are gathered meanwhile. Of a
//! configuration that was seen only its hash is kept, with the hash of the one that it was reached from; a schedule is
//! found again from these by taking the steps anew.

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

/// Configurations that a thread takes at a time, about.
const CHUNK: usize = 64;
/// The memory is looked at once in so many steps.
const WATCH: u64 = 256;
/// Numbers for configurations.
const MOST: u64 = u32::MAX as u64 - 1_000_000;

/// Configurations that one thread takes, with the place of the first in its depth.
struct Chunk<C> {
    first: usize,
    configs: Vec<(u32, C)>,
}

/// Configurations of the next depth, in chunks.
type Gathered<C> = Vec<Vec<(u32, C)>>;

/// What a thread gathers while it looks at the configurations of one depth.
struct Round<C> {
    depth: u32,
    next: Vec<(u32, C)>,
    /// The steps that were taken, before the main instance has ended and after that.
    before: Vec<(u32, u32)>,
    after: Vec<(u32, u32)>,
}

/// A configuration whose steps are taken.
#[derive(Clone, Copy)]
struct Here {
    /// Its place in its depth.
    at: usize,
    number: u32,
    /// Whether the main instance has ended.
    ended: bool,
}

/// What the threads of a search share.
struct Shared<'a, M: Model> {
    model: &'a M,
    limits: &'a Limits,
    visited: Visited,
    /// The configurations of this depth, and those of the next.
    /// Each thread's apart: one that takes its own leaves the others' memory alone.
    level: Vec<Mutex<VecDeque<Chunk<M::Config>>>>,
    next: Vec<Mutex<Gathered<M::Config>>>,
    /// All steps, before the main instance has ended and after that.
    before: Mutex<Edges>,
    after: Mutex<Edges>,
    /// Whether a step has led to a configuration that was not deeper.
    turned: AtomicBool,
    steps: AtomicU64,
    /// The rest of this depth is not looked at.
    over: AtomicBool,
    /// There is no other depth. Changes only while all threads wait.
    finished: AtomicBool,
    bound: Mutex<Option<Bound>>,
    stop: Mutex<Option<Stop>>,
    /// What was found, with the place in this depth, so that it is the same one each time; and the configuration.
    found: Mutex<Option<(usize, Violation, u32)>>,
    outcomes: Mutex<BTreeSet<Observation>>,
    notices: Mutex<Notices>,
    memory: AtomicU64,
    /// What the process had when the search began, in bytes.
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

    /// Ends the search when the memory is used up.
    fn watch(&self) {
        let resident = memory::resident();
        self.memory.fetch_max(resident, Ordering::Relaxed);
        if self.limits.are_reached(resident.saturating_sub(self.resident)) {
            self.end(Bound::Memory);
        }
    }

    /// Looks at configurations of this depth until there are no more.
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
            // Who goes round might leave the other steps out for ever: on each way round, all are taken somewhere.
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

    /// A configuration is reached from another; whether that is a turn back, to one that is not deeper.
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
            // When outcomes are wanted the search goes on.
            Some(violation) if !self.limits.collect => self.found(from.at, violation, number),
            _ => round.next.push((number, config)),
        }
        Ok(false)
    }
}

/// Searches all that a program can do in a model.
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
            // What a limit left of this depth counts as waiting.
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
    /// All threads are at the end of a depth: the next begins, or the search is over.
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

    /// Configurations of this depth that are still to be looked at.
    fn waiting(&self) -> usize {
        let waiting = |level: &Mutex<VecDeque<Chunk<M::Config>>>| -> usize {
            lock(level).iter().map(|chunk| chunk.configs.len()).sum()
        };
        self.level.iter().map(waiting).sum()
    }

    /// Whether there is another depth to look at.
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

    /// Whether schedules can go round. Steps that lead one deeper each time don't.
    fn rounds(&self) -> Rounds {
        if !self.turned.load(Ordering::Relaxed) {
            return Rounds::default();
        }
        let go_round =
            |edges: &Mutex<Edges>| goes_round(self.visited.count(), &std::mem::take(&mut *lock(edges)));
        Rounds { before: go_round(&self.before), after: go_round(&self.after) }
    }
}
