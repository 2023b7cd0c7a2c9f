//! The receivers of replies to commands, and the forms in which commands and replies are stored.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::kv::Receipt;

use super::command::{Command, Reply};

/// The version of stored commands and replies. Processes of other versions do not understand them.
const VERSION: u32 = 1;

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

fn stored(value: &impl Serialize) -> Vec<u8> {
    let bytes = postcard::to_extend(value, VERSION.to_le_bytes().to_vec());
    crate::internal::sure(bytes, "writing to memory does not fail")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first_chunk::<4>()?;
    let is_known = u32::from_le_bytes(*version) == VERSION;
    is_known.then(|| postcard::from_bytes(rest).ok()).flatten()
}
