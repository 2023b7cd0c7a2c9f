//! The client API: pages, changes, and the protocol versions of both sides.

mod common;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use common::Random;
use common::place::Place;
use durable::api::{Answer, Connection, PROTOCOL, Queries, Query};
use durable::code::ProgramHash;
use durable::engine::query::{EntityFilter, InstanceFilter, Paging, Printed, PrintedLine};
use durable::engine::{
    Address, Args, ChangeKind, Chunk, Entry, Hold, InstanceRecord, Lifecycle, Line, Message, RecordedRequest,
    Status, StoredMail, Tree, Waiter, keys,
};
use durable::kv::{Batch, Endpoint, MemoryTree, Store};
use durable::machine::{Data, EntityId, Value};
use durable::permissions::Permissions;
use tempfile::TempDir;

fn record(id: &str, random: &mut Random) -> InstanceRecord {
    let function = ["script", "order", "pay"][random.below(3) as usize];
    let mut record = InstanceRecord::new(id, ProgramHash([1; 32]), "a.df", function, Data::null(), 0);
    record.created = random.below(50) as i64;
    record.status = match random.below(4) {
        0 => Status::Running,
        1 => Status::Suspended,
        2 => Status::Completed(Data::null()),
        _ => Status::Terminated(Data::null()),
    };
    record.ended = record.status.is_ended().then(|| record.created + random.below(20) as i64);
    if random.one_in(3) {
        record.root = "another".into();
    }
    record
}

fn committed(batch: Batch) -> MemoryTree {
    let mut store = MemoryTree::default();
    store.commit(&batch).expect("a commit");
    store
}

/// The pages of instances together have every instance that passes the filter, once and in order,
/// whatever the limits of the pages.
#[test]
fn pages_of_instances_are_all_of_them() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut batch = Batch::default();
        let ids: BTreeSet<String> = (0..random.below(40))
            .map(|_| format!("{}-{}", ["a", "ab", "b"][random.below(3) as usize], random.below(30)))
            .collect();
        let records: Vec<InstanceRecord> = ids.iter().map(|id| record(id, &mut random)).collect();
        for record in &records {
            batch.put(keys::instance(&record.id), record.encode());
        }
        // Keys that lie beside those of instances.
        batch.put(keys::history("a-1"), vec![1]);
        batch.put(keys::active("a-1"), vec![2]);
        let store = committed(batch);
        let filter = InstanceFilter {
            prefix: ["", "a", "ab", "c"][random.below(4) as usize].to_string(),
            from: ["", "", "a-2", "b-1"][random.below(4) as usize].to_string(),
            lifecycles: [vec![], vec![Lifecycle::Running], vec![Lifecycle::Completed, Lifecycle::Running]]
                [random.below(3) as usize]
                .clone(),
            function: [None, Some("order".to_string())][random.below(2) as usize].clone(),
            created_from: [None, Some(10)][random.below(2) as usize],
            created_before: [None, Some(40)][random.below(2) as usize],
            ended_from: [None, None, Some(10)][random.below(3) as usize],
            ended_before: [None, None, Some(40)][random.below(3) as usize],
            roots: random.one_in(4),
        };
        let wanted = records.iter().filter(|record| {
            record.id.starts_with(&filter.prefix)
                && record.id >= filter.from
                && (filter.lifecycles.is_empty() || filter.lifecycles.contains(&record.status.lifecycle()))
                && (!filter.roots || record.root == record.id)
                && filter.ended_from.is_none_or(|from| record.ended.is_some_and(|ended| ended >= from))
                && filter.ended_before.is_none_or(|before| record.ended.is_some_and(|ended| ended < before))
                && filter.function.as_ref().is_none_or(|wanted| record.function == *wanted)
                && filter.created_from.is_none_or(|from| record.created >= from)
                && filter.created_before.is_none_or(|before| record.created < before)
        });
        let wanted: Vec<&InstanceRecord> = wanted.collect();
        let (mut found, mut paging) = (Vec::new(), Paging::first(1 + random.below(6) as u32));
        loop {
            let page = store.instances(&filter, paging.clone()).expect("a page");
            assert!(page.items.len() <= paging.limit as usize, "seed {seed}");
            found.extend(page.items);
            let Some(next) = page.next else { break };
            paging.from = Some(next);
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "seed {seed}, {filter:?}");
    }
}

