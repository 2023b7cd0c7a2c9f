//! A history fitted to a run in which some requests have no answers yet.
//!
//! The history is divided into turns: an answer or event, and the entries that followed from it.
//! The run gets turn after turn, without the answers that are asked for again. A turn with the same
//! consequences is kept as it is. A turn without consequences now is kept, and its old consequences
//! are cut. The history is cut at the first turn with other consequences. The answers from there on
//! wait to be consumed again. Kept requests keep their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Cancellation, Data, ErrorData, Image, Machine, Progress, Request, RequestKind};

use super::arrivals::first_text;
use super::entry::{Entry, GRACE, RecordedRequest};
use super::evaluation::Advance;
use super::fault::{self, Fault};
use super::history::History;
use super::instance::Instance;
use super::open::Open;
use super::record::{InstanceRecord, Status};

/// The fuel for one turn, in calls and repetitions. A turn that takes more does not fit.
const TURN: u64 = 50_000_000;
const SLICE: u64 = 1_000_000;

/// An answer, an event or a cancellation, and the entries that followed from it.
struct Turn {
    /// The entry that began the turn; `None` for the first turn.
    trigger: Option<Entry>,
    /// The number of the turn's first request, if it makes any.
    first: u64,
    group: Vec<Entry>,
}

/// The original history, as turns.
pub(super) struct Original {
    turns: Vec<Turn>,
    requests: BTreeMap<u64, Request>,
    /// The requests whose errors ended the instance, and all requests whose errors were not
    /// handled.
    pub failed_by: Vec<u64>,
    pub unhandled: Vec<u64>,
    /// The number after those of all requests.
    next: u64,
}

/// An answer, an event or a cancellation that is consumed again.
pub(super) enum Later {
    Answer { seq: u64, result: Result<Data, ErrorData>, time: i64 },
    Event { name: String, payload: Data, time: i64 },
    Cancel { what: Box<Cancellation>, time: i64 },
}

/// The requests that a rewind asks again, and its view of cancellations.
pub(super) struct Wish<'a> {
    pub again: &'a BTreeSet<u64>,
    /// Whether the instance goes on as if it had not been cancelled.
    pub undoes: bool,
}

/// The part of a history that still fits, and everything else.
pub(super) struct Refit {
    pub entries: Vec<Entry>,
    /// The answers and events that wait to be consumed again, in order.
    pub later: Vec<Later>,
    /// The requests that are gone.
    pub cut: Vec<Entry>,
    /// The open requests at the end of the entries, and the machine that waits for them.
    pub open: BTreeMap<u64, Box<Open>>,
    machine: Machine,
}

fn unfit() -> String {
    "its history does not fit its program".to_string()
}

impl Original {
    /// Replays the history of an ended instance.
    pub fn of(image: &Rc<Image>, record: &InstanceRecord, history: &History) -> Result<Original, String> {
        let mut instance = Instance::new(image, record.clone(), history.clone())?;
        let mut requests: BTreeMap<u64, Request> =
            instance.evaluation.open.iter().map(|(seq, open)| (*seq, open.request.clone())).collect();
        let first = instance.evaluation.machine().next_request();
        let mut turns = vec![Turn { trigger: None, first, group: Vec::new() }];
        loop {
            let mut seen: Vec<Entry> = Vec::new();
            let advance = instance.advance(SLICE, 0, false, &mut |entry, request| {
                if let Some(request) = request {
                    requests.insert(request.seq, request.clone());
                }
                seen.push(entry.clone());
            });
            let trigger = match advance {
                Advance::More => Some(seen.pop().ok_or_else(unfit)?),
                Advance::OutOfFuel | Advance::Ended => None,
                Advance::Waiting | Advance::Ending | Advance::GraceIsOver(_) | Advance::Nondeterminism(_) => {
                    return Err(unfit());
                }
            };
            // A rewind undoes the end, so its entry is left out.
            seen.retain(|entry| !matches!(entry, Entry::Ended { .. } | Entry::Terminated { .. }));
            // Entries about attempts and upgrades may stand anywhere, since nothing follows from
            // them. A rewind may stand before the requests of its turn.
            let is_attempt = |entry: &Entry| {
                matches!(
                    entry,
                    Entry::Retried { .. }
                        | Entry::Begun { .. }
                        | Entry::Upgraded { .. }
                        | Entry::Rewound { .. }
                )
            };
            let (attempts, group): (Vec<Entry>, Vec<Entry>) = seen.into_iter().partition(is_attempt);
            let numbers = |entry: &Entry| match entry {
                Entry::Rewound { seq, .. } => Some(*seq),
                _ => None,
            };
            if let Some(turn) = turns.last_mut() {
                turn.first = attempts.iter().filter_map(numbers).next_back().unwrap_or(turn.first);
                turn.group.extend(group);
            }
            let of_an_attempt = |entry| Turn { trigger: Some(entry), first: 0, group: Vec::new() };
            turns.extend(attempts.into_iter().map(of_an_attempt));
            if trigger.is_some() {
                let first = instance.evaluation.machine().next_request();
                turns.push(Turn { trigger, first, group: Vec::new() });
            } else if matches!(advance, Advance::Ended) {
                break;
            }
        }
        let machine = instance.evaluation.machine();
        let ours = matches!(record.status, Status::Failed(_));
        let of = |requests: Vec<u64>| if ours { requests } else { Vec::new() };
        Ok(Original {
            failed_by: of(machine.failed_by().to_vec()),
            unhandled: of(machine.unhandled()),
            next: machine.next_request(),
            turns,
            requests,
        })
    }

