//! Keys of entities on the command line. An entity is found by the name that is shown, arguments
//! are JSON or text, and stores of the version before canonical keys are converted.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::DURABLE;
use durable::builtins::Effect;
use durable::engine::{Args, Chunk, Entry, Message, RecordedRequest, StoredMail, keys};
use durable::kv::{Batch, Read, Store};
use durable::machine::{Data, EntityId, Request, RequestKind, Value, json};
use durable::store;
use serde_json::Value as Json;
use tempfile::TempDir;

const BOX: &str = r#"
entity Box {
  state 0
  on add(n = 1) { state += n; state }
  on get() => state
}
orchestration once(key) { Box(key).get() }
orchestration approval() { receive("approve") }
orchestration holds(key) { lock Box(key) { receive("go"); Box(key).add(100) } }
"#;

/// Keys of all kinds, as a program writes them.
const KEYS: &str = r#"
let inf = 1e308 * 10
let keys = ["alice", "", " ", "a b", " a", "a ", "a\nb", "a\tb", "a\"b", "a'b", "a\\b", "a@b", "@", "5", "-5", "1.5", "true", "null", "\{", "\{\"a\":1}",
  "[", "[1]", "\"", "\"q\"", "é🦀", "日本", "\u{0}", "\u{7f}", "\u{2028}", "123456789012345678901234567890", "007", "2026-03-01", "\{\"$duration\":\"5s\"}",
  5, -5, 1.5, 1e300, inf, -inf, null, true, false, 5s, -1ns, bytes.of("ab"), bytes.of(""), time.parse("2026-03-01T12:00:00Z"), [], {}, [1, "x", null],
  {shop: 1, item: 2}, {a: [{b: {c: 5s}}]}, {"a b": 1, "\n": 2}, {"$duration": "5s"}, {"$record": {"$record": 1}}, {"$data": "x"}, {"$entity": "Box", key: 1},
  Box(1), Box({b: [Box("x")], a: 1.5}), [Box("Box@1")], 9223372036854775807, -9223372036854775808, 9223372036854775808.0, "Box@alice"]
for key in keys { Box(key).add() }
print(keys.len())
"#;

fn folder(program: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("box.df"), program).expect("a program");
    folder
}

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must succeed. Returns its output without the last line break.
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = durable(folder, args);
    assert!(output.status.success(), "{args:?}\n{}", err(&output));
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_string()
}

