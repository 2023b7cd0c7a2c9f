//! An id has lives: what of one life can't reach another, and stores of a version that knew no lives.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::DURABLE;
use durable::engine::{Checkpoint, Hold, Read, keys, read_holds, read_mail, read_record};
use serde_json::Value as Json;
use tempfile::TempDir;

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed; its output without the last line break.
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert!(output.status.success(), "{args:?}\n{}", err(&output));
    out(&output)
}

/// A store of format 4, made by the version before lives: `counts` has a checkpoint and no history before it, `holds` has
/// two entities and waits for `go`, `asks` waits for one of them and `calls` calls the other; `parent` is suspended, its
/// child `named` has an event that it does not wait for, its child `parent:1` has ended and told it so; `a:0` has an id
/// of a form that is automatic now; a signal is held back for an hour.
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
    let checkpoint = Read::get(&store, &keys::checkpoint("counts")).expect("a read").expect("a checkpoint");
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
    // What begins now has a life, and so has its keys.
    fs::write(folder.join("key.df"), "activity key() => idempotency_key()\nprint(key())").expect("a program");
    let key = ok(folder, &["run", "key.df", "--id", "key"]);
    assert!(key.starts_with("key-") && key.ends_with(".1.0-0"), "{key}");
}
