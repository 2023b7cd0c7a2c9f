//! Provenance: the requests whose answers an error is.
//!
//! An error that answers a request carries the request's number in its trace: through `finally`, tasks, `await`, `all`,
//! `any` and `race`. A handler that takes the error hands the program its value, which has no room for the number. So the
//! machine knows caught errors by where their values lie in memory: an error that is thrown again is the same error, and
//! an equal one that the program made is not. Numbers, bools and null lie nowhere: thrown again, they are the program's own.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::{Rc, Weak};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::error::{Fail, Failure, Trace};
use super::snapshot::address;
use super::task::{How, Join, Outcome, Task};
use super::value::{Blob, List, Record, Text, Value};
use super::{Machine, Wait};
use crate::internal::sure;

/// Requests, by their numbers.
pub(super) type Requests = Vec<u64>;

/// The value of a caught error, as long as the program has it.
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
            // Strings of one character are made once, for all.
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

/// Caught errors are looked through for those that are gone when there are this many.
const FEW: usize = 16;
/// And useless ones for those that nobody can throw again.
const MANY: usize = 64;

/// Which requests' errors are under way in a machine, and which were handled.
#[derive(Debug, Default)]
pub(super) struct Provenance {
    caught: HashMap<*const u8, (Kept, Requests)>,
    /// How many caught errors there were when they were last looked through.
    alive: usize,
    /// Requests whose errors no handler has taken.
    unhandled: BTreeSet<u64>,
    /// Requests whose errors nobody hears of, each with the one whose error an `all` has thrown in their place: they are as
    /// handled as that one.
    useless: BTreeMap<u64, u64>,
    /// The request that was answered last.
    pub last: Option<u64>,
    /// Those whose error ended the run.
    pub fatal: Requests,
    /// Nothing is noted: the machine says nothing of its past.
    pub is_off: bool,
}

impl Provenance {
    /// A request is answered.
    pub fn answered(&mut self, request: u64) {
        self.last = Some(request).filter(|_| !self.is_off);
    }

    /// What the error comes from that answers a request.
    pub fn from(&self, request: u64) -> Requests {
        if self.is_off { Requests::new() } else { vec![request] }
    }

    /// A failure is under way. Answers what is to be noted should a handler take it.
    #[cold]
    pub fn thrown(&mut self, failure: &Failure) -> Option<(Value, Requests)> {
        let trace = failure.trace.as_ref().filter(|trace| !trace.requests.is_empty())?;
        for request in &trace.requests {
            self.useless.remove(request);
            self.unhandled.insert(*request);
        }
        Some((failure.value.clone(), trace.requests.clone()))
    }

    /// A handler has taken an error.
    #[cold]
    pub fn caught(&mut self, (value, requests): (Value, Requests)) {
        self.handled(&requests);
        let (Some(kept), Some(at)) = (Kept::of(&value), address(&value)) else { return };
        self.caught.insert(at, (kept, requests));
        drop(value);
        if self.caught.len() >= FEW + 2 * self.alive {
            self.caught.retain(|_, (kept, _)| kept.is_alive());
            self.alive = self.caught.len();
        }
    }

    /// The errors of requests are nobody's concern any more, unless they are thrown again.
    pub fn handled(&mut self, requests: &[u64]) {
        for request in requests {
            self.useless.remove(request);
            self.unhandled.remove(request);
        }
    }

    /// The requests whose errors were not handled.
    fn all_unhandled(&self) -> BTreeSet<u64> {
        let useless = self.useless.iter().filter(|(_, first)| self.unhandled.contains(first));
        self.unhandled.iter().chain(useless.map(|(request, _)| request)).copied().collect()
    }

    /// The failure of a value that the program throws.
    #[cold]
    pub fn failure(&self, value: Value) -> Fail {
        let known = address(&value).and_then(|at| self.caught.get(&at)).filter(|(kept, _)| kept.is_alive());
        let trace = known.map(|(_, requests)| Rc::new(Trace::from_requests(requests.clone())));
        Box::new(Failure { value, trace })
    }

    /// A task has failed for which nobody waits any more: its error counts only while that one does which made it useless.
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
    /// The trace of an error that has not been anywhere yet.
    pub(super) fn from_requests(requests: Requests) -> Trace {
        Trace { requests, ..Trace::default() }
    }
}

