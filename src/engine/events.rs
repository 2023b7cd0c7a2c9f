//! The events that the engine gets, and its outputs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::kv::{Batch, Partition};
use crate::machine::{Data, EntityId, ErrorData, Image, Request};
use crate::permissions::Permissions;

use super::address::{Address, LifeId, Waiter};
use super::branch::Branch;
use super::calls::{ClientCall, Kept};
use super::entity::{Deployment, Hold};
use super::evaluation::Mismatch;
use super::gate::Gated;
use super::history::History;
use super::kept::KeptRange;
use super::message::{Message, StoredMail};
use super::open::Open;
use super::outbox::{Line, StoredLines};
use super::purge::Tree;
use super::record::{InstanceRecord, Lifecycle};
use super::rewind::Rewinding;
use super::transit::Incoming;
use super::undo::Undo;
use super::upgrade::Upgrade;

/// An attempt: its request, execution and life, and its number. The attempts of an operation are
/// numbered consecutively.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepId {
    pub owner: Address,
    pub life: u64,
    pub execution: u32,
    pub seq: u64,
    /// The number of rewinds that asked the request again. It tells attempts that were given up
    /// from the current one.
    pub round: u32,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

impl StepId {
    /// Returns the id of the current attempt at a request of an instance.
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

/// An event that the engine gets.
pub enum Event {
    /// The first event: the stored messages and holders of entities, the life of instances that
    /// begin now, and the time that the store has reached. Of the instances that have mail, those
    /// of `root` go on, or all of them if it is `None`.
    Recover {
        mail: Vec<(Address, u64, StoredMail)>,
        holds: Vec<(EntityId, Hold)>,
        /// The runs of lines that may not be out. Those of the root are emitted once more.
        lines: Vec<(u64, StoredLines)>,
        /// The places of the answers to clients that are kept.
        answers: Vec<Kept>,
        life: u64,
        time: i64,
        /// The versions of deployments that a partition knows.
        versions: BTreeMap<Partition, i64>,
        /// Whether the store keeps the operations of entities.
        keeps: bool,
        root: Option<String>,
    },
    /// What another partition has sent, as the driver has read it. It may come again until the
    /// writes that consume it are durable.
    Arrive { incoming: Incoming },
    /// The contents of entities move to other keys by these writes.
    Rekey { moves: Batch },
    /// An instance begins. Its program becomes the newest for its entities.
    Begin { record: InstanceRecord, image: Rc<Image> },
    /// A program's orchestrations and entities become known to the store under their names.
    Deploy { image: Rc<Image>, file: String, permissions: Permissions },
    /// A stored instance goes on where its history ends.
    Load { record: InstanceRecord, history: History, image: Rc<Image> },
    /// A fetched instance has ended, or does not exist.
    Absent { id: String, record: Option<InstanceRecord> },
    /// The state of a fetched entity with its version, and the newest program that declares it.
    /// If operations are kept, those that the store keeps follow.
    Entity {
        entity: EntityId,
        state: Option<Data>,
        version: u32,
        deployed: Option<Deployment>,
        kept: Option<KeptRange>,
    },
    /// A fetched program.
    Program { image: Rc<Image> },
    /// The record of an instance whose status was requested.
    Status { step: StepId, record: Option<InstanceRecord> },
    /// A stored instance is to go on.
    Wake { id: String },
    /// A stored instance is to go on at a time, and not before unless something comes for it.
    WakeAt { id: String, root: String, due: i64 },
    /// Stored instances are rewound. All earlier writes are in the store.
    Rewind(Rewinding),
    /// A stored instance is taken back. Its whole history is in the store.
    Undo(Undo),
    /// An instance that waits goes on with another program, which fits its history. Its whole
    /// history is in the store.
    Upgrade(Box<Upgrade>),
    /// An instance begins with a part of the history of another one.
    Branch(Box<Branch>),
    /// The new record of a stored instance that is not in memory. It has fewer permissions.
    Restrict { record: InstanceRecord },
    /// A message from a client. No other message has the key `from`.
    Send { to: Address, from: String, message: Message },
    /// A client calls an operation, under an id that no kept call has. No other message has the
    /// key `from`.
    Call { id: String, from: String, call: ClientCall },
    /// An activity calls an operation. The answer leaves as [`Leaving::Answered`] for this caller.
    ActivityCall {
        caller: Waiter,
        step: StepId,
        entity: EntityId,
        operation: String,
        args: Data,
        permissions: Permissions,
    },
    /// The result of a step that was an output, with the requests that an activity sent.
    Answer { step: StepId, result: Result<Data, ErrorData>, sends: Vec<Request> },
    /// Lines of a run are out; `count` is their number.
    LinesOut { run: u64, count: usize },
    /// Instances that have ended, or are given up, are purged. Nothing of them reaches instances
    /// that begin under their ids. All earlier writes are in the store.
    Purge { tree: Tree },
    /// Unused programs and texts are removed by these writes. All earlier writes are in the store,
    /// and no other engine uses it.
    Collect { unused: Batch },
    /// The kept operations of an entity are forgotten. All earlier writes are in the store.
    Forget { entity: EntityId, kept: KeptRange },
    /// The tree of an instance that is to be replaced.
    Tree { id: String, tree: Tree },
    /// An instance that has ended or is gone releases its locks.
    Release { owner: LifeId },
    /// Time has passed. Due timers fire.
    Tick,
    /// One of the ready instances and entities runs for a slice.
    Run,
}

/// An output: something that the engine wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Answer an effect that changes nothing outside.
    Effect { step: StepId, effect: Effect, args: Data, permissions: Permissions },
    /// Run an activity, and answer. Its own external effects must wait until the writes are
    /// durable.
    Activity {
        step: StepId,
        program: ProgramHash,
        name: String,
        args: Data,
        key: String,
        permissions: Permissions,
    },
    /// Nobody waits for this step any more. It may be broken off.
    Abandon { step: StepId },
    /// Read an instance or an entity from the store, including all earlier writes. If `kept` is set,
    /// the kept operations of the entity are needed, too.
    Fetch { address: Address, kept: bool },
    /// Read a program.
    FetchProgram { hash: ProgramHash },
    /// Read the tree of an instance that has ended and is to be replaced, including all earlier
    /// writes.
    Tree { id: String },
    /// Read the record of an instance, for its status.
    Status { step: StepId, id: String },
    /// An instance or client was told of the end of an instance that had ended before.
    Told { instance: String },
    /// An output that leaves the process once the writes are durable.
    Gated(Gated<Leaving>),
}

