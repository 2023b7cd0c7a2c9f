//! The participants, and the messages that they exchange.

use std::fmt;
use std::sync::Arc;

use crate::internal::sure;
use crate::machine::options::Later;
use crate::machine::{Cancellation, Data, ErrorData, IfExists, Request, RequestKind, format};
use crate::syntax::Place;

use super::lives::{Execution, LifeId, Owner};
use super::part::Part;

pub use super::name::{Entity as EntityName, Id};

/// An answer to a request.
pub type Answer = Part<Result<Data, ErrorData>>;

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    Instance(Id),
    Entity(EntityName),
    /// The sender of the results of activities and effects.
    World,
    /// The operator, who intervenes from outside.
    Operator,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Instance(id) => f.write_str(id),
            Name::Entity(entity) => entity.fmt(f),
            Name::World => f.write_str("the world"),
            Name::Operator => f.write_str("the operator"),
        }
    }
}

/// The request of an instance that an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    pub instance: Id,
    /// The life and the execution that made the request.
    pub execution: Execution,
    pub seq: u64,
}

impl Waiter {
    /// Whether both are requests of the same life of an instance.
    pub fn is_of(&self, other: &Waiter) -> bool {
        self.instance == other.instance && self.execution.life == other.execution.life
    }
}

/// A message under way.
pub type Mail = Part<Message>;

/// A request of a program: its kind, its arguments, and its place in the source.
pub type Asked = Part<Request>;

/// Returns the part of a request. The request's number does not count as contents.
pub fn asked(request: Request) -> Asked {
    let text = format!("{:?} {:?} {:?}", request.what, request.args.0, request.place);
    Part::of(request, text.as_bytes())
}

/// Returns the part of an answer.
pub fn answer(result: Result<Data, ErrorData>) -> Answer {
    let mut bytes = sure(postcard::to_stdvec(&result), "writing to memory does not fail");
    bytes.push(u8::from(result.is_ok()));
    Part::of(result, &bytes)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    // To an instance:
    /// Begins the instance, if there is none with that id.
    Begin {
        function: Id,
        args: Data,
        /// The rule for an id that has an instance already.
        if_exists: IfExists,
        parent: Option<LifeId>,
        owner: Owner,
        /// The request that waits for the end of the instance, and the one that waits only for its
        /// beginning.
        waiter: Option<Waiter>,
        started: Option<Waiter>,
        /// The number of the attempt, for a call with `retry`.
        attempt: u32,
        /// The time at which a started instance begins; `None` for at once.
        later: Option<Later>,
    },
    Answer {
        execution: Execution,
        seq: u64,
        result: Answer,
        /// The messages of an activity, which leave when the instance takes the result.
        sends: Vec<Asked>,
    },
    Event {
        name: Id,
        payload: Data,
        ack: Option<Waiter>,
    },
    /// A request waits for the end of the instance.
    Wait(Waiter),
    /// Ends the instance. If `by` is given, only as a child of that instance.
    Terminate {
        why: Data,
        children: bool,
        by: Option<LifeId>,
        ack: Option<Waiter>,
    },
    /// Cancels the instance. If `of` is given, only as a child of that instance.
    Cancel {
        what: Part<Cancellation>,
        of: Option<LifeId>,
        ack: Option<Waiter>,
    },
    Suspend {
        ack: Option<Waiter>,
    },
    Resume {
        ack: Option<Waiter>,
    },
    /// A timer of one of the instance's requests is due.
    Due {
        execution: Execution,
        seq: u64,
        timer: Timer,
    },
    // To an entity:
    Call {
        caller: Waiter,
        operation: Id,
        args: Data,
        /// The key of the step.
        key: Id,
        /// Whether the call comes from within the critical section that holds the entity.
        within: bool,
        place: PlaceOf,
    },
    Signal {
        operation: Id,
        args: Data,
        key: Id,
        place: PlaceOf,
    },
    /// The request of a critical section, on its way along its entities.
    Lock {
        owner: Waiter,
        set: Arc<[EntityName]>,
        at: usize,
    },
    /// The end of a critical section, sent to each of its entities.
    Release {
        owner: Waiter,
    },
    /// The end of the wait for a critical section. It follows the request, so it can't overtake the
    /// request.
    Withdraw {
        owner: Waiter,
        set: Arc<[EntityName]>,
        at: usize,
    },
}