/// The pages of entities join three kinds of keys: states, holders and messages.
#[test]
fn pages_of_entities_are_all_of_them() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut batch = Batch::default();
        let mut known: std::collections::BTreeMap<String, (bool, bool, usize, usize)> = Default::default();
        let owner = Waiter { instance: "a".into(), life: 1, execution: 0, seq: 0 };
        for number in 0..random.below(30) {
            let key = match random.below(3) {
                0 => Value::Int(number as i64),
                1 => Value::str("x".repeat(random.below(4) as usize)),
                _ => Value::list(vec![Value::Int(random.below(5) as i64)]),
            };
            let name = ["Account", "Acc", "Box"][random.below(3) as usize];
            let entity = EntityId::new(name, &key).expect("a key");
            if known.contains_key(&entity.to_string()) {
                continue;
            }
            let (state, hold, signals, locks) =
                (random.one_in(2), random.one_in(3), random.below(3) as usize, random.below(2) as usize);
            if state {
                batch.put(keys::entity(&entity), Data::null().0);
            }
            if hold {
                let hold = Hold { owner: owner.clone(), set: vec![entity.clone()], since: 1 };
                batch.put(keys::lock(&entity), hold.encode());
            }
            for at in 0..signals + locks {
                let message = match at < signals {
                    true => Message::Signal { operation: "add".into(), args: Data::null(), due: 0 },
                    false => {
                        Message::Lock { owner: owner.clone(), set: vec![entity.clone()], at: 0, since: 1 }
                    }
                };
                let mail = StoredMail {
                    from: "c".into(),
                    root: "a".into(),
                    ack: None,
                    time: 0,
                    message,
                    permissions: Permissions::default(),
                };
                batch.put(
                    keys::mail(&Address::entity(entity.clone()), number * 10 + at as u64),
                    mail.encode(),
                );
            }
            if state || hold || signals + locks > 0 {
                known.insert(entity.to_string(), (state, hold, signals + locks, locks));
            }
        }
        let store = committed(batch);
        let filter = EntityFilter {
            name: [None, Some("Acc".to_string())][random.below(2) as usize].clone(),
            locked: random.one_in(2),
        };
        known.retain(|entity, (_, hold, _, locks)| {
            filter.name.as_ref().is_none_or(|name| entity.starts_with(&format!("{name}@")))
                && (!filter.locked || *hold || *locks > 0)
        });
        let (mut found, mut paging) = (Vec::new(), Paging::first(1 + random.below(5) as u32));
        loop {
            let query = Query::Entities { filter: filter.clone(), paging: paging.clone() };
            let Ok(Answer::Entities(page)) = store.query(query) else { panic!("a page") };
            found.extend(page.items);
            let Some(next) = page.next else { break };
            paging.from = Some(next);
        }
        let found: Vec<_> = found
            .iter()
            .map(|view| {
                (
                    view.entity.to_string(),
                    view.state.is_some() || filter.locked,
                    view.hold.is_some(),
                    view.mail.len(),
                )
            })
            .collect();
        let once: BTreeSet<&String> = found.iter().map(|(entity, ..)| entity).collect();
        assert_eq!(once.len(), found.len(), "seed {seed}: an entity is in two pages");
        let mut sorted = found.clone();
        sorted.sort();
        // A query for locked entities does not read states.
        let wanted: Vec<_> = known
            .iter()
            .map(|(entity, (state, hold, mail, _))| (entity.clone(), *state || filter.locked, *hold, *mail))
            .collect();
        assert_eq!(sorted, wanted, "seed {seed}, {filter:?}");
    }
}

const PROGRAM: &str = "orchestration o() { 1 }";

fn connect(place: &Place) -> Connection {
    Connection::open(&Endpoint::new(place.path().join(".durable"))).expect("a connection")
}

