//! The host: threads, the clock, effects and the store, driven by the engine.
//!
//! Invariant: output commit. An output, such as an external effect or a result that is shown, waits
//! until every write that it depends on is durable, and nothing else waits. One thread runs the
//! engine, and one batch at a time is in flight to the store. Meanwhile the engine goes on, and the
//! next batch has all of its writes since. The host knows nothing of the language's syntax.

mod activities;
mod ahead;
mod answer;
mod at;
mod callbacks;
mod changes;
mod clients;
mod clock;
mod command;
mod commit;
mod copies;
mod disk;
mod effect_call;
mod effects;
mod exec;
pub mod externs;
mod files;
mod groups;
mod guests;
mod handle;
mod http;
mod lease;
mod load;
mod measures;
mod offers;
mod outgoing;
mod partition;
mod pending;
mod perform;
mod performers;
mod pieces;
mod pipes;
mod purge;
mod reads;
mod run;
mod runner;
mod running;
mod serve;
mod settings;
mod showing;
mod spans;
mod sql;
mod stored;
mod streams;
mod suspects;
mod terminal;
mod threads;
mod trees;
mod upgrades;
mod walk;
mod workers;
mod writer;

pub(crate) use answer::Answer;
pub use callbacks::Callbacks;
pub use changes::{Change, Changes, Followed, News};
pub use clock::{Clock, now};
pub use command::{Attending, Command, Forking, Judgement, Reply, Starting, Upgrading};
pub(crate) use effects::unique;
pub use groups::Groups;
pub(crate) use guests::FromGuest;
pub use guests::{GuestDesk, Shown};
pub use handle::Handle;
pub use lease::Lease;
pub use measures::Measures;
pub use offers::{Attempt, CallOf, Finished, Market, Offer, Offers};
pub use reads::{Ended, Reads};
pub use run::Host;
pub use runner::{CallReply, Ran, Runner, Waker};
pub use settings::{Durability, HostError, Settings};
pub(crate) use stored::STORED_VERSION;
pub use terminal::{Above, Terminal};

use std::collections::HashMap;
use std::rc::Rc;

use crate::builtins::Effect;
use crate::code::ProgramHash;
use crate::kv::Arrival;
use crate::machine::{Data, EntityId, ErrorData, Image, Request, Value};
use crate::permissions::Permissions;

/// The programs that are ready to run, by their hashes.
pub(crate) type Images = HashMap<ProgramHash, Rc<Image>>;

/// The outcome of an effect.
pub(crate) type EffectResult = Result<Data, ErrorData>;

/// A message from another thread to the engine's thread.
pub(crate) enum Message {
    /// An activity has waited for a thread, and may run in another process.
    Waits { job: Box<workers::Job> },
    /// An effect is done.
    Done { ticket: u64, result: EffectResult },
    /// An activity is done, and sends these requests.
    Activity { ticket: u64, result: EffectResult, sends: Vec<Request> },
    /// An activity asks for an effect that a worker cannot execute itself.
    Asks { ticket: u64, effect: Effect, args: Data, permissions: Permissions },
    /// An activity calls an operation of an entity.
    Calls { ticket: u64, entity: EntityId, operation: String, args: Data, permissions: Permissions },
    /// The writer's thread has finished a batch.
    Written,
    /// A client sends a command.
    Client { command: Command, reply: Answer },
    /// Another partition or a client of the store has sent something.
    Arrival(Arrival),
    /// A guest has shown something, has read a line, or has gone.
    Guest(FromGuest),
    /// The condition that the loop's caller waits for may have changed.
    Wake,
    /// The process is asked to stop.
    Interrupt,
}

/// Returns a value as the outcome of an effect, or an error if the value cannot be encoded.
pub(crate) fn data(value: &Value) -> EffectResult {
    Data::encode(value).map_err(|fail| ErrorData::new("limit", crate::machine::error::title(&fail.value)))
}

/// Returns bytes as text if they are UTF-8, otherwise as bytes.
pub(crate) fn text_or_bytes(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::str(text),
        Err(error) => Value::bytes(error.into_bytes()),
    }
}
