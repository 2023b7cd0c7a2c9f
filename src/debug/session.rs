//! A debugging session: a run of an instance that can be visited at any moment.

use std::rc::Rc;

use crate::api::{Queries, QueryError};
use crate::check::Program;
use crate::code::debug::Tables;
use crate::engine::{
    Entry, FIRST_LIFE, InstanceRecord, Line, RecordedRequest, Status, build_image, load_modules,
    machine_at_beginning, machine_at_checkpoint, machine_of_operation,
};
use crate::internal::sure;
use crate::machine::pauses::Pauses;
use crate::machine::{EntityId, Image, RequestKind};

use super::expressions::Expressions;
use super::position::Position;
use super::program;
use super::replay::{Asked, At, End, Replay, Tick};
use super::snapshots::Snapshots;

/// The reason why an instance can't be debugged.
#[derive(Debug)]
pub enum DebugError {
    /// There is no such instance.
    Unknown(String),
    Query(QueryError),
    /// This is not the name of an entity with its key.
    NoEntity(String),
    /// The operation of this number, or any operation, is not kept of an entity. The number of those
    /// that are kept follows.
    NotKept {
        entity: EntityId,
        number: Option<u64>,
        kept: u64,
    },
    /// The program or the history doesn't allow it, for this reason.
    Unfit(String),
}

impl From<QueryError> for DebugError {
    fn from(error: QueryError) -> DebugError {
        DebugError::Query(error)
    }
}

