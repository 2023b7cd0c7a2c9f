//! The evaluation of an instance: its machine, the rest of its history to replay, and its open
//! requests.
//!
//! Evaluation and replay are the same code. During replay, each event must equal the next recorded
//! entry. After it, each event is recorded as a new entry.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::machine::{Cancellation, Data, ErrorData, Machine, Progress, Request};
use crate::syntax::Place;

use super::agenda::Agenda;
use super::arrivals::{Arrival, Arrivals, Delivery};
use super::entry::{Args, Entry, GRACE, Postmark, RecordedRequest};
use super::journal::Journal;
use super::open::{Open, Requests, describe};
use super::record::InstanceRecord;

/// A replay that made another request than the history holds. Each side is a text with its place in
/// the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// The entry of the history, or `None` at its end.
    pub recorded: Option<(String, Place)>,
    /// The program's request, cancellation or wait, or `None` if it has none.
    pub found: Option<(String, Place)>,
}

/// The result of one step of an evaluation.
#[derive(Debug)]
pub(super) enum Advance {
    /// The instance can go on at once.
    More,
    /// The slice is used up.
    OutOfFuel,
    Waiting,
    /// The program has ended. The end is recorded once its lines are out.
    Ending,
    Ended,
    /// The grace period of the cancelled instance is over. The data is the reason.
    GraceIsOver(Data),
    Nondeterminism(Mismatch),
}

/// An observer of every entry that is replayed or made. The entry of a request comes with the
/// request, and so does that of an answer to an open request.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

/// The context of an evaluation step: the end of the history, the arrivals, the current time, and
/// the observer.
pub(super) struct Around<'a> {
    pub journal: &'a mut Journal,
    pub arrivals: &'a mut Arrivals,
    pub now: i64,
    pub watch: Watch<'a>,
}

/// The phase of an evaluation.
enum Phase {
    /// The evaluation has not run in this process, and may stand in the middle of a turn.
    Unevaluated,
    /// The program is in a turn: after an answer, and before all tasks wait.
    Amid,
    /// The program is between two turns: all tasks wait, and their requests are dispatched.
    Between,
    /// The program has ended, and its end waits until its lines are out.
    Ending(Result<Data, ErrorData>),
}

/// The evaluation of an instance.
///
/// Invariant: a request is open from its own entry to that of its answer or its cancellation.
/// Nothing is recorded before the replay is complete, and no replayed request is sent twice.
pub(super) struct Evaluation {
    machine: Machine,
    /// The rest of the history to replay.
    past: VecDeque<Entry>,
    pub open: Requests,
    /// The sent messages whose answers nobody waits for any more. Their answers are recorded
    /// nevertheless, for a rewind.
    given_up: BTreeSet<u64>,
    phase: Phase,
    pub agenda: Agenda,
    /// The fuel used since it was last taken.
    spent: u64,
}

impl Evaluation {
    /// Returns an evaluation at its beginning, or at the state of its machine. It first replays
    /// `past`.
    pub fn new(
        machine: Machine,
        past: Vec<Entry>,
        (open, given_up): (Requests, BTreeSet<u64>),
        agenda: Agenda,
    ) -> Evaluation {
        Evaluation { machine, past: past.into(), open, given_up, phase: Phase::Unevaluated, agenda, spent: 0 }
    }

    /// Whether the evaluation has caught up with its history.
    pub fn is_live(&self) -> bool {
        self.past.is_empty()
    }

    /// Returns the rest of the history to replay.
    pub fn past(&self) -> impl Iterator<Item = &Entry> {
        self.past.iter()
    }

    /// Returns the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the machine and the open requests.
    pub fn into_parts(self) -> (Machine, Requests) {
        (self.machine, self.open)
    }

    /// Returns the unanswered messages whose answers nobody waits for any more.
    pub fn given_up(&self) -> Vec<u64> {
        self.given_up.iter().copied().collect()
    }

    /// Returns the fuel used since the last call.
    pub fn take_spent(&mut self) -> u64 {
        std::mem::take(&mut self.spent)
    }

    // ---- phases