/// A follower of a store gets every change in order, after the change is durable.
#[test]
fn changes_are_told_in_order() {
    let place = Place::new(
        "entity Log { state 0; on add() { state += 1 } }\n\
         orchestration o() { receive(\"go\"); Log(\"x\").add() }",
    );
    let _server = place.serve();
    let follower = connect(&place);
    let begin = follower.changes(None).expect("where the store is").followed;
    place.ok(&["start", "p.df", "o", "--id", "one"]);
    place.ok(&["raise", "one", "go"]);
    place.ok(&["wait", "one"]);
    let (mut all, mut since) = (Vec::new(), begin);
    let has = |all: &[ChangeKind], wanted: Lifecycle| {
        all.iter().any(|change| match change {
            ChangeKind::Instance { id, lifecycle, function, .. } => {
                (id.as_str(), *lifecycle, function.as_str()) == ("one", wanted, "o")
            }
            _ => false,
        })
    };
    let mut last = None;
    while !has(&all, Lifecycle::Completed) {
        let changes = follower.changes(Some(since)).expect("changes");
        assert!(!changes.has_gap);
        for change in changes.changes {
            assert!(last.is_none_or(|last| change.number == last + 1), "{last:?} {change:?}");
            last = Some(change.number);
            all.push(change.kind);
        }
        since = changes.followed;
    }
    let log = EntityId::new("Log", &Value::str("x")).expect("a key");
    assert!(has(&all, Lifecycle::Running), "{all:?}");
    assert!(all.contains(&ChangeKind::History { id: "one".into() }), "{all:?}");
    assert!(all.contains(&ChangeKind::Entity { entity: log }), "{all:?}");
    place.ok(&["purge", "one"]);
    let removed = follower.changes(Some(since)).expect("changes");
    assert!(removed.changes.iter().any(|change| change.kind == ChangeKind::Removed { id: "one".into() }));
    // The same cursor gives the same changes again.
    assert_eq!(follower.changes(Some(since)).expect("changes").changes, removed.changes);
}

/// A cursor of another process, or one older than the kept changes, reports a gap.
#[test]
fn a_follower_of_another_process_has_a_gap() {
    let place = Place::new(PROGRAM);
    let server = place.serve();
    let before = connect(&place).changes(None).expect("where the store is").followed;
    server.stop();
    let _server = place.serve();
    let after = connect(&place).changes(Some(before)).expect("an answer");
    assert!(after.has_gap && after.changes.is_empty());
}

/// Both sides send their protocol version. Another version is refused with the reason, without a
/// hang.
#[test]
fn other_versions_are_refused() {
    let answers: [(&[u8], &str); 4] = [
        (b"durable\0\xff\0\0\0", "a later version"),
        (b"durable\0\0\0\0\0", "an earlier version"),
        (b"HTTP/1.1 400", "an earlier version"),
        (b"", "an earlier version"),
    ];
    for (answer, words) in answers {
        let folder = TempDir::new().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut greeting = [0; 12];
            stream.read_exact(&mut greeting).expect("a greeting");
            stream.write_all(answer).expect("an answer");
            greeting
        });
        let error = Connection::open(&Endpoint::new(folder.path())).expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        assert!(error.to_string().contains(words), "{answer:?}: {error}");
        let greeting = answering.join().expect("it answers");
        assert_eq!(greeting[..8], *b"durable\0");
        assert_eq!(greeting[8..], PROTOCOL.to_le_bytes());
    }
}

/// A client older than the greeting is disconnected, and the server goes on.
#[test]
fn a_client_without_a_greeting_is_let_go() {
    let place = Place::new(PROGRAM);
    let _server = place.serve();
    let mut old = UnixStream::connect(place.path().join(".durable/socket")).expect("a connection");
    old.write_all(&[3, 0, 0, 0, 0, 1, 65, 3, 0, 0, 0, 0]).expect("it is sent");
    let mut rest = Vec::new();
    let _ = old.read_to_end(&mut rest);
    assert!(rest.len() <= 12, "{rest:?}");
    assert_eq!(connect(&place).instance("a"), Ok(None));
}

/// Returns an instance that another one called or started under an automatic id. An instance from
/// before lives were counted has no owner, and is known by its id.
fn child_of(parent: &InstanceRecord, seq: u64, is_earlier: bool, random: &mut Random) -> InstanceRecord {
    let mut child = record(&format!("{}:{seq}", parent.id), random);
    child.root.clone_from(&parent.root);
    if !is_earlier {
        child.life = 1 + random.below(3);
        child.owner = Some(parent.life_id());
    }
    child
}

