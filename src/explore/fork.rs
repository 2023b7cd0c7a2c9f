//! What-if: a run goes on from an entry of its history, in memory, and is compared with what
//! happened.
//!
//! Invariant: nothing outside is touched. An answer is one that was given, that of a mock, one that
//! the same request got in the history, or one that the engine makes itself (a line, the end of a
//! sleep). A request without such an answer has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::builtins::Effect;
use crate::engine::{
    Args, Entry, GRACE, History, InstanceRecord, Mismatch, RecordedRequest, Standing, describe_request,
    described, due_time, stand,
};
use crate::machine::{Data, ErrorData, Machine, Progress, Request, RequestKind, Value};
use crate::machine::{format, instance_handle};
use crate::model::evaluate::{Chooser, Done, Moment, Nothing};
use crate::model::message::asked;
use crate::model::{Evaluator, Program, Stop};
use crate::syntax::Place;

/// The fuel of a run between two answers, and the greatest number of answers.
const FUEL: u64 = 50_000_000;
const SLICE: u64 = 1_000_000;
const MOST: usize = 100_000;

/// An answer that somebody gives, with the request that it is for: its number, its name, or its
/// call as histories show it.
#[derive(Clone, Debug)]
pub struct Given {
    pub request: String,
    pub result: Result<Data, ErrorData>,
}

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Given,
    Mock,
    /// The same request had this answer.
    Happened,
    /// The engine answers by itself.
    Engine,
}

/// A step of a run that goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum ForkStep {
    /// A request. `is_same` says whether it was made in what happened.
    Asked {
        seq: u64,
        what: String,
        place: Place,
        is_same: bool,
    },
    Answered(Box<ForkAnswer>),
    GivenUp {
        seq: u64,
        what: String,
    },
}

/// An answer in a run that goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct ForkAnswer {
    pub seq: u64,
    pub what: String,
    pub result: Result<Data, ErrorData>,
    pub source: Source,
    /// The answer that the same request had.
    pub happened: Option<Result<Data, ErrorData>>,
}

/// The end of a run that goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum ForkEnd {
    Completed(Data),
    Failed(ErrorData),
    ContinuesAsNew(Data),
    /// The run waits for these requests, which have no answer.
    Waits(Vec<(u64, String, Place)>),
    Endless,
}

/// A run that went on from an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Forked {
    pub steps: Vec<ForkStep>,
    pub end: ForkEnd,
    /// The requests that happened from the entry on, and are not made here.
    pub missing: Vec<(u64, String)>,
    /// The requests of given answers that no request got.
    pub unused: Vec<String>,
}

/// The reason why a run can't go on.
#[derive(Clone, Debug)]
pub enum CannotFork {
    /// The program makes another request at the entry after so many.
    Diverges {
        after: usize,
        sides: Mismatch,
    },
    Unfit(String),
    Stopped(Stop),
}

/// Lets a run go on after so many entries of its history.
pub fn fork(
    program: &Program,
    record: &InstanceRecord,
    history: &History,
    after: usize,
    given: &[Given],
) -> Result<Forked, CannotFork> {
    let evaluator = Evaluator::new(program).map_err(CannotFork::Stopped)?;
    let (before, rest) = history.entries.split_at(after.min(history.entries.len()));
    let kept = History { entries: before.to_vec(), ..History::default() };
    let (machine, open) = match stand(&evaluator.image(), record, &kept).map_err(CannotFork::Unfit)? {
        Standing::Here { machine, open } => (*machine, open),
        Standing::Differs { after, sides } => return Err(CannotFork::Diverges { after, sides }),
    };
    let made: BTreeSet<u64> = before.iter().filter_map(number).collect();
    let mut run = Run {
        evaluator,
        machine,
        record,
        rest,
        used: BTreeSet::new(),
        given,
        unused: given.iter().collect(),
        now: before.last().map_or(record.created, Entry::time),
        open: BTreeMap::new(),
        answers: BTreeMap::new(),
        order: 0,
        taken: HashMap::new(),
        steps: Vec::new(),
        again: None,
    };
    for (request, time) in open {
        match made.contains(&request.seq) {
            true => run.expect(request, time),
            false => run.asks(request),
        }
        .map_err(CannotFork::Stopped)?;
    }
    let end = run.go_on().map_err(CannotFork::Stopped)?;
    let missing = run.missing();
    let unused = run.unused.iter().map(|given| given.request.clone()).collect();
    Ok(Forked { steps: run.steps, end, missing, unused })
}

