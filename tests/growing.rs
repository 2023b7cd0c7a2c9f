//! A cluster that changes while it is at work, on a private PostgreSQL: more partitions, private
//! partitions that go and come back, stores that move, and workers of several versions.

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::place::{await_that, err, out};
use common::workers::{BANK, World, books, world};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

/// A bank, senders of numbered messages, and instances that wait for a time, for an event and for an
/// instance of another partition.
fn program() -> String {
    let more = r#"
entity Box { state { seen: [] }; on note(n) { state.seen += [n] }; on seen() { state.seen } }

orchestration letters(name, n) {
  for i in 0..n {
    signal Box(name).note(i)
    sleep(20ms)
  }
  n
}

orchestration nap(n) {
  sleep(1500ms)
  n
}

orchestration asks(id) { (nap(7) with {id: id}) + 1 }
"#;
    BANK.to_string() + more
}

impl World {
    fn partitions(&self) -> usize {
        self.cluster()["partitions"].as_array().map_or(0, Vec::len)
    }

    /// Begins to give the store more partitions.
    fn raise(&self, wanted: &str) -> Command {
        self.place.command(&["store", "init", &self.url, "--partitions", wanted])
    }

    /// Runs a command that must fail with a code, and returns what it says.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.command(args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{}{}", out(&output), err(&output));
        err(&output)
    }
}

/// Partitions go from 2 to 4 to 8 under a bank, numbered messages, timers, events, calls of other
/// partitions and a script, while a worker is killed, and so is a command that raises the number.
#[test]
fn partitions_become_more_while_everything_goes_on() {
    let Some(world) = world(&program(), 2) else { return };
    let lease = ["--lease", "1s"];
    let first = world.worker_with(&lease);
    let second = world.worker_with(&lease);
    world.await_owners(2);
    world.place.put(
        "s.df",
        "for i in 0..30 {\n  fs.append(\"script.txt\", \"{i}\\n\")\n  sleep(50ms)\n}\nprint(\"done\")\n",
    );
    let script = world.command(&["run", "s.df", "--id", "script"]).stdout(Stdio::piped()).spawn();
    for name in 0..4 {
        let id = format!("letters-{name}");
        world.ok(&["start", "p.df", "letters", &format!("box{name}"), "60", "--id", &id]);
        world.ok(&["start", "p.df", "nap", &name.to_string(), "--id", &format!("nap-{name}")]);
        world.ok(&["start", "p.df", "asks", &format!("\"asked-{name}\""), "--id", &format!("asks-{name}")]);
        world.ok(&["start", "p.df", "approval", "--id", &format!("approval-{name}")]);
    }
    // A client that waits all the time, for what happens only afterwards.
    let waits = world.command(&["wait", "approval-3"]).stdout(Stdio::piped()).spawn();
    let mut acknowledged = transfers(&world, 0..12);
    let raised = world.raise("4").output().expect("it runs");
    assert!(err(&raised).contains(" has 4 partitions now, after 2"), "{}", err(&raised));
    acknowledged.extend(transfers(&world, 12..24));
    // A command that is killed raises the number wholly or not at all.
    let mut killed = world.raise("8").stderr(Stdio::null()).spawn().expect("it runs");
    thread::sleep(Duration::from_millis(15));
    killed.kill().expect("a kill");
    killed.wait().expect("it ends");
    assert!([4, 8].contains(&ranges(&world).len()), "{}", world.cluster());
    // A worker dies in the middle.
    let mut raise = world.raise("8").stderr(Stdio::null()).spawn().expect("it runs");
    first.kill();
    assert!(raise.wait().expect("it ends").success());
    let third = world.worker_with(&lease);
    acknowledged.extend(transfers(&world, 24..36));
    assert_eq!(ranges(&world), (0..8).map(|at| (at * 512, at * 512 + 512)).collect::<Vec<_>>());

    for id in &acknowledged {
        assert_eq!(world.ok(&["wait", id]), "moved", "{id}\n{}", world.log());
    }
    for name in 0..4 {
        assert_eq!(world.ok(&["wait", &format!("letters-{name}")]), "60");
        assert_eq!(world.ok(&["wait", &format!("nap-{name}")]), name.to_string());
        assert_eq!(world.ok(&["wait", &format!("asks-{name}")]), "8");
        world.ok(&["raise", &format!("approval-{name}"), "approved", "\"yes\""]);
        assert_eq!(world.ok(&["wait", &format!("approval-{name}")]), "yes");
        let seen: Vec<u64> = (0..60).collect();
        let noted = || {
            let said = world.ok(&["call", &format!("Box@box{name}"), "seen"]);
            serde_json::from_str::<Vec<u64>>(&said).unwrap_or_default()
        };
        await_that(|| noted().len() >= 60);
        assert_eq!(noted(), seen, "messages of one sender come once and in order");
    }
    let waited = waits.and_then(|waits| waits.wait_with_output()).expect("it ends");
    assert_eq!(out(&waited).trim_end(), "yes", "{}", err(&waited));
    let script = script.and_then(|script| script.wait_with_output()).expect("it ends");
    // A line or an effect that was under way may have come again, and none is left out.
    let (shown, code) = (out(&script), script.status.code());
    assert!(
        matches!((shown.as_str(), code), ("done\n" | "done\ndone\n", Some(0))),
        "{shown}{}",
        err(&script)
    );
    let mut lines: Vec<u64> =
        world.place.text("script.txt").lines().filter_map(|line| line.parse().ok()).collect();
    lines.dedup();
    assert_eq!(lines, (0..30).collect::<Vec<u64>>());

    let (balance, moves, locks) = books(&world);
    assert_eq!((balance, locks.as_str()), (0, ""), "{}", world.log());
    assert_eq!(moves, 2 * acknowledged.len() as i64, "each start was carried out once\n{}", world.log());
    world.ok(&["store", "verify"]);
    world.ok(&["verify-run", "--all"]);
    world.await_owners(2);
    for worker in [second, third] {
        worker.stop();
    }
}

