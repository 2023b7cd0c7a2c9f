//! A replay of a history by debug code, one tick at a time.
//!
//! A tick is a statement that begins, or an entry of the history that is taken in. The rules are
//! those of the engine: the requests of a turn are compared with the history once all tasks wait,
//! and then the history decides what comes next.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::engine::{Args, Entry, RecordedRequest};
use crate::machine::pauses::{Pause, Pauses, Thrown};
use crate::machine::value::Value;
use crate::machine::{Data, ErrorData, Image, Machine, Progress, Request};

use super::position::Position;

/// The fuel of one slice, in calls and repetitions.
const SLICE: u64 = 1_000_000;
/// The fuel for what follows the last entry: nothing says that it was ever computed.
const AFTER: u64 = 50_000_000;

/// The next thing that a run does.
#[derive(Clone, Debug)]
pub enum Tick {
    /// An entry was taken in: the last one that the position counts.
    Entry,
    /// A statement is about to be executed. It is `wanted` if the pauses ask for it.
    Statement {
        wanted: bool,
    },
    /// An error is about to be thrown. This is no tick of its own: the position stays.
    Error(Thrown),
    End,
}

/// The end of what a history tells.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The program has ended.
    Ended,
    /// The instance was terminated.
    Terminated,
    /// The instance waits for the answers to its open requests, or its next requests are not
    /// recorded yet.
    Waits,
    /// The instance has not begun.
    NotBegun,
    /// The instance computes, without an end in sight.
    Computes,
    /// The program does something else than the history says.
    Differs { recorded: String, found: String },
}

/// The statement or entry at which a replay stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct At {
    /// The task that executes the statement, made the request or gets the answer.
    pub task: u64,
    /// The statement that is about to be executed; `None` at an entry.
    pub statement: Option<u32>,
}

/// A request that has no answer yet, and the task that waits for the answer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: Request,
    pub task: Option<u64>,
}

/// Something that the history must say next.
#[derive(Clone)]
enum Expected {
    Request(Box<Asked>),
    Withdrawal(u64),
}

/// A replay at one of its moments.
pub(super) struct Replay {
    history: Rc<[Entry]>,
    pub machine: Machine,
    pub pauses: Box<Pauses>,
    state: State,
    /// The work since it was last taken, in statements, entries, calls and repetitions.
    work: u64,
    /// All work so far, and the work at which the replay goes no further.
    done: u64,
    most: u64,
    /// The initial state, if this is an operation of an entity.
    initial: Option<Value>,
}

/// Everything of a replay beside its machine.
#[derive(Clone, Default)]
struct State {
    position: Position,
    /// The number of statements that have begun in all.
    begun: u64,
    at: At,
    /// Whether tasks are ready to run.
    computes: bool,
    expected: VecDeque<Expected>,
    /// Whether the program has ended. Its outcome is in the record of the instance.
    is_done: bool,
    /// The open requests.
    open: BTreeMap<u64, Asked>,
    end: Option<End>,
    /// The fuel that is left once the history is at its end.
    left: u64,
}

/// A replay as bytes and plain data.
pub(super) struct Snapshot {
    machine: Vec<u8>,
    state: State,
}

impl Snapshot {
    /// Returns the position of this moment.
    pub fn position(&self) -> Position {
        self.state.position
    }

    /// Returns the number of bytes of the machine.
    pub fn bytes(&self) -> usize {
        self.machine.len() + 256 * (1 + self.state.open.len())
    }
}

impl Replay {
    /// Returns a replay at its beginning.
    pub fn new(history: Rc<[Entry]>, machine: Machine, has_begun: bool) -> Replay {
        // An instance that was terminated at once never ran.
        let computes = !matches!(history.first(), Some(Entry::Terminated { .. }));
        let end = (!has_begun).then_some(End::NotBegun);
        let state = State { computes, end, left: AFTER, ..State::default() };
        let (pauses, initial) = (Box::new(Pauses::none()), machine.initial_state());
        Replay { history, machine, pauses, state, work: 0, done: 0, most: u64::MAX, initial }
    }

    /// Returns the replay with requests that were open before its beginning.
    pub fn with_open(mut self, open: Vec<Request>) -> Replay {
        for request in open {
            let task = self.machine.asker(request.seq);
            self.state.open.insert(request.seq, Asked { request, task });
        }
        self
    }