fn read(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lines(folder: &Path) -> Vec<Json> {
    ok(folder, &["entities", "--json"]).lines().map(read).collect()
}

#[test]
fn entities_are_found_by_their_names() {
    let folder = folder(&format!("{BOX}{KEYS}"));
    let folder = folder.path();
    let count: usize = ok(folder, &["run", "box.df"]).parse().expect("a number");
    let listed = lines(folder);
    // The first column of the table has the same names.
    let table = ok(folder, &["entities"]);
    assert_eq!(table.lines().count(), listed.len() + 1, "{table}");
    assert_eq!(listed.len(), count, "as many as there are keys");
    for entity in &listed {
        let name = entity["entity"].as_str().expect("a name");
        assert!(table.lines().any(|line| line.starts_with(name)), "{name}");
        let shown = read(&ok(folder, &["entity", name, "--json"]));
        assert_eq!((&shown["entity"], &shown["state"]), (&entity["entity"], &Json::from(1)), "{name}");
        assert_eq!(ok(folder, &["entity", name]), "state      1", "{name}");
    }
    // A signal to every other name changes that entity and no other.
    for entity in listed.iter().step_by(2) {
        ok(folder, &["signal", entity["entity"].as_str().expect("a name"), "add", "10"]);
    }
    let after = lines(folder);
    assert_eq!(after.len(), listed.len());
    for (number, entity) in after.iter().enumerate() {
        let expected = if number % 2 == 0 { 11 } else { 1 };
        assert_eq!(entity["state"], Json::from(expected), "{}", entity["entity"]);
    }
}

#[test]
fn equal_keys_are_one_on_the_command_line() {
    let folder = folder(&format!("{BOX}Box({{shop: 1, item: 2}}).add()\nBox(1.0).add()\nBox(-0.0).add()\n"));
    let folder = folder.path();
    ok(folder, &["run", "box.df"]);
    let names = lines(folder);
    let names: Vec<&str> = names.iter().map(|entity| entity["entity"].as_str().expect("a name")).collect();
    assert_eq!(names, ["Box@0", "Box@1", "Box@{\"item\":2,\"shop\":1}"]);
    for name in [
        "Box@1",
        "Box@1.0",
        "Box@1e0",
        "Box@ 1",
        "Box@{\"shop\": 1.0, \"item\": 2}",
        "Box@{\"item\":2,\"shop\":1}",
        "Box@-0.0",
    ] {
        assert_eq!(ok(folder, &["entity", name]), "state      1", "{name}");
    }
    assert_eq!(ok(folder, &["start", "box.df", "once", "{\"item\": 2, \"shop\": 1}", "--id", "one"]), "one");
    ok(folder, &["resume"]);
    let show = read(&ok(folder, &["show", "one", "--json"]));
    assert_eq!(show["result"], Json::from(1));
}

#[test]
fn what_begins_like_json_is_json() {
    let folder = folder(BOX);
    let folder = folder.path();
    ok(folder, &["start", "box.df", "approval", "--id", "a"]);
    for bad in [
        "{\"ok\": tru}",
        "{ok: true}",
        "[1, 2",
        "\"open",
        "{",
        "[1,]",
        "{\"a\": 1} x",
        "9223372036854775808",
        "[18446744073709551615]",
    ] {
        for args in [
            vec!["raise", "a", "approve", bad],
            vec!["signal", "Box@1", "add", bad],
            vec!["start", "box.df", "once", bad],
            vec!["run", "box.df", "--input", bad],
        ] {
            let output = durable(folder, &args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {}", err(&output));
            assert!(err(&output).contains("not JSON"), "{args:?}: {}", err(&output));
        }
        let name = format!("Box@{bad}");
        assert_eq!(durable(folder, &["entity", &name]).status.code(), Some(2), "{name}");
        assert_eq!(durable(folder, &["signal", &name, "add"]).status.code(), Some(2), "{name}");
    }
    // A record that means NaN is not a key.
    assert_eq!(durable(folder, &["entity", "Box@{\"$float\":\"NaN\"}"]).status.code(), Some(2));
    for (word, value) in [
        ("ok: tru", Json::from("ok: tru")),
        ("2026-03-01", Json::from("2026-03-01")),
        ("tru", Json::from("tru")),
        ("\"{\\\"ok\\\": tru}\"", Json::from("{\"ok\": tru}")),
        ("{\"ok\": true}", serde_json::json!({"ok": true})),
        ("-5", Json::from(-5)),
    ] {
        let id = ok(folder, &["start", "box.df", "approval"]);
        ok(folder, &["raise", &id, "approve", word]);
        ok(folder, &["resume", &id]);
        let show = read(&ok(folder, &["show", &id, "--json"]));
        assert_eq!(show["result"], value, "{word}");
    }
}

// ---- stores of the version before

/// Returns the key of a state or a lock, or of a message if there is a number, in the earlier form.
fn raw(prefix: &str, key: &Value, number: Option<u64>) -> Vec<u8> {
    let mut out = format!("{prefix}Box\0").into_bytes();
    out.extend(Data::encode(key).expect("data").0);
    if let Some(number) = number {
        out.push(0);
        out.extend(number.to_be_bytes());
    }
    out
}

fn order() -> Value {
    Value::record([("shop", Value::float(1.0)), ("item", Value::Int(2))])
}

#[test]
fn keys_of_the_version_before() {
    let folder = folder(&format!("{BOX}Box(1).add(5)\nBox([\"kept\"]).add(3)\n"));
    let folder = folder.path();
    ok(folder, &["run", "box.df"]);
    ok(folder, &["start", "box.df", "holds", "{\"item\": 2, \"shop\": 1}", "--id", "h"]);
    let mut store = store::open(&folder.join(".durable")).expect("the store opens");
    let state = |n: i64| Data::encode(&Value::Int(n)).expect("data").0;
    let args = Data::encode(&Value::list(vec![Value::Int(20)])).expect("data");
    let message = Message::Signal { operation: "add".into(), args, due: 0 };
    let mail = StoredMail {
        from: "x".into(),
        root: "h".into(),
        ack: None,
        time: 0,
        message,
        permissions: Default::default(),
    }
    .encode();
    let mut batch = Batch::default();
    batch.put(raw("e/", &order(), None), state(7));
    batch.put(raw("e/", &Value::float(1.0), None), state(9));
    batch.put(raw("e/", &Value::list(vec![Value::float(-0.0)]), None), state(11));
    batch.put(raw("m/e", &order(), Some(900)), mail.clone());
    batch.put(raw("m/e", &Value::float(-0.0), Some(901)), mail);
    batch.delete(keys::CANONICAL.to_vec());
    store.commit(&batch).expect("a commit");
    store.close().expect("it closes");

    // Commands that read see canonical keys. The store is converted when its instances run.
    let names = |lines: &[Json]| -> Vec<String> {
        lines.iter().map(|entity| entity["entity"].as_str().expect("a name").to_string()).collect()
    };
    assert!(names(&lines(folder)).contains(&"Box@{\"item\":2,\"shop\":1}".to_string()));
    ok(folder, &["raise", "h", "go"]);
    ok(folder, &["resume"]);
    let listed = lines(folder);
    let expected = [
        ("Box@0", 20),
        ("Box@1", 5),
        ("Box@[\"kept\"]", 3),
        ("Box@[0]", 11),
        ("Box@{\"equals\":1,\"written\":\"1.0\"}", 9),
        ("Box@{\"item\":2,\"shop\":1}", 7 + 20 + 100),
    ];
    let found: Vec<(String, Json)> = listed
        .iter()
        .map(|entity| (entity["entity"].as_str().expect("a name").to_string(), entity["state"].clone()))
        .collect();
    let expected: Vec<(String, Json)> =
        expected.iter().map(|(name, state)| (name.to_string(), Json::from(*state))).collect();
    assert_eq!(found, expected);
    for (name, state) in &expected {
        assert_eq!(ok(folder, &["entity", name]), format!("state      {state}"));
    }
    // A second run changes nothing, and the earlier keys are gone.
    ok(folder, &["resume"]);
    assert_eq!(lines(folder), listed);
    let store = store::open(&folder.join(".durable")).expect("the store opens");
    assert_eq!(store.get(&raw("e/", &order(), None)), Ok(None));
    assert_eq!(store.all(b"m/e").map(|mail| mail.len()), Ok(0));
    store.close().expect("it closes");
    ok(folder, &["store", "verify"]);
}

/// Recorded entities are read with canonical keys, and a recorded critical section matches the one
/// that the program requests.
#[test]
fn records_of_the_version_before() {
    let old = |key: Value| EntityId { name: "Box".into(), key: Data::encode(&key).expect("data") };
    let now = |key: Value| EntityId::new("Box", &key).expect("a key");
    let call = |entity: EntityId| Entry::Requested {
        seq: 0,
        what: RecordedRequest::Operation { entity, operation: "add".into(), signal: None },
        args: Args::of(&Data::null()),
        place: Default::default(),
        time: 5,
    };
    let (bytes, _) = Chunk::encode(vec![call(old(order()))], 0);
    let read = Chunk::decode(&bytes, 0).expect("a chunk");
    assert_eq!(read.entries, [call(now(order()))]);
    let read = Chunk::decode(&Chunk::encode(vec![call(old(Value::Int(1)))], 0).0, 0).expect("a chunk");
    assert_eq!(read.entries, [call(now(Value::float(1.0)))]);
    let lock = |entities: &[&EntityId], timeout: i64| {
        let entities = Value::list(entities.iter().map(|entity| entity.value()).collect());
        let options = Value::record([("timeout", Value::Duration(timeout))]);
        Data::encode(&Value::list(vec![entities, options])).expect("data")
    };
    let entry = |args: &Data| Entry::Requested {
        seq: 3,
        what: RecordedRequest::Effect("lock".into()),
        args: Args::of(args),
        place: Default::default(),
        time: 0,
    };
    let recorded = entry(&lock(&[&old(order()), &old(Value::float(1.0))], 5));
    let request = |args: Data| Request {
        seq: 3,
        what: RequestKind::Effect(Effect::Lock),
        args,
        place: Default::default(),
    };
    assert!(recorded.is_of(&request(lock(&[&now(Value::Int(1)), &now(order())], 5))));
    assert!(!recorded.is_of(&request(lock(&[&now(Value::Int(1)), &now(order())], 6))));
    assert!(!recorded.is_of(&request(lock(&[&now(Value::Int(2)), &now(order())], 5))));
    assert!(!recorded.is_of(&request(lock(&[&now(order())], 5))));
    // A key without a canonical form is left as it is.
    let nan = old(Value::float(f64::NAN));
    assert_eq!(EntityId::stored("Box".into(), nan.key.clone()), nan);
    assert!(json::to_data("{\"$data\":\"!\"}").is_err());
}
