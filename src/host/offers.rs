//! Activities that another process may run: the form in which they are offered, and the form in
//! which their results come back.
//!
//! Invariant: an offer has everything that an attempt at an activity needs, and its result names
//! the attempt. So a result that nobody waits for any more is known as such.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::engine::{Address, StepId};
use crate::machine::{Data, EntityId, ErrorData, Request, RequestKind};
use crate::permissions::Permissions;
use crate::syntax::Place;

use super::EffectResult;
use super::stored::{read, stored};

/// An attempt at an activity of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attempt {
    pub instance: String,
    life: u64,
    execution: u32,
    seq: u64,
    round: u32,
    attempt: u32,
}

impl Attempt {
    /// Returns the attempt that a step is, if the step is an instance's.
    pub(super) fn of(step: &StepId) -> Option<Attempt> {
        let Address::Instance(id) = &step.owner else { return None };
        let StepId { life, execution, seq, round, attempt, .. } = *step;
        Some(Attempt { instance: id.to_string(), life, execution, seq, round, attempt })
    }

    pub(super) fn step(&self) -> StepId {
        let Attempt { life, execution, seq, round, attempt, .. } = *self;
        StepId { owner: Address::instance(&self.instance), life, execution, seq, round, attempt }
    }
}

/// An activity that another process may run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    pub attempt: Attempt,
    pub program: ProgramHash,
    pub name: String,
    pub args: Data,
    /// The idempotency key, which all attempts have in common.
    pub key: String,
    pub permissions: Permissions,
}

impl Offer {
    /// Returns the form in which the offer is stored.
    pub fn to_stored(&self) -> Vec<u8> {
        stored(self)
    }

    /// Reads an offer. Returns `None` if another version wrote it.
    pub fn from_stored(bytes: &[u8]) -> Option<Offer> {
        read(bytes)
    }
}

/// The end of an attempt at an activity that another process has run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub attempt: Attempt,
    pub result: EffectResult,
    sends: Vec<Sending>,
}

impl Finished {
    pub(super) fn new(attempt: Attempt, result: EffectResult, sends: Vec<Request>) -> Finished {
        Finished { attempt, result, sends: sends.into_iter().map(Sending::of).collect() }
    }

    /// Returns the end of an attempt that could not begin.
    pub fn failed(attempt: Attempt, error: ErrorData) -> Finished {
        Finished::new(attempt, Err(error), Vec::new())
    }

    /// Returns the messages of the activity. `None` stands for those of another version.
    pub(super) fn sends(&self) -> Option<Vec<Request>> {
        self.sends.iter().cloned().map(Sending::request).collect()
    }
}

/// A call of an entity by an activity that another process runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallOf {
    pub attempt: Attempt,
    pub entity: EntityId,
    pub operation: String,
    pub args: Data,
    pub permissions: Permissions,
}

/// A message that an activity sends when its result is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sending {
    seq: u64,
    kind: Kind,
    args: Data,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Kind {
    Effect(String),
    Activity { name: String, options: Data },
    Orchestration { name: String, options: Data, start: bool },
    Operation { entity: EntityId, operation: String, signal: Option<Data> },
}

impl Sending {
    fn of(Request { seq, what, args, .. }: Request) -> Sending {
        let kind = match what {
            RequestKind::Effect(effect) => Kind::Effect(effect.name().to_string()),
            RequestKind::Activity { name, options } => Kind::Activity { name, options },
            RequestKind::Orchestration { name, options, start } => {
                Kind::Orchestration { name, options, start }
            }
            RequestKind::Operation { entity, operation, signal } => {
                Kind::Operation { entity, operation, signal }
            }
        };
        Sending { seq, kind, args }
    }

    fn request(self) -> Option<Request> {
        let what = match self.kind {
            Kind::Effect(name) => RequestKind::Effect(Effect::find(&name)?),
            Kind::Activity { name, options } => RequestKind::Activity { name, options },
            Kind::Orchestration { name, options, start } => {
                RequestKind::Orchestration { name, options, start }
            }
            Kind::Operation { entity, operation, signal } => {
                RequestKind::Operation { entity, operation, signal }
            }
        };
        // Messages of activities are sent from no place of the instance's program.
        Some(Request { seq: self.seq, what, args: self.args, place: Place::default() })
    }
}

/// The place where a host offers activities to other processes. Its functions do not wait.
pub trait Market: Send + Sync {
    /// Offers an activity under a number, which the host gives once.
    fn offer(&self, number: u64, offer: Offer);
    /// Takes an offer back, since nobody waits for its result any more.
    fn withdraw(&self, number: u64);
}

/// The market of a host, as a setting.
#[derive(Clone)]
pub struct Offers(pub Arc<dyn Market>);

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offers")
    }
}
