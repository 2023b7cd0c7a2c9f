//! The evaluation of an instance: its machine, what of its history is still to be replayed, and what it waits for.
//!
//! Evaluation and replay are the same code. What happens next is the next entry of the past, and has to be the same; once the
//! past is replayed, it is a new entry, and is recorded.

use std::collections::{BTreeSet, VecDeque};

use crate::machine::{Data, ErrorData, Machine, Progress, Request};
use crate::syntax::Place;

use super::agenda::Agenda;
use super::arrivals::{Arrivals, Delivery};
use super::entry::{Args, Entry, RecordedRequest};
use super::journal::Journal;
use super::open::{Open, Requests, describe, policy_of};
use super::record::InstanceRecord;

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
    /// It is at its end, which waits for its lines to be out.
    Ending,
    Ended,
    Nondeterminism(Mismatch),
}

/// Sees every entry of the history as it is replayed or made; a request's entry with the request.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

/// What an evaluation goes on with: the end of its history, what has come for it, when that is, and who watches.
pub(super) struct Around<'a> {
    pub journal: &'a mut Journal,
    pub arrivals: &'a mut Arrivals,
    pub now: i64,
    pub watch: Watch<'a>,
}

/// Where an evaluation is.
enum Phase {
    /// It has not gone on in this process: it may stand in the middle of a turn.
    Unevaluated,
    /// In a turn of the program: after an answer, and before all tasks wait.
    Amid,
    /// Between two of these turns: all tasks wait, and what they asked for is seen to.
    Between,
    /// At its end, which waits for its lines to be out.
    Ending(Result<Data, ErrorData>),
}

/// What is evaluated.
///
/// Invariant: a request is open from its entry to that of its answer or of its cancellation. Nothing is recorded as long as
/// there is a past, and nothing of it is asked of others twice.
pub(super) struct Evaluation {
    machine: Machine,
    /// What of its history is still to be replayed.
    past: VecDeque<Entry>,
    pub open: Requests,
    /// Messages that were sent and that nobody waits for any more: their answers are noted all the same, for a rewinding.
    given_up: BTreeSet<u64>,
    phase: Phase,
    pub agenda: Agenda,
    /// Fuel that it has used since this was last taken.
    spent: u64,
}

impl Evaluation {
    /// An evaluation at its beginning, or where its machine is, with a past that is replayed first.
    pub fn new(
        machine: Machine,
        past: Vec<Entry>,
        (open, given_up): (Requests, BTreeSet<u64>),
        agenda: Agenda,
    ) -> Evaluation {
        Evaluation { machine, past: past.into(), open, given_up, phase: Phase::Unevaluated, agenda, spent: 0 }
    }

    /// Whether it has caught up with its history.
    pub fn is_live(&self) -> bool {
        self.past.is_empty()
    }

    /// What of its history is still to be replayed.
    pub fn past(&self) -> impl Iterator<Item = &Entry> {
        self.past.iter()
    }

    /// The machine that evaluates it.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its machine and its open requests.
    pub fn into_parts(self) -> (Machine, Requests) {
        (self.machine, self.open)
    }

    /// Messages that were sent, that nobody waits for any more, and that were not answered.
    pub fn given_up(&self) -> Vec<u64> {
        self.given_up.iter().copied().collect()
    }

    /// The fuel that it has used since this was last asked for.
    pub fn take_spent(&mut self) -> u64 {
        std::mem::take(&mut self.spent)
    }

    // ---- phases

    /// Whether it has gone on in this process.
    pub fn has_run(&self) -> bool {
        !matches!(self.phase, Phase::Unevaluated)
    }