    /// Returns the request with a number.
    pub fn request(&self, seq: u64) -> Option<&Request> {
        self.requests.get(&seq)
    }

    /// Returns the requests that had no answer.
    pub fn unanswered(&self) -> impl Iterator<Item = u64> + '_ {
        let answered = |turn: &Turn| match turn.trigger {
            Some(Entry::Answered { seq, .. }) => Some(seq),
            _ => None,
        };
        let answered: BTreeSet<u64> = self.turns.iter().filter_map(answered).collect();
        self.requests.keys().copied().filter(move |seq| !answered.contains(seq))
    }

    /// Whether the instance was cancelled.
    pub fn was_cancelled(&self) -> bool {
        self.turns.iter().any(|turn| matches!(turn.trigger, Some(Entry::Cancelling { .. })))
    }

    fn is(&self, seq: u64, effect: Effect) -> bool {
        self.requests.get(&seq).is_some_and(|request| request.what == RequestKind::Effect(effect))
    }
}

/// The consequences of a turn.
struct Made {
    requests: Vec<Request>,
    withdrawn: Vec<u64>,
    has_ended: bool,
}

impl Made {
    fn is_nothing(&self) -> bool {
        self.requests.is_empty() && self.withdrawn.is_empty() && !self.has_ended
    }

    fn is(&self, group: &[Entry]) -> bool {
        let Some((requests, cancelled)) = group.split_at_checked(self.requests.len()) else { return false };
        let is_cancelled = |(entry, seq): (&Entry, &u64)| matches!(entry, Entry::Cancelled { seq: known, .. } if known == seq);
        !self.has_ended
            && requests.iter().zip(&self.requests).all(|(entry, request)| entry.is_of(request))
            && cancelled.len() == self.withdrawn.len()
            && cancelled.iter().zip(&self.withdrawn).all(is_cancelled)
    }
}

/// The run that the history is fitted to.
struct Run {
    machine: Machine,
    open: BTreeSet<u64>,
}

impl Run {
    /// Runs until the machine waits or ends; `None` if that takes too long.
    fn turn(&mut self) -> Option<Made> {
        let mut left = TURN;
        loop {
            let progress = self.machine.run(SLICE);
            match progress {
                Progress::OutOfFuel => left = left.checked_sub(SLICE)?,
                Progress::Waiting | Progress::Done(_) => {
                    let (requests, withdrawn) = (self.machine.take_requests(), self.machine.take_withdrawn());
                    let has_ended = matches!(progress, Progress::Done(_));
                    return Some(Made { requests, withdrawn, has_ended });
                }
            }
        }
    }

