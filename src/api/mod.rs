//! What anybody outside may ask of a store: commands, questions, and what has changed.
//!
//! Invariant: the socket, the Rust runtime and the command line reach instances and entities by these types alone, and none
//! of them knows the keys of a store. Commands are carried out on the engine's turn; questions are answered beside it, from
//! one state of the store each, in pages.

mod listener;
mod query;
mod session;
mod socket;

pub use crate::host::{Change, Changes, Command, Followed, Reply, Starting};
pub use listener::Listener;
pub use query::{Answer, Queries, Query, QueryError, answer};
pub use session::{End, HostSession};
pub use socket::{Connection, PROTOCOL};
// The protocol without a socket, for fuzzing.
#[doc(hidden)]
pub use socket::{receive, send};

use serde::{Deserialize, Serialize};

/// What a client sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Command(Command),
    Query(Query),
    /// Answer when something has changed since then, or after some seconds; without it, where the store is now.
    Changes {
        since: Option<Followed>,
    },
}

/// What a client gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Reply(Reply),
    Answer(Box<Answer>),
    Changes(Changes),
}
