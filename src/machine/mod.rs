//! The machine: values, frames, tasks, and stepping through code.
//!
//! Invariant: between two instructions all of a running program is plain data in [`Machine`]: frames, registers,
//! handlers, tasks. Nothing of it lives on Rust's stack, so it can stop at any effect, be dropped and replayed, or be
//! written down and restored; and no depth of calls or of data makes Rust recurse. It knows nothing of instances,
//! storage, or time: what it needs from outside it asks for by a [`Request`].

mod address;
mod calls;
mod cancel;
pub mod compare;
pub mod coverage;
pub mod data;
pub mod error;
mod execute;
pub mod format;
mod frames;
pub mod hashing;
pub mod ids;
pub mod image;
pub mod json;
mod json_text;
mod judge;
mod messages;
pub mod natives;
mod operate;
mod parts;
mod plain;
mod pretty;
mod provenance;
mod renumber;
mod run;
pub mod secret;
pub(crate) mod snapshot;
mod task;
pub mod value;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::builtins::{Context, Effect};
use crate::code::FunctionId;
use crate::syntax::Place;

pub use address::{EntityId, HEAD, MAX_ID, bad_id, child_id, later_child_id, started_id};
pub use data::Data;
pub use error::{ErrorData, Fail, TraceEntry};
pub use ids::{IfExists, bad_own_id};
pub use image::Image;
pub use messages::instance_handle;
pub use natives::options;
pub use value::Value;

/// Frames deeper than this are an error.
pub const MAX_DEPTH: usize = 2_000_000;
/// Registers of one fiber, in values of 16 bytes.
pub const MAX_STACK: usize = 32 << 20;
/// Bytes that the values of one thread may take.
pub const MAX_MEMORY: usize = 1 << 30;
/// Bytes of one string, or of one `bytes`.
pub const MAX_TEXT: usize = 256 << 20;
/// Bytes that the tasks of one instance may take with what they asked for: counted, not measured, so that it is the same
/// again when the instance is replayed.
pub const MAX_TASKS: usize = 512 << 20;
/// Bytes that a task under way takes with its request, its place in the history and its timer, about.
const TASK_BYTES: usize = 2 << 10;
/// Elements of one list or record.
pub const MAX_ITEMS: usize = 32 << 20;

/// What the machine needs from outside. Its number is that of the request in this run, from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub seq: u64,
    pub what: RequestKind,
    /// The arguments, a list.
    pub args: Data,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestKind {
    /// An effect of the table of builtins.
    Effect(Effect),
    /// An activity by its name, with its options.
    Activity { name: String, options: Data },
    /// An orchestration by its name, with its options: called as a child, or only started.
    Orchestration { name: String, options: Data, start: bool },
    /// An operation of an entity: called, or signalled after a duration, at an instant, or at once (null).
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

/// How far a run came.
#[derive(Debug)]
pub enum Progress {
    /// The fuel is used up; it can go on.
    OutOfFuel,
    /// It waits for answers.
    Waiting,
    /// It is at its end.
    Done(Result<Data, ErrorData>),
}

/// A call of a function that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub function: FunctionId,
    pub pc: u32,
    /// Where its window begins in the fiber's stack.
    pub base: u32,
    /// Where its result goes in the fiber's stack.
    pub result: u32,
}

/// A `try` that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    /// How many frames there are where it stands.
    pub frames: u32,
    pub pc: u32,
    pub error: u16,
}

/// One line of control: the main one, or a task's.
#[derive(Debug)]
pub(crate) struct Fiber {
    pub stack: Vec<Value>,
    pub frames: Vec<Frame>,
    pub handlers: Vec<Handler>,
    pub task: Rc<task::Task>,
    pub wait: Wait,
    /// An error that is thrown where it goes on.
    pub thrown: Option<Fail>,
    /// It was cancelled by this, and learns of it when it next runs.
    pub cancelled: Option<Box<cancel::Cause>>,
    /// It was cancelled at some time.
    pub given_up: bool,
    /// The failure of its clean-up was reported.
    pub reported: bool,
    /// The fiber that it belongs to, and those that belong to it, each with the number of the scope it was begun in.
    pub parent: u64,
    pub inner: BTreeMap<u64, u32>,
    /// The scopes that it is in, the innermost last: which attempt each is.
    pub attempts: Vec<i64>,
    /// The `when` of the policy of what it asked for.
    pub judge: Option<Value>,
    /// What it takes with its request.
    pub charge: value::Charge,
}

/// What a fiber waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    Nothing,
    Answer {
        seq: u64,
    },
    /// As `Answer`, of what is done in any case: cancellation waits until it is answered.
    Shielded {
        seq: u64,
    },
    Tasks(task::Join),
}

/// A running program.
pub struct Machine {
    pub image: Rc<Image>,
    pub context: Context,
    /// What the main fiber runs.
    function: FunctionId,
    /// What `self` and `idempotency_key()` say.
    pub identity: Identity,
    /// It may name instances as automatic ids do: what began with a version that let it goes on so.
    pub names_freely: bool,
    /// Each on its own: a leaf of such a map has room for eleven.
    fibers: BTreeMap<u64, Box<Fiber>>,
    ready: VecDeque<u64>,
    next_fiber: u64,
    next_request: u64,
    /// Fuel that was used since this was last asked.
    spent: u64,
    /// Which fiber waits for which answer.
    waiting: BTreeMap<u64, u64>,
    /// In the order of their numbers; some were taken back before they left.
    requests: Vec<Request>,
    unmade: BTreeSet<u64>,
    withdrawn: Vec<u64>,
    /// Bytes that all fibers take, by their charges.
    tasks_hold: usize,
    main: Rc<task::Task>,
    /// Tasks that failed, to look at the end whether anybody awaited them.
    failed: Vec<Rc<task::Task>>,
    provenance: provenance::Provenance,
    /// The main fiber has failed, and the others are being cancelled.
    ending: bool,
    result: ResultMode,
    value: Value,
    /// The critical section that is asked for or held.
    section: Option<messages::Section>,
    next_section: u64,
    /// What an activity or an operation has sent, in order; numbered from 0.
    sends: Vec<Request>,
    /// The state, when this is an operation.
    state: Option<run::State>,
}

/// What becomes of the main function's value.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ResultMode {
    /// It must be data.
    Data,
    /// What isn't data becomes null: a script may end with anything.
    Lenient,
    /// It is kept as a value.
    Value,
}

/// Who runs.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The instance's id.
    pub id: String,
    /// For an activity or an operation: the key of its step.
    pub key: String,
    /// The entity whose operation this is.
    pub entity: Option<EntityId>,
    /// For an activity: which attempt it is, from 1.
    pub attempt: u32,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({}, {} fibers)", self.identity.id, self.fibers.len())
    }
}
