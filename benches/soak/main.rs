//! A soak test: `cargo bench --bench soak -- MINUTES` (2 minutes by default).
//!
//! Two `durable serve` run the program `benches/programs/soak.df`, each in a store of its own.
//! Clients start, raise, signal, terminate, wait and list, and remove ended instances. One server
//! lives from the beginning to the end. The other server is ended again and again, by SIGKILL and
//! by SIGTERM in turn, and started again.
//!
//! The first tenth of the time is a warm-up. Of the rest, the last third is compared with the
//! first: memory, open descriptors, threads, the size and the files of the store, the instances in
//! it, and latencies. At the end, each client's instances and signals are counted by the entities
//! that they told, and the stores are verified. If anything grew beyond its tolerance
//! (`report::compare`), or was lost or doubled, the process ends with 1.
//!
//! `SOAK_RATE` is the number of instances that each of the eight clients starts a second (8 by
//! default). `SOAK_SEED` chooses the times at which the second server is ended.

mod client;
mod report;
mod server;

use std::collections::VecDeque;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, Counts, Program};
use report::{Life, Sample};
use server::Server;

/// The program under test: a copy, so that a build during the run does not change it.
pub static DURABLE: OnceLock<PathBuf> = OnceLock::new();
/// The number of clients of each server.
const CLIENTS: usize = 4;
/// The longest time without an answer, after which the server counts as deaf.
const DEAF: Duration = Duration::from_secs(300);

/// The kind of a request whose latency is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Asked {
    /// A query for one record.
    Question,
    /// The start of an instance. The answer comes when the start is durable.
    Start,
    /// A query for all instances.
    List,
}

/// The state that the threads of one store share.
pub struct Shared {
    pub began: Instant,
    pub folder: PathBuf,
    /// Whether clients should start nothing more.
    pub over: AtomicBool,
    /// The number of clients that have not finished their work.
    pub working: AtomicU64,
    /// For each answer: seconds since the beginning, the kind of request, and the latency in
    /// milliseconds.
    pub answers: Mutex<Vec<(f64, Asked, f64)>>,
    /// Instances that may be removed, with the times of their ends.
    pub ended: Mutex<VecDeque<(Instant, String)>>,
    pub removed: AtomicU64,
    /// The number of instances in the store.
    pub stored: AtomicU64,
    /// The time of the last answer to any client, in milliseconds since the beginning.
    pub heard: AtomicU64,
}