/// The pages of a tree, whatever their limits, have what a purge of its root removes, in the order of
/// the ids, and each instance has its owner.
#[test]
fn pages_of_trees_are_what_a_purge_removes() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let is_earlier = random.one_in(4);
        let mut all: Vec<InstanceRecord> = Vec::new();
        for id in ["a", "a-1", "ab", "b"] {
            let mut root = record(id, &mut random);
            root.life = if is_earlier { 0 } else { 1 + random.below(3) };
            all.push(root);
        }
        for _ in 0..random.below(30) {
            let parent = all[random.below(all.len() as u64) as usize].clone();
            let child = child_of(&parent, random.below(4), is_earlier, &mut random);
            if all.iter().all(|known| known.id != child.id) {
                all.push(child);
            }
        }
        // Some instances were purged alone, so those below them are in no tree.
        all.retain(|record| !record.id.contains(':') || !random.one_in(6));
        // Some have another life than the owner of their children.
        for record in &mut all {
            record.life += u64::from(record.life > 0 && random.one_in(8));
        }
        let mut batch = Batch::default();
        for record in &all {
            batch.put(keys::instance(&record.id), record.encode());
        }
        let store = committed(batch);
        for root in &all {
            let mut wanted: Vec<String> = Tree::read(&store, std::slice::from_ref(&root.id))
                .expect("a tree")
                .records
                .into_iter()
                .map(|record| record.id)
                .collect();
            wanted.sort();
            let (mut found, mut paging) = (Vec::new(), Paging::first(1 + random.below(5) as u32));
            loop {
                let query = Query::Tree { id: root.id.clone(), paging: paging.clone() };
                let Ok(Answer::Tree(Some(page))) = store.query(query) else { panic!("a page") };
                assert!(page.items.len() <= paging.limit as usize, "seed {seed}");
                found.extend(page.items);
                let Some(next) = page.next else { break };
                paging.from = Some(next);
            }
            assert_eq!(store.tree(&root.id).expect("a tree").as_ref(), Some(&found), "seed {seed}");
            let ids: Vec<&String> = found.iter().map(|record| &record.id).collect();
            assert_eq!(ids, wanted.iter().collect::<Vec<_>>(), "seed {seed}, of {}", root.id);
            for record in found.iter().filter(|record| record.id != root.id) {
                let owner = record.owner.as_ref().expect("an owner");
                assert!(wanted.contains(&owner.id), "seed {seed}: {owner:?}");
            }
        }
        assert_eq!(store.tree("nobody"), Ok(None));
    }
}

/// Returns a request, and the line that it asks for.
fn line(seq: u64, random: &mut Random) -> (Entry, Option<Printed>) {
    let time = 10 * seq as i64;
    let text = match random.one_in(10) {
        true => "x".repeat(5_000),
        false => format!("line {seq}"),
    };
    let list = |values: Vec<Value>| Args::of(&Data::encode(&Value::list(values)).expect("data"));
    let (name, args) = match random.below(3) {
        0 => ("print", list(vec![Value::str(text.as_str())])),
        1 => ("log", list(vec![Value::str("warn"), Value::str(text.as_str())])),
        _ => ("now", list(Vec::new())),
    };
    let line = match &args {
        _ if name == "now" => None,
        Args::Large { bytes, .. } => Some(PrintedLine::Long { is_log: name == "log", bytes: *bytes }),
        Args::Whole(_) if name == "log" => Some(PrintedLine::Short(Line::Log { level: "warn".into(), text })),
        Args::Whole(_) => Some(PrintedLine::Short(Line::Print(text))),
    };
    let what = RecordedRequest::Effect(name.into());
    let entry = Entry::Requested { seq, what, args, place: Default::default(), time };
    (entry, line.map(|line| Printed { seq, time, line }))
}

/// The pages of an instance's output, whatever their limits, have the lines of its history, once each
/// and in order.
#[test]
fn pages_of_output_are_all_of_it() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut batch, mut wanted, mut seq) = (Batch::default(), Vec::new(), 0);
        let (mut checksum, chunks) = (0, random.below(6));
        for number in 0..chunks {
            let mut entries = Vec::new();
            for _ in 0..random.below(12) {
                let (entry, printed) = line(seq, &mut random);
                entries
                    .extend([entry, Entry::Answered { seq, result: Ok(Data::null()), time: 0, came: None }]);
                wanted.extend(printed);
                seq += 1;
            }
            let (bytes, after) = Chunk::encode(entries, checksum);
            checksum = after;
            batch.put(keys::chunk("a", number), bytes);
        }
        let mut instance = record("a", &mut random);
        instance.ended = random.one_in(2).then_some(7);
        instance.chunks = chunks;
        batch.put(keys::instance("a"), instance.encode());
        let mut store = committed(batch);
        let (mut found, mut paging) = (Vec::new(), Paging::first(1 + random.below(7) as u32));
        let mut cursor = None;
        loop {
            let query = Query::Output { id: "a".into(), paging: paging.clone() };
            let Ok(Answer::Output(Some(page))) = store.query(query) else { panic!("a page") };
            assert!(page.lines.items.len() <= paging.limit as usize && !page.is_trimmed, "seed {seed}");
            found.extend(page.lines.items);
            let Some(next) = page.lines.next else { break };
            cursor = Some(next.clone());
            paging.from = Some(next);
        }
        assert_eq!(found, wanted, "seed {seed}");
        let whole = store.output("a").expect("the output").expect("an instance");
        assert_eq!((whole.lines.items, whole.lines.next), (wanted, None), "seed {seed}");
        assert_eq!(store.output("b"), Ok(None));
        // Without a chunk of the history there is no output.
        if chunks > 1 {
            let mut damaged = store.clone();
            damaged.tree.remove(&keys::chunk("a", random.below(chunks - 1)));
            let error = damaged.output("a").expect_err("a part is missing");
            assert!(error.to_string().starts_with("a can't be read: "), "seed {seed}: {error}");
        }
        // An instance that has begun anew has nothing after an earlier page.
        if let Some(cursor) = cursor {
            instance.execution += 1;
            store.tree.insert(keys::instance("a"), instance.encode());
            let paging = Paging { from: Some(cursor), limit: 10 };
            let query = Query::Output { id: "a".into(), paging };
            let Ok(Answer::Output(Some(page))) = store.query(query) else { panic!("a page") };
            assert_eq!((page.lines.items, page.lines.next), (Vec::new(), None), "seed {seed}");
        }
    }
}