fn number(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Requested { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// An answer with its time and its source.
type Sourced = (i64, Result<Data, ErrorData>, Source);

/// An answer that comes at its time.
struct Coming {
    seq: u64,
    result: Result<Data, ErrorData>,
    source: Source,
}

/// A run while it goes on.
struct Run<'a> {
    evaluator: Evaluator<'a>,
    machine: Machine,
    record: &'a InstanceRecord,
    /// The entries that followed in what happened.
    rest: &'a [Entry],
    /// The positions of the requests in `rest` that were made here.
    used: BTreeSet<usize>,
    given: &'a [Given],
    /// The given answers that no request got yet.
    unused: Vec<&'a Given>,
    now: i64,
    /// The open requests, with the number that each had in what happened.
    open: BTreeMap<u64, (Request, Option<u64>)>,
    /// The answers to come, by their times.
    answers: BTreeMap<(i64, u64), Coming>,
    order: u64,
    /// The number of outcomes taken of each mock.
    taken: HashMap<String, usize>,
    steps: Vec<ForkStep>,
    /// The arguments with which the run continues as new.
    again: Option<Data>,
}

impl Run<'_> {
    fn go_on(&mut self) -> Result<ForkEnd, Stop> {
        for _ in 0..MOST {
            let mut left = FUEL;
            let outcome = loop {
                match self.machine.run(SLICE) {
                    Progress::OutOfFuel if left == 0 => return Ok(ForkEnd::Endless),
                    Progress::OutOfFuel => left = left.saturating_sub(SLICE),
                    Progress::Waiting => break None,
                    Progress::Done(outcome) => break Some(outcome),
                }
            };
            for request in self.machine.take_requests() {
                self.asks(request)?;
            }
            for seq in self.machine.take_withdrawn() {
                self.gives_up(seq);
            }
            if let Some(args) = self.again.take() {
                return Ok(ForkEnd::ContinuesAsNew(args));
            }
            match outcome {
                Some(Ok(value)) => return Ok(ForkEnd::Completed(value)),
                Some(Err(error)) => return Ok(ForkEnd::Failed(error)),
                None => {}
            }
            let Some(((time, _), coming)) = self.answers.pop_first() else {
                let waits = self
                    .open
                    .iter()
                    .map(|(seq, (request, _))| (*seq, describe_request(request), request.place));
                return Ok(ForkEnd::Waits(waits.collect()));
            };
            self.now = self.now.max(time);
            self.takes(coming);
        }
        Ok(ForkEnd::Endless)
    }

    fn takes(&mut self, coming: Coming) {
        let Coming { seq, result, source } = coming;
        let Some((request, number)) = self.open.remove(&seq) else { return };
        let happened = number.and_then(|number| self.answer_of(number)).map(|(_, result)| result);
        if source == Source::Given {
            self.unused.retain(|given| !is_for(&given.request, &request));
        }
        let what = describe_request(&request);
        let answer = ForkAnswer { seq, what, result: result.clone(), source, happened };
        self.steps.push(ForkStep::Answered(Box::new(answer)));
        self.machine.answer(seq, result);
    }

    fn gives_up(&mut self, seq: u64) {
        if let Some((request, _)) = self.open.remove(&seq) {
            self.steps.push(ForkStep::GivenUp { seq, what: describe_request(&request) });
        }
        self.answers.retain(|_, coming| coming.seq != seq);
    }

    /// Makes a new request.
    fn asks(&mut self, request: Request) -> Result<(), Stop> {
        let at = self
            .rest
            .iter()
            .enumerate()
            .position(|(at, entry)| !self.used.contains(&at) && is_same(entry, &request));
        self.used.extend(at);
        let number = at.and_then(|at| number(&self.rest[at]));
        let (seq, what, place) = (request.seq, describe_request(&request), request.place);
        self.steps.push(ForkStep::Asked { seq, what, place, is_same: number.is_some() });
        let now = self.now;
        self.wait(request, number, now)
    }

    /// Waits for the answer to a request that was made before.
    fn expect(&mut self, request: Request, time: i64) -> Result<(), Stop> {
        let seq = request.seq;
        self.wait(request, Some(seq), time)
    }

    /// Finds the answer to a request that was made at a time.
    fn wait(&mut self, request: Request, number: Option<u64>, time: i64) -> Result<(), Stop> {
        let seq = request.seq;
        let coming = self.answer_to(&request, number, time)?;
        if request.what == RequestKind::Effect(Effect::ContinueAsNew) {
            self.again = Some(request.args.clone());
        }
        self.open.insert(seq, (request, number));
        if let Some((time, result, source)) = coming {
            self.order += 1;
            self.answers.insert((time.max(self.now), self.order), Coming { seq, result, source });
        }
        Ok(())
    }

    fn answer_to(
        &mut self,
        request: &Request,
        number: Option<u64>,
        time: i64,
    ) -> Result<Option<Sourced>, Stop> {
        if request.seq == GRACE {
            return Ok(None);
        }
        if let Some(given) = self.given.iter().find(|given| is_for(&given.request, request)) {
            return Ok(Some((self.now, given.result.clone(), Source::Given)));
        }
        if let Some(mocked) = self.mocked(request)? {
            return Ok(mocked.result.map(|result| (self.now, (*result).clone(), Source::Mock)));
        }
        if let Some((time, result)) = number.and_then(|number| self.answer_of(number)) {
            return Ok(Some((time, result, Source::Happened)));
        }
        let ours =
            |result: Value| Data::encode(&result).ok().map(|data| (self.now, Ok(data), Source::Engine));
        Ok(match &request.what {
            RequestKind::Effect(effect) if effect.is_line() => ours(Value::Null),
            RequestKind::Effect(effect) if effect.is_sleep() => {
                Some((due_time(&request.args, time), Ok(Data::null()), Source::Engine))
            }
            RequestKind::Effect(Effect::Now) => ours(Value::Instant(self.now)),
            RequestKind::Effect(Effect::SetStatus | Effect::Lock | Effect::Unlock) => ours(Value::Null),
            RequestKind::Operation { signal: Some(_), .. } => ours(Value::Null),
            RequestKind::Effect(effect) if effect.is_message() => ours(Value::Null),
            RequestKind::Orchestration { start: true, options, .. } => {
                let child = crate::machine::options::recorded_child(options);
                let id = child.id.unwrap_or_else(|| self.record.child_id(request.seq));
                ours(instance_handle(&id))
            }
            _ => None,
        })
    }

    /// Returns the outcome of a request's mock, if it has one.
    fn mocked(&mut self, request: &Request) -> Result<Option<Done>, Stop> {
        let program = self.evaluator.program;
        let name = match &request.what {
            RequestKind::Activity { name, .. } if program.mock(name, true).is_some() => name.clone(),
            RequestKind::Effect(effect) if program.mock(effect.name(), false).is_some() => {
                effect.name().to_string()
            }
            _ => return Ok(None),
        };
        // For a mock there are no entities and no instances beside the run.
        let now = Moment { clock: vec![self.now], ..Moment::default() };
        let key = format!("{}-{}", self.record.id, request.seq);
        let mut chooser = InTurn { taken: &mut self.taken, name };
        let done =
            self.evaluator.perform_once(&asked(request.clone()), &key, 1, &now, &Nothing, &mut chooser)?;
        match done.world {
            Some(_) => Err(Stop::Fault("a mock that is an operation of an entity has no entity here".into())),
            None => Ok(Some(done)),
        }
    }

    /// Returns the answer to a request in what happened, and its time.
    fn answer_of(&self, number: u64) -> Option<(i64, Result<Data, ErrorData>)> {
        self.rest.iter().find_map(|entry| match entry {
            Entry::Answered { seq, result, time, .. } if *seq == number => Some((*time, result.clone())),
            _ => None,
        })
    }

    /// Returns the requests that happened, and were not made here.
    fn missing(&self) -> Vec<(u64, String)> {
        let missing = self.rest.iter().enumerate().filter(|(at, _)| !self.used.contains(at));
        missing.filter_map(|(_, entry)| Some((number(entry)?, described(entry)))).collect()
    }
}

/// Whether an entry is that of a request, whatever its number.
fn is_same(entry: &Entry, request: &Request) -> bool {
    let Entry::Requested { what, args, .. } = entry else { return false };
    *what == RecordedRequest::of(&request.what) && *args == Args::of(&request.args)
}

/// Whether an answer that is given for a request of that name is for this request.
fn is_for(name: &str, request: &Request) -> bool {
    let what = RecordedRequest::of(&request.what);
    name.trim_start_matches('#') == request.seq.to_string()
        || name == what.shown()
        || name == what.name()
        || name == describe_request(request)
}

/// The outcomes of a mock, in turn; the last one repeats.
struct InTurn<'t> {
    taken: &'t mut HashMap<String, usize>,
    name: String,
}

impl Chooser for InTurn<'_> {
    fn outcome(&mut self, _: &str, _: usize) -> usize {
        let taken = self.taken.entry(self.name.clone()).or_default();
        *taken += 1;
        *taken - 1
    }

    fn bits(&mut self) -> u64 {
        0
    }
}

/// Returns a value as histories show it.
pub fn shown(result: &Result<Data, ErrorData>) -> String {
    match result {
        Ok(value) => format::write(&value.decode(), 200).0,
        Err(error) => format!("error {}", error.title()),
    }
}
