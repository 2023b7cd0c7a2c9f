//! One instance: its machine, its past that is still to be replayed, and what it waits for.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;

use crate::builtins::{Context, Effect};
use crate::kv::Batch;
use crate::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Request, RequestKind, format};
use crate::syntax::Place;

use super::address::{LifeId, Waiter};
use super::checkpoint::{self, Checkpoint, Checkpoints, Retention};
use super::entry::{Entry, RecordedRequest};
use super::fault::{self, Fault};
use super::history::History;
use super::journal::Journal;
use super::keys;
use super::mailbox::Mailbox;
use super::message::{Came, Mail};
use super::open::{Open, Requests, describe, policy_of};
use super::outbox::{Line, is_line};
use super::receives::Receives;
use super::record::{InstanceRecord, Status};

/// What the record of a script says that it runs.
pub const SCRIPT: &str = "script";

/// What the record of a test says that it runs: no orchestration has such a name.
pub fn test_function(name: &str) -> String {
    format!("test {name:?}")
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
    /// It is at its end, which waits for its lines to be out.
    Ending,
    Ended,
    Nondeterminism(Mismatch),
}

/// Sees every entry of the history as it is replayed or made; a request's entry with the request.
pub(super) type Watch<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

/// An answer that has come, and what an activity sent with it.
#[derive(Clone)]
pub(super) struct Delivery {
    pub seq: u64,
    pub result: Result<Data, ErrorData>,
    pub sends: Vec<Request>,
}

pub(super) struct Instance {
    pub record: InstanceRecord,
    /// The record is to be written with the next commit.
    pub record_changed: bool,
    pub image: Rc<Image>,
    machine: Machine,
    past: VecDeque<Entry>,
    pub open: Requests,
    /// Those of them that wait for an event.
    pub(super) receives: Receives,
    /// Those of them that are for a line. They are answered at once.
    pub(super) unanswered_lines: VecDeque<u64>,
    /// Lines that the engine has not seen to yet.
    pub lines: Vec<Line>,
    /// How it ended, as long as lines of it are not out.
    ending: Option<Result<Data, ErrorData>>,
    /// Requests that the engine has not seen to yet.
    pub undispatched: Vec<u64>,
    /// One of those is a message that is not sent yet. It is sent before anything else is taken in: what a turn asked of
    /// others happens, though the next turn may give it up, and a rewinding relies on it.
    unsent: bool,
    /// When the first of their timers is due.
    first_due: i64,
    /// Requests that nobody waits for any more.
    pub dropped: Vec<(u64, Box<Open>)>,
    /// Answers to requests that the engine itself has seen to: they are part of the turn that asked.
    pub(super) at_once: VecDeque<u64>,
    /// Answers of this process, in the order in which they are taken in.
    pub(super) inbox: BTreeMap<Came, Delivery>,
    /// How many there were.
    pub(super) delivered: u64,
    pub mail: Mailbox,
    /// Mail that was taken in since the engine last asked.
    pub taken: Vec<Rc<Mail>>,
    /// What activities sent whose results were taken in, each with its step.
    pub outgoing: Vec<(u64, Vec<Request>)>,
    /// Requests that this process has seen to already, each with its attempt, when it is replayed in its place.
    seen_to: BTreeMap<u64, u32>,
    /// Messages that were sent and that nobody waits for any more: their answers are noted all the same, for a rewinding.
    given_up: BTreeSet<u64>,
    pub journal: Journal,
    /// Nanoseconds that replay since the last checkpoint takes, about.
    replay: u64,
    /// Bytes that a checkpoint takes, by what is known: more than the half of it.
    expected: usize,
    /// The last checkpoint: where it is in the history, and whether what is before it is gone.
    checkpoint: Option<(u64, bool)>,
    /// The store has a checkpoint of the execution before.
    leaves_checkpoint: bool,
    pub queued: bool,
    /// Fuel that it has used since this was last taken.
    pub spent: u64,
    /// When it last began to wait, by the engine's count.
    pub parked: u64,
    /// It has been evaluated in this process.
    has_run: bool,
    /// It is between two turns.
    pub between: bool,
    /// It goes on although its slice is used up.
    pub computes: bool,
    /// Whether the index of active instances has it; none when that is not known.
    pub indexed: Option<bool>,
}

