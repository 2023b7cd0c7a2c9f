//! A bad program, a bad client or a bad file does not disturb others.

mod common;

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use common::DURABLE;
use common::place::{Place, Server, await_that, err, ok};
use tempfile::TempDir;

const PROGRAM: &str = r#"
entity Account {
  state 0
  on spin() { while true { state += 1 } }
  on deep() { fn f(n) { f(n + 1) + 1 }; f(0) }
  on natives() { let text = "a".repeat(200000); while true { regex.find_all(text, "a*?[^a]|a") } }
  on add(n) { state += n; state }
}
orchestration hello(n) { sleep(10ms); Account("honest").add(1); "hi {n}" }
orchestration spins() { var n = 0; while true { n = n + 1 }; n }
orchestration floods(count) { for i in 0..count { start waits() }; count }
orchestration waits() { receive("never") }
orchestration many_spin(count) { for _ in 0..count { start spins() }; receive("never") }
activity text(n) => range(0, 4000).map(fn k => (k * 7919 + n * 104729) % 1000003).join(" ")
orchestration writes(n) { for i in 0..n { text(i) }; n }
orchestration writes_below(n) { writes(n) }
orchestration calls() { try { Account("bad").spin() } catch e { e.kind } }
orchestration reads(path) { fs.read(path) }
orchestration appends(path, text) { fs.append(path, text); "done" }
orchestration matches() { regex.find_all("a".repeat(1000000), "a*?[^a]|a").len() }
"#;

/// A server in a folder of its own.
struct Served {
    place: Place,
    server: Option<Server>,
}

impl Served {
    fn with(options: &[&str]) -> Served {
        let place = Place::new(PROGRAM);
        let server = Some(place.serve_logged(options));
        Served { place, server }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    /// Kills the server, changes something, and starts another one.
    fn dies_and(&mut self, meanwhile: impl FnOnce(&Place)) {
        self.server.take().expect("it runs").kill();
        meanwhile(&self.place);
        self.server = Some(self.place.serve_logged(&[]));
    }
}

impl Deref for Served {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

#[test]
fn an_endless_operation_stops_nobody_and_fails() {
    for bad in ["spin", "natives"] {
        let server = Served::with(&[]);
        server.ok(&["start", "p.df", "hello", "0", "--wait"]);
        server.ok(&["signal", "Account@bad", bad]);
        // Meanwhile others are served, and so are queries.
        assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1", "{bad}");
        assert!(server.ok(&["list"]).contains("hello-2"));
        await_that(|| server.text("log").contains("had no effect: limit"));
        assert_eq!(server.ok(&["start", "p.df", "hello", "2", "--wait"]), "hi 2");
    }
}

#[test]
fn who_calls_an_endless_operation_gets_its_error() {
    let server = Served::with(&[]);
    assert_eq!(server.ok(&["start", "p.df", "calls", "--wait"]), "limit");
}

#[test]
fn the_message_that_an_entity_is_at_can_be_removed() {
    let server = Served::with(&[]);
    server.ok(&["start", "p.df", "hello", "0", "--wait"]);
    server.ok(&["signal", "Account@bad", "spin"]);
    server.ok(&["signal", "Account@bad", "add", "5"]);
    server.ok(&["entity", "Account@bad", "--drop-message"]);
    await_that(|| server.ok(&["entity", "Account@bad"]).contains("state      5"));
    assert!(server.text("log").contains("was removed by an operator"));
    let output = server.run(&["entity", "Account@bad", "--drop-message"]);
    assert_eq!(output.status.code(), Some(5), "{}", err(&output));
}

#[test]
fn an_instance_that_computes_for_ever_stops_nobody() {
    let server = Served::with(&[]);
    for function in ["spins", "matches"] {
        let id = server.ok(&["start", "p.df", function]);
        assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1", "{function}");
        server.ok(&["terminate", &id]);
        await_that(|| {
            server.ok(&["list"]).lines().any(|line| line.starts_with(&id) && line.contains("terminated"))
        });
    }
}

/// With more endless instances than are read ahead, other instances are still read from the store.
#[test]
fn many_instances_that_compute_for_ever_stop_nobody() {
    let server = Served::with(&[]);
    server.ok(&["start", "p.df", "many_spin", "100"]);
    await_that(|| server.ok(&["list"]).matches("spins").count() > 64);
    assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1");
}

#[test]
fn one_root_writes_so_much_at_most() {
    let server = Served::with(&["--max-written", "1000000"]);
    // The quota counts the root's own histories and those of its children.
    for (function, id) in [("writes", "alone"), ("writes_below", "both")] {
        let output = server.run(&["start", "p.df", function, "1000", "--id", id, "--wait"]);
        assert_eq!(output.status.code(), Some(1), "{function}");
        let said = err(&output);
        assert!(said.contains("have written more than 1000000 bytes"), "{said}");
        // The message names the root, and no instance of its tree is left running.
        assert!(said.contains(&format!("`{id}`")), "{said}");
        assert_eq!(server.ok(&["list", "--json", "--status", "running"]), "");
    }
    // Other roots have quotas of their own, and so has a later life of the same id.
    assert_eq!(server.ok(&["start", "p.df", "writes", "20", "--wait"]), "20");
    assert_eq!(
        server.ok(&["start", "p.df", "writes", "21", "--id", "alone", "--if-exists", "replace", "--wait"]),
        "21"
    );
}

#[test]
fn one_root_has_so_many_instances_at_most() {
    let server = Served::with(&["--max-instances", "20"]);
    let output = server.run(&["start", "p.df", "floods", "1000", "--wait"]);
    assert!(!output.status.success());
    let said = err(&output);
    assert!(said.contains("have 20 instances under way"), "{said}");
    // Other roots have quotas of their own.
    assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    assert_eq!(server.ok(&["start", "p.df", "floods", "10", "--wait"]), "10");
}

#[test]
fn pipes_that_nobody_writes_stop_no_other_file() {
    let server = Served::with(&[]);
    let pipe = server.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    fs::write(server.path().join("file"), "text").expect("a file");
    let mut readers = Vec::new();
    for _ in 0..40 {
        readers.push(server.ok(&["start", "p.df", "reads", "pipe"]));
    }
    assert_eq!(server.ok(&["start", "p.df", "reads", "file", "--wait"]), "text");
    // Terminated instances stop reading; the last one reads what is written.
    let last = readers.pop().expect("a reader");
    for reader in &readers {
        server.ok(&["terminate", reader]);
    }
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.server().id())).expect("its threads");
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        tasks.flatten().map(name).filter(|name| name.trim() == "pipe").count()
    };
    await_that(|| threads() <= 1);
    assert_eq!(server.ok(&["start", "p.df", "appends", "pipe", "hello", "--wait"]), "done");
    assert_eq!(server.ok(&["wait", &last]), "hello");
    await_that(|| threads() == 0);
    // A device without an end is too long.
    let output = server.run(&["start", "p.df", "reads", "/dev/zero", "--wait"]);
    assert!(err(&output).to_lowercase().contains("more than 256 mib"));
}

