//! Provenance: the requests whose answers an error is.
//!
//! An error that answers a request carries the request's number in its trace: through `finally`,
//! tasks, `await`, `all`, `any` and `race`. A handler gives the program the error's value, which
//! has no room for the number. So the machine knows caught errors by the addresses of their values.
//! An error that is thrown again is the same error. An equal one that the program made is not.
//! Numbers, bools and null have no address, so one that is thrown again counts as the program's
//! own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::error::{Fail, Failure, Trace};
use super::value::{Blob, List, Outcome, Record, Task, Text, Value};
use super::{Machine, Wait};
use crate::internal::sure;

/// The numbers of requests.
pub(super) type Requests = Vec<u64>;

/// A weak reference to the value of a caught error.
#[derive(Debug)]
enum Kept {
    Text(Weak<Text>),
    List(Weak<List>),
    Record(Weak<Record>),
    Bytes(Weak<Blob>),
}

impl Kept {
    fn of(value: &Value) -> Option<Kept> {
        Some(match value {
            // Strings of one character are shared, so an address does not identify one.
            Value::Str(text) if text.as_str().len() > 1 => Kept::Text(Rc::downgrade(text)),
            Value::List(list) => Kept::List(Rc::downgrade(list)),
            Value::Record(record) => Kept::Record(Rc::downgrade(record)),
            Value::Bytes(blob) => Kept::Bytes(Rc::downgrade(blob)),
            _ => return None,
        })
    }

    fn is_alive(&self) -> bool {
        let count = match self {
            Kept::Text(value) => value.strong_count(),
            Kept::List(value) => value.strong_count(),
            Kept::Record(value) => value.strong_count(),
            Kept::Bytes(value) => value.strong_count(),
        };
        count > 0
    }
}

/// The number of caught errors at which dead ones are removed. Twice the survivors of the last
/// removal are added to it.
const FEW: usize = 16;
/// The number of useless errors at which those that can't be thrown again are removed.
const MANY: usize = 64;

/// The requests whose errors are under way in a machine or were handled.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    caught: HashMap<*const u8, (Kept, Requests)>,
    /// The number of caught errors after dead ones were last removed.
    alive: usize,
    /// The requests whose errors no handler has taken.
    unhandled: BTreeSet<u64>,
    /// Requests whose errors nobody gets, each with the request whose error an `all` threw in their
    /// place. The former count as handled when the latter does.
    useless: BTreeMap<u64, u64>,
    /// The request that was answered last.
    pub last: Option<u64>,
    /// The requests whose error ended the run.
    pub fatal: Requests,
    /// Whether nothing is recorded, since the state must not depend on the past.
    pub is_off: bool,
}

impl Provenance {
    /// Records that a request was answered.
    pub fn answered(&mut self, request: u64) {
        self.last = Some(request).filter(|_| !self.is_off);
    }

    /// Returns the provenance of an error that answers a request.
    pub fn from(&self, request: u64) -> Requests {
        if self.is_off { Requests::new() } else { vec![request] }
    }

    /// Records a thrown failure. Returns the argument of `caught`, should a handler take the
    /// failure.
    #[cold]
    pub fn thrown(&mut self, failure: &Failure) -> Option<(Value, Requests)> {
        let trace = failure.trace.as_ref().filter(|trace| !trace.requests.is_empty())?;
        for request in &trace.requests {
            self.useless.remove(request);
            self.unhandled.insert(*request);
        }
        Some((failure.value.clone(), trace.requests.clone()))
    }

    /// Records that a handler has taken an error.
    #[cold]
    pub fn caught(&mut self, (value, requests): (Value, Requests)) {
        self.handled(&requests);
        let (Some(kept), Some(at)) = (Kept::of(&value), value.address()) else { return };
        self.caught.insert(at, (kept, requests));
        drop(value);
        if self.caught.len() >= FEW + 2 * self.alive {
            self.caught.retain(|_, (kept, _)| kept.is_alive());
            self.alive = self.caught.len();
        }
    }

    /// Records that the errors of requests are handled, unless they are thrown again.
    pub fn handled(&mut self, requests: &[u64]) {
        for request in requests {
            self.useless.remove(request);
            self.unhandled.remove(request);
        }
    }

    /// Returns the requests whose errors were not handled.
    fn all_unhandled(&self) -> BTreeSet<u64> {
        let useless = self.useless.iter().filter(|(_, first)| self.unhandled.contains(first));
        self.unhandled.iter().chain(useless.map(|(request, _)| request)).copied().collect()
    }

    /// Makes the failure of a value that the program throws.
    #[cold]
    pub fn failure(&self, value: Value) -> Fail {
        let known = value.address().and_then(|at| self.caught.get(&at)).filter(|(kept, _)| kept.is_alive());
        let trace = known.map(|(_, requests)| Rc::new(Trace::from_requests(requests.clone())));
        Box::new(Failure { value, trace })
    }

