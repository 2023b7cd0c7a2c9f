//! Commands on instances and entities, with and without a process that has the store.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::place::{Server, await_that, durable, err, ok, out};
use common::{DURABLE, Random};
use serde_json::Value as Json;
use tempfile::TempDir;

const BANK: &str = r#"
entity Account {
  state {balance: 100}
  on deposit(n) { if n <= 0 { throw {kind: "bad_amount"} }; state.balance += n; state.balance }
  on add(n) { state.balance += n; state.balance }
  on balance() => state.balance
}
orchestration transfer(from, to, n = 1) {
  lock Account(from), Account(to) {
    Account(from).add(-n)
    Account(to).add(n)
  }
  {from, to, n}
}
activity nothing(n) => n
orchestration many(seed, count) {
  for i in 0..count {
    transfer((seed + i) % 10, (seed + i * 3 + 1 + i % 2) % 10, nothing(i))
  }
  count
}
orchestration approval() { set_status("waits"); let answer = receive("approval"); set_status("has it"); answer }
orchestration holds(key) { lock Account(key) { receive("go") } }
orchestration fails(n) { throw {kind: "odd", message: "number {n}"} }
"#;

fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("bank.df"), BANK).expect("a program");
    folder
}

fn json(folder: &Path, args: &[&str]) -> Json {
    serde_json::from_str(&ok(folder, args)).expect("JSON")
}

/// A server logs a failure that no caller waits for, and leaves the others to their callers.
#[test]
fn a_server_tells_failures_that_nobody_hears() {
    let folder = folder();
    let at = folder.path();
    let catches = "orchestration fails(n) { throw {kind: \"odd\", message: \"number {n}\"} }\n\
                   orchestration catches(n) { try { fails(n) } catch {kind} { kind } }\n";
    fs::write(at.join("catches.df"), catches).expect("a program");
    let told = at.join("told");
    let _server = Server::with(at, &[], fs::File::create(&told).expect("a file"));
    ok(at, &["start", "catches.df", "catches", "8", "--id", "heard"]);
    assert_eq!(ok(at, &["wait", "heard"]), "odd");
    ok(at, &["start", "bank.df", "fails", "7", "--id", "unheard"]);
    let text = || fs::read_to_string(&told).expect("what was told");
    await_that(|| text().contains("unheard failed: odd: number 7"));
    assert!(!text().contains("number 8"), "{}", text());
}

