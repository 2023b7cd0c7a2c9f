//! The HTTP server: starts a second beside those by the socket, the time of a start at half of that
//! rate, pages of many instances, and the engine's rate while pages are open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use durable::api::{Connection, Reply};
use durable::http::{Keys, Scope};
use durable::kv::Endpoint;
use durable::machine::{Data, IfExists, Value};

use super::{DURABLE, median, program};

/// The number of connections that start instances.
const CONNECTIONS: usize = 64;
/// The number of starts of a measurement.
const STARTS: usize = 40_000;
/// The number of instances of the list.
const LISTED: usize = 100_000;
/// The number of pages that are open.
const PAGES: usize = 20;

struct Server {
    child: Child,
    address: String,
    token: String,
}

impl Server {
    fn start(store: &Path) -> Server {
        let deployed = Command::new(DURABLE)
            .args(["deploy", "--store"])
            .arg(store)
            .arg(program("served.df"))
            .stdout(Stdio::null())
            .status();
        assert!(deployed.expect("durable runs").success());
        let mut child = Command::new(DURABLE)
            .args(["serve", "--http", "127.0.0.1:0", "--store"])
            .arg(store)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("durable runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let address = line.trim().rsplit("//").next().unwrap_or_default().to_string();
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let keys = Keys::open(&store.join("token")).expect("tokens");
        Server { child, address, token: keys.token(Scope::Admin).to_string() }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", self.token);
        Client { reader: BufReader::new(stream.try_clone().expect("a handle")), stream, head }
    }
}

impl Server {
    /// Returns the seconds of processor time that the server has taken.
    fn cpu(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        // User and system time, in hundredths of a second.
        (ticks(12) + ticks(13)) / 100.0
    }
}

/// A measurement of starts by the socket.
#[derive(Clone, Copy)]
struct Starts {
    /// Starts a second.
    rate: f64,
    /// The server's microseconds of processor time for each.
    cost: f64,
}

impl Starts {
    fn measure(server: &Server, store: &Path) -> Starts {
        let before = server.cpu();
        let rate = by_socket(store);
        Starts { rate, cost: (server.cpu() - before) * 1e6 / STARTS as f64 }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept alive.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    head: String,
}

impl Client {
    /// Sends a request, and returns the code and the body.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_ask(method, path, body).expect("an answer")
    }

