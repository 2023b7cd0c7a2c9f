//! The operations of entities that a store keeps: who asked, what came of it, and the states before
//! and after. They are kept exactly, through crashes and upgrades of programs, and within limits.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use common::place::{Place, err};
use common::sim::World;
use common::worlds::{checkpoints, many_program, often};
use common::{Random, image};
use durable::api::Queries;
use durable::engine::query::{EntityFilter, OperationView};
use durable::engine::{MOST_OPERATIONS, keys};
use durable::kv::{MemoryTree, Read};
use durable::machine::{Data, EntityId};
use serde_json::{Value as Json, json};

/// An account with an operation of each kind: one that changes the state, one that looks, one that
/// fails, one with effects, one that forgets.
const BANK: &str = r#"entity Account {
  state {balance: 0}
  on add(n) { state.balance += n; state.balance }
  on balance() => state.balance
  on spend(n) {
    state.balance -= n
    if state.balance < 0 { throw {kind: "overdrawn", message: "no {n}"} }
    state.balance
  }
  on lucky() { let n = random(); print("draws {n}"); state.balance += math.floor(n * 10); n }
  on close() { delete_state() }
}
"#;

fn bank(script: &str) -> Place {
    Place::new(&format!("{BANK}{script}"))
}

fn operations(place: &Place, entity: &str) -> Vec<Json> {
    let text = place.ok(&["entity", entity, "--history", "--json"]);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Returns all kept operations of each entity of a store.
fn kept(store: &MemoryTree) -> BTreeMap<EntityId, Vec<OperationView>> {
    let mut entities: Vec<EntityId> = Vec::new();
    let listed = store.each_entities(&EntityFilter::default(), &mut |page| {
        entities.extend(page.into_iter().map(|view| view.entity));
        true
    });
    listed.expect("entities");
    let of = |entity: EntityId| {
        let mut all = Vec::new();
        let read = store.each_operations(&entity, 1, &mut |page| {
            all.extend(page);
            true
        });
        read.expect("operations");
        (entity, all)
    };
    entities.into_iter().map(of).collect()
}

#[test]
fn operations_are_kept_with_callers_results_and_states() {
    let place = bank(
        "Account(\"ada\").add(5)\nAccount(\"ada\").balance()\ntry { Account(\"ada\").spend(9) } catch {kind} { null }\n\
         signal Account(\"ada\").add(2)\nsleep(50ms)\nAccount(\"ada\").close()\nAccount(\"ada\").add(1)\n",
    );
    place.ok(&["run", "p.df", "--id", "mine", "--journal-entities"]);
    let all = operations(&place, "Account@ada");
    let of = |name: &str| all.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("number"), [1, 2, 3, 4, 5, 6].map(|n| json!(n)));
    assert_eq!(of("operation"), ["add", "balance", "spend", "add", "close", "add"].map(|n| json!(n)));
    let mine = json!("mine");
    assert_eq!(of("caller"), [mine.clone(), mine.clone(), mine.clone(), Json::Null, mine.clone(), mine]);
    let balance = |n: i64| json!({"balance": n});
    let before = [Json::Null, balance(5), balance(5), balance(5), balance(7), Json::Null];
    assert_eq!(of("before"), before);
    let after = [balance(5), balance(5), balance(5), balance(7), Json::Null, balance(1)];
    assert_eq!(of("after"), after);
    assert_eq!(of("changed"), [true, false, false, true, true, true].map(|b| json!(b)));
    assert_eq!(all[2]["error"]["value"]["kind"], "overdrawn");
    assert_eq!(all[1]["value"], 5);
    let table = place.ok(&["entity", "Account@ada", "--history", "--from", "4"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("signal mine-") && table.contains("{balance: 7}"), "{table}");
    let shown = place.ok(&["entity", "Account@ada"]);
    assert!(shown.contains("operations 6 kept"), "{shown}");
}

#[test]
fn a_store_keeps_no_operations_unless_it_was_told_to() {
    let place = bank("Account(\"ada\").add(5)\n");
    place.ok(&["run", "p.df"]);
    let output = place.run(&["entity", "Account@ada", "--history"]);
    assert!(err(&output).contains("--journal-entities"), "{}", err(&output));
    let store = durable::store::open(&place.path().join(".durable")).expect("it opens");
    for prefix in [keys::KEPT, keys::OPERATIONS, keys::KEEPS_OPERATIONS] {
        assert_eq!(store.all(prefix).expect("a scan").len(), 0);
    }
}

/// The choice is the store's, so operations of clients and of later processes are kept, too, until
/// somebody ends that.
#[test]
fn the_store_remembers_whether_operations_are_kept() {
    let place = bank("Account(\"ada\").add(5)\n");
    place.ok(&["run", "p.df", "--id", "a", "--journal-entities"]);
    place.ok(&["call", "Account@ada", "add", "1"]);
    place.ok(&["run", "p.df", "--id", "b"]);
    let server = place.serve();
    place.ok(&["call", "Account@ada", "add", "2"]);
    server.end(true);
    assert_eq!(operations(&place, "Account@ada").len(), 4);
    place.ok(&["run", "p.df", "--id", "c", "--journal-entities=off"]);
    place.ok(&["call", "Account@ada", "add", "4"]);
    assert_eq!(operations(&place, "Account@ada").len(), 4);
    place.ok(&["run", "p.df", "--id", "d", "--journal-entities"]);
    let all = operations(&place, "Account@ada");
    assert_eq!(all.len(), 5);
    assert_eq!(all[3]["after"], json!({"balance": 13}));
    assert_eq!((&all[4]["before"], &all[4]["follows_gap"]), (&json!({"balance": 22}), &json!(true)));
    let clients: Vec<bool> = all
        .iter()
        .map(|one| one["caller"].as_str().is_some_and(|caller| caller.starts_with("client ")))
        .collect();
    assert_eq!(clients, [false, true, false, true, false]);
    // The operations between are not known, so what they did to the state is no breach.
    let output = place.run(&["verify-run", "--all"]);
    assert!(
        output.status.success() && err(&output).contains("not known: Account@ada: operation 5"),
        "{}",
        err(&output)
    );
}

#[test]
fn the_last_operations_are_kept_when_there_are_too_many() {
    let place = bank("for _n in 1..=1500 { Account(\"ada\").add(1) }\n");
    place.ok(&["run", "p.df", "--journal-entities"]);
    let all = operations(&place, "Account@ada");
    let most = MOST_OPERATIONS as usize;
    assert!(all.len() > most - 20 && all.len() <= most, "{}", all.len());
    for one in &all {
        let number = one["number"].as_i64().expect("a number");
        assert_eq!(one["after"]["balance"], number);
        assert_eq!(one["before"]["balance"], number - 1);
    }
    assert_eq!(all.last().expect("one")["number"], 1500);
    place.ok(&["verify-run", "--all"]);
    let store = durable::store::open(&place.path().join(".durable")).expect("it opens");
    assert_eq!(store.all(keys::OPERATIONS).expect("a scan").len(), all.len(), "the others are gone");
}

/// A large state is not kept a thousand times.
#[test]
fn kept_operations_take_few_bytes_however_large_the_state_is() {
    let place = Place::new(
        "entity Big {\n  state []\n  on fill(n) { state = range(0, n).map(fn i => random()); n }\n}\n\
         for _n in 1..=60 { Big(1).fill(40000) }\n",
    );
    place.ok(&["run", "p.df", "--journal-entities"]);
    let all = operations(&place, "Big@1");
    assert!(all.last().is_some_and(|one| one["number"] == 60), "{}", all.len());
    let store = durable::store::open(&place.path().join(".durable")).expect("it opens");
    let bytes: usize =
        store.all(keys::OPERATIONS).expect("a scan").iter().map(|(_, value)| value.len()).sum();
    assert!(bytes < 8 << 20, "{bytes} bytes");
}

#[test]
fn kept_operations_can_be_forgotten() {
    let place = bank("Account(\"ada\").add(5)\nAccount(\"bob\").add(5)\n");
    place.ok(&["run", "p.df", "--journal-entities"]);
    let server = place.serve();
    place.ok(&["entity", "Account@ada", "--forget-history"]);
    assert_eq!(operations(&place, "Account@ada").len(), 0);
    assert_eq!(operations(&place, "Account@bob").len(), 1);
    // A running server goes on with the next number, and with the state.
    place.ok(&["call", "Account@ada", "add", "1"]);
    place.ok(&["call", "Account@ada", "add", "1"]);
    server.end(true);
    let all = operations(&place, "Account@ada");
    assert_eq!((all.len(), &all[0]["before"]), (2, &json!({"balance": 5})));
    place.ok(&["verify-run", "--all"]);
    assert!(
        place.refused(5, &["entity", "Account@eve", "--forget-history"]).contains("no operations are kept")
    );
}

#[test]
fn an_export_has_the_kept_operations() {
    let place = bank("for n in 1..=40 { Account(\"ada\").add(n) }\nAccount(\"bob\").lucky()\n");
    place.ok(&["run", "p.df", "--id", "x", "--journal-entities"]);
    place.ok(&["store", "export", "all.jsonl"]);
    place.ok(&["store", "import", "all.jsonl", "--store", "other"]);
    let show =
        |entity: &str, store: &str| place.ok(&["entity", entity, "--history", "--json", "--store", store]);
    for entity in ["Account@ada", "Account@bob"] {
        assert_eq!(show(entity, ".durable"), show(entity, "other"));
    }
    // An imported store goes on keeping them, without a gap.
    place.ok(&["call", "Account@ada", "add", "1", "--store", "other"]);
    let text = show("Account@ada", "other");
    let last: Json = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["number"], &last["follows_gap"]), (&json!(41), &json!(false)));
    place.ok(&["verify-run", "--all", "--store", "other"]);
    // An incomplete file is refused.
    let text = place.text("all.jsonl");
    let without: Vec<&str> = text
        .lines()
        .filter(|line| !(line.contains("\"type\":\"operation\"") && line.contains("\"number\":17")))
        .collect();
    let head = without[0].replace(
        &format!("\"lines\":{}", text.lines().count() - 1),
        &format!("\"lines\":{}", without.len() - 1),
    );
    place.put("less.jsonl", &format!("{head}\n{}\n", without[1..].join("\n")));
    let said = place.refused(2, &["store", "import", "less.jsonl", "--store", "third"]);
    assert!(said.contains("operation 17 of `Account@ada`"), "{said}");
}

