//! The socket on which other processes reach the process that has a store.
//!
//! A silent or slow client takes nothing from the others. Each client has a thread. The number of
//! clients is limited, and the client that has been silent longest makes room for a new one. A
//! request must arrive in time, and the memory for all requests in transfer is limited.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{EffectResult, Ended, FromGuest, GuestDesk, Handle, Host, Reads, data};
use crate::kv::Endpoint;
use crate::machine::{ErrorData, Value};

use super::query::answer;
use super::socket::{contents, greet, length, send, short};
use super::{Command, GuestRequest, Request, Response, Shown};

/// The largest number of clients connected at once.
const CLIENTS: usize = 256;
/// The largest total size of the requests that are being read, in bytes.
const BYTES: usize = 1 << 30;
/// The size in bytes up to which a request is small.
const SMALL: u32 = 1 << 20;
/// The time limit for a client to send a request, once begun, and for each write of a response.
const SLOWEST: Duration = Duration::from_secs(30);
/// The longest time that a client waits for changes.
const CHANGES_TIME: Duration = Duration::from_secs(10);
/// The longest time that a guest waits for something to show. A guest that has gone is noticed
/// within this time.
const GUEST_TIME: Duration = Duration::from_secs(1);
/// The longest time that the end of a host waits for clients that still get their responses.
const LAST: Duration = Duration::from_secs(2);
/// The time for which no client is accepted after the system has refused a descriptor or a thread.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket of a store, while this process has the store.
pub struct Listener {
    path: PathBuf,
    clients: Arc<Clients>,
}

impl Listener {
    /// Listens for other processes that use a host.
    pub fn open(endpoint: &Endpoint, host: &Host) -> io::Result<Listener> {
        let path = endpoint.socket();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = short(endpoint, |path| UnixListener::bind(path))?;
        // A user who may not write the store may not connect either.
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, only_owner)?;
        // Files, connections and programs take descriptors, so the limit is raised as far as the
        // system allows.
        let _ = rlimit::increase_nofile_limit(rlimit::INFINITY);
        let asked = Asked { handle: host.handle(), reads: host.reads(), guests: host.guest_desk() };
        let clients = Arc::<Clients>::default();
        let serve = {
            let clients = clients.clone();
            move || serve(&listener, &asked, &clients)
        };
        thread::Builder::new().name("clients".into()).spawn(serve)?;
        Ok(Listener { path, clients })
    }

    /// Removes the socket. The clients that are connected get their responses.
    pub(super) fn close(self) -> LastClients {
        LastClients(self.clients.clone())
    }
}

/// The clients that are connected when the listener is closed.
pub(super) struct LastClients(Arc<Clients>);

impl LastClients {
    /// Waits until the responses have left that the host gave. Call this after the end of the host,
    /// which leaves no client waiting for anything else.
    pub(super) fn leave(self) {
        self.0.finish(Instant::now() + LAST);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If this fails, the next process that has the store removes the socket.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Accepts clients as long as the process lives.
fn serve(listener: &UnixListener, asked: &Asked, clients: &Arc<Clients>) {
    for number in 0.. {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // A new client waits until there is room again.
            Err(_) => {
                clients.dismiss_one();
                thread::sleep(PAUSE);
                continue;
            }
        };
        clients.enter(number, &stream);
        let (clients, asked) = (clients.clone(), asked.clone());
        let begun = thread::Builder::new().name("client".into()).spawn({
            let clients = clients.clone();
            move || {
                // After any error, the client sees the end of its connection.
                let mut guest = None;
                let _ = converse(number, stream, &clients, &asked, &mut guest);
                clients.leave(number);
                if let Some(guest) = guest {
                    asked.handle.tell(FromGuest::Gone { guest });
                }
            }
        });
        if begun.is_err() {
            clients.leave(number);
            thread::sleep(PAUSE);
        }
    }
}

/// The host, as clients use it.
#[derive(Clone)]
struct Asked {
    handle: Handle,
    reads: Reads,
    guests: GuestDesk,
}

impl Asked {
    /// Responds to a request. Returns an error if the host has ended.
    fn respond(&self, request: Request) -> io::Result<Response> {
        let ended = || io::Error::from(io::ErrorKind::ConnectionAborted);
        Ok(match request {
            Request::Command(command) => {
                let reply = self.handle.ask(command).blocking_recv();
                Response::Reply(reply.map_err(|_| ended())?)
            }
            Request::Query(query) => {
                let answer = self.reads.ask(|store| answer(store, &query));
                Response::Answer(Box::new(answer.map_err(|_| ended())?))
            }
            Request::Changes { since } => {
                Response::Changes(self.reads.changes(since, CHANGES_TIME).map_err(|_| ended())?)
            }
            Request::Guest { guest, request } => {
                Response::Shown(self.guest(guest, request).map_err(|_| ended())?)
            }
        })
    }
}

impl Asked {
    fn guest(&self, guest: String, request: GuestRequest) -> Result<Option<Vec<Shown>>, Ended> {
        match request {
            GuestRequest::Show { seen } => {
                let count = self.guests.confirm(&guest, seen);
                if count > 0 {
                    self.handle.tell(FromGuest::Confirms { guest: guest.clone(), count });
                }
                return self.guests.next(&guest, GUEST_TIME);
            }
            GuestRequest::Input { ticket, line } => {
                let line: EffectResult = match line {
                    Ok(line) => data(&line.map_or(Value::Null, Value::str)),
                    Err(reason) => Err(ErrorData::new("io_error", reason)),
                };
                self.handle.tell(FromGuest::Input { guest, ticket, line });
            }
            GuestRequest::Interrupt => self.guests.interrupt(&guest),
        }
        Ok(Some(Vec::new()))
    }
}

/// The connected clients.
#[derive(Default)]
struct Clients {
    state: Mutex<State>,
    /// Signals that a client has left, or has released memory.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The clients by number.
    all: BTreeMap<u64, Client>,
    questions: u64,
    bytes: usize,
}

struct Client {
    stream: Option<UnixStream>,
    /// The count of questions when the client fell silent, or `None` while it is served.
    silent_since: Option<u64>,
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a client. If there are too many, disconnects the one that has been silent longest. If
    /// all are being served, waits.
    fn enter(&self, number: u64, stream: &UnixStream) {
        let mut state = self.state();
        while state.all.len() >= CLIENTS {
            state.dismiss_one();
            state = self.changed.wait_timeout(state, PAUSE).unwrap_or_else(PoisonError::into_inner).0;
        }
        let since = state.questions;
        let client = Client { stream: stream.try_clone().ok(), silent_since: Some(since) };
        state.all.insert(number, client);
    }

