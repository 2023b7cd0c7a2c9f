//! The machine: values, frames, tasks, and stepping through code.
//!
//! Invariant: between two instructions, the whole state of a running program is plain data in
//! [`Machine`]: frames, registers, handlers, tasks. Nothing lies on Rust's stack. So a program can
//! stop at any effect, and be dropped and replayed, or stored and restored. Rust does not recurse,
//! however deep calls or data are nested. The machine knows nothing of instances, storage or time.
//! It asks for everything outside by a [`Request`].

mod address;
mod calls;
mod cancel;
pub mod canonical;
pub mod compare;
pub mod coverage;
pub mod data;
pub mod differences;
pub mod duration_text;
mod durations;
pub mod error;
mod execute;
pub mod format;
mod formatted;
mod frames;
mod habits;
pub mod hashing;
pub mod ids;
pub mod image;
pub mod inspect;
pub mod json;
mod json_text;
mod judge;
mod messages;
pub mod natives;
mod operate;
mod parts;
pub mod pauses;
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
pub mod zones;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::builtins::{Context, Effect};
use crate::code::FunctionId;
use crate::syntax::Place;

pub use address::{EntityId, HEAD, MAX_ID, bad_id, child_id, later_child_id, started_id};
pub use cancel::{Cancellation, Canceller, is_cancellation, locate};
pub use data::Data;
pub use error::{ErrorData, Fail, TraceEntry};
pub use ids::{IfExists, bad_own_id};
pub use image::Image;
pub use messages::instance_handle;
pub use natives::urls::wait as retry_wait;
pub use natives::{io_options, options, sql};
pub use run::find_operation;
pub use value::Value;

/// The limit on the frames of a fiber. More are an error.
pub const MAX_DEPTH: usize = 2_000_000;
/// The limit on the registers of a fiber, each a value of 16 bytes.
pub const MAX_STACK: usize = 32 << 20;
/// The limit on the bytes of all values of a thread.
pub const MAX_MEMORY: usize = 1 << 30;
/// The limit on the bytes of a string, or of a `bytes`.
pub const MAX_TEXT: usize = 256 << 20;
/// The limit on the bytes of an instance's tasks and their requests. They are counted by fixed
/// rules, not measured, so that a replay counts the same number.
pub const MAX_TASKS: usize = 512 << 20;
/// The approximate number of bytes of a running task, with its request, its place in the history
/// and its timer.
const TASK_BYTES: usize = 2 << 10;
/// The limit on the elements of a list or a record.
pub const MAX_ITEMS: usize = 32 << 20;

/// A request for something outside of the machine. `seq` is the number of the request in this run,
/// from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub seq: u64,
    pub what: RequestKind,
    /// The arguments, as a list.
    pub args: Data,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestKind {
    /// An effect from the table of builtins.
    Effect(Effect),
    /// An activity, by its name, with its options.
    Activity { name: String, options: Data },
    /// An orchestration, by its name, with its options: called as a child, or only started.
    Orchestration { name: String, options: Data, start: bool },
    /// An operation of an entity. A call has no `signal`. A signal has a duration, an instant, or
    /// null for at once.
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

/// The reason why a run stopped.
#[derive(Debug)]
pub enum Progress {
    /// The fuel is used up; the run can go on.
    OutOfFuel,
    /// All fibers wait for answers or for one another.
    Waiting,
    /// The run has ended.
    Done(Result<Data, ErrorData>),
}

/// A call of a function that has not returned.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub function: FunctionId,
    pub pc: u32,
    /// The first register of the call's window, as an index into the fiber's stack.
    pub base: u32,
    /// The place of the call's result, as an index into the fiber's stack.
    pub result: u32,
}

/// A `try` whose body is running.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    /// The number of frames at the `try`.
    pub frames: u32,
    pub pc: u32,
    pub error: u16,
}