/// An output that leaves the process. Such outputs keep the order in which the engine emits them.
#[derive(Clone, Debug)]
pub enum Leaving {
    /// Perform an external effect, and answer.
    Effect { step: StepId, effect: Effect, args: Data, permissions: Permissions },
    /// Write a line, and report that it is out.
    Line { run: u64, line: Line },
    /// An instance has ended, and its outcome may be shown. `told` says whether other instances
    /// were told.
    Ended { instance: Arc<str>, outcome: Ending, told: bool },
    /// A call of a client or an activity has its answer.
    Answered { caller: String, result: Result<Data, ErrorData> },
    /// A message without effect, for which no sender waits. For people.
    Lost { what: String, error: ErrorData },
}

/// A durable change in a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// An instance has begun or ended, or its record has changed.
    Instance {
        id: String,
        lifecycle: Lifecycle,
        function: String,
        /// The time of its beginning, in nanoseconds since 1970.
        created: i64,
        /// The time of its end, in nanoseconds since 1970.
        ended: Option<i64>,
        parent: Option<String>,
    },
    /// An instance was removed.
    Removed { id: String },
    /// The history of an instance has become longer.
    History { id: String },
    /// The state, the holder or the messages of an entity have changed.
    Entity { entity: EntityId },
}

/// The way in which an instance ended, or the reason why it stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Completed(Data),
    Failed(ErrorData),
    Terminated(Data),
    /// Replay made another request than the history holds. Nothing was done or lost.
    Nondeterminism(Mismatch),
    /// The program of the instance can't run it, for this reason. Nothing was done or lost.
    Incompatible(String),
}
