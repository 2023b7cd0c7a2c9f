//! The entries of a history: the requests of an instance, and their answers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::machine::{Cancellation, Data, EntityId, ErrorData, Request, RequestKind, Value, format};
use crate::syntax::Place;

/// The number of the grace period, a sleep that the engine adds to the requests of a cancelled
/// instance. The program never gets so far.
pub const GRACE: u64 = u64::MAX;

/// The place of a message in the order in which an instance takes its messages: by time, then by
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Postmark {
    /// The time of the message's cause, in nanoseconds since 1970.
    pub time: i64,
    /// The message's place in the order of all messages.
    pub number: u64,
}

/// An event in the life of an instance. Times are nanoseconds since 1970; `seq` numbers the
/// instance's requests from 0.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The instance made a request.
    Requested { seq: u64, what: RecordedRequest, args: Args, place: Place, time: i64 },
    /// The instance got an answer. If a message brought it, `came` is the message's place among all
    /// messages to the instance. Histories of earlier versions have no such places.
    Answered { seq: u64, result: Result<Data, ErrorData>, time: i64, came: Option<Postmark> },
    /// An attempt at an activity failed, and the next one begins at `again`.
    Retried { seq: u64, error: ErrorData, again: i64, time: i64 },
    /// Nobody waits for the answer any more.
    Cancelled { seq: u64, time: i64 },
    /// The instance came to its end. Its record has the outcome.
    Ended { time: i64 },
    /// The instance was terminated.
    Terminated { time: i64 },
    /// The instance was rewound: the entries that stood here were cut. Its next request has this
    /// number. At the end of what a rewind kept, `used` is the greatest number that any request had
    /// before, cut or not. Histories of earlier versions do not have it.
    Rewound { seq: u64, time: i64, used: Option<u64> },
    /// After a rewind, a request is made again, or its time limit begins anew.
    Renewed { seq: u64, time: i64 },
    /// An attempt after the first was handed to the host.
    Begun { seq: u64, time: i64 },
    /// The instance is cancelled: everything that runs in it gets an error where it waits.
    Cancelling { what: Box<Cancellation>, time: i64 },
    /// The instance goes on with another program, which fits all entries so far. The entries since
    /// the last change were made with the program `from`.
    Upgraded { from: ProgramHash, time: i64 },
}

/// A request as the history records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordedRequest {
    Effect(String),
    Activity(String),
    Orchestration { name: String, start: bool },
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

/// The arguments of a request. Large ones are kept by checksum only, since replay makes them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Args {
    Whole(Data),
    Large { bytes: u64, checksum: u128 },
}

/// The size in bytes above which arguments are kept by checksum only.
const WHOLE: usize = 4096;

impl Args {
    pub fn of(data: &Data) -> Args {
        if data.0.len() <= WHOLE {
            return Args::Whole(data.clone());
        }
        Args::Large { bytes: data.0.len() as u64, checksum: xxh3_128(&data.0) }
    }

    fn are(&self, data: &Data) -> bool {
        match self {
            Args::Whole(known) => known == data,
            Args::Large { bytes, checksum } => {
                *bytes == data.0.len() as u64 && *checksum == xxh3_128(&data.0)
            }
        }
    }

    /// Describes the arguments for people: a list without its brackets.
    pub fn describe(&self) -> String {
        match self {
            Args::Whole(data) => {
                let text = crate::machine::format::write(&data.decode(), 2_000).0;
                text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text).to_string()
            }
            Args::Large { bytes, .. } => format!("{bytes} bytes"),
        }
    }
}

impl RecordedRequest {
    pub fn of(what: &RequestKind) -> RecordedRequest {
        match what {
            RequestKind::Effect(effect) => RecordedRequest::of_effect(*effect),
            RequestKind::Activity { name, .. } => RecordedRequest::Activity(name.clone()),
            RequestKind::Orchestration { name, start, .. } => {
                RecordedRequest::Orchestration { name: name.clone(), start: *start }
            }
            RequestKind::Operation { entity, operation, signal } => RecordedRequest::Operation {
                entity: entity.clone(),
                operation: operation.clone(),
                signal: signal.clone(),
            },
        }
    }

    /// Returns the request for an effect, which a history records by its name.
    pub fn of_effect(effect: Effect) -> RecordedRequest {
        RecordedRequest::Effect(effect.name().to_string())
    }

    /// Returns the effect of the request, or `None` if it has none that this version knows.
    pub fn effect(&self) -> Option<Effect> {
        match self {
            RecordedRequest::Effect(name) => Effect::find(name),
            _ => None,
        }
    }