impl Instance {
    /// An instance at its beginning, or at a checkpoint; what its history holds is replayed first. An error says what its
    /// program lacks.
    pub fn new(image: &Rc<Image>, record: InstanceRecord, history: History) -> Result<Instance, String> {
        let args = record.args.items();
        let code = &image.code;
        let function = match record.function.as_str() {
            SCRIPT => code.script,
            name => {
                let found = code.isolated.iter().find(|item| item.name == name);
                let found = found.filter(|item| item.context == Some(Context::Orchestration));
                let test = || code.tests.iter().find(|test| test_function(&test.name) == name);
                let found = found.map(|item| item.body).or_else(|| test().map(|test| test.function));
                found.ok_or_else(|| format!("its program has no orchestration `{name}`"))?
            }
        };
        let identity = Identity { id: record.id.clone(), attempt: record.attempt, ..Identity::default() };
        let (mut receives, mut open) = (Receives::default(), Requests::default());
        let (mut unanswered_lines, mut first_due) = (VecDeque::new(), i64::MAX);
        let (mut checkpoint, mut expected, mut given_up) = (None, 0, BTreeSet::new());
        let journal = Journal::after(&history);
        let mut machine = match history.after {
            None => Machine::new(image.clone(), Context::Orchestration, function, args, identity),
            Some(saved) => {
                checkpoint = Some((saved.chunks, saved.trimmed));
                expected = saved.size();
                given_up.extend(&saved.given_up);
                let restored = saved.is_of(code).then(|| Machine::restore(image.clone(), &saved.machine.0));
                let unfit =
                    || "its checkpoint was made by another version, or for another program".to_string();
                for saved in saved.open {
                    let again = Open::restored(saved).ok_or_else(unfit)?;
                    if again.request.what == RequestKind::Effect(Effect::Receive) {
                        receives.insert(again.request.seq, first_text(&again.request.args));
                    }
                    if is_line(&again.request.what) {
                        unanswered_lines.push_back(again.request.seq);
                    }
                    first_due = first_due.min(again.due().unwrap_or(i64::MAX));
                    open.insert(again);
                }
                restored.flatten().ok_or_else(unfit)?
            }
        };
        // What began before lives were counted could choose any id.
        machine.names_freely = record.life == 0;
        let undispatched = open.keys().copied().filter(|seq| !unanswered_lines.contains(seq)).collect();
        let unsent = !record.rewound.is_empty();
        Ok(Instance {
            record,
            record_changed: false,
            image: image.clone(),
            machine,
            past: history.entries.into(),
            open,
            receives,
            unanswered_lines,
            lines: Vec::new(),
            ending: None,
            undispatched,
            unsent,
            first_due,
            dropped: Vec::new(),
            at_once: VecDeque::new(),
            inbox: BTreeMap::new(),
            delivered: 0,
            mail: Mailbox::default(),
            taken: Vec::new(),
            outgoing: Vec::new(),
            seen_to: BTreeMap::new(),
            given_up,
            journal,
            replay: 0,
            expected,
            checkpoint,
            leaves_checkpoint: false,
            queued: false,
            spent: 0,
            parked: 0,
            has_run: false,
            between: false,
            computes: false,
            indexed: None,
        })
    }

    /// Whether it has caught up with its history.
    pub fn is_live(&self) -> bool {
        self.past.is_empty()
    }

    /// The key of a step that is the same for each of its attempts, and of no other step of any life.
    pub fn step_key(&self, seq: u64) -> String {
        self.record.step_key(seq)
    }

    /// The id of the child that a request calls or starts, unless it says one.
    pub fn child_id(&self, seq: u64) -> String {
        self.record.child_id(seq)
    }

    /// Who waits for the answer to a request.
    pub fn waiter(&self, seq: u64) -> Waiter {
        let InstanceRecord { id, life, execution, .. } = &self.record;
        Waiter { instance: id.clone(), life: *life, execution: *execution, seq }
    }