/// One thread of control: the main one, or a task's.
#[derive(Debug)]
pub(crate) struct Fiber {
    pub stack: Vec<Value>,
    pub frames: Vec<Frame>,
    pub handlers: Vec<Handler>,
    pub task: Rc<task::Task>,
    pub wait: Wait,
    /// An error to throw when the fiber goes on.
    pub thrown: Option<Fail>,
    /// The cause of a cancellation that the fiber does not know of yet. The fiber gets the error
    /// when it next runs.
    pub cancelled: Option<Box<cancel::Cause>>,
    /// Whether the fiber was ever cancelled.
    pub given_up: bool,
    /// Whether the failure of the fiber's clean-up was reported.
    pub reported: bool,
    /// The fiber that owns this one, and, in `inner`, the fibers that this one owns, each with the
    /// number of the scope in which it began.
    pub parent: u64,
    pub inner: BTreeMap<u64, u32>,
    /// The numbers of attempts of the scopes that the fiber is in, innermost last.
    pub attempts: Vec<i64>,
    /// The `when` of the retry policy of the fiber's request.
    pub judge: Option<Value>,
    /// The memory that the fiber and its request count for.
    pub charge: value::Charge,
}

/// The thing that a fiber waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    Nothing,
    Answer {
        seq: u64,
    },
    /// As `Answer`, for a request that is carried out in any case: cancellation waits for its
    /// answer.
    Shielded {
        seq: u64,
    },
    Tasks(task::Join),
}

/// A running program.
pub struct Machine {
    pub image: Rc<Image>,
    pub context: Context,
    /// The function that the main fiber runs.
    function: FunctionId,
    /// The values of `self` and `idempotency_key()`.
    pub identity: Identity,
    /// Whether the program can choose ids of the automatic form. Only instances that an earlier
    /// version began can, since that version allowed them.
    pub names_freely: bool,
    /// The fibers, each in a box: a leaf of this map has room for eleven.
    fibers: BTreeMap<u64, Box<Fiber>>,
    ready: VecDeque<u64>,
    next_fiber: u64,
    next_request: u64,
    /// The fuel used since `take_spent` was last called.
    spent: u64,
    /// For each request without an answer, the fiber that waits for it.
    waiting: BTreeMap<u64, u64>,
    /// Requests in the order of their numbers. Those in `unmade` were withdrawn before they left.
    requests: Vec<Request>,
    unmade: BTreeSet<u64>,
    withdrawn: Vec<u64>,
    /// The bytes that all fibers count for, by their charges.
    tasks_hold: usize,
    main: Rc<task::Task>,
    /// The tasks that failed. At the end, the machine checks whether each was awaited.
    failed: Vec<Rc<task::Task>>,
    provenance: provenance::Provenance,
    /// Whether the main fiber has failed, so that the others are being cancelled.
    ending: bool,
    result: ResultMode,
    value: Value,
    /// The critical section that was requested or is held.
    section: Option<messages::Section>,
    next_section: u64,
    /// The entities of the section that was left last.
    left: Vec<EntityId>,
    /// The messages of an activity or an operation, in order, numbered from 0.
    sends: Vec<Request>,
    /// The state of the entity, when this is an operation.
    state: Option<run::State>,
    /// The places at which the debugger stops, while it runs the machine.
    pauses: Option<Box<pauses::Pauses>>,
}

/// The treatment of the main function's value.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) enum ResultMode {
    /// The value must be data.
    Data,
    /// A value that isn't data becomes null: a script can end with anything.
    Lenient,
    /// The value is kept as it is.
    Value,
}

/// The identity of the code that runs.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The instance's id. An operation has that of its entity, whatever this is.
    pub id: String,
    /// For an activity or an operation: its idempotency key.
    pub key: String,
    /// The entity, if this is an operation of one.
    pub entity: Option<EntityId>,
    /// For an activity: the number of the attempt, from 1.
    pub attempt: u32,
}

impl Identity {
    /// Returns the id: of the instance, or the name of the entity. Operations seldom ask for it.
    pub fn id(&self) -> Cow<'_, str> {
        match &self.entity {
            Some(entity) => Cow::Owned(entity.to_string()),
            None => Cow::Borrowed(&self.id),
        }
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Machine({}, {} fibers)", self.identity.id(), self.fibers.len())
    }
}
