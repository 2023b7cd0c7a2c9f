//! Commands for the engine, and their replies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::{Address, InstanceRecord, Steps, Verdict};
use crate::machine::{Data, EntityId, ErrorData, IfExists};
use crate::permissions::Permissions;

use super::offers::{CallOf, Finished};

/// An instance that is about to begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Starting {
    pub record: InstanceRecord,
    /// The modules of the instance's program.
    pub modules: Vec<(String, String)>,
    /// A name; the instance then gets the next free id of that name, instead of the record's id.
    pub named: Option<String>,
    pub if_exists: IfExists,
}

impl Starting {
    /// Returns the start of an instance with the function, the program, the arguments and the
    /// permissions of another one. Without an id, `name` is what the instance is named after. The
    /// id of the other one replaces it, if it has ended.
    pub fn again(known: &InstanceRecord, id: Option<String>, name: String, now: i64) -> Starting {
        let args = known.first_args().unwrap_or(&known.args).clone();
        let new = id.as_deref().unwrap_or_default();
        let mut record = InstanceRecord::new(new, known.program, &known.file, &known.function, args, now);
        record.permissions = known.permissions.clone();
        let if_exists = if new == known.id { IfExists::Replace } else { IfExists::Fail };
        Starting { record, modules: Vec::new(), named: id.is_none().then_some(name), if_exists }
    }
}

/// A script that is to run here for a process whose terminal shows it: a guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attending {
    /// The name of the guest, which no other guest has.
    pub guest: String,
    /// The folder that the guest works in. The relative paths of the script mean files there.
    pub folder: PathBuf,
    pub starting: Starting,
}

/// A change of the program of instances that have not ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upgrading {
    pub ids: Vec<String>,
    /// The name of the new program's file.
    pub file: String,
    /// The modules of the new program.
    pub modules: Vec<(String, String)>,
    /// The entry of the history, numbered from 1, to which each instance goes back first.
    pub from: Option<u64>,
    /// Whether a program is adopted although variables have other values with it.
    pub accept_state: bool,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// The outcome of an upgrade of one instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Judgement {
    /// The verdict, the requests that are forgotten, and whether the instance has the new program
    /// now.
    Judged { verdict: Verdict, forgotten: Vec<(u64, String)>, is_adopted: bool },
    /// The instance is under way just now. It can be upgraded once it waits.
    Busy,
    /// There is no such instance.
    Unknown,
    /// The instance has ended already.
    Ended,
    /// The instance can't be upgraded, for this reason.
    Refused(String),
}

/// A new instance that begins with a part of the history of another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forking {
    pub id: String,
    /// The number of entries that the new instance begins with.
    pub at: u64,
    /// The id of the new instance.
    pub new: String,
    /// The name of another program's file, with the program's modules.
    pub file: Option<String>,
    pub modules: Vec<(String, String)>,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// A command. The host executes it on the engine's turn, and replies once the result is durable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Begins an instance.
    Start(Box<Starting>),
    /// Begins an instance of a deployed function. Without `id`, it gets the next free id of the
    /// function's name. Replies [`Reply::Unknown`] if no function of that name is deployed.
    StartDeployed { function: String, args: Data, id: Option<String>, if_exists: IfExists },
    /// Makes the orchestrations and entities of a program known to the store under their names.
    Deploy { file: String, modules: Vec<(String, String)>, permissions: Permissions },
    /// Raises an event for an instance that has not ended.
    Raise { id: String, event: String, payload: Data },
    /// Suspends an instance between two steps.
    Suspend { id: String },
    /// Resumes a suspended instance.
    Resume { id: String },
    /// Terminates an instance, and the instances that it called unless `children` is false.
    Terminate { id: String, why: Data, children: bool },
    /// Sends an operation to a deployed entity, without waiting for the result. The operation
    /// starts `after` so many nanoseconds.
    Signal { entity: EntityId, operation: String, args: Data, after: Option<i64> },
    /// Calls an operation of a deployed entity, and replies with its answer. A repeated call with
    /// the same id joins the first one. After `timeout` nanoseconds the reply is that there is no
    /// answer yet.
    Call { id: String, entity: EntityId, operation: String, args: Data, timeout: Option<i64> },
    /// Removes the message that an entity is processing, or the next one.
    DropMessage(EntityId),
    /// Replies once an instance has ended.
    Wait(String),
    /// Lets a failed instance ask its failed steps again, or only reports the consequences.
    Rewind { id: String, dry_run: bool },
    /// Removes instances with their trees. With `force`, instances that have not ended are
    /// terminated first; without it, such an instance prevents the removal of all.
    Purge { ids: Vec<String>, force: bool },
    /// Cancels an instance, which has this much time (in nanoseconds) for its clean-up.
    Cancel { id: String, reason: Data, grace: i64 },
    /// Begins an instance of a script, or joins it, and lets a guest show its output.
    Attend(Box<Attending>),
    /// Lets instances go on with another program, if the program fits their histories.
    Upgrade(Box<Upgrading>),
    /// Begins an instance with a part of the history of another one.
    Fork(Box<Forking>),
    /// Forgets the kept operations of an entity.
    ForgetOperations(EntityId),
    /// Gives the result of an activity that another process has run. There is no reply.
    Finish(Box<Finished>),
    /// Calls an operation of an entity for an activity that another process runs, and replies with
    /// the answer.
    CallOf(Box<CallOf>),
}