    /// Whether the evaluation has run in this process.
    pub fn has_run(&self) -> bool {
        !matches!(self.phase, Phase::Unevaluated)
    }

    /// Whether the instance was terminated before it did anything, as its history says.
    pub fn never_ran(&self) -> bool {
        !self.has_run() && matches!(self.past.front(), Some(Entry::Terminated { .. }))
    }

    /// Whether the evaluation is between two turns, and not at its end.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Between)
    }

    /// Whether the evaluation is between two turns or at its end, so that nothing is interrupted if
    /// the instance is ended.
    pub fn rests(&self) -> bool {
        matches!(self.phase, Phase::Between | Phase::Ending(_))
    }

    /// Whether the program has ended, and the end waits until its lines are out.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// Begins a turn, after something was taken in.
    pub fn begin_turn(&mut self) {
        self.phase = Phase::Amid;
    }

    /// Ends a turn: all tasks wait, or the program has ended, and all requests are dispatched.
    pub fn end_turn(&mut self) {
        if !self.is_ending() {
            self.phase = Phase::Between;
        }
    }

    /// Notes that the program has ended with this outcome, and that the end has to wait.
    pub fn wait_to_end(&mut self, outcome: Result<Data, ErrorData>) {
        debug_assert!(self.is_live(), "a replayed end does not wait");
        self.phase = Phase::Ending(outcome);
    }

    fn take_ending(&mut self) -> Option<Result<Data, ErrorData>> {
        if !self.is_ending() {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::Ending(outcome) => Some(outcome),
            _ => None,
        }
    }

    // ---- attempts

    /// Asks the program whether it wants another attempt after an error. An `Err` is the error of
    /// the policy's `when`.
    pub fn judge(&mut self, seq: u64, error: &ErrorData) -> Result<bool, ErrorData> {
        self.machine.judge(seq, error)
    }

    /// Notes that another attempt at a request begins at the time `again`.
    pub fn retried(&mut self, seq: u64, again: i64) {
        if let Some(open) = self.open.get_mut(seq) {
            open.attempt += 1;
            open.begun = false;
            open.begins = again;
            open.dispatched = false;
            self.agenda.is_due(open);
        }
    }

    /// Replays the next entries about attempts and upgrades. They came between two answers,
    /// regardless of how far the program was.
    fn attempts(&mut self, watch: Watch<'_>) {
        while let Some(Entry::Retried { .. } | Entry::Begun { .. } | Entry::Upgraded { .. }) =
            self.past.front()
            && let Some(entry) = self.past.pop_front()
        {
            watch(&entry, None);
            match entry {
                Entry::Retried { seq, again, .. } => self.retried(seq, again),
                Entry::Begun { seq, .. } => {
                    if let Some(open) = self.open.get_mut(seq) {
                        open.begun = true;
                    }
                }
                _ => {}
            }
        }
    }

    // ---- progress

    /// Evaluates up to the next requests or the end. Returns the progress, and the fuel that it
    /// took.
    pub fn run(&mut self, fuel: u64) -> (Progress, u64) {
        let progress = match self.take_ending() {
            Some(outcome) => Progress::Done(outcome),
            None => {
                if !self.has_run() {
                    self.phase = Phase::Amid;
                }
                self.machine.run(fuel)
            }
        };
        let spent = self.machine.take_spent();
        self.spent += spent;
        (progress, spent)
    }

    /// Takes the program's new requests, and those that it no longer waits for.
    pub fn take_requests(&mut self, around: &mut Around<'_>) -> Result<(), Mismatch> {
        for request in self.machine.take_requests() {
            self.requested(request, around)?;
        }
        for seq in self.machine.take_withdrawn() {
            self.withdrawn(seq, around)?;
        }
        Ok(())
    }

    /// Returns the time of the next entry, and whether it is recorded. During replay, it is the
    /// next recorded entry; one that does not fit is the error. After replay, it is a new entry,
    /// which is recorded here.
    fn next_entry(
        &mut self,
        request: Option<&Request>,
        fits: impl FnOnce(&Entry) -> bool,
        fresh: impl FnOnce(i64) -> Entry,
        around: &mut Around<'_>,
    ) -> Result<(i64, bool), Box<Entry>> {
        self.attempts(around.watch);
        match self.past.pop_front() {
            None => {
                let entry = fresh(around.now);
                (around.watch)(&entry, request);
                around.journal.push(entry);
                Ok((around.now, false))
            }
            Some(entry) if fits(&entry) => {
                (around.watch)(&entry, request);
                Ok((entry.time(), true))
            }
            Some(entry) => Err(Box::new(entry)),
        }
    }

    fn requested(&mut self, request: Request, around: &mut Around<'_>) -> Result<(), Mismatch> {
        let fits = |entry: &Entry| entry.is_of(&request);
        let fresh = |time| Entry::requested(&request, time);
        let (time, recorded) = self.next_entry(Some(&request), fits, fresh, around).map_err(|entry| {
            let found = describe(&RecordedRequest::of(&request.what), &Args::of(&request.args));
            Mismatch { recorded: Some(self.side(&entry)), found: Some((found, request.place)) }
        })?;
        if !around.arrivals.expect(&request) {
            self.agenda.add(request.seq);
        }
        let open = Open::of(request, time, recorded);
        self.agenda.asked(&open);
        self.open.insert(open);
        Ok(())
    }

    fn withdrawn(&mut self, seq: u64, around: &mut Around<'_>) -> Result<(), Mismatch> {
        let fits = |entry: &Entry| matches!(entry, Entry::Cancelled { seq: known, .. } if *known == seq);
        let fresh = |time| Entry::Cancelled { seq, time };
        let (_, recorded) = self.next_entry(None, fits, fresh, around).map_err(|entry| {
            let open = self.open.get(&seq);
            let found = open.map(|open| (format!("cancels {}", open.describe()), open.request.place));
            Mismatch { recorded: Some(self.side(&entry)), found }
        })?;
        around.arrivals.forget(seq);
        // The consequences of a recorded cancellation followed when it was recorded.
        if let Some(open) = self.open.remove(seq) {
            if open.is_sent() {
                self.given_up.insert(seq);
            }
            if !recorded {
                self.agenda.dropped.push((seq, open));
            }
        }
        Ok(())
    }

    /// Records or replays the end. Returns whether the end was recorded before.
    pub fn end(&mut self, around: &mut Around<'_>) -> Result<bool, Mismatch> {
        let fits = |entry: &Entry| matches!(entry, Entry::Ended { .. });
        let ended = self.next_entry(None, fits, |time| Entry::Ended { time }, around);
        let mismatch = |entry: Box<Entry>| Mismatch { recorded: Some(self.side(&entry)), found: None };
        ended.map(|(_, recorded)| recorded).map_err(mismatch)
    }

    /// Replays rewinds that come next, and number the requests of the turn that follows. Returns
    /// whether there were any, and the replay is complete.
    pub fn renumber(&mut self, watch: Watch<'_>) -> bool {
        let mut has_any = false;
        while let Some(Entry::Rewound { .. } | Entry::Upgraded { .. }) = self.past.front()
            && let Some(entry) = self.past.pop_front()
        {
            watch(&entry, None);
            if let Entry::Rewound { seq, .. } = entry {
                self.machine.number_from(seq);
            }
            has_any = true;
        }
        has_any && self.is_live()
    }

    /// Replays the next entry, or returns `None` if the replay is complete.
    pub fn replay(&mut self, around: &mut Around<'_>) -> Option<Advance> {
        self.attempts(around.watch);
        let entry = self.past.pop_front()?;
        if let Entry::Answered { seq, result, time, came } = entry {
            around.arrivals.forget(seq);
            self.answered(seq, (result, came), time, around.watch);
            return Some(Advance::More);
        }
        let advance = match &entry {
            Entry::Terminated { .. } => Advance::Ended,
            Entry::Cancelling { what, time } => {
                self.cancel(what, *time, true);
                Advance::More
            }
            Entry::Rewound { seq, .. } => {
                self.machine.number_from(*seq);
                Advance::More
            }
            Entry::Renewed { seq, time } => {
                if let Some(open) = self.open.get_mut(*seq) {
                    open.renew(*time);
                }
                Advance::More
            }
            _ => {
                let mut open = self.open.values();
                let found =
                    open.next().map(|open| (format!("waits for {}", open.describe()), open.request.place));
                return Some(Advance::Nondeterminism(Mismatch { recorded: Some(self.side(&entry)), found }));
            }
        };
        (around.watch)(&entry, None);
        Some(advance)
    }

    /// Takes in the first of all arrivals, if nothing must be dispatched before.
    pub fn take_in(&mut self, record: &InstanceRecord, around: &mut Around<'_>) -> Advance {
        debug_assert!(self.is_live(), "nothing is taken in before the past is replayed");
        let now = around.now;
        if self.agenda.comes_first(now) && !around.arrivals.has_lines() {
            return Advance::Waiting;
        }
        // Whatever the program does at once is done before it is cancelled.
        if self.agenda.has_requests() && around.arrivals.is_cancellation_next() {
            return Advance::Waiting;
        }
        match around.arrivals.next(record, &self.open, &mut self.agenda.lines) {
            Some(Arrival::Cancellation(what)) => {
                if !self.open.contains_key(&GRACE) {
                    let entry = Entry::Cancelling { what: what.clone(), time: now };
                    (around.watch)(&entry, None);
                    around.journal.push(entry);
                    self.cancel(&what, now, false);
                }
                Advance::More
            }
            Some(Arrival::Answer(Delivery { seq: GRACE, .. })) => match self.open.cancelled_for() {
                Some(reason) => Advance::GraceIsOver(reason),
                None => Advance::More,
            },
            Some(Arrival::Answer(Delivery { seq, result, sends, came })) => {
                if self.open.contains_key(&seq) || self.given_up.contains(&seq) {
                    around.journal.push(Entry::Answered { seq, result: result.clone(), time: now, came });
                    if !sends.is_empty() {
                        self.agenda.outgoing.push((seq, sends));
                    }
                    around.arrivals.answered(seq);
                    self.answered(seq, (result, came), now, around.watch);
                }
                Advance::More
            }
            None => Advance::Waiting,
        }
    }

    /// Cancels everything that runs in the instance, and begins the grace period.
    fn cancel(&mut self, what: &Cancellation, time: i64, recorded: bool) {
        self.machine.cancel_instance(what);
        let grace = Open::grace(what, time, recorded);
        self.agenda.asked(&grace);
        self.agenda.add(GRACE);
        self.open.insert(grace);
    }

    fn answered(
        &mut self,
        seq: u64,
        (result, came): (Result<Data, ErrorData>, Option<Postmark>),
        time: i64,
        watch: Watch<'_>,
    ) {
        let entry = Entry::Answered { seq, result, time, came };
        watch(&entry, self.open.get(&seq).map(|open| &open.request));
        self.open.remove(seq);
        self.given_up.remove(&seq);
        if let Entry::Answered { result, .. } = entry {
            self.machine.answer(seq, result);
        }
    }

    /// Returns an entry of the history as one side of a mismatch.
    fn side(&self, entry: &Entry) -> (String, Place) {
        let of = |seq: &u64| self.open.get(seq).map_or_else(Place::default, |open| open.request.place);
        match entry {
            Entry::Requested { what, args, place, .. } => (describe(what, args), *place),
            Entry::Answered { seq, .. } => (format!("the answer to request {seq}"), of(seq)),
            Entry::Retried { seq, .. } | Entry::Begun { seq, .. } => {
                (format!("another attempt at request {seq}"), of(seq))
            }
            Entry::Cancelled { seq, .. } => (format!("request {seq} is cancelled"), of(seq)),
            Entry::Ended { .. } => ("the end".to_string(), Place::default()),
            Entry::Terminated { .. } => ("it was terminated".to_string(), Place::default()),
            Entry::Rewound { .. } => ("it was rewound".to_string(), Place::default()),
            Entry::Renewed { seq, .. } => (format!("request {seq} is asked again"), of(seq)),
            Entry::Cancelling { .. } => ("it was cancelled".to_string(), Place::default()),
            Entry::Upgraded { .. } => ("it was upgraded".to_string(), Place::default()),
        }
    }
}