    /// Its id and its life.
    pub fn life_id(&self) -> LifeId {
        self.record.life_id()
    }

    pub fn is_suspended(&self) -> bool {
        self.record.status == Status::Suspended
    }

    /// Whether it has more to do than to wait for what others send it.
    pub fn is_active(&self) -> bool {
        if self.is_suspended() {
            return false;
        }
        // One that was read where only clients are served stands where its history ends, which may be in the middle.
        !self.has_run
            || !self.between
            || !self.is_live()
            || self.queued
            || !self.inbox.is_empty()
            || self.is_ending()
            || self.open.are_active()
    }

    /// Whether nothing would be lost if it were read from the store again.
    pub fn can_be_dropped(&self) -> bool {
        self.is_live()
            && !self.queued
            && self.inbox.is_empty()
            && self.at_once.is_empty()
            && self.lines.is_empty()
            && !self.is_ending()
            && self.journal.is_written()
            && !self.record_changed
            && self.open.values().all(|open| !open.dispatched || open.is_timer())
    }

    /// Whether it is at its end, which waits for its lines to be out.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Takes the answers that have come and that it has not taken in.
    pub fn take_inbox(&mut self) -> BTreeMap<Came, Delivery> {
        std::mem::take(&mut self.inbox)
    }

    /// What of its history is still to be replayed.
    pub fn past(&self) -> impl Iterator<Item = &Entry> {
        self.past.iter()
    }

    /// The machine that evaluates it.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its machine and its open requests, before it was evaluated.
    pub fn into_parts(self) -> (Machine, Requests) {
        (self.machine, self.open)
    }

    /// Notes that somebody ended it.
    pub fn terminated(&mut self, why: Data, now: i64) {
        self.journal.push(Entry::Terminated { time: now });
        self.record.status = Status::Terminated(why);
        self.record.ended = Some(now);
        self.record_changed = true;
    }

    /// Begins again with new arguments. What was open is in the second part of the answer.
    pub fn continued(self, args: Data) -> Result<(Instance, BTreeMap<u64, Box<Open>>), String> {
        let mut record = self.record;
        let before = std::mem::replace(&mut record.args, args);
        if record.execution == 0 {
            record.begun_with = Some(before);
        }
        record.execution += 1;
        record.first = self.journal.chunks();
        let history = History { chunks: self.journal.chunks(), ..History::default() };
        let mut next = Instance::new(&self.image, record, history)?;
        next.record_changed = true;
        next.mail = self.mail;
        next.taken = self.taken;
        next.outgoing = self.outgoing;
        next.queued = self.queued;
        next.indexed = self.indexed;
        next.leaves_checkpoint = self.checkpoint.is_some() || self.leaves_checkpoint;
        Ok((next, self.open.into_all()))
    }

    /// The same instance with a longer program, from its history, which is all of it. What is under way stays so.
    pub fn extended(&self, image: &Rc<Image>, history: History) -> Result<Instance, String> {
        let record = InstanceRecord { program: image.code.hash, ..self.record.clone() };
        let mut next = Instance::new(image, record, history)?;
        next.record_changed = true;
        next.mail = self.mail.clone();
        (next.inbox, next.delivered) = (self.inbox.clone(), self.delivered);
        next.at_once = self.at_once.clone();
        next.indexed = self.indexed;
        next.seen_to = self
            .open
            .iter()
            .filter(|(_, open)| open.dispatched)
            .map(|(seq, open)| (*seq, open.attempt))
            .collect();
        Ok(next)
    }

    /// Whether it waits.
    pub fn waits(&self) -> bool {
        self.is_live() && !self.queued && self.record.ended.is_none()
    }

    /// Whether it waits, and all that happened to it is in the store.
    pub fn is_at_rest(&self) -> bool {
        self.waits() && self.journal.is_written()
    }