/// The requests that a failure comes from.
fn requests(failure: &Failure) -> &[u64] {
    failure.trace.as_ref().map_or(&[], |trace| &trace.requests)
}

/// An error that stands for those of several tasks.
pub(super) fn joined(mut failure: Fail, tasks: &[Rc<Task>]) -> Fail {
    let mut all = Requests::new();
    for task in tasks {
        if let Outcome::Failed(own) = &*task.outcome.borrow() {
            all.extend(requests(own));
        }
    }
    all.sort_unstable();
    all.dedup();
    if !all.is_empty() {
        failure.trace = Some(Rc::new(Trace::from_requests(all)));
    }
    failure
}

/// The errors of tasks whose `all` has thrown that of another count only while that one does.
pub(super) fn make_useless(join: &Join, result: &Result<Value, Fail>) {
    let (How::All, Err(thrown)) = (join.how, result) else { return };
    for task in join.tasks.iter().filter(|task| !task.is_settled()) {
        task.useless_by.set(requests(thrown).first().copied());
    }
}

impl Machine {
    /// A task has failed, and was waited for by some or nobody.
    pub(super) fn task_failed(&mut self, task: &Rc<Task>, failure: &Failure, waited_for: bool) {
        let from = requests(failure);
        if !from.is_empty() && !waited_for && task.observed.get() && !Rc::ptr_eq(task, &self.main) {
            self.provenance.useless(from, task.useless_by.get());
        }
    }

    /// Nobody is interested in the outcome of a settled task any more.
    pub(super) fn forget_failure(&mut self, task: &Task) {
        if let Outcome::Failed(failure) = &*task.outcome.borrow() {
            self.provenance.handled(requests(failure));
        }
    }

    /// `expired(error)`: an error that comes from the request that was answered last.
    pub(super) fn expired(&self, value: Value) -> Fail {
        let requests = self.provenance.last.into_iter().collect();
        Box::new(Failure { value, trace: Some(Rc::new(Trace::from_requests(requests))) })
    }

    /// The requests whose error ended the run; none when the program threw it.
    pub fn failed_by(&self) -> &[u64] {
        &self.provenance.fatal
    }

    /// The requests whose errors no handler has taken.
    pub fn unhandled(&self) -> Vec<u64> {
        self.provenance.all_unhandled().into_iter().collect()
    }

    /// Whether it is in a critical section that it holds.
    pub fn is_in_section(&self) -> bool {
        self.held().is_some()
    }

    /// The number of the next request.
    pub fn next_request(&self) -> u64 {
        self.next_request
    }

    /// Lets the next request have a number.
    pub fn number_from(&mut self, next: u64) {
        self.next_request = next;
    }

    /// The requests that run against others in a `race` or an `any`: time limits of them, when they are sleeps.
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

    /// The requests that a task waits for, by itself or by others.
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

/// What a snapshot has of provenance, after all else; nothing when there is nothing. The numbers are those of objects,
/// tasks and fibers.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Traces that are held by registers.
    traces: Vec<(u32, Requests)>,
    /// Failures of tasks.
    tasks: Vec<(u32, Requests)>,
    /// Failures on their way into fibers.
    thrown: Vec<(u64, Requests)>,
    /// Tasks whose errors another has made useless.
    useless: Vec<(u32, u64)>,
    caught: Vec<(u32, Requests)>,
    unhandled: Requests,
    nobodys: Vec<(u64, u64)>,
    last: Option<u64>,
}

impl Saved {
    /// Adds what the machine knows. `number` is that of an object that was written, by where it lies.
    /// Between two turns nothing depends on which request was answered last.
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

    /// Appends it, unless there is nothing.
    pub fn append(&self, bytes: Vec<u8>) -> Vec<u8> {
        match *self == Saved::default() {
            true => bytes,
            false => sure(postcard::to_extend(self, bytes), "writing to memory does not fail"),
        }
    }

    /// What stands after all else; nothing in what was written before there was any.
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
            caught.insert(address(value)?, (Kept::of(value)?, requests.clone()));
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

/// The requests of a number.
fn of<N: PartialEq + Copy>(all: &[(N, Requests)], number: N) -> Requests {
    all.iter().find(|(known, _)| *known == number).map_or_else(Requests::new, |(_, of)| of.clone())
}