    /// Records the failure of a task that nobody waits for any more. The error counts as unhandled
    /// only while the error of `first` does.
    fn useless(&mut self, requests: &[u64], first: Option<u64>) {
        if self.useless.len() >= MANY {
            let of =
                |first: &u64| self.caught.values().any(|(kept, of)| kept.is_alive() && of.contains(first));
            self.useless.retain(|_, first| self.unhandled.contains(first) || of(first));
        }
        self.handled(requests);
        if let Some(first) = first {
            let first = self.useless.get(&first).copied().unwrap_or(first);
            self.useless.extend(requests.iter().map(|request| (*request, first)));
        }
    }
}

impl Trace {
    /// Makes the trace of an error that no frame has passed on yet.
    pub(super) fn from_requests(requests: Requests) -> Trace {
        Trace { requests, ..Trace::default() }
    }
}

/// Returns the requests that a failure comes from.
fn requests(failure: &Failure) -> &[u64] {
    failure.trace.as_ref().map_or(&[], |trace| &trace.requests)
}

/// Gives the error that stands for those of several tasks the provenance of all of them.
pub(super) fn joined(mut failure: Fail, tasks: &[Rc<Task>]) -> Fail {
    let all = requests_of(tasks);
    if !all.is_empty() {
        failure.trace = Some(Rc::new(Trace::from_requests(all)));
    }
    failure
}

/// Like [`joined`], for an error that keeps its trace.
pub(super) fn with_all(mut failure: Fail, tasks: &[Rc<Task>]) -> Fail {
    match &mut failure.trace {
        Some(trace) => Rc::make_mut(trace).requests = requests_of(tasks),
        None => return joined(failure, tasks),
    }
    failure
}

