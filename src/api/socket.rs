//! The protocol between processes, over a local socket in the store's folder.
//!
//! Each side first sends eight bytes that name the protocol, and four bytes with its version. A
//! connection continues only if both versions are equal. A request is a length (four bytes,
//! little-endian) and its postcard bytes, and so is the response. A connection may carry many
//! requests, one after another.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::kv::{Cause, Endpoint};

use super::{
    Answer, Changes, Command, Followed, GuestRequest, Queries, Query, QueryError, Reply, Request, Response,
    Shown,
};

/// The largest size of a request or a response, in bytes.
const MOST: u32 = 1 << 30;

/// The version of the protocol, which grows with every change of its messages.
pub const PROTOCOL: u32 = 7;
/// The bytes with which both sides begin.
const GREETING: &[u8; 8] = b"durable\0";
/// The time limit for the greeting of the other side.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// Exchanges greetings. The error says that the other side has another version, or is no such
/// process at all.
pub(super) fn greet(stream: &mut UnixStream) -> io::Result<()> {
    let other = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    stream.set_read_timeout(Some(GREETING_TIME))?;
    stream.write_all(&[&GREETING[..], &PROTOCOL.to_le_bytes()].concat())?;
    let mut theirs = [0; 12];
    stream.read_exact(&mut theirs).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            other("it is of an earlier version of durable".into())
        }
        _ => error,
    })?;
    let (greeting, version) = theirs.split_at(GREETING.len());
    if greeting != GREETING {
        return Err(other("it is of an earlier version of durable".into()));
    }
    match <[u8; 4]>::try_from(version).map(u32::from_le_bytes) {
        Ok(PROTOCOL) => Ok(()),
        version => {
            let version = version.unwrap_or_default();
            let age = if version < PROTOCOL { "an earlier" } else { "a later" };
            Err(other(format!(
                "it is of {age} version of durable, whose protocol is {version}, and not {PROTOCOL}"
            )))
        }
    }
}

/// Writes a request or a response.
pub fn send<T: Serialize>(stream: &mut impl Write, value: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).ok().filter(|len| *len <= MOST);
    let len = len.ok_or_else(|| io::Error::other("more than 1 GiB"))?;
    stream.write_all(&len.to_le_bytes())?;
    stream.write_all(&bytes)
}

/// Reads a request or a response.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let len = length(stream)?;
    contents(stream, len)
}

/// Reads the length of the next request or response.
pub(super) fn length(stream: &mut impl Read) -> io::Result<u32> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    match u32::from_le_bytes(len) {
        len if len > MOST => Err(io::Error::other("more than 1 GiB")),
        len => Ok(len),
    }
}

/// Reads a request or a response of this length.
pub(super) fn contents<T: DeserializeOwned>(stream: &mut impl Read, len: u32) -> io::Result<T> {
    // Memory grows with the bytes that arrive, not with the length that the other side claims.
    let mut bytes = Vec::new();
    stream.take(u64::from(len)).read_to_end(&mut bytes)?;
    if bytes.len() != len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Passes a path to the socket of an endpoint that is short enough for the system. A long path goes through the
/// folder's own descriptor.
pub(super) fn short<T>(endpoint: &Endpoint, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    const MOST: usize = 100;
    let path = endpoint.socket();
    if path.as_os_str().len() <= MOST || !cfg!(target_os = "linux") {
        return with(&path);
    }
    let folder = std::fs::File::open(endpoint.folder())?;
    with(&PathBuf::from(format!("/proc/self/fd/{}/socket", folder.as_raw_fd())))
}

/// A connection to the process that has a store.
#[derive(Debug)]
pub struct Connection {
    stream: RefCell<UnixStream>,
}

impl Connection {
    /// Connects to the process that has the store of an endpoint. An error of the kind `InvalidData`
    /// means that the process has another version.
    pub fn open(endpoint: &Endpoint) -> io::Result<Connection> {
        let mut stream = short(endpoint, |path| UnixStream::connect(path))?;
        greet(&mut stream)?;
        stream.set_read_timeout(None)?;
        Ok(Connection { stream: stream.into() })
    }

    /// Sends a request, and waits for the response.
    pub fn request(&self, request: &Request) -> io::Result<Response> {
        let mut stream = self.stream.borrow_mut();
        send(&mut *stream, request)?;
        receive(&mut *stream)
    }

    /// Has a command executed, and waits until that is durable.
    pub fn command(&self, command: Command) -> io::Result<Reply> {
        match self.request(&Request::Command(command))? {
            Response::Reply(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    /// Sends a request of a guest. Returns what the guest is to show next, or `None` if there is no
    /// such guest.
    pub fn guest(&self, guest: &str, request: GuestRequest) -> io::Result<Option<Vec<Shown>>> {
        match self.request(&Request::Guest { guest: guest.to_string(), request })? {
            Response::Shown(shown) => Ok(shown),
            _ => Err(unexpected()),
        }
    }

    /// Waits until something has changed since a position, for some seconds at most.
    pub fn changes(&self, since: Option<Followed>) -> io::Result<Changes> {
        match self.request(&Request::Changes { since })? {
            Response::Changes(changes) => Ok(changes),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it answers something else")
}

impl Queries for Connection {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        match self.request(&Request::Query(query)) {
            Ok(Response::Answer(answer)) => Ok(*answer),
            Ok(_) => Err(QueryError::Unexpected),
            Err(error) => Err(QueryError::Lost { source: Cause::new(error) }),
        }
    }
}
