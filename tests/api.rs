//! The client API: pages, changes, and the protocol versions of both sides.

mod common;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use common::Random;
use common::place::Place;
use durable::api::{Connection, PROTOCOL, Queries, Query};
use durable::code::ProgramHash;
use durable::engine::query::{EntityFilter, InstanceFilter, Paging};
use durable::engine::{
    Address, ChangeKind, Hold, InstanceRecord, Lifecycle, Message, Status, StoredMail, Waiter, keys,
};
use durable::kv::{Batch, MemoryTree, Store};
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
            lifecycle: [None, Some(Lifecycle::Running), Some(Lifecycle::Completed)][random.below(3) as usize],
            function: [None, Some("order".to_string())][random.below(2) as usize].clone(),
            created_from: [None, Some(10)][random.below(2) as usize],
            created_before: [None, Some(40)][random.below(2) as usize],
        };
        let wanted = records.iter().filter(|record| {
            record.id.starts_with(&filter.prefix)
                && filter.lifecycle.is_none_or(|wanted| record.status.lifecycle() == wanted)
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
            let Ok(durable::api::Answer::Entities(page)) = store.query(query) else { panic!("a page") };
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
    Connection::open(&place.path().join(".durable")).expect("a connection")
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
    let has_ended = |all: &[ChangeKind]| {
        all.contains(&ChangeKind::Instance { id: "one".into(), lifecycle: Lifecycle::Completed })
    };
    let mut last = None;
    while !has_ended(&all) {
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
    assert!(
        all.contains(&ChangeKind::Instance { id: "one".into(), lifecycle: Lifecycle::Running }),
        "{all:?}"
    );
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
        let error = Connection::open(folder.path()).expect_err("it is refused");
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