/// A program stays as long as a kept operation ran with it.
#[test]
fn a_purge_leaves_the_programs_of_kept_operations() {
    let place = bank("Account(\"ada\").add(5)\n");
    place.ok(&["run", "p.df", "--id", "a", "--journal-entities"]);
    place.put("q.df", &format!("{BANK}// Another text.\nAccount(\"ada\").add(6)\n"));
    place.ok(&["run", "q.df", "--id", "b"]);
    place.ok(&["purge", "a", "b"]);
    let programs = place.ok(&["programs", "--json"]);
    assert_eq!(programs.lines().count(), 2, "{programs}");
    place.ok(&["entity", "Account@ada", "--forget-history"]);
    place.ok(&["run", "q.df", "--id", "c"]);
    place.ok(&["purge", "c"]);
    assert_eq!(place.ok(&["programs", "--json"]).lines().count(), 1);
}

#[test]
fn an_operation_that_could_not_begin_is_kept() {
    let place = bank("Account(\"ada\").add(1)\n");
    place.ok(&["run", "p.df", "--journal-entities"]);
    place.refused(1, &["call", "Account@ada", "add", "1", "2", "3"]);
    place.refused(1, &["call", "Account@ada", "unknown"]);
    place.ok(&["call", "Account@ada", "add", "1"]);
    let all = operations(&place, "Account@ada");
    let failed: Vec<bool> = all.iter().map(|one| one.get("error").is_some()).collect();
    assert_eq!(failed, [false, true, true, false]);
    assert_eq!((&all[3]["before"], &all[3]["after"]), (&json!({"balance": 1}), &json!({"balance": 2})));
    assert_eq!(all[1]["entries"], json!([]));
    place.ok(&["verify-run", "--all"]);
}