/// Returns the requests that the errors of failed tasks come from.
fn requests_of(tasks: &[Rc<Task>]) -> Requests {
    let mut all = Requests::new();
    for task in tasks {
        if let Outcome::Failed(own) = &*task.outcome.borrow() {
            all.extend(requests(own));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Records that an `all` has thrown the error of one task. The errors of its other tasks count only
/// while that one does.
pub(super) fn make_useless(tasks: &[Rc<Task>], result: &Result<Value, Fail>) {
    let Err(thrown) = result else { return };
    for task in tasks.iter().filter(|task| !task.is_settled()) {
        task.useless_by.set(requests(thrown).first().copied());
    }
}

impl Machine {
    /// Records that a task has failed, and whether anybody waited for it.
    pub(super) fn task_failed(&mut self, task: &Rc<Task>, failure: &Failure, waited_for: bool) {
        let from = requests(failure);
        if !from.is_empty() && !waited_for && task.observed.get() && !Rc::ptr_eq(task, &self.main) {
            self.provenance.useless(from, task.useless_by.get());
        }
    }

    /// Records that nobody needs the outcome of a settled task any more.
    pub(super) fn forget_failure(&mut self, task: &Task) {
        if let Outcome::Failed(failure) = &*task.outcome.borrow() {
            self.provenance.handled(requests(failure));
        }
    }

    /// Executes `expired(error)`: makes an error that comes from the request that was answered
    /// last.
    pub(super) fn expired(&self, value: Value) -> Fail {
        let requests = self.provenance.last.into_iter().collect();
        Box::new(Failure { value, trace: Some(Rc::new(Trace::from_requests(requests))) })
    }

    /// Returns the requests whose error ended the run. There are none if the program threw the
    /// error.
    pub fn failed_by(&self) -> &[u64] {
        &self.provenance.fatal
    }

    /// Returns the requests whose errors no handler has taken.
    pub fn unhandled(&self) -> Vec<u64> {
        self.provenance.all_unhandled().into_iter().collect()
    }

    /// Returns whether the machine holds the entities of a critical section.
    pub fn is_in_section(&self) -> bool {
        self.held().is_some()
    }

    /// Returns the entities of the critical section that the machine holds.
    pub fn held_entities(&self) -> &[super::EntityId] {
        self.held().map_or(&[], |section| &section.entities)
    }

    /// Returns the entities of the critical section that was left last, in this process.
    pub fn left_entities(&self) -> &[super::EntityId] {
        &self.left
    }

    /// Returns the number of the next request.
    pub fn next_request(&self) -> u64 {
        self.next_request
    }

    /// Sets the number of the next request.
    pub fn number_from(&mut self, next: u64) {
        self.next_request = next;
    }

    /// Returns the requests that compete with those in `of` in a `race` or an `any`. Those that are
    /// sleeps are time limits.
    pub fn rivals(&self, of: &[u64]) -> Requests {
        let mut found = Requests::new();
        for fiber in self.fibers.values() {
            let Wait::Tasks(join) = &fiber.wait else { continue };
            if !join.how.is_race() {
                continue;
            }
            let reached: Vec<Requests> = join.tasks.iter().map(|task| self.reached(task)).collect();
            let concerns = |reached: &Requests| reached.iter().any(|request| of.contains(request));
            for (at, own) in reached.iter().enumerate() {
                if reached.iter().enumerate().any(|(other, reached)| other != at && concerns(reached)) {
                    found.extend(own);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the requests that a task waits for, directly or through other tasks.
    fn reached(&self, task: &Rc<Task>) -> Requests {
        let mut found = Requests::new();
        let mut seen = vec![task.id];
        let mut at = 0;
        while let Some(id) = seen.get(at) {
            at += 1;
            let Some(fiber) = self.fibers.get(id) else { continue };
            match &fiber.wait {
                Wait::Nothing => {}
                Wait::Answer { seq } | Wait::Shielded { seq } => found.push(*seq),
                Wait::Tasks(join) => {
                    for task in &join.tasks {
                        if !task.is_settled() && !seen.contains(&task.id) {
                            seen.push(task.id);
                        }
                    }
                }
            }
        }
        found
    }
}

/// The provenance part of a snapshot, at its end. An empty part takes no bytes. Objects, tasks and
/// fibers are named by their numbers.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Traces in registers.
    traces: Vec<(u32, Requests)>,
    /// Failures of tasks.
    tasks: Vec<(u32, Requests)>,
    /// Failures on their way into fibers.
    thrown: Vec<(u64, Requests)>,
    /// Tasks whose errors another error has made useless.
    useless: Vec<(u32, u64)>,
    caught: Vec<(u32, Requests)>,
    unhandled: Requests,
    nobodys: Vec<(u64, u64)>,
    last: Option<u64>,
}

impl Saved {
    /// Adds the machine's provenance. `number` returns the number of a written object by its
    /// address. Between two turns, nothing depends on the request that was answered last.
    pub fn add(&mut self, provenance: &Provenance, waits: bool, number: impl Fn(*const u8) -> Option<u32>) {
        let caught = provenance.caught.iter().filter(|(_, (kept, _))| kept.is_alive());
        self.caught = caught.filter_map(|(at, (_, of))| Some((number(*at)?, of.clone()))).collect();
        self.caught.sort_unstable();
        self.unhandled = provenance.unhandled.iter().copied().collect();
        self.nobodys = provenance.useless.iter().map(|(request, first)| (*request, *first)).collect();
        self.last = provenance.last.filter(|_| !waits);
    }

    pub fn add_trace(&mut self, number: u32, trace: &Trace) {
        if !trace.requests.is_empty() {
            self.traces.push((number, trace.requests.clone()));
        }
    }

    pub fn add_task(&mut self, number: u32, task: &Task) {
        if let Some(by) = task.useless_by.get() {
            self.useless.push((number, by));
        }
        if let Outcome::Failed(failure) = &*task.outcome.borrow()
            && !requests(failure).is_empty()
        {
            self.tasks.push((number, requests(failure).to_vec()));
        }
    }

    pub fn add_thrown(&mut self, fiber: u64, failure: &Failure) {
        if !requests(failure).is_empty() {
            self.thrown.push((fiber, requests(failure).to_vec()));
        }
    }

    pub fn restore_trace(&self, number: u32, trace: &mut Rc<Trace>) {
        Rc::make_mut(trace).requests = of(&self.traces, number);
    }

    pub fn restore_task(&self, number: u32, task: &Task) {
        task.useless_by.set(self.useless.iter().find(|(known, _)| *known == number).map(|(_, by)| *by));
        if let Outcome::Failed(Failure { trace: Some(trace), .. }) = &mut *task.outcome.borrow_mut() {
            Rc::make_mut(trace).requests = of(&self.tasks, number);
        }
    }

    pub fn restore_thrown(&self, fiber: u64, failure: &mut Failure) {
        if let Some(trace) = &mut failure.trace {
            Rc::make_mut(trace).requests = of(&self.thrown, fiber);
        }
    }

    /// Appends this part to a snapshot, unless it is empty.
    pub fn append(&self, bytes: Vec<u8>) -> Vec<u8> {
        match *self == Saved::default() {
            true => bytes,
            false => sure(postcard::to_extend(self, bytes), "writing to memory does not fail"),
        }
    }

    /// Reads this part from the end of a snapshot. Snapshots of earlier versions have none.
    pub fn read(bytes: &[u8]) -> Option<Saved> {
        if bytes.is_empty() {
            return Some(Saved::default());
        }
        postcard::from_bytes(bytes).ok()
    }

    pub fn restore(&self, objects: &[Value]) -> Option<Provenance> {
        let mut caught = HashMap::new();
        for (number, requests) in &self.caught {
            let value = objects.get(*number as usize)?;
            caught.insert(value.address()?, (Kept::of(value)?, requests.clone()));
        }
        let (unhandled, useless) =
            (self.unhandled.iter().copied().collect(), self.nobodys.iter().copied().collect());
        Some(Provenance {
            alive: caught.len(),
            caught,
            unhandled,
            useless,
            last: self.last,
            ..Provenance::default()
        })
    }
}

/// Returns the requests under a number.
fn of<N: PartialEq + Copy>(all: &[(N, Requests)], number: N) -> Requests {
    all.iter().find(|(known, _)| *known == number).map_or_else(Requests::new, |(_, of)| of.clone())
}
