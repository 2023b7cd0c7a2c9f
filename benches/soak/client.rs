//! Clients of a server that may be down.
//!
//! Each client knows which requests were acknowledged, and which may have been carried out without
//! an acknowledgement.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use durable::api::{Answer, Command, Connection, Queries, Query, Reply, Request, Response, Starting};
use durable::check;
use durable::code::{ProgramHash, compile};
use durable::core::lower;
use durable::engine::query::{InstanceFilter, Paging};
use durable::engine::{InstanceRecord, Status};
use durable::host;
use durable::kv::Endpoint;
use durable::machine::{Data, EntityId, IfExists, Image, Value};
use serde_json::Value as Json;

use crate::{Asked, Shared, durable, server};

/// The delay of delayed signals.
pub const LATER: Duration = Duration::from_secs(2);
/// How long an ended instance stays in the store.
const KEPT: Duration = Duration::from_secs(10);
/// The number of instances that a client has under way at once.
const AT_ONCE: u64 = 4;

/// The orchestrations that clients start in turn, each as often as it stands here.
const KINDS: [&str; 20] = [
    "order", "transfer", "event", "rounds", "order", "transfer", "many", "fails", "order", "transfer",
    "event", "waits", "order", "transfer", "outside", "rounds", "order", "transfer", "event", "large",
];

/// The program that the servers run.
pub struct Program {
    hash: ProgramHash,
    modules: Vec<(String, String)>,
}

impl Program {
    pub fn load() -> Program {
        let text = include_str!("../programs/soak.df").to_string();
        let program = check::load("soak.df", text, &|_: &str| Err("no files".to_string()));
        let code = compile(&lower(&program), &program).expect("the program compiles");
        let modules = code.sources.files.iter().map(|file| (file.name.clone(), file.text.clone())).collect();
        let image = Image::new(code.into()).expect("its constants have values");
        Program { hash: image.code.hash, modules }
    }
}

/// The number of signals that were acknowledged (`sure`), and of those whose outcome is unknown
/// because the server was killed (`unsure`).
#[derive(Clone, Copy, Default)]
pub struct Told {
    pub sure: i64,
    pub unsure: i64,
}

/// The work that a client has done.
#[derive(Default)]
pub struct Counts {
    pub client: String,
    /// The number of instances that report to the entity `Done`.
    pub done: i64,
    pub asides: i64,
    pub told: Told,
    pub later: Told,
    pub started: u64,
    pub answers: u64,
}

