//! The socket on which other processes reach the one that has a store.
//!
//! A client that asks nothing, or slowly, takes nothing from the others: each has a thread, there are so many at most, and
//! whoever has been silent longest gives way to the next one. What a client sends must come in time, and what all of them
//! send at once takes so much memory at most.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{Handle, Host, Reads};

use super::socket::{contents, greet, length, send, short, socket};
use super::{Request, Response, answer};

/// Clients that are connected at once.
const CLIENTS: usize = 256;
/// Bytes of questions that are being read at once, of all clients.
const BYTES: usize = 1 << 30;
/// A question of so many bytes is small.
const SMALL: u32 = 1 << 20;
/// How long a client may take for a question, once it has begun, and may be deaf in the middle of an answer.
const SLOWEST: Duration = Duration::from_secs(30);
/// How long a client waits that wants to know of changes.
const CHANGES_TIME: Duration = Duration::from_secs(10);
/// How long nobody is taken on when the system gives no descriptor or no thread.
const PAUSE: Duration = Duration::from_millis(50);

/// The socket of a store, while this process has it.
pub struct Listener {
    path: PathBuf,
}

impl Listener {
    /// Listens for other processes that want something of a host.
    pub fn open(folder: &Path, host: &Host) -> io::Result<Listener> {
        let path = socket(folder);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = short(folder, |path| UnixListener::bind(path))?;
        // Whoever may not write the store may not ask either.
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, only_owner)?;
        // Files, connections and programs take descriptors. What the system gives is taken.
        let _ = rlimit::increase_nofile_limit(rlimit::INFINITY);
        let asked = Asked { handle: host.handle(), reads: host.reads() };
        let serve = move || serve(&listener, &asked);
        thread::Builder::new().name("clients".into()).spawn(serve)?;
        Ok(Listener { path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The next process that has the store removes it if this can't.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes clients on, as long as the process lives.
fn serve(listener: &UnixListener, asked: &Asked) {
    let clients = Arc::new(Clients::default());
    for number in 0.. {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // Who wants to be served waits until there is room again.
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
                // Whatever goes wrong, the client sees its connection's end.
                let _ = converse(number, stream, &clients, &asked);
                clients.leave(number);
            }
        });
        if begun.is_err() {
            clients.leave(number);
            thread::sleep(PAUSE);
        }
    }
}

/// The host, as clients ask it.
#[derive(Clone)]
struct Asked {
    handle: Handle,
    reads: Reads,
}

impl Asked {
    /// Responds to a request; an error when the host has ended.
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
        })
    }
}

/// Those that are connected.
#[derive(Default)]
struct Clients {
    state: Mutex<State>,
    /// Somebody has left, or has given memory back.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By number: the connection, to end it, and since which question of all it has been silent.
    all: BTreeMap<u64, Client>,
    questions: u64,
    bytes: usize,
}

struct Client {
    stream: Option<UnixStream>,
    /// None while it is served.
    silent_since: Option<u64>,
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more is connected. When there are too many, the one that has been silent longest goes; when all are being served,
    /// the new one waits.
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

    /// Whether a client is served now, or silent.
    fn serves(&self, number: u64, is_served: bool) {
        let mut state = self.state();
        state.questions += 1;
        let now = state.questions;
        if let Some(client) = state.all.get_mut(&number) {
            client.silent_since = (!is_served).then_some(now);
        }
    }

    /// Waits until there is memory for a question, and takes it.
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
                // It may be gone already.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}

/// The memory of a question, until it is the host's.
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

/// Reads what comes in time.
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

/// Serves a client to its end.
fn converse(number: u64, mut stream: UnixStream, clients: &Clients, asked: &Asked) -> io::Result<()> {
    stream.set_write_timeout(Some(SLOWEST))?;
    greet(&mut stream)?;
    loop {
        // It may be silent between two questions for as long as it likes.
        stream.set_read_timeout(None)?;
        let len = length(&mut stream)?;
        clients.serves(number, true);
        // Small ones wait for nobody.
        let memory = (len > SMALL).then(|| clients.take(len as usize));
        let request: Request = contents(&mut Timely::new(&stream), len)?;
        drop(memory);
        send(&mut stream, &asked.respond(request)?)?;
        clients.serves(number, false);
    }
}
