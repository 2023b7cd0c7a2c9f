//! A bad program, a bad client or a bad file does not disturb others.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::DURABLE;
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

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

/// A server in a folder of its own, which is killed when this value is dropped.
struct Server {
    folder: TempDir,
    process: Child,
}

impl Server {
    fn with(options: &[&str]) -> Server {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("p.df"), PROGRAM).expect("a program");
        let process = serve(folder.path(), options);
        Server { folder, process }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn dies(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(folder: &Path, options: &[&str]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log");
    let process = Command::new(DURABLE)
        .current_dir(folder)
        .arg("serve")
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("a server");
    await_that(|| UnixStream::connect(folder.join(".durable/socket")).is_ok());
    process
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// Waits until a condition holds. The limit is so long that only a deaf server reaches it, not a
/// slow machine.
fn await_that(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not become so");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_endless_operation_stops_nobody_and_fails() {
    for bad in ["spin", "natives"] {
        let server = Server::with(&[]);
        ok(server.path(), &["start", "p.df", "hello", "0", "--wait"]);
        ok(server.path(), &["signal", "Account@bad", bad]);
        // Meanwhile others are served, and so are queries.
        assert_eq!(ok(server.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1", "{bad}");
        assert!(ok(server.path(), &["list"]).contains("hello-2"));
        await_that(|| log(server.path()).contains("had no effect: limit"));
        assert_eq!(ok(server.path(), &["start", "p.df", "hello", "2", "--wait"]), "hi 2");
    }
}

#[test]
fn who_calls_an_endless_operation_gets_its_error() {
    let server = Server::with(&[]);
    assert_eq!(ok(server.path(), &["start", "p.df", "calls", "--wait"]), "limit");
}

#[test]
fn the_message_that_an_entity_is_at_can_be_removed() {
    let server = Server::with(&[]);
    ok(server.path(), &["start", "p.df", "hello", "0", "--wait"]);
    ok(server.path(), &["signal", "Account@bad", "spin"]);
    ok(server.path(), &["signal", "Account@bad", "add", "5"]);
    ok(server.path(), &["entity", "Account@bad", "--drop-message"]);
    await_that(|| ok(server.path(), &["entity", "Account@bad"]).contains("state      5"));
    assert!(log(server.path()).contains("was removed by an operator"));
    let output = durable(server.path(), &["entity", "Account@bad", "--drop-message"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_instance_that_computes_for_ever_stops_nobody() {
    let server = Server::with(&[]);
    for function in ["spins", "matches"] {
        let id = ok(server.path(), &["start", "p.df", function]);
        assert_eq!(ok(server.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1", "{function}");
        ok(server.path(), &["terminate", &id]);
        await_that(|| {
            ok(server.path(), &["list"])
                .lines()
                .any(|line| line.starts_with(&id) && line.contains("terminated"))
        });
    }
}

/// With more endless instances than are read ahead, other instances are still read from the store.
#[test]
fn many_instances_that_compute_for_ever_stop_nobody() {
    let server = Server::with(&[]);
    ok(server.path(), &["start", "p.df", "many_spin", "100"]);
    await_that(|| ok(server.path(), &["list"]).matches("spins").count() > 64);
    assert_eq!(ok(server.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
}

#[test]
fn one_root_writes_so_much_at_most() {
    let server = Server::with(&["--max-written", "1000000"]);
    // The quota counts the root's own histories and those of its children.
    for (function, id) in [("writes", "alone"), ("writes_below", "both")] {
        let output = durable(server.path(), &["start", "p.df", function, "1000", "--id", id, "--wait"]);
        assert_eq!(output.status.code(), Some(1), "{function}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("have written more than 1000000 bytes"), "{said}");
        // The message names the root, and no instance of its tree is left running.
        assert!(said.contains(&format!("`{id}`")), "{said}");
        assert_eq!(ok(server.path(), &["list", "--json", "--status", "running"]), "");
    }
    // Other roots have quotas of their own, and so has a later life of the same id.
    assert_eq!(ok(server.path(), &["start", "p.df", "writes", "20", "--wait"]), "20");
    assert_eq!(
        ok(
            server.path(),
            &["start", "p.df", "writes", "21", "--id", "alone", "--if-exists", "replace", "--wait"]
        ),
        "21"
    );
}

#[test]
fn one_root_has_so_many_instances_at_most() {
    let server = Server::with(&["--max-instances", "20"]);
    let output = durable(server.path(), &["start", "p.df", "floods", "1000", "--wait"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("have 20 instances under way"), "{said}");
    // Other roots have quotas of their own.
    assert_eq!(ok(server.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    assert_eq!(ok(server.path(), &["start", "p.df", "floods", "10", "--wait"]), "10");
}

#[test]
fn pipes_that_nobody_writes_stop_no_other_file() {
    let server = Server::with(&[]);
    let pipe = server.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    fs::write(server.path().join("file"), "text").expect("a file");
    let mut readers = Vec::new();
    for _ in 0..40 {
        readers.push(ok(server.path(), &["start", "p.df", "reads", "pipe"]));
    }
    assert_eq!(ok(server.path(), &["start", "p.df", "reads", "file", "--wait"]), "text");
    // Terminated instances stop reading; the last one reads what is written.
    let last = readers.pop().expect("a reader");
    for reader in &readers {
        ok(server.path(), &["terminate", reader]);
    }
    let threads = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.process.id())).expect("its threads");
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        tasks.flatten().map(name).filter(|name| name.trim() == "pipe").count()
    };
    await_that(|| threads() <= 1);
    assert_eq!(ok(server.path(), &["start", "p.df", "appends", "pipe", "hello", "--wait"]), "done");
    assert_eq!(ok(server.path(), &["wait", &last]), "hello");
    await_that(|| threads() == 0);
    // A device without an end is too long.
    let output = durable(server.path(), &["start", "p.df", "reads", "/dev/zero", "--wait"]);
    assert!(String::from_utf8_lossy(&output.stderr).to_lowercase().contains("more than 256 mib"));
}

#[test]
fn silent_and_slow_clients_keep_nobody_out() {
    let server = Server::with(&[]);
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
    assert_eq!(ok(server.path(), &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    drop(all);
    assert!(ok(server.path(), &["list"]).contains("hello-1"));
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
    let mut server = Server::with(&[]);
    let path = server.path().to_path_buf();
    // The note counts two deaths, and names the instance that was running at the third.
    let id = ok(&path, &["start", "p.df", "spins"]);
    server.dies();
    fs::write(path.join(".durable/suspects"), format!(r#"{{"running":"{id}","deaths":{{"{id}":2}}}}"#))
        .expect("a note");
    server.process = serve(&path, &[]);
    assert!(log(&path).contains("was running when the process died three times"), "{}", log(&path));
    assert_eq!(ok(&path, &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    ok(&path, &["terminate", &id]);
    await_that(|| {
        ok(&path, &["list"]).lines().any(|line| line.starts_with(&id) && line.contains("terminated"))
    });
    assert!(!path.join(".durable/suspects").exists());
}

#[test]
fn an_entity_of_which_the_process_dies_is_set_aside() {
    let mut server = Server::with(&[]);
    let path = server.path().to_path_buf();
    ok(&path, &["start", "p.df", "hello", "0", "--wait"]);
    ok(&path, &["signal", "Account@bad", "spin"]);
    ok(&path, &["signal", "Account@bad", "add", "5"]);
    server.dies();
    let note = r#"{"running":"Account@bad","deaths":{"Account@bad":2}}"#;
    fs::write(path.join(".durable/suspects"), note).expect("a note");
    server.process = serve(&path, &[]);
    assert!(log(&path).contains("--drop-message"), "{}", log(&path));
    assert_eq!(ok(&path, &["start", "p.df", "hello", "1", "--wait"]), "hi 1");
    ok(&path, &["entity", "Account@bad", "--drop-message"]);
    await_that(|| ok(&path, &["entity", "Account@bad"]).contains("state      5"));
}