#[test]
fn silent_and_slow_clients_keep_nobody_out() {
    let server = Served::with(&[]);
    let socket = server.path().join(".durable/socket");
    let mut all = Vec::new();
    for number in 0..600 {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        // Some send half of a request, others announce a very long one.
        let _ = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(&[7, 0]),
            _ => stream.write_all(&(1u32 << 30).to_le_bytes()),
        };
        all.push(stream);
    }
    assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    drop(all);
    assert!(server.ok(&["list"]).contains("hello-1"));
}

#[test]
fn a_server_without_descriptors_serves_again_when_there_are_some() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("p.df"), PROGRAM).expect("a program");
    let log = fs::File::create(folder.path().join("log")).expect("a log");
    // The server gets just a few more descriptors than it needs.
    let mut process = Command::new("sh")
        .current_dir(folder.path())
        .args(["-c", "ulimit -n 48; exec \"$0\" serve"])
        .arg(DURABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("a server");
    let socket = folder.path().join(".durable/socket");
    await_that(|| UnixStream::connect(&socket).is_ok());
    let all: Vec<_> = (0..200).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    drop(all);
    assert_eq!(ok(folder.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    process.kill().expect("it is killed");
    process.wait().expect("it has ended");
}

#[test]
fn who_was_running_at_three_deaths_is_set_aside_and_the_others_go_on() {
    let mut server = Served::with(&[]);
    // The note counts two deaths, and names the instance that was running at the third.
    let id = server.ok(&["start", "p.df", "spins"]);
    let note = format!(r#"{{"running":"{id}","deaths":{{"{id}":2}}}}"#);
    server.dies_and(|place| place.put(".durable/suspects", &note));
    assert!(
        server.text("log").contains("was running when the process died three times"),
        "{}",
        server.text("log")
    );
    assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    server.ok(&["terminate", &id]);
    await_that(|| {
        server.ok(&["list"]).lines().any(|line| line.starts_with(&id) && line.contains("terminated"))
    });
    assert!(!server.path().join(".durable/suspects").exists());
}

#[test]
fn an_entity_of_which_the_process_dies_is_set_aside() {
    let mut server = Served::with(&[]);
    server.ok(&["start", "p.df", "hello", "0", "--wait"]);
    server.ok(&["signal", "Account@bad", "spin"]);
    server.ok(&["signal", "Account@bad", "add", "5"]);
    let note = r#"{"running":"Account@bad","deaths":{"Account@bad":2}}"#;
    server.dies_and(|place| place.put(".durable/suspects", note));
    assert!(server.text("log").contains("--drop-message"), "{}", server.text("log"));
    assert_eq!(server.ok(&["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    server.ok(&["entity", "Account@bad", "--drop-message"]);
    await_that(|| server.ok(&["entity", "Account@bad"]).contains("state      5"));
}