/// After any number of kills, the operations are those that happened, each once.
#[test]
fn kept_operations_survive_kills() {
    let place = bank("for _n in 1..=4000 { Account(\"ada\").add(1) }\n");
    place.ok(&["deploy", "p.df"]);
    for _ in 0..4 {
        let mut child = place
            .command(&["run", "p.df", "--id", "x", "--journal-entities"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("durable runs");
        std::thread::sleep(std::time::Duration::from_millis(60));
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }
    // The kills may have come before anything was written.
    place.ok(&["run", "p.df", "--id", "x", "--journal-entities"]);
    let all = operations(&place, "Account@ada");
    assert_eq!(all.last().expect("one")["number"], 4000);
    let balances: Vec<i64> = all.iter().filter_map(|one| one["after"]["balance"].as_i64()).collect();
    assert!(balances.windows(2).all(|two| two[0] + 1 == two[1]) && balances.last() == Some(&4000));
    place.ok(&["verify-run", "--all"]);
}

/// A world of many instances and entities, with crashes and entities that leave memory.
fn world(seed: u64) -> World {
    let mut random = Random::new(u64::wrapping_mul(seed, 6_007));
    let text = many_program(&mut random);
    let mut world = World::new(image(&text), random.next());
    world.crash = often(seed);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(3)][(seed / 3 % 3) as usize];
    world.keep_operations = Some(true);
    world
}

/// Each operation begins with the state that the one before left, and the last one left the state
/// that the store has. No operation is there twice.
#[test]
fn kept_operations_are_a_chain_of_states_in_every_world() {
    let mut count = 0;
    for seed in 1..40 {
        let mut world = world(seed);
        let _ = world.run_to_the_end();
        let store = &world.driver.store;
        for (entity, all) in kept(store) {
            let mut left: Option<Data> = None;
            let mut senders = BTreeSet::new();
            for (at, view) in all.iter().enumerate() {
                assert_eq!(view.number, at as u64 + 1, "{seed}: {entity}");
                assert_eq!(view.before, left, "{seed}: {entity} {}", view.number);
                assert!(!view.follows_gap, "{seed}: {entity} {}", view.number);
                assert!(
                    senders.insert(view.operation.from.clone()),
                    "{seed}: {entity} {} twice",
                    view.number
                );
                left = view.after.clone();
            }
            let state = store.get(&keys::entity(&entity)).expect("a read").map(Data);
            assert_eq!(left, state, "{seed}: {entity}");
            count += all.len();
        }
    }
    assert!(count > 1_000, "{count} operations");
}