    /// The requests that are to be seen to: not those that this process has seen to before it was replayed.
    pub fn take_undispatched(&mut self) -> Vec<u64> {
        self.first_due = i64::MAX;
        self.unsent = false;
        let seen_to = std::mem::take(&mut self.seen_to);
        let mut all = std::mem::take(&mut self.undispatched);
        if !self.mail.answers.is_empty() {
            // What is done has its answer there, which waits to be taken in. Time limits of all else count.
            let answered = self.mail.answered((self.record.life, self.record.execution));
            let answered: HashSet<u64> = answered.collect();
            let open = &self.open;
            let is_done =
                |seq: &u64| answered.contains(seq) && open.get(seq).is_some_and(|open| open.is_broken_off());
            all.retain(|seq| !is_done(seq));
        }
        all.retain(|seq| match (self.open.get_mut(*seq), seen_to.get(seq)) {
            (Some(open), Some(attempt)) if open.attempt == *attempt => {
                open.dispatched = true;
                false
            }
            _ => true,
        });
        all
    }

    /// Whether the program wants another attempt after an error; an error is that of its `when`.
    pub fn judge(&mut self, seq: u64, error: &ErrorData) -> Result<bool, ErrorData> {
        self.machine.judge(seq, error)
    }

    /// Notes that an attempt failed and when the next begins.
    pub fn retry(&mut self, seq: u64, error: ErrorData, again: i64, now: i64) {
        let entry = Entry::Retried { seq, error, again, time: now };
        self.journal.push(entry);
        self.retried(seq, again);
        self.undispatched.push(seq);
    }

