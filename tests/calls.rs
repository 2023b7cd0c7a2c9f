//! `durable call`: answers of entities for clients, with and without a process that has the store,
//! and through deaths of that process.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{DURABLE, Random};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

const BANK: &str = r#"
entity Account {
  state {balance: 100}
  on deposit(n) { check(n); add(n) }
  on add(n) { state.balance += n; state.balance }
  on balance() => state.balance
  on name() => "the account of {self.key}"
  fn check(n) { if n <= 0 { throw {kind: "bad_amount", message: "{n}"} } }
}
orchestration holds(key) { lock Account(key) { receive("go"); Account(key).add(1) } }
"#;

fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("bank.df"), BANK).expect("a program");
    ok(folder.path(), &["run", "bank.df"]);
    folder
}

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert!(output.status.success(), "{args:?}\n{}", err(&output));
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must fail with this exit code. Returns standard error.
fn fails(folder: &Path, code: i32, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}", err(&output));
    err(&output)
}

/// A server that is killed at the end of the test.
struct Server(Child);

impl Server {
    fn new(folder: &Path) -> Server {
        // A killed server leaves its socket.
        let _ = fs::remove_file(folder.join(".durable/socket"));
        let mut serve = Command::new(DURABLE);
        serve.current_dir(folder).arg("serve");
        serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Server(serve.spawn().expect("durable runs"));
        await_that(|| folder.join(".durable/socket").exists());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn await_that(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came to hold");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The calls that are the same with and without a process that has the store.
fn answers(at: &Path, key: &str) {
    let account = format!("Account@{key}");
    let call = |rest: &[&str]| ok(at, &[&["call", &account], rest].concat());
    assert_eq!(call(&["add", "5"]), "105");
    assert_eq!(call(&["name"]), format!("the account of {key}"));
    let shown: Json = serde_json::from_str(&call(&["balance", "--json"])).expect("JSON");
    assert_eq!(shown["result"], 105);
    assert!(shown["id"].as_str().is_some_and(|id| id.starts_with("call-")), "{shown}");
    // A call with an id happens once, and has one answer.
    let id = format!("deposit-{key}");
    for _ in 0..3 {
        assert_eq!(call(&["deposit", "20", "--id", &id]), "125");
    }
    assert_eq!(call(&["deposit", "20.0", "--id", &id]), "125");
    let taken = fails(at, 1, &["call", &account, "deposit", "21", "--id", &id]);
    let wanted = format!(
        "the id `{id}` is that of `Account@{key}.deposit(20)`, and not of `Account@{key}.deposit(21)`"
    );
    assert!(taken.contains(&wanted), "{taken}");
    // An error has its place and its calls, undoes the changes, and is the answer for good.
    for _ in 0..2 {
        let error = fails(at, 1, &["call", &account, "deposit", "-1", "--id", &format!("bad-{key}")]);
        assert!(error.contains("bad_amount: -1") && error.contains("bank.df:8"), "{error}");
    }
    let output = durable(at, &["call", &account, "deposit", "0", "--json"]);
    let shown: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(shown["error"], json!({"kind": "bad_amount", "message": "0"}));
    assert_eq!(call(&["balance", "--timeout", "1m"]), "125");
    // Wrong calls.
    let unknown = fails(at, 1, &["call", &account, "balanc"]);
    assert!(unknown.contains("has no operation `balanc`; did you mean `balance`?"), "{unknown}");
    let private = fails(at, 1, &["call", &account, "check", "1"]);
    assert!(private.contains("`check` is a private function of the entity"), "{private}");
    assert!(fails(at, 1, &["call", &account, "add"]).contains("takes 1 argument"));
    assert!(fails(at, 5, &["call", "Acount@a", "balance"]).contains("declares an entity `Acount`"));
    assert!(fails(at, 2, &["call", "Account", "balance"]).contains("is not an entity"));
    assert!(fails(at, 2, &["call", &account, "balance", "--id", "a:b"]).contains("can't be an id"));
    assert!(fails(at, 2, &["call", &account, "balance", "--timeout", "soon"]).contains("not a duration"));
}

#[test]
fn entities_answer_without_a_server() {
    let folder = folder();
    answers(folder.path(), "ada");
}

#[test]
fn entities_answer_with_a_server() {
    let folder = folder();
    let server = Server::new(folder.path());
    answers(folder.path(), "ada");
    drop(server);
    // The answers outlive the process.
    assert_eq!(ok(folder.path(), &["call", "Account@ada", "deposit", "20", "--id", "deposit-ada"]), "125");
    // Exports have the calls, and imports keep them.
    let export = ok(folder.path(), &["store", "export"]);
    let calls = export.lines().filter(|line| line.contains(r#""type":"call""#)).count();
    assert!(calls >= 5, "{export}");
    fs::write(folder.path().join("export.jsonl"), &export).expect("an export");
    ok(folder.path(), &["store", "import", "export.jsonl", "--store", "other"]);
    let again = ["call", "Account@ada", "deposit", "20", "--id", "deposit-ada", "--store", "other"];
    assert_eq!(ok(folder.path(), &again), "125");
    assert_eq!(ok(folder.path(), &["call", "Account@ada", "balance", "--store", "other"]), "125");
}

/// A held entity answers after the critical section. Meanwhile a client can stop waiting, and ask
/// again.
#[test]
fn a_held_entity_answers_later() {
    let folder = folder();
    let at = folder.path();
    let server = Server::new(at);
    ok(at, &["start", "bank.df", "holds", "ada", "--id", "h"]);
    await_that(|| ok(at, &["locks"]).contains("Account@ada  h"));
    let late = fails(at, 1, &["call", "Account@ada", "add", "10", "--timeout", "50ms", "--id", "x"]);
    assert!(late.contains("Account@ada has not answered: it is held by h"), "{late}");
    assert!(late.contains("`--id x` asks for the answer"), "{late}");
    assert!(ok(at, &["entity", "Account@ada"]).contains("waiting    add(10) called by client x"));
    drop(server);
    // Nothing lets the holder go on here.
    let late = fails(at, 1, &["call", "Account@ada", "balance", "--id", "y"]);
    assert!(late.contains("it is held by h") && late.contains("durable serve"), "{late}");
    let _server = Server::new(at);
    let waits = Command::new(DURABLE)
        .current_dir(at)
        .args(["call", "Account@ada", "add", "10", "--id", "x"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("durable runs");
    ok(at, &["raise", "h", "go"]);
    assert_eq!(ok(at, &["wait", "h"]), "101");
    let output = waits.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "111");
    assert_eq!(ok(at, &["call", "Account@ada", "balance", "--id", "y"]), "111");
}

/// Clients call a server that is killed again and again, and ask again until they have answers.
#[test]
fn calls_happen_once_though_the_server_dies() {
    const CLIENTS: usize = 4;
    const CALLS: usize = 15;
    let folder = folder();
    let at = folder.path();
    let mut random = Random::new(11);
    let mut server = Some(Server::new(at));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let at = at.to_path_buf();
            thread::spawn(move || {
                let answer = |number: usize| {
                    let id = format!("{client}-{number}");
                    let began = Instant::now();
                    loop {
                        let output = durable(&at, &["call", "Account@a", "add", "1", "--id", &id]);
                        if output.status.success() {
                            break String::from_utf8_lossy(&output.stdout).trim_end().to_string();
                        }
                        assert!(began.elapsed() < Duration::from_secs(60), "{id}: {}", err(&output));
                    }
                };
                (0..CALLS).map(answer).collect::<Vec<String>>()
            })
        })
        .collect();
    for _ in 0..8 {
        thread::sleep(Duration::from_micros(random.below(60_000)));
        drop(server.take());
        server = Some(Server::new(at));
    }
    let answers: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().expect("it ends")).collect();
    let different: BTreeSet<i64> = answers.iter().map(|answer| answer.parse().expect("a number")).collect();
    let all = (CLIENTS * CALLS) as i64;
    assert_eq!(different, (101..=100 + all).collect(), "each call has an answer of its own");
    assert_eq!(ok(at, &["call", "Account@a", "balance"]), (100 + all).to_string());
}