    /// Returns this moment as a snapshot.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { machine: self.machine.snapshot(), state: self.state.clone() }
    }

    /// Goes to the moment of a snapshot. Returns whether that worked.
    pub fn restore(&mut self, image: &Rc<Image>, snapshot: &Snapshot, names_freely: bool) -> bool {
        let Some(mut machine) = Machine::restore(image.clone(), &snapshot.machine) else { return false };
        machine.names_freely = names_freely;
        if let Some(initial) = &self.initial {
            machine.find_state(initial.clone());
        }
        self.machine = machine;
        self.state = snapshot.state.clone();
        *self.pauses = Pauses { begun: self.state.begun, ..Pauses::none() };
        true
    }

    // ---- the moment

    pub fn position(&self) -> Position {
        self.state.position
    }

    /// Returns the number of statements that have begun.
    pub fn begun(&self) -> u64 {
        self.state.begun
    }

    /// Returns the number of ticks since the beginning.
    pub fn ticks(&self) -> u64 {
        self.state.position.entry + self.state.begun
    }

    pub fn at(&self) -> At {
        self.state.at
    }

    pub fn end(&self) -> Option<&End> {
        self.state.end.as_ref()
    }

    pub fn open(&self) -> impl Iterator<Item = &Asked> {
        let unrecorded = self.state.expected.iter().filter_map(|expected| match expected {
            Expected::Request(asked) => Some(&**asked),
            Expected::Withdrawal(_) => None,
        });
        self.state.open.values().chain(unrecorded)
    }

    /// Returns the request of a number, while it is open.
    pub fn asked(&self, seq: u64) -> Option<&Asked> {
        self.state.open.get(&seq)
    }

    /// Returns the entry that was taken in last.
    pub fn last_entry(&self) -> Option<&Entry> {
        self.history.get((self.state.position.entry as usize).checked_sub(1)?)
    }

    /// Returns the work since the last call.
    pub fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// Makes the replay go no further once it has done so much work in all.
    pub fn limit_work(&mut self, most: u64) {
        self.most = most;
    }

    /// Whether the replay goes no further because it has done so much work.
    pub fn is_spent(&self) -> bool {
        self.done >= self.most
    }

    // ---- progress

    /// Goes on to the next tick at which the pauses stop, or to the next entry.
    pub fn tick(&mut self) -> Tick {
        loop {
            if self.state.end.is_some() {
                return Tick::End;
            }
            if self.done >= self.most {
                return Tick::End;
            }
            let tick = match self.state.computes && !self.is_renumbered() {
                true => self.compute(),
                false => self.take_entry(),
            };
            if let Some(tick) = tick {
                return tick;
            }
        }
    }

    /// Whether the next entry numbers the requests of the turn that follows. Rewinds and upgrades do
    /// so: the instance stood between two turns.
    fn is_renumbered(&self) -> bool {
        let next = self.history.get(self.state.position.entry as usize);
        matches!(next, Some(Entry::Rewound { .. } | Entry::Upgraded { .. }))
    }

    fn compute(&mut self) -> Option<Tick> {
        self.pauses.begun = self.state.begun;
        let progress = self.machine.run_with_pauses(SLICE, &mut self.pauses);
        let begun = self.pauses.begun - self.state.begun;
        self.state.begun = self.pauses.begun;
        self.state.position.statement += begun;
        let work = begun + self.machine.take_spent();
        (self.work, self.done) = (self.work + work, self.done + work);
        match self.pauses.pause.take() {
            Some(Pause::Statement { task, statement, wanted }) => {
                self.state.at = At { task, statement: Some(statement) };
                return Some(Tick::Statement { wanted });
            }
            Some(Pause::Error(thrown)) => return Some(Tick::Error(thrown)),
            None => {}
        }
        match progress {
            Progress::OutOfFuel => self.spend(),
            Progress::Waiting => self.rest(),
            Progress::Done(_) => {
                self.rest();
                self.state.is_done = true;
            }
        }
        None
    }

    /// Counts a slice of fuel, if nothing says that the program ever computed so far.
    fn spend(&mut self) {
        let rest = &self.history[(self.state.position.entry as usize).min(self.history.len())..];
        if !matches!(rest, [] | [Entry::Terminated { .. }]) {
            return;
        }
        self.state.left = self.state.left.saturating_sub(SLICE);
        if self.state.left > 0 {
            return;
        }
        match rest {
            // A long computation is interrupted when somebody terminates the instance.
            [_] => self.state.computes = false,
            _ => self.state.end = Some(End::Computes),
        }
    }

    /// Notes that all tasks wait, and which requests the history must have next.
    fn rest(&mut self) {
        self.state.computes = false;
        for request in self.machine.take_requests() {
            let task = self.machine.asker(request.seq);
            self.state.expected.push_back(Expected::Request(Box::new(Asked { request, task })));
        }
        let withdrawn = self.machine.take_withdrawn();
        self.state.expected.extend(withdrawn.into_iter().map(Expected::Withdrawal));
    }

    /// Takes in the next entry, if there is one.
    fn take_entry(&mut self) -> Option<Tick> {
        let history = self.history.clone();
        let Some(entry) = history.get(self.state.position.entry as usize) else {
            self.state.end = Some(End::Waits);
            return None;
        };
        // An entry about no request belongs to the main task, wherever the replay stopped before.
        let asked = entry.seq().and_then(|seq| self.state.open.get(&seq));
        self.state.at.task = asked.and_then(|asked| asked.task).unwrap_or(0);
        let is_attempt =
            matches!(entry, Entry::Retried { .. } | Entry::Begun { .. } | Entry::Upgraded { .. });
        if is_attempt {
            // Attempts and upgrades follow no turns, so they come anywhere.
        } else if let (true, Entry::Rewound { seq, .. }) = (self.state.computes, entry) {
            self.machine.number_from(*seq);
        } else if let Some(expected) = self.state.expected.pop_front() {
            self.compare(entry, expected)?;
        } else if self.state.is_done {
            match entry {
                Entry::Ended { .. } => self.state.end = Some(End::Ended),
                other => return self.differs(other, "the end".into()),
            }
        } else {
            self.apply(entry)?;
        }
        self.state.position = Position::at(self.state.position.entry + 1);
        self.state.at.statement = None;
        (self.work, self.done) = (self.work + 4, self.done + 4);
        Some(Tick::Entry)
    }

    /// Compares an entry with the request or the withdrawal that comes next.
    fn compare(&mut self, entry: &Entry, expected: Expected) -> Option<Tick> {
        match expected {
            Expected::Request(asked) => {
                if !entry.is_of(&asked.request) {
                    return self.differs(entry, shown(&asked.request));
                }
                self.state.at.task = asked.task.unwrap_or(0);
                self.state.open.insert(asked.request.seq, *asked);
            }
            Expected::Withdrawal(seq) => {
                if !matches!(entry, Entry::Cancelled { seq: known, .. } if *known == seq) {
                    return self.differs(entry, format!("request {seq} is cancelled"));
                }
                self.state.open.remove(&seq);
            }
        }
        Some(Tick::Entry)
    }

    /// Takes in an entry that decides what comes next.
    fn apply(&mut self, entry: &Entry) -> Option<Tick> {
        match entry {
            Entry::Answered { seq, result, .. } => self.answer(*seq, result.clone()),
            Entry::Cancelling { what, .. } => self.machine.cancel_instance(what),
            Entry::Rewound { seq, .. } => self.machine.number_from(*seq),
            Entry::Renewed { .. } | Entry::Upgraded { .. } => {}
            Entry::Terminated { .. } => {
                self.state.end = Some(End::Terminated);
                return Some(Tick::Entry);
            }
            other => {
                let waits = self.state.open.values().next().map(|asked| {
                    format!("it waits for {}", RecordedRequest::of(&asked.request.what).shown())
                });
                return self.differs(other, waits.unwrap_or_else(|| "it waits".into()));
            }
        }
        self.state.computes = true;
        Some(Tick::Entry)
    }

    fn answer(&mut self, seq: u64, result: Result<Data, ErrorData>) {
        self.state.at.task = self.machine.asker(seq).unwrap_or(0);
        self.state.open.remove(&seq);
        self.machine.answer(seq, result);
    }

    /// Ends the replay because the program does something else than the history says.
    fn differs(&mut self, recorded: &Entry, found: String) -> Option<Tick> {
        let recorded = described(recorded);
        self.state.end = Some(End::Differs { recorded, found });
        None
    }
}

/// Returns a request as programs write it.
pub fn shown(request: &Request) -> String {
    format!("{}({})", RecordedRequest::of(&request.what).shown(), Args::of(&request.args).describe())
}

/// Returns an entry in words.
pub fn described(entry: &Entry) -> String {
    match entry {
        Entry::Requested { what, args, .. } => format!("{}({})", what.shown(), args.describe()),
        Entry::Answered { seq, .. } => format!("the answer to request {seq}"),
        Entry::Retried { seq, .. } => format!("request {seq} fails, and is tried again"),
        Entry::Begun { seq, .. } => format!("another attempt at request {seq}"),
        Entry::Cancelled { seq, .. } => format!("request {seq} is cancelled"),
        Entry::Ended { .. } => "the end".into(),
        Entry::Terminated { .. } => "it is terminated".into(),
        Entry::Rewound { .. } => "it is rewound".into(),
        Entry::Renewed { seq, .. } => format!("request {seq} is asked again"),
        Entry::Cancelling { .. } => "it is cancelled".into(),
        Entry::Upgraded { .. } => "it is upgraded".into(),
    }
}