    fn leave(&self, number: u64) {
        self.state().all.remove(&number);
        self.changed.notify_all();
    }

    fn dismiss_one(&self) {
        self.state().dismiss_one();
    }

    /// Waits until no client is served, but not for longer than a time.
    fn finish(&self, until: Instant) {
        let mut state = self.state();
        while state.all.values().any(|client| client.silent_since.is_none()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes whether a client is served now, or silent.
    fn serves(&self, number: u64, is_served: bool) {
        let mut state = self.state();
        state.questions += 1;
        let now = state.questions;
        if let Some(client) = state.all.get_mut(&number) {
            client.silent_since = (!is_served).then_some(now);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until there is memory for a request, and reserves it.
    fn take(&self, bytes: usize) -> Memory<'_> {
        let mut state = self.state();
        while state.bytes > 0 && state.bytes.saturating_add(bytes) > BYTES {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += bytes;
        Memory { clients: self, bytes }
    }
}

impl State {
    /// Ends the connection that has been silent longest.
    fn dismiss_one(&mut self) {
        let silent = |(number, client): (&u64, &Client)| Some((client.silent_since?, *number));
        let longest = self.all.iter().filter_map(silent).min();
        if let Some((_, number)) = longest
            && let Some(client) = self.all.get_mut(&number)
        {
            client.silent_since = None;
            if let Some(stream) = client.stream.take() {
                // The connection may be gone already.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// The memory reserved for a request while it is read.
struct Memory<'a> {
    clients: &'a Clients,
    bytes: usize,
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        self.clients.state().bytes -= self.bytes;
        self.clients.changed.notify_all();
    }
}

/// A reader that fails after a time limit.
struct Timely<'a> {
    stream: &'a UnixStream,
    ends: Instant,
}

impl Timely<'_> {
    fn new(stream: &UnixStream) -> Timely<'_> {
        Timely { stream, ends: Instant::now() + SLOWEST }
    }
}

impl io::Read for Timely<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Serves a client until its connection ends. Sets the name of the guest that the client is.
fn converse(
    number: u64,
    mut stream: UnixStream,
    clients: &Clients,
    asked: &Asked,
    guest: &mut Option<String>,
) -> io::Result<()> {
    stream.set_write_timeout(Some(SLOWEST))?;
    greet(&mut stream)?;
    loop {
        // A client may be silent between two requests for any time.
        stream.set_read_timeout(None)?;
        let len = length(&mut stream)?;
        clients.serves(number, true);
        // Small requests do not wait for memory.
        let memory = (len > SMALL).then(|| clients.take(len as usize));
        let request: Request = contents(&mut Timely::new(&stream), len)?;
        drop(memory);
        if let Request::Command(Command::Attend(attending)) = &request {
            *guest = Some(attending.guest.clone());
        }
        send(&mut stream, &asked.respond(request)?)?;
        clients.serves(number, false);
    }
}