#[test]
fn start_raise_and_wait_without_a_server() {
    let folder = folder();
    let at = folder.path();
    let started = durable(at, &["start", "bank.df", "approval"]);
    assert_eq!(out(&started), "approval-1\n");
    assert!(err(&started).contains("durable resume approval-1"), "{}", err(&started));
    assert_eq!(ok(at, &["start", "bank.df", "approval", "--id", "mine"]), "mine");
    // The same id names the same instance.
    let again = durable(at, &["start", "bank.df", "approval", "--id", "mine"]);
    assert_eq!(again.status.code(), Some(0));
    assert!(err(&again).contains("mine is there already, and running"), "{}", err(&again));
    let other = durable(at, &["start", "bank.df", "transfer", "0", "1", "--id", "mine"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(err(&other).contains("the id `mine` is that of `approval()`"), "{}", err(&other));
    ok(at, &["raise", "mine", "approval", r#"{"by": "ada"}"#]);
    assert_eq!(ok(at, &["status", "mine"]), "running");
    let ended = json(at, &["wait", "mine", "--json"]);
    assert_eq!(ended, serde_json::json!({"id": "mine", "status": "completed", "result": {"by": "ada"}}));
    assert_eq!(ok(at, &["status", "mine"]), "completed: \"has it\"");
    assert_eq!(json(at, &["status", "mine", "--json"])["custom"], "has it");
    // An ended instance takes no events.
    let late = durable(at, &["raise", "mine", "approval"]);
    assert_eq!((late.status.code(), err(&late).contains("mine has ended already")), (Some(1), true));
    // A start with `--wait`.
    let done =
        json(at, &["start", "bank.df", "transfer", "alice", "bob", "5", "--wait", "--json"]).to_string();
    assert!(done.contains(r#""from":"alice""#), "{done}");
}

#[test]
fn entities_without_a_server() {
    let folder = folder();
    let at = folder.path();
    std::fs::write(at.join("other.df"), "print(1)").expect("a program");
    ok(at, &["run", "other.df"]);
    let unknown = durable(at, &["signal", "Account@alice", "deposit", "5"]);
    assert_eq!(unknown.status.code(), Some(5));
    ok(at, &["start", "bank.df", "transfer", "alice", "bob", "1", "--wait"]);
    ok(at, &["signal", "Account@alice", "deposit", "5"]);
    let wrong = durable(at, &["signal", "Account@alice", "deposit", "-5"]);
    assert!(err(&wrong).contains("signal Account@alice.deposit had no effect: "), "{}", err(&wrong));
    assert_eq!(ok(at, &["entity", "Account@alice"]), "state      {balance: 104}");
    assert_eq!(
        json(at, &["entity", "Account@alice", "--json"])["state"],
        serde_json::json!({"balance": 104})
    );
    ok(at, &["signal", "Account@later", "add", "7", "--after", "1h"]);
    assert!(ok(at, &["entity", "Account@later"]).contains("waiting    signal add(7) at "));
    let listed = ok(at, &["entities", "Account"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[1].starts_with("Account@alice  {balance: 104}"), "{listed}");
    assert!(lines[2].starts_with("Account@bob    {balance: 101}"), "{listed}");
    assert!(lines[3].starts_with("Account@later  -"), "{listed}");
    assert_eq!(ok(at, &["entities", "Nothing", "--json"]), "");
    assert_eq!(durable(at, &["entity", "Nothing@x"]).status.code(), Some(5));
    assert_eq!(durable(at, &["entity", "Account"]).status.code(), Some(2));
}

/// The next process that has the store delivers the signals that are due. A child's failure that
/// its caller handles is no failure of the run.
#[test]
fn resume_delivers_what_is_due() {
    let folder = folder();
    let at = folder.path();
    let script = "import \"bank.df\" as bank\nsignal bank.Account(\"x\").add(5) after 50ms\n\
                  print(try { bank.fails(1) } catch {kind} { kind })\n";
    fs::write(at.join("s.df"), script).expect("a script");
    assert_eq!(ok(at, &["run", "s.df"]), "odd");
    assert_eq!(json(at, &["entities", "--json"])["waiting"], 1);
    std::thread::sleep(Duration::from_millis(60));
    ok(at, &["resume"]);
    assert_eq!(ok(at, &["entity", "Account@x"]), "state      {balance: 105}");
    assert!(err(&durable(at, &["resume"])).contains("nothing is unfinished"));
}

#[test]
fn a_server_serves() {
    let folder = folder();
    let at = folder.path();
    let _server = Server::new(at);
    assert_eq!(ok(at, &["start", "bank.df", "holds", "a", "--id", "first"]), "first");
    assert_eq!(ok(at, &["start", "bank.df", "holds", "a", "--id", "second"]), "second");
    await_that(|| ok(at, &["locks"]).contains("second since"));
    let locks = ok(at, &["locks"]);
    assert!(locks.contains("Account@a  first"), "{locks}");
    let lock = json(at, &["locks", "--json"]);
    assert_eq!((&lock["held_by"], &lock["waiting"][0]["owner"]), (&"first".into(), &"second".into()));
    // An instance that waits for a lock can be suspended and terminated.
    ok(at, &["suspend", "second"]);
    assert_eq!(ok(at, &["status", "second"]), "suspended");
    ok(at, &["unsuspend", "second"]);
    ok(at, &["terminate", "second", "enough"]);
    let ended = durable(at, &["wait", "second"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(err(&ended).contains("second was terminated: enough"), "{}", err(&ended));
    await_that(|| !ok(at, &["locks"]).contains("second"));
    ok(at, &["raise", "first", "go", "5"]);
    assert_eq!(json(at, &["wait", "first", "--json"])["result"], 5);
    assert_eq!(ok(at, &["locks", "--json"]), "");
    ok(at, &["signal", "Account@a", "deposit", "11"]);
    assert_eq!(ok(at, &["entity", "Account@a"]), "state      {balance: 111}");
    assert!(ok(at, &["history", "first"]).contains("receive(\"go\") → 5"));
    // A failure is shown with its place.
    ok(at, &["start", "bank.df", "fails", "7", "--id", "bad"]);
    let bad = durable(at, &["wait", "bad"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(err(&bad).contains("odd: number 7") && err(&bad).contains("bank.df:24"), "{}", err(&bad));
    // Filters.
    let ids = |args: &[&str]| -> Vec<String> {
        let listed = ok(at, &[&["list", "--json"], args].concat());
        listed
            .lines()
            .map(|line| {
                serde_json::from_str::<Json>(line).expect("JSON")["id"].as_str().expect("an id").into()
            })
            .collect()
    };
    assert_eq!(ids(&["--status", "failed"]), ["bad"]);
    assert_eq!(ids(&["--status", "terminated"]), ["second"]);
    assert_eq!(ids(&["--function", "holds"]), ["first", "second"]);
    assert_eq!(ids(&["--prefix", "sec", "--after", "1h"]), ["second"]);
    assert_eq!(ids(&["--before", "1h"]), Vec::<String>::new());
    assert_eq!(durable(at, &["list", "--after", "soon"]).status.code(), Some(2));
    // Ended instances can be purged; others only with `--force`.
    ok(at, &["start", "bank.df", "holds", "b", "--id", "third"]);
    await_that(|| ok(at, &["locks"]).contains("third"));
    assert_eq!(durable(at, &["purge", "third"]).status.code(), Some(1));
    ok(at, &["purge", "third", "--force"]);
    assert_eq!((ids(&["--prefix", "third"]).len(), ok(at, &["locks", "--json"])), (0, String::new()));
    ok(at, &["purge", "--function", "holds"]);
    assert_eq!(ids(&[]), ["bad"]);
    assert_eq!(durable(at, &["status", "third"]).status.code(), Some(5));
    // The prompt needs the store for itself.
    assert_eq!(durable(at, &["repl"]).status.code(), Some(4));
}

/// A server resumes the work of a killed one. A server that is stopped closes its store cleanly.
#[test]
fn a_server_goes_on_where_another_was_killed() {
    let folder = folder();
    let at = folder.path();
    let server = Server::new(at);
    ok(at, &["start", "bank.df", "approval", "--id", "a"]);
    ok(at, &["start", "bank.df", "holds", "x", "--id", "h"]);
    await_that(|| ok(at, &["locks"]).contains("Account@x"));
    ok(at, &["signal", "Account@x", "deposit", "1"]);
    server.kill();
    assert!(ok(at, &["locks"]).contains("Account@x  h"), "{}", ok(at, &["locks"]));
    assert!(ok(at, &["entity", "Account@x"]).contains("waiting    signal deposit(1)"));
    let server = Server::new(at);
    ok(at, &["raise", "a", "approval", "yes"]);
    ok(at, &["raise", "h", "go"]);
    assert_eq!(json(at, &["wait", "a", "--json"])["result"], "yes");
    ok(at, &["wait", "h"]);
    await_that(|| ok(at, &["entity", "Account@x"]) == "state      {balance: 101}");
    Command::new("kill").arg(server.id().to_string()).status().expect("kill runs");
    await_that(|| durable(at, &["store", "verify"]).status.success());
    assert!(!at.join(".durable/socket").exists());
}

/// Another process reaches a script that waits for an event, even if the path to the store is long.
#[test]
fn a_running_script_is_reached() {
    let outer = TempDir::new().expect("a folder");
    let at = outer.path().join("deeper".repeat(20)).join("deeper".repeat(20));
    fs::create_dir_all(&at).expect("a folder");
    fs::write(at.join("s.df"), "print(receive(\"go\"))").expect("a script");
    let script = Command::new(DURABLE)
        .current_dir(&at)
        .args(["run", "s.df", "--id", "s", "--store"])
        .arg(at.join(".durable"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("durable runs");
    let store = at.join(".durable");
    let store = store.to_str().expect("a path");
    await_that(|| at.join(".durable/socket").exists());
    await_that(|| durable(&at, &["show", "s", "--store", store]).status.success());
    ok(&at, &["raise", "s", "go", "5", "--store", store]);
    let script = script.wait_with_output().expect("ended");
    assert_eq!(out(&script), "5\n");
}

/// The process that has the store ends with the last event. Each client that raised one hears so.
#[test]
fn who_ends_a_script_gets_the_reply() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    fs::write(at.join("s.df"), "for _ in 1..=12 { receive(\"go\") }").expect("a script");
    for round in 0..5 {
        let id = format!("s{round}");
        let mut script = Command::new(DURABLE)
            .current_dir(at)
            .args(["run", "s.df", "--id", &id])
            .spawn()
            .expect("it runs");
        await_that(|| durable(at, &["show", &id]).status.success());
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| ok(at, &["raise", &id, "go"]));
            }
        });
        assert!(script.wait().expect("it ends").success());
    }
}

/// Starts that become due while no process runs begin in the order in which they were due.
#[test]
fn overdue_starts_begin_in_their_order() {
    let program = r#"
        entity Log { state []; on add(n) { state += [n] }; on all() => state }
        orchestration job(n) { Log(0).add(n) }
        let hs = [start job(3) after 600ms, start job(1) after 200ms, start job(2) at (now() + 400ms)]
        for h in hs { wait(h) }
        print(Log(0).all())
    "#;
    for is_served in [false, true] {
        let folder = TempDir::new().expect("a folder");
        let at = folder.path();
        fs::write(at.join("s.df"), program).expect("a script");
        let mut script = Command::new(DURABLE)
            .current_dir(at)
            .args(["run", "s.df", "--id", "s"])
            .spawn()
            .expect("it runs");
        await_that(|| out(&durable(at, &["list"])).contains("s:3"));
        script.kill().expect("it is killed");
        script.wait().expect("it ends");
        std::thread::sleep(Duration::from_millis(700));
        if is_served {
            let _server = Server::new(at);
            ok(at, &["wait", "s"]);
        } else {
            ok(at, &["resume", "s"]);
        }
        assert_eq!(out(&durable(at, &["replay", "s"])), "[1, 2, 3]\n");
    }
}

const TALKS: &str = r#"
activity says(n) { print("activity {n}"); n * n }
entity Log { state 0; on add() { print("entity"); state += 1; state } }
orchestration child(n) { print("child {n}"); says(n) }
print("args {args}")
log.warn("careful")
print(child(3))
print(Log("a").add())
print("hello {input("name? ")}")
{done: true}
"#;

/// A second program in a folder runs in the process that has the store, and behaves as if it ran
/// alone: output, errors, input, exit codes, results.
#[test]
fn a_script_runs_where_the_store_is() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("talks.df"), TALKS).expect("a script");
    fs::write(at.join("fails.df"), "print(1)\nthrow {kind: \"odd\", message: \"no\"}\n").expect("a script");
    let run = |args: &[&str], input: &str| {
        let mut command = Command::new(DURABLE);
        command
            .current_dir(at)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("durable runs");
        let stdin = child.stdin.take().expect("it reads");
        std::io::Write::write_all(&mut &stdin, input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("ended")
    };
    let both = |args: &[&str], input: &str, alone: &str, guest: &str| {
        let alone = run(&[args, &["--store", alone]].concat(), input);
        let guest = run(&[args, &["--store", guest]].concat(), input);
        assert_eq!(out(&alone), out(&guest), "{args:?}");
        assert_eq!(err(&alone), err(&guest), "{args:?}");
        assert_eq!(alone.status.code(), guest.status.code(), "{args:?}");
        guest
    };
    let server = Server::with(at, &[], fs::File::create(at.join("err")).expect("a file"));
    let shown = both(&["run", "talks.df", "x", "y", "--json"], "ada\n", "own", ".durable");
    assert!(
        out(&shown).starts_with("args [\"x\", \"y\"]\nchild 3\nactivity 3\n9\nentity\n1\nhello ada\n"),
        "{}",
        out(&shown)
    );
    assert!(err(&shown).contains("warn: careful"), "{}", err(&shown));
    both(&["run", "talks.df", "x", "y"], "", "own", ".durable");
    assert_eq!(both(&["run", "fails.df"], "", "own", ".durable").status.code(), Some(1));
    both(&["run", "fails.df", "--id", "f"], "", "own", ".durable");
    both(&["run", "fails.df", "--id", "f"], "", "own", ".durable");
    both(&["run", "fails.df", "--id", "f", "--if-exists", "fail"], "", "own", ".durable");
    both(&["run", "fails.df", "--id", "f", "--if-exists", "replace"], "", "own", ".durable");
    both(&["run", "talks.df", "--id", "f"], "", "own", ".durable");
    // Nothing of it appeared where the store is.
    server.kill();
    assert_eq!(fs::read_to_string(at.join("err")).expect("text"), "serving .durable\n");
}

/// A script that another process runs may do only what both processes permit.
#[test]
fn a_guest_widens_no_permissions() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("reads.df"), "print(fs.read(args[0]).len())\n").expect("a script");
    fs::write(at.join("a.txt"), "12345").expect("a file");
    fs::write(at.join("b.txt"), "123").expect("a file");
    let server = Server::with(at, &["--deny", "read=a.txt"], Stdio::null());
    assert_eq!(ok(at, &["run", "reads.df", "b.txt"]), "3");
    for args in [
        &["run", "reads.df", "a.txt"][..],
        &["run", "reads.df", "b.txt", "--deny", "fs"],
        &["run", "reads.df", "a.txt", "--allow", "read"],
    ] {
        let refused = durable(at, args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(err(&refused).contains("not_permitted"), "{}", err(&refused));
    }
    // Relative paths would mean other files.
    fs::create_dir(at.join("below")).expect("a folder");
    let elsewhere = durable(&at.join("below"), &["run", "../reads.df", "b.txt", "--store", "../.durable"]);
    assert_eq!(elsewhere.status.code(), Some(4));
    assert!(err(&elsewhere).contains("the paths of the script mean other files"), "{}", err(&elsewhere));
    drop(server);
}

/// A script that another process ran goes on here if that process ends, and an interrupt suspends
/// it.
#[test]
fn a_guest_takes_over_and_can_be_interrupted() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("counts.df"), "for i in 0..6 { print(i); sleep(300ms) }\n").expect("a script");
    let server = Server::new(at);
    let guest = |id: &str| {
        let mut command = Command::new(DURABLE);
        command.current_dir(at).args(["run", "counts.df", "--id", id]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("durable runs")
    };
    let begun = |id: &str| await_that(|| ok(at, &["history", id, "--output"]).contains('1'));
    let interrupted = guest("i");
    await_that(|| durable(at, &["show", "i"]).status.success());
    begun("i");
    Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status().expect("kill runs");
    let interrupted = interrupted.wait_with_output().expect("ended");
    assert_eq!(interrupted.status.code(), Some(130));
    assert!(
        err(&interrupted).contains("i is suspended; go on with: durable unsuspend i"),
        "{}",
        err(&interrupted)
    );
    assert_eq!(ok(at, &["status", "i"]), "suspended");
    let taken = guest("t");
    await_that(|| durable(at, &["show", "t"]).status.success());
    begun("t");
    server.kill();
    let taken = taken.wait_with_output().expect("ended");
    assert!(taken.status.success(), "{}", err(&taken));
    assert!(err(&taken).contains("going on with t here"), "{}", err(&taken));
    // The line that it showed last may come twice.
    let shown = out(&taken);
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.dedup();
    assert_eq!(lines, ["0", "1", "2", "3", "4", "5"]);
}

/// The message that a store is in use names the command that has it, and says when that process is
/// stopped.
#[test]
fn who_has_the_store_is_named() {
    let folder = folder();
    let at = folder.path();
    let server = Server::new(at);
    let refused = durable(at, &["repl"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        err(&refused).contains(&format!("in use by process {}, which is `durable serve`", server.id())),
        "{}",
        err(&refused)
    );
    Command::new("kill").args(["-STOP", &server.id().to_string()]).status().expect("kill runs");
    await_that(|| err(&durable(at, &["list"])).contains("which is `durable serve` and is stopped"));
    let stopped = durable(at, &["run", "bank.df"]);
    assert_eq!(stopped.status.code(), Some(4));
    assert!(err(&stopped).contains("`kill -CONT"), "{}", err(&stopped));
    Command::new("kill").args(["-CONT", &server.id().to_string()]).status().expect("kill runs");
    await_that(|| durable(at, &["list"]).status.success());
}

/// Instances are listed by conditions, and in pages.
#[test]
fn lists_are_filtered_and_paged() {
    let folder = folder();
    let at = folder.path();
    fs::write(
        at.join("orders.df"),
        "orchestration order(n, phase) { set_status({phase}); if n == 3 { throw {kind: \"odd\"} }; sub(n) }\n\
         orchestration sub(n) => n\n",
    )
    .expect("a program");
    for (n, phase) in [("1", "paid"), ("2", "open"), ("3", "paid")] {
        durable(at, &["start", "orders.df", "order", n, phase, "--id", &format!("o{n}"), "--wait"]);
    }
    let ids = |args: &[&str]| -> Vec<String> {
        let listed = ok(at, &[&["list", "--json"], args].concat());
        let id =
            |line: &str| serde_json::from_str::<Json>(line).expect("JSON")["id"].as_str().map(str::to_string);
        listed.lines().filter_map(id).collect()
    };
    assert_eq!(ids(&["--roots"]), ["o1", "o2", "o3"]);
    assert_eq!(ids(&[]).len(), 5);
    assert_eq!(ids(&["--where", "custom.phase == \"paid\""]), ["o1", "o3"]);
    assert_eq!(ids(&["--where", "custom.phase == \"paid\" && status == \"failed\""]), ["o3"]);
    assert_eq!(ids(&["--where", "error?.kind == \"odd\""]), ["o3"]);
    assert_eq!(ids(&["--where", "ended != null && ended - created < 1h", "--roots"]), ["o1", "o2", "o3"]);
    assert_eq!(ids(&["--status", "failed,completed", "--roots"]), ["o1", "o2", "o3"]);
    assert_eq!(ids(&["--status", "failed"]), ["o3"]);
    assert_eq!(ids(&["--ended-after", "1h", "--roots"]), ["o1", "o2", "o3"]);
    assert_eq!(ids(&["--ended-before", "1h"]), [""; 0]);
    let page = durable(at, &["list", "--roots", "--limit", "2"]);
    assert!(err(&page).contains("there are more; go on with: --from o3"), "{}", err(&page));
    assert_eq!(out(&page).lines().count(), 3);
    assert_eq!(ids(&["--roots", "--limit", "2", "--from", "o3"]), ["o3"]);
    let none = durable(at, &["list", "--where", "custom.nothing == 1"]);
    assert!(
        none.status.success() && err(&none).contains("the condition fails: missing_field"),
        "{}",
        err(&none)
    );
    for (condition, code) in [("custom.phase", 2), ("custom ==", 3), ("nothing == 1", 3)] {
        assert_eq!(durable(at, &["list", "--where", condition]).status.code(), Some(code), "{condition}");
    }
    let effect = durable(at, &["list", "--where", "fs.exists(\"bank.df\")"]);
    assert!(err(&effect).contains("is not allowed in"), "{}", err(&effect));
    ok(at, &["purge", "--where", "custom.phase == \"open\""]);
    assert_eq!(ids(&["--roots"]), ["o1", "o3"]);
}

/// Arguments are read as `--json` writes values.
#[test]
fn arguments_are_read_as_they_are_written() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("kinds.df"), "orchestration kinds(x) => [kind_of(x), x]\nprint(kind_of(args))\n")
        .expect("a program");
    for (given, kind) in [
        (r#"{"$duration": "5s"}"#, "duration"),
        (r#"{"$instant": "2026-03-01T12:00:00Z"}"#, "instant"),
        (r#"{"$bytes": "AAEC"}"#, "bytes"),
        (r#"{"$entity": "Account", "key": "ada"}"#, "entity"),
        (r#"{"a": 1}"#, "record"),
        ("5s", "string"),
        ("5", "int"),
    ] {
        let shown = json(at, &["start", "kinds.df", "kinds", given, "--wait", "--json"]);
        assert_eq!(shown["result"][0], kind, "{given}");
        if given.starts_with("{\"$") {
            assert_eq!(shown["result"][1], serde_json::from_str::<Json>(given).expect("JSON"));
            assert_eq!(ok(at, &["run", "kinds.df", "--input", given]), kind);
        }
    }
    for bad in ["{a: 1}", "[1,", "\"x", r#"{"$duration": "soon"}"#] {
        assert_eq!(durable(at, &["start", "kinds.df", "kinds", bad]).status.code(), Some(2), "{bad}");
    }
}

/// An instance goes on with the sources that it began with, even if the files change.
#[test]
fn the_file_is_edited_renamed_and_deleted() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let text = "import \"lib.df\" as lib\norchestration f(n) { let x = receive(\"go\"); lib.version() + \" \" + x }\n";
    fs::write(at.join("p.df"), text).expect("a program");
    fs::write(at.join("lib.df"), "fn version() => \"first\"\n").expect("a module");
    for id in ["edited", "renamed", "deleted"] {
        ok(at, &["start", "p.df", "f", "1", "--id", id]);
    }
    let go = |id: &str| {
        ok(at, &["raise", id, "go", id]);
        json(at, &["wait", id, "--json"])["result"].as_str().expect("text").to_string()
    };
    fs::write(at.join("lib.df"), "fn version() => \"second\"\n").expect("a module");
    assert_eq!(go("edited"), "first edited");
    ok(at, &["start", "p.df", "f", "1", "--id", "newer"]);
    fs::rename(at.join("lib.df"), at.join("other.df")).expect("renamed");
    assert_eq!(go("renamed"), "first renamed");
    fs::remove_file(at.join("p.df")).expect("deleted");
    fs::remove_file(at.join("other.df")).expect("deleted");
    assert_eq!(go("deleted"), "first deleted");
    assert_eq!(go("newer"), "second newer");
    // Programs are kept while an instance needs them.
    assert_eq!(ok(at, &["programs", "--json"]).lines().count(), 2);
    ok(at, &["purge", "--status", "completed"]);
    assert_eq!(ok(at, &["programs", "--json"]), "");
}

/// Operations run the newest deployed program; instances run their own.
#[test]
fn entities_run_the_newest_program() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let program = |name: &str| {
        format!(
            "entity E {{ state 0; on v() => \"{name}\" }}\norchestration f() {{ receive(\"go\"); [\"{name}\", E(1).v()] }}\n"
        )
    };
    fs::write(at.join("p.df"), program("old")).expect("a program");
    ok(at, &["start", "p.df", "f", "--id", "a"]);
    fs::write(at.join("p.df"), program("new")).expect("a program");
    ok(at, &["start", "p.df", "f", "--id", "b"]);
    for (id, own) in [("a", "old"), ("b", "new")] {
        ok(at, &["raise", id, "go"]);
        assert_eq!(json(at, &["wait", id, "--json"])["result"], serde_json::json!([own, "new"]));
    }
    assert!(ok(at, &["programs"]).contains("1          0           E"), "{}", ok(at, &["programs"]));
}

/// A rewound instance repeats its failed step: an activity, a child's activity, or an operation.
#[test]
fn rewind() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let text = r#"
activity reads(name) { if !fs.exists(name) { throw {kind: "missing", message: name} }; fs.read(name) }
activity notes(n) { fs.append("notes", "{n}\n"); n }
entity Door { state 0; on open() { if !fs.exists("key") { throw {kind: "locked"} }; state += 1; state } }
orchestration inner() => reads("there")
orchestration outer() { notes(1); let x = inner(); notes(2); x }
orchestration door() { notes(3); Door(1).open() }
orchestration own(n) { throw {kind: "own"} }
"#;
    fs::write(at.join("p.df"), text).expect("a program");
    for (name, file) in [("outer", "there"), ("door", "key")] {
        assert_eq!(durable(at, &["start", "p.df", name, "--wait"]).status.code(), Some(1));
        let id = format!("{name}-1");
        assert_eq!(ok(at, &["status", &id]), "failed");
        // Without a change, the instance fails again.
        ok(at, &["rewind", &id]);
        assert_eq!(durable(at, &["wait", &id]).status.code(), Some(1));
        fs::write(at.join(file), "now").expect("a file");
        ok(at, &["rewind", &id]);
        assert_eq!(ok(at, &["status", &id]), "running");
        ok(at, &["wait", &id]);
        ok(at, &["replay", &id]);
    }
    // The steps before the failed one were not repeated.
    assert_eq!(fs::read_to_string(at.join("notes")).expect("notes"), "1\n2\n3\n");
    assert_eq!(ok(at, &["entity", "Door@1"]), "state      1");
    assert_eq!(durable(at, &["start", "p.df", "own", "1", "--wait"]).status.code(), Some(1));
    let own = durable(at, &["rewind", "own-1"]);
    assert!(err(&own).contains("failed in its own code"), "{}", err(&own));
    assert!(err(&durable(at, &["rewind", "door-1"])).contains("has not failed"));
    assert_eq!(durable(at, &["rewind", "nobody"]).status.code(), Some(5));
    ok(at, &["store", "verify"]);
}

/// An export has the whole store, and an import restores it: states, holders, waiting messages.
#[test]
fn export_and_import() {
    let folder = folder();
    let at = folder.path();
    let server = Server::new(at);
    ok(at, &["start", "bank.df", "holds", "x", "--id", "h"]);
    ok(at, &["start", "bank.df", "holds", "x", "--id", "i"]);
    ok(at, &["start", "bank.df", "transfer", "a", "b", "5", "--id", "t"]);
    await_that(|| ok(at, &["locks"]).contains("i since"));
    ok(at, &["signal", "Account@x", "deposit", "1"]);
    ok(at, &["raise", "i", "go", "early"]);
    server.kill();
    let first = ok(at, &["store", "export"]);
    fs::write(at.join("export"), &first).expect("written");
    ok(at, &["store", "import", "export", "--store", "copy"]);
    let second = ok(at, &["store", "export", "--store", "copy"]);
    let lines = |text: &str| -> Vec<String> { text.lines().skip(1).map(str::to_string).collect() };
    assert_eq!(lines(&first), lines(&second));
    for kind in ["entity", "lock", "message", "active", "deployed", "instance", "history"] {
        assert!(first.contains(&format!("\"type\":\"{kind}\"")) || kind == "active", "no {kind} in\n{first}");
    }
    ok(at, &["raise", "h", "go", "--store", "copy"]);
    ok(at, &["resume", "--store", "copy"]);
    assert_eq!(ok(at, &["entity", "Account@x", "--store", "copy"]), "state      {balance: 101}");
    assert_eq!(json(at, &["wait", "i", "--json", "--store", "copy"])["result"], "early");
    ok(at, &["store", "verify", "--store", "copy"]);
}

#[test]
fn wrong_arguments() {
    let folder = folder();
    let at = folder.path();
    let code = |args: &[&str]| durable(at, args).status.code();
    let start = durable(at, &["start", "bank.df", "transfr", "1", "2"]);
    assert_eq!(start.status.code(), Some(2));
    assert!(err(&start).contains("did you mean `transfer`?"), "{}", err(&start));
    let few = durable(at, &["start", "bank.df", "transfer", "1"]);
    assert_eq!((few.status.code(), err(&few).contains("takes 2 to 3 arguments, 1 given")), (Some(2), true));
    assert_eq!(code(&["start", "bank.df", "approval", "--id", "two words"]), Some(2));
    assert_eq!(code(&["raise", "nobody", "x"]), Some(4), "there is no store yet, and none is made by asking");
    ok(at, &["start", "bank.df", "transfer", "1", "2"]);
    assert_eq!(code(&["raise", "nobody", "x"]), Some(5));
    assert_eq!(code(&["terminate", "nobody"]), Some(5));
    assert_eq!(code(&["suspend", "nobody"]), Some(5));
    assert_eq!(code(&["wait", "nobody"]), Some(5));
    assert_eq!(code(&["status", "nobody"]), Some(5));
    assert_eq!(code(&["signal", "Account", "deposit"]), Some(2));
    assert_eq!(code(&["signal", "Account@a", "deposit", "--after", "soon"]), Some(2));
}

/// Many instances and entities run on a server that is killed again and again. Only the export is
/// checked.
#[test]
fn kill_storm() {
    let folder = folder();
    let at = folder.path();
    let (instances, transfers) = (12, 25);
    for seed in 0..instances {
        let (seed, count) = (seed.to_string(), transfers.to_string());
        ok(at, &["start", "bank.df", "many", &seed, &count, "--id", &format!("m{seed}")]);
    }
    let mut random = Random::new(5);
    for _ in 0..12 {
        let server = Server::new(at);
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        server.kill();
    }
    ok(at, &["resume"]);
    let export = ok(at, &["store", "export"]);
    let lines: Vec<Json> = export.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &'static str| lines.iter().filter(move |line| line["type"] == kind);
    let total: i64 = of("entity").map(|entity| entity["state"]["balance"].as_i64().expect("a balance")).sum();
    assert_eq!(total, 1_000, "money was made or lost");
    assert_eq!((of("lock").count(), of("message").count(), of("active").count()), (0, 0, 0));
    let records: Vec<&Json> = of("instance").collect();
    assert_eq!(records.len(), instances + instances * transfers);
    assert!(records.iter().all(|record| record["status"] == "completed"));
    // Each request was answered once, and each account has the sum of all transfers.
    let mut answered = std::collections::HashSet::new();
    for chunk in of("history") {
        for entry in chunk["entries"].as_array().expect("entries") {
            if entry["kind"] == "answered" {
                let key = (chunk["instance"].to_string(), entry["seq"].to_string());
                assert!(answered.insert(key.clone()), "{key:?} is answered twice");
            }
        }
    }
    let mut balances = [100i64; 10];
    for seed in 0..instances as i64 {
        for i in 0..transfers as i64 {
            balances[((seed + i) % 10) as usize] -= i;
            balances[((seed + i * 3 + 1 + i % 2) % 10) as usize] += i;
        }
    }
    for (key, balance) in balances.iter().enumerate() {
        let shown = of("entity").find(|entity| entity["entity"] == format!("Account@{key}"));
        assert_eq!(shown.expect("an account")["state"]["balance"], *balance, "Account@{key}");
    }
    ok(at, &["store", "verify"]);
}

const DEADLINES: &str = r#"
orchestration order() {
  match race({go: async receive("go"), late: async sleep(4s)}) { {go} => "go {go}", {late} => "late" }
}
orchestration child() { receive("end"); "done" }
orchestration caller(id) { try { child() with {id, timeout: 4s} } catch e { e.kind } }
fn first() => match race({b: async receive("b"), a: async receive("a")}) { {a} => "a{a}", {b} => "b{b}" }
orchestration both() => [first(), first(), first()]
"#;

#[test]
fn an_event_and_a_deadline_while_nobody_runs() {
    let ended = [false, true].map(|by_force| {
        std::thread::spawn(move || {
            let folder = TempDir::new().expect("a folder");
            let at = folder.path();
            fs::write(at.join("a.df"), DEADLINES).expect("a program");
            let server = Server::new(at);
            for id in ["early", "late", "never"] {
                ok(at, &["start", "a.df", "order", "--id", id]);
            }
            ok(at, &["start", "a.df", "caller", "in-time", "--id", "in-time-caller"]);
            ok(at, &["start", "a.df", "both", "--id", "both"]);
            await_that(|| {
                json(at, &["show", "both", "--json"])["waits_for"].as_array().is_some_and(|w| w.len() == 2)
            });
            await_that(|| durable(at, &["show", "in-time"]).status.success());
            server.end(by_force);
            ok(at, &["raise", "early", "go", "1"]);
            for (event, payload) in [("a", "1"), ("b", "2"), ("a", "3")] {
                ok(at, &["raise", "both", event, payload]);
            }
            ok(at, &["raise", "in-time", "end"]);
            std::thread::sleep(Duration::from_millis(4500));
            ok(at, &["raise", "late", "go", "2"]);
            let server = Server::new(at);
            let result = |id: &str| json(at, &["wait", id, "--json"])["result"].clone();
            let results = ["early", "late", "never", "both", "in-time-caller"].map(result);
            server.end(by_force);
            results.map(|result| result.to_string())
        })
    });
    for results in ended {
        // The child ended only in the second process, after the deadline of its caller.
        let wanted = [r#""go 1""#, r#""late""#, r#""late""#, r#"["a1","b2","a3"]"#, r#""timeout""#];
        assert_eq!(results.join().expect("it ran"), wanted);
    }
}

#[test]
fn suspended_over_a_deadline() {
    let ended = [None, Some(false), Some(true)].map(|restarts| {
        std::thread::spawn(move || {
            let folder = TempDir::new().expect("a folder");
            let at = folder.path();
            fs::write(at.join("a.df"), DEADLINES).expect("a program");
            let mut server = Server::new(at);
            for id in ["early", "late"] {
                ok(at, &["start", "a.df", "order", "--id", id]);
            }
            for id in ["in-time", "too-late"] {
                ok(at, &["start", "a.df", "caller", id, "--id", &format!("{id}-caller")]);
                await_that(|| durable(at, &["show", id]).status.success());
            }
            let held_up = ["early", "late", "in-time-caller", "too-late-caller"];
            for id in held_up {
                ok(at, &["suspend", id]);
            }
            ok(at, &["raise", "early", "go", "1"]);
            ok(at, &["raise", "in-time", "end"]);
            ok(at, &["wait", "in-time"]);
            if let Some(by_force) = restarts {
                server.end(by_force);
                server = Server::new(at);
            }
            std::thread::sleep(Duration::from_millis(4500));
            ok(at, &["raise", "late", "go", "2"]);
            for id in held_up {
                ok(at, &["unsuspend", id]);
            }
            let results = held_up.map(|id| json(at, &["wait", id, "--json"])["result"].to_string());
            server.kill();
            results
        })
    });
    for results in ended {
        let wanted = [r#""go 1""#, r#""late""#, r#""done""#, r#""timeout""#];
        assert_eq!(results.join().expect("it ran"), wanted);
    }
}

#[test]
fn what_is_due_is_shown() {
    let folder = TempDir::new().expect("a folder");
    let at = folder.path();
    let text = r#"
        activity fails() with {timeout: 1h, retry: {times: 3, first: 30m}} { throw {kind: "odd"} }
        activity slow() with {timeout: 2h} { sleep(1d) }
        orchestration waits() { receive("go") }
        orchestration o() { all([async sleep(3h), async fails(), async slow(), async receive("x"), async (waits() with {timeout: 4h})]) }
    "#;
    fs::write(at.join("a.df"), text).expect("a program");
    let server = Server::new(at);
    ok(at, &["start", "a.df", "o", "--id", "o"]);
    let pending = || json(at, &["show", "o", "--json"])["pending"].clone();
    await_that(|| pending().to_string().contains("next_attempt"));
    let shown = pending();
    let began: jiff::Timestamp =
        json(at, &["show", "o", "--json"])["created"].as_str().expect("a time").parse().expect("a time");
    let hours = |json: &Json| {
        let at: jiff::Timestamp = json.as_str().expect("a time").parse().expect("a time");
        (at.duration_since(began).as_secs_f64() / 3600.0 * 100.0).round() / 100.0
    };
    assert_eq!(hours(&shown[0]["wakes"]), 3.0, "{shown}");
    assert_eq!((hours(&shown[1]["next_attempt"]), hours(&shown[1]["deadline"])), (0.5, 1.5), "{shown}");
    assert_eq!(hours(&shown[2]["deadline"]), 2.0, "{shown}");
    assert_eq!(shown[3], serde_json::json!({"seq": 3, "what": "receive(\"x\")"}));
    assert_eq!(hours(&shown[4]["deadline"]), 4.0, "{shown}");
    let history = ok(at, &["history", "o", "--json"]);
    let asked: Vec<Json> = history.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(asked[0]["wakes"], shown[0]["wakes"]);
    assert!(asked.iter().any(|entry| entry["next_attempt"] == shown[1]["next_attempt"]), "{history}");
    for text in [ok(at, &["history", "o"]), ok(at, &["show", "o"])] {
        assert!(text.contains("sleep(3h), wakes 20") && text.contains(", next attempt 20"), "{text}");
        assert!(text.matches(", deadline 20").count() == 3, "{text}");
    }
    server.kill();
    // Without a process that has the store, the command shows the same.
    assert_eq!(pending(), shown);
}