impl std::fmt::Display for DebugError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DebugError::Unknown(id) => write!(f, "there is no instance `{id}`"),
            DebugError::Query(error) => error.fmt(f),
            DebugError::NoEntity(name) => write!(f, "`{name}` is no entity: write its name, `@` and its key"),
            DebugError::NotKept { entity, number: Some(number), kept: 1.. } => {
                write!(f, "operation {number} of {entity} is not kept")
            }
            DebugError::NotKept { entity, .. } => write!(f, "no operations are kept of {entity}"),
            DebugError::Unfit(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DebugError {}

/// A run of an instance, at one of its moments.
pub struct Session {
    pub record: InstanceRecord,
    pub program: Program,
    pub image: Rc<Image>,
    pub history: Rc<[Entry]>,
    pub(super) replay: Replay,
    snapshots: Snapshots,
    /// The task that steps follow.
    task: u64,
    /// The lines that were printed and logged, each with the number of its entry, as far as the run
    /// was visited.
    lines: Vec<(u64, Line)>,
    /// The entry up to which the lines are known.
    lines_until: u64,
    /// The position of the error that ended the instance, once it is known.
    pub(super) failure: Option<Option<Position>>,
    pub(super) expressions: Expressions,
    worked: u64,
    /// The activity over which the last step went.
    pub(super) passed: Option<String>,
}

impl Session {
    /// Opens an instance at the beginning of its run. Nothing is written anywhere.
    pub fn open(store: &dyn Queries, id: &str) -> Result<Session, DebugError> {
        let (record, history) = store.history(id)?.ok_or_else(|| DebugError::Unknown(id.to_string()))?;
        let texts = store.modules(record.program)?;
        let program = load_modules(record.program, &texts).map_err(DebugError::Unfit)?;
        match history.after {
            None => Session::of(record, program, history.entries),
            Some(checkpoint) => {
                let image = build_image(&program).map_err(DebugError::Unfit)?;
                let (machine, open) =
                    machine_at_checkpoint(&image, &record, checkpoint).map_err(DebugError::Unfit)?;
                let history: Rc<[Entry]> = history.entries.into();
                let replay = Replay::new(history.clone(), machine, true).with_open(open);
                Ok(Session::new(record, program, image, history, replay))
            }
        }
    }

    /// Opens a kept operation of an entity at its beginning: the one of a number, or the last one.
    pub fn open_operation(
        store: &dyn Queries,
        entity: &EntityId,
        number: Option<u64>,
    ) -> Result<Session, DebugError> {
        let from = match number {
            Some(number) => number,
            None => store.operations(entity, u64::MAX, 1)?.map_or(0, |page| page.last()),
        };
        let page = store.operations(entity, from, 1)?;
        let page = page.ok_or_else(|| DebugError::Unknown(entity.to_string()))?;
        let Some(view) = page.items.into_iter().find(|view| view.number == from) else {
            return Err(DebugError::NotKept { entity: entity.clone(), number, kept: page.count });
        };
        let Some(hash) = view.operation.program else {
            return Err(DebugError::Unfit("no program declared the entity".into()));
        };
        let program = load_modules(hash, &store.modules(hash)?).map_err(DebugError::Unfit)?;
        let image = program::image(&program).map_err(DebugError::Unfit)?;
        let machine = machine_of_operation(&image, entity, &view).map_err(DebugError::Unfit)?;
        let kept = view.operation;
        let name = format!("{entity}.{} #{}", kept.operation, view.number);
        let file = image.code.sources.files.first().map_or("", |file| file.name.as_str());
        let status = match kept.result {
            Ok(value) => Status::Completed(value),
            Err(error) => Status::Failed(error),
        };
        let args = kept.args;
        let record = InstanceRecord {
            // Operations begin no instances under ids that they choose freely.
            life: FIRST_LIFE,
            status,
            ended: Some(kept.ended),
            ..InstanceRecord::new(&name, hash, file, &kept.operation, args, kept.begun)
        };
        let history: Rc<[Entry]> = kept.entries.into();
        let replay = Replay::new(history.clone(), machine, true);
        Ok(Session::new(record, program, image, history, replay))
    }

    /// Opens what a name stands for: an instance, or the last kept operation of an entity or the one
    /// of a number.
    pub fn find(store: &dyn Queries, name: &str, operation: Option<u64>) -> Result<Session, DebugError> {
        let entity = EntityId::parse(name).and_then(Result::ok);
        if operation.is_none() {
            match (Session::open(store, name), &entity) {
                (Err(DebugError::Unknown(_)), Some(_)) => {}
                (opened, _) => return opened,
            }
        }
        let entity = entity.ok_or_else(|| DebugError::NoEntity(name.to_string()))?;
        Session::open_operation(store, &entity, operation)
    }

    /// Returns a session of a record, its program and its history.
    pub fn of(record: InstanceRecord, program: Program, history: Vec<Entry>) -> Result<Session, DebugError> {
        let image = program::image(&program).map_err(DebugError::Unfit)?;
        let machine = machine_at_beginning(&image, &record).map_err(DebugError::Unfit)?;
        let history: Rc<[Entry]> = history.into();
        let has_begun = record.status.begins().is_none();
        let replay = Replay::new(history.clone(), machine, has_begun);
        Ok(Session::new(record, program, image, history, replay))
    }

    fn new(
        record: InstanceRecord,
        program: Program,
        image: Rc<Image>,
        history: Rc<[Entry]>,
        replay: Replay,
    ) -> Session {
        let mut snapshots = Snapshots::default();
        snapshots.add(0, replay.snapshot());
        Session {
            record,
            program,
            image,
            history,
            replay,
            snapshots,
            task: 0,
            lines: Vec::new(),
            lines_until: 0,
            failure: None,
            expressions: Expressions::default(),
            worked: 0,
            passed: None,
        }
    }

    /// Whether the history is kept from its last checkpoint on. Then the run begins there, and is
    /// repeated with the code that it had: entries and calls can be seen, and no statements and
    /// variables.
    pub fn is_trimmed(&self) -> bool {
        self.image.code.debug.is_none()
    }

    // ---- the moment

    /// Returns the position.
    pub fn position(&self) -> Position {
        self.replay.position()
    }

    /// Returns the number of ticks since the beginning: entries taken in, and statements begun.
    pub fn ticks(&self) -> u64 {
        self.replay.ticks()
    }

    /// Returns the statement or the entry at which the run stands.
    pub fn at(&self) -> At {
        self.replay.at()
    }

    /// Returns the entry that was taken in last.
    pub fn last_entry(&self) -> Option<&Entry> {
        self.replay.last_entry()
    }

    /// Returns the end of what the history tells, if the run stands there.
    pub fn end(&self) -> Option<&End> {
        self.replay.end()
    }

    /// Returns the task that steps follow, and whose calls are shown first.
    pub fn task(&self) -> u64 {
        self.task
    }

    /// Makes steps follow another task. Returns whether there is such a task.
    pub fn follow(&mut self, task: u64) -> bool {
        let is_there = self.replay.machine.tasks().contains(&task);
        if is_there {
            self.task = task;
        }
        is_there
    }

    /// Returns the lines that were printed and logged up to here.
    pub fn output_so_far(&self) -> &[(u64, Line)] {
        let until = self.position().entry;
        &self.lines[..self.lines.partition_point(|(entry, _)| *entry <= until)]
    }

    /// Returns the work of the session so far, in statements, entries, calls and repetitions.
    pub fn worked(&self) -> u64 {
        self.worked
    }

    /// Returns the name of the activity over which the last step into calls went. An activity's body
    /// is in no history.
    pub fn passed(&self) -> Option<&str> {
        self.passed.as_deref()
    }

    /// Makes the session go no further once it has done so much work. What it then says of a moment
    /// is not to be used.
    pub fn limit_work(&mut self, most: u64) {
        self.replay.limit_work(most);
    }

    /// Whether the session goes no further because it has done so much work.
    pub fn is_spent(&self) -> bool {
        self.replay.is_spent()
    }

    /// Returns the tables of the debug code.
    pub fn tables(&self) -> &Tables {
        static NONE: std::sync::OnceLock<Tables> = std::sync::OnceLock::new();
        self.image.code.debug.as_ref().unwrap_or_else(|| NONE.get_or_init(Tables::default))
    }

    // ---- moving

    /// Goes on to the next tick at which the pauses stop, to the next entry, or to the next moment
    /// at which a snapshot is due. Errors of the machine are not thrown as ticks unless the pauses
    /// ask for them.
    pub(super) fn tick(&mut self) -> Tick {
        let wanted = self.replay.pauses.most;
        let slice = self.replay.begun() + self.snapshots.slice();
        self.replay.pauses.most = wanted.min(slice);
        let tick = self.replay.tick();
        self.replay.pauses.most = wanted;
        if let Tick::Entry = tick {
            self.note_line();
        }
        let work = self.replay.take_work();
        self.worked += work;
        let is_moment = matches!(tick, Tick::Entry | Tick::Statement { .. });
        if is_moment && self.snapshots.is_due(self.replay.ticks(), work) {
            self.snapshots.add(self.replay.ticks(), self.replay.snapshot());
        }
        tick
    }

    /// Notes the line that the last entry asked for.
    fn note_line(&mut self) {
        let number = self.position().entry;
        if number <= self.lines_until {
            return;
        }
        self.lines_until = number;
        if let Some(Entry::Requested { seq, .. }) = self.replay.last_entry()
            && let Some(asked) = self.replay.asked(*seq)
            && let RequestKind::Effect(effect) = asked.request.what
            && let Some(Ok(line)) = Line::of(effect, &asked.request.args)
        {
            self.lines.push((number, line));
        }
    }

    /// Goes to the last snapshot at or before a tick.
    pub(super) fn go_before(&mut self, tick: u64) {
        let names_freely = self.record.life == 0;
        let snapshot = self.snapshots.before(tick).ok_or("none");
        let (_, snapshot) = sure(snapshot, "a session has a snapshot of its beginning");
        let restored = self.replay.restore(&self.image, snapshot, names_freely);
        sure(restored.then_some(()).ok_or("refused"), "a snapshot fits the program it was made by");
        self.snapshots.moved();
    }

    /// Goes to a tick of the run, or to its end if there is no such tick.
    pub(super) fn go_to(&mut self, tick: u64) {
        let nearest = self.snapshots.before(tick).map_or(0, |(at, _)| at);
        let here = self.replay.ticks();
        if here > tick || here < nearest || self.replay.pauses.errors {
            self.go_before(tick);
        }
        self.quiet();
        while self.replay.ticks() < tick {
            self.limit(tick);
            if let Tick::End = self.tick() {
                return;
            }
        }
    }

    /// Goes to the moment of this number of ticks, or to the end if there are fewer.
    pub fn visit(&mut self, tick: u64) {
        self.go_to(tick);
        self.follow_this();
    }

    /// Makes the replay stop nowhere.
    pub(super) fn quiet(&mut self) {
        *self.replay.pauses = Pauses::none();
    }

    /// Makes the replay stop at a tick, unless an entry comes before.
    pub(super) fn limit(&mut self, tick: u64) {
        let (here, begun) = (self.replay.ticks(), self.replay.begun());
        self.replay.pauses.most = begun.saturating_add(tick.saturating_sub(here));
    }

    /// Goes to a position, or to the last one before it. Steps then follow the task there.
    pub fn seek(&mut self, wanted: Position) -> Position {
        let nearest = self.snapshots.before_position(wanted);
        if self.position() > wanted || self.replay.ticks() < nearest || self.replay.pauses.errors {
            self.go_before(nearest);
        }
        self.quiet();
        while self.position() < wanted {
            let here = self.position();
            if here.entry == wanted.entry {
                self.limit(self.replay.ticks() + (wanted.statement - here.statement));
            }
            match self.tick() {
                Tick::End => break,
                // There are fewer statements before the next entry.
                Tick::Entry if self.position() > wanted => {
                    self.go_to(self.replay.ticks() - 1);
                    break;
                }
                _ => {}
            }
        }
        self.follow_this();
        self.position()
    }

    /// Goes to the beginning.
    pub fn seek_start(&mut self) {
        self.seek(Position::default());
    }

    /// Goes to the end of what the history tells.
    pub fn seek_end(&mut self) {
        if self.replay.pauses.errors {
            self.go_before(self.replay.ticks());
        }
        self.quiet();
        while !matches!(self.tick(), Tick::End) {}
        if !self.replay.machine.tasks().contains(&self.task) {
            self.task = self.replay.machine.tasks().first().copied().unwrap_or(0);
        }
    }

    /// Makes steps follow the task of this moment.
    pub(super) fn follow_this(&mut self) {
        self.task = self.at().task;
    }

    // ---- what the run waits for

    /// Returns the request of a number, as the entries up to here have it.
    pub(super) fn request_of(&self, wanted: u64) -> Option<RecordedRequest> {
        let until = self.position().entry as usize;
        self.history[..until.min(self.history.len())].iter().rev().find_map(|entry| match entry {
            Entry::Requested { seq, what, .. } if *seq == wanted => Some(what.clone()),
            _ => None,
        })
    }

    /// Returns the requests that wait for answers.
    pub fn waiting(&self) -> impl Iterator<Item = &Asked> {
        self.replay.open()
    }
}
