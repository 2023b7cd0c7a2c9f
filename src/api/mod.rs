//! The interface of a store to the outside: commands, queries, and changes.
//!
//! Invariant: the socket, the Rust runtime and the command line reach instances and entities by
//! these types alone, and none of them knows the keys of a store. The engine carries out commands
//! on its turn. Queries run beside the engine, in pages, each on one state of the store.

mod listener;
mod query;
mod session;
mod socket;
mod verdict;

pub use crate::host::{
    Attending, Change, Changes, Command, Followed, Forking, Judgement, Reply, Shown, Starting, Upgrading,
};
pub use listener::Listener;
pub use query::{Answer, Queries, Query, QueryError, answered};
pub use session::{End, HostSession};
pub use socket::{Connection, PROTOCOL};
pub use verdict::{Judged, Side};
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
    /// A request of a guest, which is named.
    Guest {
        guest: String,
        request: GuestRequest,
    },
}

/// A request of a guest, which shows the output of a script that runs in the process that has the
/// store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum GuestRequest {
    /// A request for what is to be shown. The guest has shown `seen` items in all. The response
    /// comes when there is something, or after a moment.
    Show { seen: u64 },
    /// A line of input, `None` at its end, or the reason why it can't be read.
    Input { ticket: u64, line: Result<Option<String>, String> },
    /// A request to end the wait of the guest, from another of its threads.
    Interrupt,
}

/// A response to a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Reply(Reply),
    Answer(Box<Answer>),
    Changes(Changes),
    /// What a guest is to show next. `None` means that there is no such guest.
    Shown(Option<Vec<Shown>>),
}