/// The purpose of a request's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    Sleep,
    /// The time limit of one attempt or request.
    Timeout,
    /// The next attempt at an activity.
    Retry,
    /// The time limit of all attempts together.
    Within,
    /// The grace period of a cancelled instance. It belongs to no request.
    Grace,
    /// The beginning of an instance that was started for a later time.
    Begin,
}

/// The number of an instance's grace period among its timers. No request has such a number.
pub const GRACE: u64 = 1 << 60;

/// A place in the source. Places always compare as equal, so they make no difference between
/// messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaceOf(pub Place);

impl PartialEq for PlaceOf {
    fn eq(&self, _: &PlaceOf) -> bool {
        true
    }
}

impl Eq for PlaceOf {}

impl std::hash::Hash for PlaceOf {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Begin { function, args, .. } => write!(f, "begin {function}({})", inner(args)),
            Message::Answer { result, .. } => match &**result {
                Ok(value) => write!(f, "answer {}", shown(value)),
                Err(error) => write!(f, "error {}", error.title()),
            },
            Message::Event { name, payload, .. } => write!(f, "event {name} {}", shown(payload)),
            Message::Wait(waiter) => write!(f, "the wish of {} to know its end", waiter.instance),
            Message::Terminate { why, .. } => write!(f, "terminate ({})", shown(why)),
            Message::Cancel { what, .. } => write!(f, "cancel ({})", shown(&what.reason)),
            Message::Suspend { .. } => f.write_str("suspend"),
            Message::Resume { .. } => f.write_str("resume"),
            Message::Call { operation, args, .. } => write!(f, "{operation}({})", inner(args)),
            Message::Signal { operation, args, .. } => write!(f, "signal {operation}({})", inner(args)),
            Message::Lock { owner, .. } => write!(f, "lock for {}", owner.instance),
            Message::Release { owner } => write!(f, "release by {}", owner.instance),
            Message::Withdraw { owner, .. } => write!(f, "withdrawal by {}", owner.instance),
            Message::Due { timer: Timer::Sleep, .. } => f.write_str("the sleep is over"),
            Message::Due { timer: Timer::Timeout | Timer::Within, .. } => f.write_str("the time is up"),
            Message::Due { timer: Timer::Retry, .. } => f.write_str("the next attempt is due"),
            Message::Due { timer: Timer::Grace, .. } => f.write_str("the grace period is over"),
            Message::Due { timer: Timer::Begin, .. } => f.write_str("its beginning is due"),
        }
    }
}

/// Describes a request for people: `charge("1234", 10)`.
pub fn describe(asked: &Request) -> String {
    let args = inner(&asked.args);
    match &asked.what {
        RequestKind::Effect(effect) => format!("{}({args})", effect.shown()),
        RequestKind::Activity { name, .. } => format!("{name}({args})"),
        RequestKind::Orchestration { name, start: true, .. } => format!("start {name}({args})"),
        RequestKind::Orchestration { name, .. } => format!("{name}({args})"),
        RequestKind::Operation { entity, operation, signal: None } => format!("{entity}.{operation}({args})"),
        RequestKind::Operation { entity, operation, .. } => format!("signal {entity}.{operation}({args})"),
    }
}

/// Returns a value in short form.
pub fn shown(data: &Data) -> String {
    format::write(&data.decode(), 120).0
}

/// Returns a list of arguments without its brackets.
pub fn inner(args: &Data) -> String {
    let text = shown(args);
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text).to_string()
}