    /// Notes that an attempt after the first begins.
    pub fn begins(&mut self, seq: u64, now: i64) {
        if let Some(open) = self.open.get_mut(seq).filter(|open| open.attempt > 1 && !open.begun) {
            open.begun = true;
            self.journal.push(Entry::Begun { seq, time: now });
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

    fn retried(&mut self, seq: u64, again: i64) {
        if let Some(open) = self.open.get_mut(seq) {
            open.attempt += 1;
            open.begun = false;
            open.begins = again;
            open.dispatched = false;
            self.first_due = self.first_due.min(open.due().unwrap_or(i64::MAX));
        }
    }

    /// Evaluates up to its next requests or its end, then takes the next answer, from its past or of all that waits for it.
    /// Its end may be held back as long as lines of it are not out.
    pub fn advance(&mut self, fuel: u64, now: i64, holds_end: bool, watch: Watch<'_>) -> Advance {
        self.has_run = true;
        let was_live = self.is_live();
        let progress = match self.ending.take() {
            Some(outcome) => Progress::Done(outcome),
            None => self.machine.run(fuel),
        };
        let spent = self.machine.take_spent();
        self.spent += spent;
        self.replay += spent * checkpoint::FUEL;
        if matches!(progress, Progress::OutOfFuel) {
            return Advance::OutOfFuel;
        }
        for request in self.machine.take_requests() {
            if let Err(mismatch) = self.requested(request, now, watch) {
                return Advance::Nondeterminism(mismatch);
            }
        }
        for seq in self.machine.take_withdrawn() {
            self.attempts(watch);
            let live = self.past.is_empty();
            let entry = match self.past.pop_front() {
                None => {
                    let entry = Entry::Cancelled { seq, time: now };
                    self.journal.push(entry.clone());
                    entry
                }
                Some(entry) if matches!(entry, Entry::Cancelled { seq: known, .. } if known == seq) => entry,
                Some(entry) => {
                    let open = self.open.get(&seq);
                    let found = open.map(|open| (format!("cancels {}", open.describe()), open.request.place));
                    return Advance::Nondeterminism(Mismatch { recorded: Some(self.side(&entry)), found });
                }
            };
            watch(&entry, None);
            self.receives.remove(seq);
            self.unanswered_lines.retain(|known| *known != seq);
            // What follows from a recorded one was done when it was recorded.
            if let Some(open) = self.open.remove(seq) {
                if open.is_sent() {
                    self.given_up.insert(seq);
                }
                if live {
                    self.dropped.push((seq, open));
                }
            }
        }
        if let Progress::Done(outcome) = progress {
            if self.past.is_empty() && (holds_end || !self.lines.is_empty()) {
                self.ending = Some(outcome);
                return Advance::Ending;
            }
            return self.done(outcome, now, watch);
        }
        self.attempts(watch);
        match self.past.pop_front() {
            Some(Entry::Answered { seq, result, time }) => {
                self.unanswered_lines.retain(|known| *known != seq);
                self.answered(seq, result, time, watch);
                Advance::More
            }
            Some(entry @ Entry::Terminated { .. }) => {
                watch(&entry, None);
                Advance::Ended
            }
            Some(entry @ Entry::Rewound { seq, .. }) => {
                watch(&entry, None);
                self.machine.number_from(seq);
                Advance::More
            }
            Some(entry @ Entry::Renewed { seq, time }) => {
                watch(&entry, None);
                if let Some(open) = self.open.get_mut(seq) {
                    open.renew(time);
                }
                Advance::More
            }
            Some(entry) => {
                let mut waits = self
                    .open
                    .values()
                    .map(|open| (format!("waits for {}", open.describe()), open.request.place));
                Advance::Nondeterminism(Mismatch { recorded: Some(self.side(&entry)), found: waits.next() })
            }
            // Whether it may take in something new is seen anew.
            None if !was_live => Advance::More,
            // What was due before now takes its place among what has come.
            None if self.first_due <= now && self.unanswered_lines.is_empty() => Advance::Waiting,
            None if self.unsent && self.unanswered_lines.is_empty() => Advance::Waiting,
            None => match self.next_answer() {
                Some(Delivery { seq, result, sends }) => {
                    if self.open.contains_key(&seq) || self.given_up.contains(&seq) {
                        self.journal.push(Entry::Answered { seq, result: result.clone(), time: now });
                        if !sends.is_empty() {
                            self.outgoing.push((seq, sends));
                        }
                        self.answered(seq, result, now, watch);
                    }
                    Advance::More
                }
                None => Advance::Waiting,
            },
        }
    }

    fn requested(&mut self, request: Request, now: i64, watch: Watch<'_>) -> Result<(), Mismatch> {
        self.attempts(watch);
        let recorded = !self.past.is_empty();
        let entry = match self.past.pop_front() {
            None => {
                let entry = Entry::requested(&request, now);
                self.journal.push(entry.clone());
                entry
            }
            Some(entry) if entry.is_of(&request) => entry,
            Some(entry) => {
                let found = (
                    describe(&RecordedRequest::of(&request.what), &super::Args::of(&request.args)),
                    request.place,
                );
                return Err(Mismatch { recorded: Some(self.side(&entry)), found: Some(found) });
            }
        };
        watch(&entry, Some(&request));
        let time = entry.time();
        let policy = policy_of(&request);
        let seq = request.seq;
        if request.what == RequestKind::Effect(Effect::Receive) {
            self.receives.insert(seq, first_text(&request.args));
        }
        match is_line(&request.what) {
            true => self.unanswered_lines.push_back(seq),
            false => self.undispatched.push(seq),
        }
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
        self.unsent |= !recorded && open.is_message() && !fault::is_in(Fault::GivenUpUnsent);
        self.first_due = self.first_due.min(open.due().unwrap_or(i64::MAX));
        self.open.insert(open);
        Ok(())
    }

    fn answered(&mut self, seq: u64, result: Result<Data, ErrorData>, time: i64, watch: Watch<'_>) {
        let entry = Entry::Answered { seq, result, time };
        watch(&entry, self.open.get(&seq).map(|open| &open.request));
        self.open.remove(seq);
        self.given_up.remove(&seq);
        self.receives.remove(seq);
        if let Entry::Answered { result, .. } = entry {
            self.machine.answer(seq, result);
        }
    }

    fn done(&mut self, outcome: Result<Data, ErrorData>, now: i64, watch: Watch<'_>) -> Advance {
        self.attempts(watch);
        match self.past.pop_front() {
            None => {
                let entry = Entry::Ended { time: now };
                watch(&entry, None);
                self.journal.push(entry);
                self.record.ended = Some(now);
                self.record_changed = true;
            }
            Some(entry @ Entry::Ended { .. }) => watch(&entry, None),
            Some(entry) => {
                return Advance::Nondeterminism(Mismatch { recorded: Some(self.side(&entry)), found: None });
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

    /// What is to be written of its history: chunks with their numbers. With `grows` what is short is added to the last chunk.
    /// Gives how many chunks there were, if there is something to be written.
    pub fn take_chunks(&mut self, grows: bool, batch: &mut Batch) -> Option<u64> {
        if self.journal.is_written() {
            return None;
        }
        self.replay += self.journal.waiting() as u64 * checkpoint::ENTRY;
        let ends = self.record.ended.is_some();
        let before = self.journal.write(&self.record.id, grows, ends, batch);
        if ends {
            self.record.chunks = self.journal.chunks();
        }
        Some(before)
    }
}

impl Instance {
    /// What is to be written for a checkpoint, if one is due. `mark` is where its chunks begin in the batch,
    /// and `before` how many there were, if there are any in it.
    pub fn take_checkpoint(
        &mut self,
        policy: &Checkpoints,
        mark: usize,
        before: Option<u64>,
        batch: &mut Batch,
    ) {
        if let Some(machine) = self.due_state(policy, before.is_some()) {
            let trims = policy.retention == Retention::Latest || self.is_trimmed();
            if trims {
                // What is in the checkpoint isn't written first.
                batch.writes.truncate(mark);
                for number in self.kept_from()..before.unwrap_or(self.journal.chunks()) {
                    batch.delete(keys::chunk(&self.record.id, number));
                }
            }
            let open = self.open.values().map(|open| open.saved()).collect();
            let of = (self.record.life, self.record.execution);
            let at = self.journal.sealed();
            let requests = (open, self.given_up.iter().copied().collect());
            let checkpoint = Checkpoint::new(&self.image.code, of, at, trims, requests, machine);
            batch.put(keys::checkpoint(&self.record.id), checkpoint.encode());
            (self.checkpoint, self.replay) = (Some((at.0, trims)), 0);
        } else if self.leaves_checkpoint {
            batch.delete(keys::checkpoint(&self.record.id));
        }
        self.leaves_checkpoint = false;
    }

    /// Its state, if a checkpoint is due and can be made now.
    fn due_state(&mut self, policy: &Checkpoints, writes: bool) -> Option<Vec<u8>> {
        let most = policy.due(self.replay, self.expected, writes)?;
        let is_clean = self.journal.is_written() && self.dropped.is_empty() && self.outgoing.is_empty();
        if !self.is_live() || !is_clean || !self.has_run || self.record.ended.is_some() {
            return None;
        }
        let machine = self.machine.snapshot_within(most);
        self.expected = match &machine {
            Some(machine) => machine.len(),
            // Its state is larger. It is looked at again when replay has come to take twice as long.
            None => most.saturating_mul(2),
        };
        machine
    }

    /// What is to be written of its checkpoint when it has ended: with all of its history, nobody needs it.
    pub fn drop_checkpoint(&self, batch: &mut Batch) {
        if self.leaves_checkpoint || (self.checkpoint.is_some() && !self.is_trimmed()) {
            batch.delete(keys::checkpoint(&self.record.id));
        }
    }

    /// The machine's state, when all that it asked for is in the history.
    pub fn state(&self) -> Option<Vec<u8>> {
        self.journal.is_written().then(|| self.machine.snapshot())
    }

    /// Whether history before its checkpoint is gone.
    pub fn is_trimmed(&self) -> bool {
        self.checkpoint.is_some_and(|(_, trimmed)| trimmed)
    }

    /// The first chunk that the store has of it.
    pub fn kept_from(&self) -> u64 {
        match self.checkpoint {
            Some((at, true)) => at,
            _ => self.record.first,
        }
    }
}

/// The first of a list of arguments, as text.
pub(super) fn first_text(args: &Data) -> String {
    args.items().first().map(format::display).unwrap_or_default()
}