impl Shared {
    fn new(began: Instant, folder: PathBuf) -> Arc<Shared> {
        Arc::new(Shared {
            began,
            folder,
            over: AtomicBool::new(false),
            working: AtomicU64::new(CLIENTS as u64),
            answers: Mutex::default(),
            ended: Mutex::default(),
            removed: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    pub fn hears(&self) {
        self.heard.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub fn answered(&self, what: Asked, took: Duration) {
        let answer = (self.began.elapsed().as_secs_f64(), what, took.as_secs_f64() * 1e3);
        self.answers.lock().expect("nobody failed").push(answer);
    }

    fn check_heard(&self) {
        let silent = self.began.elapsed().as_millis() as u64 - self.heard.load(Ordering::Relaxed);
        assert!(
            silent < DEAF.as_millis() as u64,
            "{}: no answer for {} s",
            self.folder.display(),
            silent / 1000
        );
    }
}

/// Returns a command that runs the program under test.
pub fn durable() -> Command {
    Command::new(DURABLE.get().expect("a program"))
}

fn setting(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn main() -> ExitCode {
    let minutes: f64 = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(2.0);
    let rate = setting("SOAK_RATE", 8.0);
    let place = std::env::temp_dir().join(format!("durable-soak-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a folder");
    let copy = DURABLE.get_or_init(|| place.join("durable"));
    std::fs::copy(env!("CARGO_BIN_EXE_durable"), copy).expect("a copy of the program");
    let port = web_server();
    let program = Arc::new(Program::load());
    let began = Instant::now();
    let folders = ["lives", "ends"].map(|name| place.join(name));
    let mut servers = folders.clone().map(|folder| Server::begin(&folder, port));
    let shared = folders.clone().map(|folder| Shared::new(began, folder));
    let clients: Vec<thread::JoinHandle<Counts>> = (0..2 * CLIENTS)
        .map(|number| {
            let mut client = Client::new(number / 2, shared[number % 2].clone(), program.clone());
            thread::spawn(move || client.work(rate))
        })
        .collect();
    let removers: Vec<_> = shared
        .iter()
        .map(|shared| {
            let shared = shared.clone();
            thread::spawn(move || client::remove(&shared))
        })
        .collect();
    let mut samples: Vec<Sample> = Vec::new();
    let mut lives: Vec<Life> = Vec::new();
    watch(minutes, &mut servers, &shared, &mut samples, &mut lives);
    // Clients still wait for the instances that they have started.
    shared.iter().for_each(|shared| shared.over.store(true, Ordering::Relaxed));
    while clients.iter().any(|client| !client.is_finished()) {
        shared.iter().for_each(|shared| shared.check_heard());
        thread::sleep(Duration::from_millis(100));
    }
    let counts: Vec<Counts> =
        clients.into_iter().map(|client| client.join().expect("the client did not fail")).collect();
    removers.into_iter().for_each(|remover| remover.join().expect("the remover did not fail"));
    let used = servers.each_ref().map(Server::processor);
    let seconds = began.elapsed().as_secs_f64();
    // Delayed signals take effect within this time.
    thread::sleep(client::LATER + Duration::from_secs(2));
    let mut wrong = Vec::new();
    for (at, server) in servers.into_iter().enumerate() {
        server.ends_in_order();
        let own: Vec<&Counts> =
            counts.iter().enumerate().filter(|(n, _)| n % 2 == at).map(|(_, c)| c).collect();
        wrong.extend(check(&folders[at], &own));
    }
    println!("soak: {minutes} minutes, {rate} instances a second and client, {} clients\n", 2 * CLIENTS);
    let [lives_on, ends] = shared;
    report::work(&counts, &[&lives_on, &ends], used, seconds);
    wrong.extend(report::compare(minutes * 60.0, &samples, &lives, &lives_on, &ends));
    match wrong.is_empty() {
        true => {
            println!("\nnothing grows, nothing is lost, nothing is doubled; both stores are whole");
            let _ = std::fs::remove_dir_all(&place);
            ExitCode::SUCCESS
        }
        false => {
            println!("\nwrong, see {}:\n  {}", place.display(), wrong.join("\n  "));
            ExitCode::FAILURE
        }
    }
}

/// Samples both servers each second, and restarts the second one now and then.
fn watch(
    minutes: f64,
    servers: &mut [Server; 2],
    shared: &[Arc<Shared>; 2],
    samples: &mut Vec<Sample>,
    lives: &mut Vec<Life>,
) {
    let began = shared[0].began;
    let mut random = setting("SOAK_SEED", 1.0) as u64;
    let mut lifetime = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(15_000 + (random >> 33) % 45_000)
    };
    let (mut born, mut ends_after, mut ready, mut said) = (Instant::now(), lifetime(), 0.0, 0);
    while began.elapsed().as_secs_f64() < minutes * 60.0 {
        thread::sleep(Duration::from_secs(1));
        let time = began.elapsed().as_secs_f64();
        for (at, server) in servers.iter_mut().enumerate() {
            shared[at].check_heard();
            if let Some(code) = server.ended() {
                panic!("the server of {} ended by itself: {code}", shared[at].folder.display());
            }
            let stored = shared[at].stored.load(Ordering::Relaxed);
            samples.push(Sample { time, server: at, stored, ..server.sample() });
        }
        let last = samples.len() - 2;
        if time as u64 / 60 > said {
            said = time as u64 / 60;
            let answers = shared[0].answers.lock().expect("nobody failed").len();
            eprintln!("{said:4} min  {}  |  {}  |  {answers} answers", samples[last], samples[last + 1]);
        }
        if born.elapsed() >= ends_after {
            let in_order = lives.len() % 2 == 1;
            lives.push(Life {
                in_order,
                lasted: born.elapsed().as_secs_f64(),
                ready,
                last: samples[last + 1].clone(),
            });
            ready = servers[1].begins_again(in_order);
            (born, ends_after) = (Instant::now(), lifetime());
        }
    }
}

/// Returns the faults of the store of an ended server: wrong counts of its entities, instances and
/// locks that are left, and damage.
fn check(folder: &Path, counts: &[&Counts]) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut expect = |what: String, is: i64, least: i64, most: i64| {
        if !(least..=most).contains(&is) {
            wrong.push(format!("{name}: {what}: {is} instead of {least} to {most}"));
        }
    };
    let entities = client::states(folder);
    let number = |entity: &str, field: Option<&str>| -> i64 {
        let state = entities.get(entity).cloned().unwrap_or_default();
        let value = field.map_or(&state, |field| &state[field]);
        value.as_i64().unwrap_or(0)
    };
    for counts in counts {
        let client = &counts.client;
        expect(
            format!("instances of {client}"),
            number(&format!("Done@{client}"), None),
            counts.done,
            counts.done,
        );
        let asides = number(&format!("Done@{client} aside"), None);
        expect(format!("started by orders of {client}"), asides, counts.asides, counts.asides);
        for (entity, told) in [(client.clone(), counts.told), (format!("{client} later"), counts.later)] {
            let entity = format!("Told@{entity}");
            let least = told.sure;
            expect(
                format!("signals to {entity}"),
                number(&entity, Some("count")),
                least,
                least + told.unsure,
            );
            expect(format!("doubled signals to {entity}"), number(&entity, Some("again")), 0, 0);
        }
    }
    let accounts = entities.iter().filter(|(entity, _)| entity.starts_with("Account@"));
    let sum: i64 = accounts.map(|(_, state)| state.as_i64().unwrap_or(0) - 100).sum();
    expect("money made or lost".into(), sum, 0, 0);
    let boxes = entities.keys().filter(|entity| entity.starts_with("Box@")).count() as i64;
    expect("states that were deleted".into(), boxes, 0, 0);
    let lines = |args: &[&str]| client::command(folder, args).lines().count() as i64;
    for status in ["running", "suspended"] {
        expect(format!("instances that are {status}"), lines(&["list", "--json", "--status", status]), 0, 0);
    }
    expect("locks".into(), lines(&["locks", "--json"]), 0, 0);
    let verified = durable()
        .args(["store", "verify", "--store"])
        .arg(server::store(folder))
        .stdout(Stdio::null())
        .status();
    if !verified.is_ok_and(|status| status.success()) {
        wrong.push(format!("{name}: `durable store verify` finds it damaged"));
    }
    wrong
}

/// Starts a server that answers HTTP requests, and returns its port.
fn web_server() -> u16 {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|read| read > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}