const FAMILY: &str = "orchestration leaf(n) { print(\"leaf {n}\"); n }\n\
    orchestration branch(n) { leaf(n); start leaf(n + 1); receive(\"go\") }\n\
    orchestration trunk() {\n  print(\"first\")\n  log.warn(\"second\")\n  print(\"x\".repeat(5000))\n\
    let other = start branch(1)\n  all([async branch(3), async wait(other)])\n}\n";

/// Trees and output are the same from a process that has the store and from the store itself.
#[test]
fn trees_and_output_are_the_same_over_the_socket() {
    let place = Place::new(FAMILY);
    let server = place.serve();
    place.ok(&["start", "p.df", "trunk", "--id", "t"]);
    common::place::await_that(|| place.ok(&["list", "--json"]).lines().count() == 7);
    common::place::await_that(|| place.ok(&["list", "--status", "running", "--json"]).lines().count() == 3);
    let commands: [&[&str]; 6] = [
        &["list", "--tree", "t"],
        &["list", "--tree", "t", "--json"],
        &["history", "t", "--output"],
        &["history", "t", "--output", "--json"],
        &["list", "--tree", "nobody"],
        &["history", "nobody", "--output"],
    ];
    let all = || commands.map(|command| place.run(command));
    let there = all();
    server.stop();
    let here = all();
    assert_eq!(there, here);
    let [tree, tree_json, output, output_json, no_tree, no_output] = here;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let depths: Vec<usize> =
        text(&tree.stdout).lines().skip(1).map(|line| line.len() - line.trim_start().len()).collect();
    assert_eq!(depths, [0, 2, 4, 4, 2, 4, 4], "{}", text(&tree.stdout));
    assert_eq!(text(&tree_json.stdout).lines().count(), 7);
    assert_eq!(text(&output.stdout), "first\n");
    let err = text(&output.stderr);
    assert!(err.starts_with("warn: second\n#2 is a line of 5"), "{err}");
    let lines = text(&output_json.stdout);
    let words: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&words[0]["print"], &words[0]["seq"]), (&"first".into(), &0.into()));
    assert_eq!((&words[1]["log"], &words[1]["text"]), (&"warn".into(), &"second".into()));
    assert!(words[2]["print"].is_null() && words[2]["bytes"].as_u64() > Some(5_000), "{lines}");
    for run in [no_tree, no_output] {
        assert_eq!((run.status.code(), run.stdout.len()), (Some(5), 0));
    }
}

/// A trimmed history has the last lines, and a note says so.
#[test]
fn output_of_a_trimmed_history_begins_at_its_checkpoint() {
    let place = Place::new("orchestration o() { for i in 0..20_000 { print(i) }; receive(\"go\") }");
    let _server = place.serve_with(&["--history", "latest"]);
    place.ok(&["start", "p.df", "o", "--id", "one"]);
    let waits = || place.ok(&["show", "one"]).contains("waits for");
    common::place::await_that(waits);
    let output = place.run(&["history", "one", "--output"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not kept"), "{output:?}");
    let lines: Vec<u32> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().expect("a number")).collect();
    assert!(lines.len() < 20_000, "{}", lines.len());
    assert!(lines.iter().rev().zip((0..20_000).rev()).all(|(found, wanted)| *found == wanted));
}
