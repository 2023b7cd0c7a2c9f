//! The lives of an id: nothing of one life reaches another. Stores of the version before lives can
//! be used.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use common::DURABLE;
use common::place::{Place, Server, durable, err, ok, out};
use durable::engine::{Checkpoint, Hold, keys, read_holds, read_mail, read_record};
use durable::kv::Read;
use serde_json::Value as Json;
use tempfile::TempDir;

/// Makes a store of format 4, by the version before lives.
///
/// - `counts` has a checkpoint and no history before it.
/// - `holds` has two entities and waits for `go`. `asks` waits for one of the entities; `calls`
///   calls the other.
/// - `parent` is suspended. Its child `named` has an event that it does not wait for. Its child
///   `parent:1` has ended and sent its result.
/// - `a:0` has an id in a form that is now automatic.
/// - A signal is delayed by an hour.
fn earlier_store() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let store = folder.path().join(".durable");
    fs::create_dir(&store).expect("a folder");
    let mut wal = include_bytes!("stores/format_4.wal").to_vec();
    wal.resize(128 << 10, 0);
    fs::write(store.join("wal"), wal).expect("a file");
    fs::write(store.join("watermark"), include_str!("stores/format_4.watermark")).expect("a file");
    folder
}

#[test]
fn a_store_without_lives_is_read() {
    let folder = earlier_store();
    let store = durable::store::open(&folder.path().join(".durable")).expect("it opens");
    let record = |id: &str| read_record(&store, id).expect("a record").expect("an instance");
    assert_eq!((record("parent").life, record("named").parent.map(|of| of.id)), (0, Some("parent".into())));
    assert_eq!(record("named").waiters[0].seq, 0);
    let holds: Vec<(String, Hold)> = read_holds(&store)
        .expect("holds")
        .into_iter()
        .map(|(entity, hold)| (entity.to_string(), hold))
        .collect();
    assert!(holds.iter().all(|(_, hold)| hold.owner.is_of("holds", 0)), "{holds:?}");
    assert_eq!(holds.len(), 2);
    let mail = read_mail(&store).expect("mail");
    let words: Vec<&str> = mail.iter().map(|(_, _, mail)| mail.message.word()).collect();
    assert_eq!(words, ["call", "lock", "signal", "event"]);
    assert!(mail.iter().all(|(_, _, mail)| mail.time == 0));
    let checkpoint = store.get(&keys::checkpoint("counts")).expect("a read").expect("a checkpoint");
    let checkpoint = Checkpoint::decode(&checkpoint).expect("a readable one");
    assert_eq!((checkpoint.life, checkpoint.trimmed), (0, true));
}

#[test]
fn a_store_without_lives_goes_on() {
    let earlier = earlier_store();
    let folder = earlier.path();
    ok(folder, &["unsuspend", "parent"]);
    for (id, event, value) in
        [("named", "go", "5"), ("parent", "begin", "100"), ("holds", "go", "7"), ("a:0", "go", "4")]
    {
        ok(folder, &["raise", id, event, value]);
    }
    for (id, result) in
        [("parent", "[6,42,100]"), ("holds", "7"), ("calls", "10"), ("asks", "1"), ("a:0", "7")]
    {
        let shown: Json = serde_json::from_str(&ok(folder, &["wait", id, "--json"])).expect("JSON");
        assert_eq!(shown["result"].to_string(), result, "{id}");
    }
    ok(folder, &["store", "verify"]);
    // New instances have a life, which is part of their idempotency keys.
    fs::write(folder.join("key.df"), "activity key() => idempotency_key()\nprint(key())").expect("a program");
    let key = ok(folder, &["run", "key.df", "--id", "key"]);
    assert!(key.starts_with("key-") && key.ends_with(".1.0-0"), "{key}");
}

/// Makes a folder with a program.
fn folder(name: &str, text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join(name), text).expect("a program");
    folder
}