impl Command {
    /// Returns the instance or the entity that the command concerns first: its partition carries the
    /// command out. Any partition can make a program known to all.
    pub fn concerns(&self) -> Option<Address> {
        Some(match self {
            Command::Start(starting) => Address::instance(&starting.record.id),
            Command::StartDeployed { id, .. } => Address::instance(id.as_deref()?),
            Command::Raise { id, .. }
            | Command::Suspend { id }
            | Command::Resume { id }
            | Command::Terminate { id, .. }
            | Command::Cancel { id, .. }
            | Command::Rewind { id, .. }
            | Command::Wait(id) => Address::instance(id),
            Command::Signal { entity, .. }
            | Command::Call { entity, .. }
            | Command::DropMessage(entity)
            | Command::ForgetOperations(entity) => Address::entity(entity.clone()),
            Command::Purge { ids, .. } => Address::instance(ids.first()?),
            Command::Attend(attending) => Address::instance(&attending.starting.record.id),
            Command::Upgrade(upgrading) => Address::instance(upgrading.ids.first()?),
            Command::Fork(forking) => Address::instance(&forking.new),
            Command::Finish(finished) => Address::instance(&finished.attempt.instance),
            Command::CallOf(call) => Address::instance(&call.attempt.instance),
            Command::Deploy { .. } => return None,
        })
    }

    /// Returns all instances and entities that the command concerns. One partition must have them
    /// all to carry it out.
    pub fn all_concerned(&self) -> Vec<Address> {
        match self {
            Command::Purge { ids, .. } => ids.iter().map(|id| Address::instance(id)).collect(),
            Command::Upgrade(upgrading) => upgrading.ids.iter().map(|id| Address::instance(id)).collect(),
            command => command.concerns().into_iter().collect(),
        }
    }
}

/// The reply to a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The command is executed, and the result is durable.
    Done,
    /// There is no such instance, or no program that declares such an entity.
    Unknown,
    /// The instance has ended already.
    Ended,
    /// The consequences of a rewind, by instance.
    Rewound(Vec<Steps>),
    /// An instance has begun, under this id.
    Begun(String),
    /// The instance of this id is the wanted one, and has begun before.
    Known(String),
    /// The id belongs to another instance: the error, and that instance's function.
    Taken { error: ErrorData, function: String },
    /// The names of the functions that were deployed.
    Deployed(Vec<String>),
    /// The answer of an operation: its value, or its error.
    Answered(Result<Data, ErrorData>),
    /// The call is durable, and has no answer yet. Nothing here lets it go on, or its time is up.
    Unanswered,
    /// The number of instances that were removed.
    Removed(u64),
    /// The command cannot be executed, for this reason.
    Refused(String),
    /// The outcomes of upgrades, in the order of the ids.
    Judged(Vec<Judgement>),
    /// The steps that the new instance does not repeat, and the open requests that it makes again.
    Forked { kept: Vec<(u64, String)>, again: Vec<(u64, String)> },
    /// Another partition has the instance or the entity now. Nothing was done.
    Moved,
}