/// The connection to a server, reopened when it is lost.
struct Line {
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Line {
    fn new(shared: &Arc<Shared>) -> Line {
        Line { shared: shared.clone(), connection: None }
    }

    /// Sends a request once. Returns `None` if there is no answer.
    fn ask(&mut self, request: &Request) -> Option<Response> {
        if self.connection.is_none() {
            self.connection = Connection::open(&Endpoint::new(server::store(&self.shared.folder))).ok();
        }
        match self.connection.as_ref()?.request(request) {
            Ok(response) => {
                self.shared.hears();
                Some(response)
            }
            Err(_) => {
                self.connection = None;
                None
            }
        }
    }

    /// Sends a request until there is an answer. The requests are idempotent. Notes the latency if
    /// the connection was open before.
    fn insist(&mut self, noted: Option<Asked>, request: &Request) -> Response {
        loop {
            let is_connected = self.connection.is_some();
            let began = Instant::now();
            if let Some(response) = self.ask(request) {
                if let (Some(asked), true) = (noted, is_connected) {
                    self.shared.answered(asked, began.elapsed());
                }
                return response;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has a command carried out, even if the server is killed meanwhile.
    fn command(&mut self, noted: Option<Asked>, command: Command) -> Reply {
        match self.insist(noted, &Request::Command(command)) {
            Response::Reply(reply) => reply,
            other => panic!("{other:?} for a command"),
        }
    }

    fn record(&mut self, id: &str) -> Option<InstanceRecord> {
        match self.insist(Some(Asked::Question), &Request::Query(Query::Instance(id.to_string()))) {
            Response::Answer(answer) => match *answer {
                Answer::Instance(record) => record,
                other => panic!("{other:?} for the record of {id}"),
            },
            other => panic!("{other:?} for the record of {id}"),
        }
    }

    /// Returns the number of instances, or `None` when the server is away.
    fn count(&mut self) -> Option<u64> {
        let began = Instant::now();
        let (mut count, mut paging) = (0, Paging::first(1_000));
        loop {
            let page = self.connection.as_ref()?.instances(&InstanceFilter::default(), paging).ok()?;
            count += page.items.len() as u64;
            match page.next {
                Some(next) => paging = Paging { from: Some(next), limit: 1_000 },
                None => break,
            }
        }
        self.shared.answered(Asked::List, began.elapsed());
        Some(count)
    }
}

/// A client with work for its server.
pub struct Client {
    number: usize,
    line: Line,
    program: Arc<Program>,
    counts: Counts,
}

impl Client {
    pub fn new(number: usize, shared: Arc<Shared>, program: Arc<Program>) -> Client {
        let counts = Counts { client: format!("c{number}"), ..Counts::default() };
        Client { number, line: Line::new(&shared), program, counts }
    }

    /// Starts `rate` instances a second until the run is over, and waits for the end of each.
    pub fn work(&mut self, rate: f64) -> Counts {
        if self.number == 0 {
            self.start("fill", 0);
            self.ends("fill", 0);
        }
        let pause = Duration::from_secs_f64(AT_ONCE as f64 / rate);
        let mut next = Instant::now() + pause.mul_f64(self.number as f64 / crate::CLIENTS as f64);
        let mut n = 0;
        while !self.line.shared.over.load(Ordering::Relaxed) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // Starts missed while the server was down are not made up for.
            next = (next + pause).max(Instant::now());
            self.round(n + 1, n + AT_ONCE);
            n += AT_ONCE;
        }
        self.line.shared.working.fetch_sub(1, Ordering::Relaxed);
        std::mem::take(&mut self.counts)
    }

    fn kind(&self, n: u64) -> &'static str {
        KINDS[(n as usize + self.number * 5) % KINDS.len()]
    }

    /// Starts the instances of a range of numbers at once, sends them what their kinds need, tells
    /// an entity, and waits for their ends.
    fn round(&mut self, from: u64, to: u64) {
        for n in from..=to {
            self.start(self.kind(n), n);
        }
        for n in from..=to {
            let id = self.id(n);
            let command = match self.kind(n) {
                "event" if n % 2 == 0 => {
                    Command::Raise { id, event: "go".into(), payload: data(Value::Int(n as i64)) }
                }
                "waits" => Command::Terminate { id, why: Data::null(), children: true },
                "rounds" if n % 3 == 0 => {
                    self.line.command(None, Command::Suspend { id: id.clone() });
                    Command::Resume { id }
                }
                _ => continue,
            };
            self.line.command(None, command);
        }
        let name = self.counts.client.clone();
        self.counts.told = self.tell(&name, self.counts.told, None);
        if from % (4 * AT_ONCE) == 1 {
            self.counts.later = self.tell(&format!("{name} later"), self.counts.later, Some(LATER));
        }
        for n in from..=to {
            self.ends(self.kind(n), n);
        }
    }

    fn id(&self, n: u64) -> String {
        format!("{}-{n}", self.counts.client)
    }

    fn start(&mut self, kind: &str, n: u64) {
        let args = data(Value::list(vec![Value::str(self.counts.client.as_str()), Value::Int(n as i64)]));
        let id = self.id(n);
        let record = InstanceRecord::new(&id, self.program.hash, "soak.df", kind, args, host::now());
        let starting = |modules| {
            let (record, if_exists) = (record.clone(), IfExists::Join);
            Command::Start(Box::new(Starting { record, modules, named: None, if_exists }))
        };
        // The start leaves out the program's texts, which the server usually has.
        let mut reply = self.line.command(Some(Asked::Start), starting(Vec::new()));
        if matches!(reply, Reply::Refused(_)) {
            reply = self.line.command(None, starting(self.program.modules.clone()));
        }
        match reply {
            Reply::Begun(_) | Reply::Known(_) => self.counts.started += 1,
            other => panic!("{other:?} for the start of {id}"),
        }
        match kind {
            "waits" | "fill" => {}
            "order" => {
                self.counts.done += 1;
                self.counts.asides += 1;
            }
            _ => self.counts.done += 1,
        }
    }

    /// Waits for the end of an instance, and checks that its status is the one that its kind
    /// requires.
    fn ends(&mut self, kind: &str, n: u64) {
        let id = self.id(n);
        match self.line.command(None, Command::Wait(id.clone())) {
            Reply::Ended => self.counts.answers += 1,
            other => panic!("{other:?} for the end of {id}"),
        }
        let status = self.line.record(&id).map(|record| record.status);
        let is_right = match kind {
            "fails" => matches!(status, Some(Status::Failed(_))),
            "waits" => matches!(status, Some(Status::Terminated(_))),
            _ => matches!(status, Some(Status::Completed(_))),
        };
        assert!(is_right, "{id}, `{kind}`, is {status:?}");
        self.line.shared.ended.lock().expect("nobody failed").push_back((Instant::now(), id));
    }

    /// Sends the next signal of a key. A signal is never sent twice.
    fn tell(&mut self, key: &str, told: Told, after: Option<Duration>) -> Told {
        let n = told.sure + told.unsure + 1;
        let entity = EntityId::new("Told", &Value::str(key)).expect("a key");
        let args = data(Value::list(vec![Value::Int(n)]));
        let after = after.map(|after| after.as_nanos() as i64);
        let command = Command::Signal { entity, operation: "told".into(), args, after };
        match self.line.ask(&Request::Command(command)) {
            Some(Response::Reply(Reply::Done)) => Told { sure: told.sure + 1, ..told },
            Some(other) => panic!("{other:?} for a signal to {key}"),
            None => Told { unsure: told.unsure + 1, ..told },
        }
    }
}

fn data(value: Value) -> Data {
    Data::encode(&value).expect("data")
}

/// Removes instances a while after their end until all are removed, and queries the store
/// meanwhile.
pub fn remove(shared: &Arc<Shared>) {
    let mut line = Line::new(shared);
    let mut looked = Instant::now();
    loop {
        let is_over = shared.over.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(if is_over { 200 } else { 2_000 }));
        let mut ids = Vec::new();
        {
            let mut ended = shared.ended.lock().expect("nobody failed");
            while ended.front().is_some_and(|(when, _)| when.elapsed() > KEPT) {
                ids.extend(ended.pop_front().map(|(_, id)| id));
            }
        }
        if !ids.is_empty() {
            // Most purges remove many instances at once. If one instance can't be removed, each is
            // tried alone.
            match line.ask(&Request::Command(Command::Purge { ids: ids.clone(), force: false })) {
                Some(Response::Reply(Reply::Removed(removed))) => {
                    shared.removed.fetch_add(removed, Ordering::Relaxed);
                }
                _ => ids.into_iter().for_each(|id| remove_one(&mut line, id)),
            }
        }
        if looked.elapsed() > Duration::from_secs(10) {
            looked = Instant::now();
            if let Some(count) = line.count() {
                shared.stored.store(count, Ordering::Relaxed);
            }
            // The command line queries the server as well. It skips the server that may be down,
            // since a command would then open the store itself.
            if shared.folder.ends_with("lives") {
                command(&shared.folder, &["list", "--status", "failed"]);
                command(&shared.folder, &["entities", "Told"]);
                command(&shared.folder, &["programs"]);
            }
        }
        let is_idle = shared.working.load(Ordering::Relaxed) == 0;
        if is_idle && shared.ended.lock().expect("nobody failed").is_empty() {
            return;
        }
    }
}

fn remove_one(line: &mut Line, id: String) {
    match line.command(None, Command::Purge { ids: vec![id.clone()], force: false }) {
        Reply::Removed(removed) => {
            line.shared.removed.fetch_add(removed, Ordering::Relaxed);
        }
        // The instance was removed before the server was killed.
        Reply::Unknown => {}
        Reply::Refused(_) => {
            line.shared.ended.lock().expect("nobody failed").push_back((Instant::now(), id));
        }
        other => panic!("{other:?} for the removal of {id}"),
    }
}

/// Runs a command that must succeed, and returns its output.
pub fn command(folder: &Path, args: &[&str]) -> String {
    let output = durable()
        .args(args)
        .arg("--store")
        .arg(server::store(folder))
        .stdin(Stdio::null())
        .output()
        .expect("durable runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} of {}: {said}", folder.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns the states of all entities, by name and key.
pub fn states(folder: &Path) -> BTreeMap<String, Json> {
    let lines = command(folder, &["entities", "--json"]);
    let parsed = lines.lines().map(|line| serde_json::from_str::<Json>(line).expect("JSON"));
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let entity = |line: &Json| format!("{}@{}", text(&line["name"]), text(&line["key"]));
    parsed.map(|line| (entity(&line), line["state"].clone())).collect()
}
