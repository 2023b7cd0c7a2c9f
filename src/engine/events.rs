//! What happens to the engine, and what it wants done.

use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::kv::Batch;
use crate::machine::{Data, EntityId, ErrorData, Image, Request};
use crate::permissions::Permissions;

use super::address::{Address, LifeId};
use super::entity::{Deployment, Hold};
use super::evaluation::Mismatch;
use super::gate::Gated;
use super::history::History;
use super::message::{Message, StoredMail};
use super::open::Open;
use super::outbox::{Line, StoredLines};
use super::purge::Tree;
use super::record::{InstanceRecord, Lifecycle};
use super::rewind::Rewinding;

/// Which attempt at which request of which execution of which life. Of an operation the attempts are numbered through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepId {
    pub owner: Address,
    pub life: u64,
    pub execution: u32,
    pub seq: u64,
    /// How often the request was asked again by rewinding: what was given up before is not under way now.
    pub round: u32,
    /// From 1.
    pub attempt: u32,
}

impl StepId {
    /// Of a request of an instance.
    pub(super) fn of(id: &Arc<str>, record: &InstanceRecord, open: &Open) -> StepId {
        let InstanceRecord { life, execution, .. } = *record;
        let Open { round, attempt, .. } = *open;
        StepId {
            owner: Address::Instance(id.clone()),
            life,
            execution,
            seq: open.request.seq,
            round,
            attempt,
        }
    }
}

/// What happens to the engine.
pub enum Event {
    /// First of all: the messages and the holders of entities that the store has, the life of what begins now, and the
    /// time that the store has come to. Of the instances that have mail, those of that root go on; all of them, when it is
    /// none.
    Recover {
        mail: Vec<(Address, u64, StoredMail)>,
        holds: Vec<(EntityId, Hold)>,
        /// Runs of lines that may not be out; those of that root leave once more.
        lines: Vec<(u64, StoredLines)>,
        life: u64,
        time: i64,
        root: Option<String>,
    },
    /// An instance begins, with a program that is now the newest for its entities.
    Begin { record: InstanceRecord, image: Rc<Image> },
    /// An instance that the store holds goes on where its history ends.
    Load { record: InstanceRecord, history: History, image: Rc<Image> },
    /// An instance that was to be fetched has ended, or there is none.
    Absent { id: String, record: Option<InstanceRecord> },
    /// The state of an entity that was to be fetched, and the newest program that declares it.
    Entity { entity: EntityId, state: Option<Data>, deployed: Option<Deployment> },
    /// A program that was to be fetched.
    Program { image: Rc<Image> },
    /// The record of an instance whose status was asked for.
    Status { step: StepId, record: Option<InstanceRecord> },
    /// An instance of the store is to go on.
    Wake { id: String },
    /// Instances of the store go back. The store has all that was written before.
    Rewind(Rewinding),
    /// An instance of the store, which is not in memory, has this record from now on: it may do less outside.
    Restrict { record: InstanceRecord },
    /// A client sends something. `from` is a key that no other message has.
    Send { to: Address, from: String, message: Message },
    /// A step that was an output has its result; what an activity sent goes out with it.
    Answer { step: StepId, result: Result<Data, ErrorData>, sends: Vec<Request> },
    /// So many lines of a run are out.
    LinesOut { run: u64, count: usize },
    /// Instances that have ended, or are given up, are removed: nothing of them reaches what begins under their ids. The
    /// store has all that was written before.
    Purge { tree: Tree },
    /// Programs and texts are removed that nobody needs, by these writes. The store has all that was written before.
    Collect { unused: Batch },
    /// The tree of an instance that is to be replaced.
    Tree { id: String, tree: Tree },
    /// An instance that has ended, or is gone, holds nothing any more.
    Release { owner: LifeId },
    /// Time has passed: what is due is woken.
    Tick,
    /// One of those who can run does so, for a slice.
    Run,
}

/// What the engine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Answer an effect that leaves nothing outside.
    Effect { step: StepId, effect: Effect, args: Data, permissions: Permissions },
    /// Run an activity and answer. Its own external effects must wait until the writes are durable.
    Activity {
        step: StepId,
        program: ProgramHash,
        name: String,
        args: Data,
        key: String,
        permissions: Permissions,
    },
    /// Nobody waits for this step any more; it may be broken off.
    Abandon { step: StepId },
    /// Read an instance or an entity from the store, all that was written before included.
    Fetch { address: Address },
    /// Read a program.
    FetchProgram { hash: ProgramHash },
    /// Read the tree of an instance that has ended and is to be replaced, all that was written before included.
    Tree { id: String },
    /// Read the record of an instance, for its status.
    Status { step: StepId, id: String },
    /// Somebody was told of the end of an instance that had ended before.
    Told { instance: String },
    /// Once the writes are durable, this leaves the process.
    Gated(Gated<Leaving>),
}

/// What leaves the process, in the order in which the engine says so.
#[derive(Clone, Debug)]
pub enum Leaving {
    /// Carry out an effect outside, and answer.
    Effect { step: StepId, effect: Effect, args: Data, permissions: Permissions },
    /// Write a line, and tell of it.
    Line { run: u64, line: Line },
    /// An instance has come to its end, and its outcome may be shown. `told` says that other instances were told.
    Ended { instance: Arc<str>, outcome: Outcome, told: bool },
    /// A message that nobody waits for had no effect. For people.
    Lost { what: String, error: ErrorData },
}

/// What has changed in a store, once that is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// An instance has begun, has ended, or its record is another one.
    Instance { id: String, lifecycle: Lifecycle },
    /// An instance was removed.
    Removed { id: String },
    /// The history of an instance is longer.
    History { id: String },
    /// The state, the holder or the messages of an entity are others.
    Entity { entity: EntityId },
}

/// How an instance ended, or why it stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed(Data),
    Failed(ErrorData),
    Terminated(Data),
    /// Replay asked for something other than the history holds. Nothing was done or lost.
    Nondeterminism(Mismatch),
    /// Its program can't run it, for this reason. Nothing was done or lost.
    Incompatible(String),
}