const TREE: &str = "
orchestration leaf(n) { if n == \"bad\" { throw {kind: \"bad\", message: \"{n} of old\"} }; \"leaf of {n}\" }
orchestration child(n) => leaf(n)
orchestration waits() => receive(\"go\")
let n = args[0]
if args.len() > 1 { start waits() }
try { print(child(n)) } catch e { print(e.message) }
";

#[test]
fn nothing_of_a_purged_life_reaches_the_next() {
    let folder = folder("a.df", TREE);
    let at = folder.path();
    for (args, printed) in
        [(["1"], "leaf of 1"), (["2"], "leaf of 2"), (["bad"], "bad of old"), (["3"], "leaf of 3")]
    {
        assert_eq!(ok(at, &["run", "a.df", args[0]]), printed);
        assert_eq!(
            err(&durable(at, &["purge", "a-1"])).trim(),
            "removed a-1 and 2 that it called or started"
        );
        assert_eq!(ok(at, &["list", "--json"]), "");
    }
    // The same holds if the file changes in between.
    ok(at, &["run", "a.df", "1"]);
    ok(at, &["purge", "a-1"]);
    fs::write(at.join("a.df"), TREE.replace("leaf of", "new leaf of")).expect("a program");
    assert_eq!(ok(at, &["run", "a.df", "1"]), "new leaf of 1");
    ok(at, &["store", "verify"]);
}

#[test]
fn a_tree_with_something_that_runs_is_not_purged() {
    let folder = folder("a.df", TREE);
    let at = folder.path();
    ok(at, &["run", "a.df", "1", "too"]);
    let refused = durable(at, &["purge", "a-1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("a-1:0 has not ended"), "{}", err(&refused));
    assert_eq!(ok(at, &["list", "--json"]).lines().count(), 4, "nothing is removed");
    // An event from before the purge does not reach the next life.
    ok(at, &["raise", "a-1:0", "other", "1"]);
    ok(at, &["purge", "a-1", "--force"]);
    let left = ok(at, &["store", "export"]);
    let of_the_store = |line: &&str| {
        ["store", "life", "time"].iter().any(|kind| line.contains(&format!("\"type\":\"{kind}\"")))
    };
    assert_eq!(left.lines().filter(|line| !of_the_store(line)).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(ok(at, &["run", "a.df", "2", "too"]), "leaf of 2");
    assert_eq!(ok(at, &["status", "a-1:0"]), "running");
    ok(at, &["raise", "a-1:0", "go", "9"]);
    assert_eq!(ok(at, &["wait", "a-1:0"]), "9");
}

const DETACHED: &str = "
orchestration kid() => receive(\"go\")
orchestration first() => kid() with {id: \"k\", detached: true}
orchestration second() { let a = async receive(\"a\"); let b = async receive(\"b\"); [await a, await b] }
";

/// The result of a child that outlives its caller reaches no later life of the caller's id.
#[test]
fn an_answer_to_a_purged_life_is_dropped() {
    for (serves, kills) in [(false, false), (true, false), (true, true)] {
        let folder = folder("d.df", DETACHED);
        let at = folder.path();
        ok(at, &["start", "d.df", "first", "--id", "x"]);
        let mut server = Some(Server::new(at));
        while durable(at, &["status", "k"]).status.code() != Some(0) {}
        if !serves {
            server.take().expect("a server").kill();
        }
        ok(at, &["terminate", "x"]);
        ok(at, &["purge", "x"]);
        ok(at, &["start", "d.df", "second", "--id", "x"]);
        if kills {
            server.take().expect("a server").kill();
            server = Some(Server::new(at));
        }
        ok(at, &["raise", "k", "go", "\"of the old\""]);
        assert_eq!(ok(at, &["wait", "k"]), "of the old");
        ok(at, &["raise", "x", "a", "1"]);
        ok(at, &["raise", "x", "b", "2"]);
        assert_eq!(ok(at, &["wait", "x"]), "[1, 2]", "{serves} {kills}");
        drop(server);
        ok(at, &["store", "verify"]);
    }
}

/// Concurrent starts get different ids, with and without a server.
#[test]
fn starts_at_once_are_as_many_instances() {
    for serves in [true, false] {
        let folder = folder("svc.df", "orchestration order(n) => n\n");
        let at = folder.path();
        ok(at, &["start", "svc.df", "order", "0"]);
        let server = serves.then(|| Server::new(at));
        let start = |n: u32| {
            let mut command = Command::new(DURABLE);
            command.current_dir(at).args(["start", "svc.df", "order", &n.to_string()]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("durable runs")
        };
        let all: Vec<Child> = (1..40).map(start).collect();
        let mut ids = BTreeSet::from(["order-1".to_string()]);
        for child in all {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", err(&output));
            let id = out(&output).trim_end().to_string();
            assert!(ids.insert(id), "{} twice", out(&output));
        }
        drop(server);
        ok(at, &["resume"]);
        let results: BTreeSet<String> = ids.iter().map(|id| ok(at, &["wait", id])).collect();
        assert_eq!(results.len(), 40, "{results:?}");
    }
}

#[test]
fn ids_of_children_can_not_be_chosen() {
    let folder = folder("svc.df", "orchestration f(n) => n\norchestration g() => f(2)\n");
    let at = folder.path();
    for args in [&["start", "svc.df", "f", "1", "--id", "job:0"][..], &["run", "svc.df", "--id", "job:0"]] {
        let refused = durable(at, args);
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(err(&refused).contains("`job:0` can't be an id"), "{}", err(&refused));
    }
    ok(at, &["start", "svc.df", "g", "--id", "job"]);
    assert_eq!(ok(at, &["wait", "job"]), "2");
    assert_eq!(ok(at, &["wait", "job:0"]), "2");
    assert!(ok(at, &["show", "job:0"]).contains("f"));
}

#[test]
fn a_known_id_on_the_command_line() {
    let folder = folder("svc.df", "orchestration f(n) => n\nprint(\"runs\")\nargs\n");
    let at = folder.path();
    assert_eq!(ok(at, &["start", "svc.df", "f", "1", "--id", "x", "--wait"]), "1");
    assert_eq!(ok(at, &["start", "svc.df", "f", "1.0", "--id", "x", "--wait"]), "1");
    for exists in [&[][..], &["--if-exists", "fail"]] {
        let taken = durable(at, &[&["start", "svc.df", "f", "2", "--id", "x"], exists].concat());
        assert_eq!(taken.status.code(), Some(1));
        assert!(err(&taken).contains("`f(1)`") && err(&taken).contains("`f(2)`"), "{}", err(&taken));
    }
    assert_eq!(ok(at, &["start", "svc.df", "f", "2", "--id", "x", "--if-exists", "replace", "--wait"]), "2");
    // The same for runs.
    assert_eq!(ok(at, &["run", "svc.df", "a", "--id", "r"]), "runs");
    assert_eq!(ok(at, &["run", "svc.df", "a", "--id", "r"]), "[\"a\"]", "the result of one that has ended");
    let taken = durable(at, &["run", "svc.df", "b", "--id", "r"]);
    assert_eq!(
        (taken.status.code(), err(&taken).contains("script([\"b\"])")),
        (Some(1), true),
        "{}",
        err(&taken)
    );
    assert_eq!(
        durable(at, &["run", "svc.df", "a", "--id", "r", "--if-exists", "fail"]).status.code(),
        Some(1)
    );
    assert_eq!(ok(at, &["run", "svc.df", "b", "--id", "r", "--if-exists", "replace"]), "runs");
    assert_eq!(ok(at, &["run", "svc.df", "b", "--id", "r"]), "[\"b\"]");
    let unknown = durable(at, &["run", "svc.df", "--id", "r", "--if-exists", "merge"]);
    assert!(
        unknown.status.code() == Some(2) && err(&unknown).contains("join, fail, replace"),
        "{}",
        err(&unknown)
    );
}

#[test]
fn a_restart_is_another_instance() {
    let text = "orchestration f(n) { if n == \"bad\" { throw {kind: \"bad\"} }; [n, self.id] }\n";
    let folder = folder("svc.df", &format!("{text}orchestration waits() => receive(\"go\")\n"));
    let at = folder.path();
    assert_eq!(ok(at, &["start", "svc.df", "f", "1", "--id", "x", "--wait"]), "[1, \"x\"]");
    fs::remove_file(at.join("svc.df")).expect("it was there");
    assert_eq!(ok(at, &["restart", "x"]), "f-1");
    assert_eq!(ok(at, &["wait", "f-1"]), "[1, \"f-1\"]");
    assert_eq!(ok(at, &["restart", "x", "--id", "y", "--wait"]), "[1, \"y\"]");
    let known = durable(at, &["restart", "x", "--id", "y"]);
    assert_eq!((known.status.code(), err(&known).contains("`y`")), (Some(1), true), "{}", err(&known));
    assert_eq!(ok(at, &["restart", "x", "--id", "x", "--wait"]), "[1, \"x\"]");
    assert_eq!(durable(at, &["restart", "nobody"]).status.code(), Some(5));
    assert_eq!(durable(at, &["restart", "x", "--id", "a:b"]).status.code(), Some(2));
    // A running instance can be restarted under another id, but not replaced.
    fs::write(at.join("svc.df"), format!("{text}orchestration waits() => receive(\"go\")\n"))
        .expect("a program");
    ok(at, &["start", "svc.df", "waits", "--id", "w"]);
    assert_eq!(ok(at, &["restart", "w", "--id", "v"]), "v");
    let refused = durable(at, &["restart", "w", "--id", "w"]);
    assert_eq!(
        (refused.status.code(), err(&refused).contains("has not ended")),
        (Some(1), true),
        "{}",
        err(&refused)
    );
    for id in ["v", "w"] {
        ok(at, &["raise", id, "go", "3"]);
        assert_eq!(ok(at, &["wait", id]), "3");
    }
}

#[test]
fn results_are_shown_to_who_waits() {
    let text = "orchestration f(n) { if n == \"bad\" { throw {kind: \"bad\", message: \"no\"} }; n }\n";
    let folder = folder("svc.df", &format!("{text}orchestration waits() => receive(\"go\")\n"));
    let at = folder.path();
    for (given, shown) in [("text", "text"), ("[1,{\"a\":2}]", "[1, {a: 2}]"), ("null", "null")] {
        assert_eq!(ok(at, &["start", "svc.df", "f", given, "--wait"]), shown);
    }
    assert_eq!(ok(at, &["wait", "f-1"]), "text");
    assert_eq!(ok(at, &["wait", "f-1", "--json"]), r#"{"id":"f-1","status":"completed","result":"text"}"#);
    let failed = durable(at, &["start", "svc.df", "f", "bad", "--wait"]);
    assert_eq!((failed.status.code(), out(&failed).as_str()), (Some(1), ""));
    assert!(err(&failed).contains("no"), "{}", err(&failed));
    ok(at, &["start", "svc.df", "waits", "--id", "w"]);
    ok(at, &["terminate", "w", "too late"]);
    let terminated = durable(at, &["wait", "w"]);
    assert_eq!((terminated.status.code(), out(&terminated).as_str()), (Some(1), ""));
    assert!(err(&terminated).contains("w was terminated: too late"), "{}", err(&terminated));
}

/// An export has the lives that purged instances used up.
#[test]
fn lives_go_with_an_export() {
    let folder = folder("key.df", "activity key() => idempotency_key()\nprint(key())\n");
    let at = folder.path();
    let first = ok(at, &["run", "key.df", "--id", "k"]);
    ok(at, &["purge", "k"]);
    let second = ok(at, &["run", "key.df", "--id", "k"]);
    ok(at, &["store", "export", "all.jsonl"]);
    ok(at, &["store", "import", "all.jsonl", "--store", "copy"]);
    ok(at, &["purge", "k", "--store", "copy"]);
    let third = ok(at, &["run", "key.df", "--id", "k", "--store", "copy"]);
    let life = |key: &str| key.split('.').nth(1).map(str::to_string);
    assert_eq!(
        [life(&first), life(&second), life(&third)],
        ["1", "2", "3"].map(|life| Some(life.to_string()))
    );
}

/// A purge removes the programs that no instance needs any more, and no others.
#[test]
fn a_purge_leaves_the_programs_of_others() {
    let place = Place::new("print(\"first\")\n");
    place.ok(&["run", "p.df", "--id", "a"]);
    place.put("p.df", "orchestration waits() { receive(\"go\") }\nlet h = start waits() with {id: \"w\"}\nprint(\"second\")\n");
    place.ok(&["run", "p.df", "--id", "b"]);
    place.put("p.df", "print(\"third\")\n");
    place.ok(&["run", "p.df", "--id", "c"]);
    place.ok(&["purge", "c"]);
    assert_eq!(place.ok(&["replay", "a"]), "first");
    assert_eq!(place.ok(&["replay", "b"]), "second");
    let programs = place.ok(&["programs", "--json"]);
    assert_eq!(programs.lines().count(), 2, "{programs}");
    place.ok(&["raise", "w", "go", "1"]);
    assert_eq!(place.result("w"), 1);
}
