//! The entries of a history: what an instance asked for and what it got.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::builtins::Effect;
use crate::machine::{Data, EntityId, ErrorData, Request, RequestKind, Value, format};
use crate::syntax::Place;

/// One thing that happened to an instance. Times are nanoseconds since 1970; `seq` numbers its requests from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// It asked for something.
    Requested { seq: u64, what: RecordedRequest, args: Args, place: Place, time: i64 },
    /// It got an answer.
    Answered { seq: u64, result: Result<Data, ErrorData>, time: i64 },
    /// An attempt at an activity failed, and the next one begins at `again`.
    Retried { seq: u64, error: ErrorData, again: i64, time: i64 },
    /// Nobody waits for the answer any more.
    Cancelled { seq: u64, time: i64 },
    /// It came to its end; the outcome is in its record.
    Ended { time: i64 },
    /// Somebody ended it.
    Terminated { time: i64 },
    /// It was rewound: what stood here is cut, and its next request has this number.
    Rewound { seq: u64, time: i64 },
    /// Since it was rewound, a request is asked again or its time begins anew.
    Renewed { seq: u64, time: i64 },
    /// An attempt after the first is handed to the host.
    Begun { seq: u64, time: i64 },
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecordedRequest {
    Effect(String),
    Activity(String),
    Orchestration { name: String, start: bool },
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

/// The arguments of a request; large ones by checksum only, since replay makes them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Args {
    Whole(Data),
    Large { bytes: u64, checksum: u128 },
}

/// Arguments of more bytes than this are kept by their checksum.
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

    /// For people: a list without its brackets.
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

    /// The request for an effect, which a history has by its name.
    pub fn of_effect(effect: Effect) -> RecordedRequest {
        RecordedRequest::Effect(effect.name().to_string())
    }

    /// The effect that it is for, if it is for one that this version knows.
    pub fn effect(&self) -> Option<Effect> {
        match self {
            RecordedRequest::Effect(name) => Effect::find(name),
            _ => None,
        }
    }

    /// `effect`, `activity`, `call`, `start` or `signal`.
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

    /// As it is written in a program: `fs.read`.
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

/// Whether two requests are for the same critical section, though their entities are written in another way: an earlier
/// version did not bring their keys into one form.
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
    /// The entry of a request.
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

    /// Bytes that it takes, about.
    pub(super) fn size(&self) -> usize {
        const FIXED: usize = 32;
        FIXED
            + match self {
                Entry::Requested { args: Args::Whole(args), .. } => args.0.len(),
                Entry::Answered { result: Ok(value), .. } => value.0.len(),
                Entry::Answered { result: Err(error), .. } | Entry::Retried { error, .. } => {
                    error.value.0.len() + 64 * error.trace.entries.len()
                }
                _ => 0,
            }
    }

    /// Its request's number, if it has one, and its time.
    pub(super) fn numbers(&mut self) -> (Option<&mut u64>, &mut i64) {
        match self {
            Entry::Requested { seq, time, .. }
            | Entry::Answered { seq, time, .. }
            | Entry::Retried { seq, time, .. }
            | Entry::Begun { seq, time }
            | Entry::Cancelled { seq, time }
            | Entry::Rewound { seq, time }
            | Entry::Renewed { seq, time } => (Some(seq), time),
            Entry::Ended { time } | Entry::Terminated { time } => (None, time),
        }
    }

    /// The number of the request that it is about; the end of an instance is about none.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Entry::Requested { seq, .. }
            | Entry::Answered { seq, .. }
            | Entry::Retried { seq, .. }
            | Entry::Begun { seq, .. }
            | Entry::Renewed { seq, .. }
            | Entry::Cancelled { seq, .. } => Some(*seq),
            Entry::Rewound { .. } | Entry::Ended { .. } | Entry::Terminated { .. } => None,
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
            | Entry::Terminated { time } => *time,
        }
    }
}