    /// Whether it is between two turns, and not at its end.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Between)
    }

    /// Whether it is between two turns, or at its end: what ends it interrupts nothing.
    pub fn rests(&self) -> bool {
        matches!(self.phase, Phase::Between | Phase::Ending(_))
    }

    /// Whether it is at its end, which waits for its lines to be out.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending(_))
    }

    /// It has taken something in, and is in a turn.
    pub fn begin_turn(&mut self) {
        self.phase = Phase::Amid;
    }

    /// All tasks wait, or it is at its end, and all that it asked for is seen to.
    pub fn end_turn(&mut self) {
        if !self.is_ending() {
            self.phase = Phase::Between;
        }
    }

    /// It is at its end, which waits.
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

    /// Whether the program wants another attempt after an error; an error is that of its `when`.
    pub fn judge(&mut self, seq: u64, error: &ErrorData) -> Result<bool, ErrorData> {
        self.machine.judge(seq, error)
    }

    /// Another attempt at a request begins at a time.
    pub fn retried(&mut self, seq: u64, again: i64) {
        if let Some(open) = self.open.get_mut(seq) {
            open.attempt += 1;
            open.begun = false;
            open.begins = again;
            open.dispatched = false;
            self.agenda.is_due(open);
        }
    }

    /// Takes in what the history says next of attempts: it came between two answers, however far the program was.
    fn attempts(&mut self, watch: Watch<'_>) {
        while let Some(Entry::Retried { .. } | Entry::Begun { .. }) = self.past.front()
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

    // ---- going on

    /// Evaluates up to the next requests or the end. Answers what came of it, and the fuel that it took.
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

    /// Takes in what the program has asked for, and what it waits for no more.
    pub fn take_requests(&mut self, around: &mut Around<'_>) -> Result<(), Mismatch> {
        for request in self.machine.take_requests() {
            self.requested(request, around)?;
        }
        for seq in self.machine.take_withdrawn() {
            self.withdrawn(seq, around)?;
        }
        Ok(())
    }

    /// The next entry: the next one of the past, which has to fit, or a new one, which is recorded. Answers its time, and
    /// whether it is of the past; one that does not fit is the error.
    fn next_entry(
        &mut self,
        request: Option<&Request>,
        fits: impl FnOnce(&Entry) -> bool,
        fresh: impl FnOnce(i64) -> Entry,
        around: &mut Around<'_>,
    ) -> Result<(i64, bool), Entry> {
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
            Some(entry) => Err(entry),
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
        let policy = policy_of(&request);
        let open = Open {
            request,
            time,
            round: 0,
            attempt: 1,
            begins: time,
            begun: false,
            policy,
            dispatched: false,
            recorded,
        };
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
        // What follows from a recorded one was done when it was recorded.
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

    /// Comes to its end. Answers whether that is of the past.
    pub fn end(&mut self, around: &mut Around<'_>) -> Result<bool, Mismatch> {
        let fits = |entry: &Entry| matches!(entry, Entry::Ended { .. });
        let ended = self.next_entry(None, fits, |time| Entry::Ended { time }, around);
        let mismatch = |entry| Mismatch { recorded: Some(self.side(&entry)), found: None };
        ended.map(|(_, recorded)| recorded).map_err(mismatch)
    }

    /// Takes in the next entry of the past; none when there is none.
    pub fn replay(&mut self, around: &mut Around<'_>) -> Option<Advance> {
        self.attempts(around.watch);
        let entry = self.past.pop_front()?;
        if let Entry::Answered { seq, result, time } = entry {
            around.arrivals.forget(seq);
            self.answered(seq, result, time, around.watch);
            return Some(Advance::More);
        }
        let advance = match &entry {
            Entry::Terminated { .. } => Advance::Ended,
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

    /// Takes in the first of all that waits for it, if nothing comes before that.
    pub fn take_in(&mut self, record: &InstanceRecord, around: &mut Around<'_>) -> Advance {
        debug_assert!(self.is_live(), "nothing is taken in before the past is replayed");
        let now = around.now;
        if self.agenda.comes_first(now) && !around.arrivals.has_lines() {
            return Advance::Waiting;
        }
        match around.arrivals.next_answer(record, &self.open, &mut self.agenda.lines) {
            Some(Delivery { seq, result, sends }) => {
                if self.open.contains_key(&seq) || self.given_up.contains(&seq) {
                    around.journal.push(Entry::Answered { seq, result: result.clone(), time: now });
                    if !sends.is_empty() {
                        self.agenda.outgoing.push((seq, sends));
                    }
                    around.arrivals.answered(seq);
                    self.answered(seq, result, now, around.watch);
                }
                Advance::More
            }
            None => Advance::Waiting,
        }
    }

    fn answered(&mut self, seq: u64, result: Result<Data, ErrorData>, time: i64, watch: Watch<'_>) {
        let entry = Entry::Answered { seq, result, time };
        watch(&entry, self.open.get(&seq).map(|open| &open.request));
        self.open.remove(seq);
        self.given_up.remove(&seq);
        if let Entry::Answered { result, .. } = entry {
            self.machine.answer(seq, result);
        }
    }

    /// An entry of the history as one side of a mismatch.
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
        }
    }
}
