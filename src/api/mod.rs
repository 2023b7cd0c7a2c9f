//! The interface of a store to the outside: commands, queries, and changes.
//!
//! Invariant: the socket, the Rust runtime and the command line reach instances and entities by
//! these types alone, and none of them knows the keys of a store. The engine carries out commands
//! on its turn. Queries run beside the engine, in pages, each on one state of the store.

mod listener;
mod query;
mod session;
mod socket;

pub use crate::host::{Change, Changes, Command, Followed, Reply, Starting};
pub use listener::Listener;
pub use query::{Answer, Queries, Query, QueryError, answered};
pub use session::{End, HostSession};
pub use socket::{Connection, PROTOCOL};
// The protocol without a socket, for fuzzing.
#[doc(hidden)]
pub use socket::{receive, send};

use serde::{Deserialize, Serialize};

/// A request from a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Command(Command),
    Query(Query),
    /// A request for the changes since a position. The response comes when something has changed,
    /// or after some seconds. Without `since`, the response is the current position.
    Changes {
        since: Option<Followed>,
    },
}

/// A response to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Reply(Reply),
    Answer(Box<Answer>),
    Changes(Changes),
}
