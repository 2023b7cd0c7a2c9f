//! One instance: its machine, its past that is still to be replayed, and what it waits for.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::builtins::Context;
use crate::machine::options::{Policy, policy};
use crate::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Request, Value, What};
use crate::syntax::Place;

use super::history::{Asked, Chunk, Entry, History};
use super::record::{InstanceRecord, Status};

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct Open {
    pub request: Request,
    /// When it was made.
    pub time: i64,
    /// The attempt that is under way, from 1, and when it begins or began.
    pub attempt: u32,
    pub begins: i64,
    /// How an activity is tried.
    pub policy: Policy,
    /// It was handed to the host in this process.
    pub dispatched: bool,
}

impl Open {
    /// For people: `charge("1234", 10)`.
    pub fn describe(&self) -> String {
        describe(&Asked::of(&self.request.what), &super::Args::of(&self.request.args))
    }
}

pub(super) fn describe(what: &Asked, args: &super::Args) -> String {
    format!("{}({})", what.shown(), args.describe())
}

/// Replay that asked for something other than the history holds. Each side is text with its place in the source.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch {
    /// What the history holds; none when it is at its end.
    pub recorded: Option<(String, Place)>,
    /// What the program does now.
    pub found: Option<(String, Place)>,
}

/// How far an instance came.
#[derive(Debug)]
pub(super) enum Advance {
    /// It can go on at once.
    More,
    /// Its slice is used up.
    OutOfFuel,
    Waiting,
    Ended,
    Stuck(Mismatch),
}

/// Sees every entry of the history as it is replayed or made; a request's entry with the request.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

pub(super) struct Instance {
    pub record: InstanceRecord,
    /// The record is to be written with the next commit.
    pub record_changed: bool,
    machine: Machine,
    past: VecDeque<Entry>,
    pub open: BTreeMap<u64, Open>,
    /// Requests that the host has not been handed yet.
    pub undispatched: Vec<u64>,
    /// Requests that nobody waits for any more, to be abandoned by the host.
    pub dropped: Vec<(u64, Open)>,
    inbox: VecDeque<(u64, Result<Data, ErrorData>)>,
    fresh: Vec<Entry>,
    chunks: u64,
    checksum: u64,
    pub queued: bool,
}

impl Instance {
    /// An instance at its beginning; what its history holds is replayed first.
    pub fn new(image: &Rc<Image>, record: InstanceRecord, history: History) -> Instance {
        let args = match record.args.decode() {
            Value::List(args) => args.as_slice().to_vec(),
            _ => Vec::new(),
        };
        let identity = Identity { id: record.id.clone(), key: String::new() };
        let machine = Machine::new(image.clone(), Context::Orchestration, image.code.script, args, identity);
        Instance {
            record,
            record_changed: false,
            machine,
            past: history.entries.into(),
            open: BTreeMap::new(),
            undispatched: Vec::new(),
            dropped: Vec::new(),
            inbox: VecDeque::new(),
            fresh: Vec::new(),
            chunks: history.chunks,
            checksum: history.checksum,
            queued: false,
        }
    }

    /// Whether it has caught up with its history.
    pub fn is_live(&self) -> bool {
        self.past.is_empty()
    }

    /// The key of a step that is the same for each of its attempts.
    pub fn step_key(&self, seq: u64) -> String {
        format!("{}-{:x}-{seq}", self.record.id, self.record.created)
    }

    /// An answer has come; it is taken in when it is its turn.
    pub fn deliver(&mut self, seq: u64, result: Result<Data, ErrorData>) {
        self.inbox.push_back((seq, result));
    }

    /// Notes that an attempt failed and when the next begins.
    pub fn retry(&mut self, seq: u64, error: ErrorData, again: i64, now: i64) {
        let entry = Entry::Retried { seq, error, again, time: now };
        self.fresh.push(entry);
        self.retried(seq, again);
        self.undispatched.push(seq);
    }

    fn retried(&mut self, seq: u64, again: i64) {
        if let Some(open) = self.open.get_mut(&seq) {
            open.attempt += 1;
            open.begins = again;
            open.dispatched = false;
        }
    }

