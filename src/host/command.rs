//! What may be asked of the engine: commands, and what they come to.

use serde::{Deserialize, Serialize};

use crate::engine::{InstanceRecord, Steps};
use crate::machine::{Data, EntityId, ErrorData, IfExists};

/// An instance that is to begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Starting {
    pub record: InstanceRecord,
    /// The modules of its program.
    pub modules: Vec<(String, String)>,
    /// With a name, its id is the next that is free of that name, and not that of the record.
    pub named: Option<String>,
    pub if_exists: IfExists,
}

/// A command. It is carried out on the engine's turn, and answered when it is durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Begin an instance.
    Start(Box<Starting>),
    /// Raise an event for an instance that has not ended.
    Raise { id: String, event: String, payload: Data },
    /// Hold an instance up between two steps.
    Suspend { id: String },
    /// Let an instance go on that was suspended.
    Resume { id: String },
    /// End an instance, and the instances that it called unless `children` is false.
    Terminate { id: String, why: Data, children: bool },
    /// Send an operation to an entity that is deployed, and don't wait for its result; it comes `after` so long, in
    /// nanoseconds.
    Signal { entity: EntityId, operation: String, args: Data, after: Option<i64> },
    /// Remove the message that an entity is at, or the next one.
    DropMessage(EntityId),
    /// Answer when an instance has ended.
    Wait(String),
    /// Let a failed instance ask its failed steps again, or only say what that comes to.
    Rewind { id: String, dry_run: bool },
    /// Remove instances with their trees. With `force`, those that have not ended are terminated first; without, nothing
    /// is removed then.
    Purge { ids: Vec<String>, force: bool },
}

/// What a command came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, and durable.
    Done,
    /// There is no such instance, or no program that declares such an entity.
    Unknown,
    /// It has ended already.
    Ended,
    /// What a rewinding comes to, instance by instance.
    Rewound(Vec<Steps>),
    /// An instance has begun, under this id.
    Begun(String),
    /// The instance of this id is the one that was to begin: it has begun before.
    Known(String),
    /// The id is that of another instance: the error, and what that one runs.
    Taken { error: ErrorData, function: String },
    /// So many instances were removed.
    Removed(u64),
    /// It can't be done, for this reason.
    Refused(String),
}