    /// Returns `effect`, `activity`, `call`, `start` or `signal`.
    pub fn kind(&self) -> &'static str {
        match self {
            RecordedRequest::Effect(_) => "effect",
            RecordedRequest::Activity(_) => "activity",
            RecordedRequest::Orchestration { start: false, .. }
            | RecordedRequest::Operation { signal: None, .. } => "call",
            RecordedRequest::Orchestration { .. } => "start",
            RecordedRequest::Operation { .. } => "signal",
        }
    }

    /// Returns the request as programs write it, such as `fs.read`.
    pub fn shown(&self) -> String {
        match self {
            RecordedRequest::Effect(name) => crate::builtins::shown(name),
            RecordedRequest::Activity(name) => name.clone(),
            RecordedRequest::Orchestration { name, start } => {
                format!("{}{name}", if *start { "start " } else { "" })
            }
            RecordedRequest::Operation { entity, operation, signal } => {
                let signal = if signal.is_some() { "signal " } else { "" };
                format!("{signal}{}.{operation}", format::display(&entity.value()))
            }
        }
    }

    pub fn name(&self) -> &str {
        match self {
            RecordedRequest::Effect(name)
            | RecordedRequest::Activity(name)
            | RecordedRequest::Orchestration { name, .. } => name,
            RecordedRequest::Operation { operation, .. } => operation,
        }
    }
}

/// Whether two requests are for the same critical section, though their entities are written
/// differently. An earlier version did not make the keys of entities canonical.
fn same_section(what: &RecordedRequest, known: &Args, now: &Data) -> bool {
    let Args::Whole(known) = known else { return false };
    if what.effect() != Some(Effect::Lock) {
        return false;
    }
    let section = |args: &Data| {
        let [Value::List(entities), options] = &args.items()[..] else { return None };
        let entity = |value: &Value| match value {
            Value::Entity(entity) => EntityId::of(entity).ok(),
            _ => None,
        };
        let set: Option<BTreeSet<EntityId>> = entities.as_slice().iter().map(entity).collect();
        Some((set?, Data::encode(options).ok()?))
    };
    section(known).is_some_and(|known| section(now) == Some(known))
}

impl Entry {
    /// Returns the entry of a request.
    pub fn requested(request: &Request, time: i64) -> Entry {
        Entry::Requested {
            seq: request.seq,
            what: RecordedRequest::of(&request.what),
            args: Args::of(&request.args),
            place: request.place,
            time,
        }
    }

    /// Whether this is the entry of that request.
    pub fn is_of(&self, request: &Request) -> bool {
        matches!(self, Entry::Requested { seq, what, args, .. }
            if *seq == request.seq && *what == RecordedRequest::of(&request.what)
                && (args.are(&request.args) || same_section(what, args, &request.args)))
    }

    /// Returns the approximate number of bytes that the entry takes.
    pub(super) fn size(&self) -> usize {
        const FIXED: usize = 32;
        FIXED
            + match self {
                Entry::Requested { args: Args::Whole(args), .. } => args.0.len(),
                Entry::Answered { result: Ok(value), .. } => value.0.len(),
                Entry::Answered { result: Err(error), .. } | Entry::Retried { error, .. } => {
                    error.value.0.len() + 64 * error.trace.entries.len()
                }
                Entry::Cancelling { what, .. } => what.place.len() + what.reason.0.len(),
                _ => 0,
            }
    }

    /// Returns the entry's number, if it has one, and its time.
    pub(super) fn numbers(&mut self) -> (Option<&mut u64>, &mut i64) {
        match self {
            Entry::Requested { seq, time, .. }
            | Entry::Answered { seq, time, .. }
            | Entry::Retried { seq, time, .. }
            | Entry::Begun { seq, time }
            | Entry::Cancelled { seq, time }
            | Entry::Rewound { seq, time, .. }
            | Entry::Renewed { seq, time } => (Some(seq), time),
            Entry::Ended { time }
            | Entry::Terminated { time }
            | Entry::Cancelling { time, .. }
            | Entry::Upgraded { time, .. } => (None, time),
        }
    }

    /// Replaces the message's time and the greatest number before a rewind by their differences to
    /// the entry's own, or the other way round.
    pub(super) fn turn_marks(&mut self) {
        match self {
            Entry::Answered { time, came: Some(came), .. } => came.time = time.wrapping_sub(came.time),
            Entry::Rewound { seq, used: Some(used), .. } => *used = seq.wrapping_sub(*used),
            _ => {}
        }
    }

    /// Returns the greatest number of a request that the entry tells of.
    pub(super) fn greatest(&self) -> Option<u64> {
        match self {
            Entry::Requested { seq, .. } => Some(*seq),
            Entry::Rewound { used, .. } => *used,
            _ => None,
        }
    }

    /// Returns the number of the request that the entry is about. Rewinds, upgrades, cancellations and
    /// ends of instances are about none.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Entry::Requested { seq, .. }
            | Entry::Answered { seq, .. }
            | Entry::Retried { seq, .. }
            | Entry::Begun { seq, .. }
            | Entry::Renewed { seq, .. }
            | Entry::Cancelled { seq, .. } => Some(*seq),
            Entry::Rewound { .. }
            | Entry::Ended { .. }
            | Entry::Terminated { .. }
            | Entry::Cancelling { .. }
            | Entry::Upgraded { .. } => None,
        }
    }

    pub fn time(&self) -> i64 {
        match self {
            Entry::Requested { time, .. }
            | Entry::Answered { time, .. }
            | Entry::Retried { time, .. }
            | Entry::Cancelled { time, .. }
            | Entry::Rewound { time, .. }
            | Entry::Renewed { time, .. }
            | Entry::Begun { time, .. }
            | Entry::Ended { time }
            | Entry::Terminated { time }
            | Entry::Cancelling { time, .. }
            | Entry::Upgraded { time, .. } => *time,
        }
    }
}