    /// Takes in what begins a turn, and runs.
    fn trigger(&mut self, trigger: &Entry) -> Option<Made> {
        match trigger {
            Entry::Answered { seq, result, .. } => self.machine.answer(*seq, result.clone()),
            Entry::Cancelling { what, .. } => self.machine.cancel_instance(what),
            _ => {}
        }
        self.turn()
    }

    /// Notes that what began a turn stays.
    fn took(&mut self, trigger: &Entry) {
        if let Entry::Answered { seq, .. } = trigger {
            self.open.remove(seq);
        }
    }

    fn takes(&mut self, group: &[Entry]) {
        for entry in group {
            match entry {
                Entry::Requested { seq, .. } => self.open.insert(*seq),
                Entry::Cancelled { seq, .. } => self.open.remove(seq),
                _ => false,
            };
        }
    }
}

/// The state of fitting a history to a run.
struct Fitting<'a> {
    original: &'a Original,
    /// The requests that are asked again.
    again: &'a BTreeSet<u64>,
    undoes: bool,
    /// The requests of `again` whose answer was left out.
    left_out: BTreeSet<u64>,
    entries: Vec<Entry>,
    later: Vec<Later>,
    cut: Vec<Entry>,
}

impl Fitting<'_> {
    /// Whether an answer is not consumed any more, though its request is open.
    fn is_left_out(&mut self, seq: u64, result: &Result<Data, ErrorData>) -> bool {
        // The entities of a section have no holder any more.
        let is_stale =
            self.left_out.contains(&seq) && (result.is_err() || self.original.is(seq, Effect::Lock));
        is_stale || (self.again.contains(&seq) && self.left_out.insert(seq))
    }

    fn lose(&mut self, group: &[Entry]) {
        self.cut.extend(group.iter().filter(|entry| matches!(entry, Entry::Requested { .. })).cloned());
    }

    /// Keeps an answer to be consumed again, if it is of use.
    fn put_back(&mut self, open: &BTreeSet<u64>, seq: u64, result: Result<Data, ErrorData>, time: i64) {
        let event =
            self.original.request(seq).filter(|request| request.what == RequestKind::Effect(Effect::Receive));
        match (event, result) {
            (Some(request), Ok(payload)) => {
                self.later.push(Later::Event { name: first_text(&request.args), payload, time });
            }
            _ if fault::is_in(Fault::SuccessesCut) => {}
            (_, result) if open.contains(&seq) && !self.original.is(seq, Effect::Lock) => {
                self.later.push(Later::Answer { seq, result, time });
            }
            _ => {}
        }
    }

    /// Keeps what began a turn that no longer fits, to be consumed again.
    fn trigger_back(&mut self, open: &BTreeSet<u64>, trigger: &Entry) {
        match trigger {
            Entry::Answered { seq, result, time, .. } => self.put_back(open, *seq, result.clone(), *time),
            Entry::Cancelling { what, time } => {
                self.later.push(Later::Cancel { what: what.clone(), time: *time });
            }
            _ => {}
        }
    }

    fn walk(&mut self, run: &mut Run, now: i64) -> Result<(), String> {
        let mut is_cut = false;
        let original = self.original;
        for turn in &original.turns {
            let trigger = match &turn.trigger {
                Some(trigger @ (Entry::Answered { .. } | Entry::Cancelling { .. })) => trigger,
                None => {
                    run.turn().filter(|made| made.is(&turn.group)).ok_or_else(unfit)?;
                    self.entries.extend(turn.group.iter().cloned());
                    run.takes(&turn.group);
                    continue;
                }
                Some(
                    trigger @ (Entry::Retried { seq, .. }
                    | Entry::Begun { seq, .. }
                    | Entry::Renewed { seq, .. }),
                ) => {
                    if !is_cut && (run.open.contains(seq) || *seq == GRACE) {
                        self.entries.push(trigger.clone());
                    }
                    continue;
                }
                Some(trigger @ Entry::Upgraded { .. }) => {
                    if !is_cut {
                        self.entries.push(trigger.clone());
                    }
                    continue;
                }
                Some(_) => continue,
            };
            let fits = match trigger {
                Entry::Answered { seq, result, .. } => {
                    let is_open = run.open.contains(seq);
                    if is_open && self.is_left_out(*seq, result) {
                        self.lose(&turn.group);
                        is_cut |= fault::is_in(Fault::SuccessesCut);
                        continue;
                    }
                    is_open
                }
                _ if self.undoes => {
                    self.lose(&turn.group);
                    continue;
                }
                _ => true,
            };
            if is_cut || !fits {
                self.lose(&turn.group);
                self.trigger_back(&run.open, trigger);
                continue;
            }
            let asks = turn.group.iter().any(|entry| matches!(entry, Entry::Requested { .. }));
            if asks && run.machine.next_request() != turn.first {
                self.entries.push(Entry::Rewound { seq: turn.first, time: now, used: None });
                run.machine.number_from(turn.first);
            }
            match run.trigger(trigger) {
                Some(made) if made.is(&turn.group) => {
                    run.took(trigger);
                    run.takes(&turn.group);
                    self.entries.push(trigger.clone());
                    self.entries.extend(turn.group.iter().cloned());
                }
                Some(made) if made.is_nothing() => {
                    run.took(trigger);
                    self.entries.push(trigger.clone());
                    self.lose(&turn.group);
                }
                _ => {
                    is_cut = true;
                    self.lose(&turn.group);
                    self.trigger_back(&run.open, trigger);
                }
            }
        }
        Ok(())
    }
}