    /// Evaluates up to its next requests or its end, then takes the next answer, from its past or its inbox.
    pub fn advance(&mut self, fuel: u64, now: i64, watch: Watch<'_>) -> Advance {
        let progress = self.machine.run(fuel);
        if matches!(progress, Progress::OutOfFuel) {
            return Advance::OutOfFuel;
        }
        for request in self.machine.take_requests() {
            if let Err(mismatch) = self.requested(request, now, watch) {
                return Advance::Stuck(mismatch);
            }
        }
        for seq in self.machine.take_withdrawn() {
            let entry = match self.past.pop_front() {
                None => {
                    let entry = Entry::Cancelled { seq, time: now };
                    self.fresh.push(entry.clone());
                    entry
                }
                Some(entry) if matches!(entry, Entry::Cancelled { seq: known, .. } if known == seq) => entry,
                Some(entry) => {
                    let open = self.open.get(&seq);
                    let found = open.map(|open| (format!("cancels {}", open.describe()), open.request.place));
                    return Advance::Stuck(Mismatch { recorded: Some(self.side(&entry)), found });
                }
            };
            watch(&entry, None);
            if let Some(open) = self.open.remove(&seq) {
                self.dropped.push((seq, open));
            }
        }
        if let Progress::Done(outcome) = progress {
            return self.done(outcome, now, watch);
        }
        match self.past.pop_front() {
            Some(Entry::Answered { seq, result, time }) => {
                self.answered(seq, result, time, watch);
                Advance::More
            }
            Some(entry @ Entry::Retried { seq, again, .. }) => {
                watch(&entry, None);
                self.retried(seq, again);
                Advance::More
            }
            Some(entry) => {
                let mut waits = self
                    .open
                    .values()
                    .map(|open| (format!("waits for {}", open.describe()), open.request.place));
                Advance::Stuck(Mismatch { recorded: Some(self.side(&entry)), found: waits.next() })
            }
            None => match self.inbox.pop_front() {
                Some((seq, result)) => {
                    if self.open.contains_key(&seq) {
                        self.fresh.push(Entry::Answered { seq, result: result.clone(), time: now });
                        self.answered(seq, result, now, watch);
                    }
                    Advance::More
                }
                None => Advance::Waiting,
            },
        }
    }

    fn requested(&mut self, request: Request, now: i64, watch: Watch<'_>) -> Result<(), Mismatch> {
        let entry = match self.past.pop_front() {
            None => {
                let entry = Entry::requested(&request, now);
                self.fresh.push(entry.clone());
                entry
            }
            Some(entry) if entry.is_of(&request) => entry,
            Some(entry) => {
                let found =
                    (describe(&Asked::of(&request.what), &super::Args::of(&request.args)), request.place);
                return Err(Mismatch { recorded: Some(self.side(&entry)), found: Some(found) });
            }
        };
        watch(&entry, Some(&request));
        let time = entry.time();
        let policy = match &request.what {
            What::Activity { options, .. } => policy(&options.decode()).unwrap_or_default(),
            What::Effect(_) => Policy::default(),
        };
        let seq = request.seq;
        self.undispatched.push(seq);
        self.open.insert(seq, Open { request, time, attempt: 1, begins: time, policy, dispatched: false });
        Ok(())
    }

    fn answered(&mut self, seq: u64, result: Result<Data, ErrorData>, time: i64, watch: Watch<'_>) {
        let entry = Entry::Answered { seq, result, time };
        watch(&entry, self.open.get(&seq).map(|open| &open.request));
        self.open.remove(&seq);
        if let Entry::Answered { result, .. } = entry {
            self.machine.answer(seq, result);
        }
    }

    fn done(&mut self, outcome: Result<Data, ErrorData>, now: i64, watch: Watch<'_>) -> Advance {
        match self.past.pop_front() {
            None => {
                let entry = Entry::Ended { time: now };
                watch(&entry, None);
                self.fresh.push(entry);
                self.record.ended = Some(now);
                self.record_changed = true;
            }
            Some(entry @ Entry::Ended { .. }) => watch(&entry, None),
            Some(entry) => {
                return Advance::Stuck(Mismatch { recorded: Some(self.side(&entry)), found: None });
            }
        }
        self.record.status = match outcome {
            Ok(value) => Status::Completed(value),
            Err(error) => Status::Failed(error),
        };
        Advance::Ended
    }

    /// An entry of the history as one side of a mismatch.
    fn side(&self, entry: &Entry) -> (String, Place) {
        let of = |seq: &u64| self.open.get(seq).map_or_else(Place::default, |open| open.request.place);
        match entry {
            Entry::Requested { what, args, place, .. } => (describe(what, args), *place),
            Entry::Answered { seq, .. } => (format!("the answer to request {seq}"), of(seq)),
            Entry::Retried { seq, .. } => (format!("another attempt at request {seq}"), of(seq)),
            Entry::Cancelled { seq, .. } => (format!("request {seq} is cancelled"), of(seq)),
            Entry::Ended { .. } => ("the end".to_string(), Place::default()),
        }
    }

    /// What is to be written of it: a chunk of its history, by its number.
    pub fn take_chunk(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.fresh.is_empty() {
            return None;
        }
        let (bytes, checksum) = Chunk::encode(&self.fresh, self.checksum);
        self.fresh.clear();
        self.checksum = checksum;
        let number = self.chunks;
        self.chunks += 1;
        if self.record.ended.is_some() {
            self.record.chunks = self.chunks;
        }
        Some((number, bytes))
    }
}