    fn try_ask(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let text =
            format!("{method} {path} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(text.as_bytes())?;
        let (mut code, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let trimmed = line.trim();
            if trimmed.is_empty() {
                break;
            }
            if let Some(rest) = trimmed.strip_prefix("HTTP/1.1 ") {
                code = rest[..3].parse().unwrap_or(0);
            } else if let Some(given) = trimmed.to_lowercase().strip_prefix("content-length: ") {
                length = given.parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }

    fn start(&mut self) {
        let (code, body) = self.ask("POST", "/api/v1/instances", r#"{"function":"quick","args":[1]}"#);
        assert_eq!(code, 202, "{body}");
    }
}

/// Has many threads do their part of a number of things. Returns the rate.
fn rate<C: Send>(count: usize, connect: impl Fn() -> C, each: impl Fn(&mut C) + Sync) -> f64 {
    let clients: Vec<C> = (0..CONNECTIONS).map(|_| connect()).collect();
    let began = Instant::now();
    thread::scope(|scope| {
        for mut client in clients {
            let each = &each;
            scope.spawn(move || (0..count / CONNECTIONS).for_each(|_| each(&mut client)));
        }
    });
    count as f64 / began.elapsed().as_secs_f64()
}

fn by_socket(store: &Path) -> f64 {
    let command = || durable::api::Command::StartDeployed {
        function: "quick".into(),
        args: Data::of(&Value::list(vec![Value::Int(1)])),
        id: None,
        if_exists: IfExists::Join,
    };
    rate(
        STARTS,
        || Connection::open(&Endpoint::new(store)).expect("a connection"),
        |connection| {
            let reply = connection.command(command()).expect("a reply");
            assert!(matches!(reply, Reply::Begun(_)), "{reply:?}");
        },
    )
}

/// Starts at a rate, and returns the 99th percentile of the time of a start, in milliseconds.
fn latency(server: &Server, each_second: f64) -> f64 {
    let pause = Duration::from_secs_f64(CONNECTIONS as f64 / each_second);
    let times: Vec<f64> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let mut client = server.connect();
                scope.spawn(move || {
                    thread::sleep(pause.mul_f64(number as f64 / CONNECTIONS as f64));
                    let began = Instant::now();
                    (0..200_u32)
                        .map(|turn| {
                            // A late start counts from the time at which it was due.
                            let due = began + pause * turn;
                            thread::sleep(due.saturating_duration_since(Instant::now()));
                            client.start();
                            due.elapsed().as_secs_f64() * 1e3
                        })
                        .collect::<Vec<f64>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let mut times = times;
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// Returns the milliseconds of a request, and the size of its answer.
fn timed(client: &mut Client, path: &str) -> (f64, usize) {
    let began = Instant::now();
    let (code, body) = client.ask("GET", path, "");
    assert_eq!(code, 200, "{body}");
    (began.elapsed().as_secs_f64() * 1e3, body.len())
}

/// A reader of the feed, until it is dropped.
struct Follower {
    stream: TcpStream,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Follows the feed. Calls a function for each piece of text.
fn follow(server: &Server, path: &str, mut each: impl FnMut(&[u8]) + Send + 'static) -> Follower {
    let mut client = server.connect();
    let text = format!("GET {path} HTTP/1.1\r\n{}\r\n", client.head);
    client.stream.write_all(text.as_bytes()).expect("it is sent");
    let stream = client.stream.try_clone().expect("a handle");
    let thread = thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(read @ 1..) = client.reader.read(&mut buffer) {
            each(&buffer[..read]);
        }
    });
    Follower { stream, thread: Some(thread) }
}

/// Does what the list of the page does: follows the feed for what can be shown, and after changes
/// reads the first page and the counts, as often as the page does.
fn page(server: &Server) -> Follower {
    let mut client = server.connect();
    let mut next = Instant::now();
    follow(server, "/api/v1/changes?most=200", move |text| {
        let is_flood = text.windows(10).any(|part| part == b"event: gap");
        if Instant::now() < next {
            return;
        }
        // The server is ended while pages are open.
        let _ = client.try_ask("GET", "/api/v1/instances?limit=100&roots=true&order=newest", "");
        let _ = client.try_ask("GET", "/api/v1/instances/counts?roots=true", "");
        next = Instant::now() + Duration::from_millis(if is_flood { 2_000 } else { 250 });
    })
}

pub fn server(folder: &Path) {
    println!("server");
    let (mut http, mut socket) = (Vec::new(), Vec::new());
    let open = |page: &dyn Fn() -> Follower| (0..PAGES).map(|_| page()).collect::<Vec<_>>();
    let mut with = [Vec::new(), Vec::new()];
    for run in 0..3 {
        let store = folder.join(format!("served-{run}"));
        let server = Server::start(&store);
        http.push(rate(STARTS, || server.connect(), Client::start));
        let feed = || follow(&server, "/api/v1/changes", |_| ());
        for (at, follower) in [&(|| page(&server)) as &dyn Fn() -> Follower, &feed].into_iter().enumerate() {
            // The store grows, so each measurement is between two without followers.
            let before = Starts::measure(&server, &store);
            let followers = open(follower);
            let meanwhile = Starts::measure(&server, &store);
            drop(followers);
            let after = Starts::measure(&server, &store);
            socket.extend([before.rate, after.rate]);
            let (rate, cost) = ((before.rate + after.rate) / 2.0, (before.cost + after.cost) / 2.0);
            with[at].push((meanwhile.rate, meanwhile.rate / rate, meanwhile.cost / cost));
        }
    }
    let (http, socket) = (median(http), median(socket));
    println!("{:48} {http:10.0} a second", "starts by HTTP, 64 connections");
    println!(
        "{:48} {socket:10.0} a second; by HTTP {:.2} of that",
        "starts by the socket, 64 connections",
        http / socket
    );
    for (name, runs) in ["20 pages open", "20 feeds of all changes"].into_iter().zip(with) {
        let of = |part: fn(&(f64, f64, f64)) -> f64| median(runs.iter().map(part).collect());
        println!(
            "{:48} {:10.0} a second, {:.2} of that without, at {:.2} times its processor time",
            format!("starts by the socket, {name}"),
            of(|run| run.0),
            of(|run| run.1),
            of(|run| run.2),
        );
    }
    let store = folder.join("listed");
    let server = Server::start(&store);
    println!(
        "{:48} {:10.1} ms",
        "99th percentile of a start at half of that rate",
        latency(&server, http / 2.0)
    );
    rate(LISTED, || server.connect(), Client::start);
    drop(server);
    let server = Server::start(&store);
    let mut client = server.connect();
    let (cold, _) = timed(&mut client, "/api/v1/instances?limit=50");
    let pages: Vec<f64> = (0..7).map(|_| timed(&mut client, "/api/v1/instances?limit=50").0).collect();
    let counts: Vec<f64> = (0..7).map(|_| timed(&mut client, "/api/v1/instances/counts").0).collect();
    println!(
        "{:48} {:10.1} ms, the first one {cold:.0} ms",
        "first page of 110,000 instances",
        median(pages)
    );
    println!("{:48} {:10.1} ms", "counts of 110,000 instances", median(counts));
}