impl Refit {
    /// Fits a history to a run in which the requests of `again` have no answers yet.
    pub fn of(
        image: &Rc<Image>,
        record: &InstanceRecord,
        history: &History,
        original: &Original,
        Wish { again, undoes }: Wish<'_>,
        now: i64,
    ) -> Result<Refit, String> {
        let begin = |entries: Vec<Entry>| {
            let record = InstanceRecord { status: Status::Running, ended: None, ..record.clone() };
            Instance::new(image, record, History { entries, tail: None, ..history.clone() })
        };
        let (machine, open) = begin(Vec::new())?.evaluation.into_parts();
        let mut run = Run { machine, open: open.keys().copied().collect() };
        let mut fitting = Fitting {
            original,
            again,
            undoes,
            left_out: BTreeSet::new(),
            entries: Vec::new(),
            later: Vec::new(),
            cut: Vec::new(),
        };
        fitting.walk(&mut run, now)?;
        let Fitting { mut entries, later, cut, .. } = fitting;
        // The kept entries must lead to the state in which the run waits. A replay of them checks
        // that.
        let mut instance = begin(entries.clone())?;
        while !instance.is_live() {
            match instance.advance(SLICE, 0, false, &mut |_, _| ()) {
                Advance::More | Advance::OutOfFuel => {}
                _ => return Err(unfit()),
            }
        }
        let (mut machine, open) = instance.evaluation.into_parts();
        // Nothing may follow from the last answer, in which case the machine has not run since.
        while matches!(machine.run(SLICE), Progress::OutOfFuel) {}
        if machine.next_request() != original.next {
            let next = match fault::is_in(Fault::NumbersAgain) {
                true => machine.next_request(),
                false => original.next,
            };
            // What the number of the next request comes from is not what checks it.
            let used = history.entries.iter().filter_map(Entry::greatest).max();
            entries.push(Entry::Rewound { seq: next, time: now, used });
        }
        Ok(Refit { entries, later, cut, open: open.into_all(), machine })
    }

    /// Returns the critical section that the instance is in, if any: the request that asked for it,
    /// or an error if its entities were called since.
    pub fn section(&self) -> Option<Result<u64, ()>> {
        if !self.machine.is_in_section() {
            return None;
        }
        let mut section = Err(());
        for entry in &self.entries {
            match entry {
                Entry::Requested { seq, what, .. } if what.effect() == Some(Effect::Lock) => {
                    section = Ok(*seq);
                }
                Entry::Requested { what: RecordedRequest::Operation { signal: None, .. }, .. } => {
                    section = Err(())
                }
                _ => {}
            }
        }
        Some(section)
    }

    /// Returns the sleeps that limit the time of these requests.
    pub fn limits(&self, of: &[u64]) -> Vec<u64> {
        let is_sleep = |seq: &u64| self.open.get(seq).is_some_and(|open| open.is_timer());
        self.machine.rivals(of).into_iter().filter(is_sleep).collect()
    }
}