/// Begins transfers, and returns their ids.
fn transfers(world: &World, numbers: std::ops::Range<u32>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in numbers {
        let id = format!("t{number}");
        let (from, to) = (format!("k{}", number % 7), format!("k{}", (number * 3 + 1) % 7));
        if from != to {
            world.ok(&["start", "p.df", "transfer", &from, &to, "1", "--id", &id]);
            ids.push(id);
        }
    }
    ids
}

/// The slots of the partitions with any, in order.
fn ranges(world: &World) -> Vec<(u64, u64)> {
    let view = world.cluster();
    let slot = |part: &Json, name: &str| part[name].as_u64().expect("a slot");
    let parts = view["partitions"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<(u64, u64)> =
        parts.iter().map(|part| (slot(part, "first_slot"), slot(part, "end_slot"))).collect();
    all.retain(|(first, end)| first < end);
    all.sort_unstable();
    all
}

/// Requests of clients, and messages of partitions, that wait while nobody works: each comes to
/// its receiver's new partition, also if the client has gone.
#[test]
fn what_waits_while_partitions_become_more_comes_to_its_new_place() {
    let Some(world) = world(&program(), 1) else { return };
    let worker = world.worker();
    world.await_owners(1);
    world.ok(&["start", "p.df", "approval", "--id", "held"]);
    worker.stop();
    for number in 0..6 {
        let id = format!("late-{number}");
        let mut client = world.command(&["start", "p.df", "nap", "5", "--id", &id]).spawn().expect("it runs");
        await_that(|| waiting(&world) > number);
        client.kill().expect("a kill");
        client.wait().expect("it ends");
    }
    assert!(world.raise("64").status().expect("it runs").success());
    assert_eq!((world.partitions(), waiting(&world)), (64, 6));
    let receivers = world.cluster()["partitions"]
        .as_array()
        .map_or(0, |parts| parts.iter().filter(|part| part["waiting"] != 0).count());
    assert!(receivers > 1, "they are divided");
    let worker = world.worker();
    for number in 0..6 {
        await_that(|| world.ok(&["list", "--json"]).contains(&format!("\"late-{number}\"")));
        assert_eq!(world.ok(&["wait", &format!("late-{number}")]), "5");
    }
    world.ok(&["raise", "held", "approved", "1"]);
    assert_eq!(world.ok(&["wait", "held"]), "1");
    worker.stop();
}

fn waiting(world: &World) -> u64 {
    let view = world.cluster();
    let parts = view["partitions"].as_array().cloned().unwrap_or_default();
    parts.iter().filter_map(|part| part["waiting"].as_u64()).sum()
}

#[test]
fn a_number_of_partitions_that_can_not_be_is_refused() {
    let Some(world) = world(BANK, 4) else { return };
    let asks = |wanted: &str| world.raise(wanted).output().expect("it runs");
    for (wanted, code, word) in [
        ("3", 4, "it has 4 partitions, and they can become more and not fewer"),
        ("0", 2, "0 is not in 1..=4096"),
        ("4097", 2, "4097 is not in 1..=4096"),
        ("4", 0, "has a store of 4 partitions already"),
        ("6", 0, "has 6 partitions now, after 4"),
        ("6", 0, "has a store of 6 partitions already"),
        ("4096", 0, "has 4096 partitions now, after 6"),
    ] {
        let said = asks(wanted);
        assert_eq!(said.status.code(), Some(code), "{wanted}: {}", err(&said));
        assert!(err(&said).contains(word), "{wanted}: {}", err(&said));
    }
    world.ok(&["store", "verify"]);
}

/// The partition of a script's process goes with the process. Whoever asks for the script's instance
/// later gets the same answers as for any other.
#[test]
fn a_private_partition_that_is_gone_comes_back_for_those_who_ask() {
    let Some(world) = world(&program(), 2) else { return };
    world.place.put("s.df", "print(\"one\")\nlet word = receive(\"word\")\nprint(word)\nword\n");
    world.place.put("e.df", "print(\"at once\")\n");
    world.ok(&["run", "e.df", "--id", "ended"]);
    assert_eq!(world.partitions(), 2, "its partition has gone");
    let ended = only_id(&world);
    let worker = world.worker();
    world.await_owners(1);
    // What has ended says so, and can be purged.
    for args in [vec!["raise", &ended, "word", "1"], vec!["suspend", &ended], vec!["terminate", &ended]] {
        let said = world.fails(&args, 1);
        assert!(said.contains("has ended already"), "{said}");
    }
    world.ok(&["wait", &ended]);
    let child = world.ok(&["start", "p.df", "nap", "3", "--id", "knows!70"]);
    assert_eq!(world.ok(&["wait", &child]), "3", "a number that no partition has makes one");
    world.ok(&["purge", &ended, &child]);
    assert_eq!(world.ok(&["list", "--json"]), "");
    assert!(world.fails(&["raise", &ended, "word", "1"], 5).contains("there is no instance"));
    // A script that waits, and whose process is gone, goes on when its event comes.
    let mut waits =
        world.command(&["run", "s.df", "--id", "waits"]).stdout(Stdio::null()).spawn().expect("it runs");
    await_that(|| world.ok(&["list", "--json"]).contains("\"waits!"));
    let id = only_id(&world);
    await_that(|| world.ok(&["history", &id]).contains("word"));
    let pid = nix::unistd::Pid::from_raw(waits.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("a signal");
    assert_eq!(waits.wait().expect("it ends").code(), Some(130));
    world.ok(&["raise", &id, "word", "\"later\""]);
    assert_eq!(world.ok(&["wait", &id]), "later");
    // A worker removes private partitions that rest, and nothing is left of them.
    await_that(|| world.partitions() == 2);
    world.ok(&["store", "verify"]);
    worker.stop();
}

fn only_id(world: &World) -> String {
    let listed = world.ok(&["list", "--json"]);
    let [line] = listed.lines().collect::<Vec<_>>()[..] else { panic!("{listed}") };
    let record: Json = serde_json::from_str(line).expect("JSON");
    record["id"].as_str().expect("an id").to_string()
}

#[test]
fn a_store_moves_between_databases_and_folders() {
    let Some(world) = world(BANK, 3) else { return };
    let worker = world.worker();
    world.await_owners(1);
    for number in 0..6 {
        let (from, to) = (format!("k{number}"), format!("k{}", number + 1));
        world.ok(&["start", "p.df", "transfer", &from, &to, "1", "--id", &format!("t{number}")]);
    }
    let waits = world.ok(&["start", "p.df", "approval", "--id", "waits"]);
    for number in 0..6 {
        world.ok(&["wait", &format!("t{number}")]);
    }
    // Workers may go on meanwhile, and an import needs that there are none.
    world.ok(&["store", "export", "one.jsonl"]);
    let said = world.fails(&["store", "import", "one.jsonl"], 4);
    assert!(said.contains("workers have partitions of it"), "{said}");
    worker.stop();
    let said = world.fails(&["store", "import", "one.jsonl"], 4);
    assert!(said.contains("it is not empty"), "{said}");
    world.place.ok(&["store", "import", "one.jsonl", "--store", "folder"]);
    world.place.ok(&["store", "verify", "--store", "folder"]);
    world.place.ok(&["raise", &waits, "approved", "\"in the folder\"", "--store", "folder"]);
    assert_eq!(world.place.ok(&["wait", &waits, "--store", "folder"]), "in the folder");
    world.place.ok(&["store", "export", "two.jsonl", "--store", "folder"]);
    // Back into a database with another number of partitions, which goes on.
    let other = World::of(BANK, world.server, 5);
    std::fs::copy(world.place.path().join("two.jsonl"), other.place.path().join("two.jsonl"))
        .expect("a copy");
    let said = other.fails(&["store", "import", "p.df"], 2);
    assert!(said.contains("nothing was imported"), "{said}");
    other.ok(&["store", "import", "two.jsonl"]);
    other.ok(&["store", "verify"]);
    assert_eq!(books(&other), books(&world));
    let worker = other.worker();
    other.await_owners(1);
    assert_eq!(other.ok(&["wait", &waits]), "in the folder");
    other.ok(&["start", "p.df", "transfer", "k0", "k6", "1", "--id", "last"]);
    assert_eq!(other.ok(&["wait", "last"]), "moved");
    assert_eq!(books(&other).1, 14);
    worker.stop();
}

#[test]
fn a_database_that_went_back_is_adopted_by_a_command() {
    let Some(world) = world(BANK, 1) else { return };
    let worker = world.worker();
    world.await_owners(1);
    world.ok(&["start", "p.df", "approval", "--id", "a"]);
    let before = world.server.sql(&world.database, "select max(n) from durable.commits");
    world.ok(&["start", "p.df", "approval", "--id", "b"]);
    worker.stop();
    // The commits since then are lost, as by a restore.
    let lose = format!("delete from durable.commits where n > {before}");
    world.server.sql(&world.database, &lose);
    let worker = world.worker();
    await_that(|| world.log().contains("durable store adopt"));
    assert!(world.log().contains("partition 0 can't be worked on"), "{}", world.log());
    worker.stop();
    let adopted = world.place.command(&["store", "adopt", &world.url]).output().expect("it runs");
    assert!(err(&adopted).contains("counts now"), "{}", err(&adopted));
    let worker = world.worker();
    world.await_owners(1);
    world.ok(&["raise", "a", "approved", "1"]);
    assert_eq!(world.ok(&["wait", "a"]), "1");
    worker.stop();
    let said = world.place.command(&["store", "adopt", "folder"]).output().expect("it runs");
    assert_eq!(said.status.code(), Some(2), "{}", err(&said));
}

/// A worker of a newer version joins, and the older one leaves; what each of them can't read waits.
#[test]
fn workers_of_another_version_take_over_one_after_another() {
    let Some(world) = world(BANK, 4) else { return };
    let old = world.worker();
    world.await_owners(1);
    world.server.sql(&world.database, "update durable.worker set version = '0.0.1'");
    let ids: Vec<String> = (0..8).map(|_| world.ok(&["start", "p.df", "approval"])).collect();
    let new = world.worker();
    world.await_owners(2);
    let view = world.cluster();
    let versions: Vec<&str> = view["workers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|worker| worker["version"].as_str())
        .collect();
    assert!(versions.contains(&"0.0.1") && versions.contains(&env!("CARGO_PKG_VERSION")), "{versions:?}");
    // A request in a form of another version is answered, and is not carried out.
    let request = "select durable.send(durable.number(), 0, '\\x63000000aa')";
    world.server.sql(&world.database, request);
    let answered = || world.server.sql(&world.database, "select encode(body, 'escape') from durable.answer");
    await_that(|| answered().contains("another version"));
    old.stop();
    world.await_owners(1);
    for id in &ids {
        world.ok(&["raise", id, "approved", "1"]);
        assert_eq!(world.ok(&["wait", id]), "1");
    }
    // A message that this version can't read waits for one that can. Everybody else goes on.
    world.server.sql(&world.database, "insert into durable.transit values (0, 1, 99999, '\\x00000002637f')");
    await_that(|| world.log().contains("message 99999 of partition 1 is not readable"));
    world.server.sql(&world.database, "delete from durable.transit where n = 99999");
    // A newer schema ends the workers that do not know it, and refuses everybody else.
    world.server.sql(&world.database, "update durable.cluster set format = 2");
    let code = new.ends().code();
    assert_eq!(code, Some(4), "{}", world.log());
    assert!(world.log().contains("the store has format 2"), "{}", world.log());
    assert!(world.fails(&["list"], 4).contains("the store has format 2"));
    let owners =
        world.server.sql(&world.database, "select count(*) from durable.part where owner is not null");
    assert_eq!(owners, "0", "it has handed everything over");
}
