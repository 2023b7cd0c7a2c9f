//! The receivers of replies to commands, and the forms in which commands and replies are stored.

use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::kv::Receipt;

use super::command::{Command, Reply};
use super::stored::{read, stored};

/// The receiver of the reply to a command.
pub(crate) enum Answer {
    /// A caller in this process, or one that is connected to it.
    Here(oneshot::Sender<Reply>),
    /// A client that sent its request through the store, and reads the answer there.
    Stored(Receipt),
}

impl Answer {
    /// Gives a reply that is durable already.
    ///
    /// An answer in the store is written with the next batch, which also consumes the request. So a
    /// request is carried out and answered by one batch, or by none.
    pub(super) fn give(self, reply: Reply, engine: &mut Engine) {
        match self {
            Answer::Here(sender) => {
                // The client may be gone.
                let _ = sender.send(reply);
            }
            Answer::Stored(request) => engine.answers(request, reply.to_stored()),
        }
    }
}

impl Command {
    /// Returns the form in which a client sends the command through a store.
    pub fn to_stored(&self) -> Vec<u8> {
        stored(self)
    }

    /// Reads a command. Returns `None` if another version wrote it.
    pub fn from_stored(bytes: &[u8]) -> Option<Command> {
        read(bytes)
    }
}

impl Reply {
    /// Returns the form in which a client reads the reply in a store.
    pub fn to_stored(&self) -> Vec<u8> {
        stored(self)
    }

    /// Reads a reply. Returns `None` if another version wrote it.
    pub fn from_stored(bytes: &[u8]) -> Option<Reply> {
        read(bytes)
    }
}
