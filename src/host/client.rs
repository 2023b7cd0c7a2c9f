//! What other processes ask of the one that has the store, over a local socket in the store's folder.
//!
//! A question is a length (four bytes, little-endian) and its postcard bytes; so is the answer. A connection may ask
//! many in turn.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::engine::{InstanceRecord, Message as Sent, Steps};
use crate::kv::Pair;
use crate::machine::{EntityId, ErrorData, IfExists};

/// Longest question or answer, in bytes.
const MOST: u32 = 1 << 30;

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

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// The value of a key.
    Get(Vec<u8>),
    /// All keys with a prefix, with their values.
    All(Vec<u8>),
    /// Begin an instance.
    Start(Box<Starting>),
    /// Send something to an instance that has not ended.
    Instance { id: String, message: Sent },
    /// Send something to an entity that is deployed; a signal that is held back so long, in nanoseconds.
    Entity { entity: EntityId, message: Sent, after: Option<i64> },
    /// Remove the message that an entity is at, or the next one.
    DropMessage(EntityId),
    /// Tell when an instance has ended.
    Wait(String),
    /// Let a failed instance ask its failed steps again, or only tell what that comes to.
    Rewind { id: String, dry_run: bool },
    /// Remove instances with their trees; those that have not ended are terminated first, if so said, else nothing is removed.
    Purge { ids: Vec<String>, force: bool },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Value(Option<Vec<u8>>),
    Pairs(Vec<Pair>),
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
    Taken {
        error: ErrorData,
        function: String,
    },
    /// So many instances were removed.
    Removed(u64),
    /// It can't be done, for this reason.
    Refused(String),
}

pub(super) fn send<T: Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= MOST);
    let len = len.ok_or_else(|| io::Error::other("more than 1 GiB"))?;
    stream.write_all(&len.to_le_bytes())?;
    stream.write_all(&bytes)
}

fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let len = length(stream)?;
    contents(stream, len)
}

/// The length of the next question or answer.
pub(super) fn length(stream: &mut UnixStream) -> io::Result<u32> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    match u32::from_le_bytes(len) {
        len if len > MOST => Err(io::Error::other("more than 1 GiB")),
        len => Ok(len),
    }
}

/// A question or an answer of that length.
pub(super) fn contents<T: DeserializeOwned>(stream: &mut impl Read, len: u32) -> io::Result<T> {
    // What does not come is not waited for with memory.
    let mut bytes = Vec::new();
    stream.take(u64::from(len)).read_to_end(&mut bytes)?;
    if bytes.len() != len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Where the socket of a store is.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// A path to the socket that is short enough for the system: long ones go through the folder's own descriptor.
pub(super) fn short<T>(folder: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    const MOST: usize = 100;
    let path = socket(folder);
    if path.as_os_str().len() <= MOST || !cfg!(target_os = "linux") {
        return with(&path);
    }
    let folder = std::fs::File::open(folder)?;
    with(&PathBuf::from(format!("/proc/self/fd/{}/socket", folder.as_raw_fd())))
}

/// A connection to the process that has a store.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

impl Connection {
    /// Connects to the process that has the store in a folder.
    pub fn open(folder: &Path) -> io::Result<Connection> {
        Ok(Connection { stream: short(folder, |path| UnixStream::connect(path))? })
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Reply> {
        send(&mut self.stream, ask)?;
        receive(&mut self.stream)
    }
}
