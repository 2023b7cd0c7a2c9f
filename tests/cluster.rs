//! Workers and clients on a private PostgreSQL: commands through the database, takeovers, and what
//! must hold after kills, stops and crashes of the server.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::place::{Place, admin_token, await_that, err, http_get, out};
use common::postgres::Server;
use common::workers::{BANK, Worker, World, books, world};
use common::{Random, setting};
use durable::http::{Keys, Scope};
use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};

#[test]
fn commands_reach_instances_and_entities_of_all_partitions() {
    let Some(world) = world(BANK, 8) else { return };
    let workers = [world.worker(), world.worker()];
    world.await_owners(2);
    for number in 0..12 {
        let id = format!("t{number}");
        let (from, to) = (format!("a{}", number % 5), format!("b{}", number % 7));
        world.ok(&["start", "p.df", "transfer", &from, &to, "1", "--id", &id]);
    }
    for number in 0..12 {
        assert_eq!(world.ok(&["wait", &format!("t{number}")]), "moved");
    }
    // An event reaches an instance wherever it is, and the list shows all partitions.
    let id = world.ok(&["start", "p.df", "approval"]);
    world.ok(&["raise", &id, "approved", "\"by ada\""]);
    assert_eq!(world.ok(&["wait", &id]), "by ada");
    assert_eq!(world.ok(&["list", "--json"]).lines().count(), 13);
    assert_eq!(world.ok(&["locks", "--json"]), "");
    // Calls and signals of clients.
    assert_eq!(world.ok(&["call", "Account@a0", "balance", "--id", "c1"]), "97");
    world.ok(&["signal", "Account@a0", "put", "3"]);
    await_that(|| world.ok(&["call", "Account@a0", "balance"]) == "100");
    // A repeated id is the same instance, and another one's is refused.
    assert_eq!(world.ok(&["start", "p.df", "transfer", "a0", "b0", "1", "--id", "t0"]), "t0");
    let other = world.command(&["start", "p.df", "transfer", "a9", "b0", "1", "--id", "t0"]).output();
    assert_eq!(other.expect("it runs").status.code(), Some(1));
    // Purged instances are gone everywhere.
    world.ok(&["purge", "t0", "t1", "t2"]);
    assert_eq!(world.ok(&["list", "--json"]).lines().count(), 10);
    for worker in workers {
        worker.stop();
    }
    let view = world.cluster();
    assert_eq!(view["workers"].as_array().map(Vec::len), Some(0), "they have left: {view}");
}

/// All partitions of a worker commit through a few connections.
#[test]
fn a_worker_of_many_partitions_needs_few_connections() {
    let Some(world) = world(BANK, 48) else { return };
    let worker = world.worker();
    world.await_owners(1);
    for number in 0..80 {
        world.ok(&["start", "p.df", "approval", "--id", &format!("n{number}")]);
    }
    let owners = world
        .server
        .sql(&world.database, "select count(distinct part) from durable.commits where part < 48 and n > 0");
    assert!(owners.parse::<u32>().is_ok_and(|count| count > 24), "{owners} partitions have committed");
    let sql = "select count(*) from pg_stat_activity where datname = current_database()";
    let count: u32 = world.server.sql(&world.database, sql).parse().expect("a number");
    // This query is one of them.
    assert!(count <= 1 + 12 + 4, "{count} connections");
    worker.stop();
}

/// Instances that go on at one time are read with few questions.
#[test]
fn instances_that_wake_together_are_read_together() {
    let program = "orchestration one(t) { sleep_until(t) }\n\
        orchestration many(n) {\n  let t = now() + 6s\n  for k in 0..n { start one(t) }\n  n\n}\n";
    let Some(world) = world(program, 2) else { return };
    let worker = world.worker();
    assert_eq!(world.ok(&["start", "--wait", "p.df", "many", "2000"]), "2000");
    let all = || {
        world.server.sql(&world.database, "select count(*) from durable.queue where substr(k, 1, 2) = 'a/'")
    };
    await_that(|| all() == "2000");
    worker.stop();
    thread::sleep(Duration::from_secs(6));
    let transactions = || {
        let sql = "select xact_commit from pg_stat_database where datname = current_database()";
        world.server.sql(&world.database, sql).parse::<u64>().expect("a number")
    };
    // The counts of a connection are added when it ends, or a second later.
    thread::sleep(Duration::from_secs(2));
    let before = transactions();
    let worker = world.worker();
    await_that(|| all() == "0");
    worker.stop();
    thread::sleep(Duration::from_secs(2));
    let transactions = transactions() - before;
    assert!(transactions < 2_000, "{transactions} for 2,000 instances");
}

/// Steps one after another go to rows of the history that stay short, since the database writes a row
/// that grows anew as a whole.
#[test]
fn steps_one_after_another_are_in_short_rows() {
    let Some(world) = world("orchestration steps(n) {\n  for _ in 0..n { fs.exists(\"x\") }\n  n\n}\n", 2)
    else {
        return;
    };
    let worker = world.worker();
    let written = || {
        let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')";
        world.server.sql(&world.database, "checkpoint");
        world.server.sql(&world.database, sql).parse::<u64>().expect("a number")
    };
    world.ok(&["start", "--wait", "p.df", "steps", "10"]);
    let before = written();
    assert_eq!(world.ok(&["start", "--wait", "--id", "s", "p.df", "steps", "600"]), "600");
    let a_step = (written() - before) / 600;
    let rows = world.server.sql(
        &world.database,
        "select count(*), max(length(v)) from durable.kv where k >= 'h/s' and k < 'h/t'",
    );
    let (rows, longest) = rows.split_once('|').expect("two fields");
    let (rows, longest): (u64, u64) = (rows.parse().expect("a number"), longest.parse().expect("a number"));
    assert!(longest < 700 && (20..300).contains(&rows), "{rows} rows, the longest of {longest} bytes");
    // With rows of up to 16 KiB, there were more than 8,000.
    assert!(a_step < 3_000, "{a_step} bytes of log for a step");
    assert_eq!(world.ok(&["history", "s", "--json"]).lines().count(), 1_201);
    worker.stop();
}

/// The debugger reads the database, with workers and without, and a worker's page shows moments of
/// instances of all workers.
#[test]
fn instances_and_operations_of_a_cluster_are_debugged() {
    let Some(world) = world(BANK, 8) else { return };
    let tokens = world.place.path().join("tokens");
    let tokens = tokens.to_str().expect("a path");
    let http = ["--lease", "2s", "--journal-entities", "--http", "127.0.0.1:0", "--http-token-file", tokens];
    let workers = [world.worker_with(&http), world.worker_with(&["--lease", "2s", "--journal-entities"])];
    world.await_owners(2);
    for number in 0..6 {
        let (from, to, id) = (format!("a{number}"), format!("b{number}"), format!("t{number}"));
        world.ok(&["start", "p.df", "transfer", &from, &to, "7", "--id", &id]);
    }
    for number in 0..6 {
        world.ok(&["wait", &format!("t{number}")]);
    }
    world.ok(&["start", "p.df", "approval", "--id", "waits"]);
    await_that(|| world.ok(&["show", "waits"]).contains("waits for  receive"));
    let debug = |id: &str, commands: &str| {
        let mut command = world.command(&["debug", id]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("durable runs");
        child.stdin.take().expect("stdin").write_all(commands.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", err(&output));
        out(&output)
    };
    let looks = || {
        let moments = (0..6).map(|number| {
            let commands =
                "seek start\nstep\nstep\nvars\nbreak fn put\ninto\ninto\nvars\nout\nseek end\nback\n";
            debug(&format!("t{number}"), commands)
        });
        moments.collect::<Vec<_>>()
    };
    let said = looks();
    for (number, said) in said.iter().enumerate() {
        assert!(said.contains(&format!("from = \"a{number}\"")), "{said}");
        assert!(said.contains("the end: completed with \"moved\""), "{said}");
        assert!(said.contains(&format!("Account@a{number}.take #1")), "{said}");
        assert!(said.contains("state = {balance: 100, moves: 0}"), "{said}");
    }
    assert!(debug("waits", "waiting\n").contains("waits for receive(\"approved\")"));
    // The slider of the page, on one worker, for the instances of both.
    let log = world.log();
    let address = log.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.expect("an address").trim_end_matches('/').to_string();
    let token = admin_token(&world.place.text("tokens"));
    for number in 0..6 {
        let path = format!("/api/v1/instances/t{number}/debug?at=1.0&step=next");
        let (code, moment) = http_get(&address, &path, &token);
        assert_eq!((code, &moment["calls"][0]["function"]), (200, &"transfer".into()), "{moment}");
    }
    for worker in workers {
        worker.stop();
    }
    assert_eq!(looks(), said, "the debugger needs no worker");
}

#[test]
fn a_command_waits_for_a_worker_and_is_carried_out_once() {
    let Some(world) = world(BANK, 4) else { return };
    let waits = world.command(&["start", "p.df", "transfer", "x", "y", "5", "--id", "once"]).spawn();
    let mut waits = waits.expect("it runs");
    thread::sleep(Duration::from_millis(300));
    assert!(waits.try_wait().expect("a process").is_none(), "nobody can carry it out");
    // The client is gone, and the command stays.
    waits.kill().expect("a kill");
    waits.wait().expect("it ends");
    let worker = world.worker();
    await_that(|| world.ok(&["list", "--json"]).lines().count() == 1);
    assert_eq!(world.ok(&["wait", "once"]), "moved");
    assert_eq!(world.ok(&["call", "Account@x", "balance"]), "95");
    worker.stop();
}

#[test]
fn partitions_of_a_killed_worker_are_taken_over() {
    let Some(world) = world(BANK, 8) else { return };
    let (first, second) = (world.worker(), world.worker());
    world.await_owners(2);
    let ids: Vec<String> = (0..16).map(|_| world.ok(&["start", "p.df", "approval"])).collect();
    first.kill();
    for id in &ids {
        world.ok(&["raise", id, "approved", "1"]);
    }
    for id in &ids {
        assert_eq!(world.ok(&["wait", id]), "1");
    }
    world.await_owners(1);
    // A worker that comes gets its share, and one that leaves hands its own over at once.
    let third = world.worker();
    world.await_owners(2);
    second.stop();
    world.await_owners(1);
    assert_eq!(world.ok(&["list", "--json", "--status", "completed"]).lines().count(), 16);
    third.stop();
}

/// Three workers under SIGKILL, SIGSTOP beyond the lease, and crashes of the server: each
/// acknowledged start completes once, sums are exact, and no lock is left.
#[test]
fn a_storm_loses_nothing_and_doubles_nothing() {
    // The server is its own, since it crashes.
    let Some(own) = Server::start("") else { return };
    let own: &'static Server = Box::leak(Box::new(own));
    let database = own.database();
    let url = own.url(&database);
    let place = Place::new(BANK);
    place.ok(&["store", "init", &url, "--partitions", "6"]);
    let world = World { server: own, place, database, url };
    let mut random = Random::new(setting("CLUSTER_SEED", 1));
    let mut workers: Vec<Worker> =
        (0..3).map(|_| world.worker_with(&["--lease", "1s", "--journal-entities"])).collect();
    world.await_owners(3);
    let until = Instant::now() + Duration::from_secs(setting("CLUSTER_SECONDS", 12));
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    while Instant::now() < until {
        for _ in 0..6 {
            number += 1;
            let id = format!("s{number}");
            let (from, to) = (format!("k{}", random.below(9)), format!("k{}", random.below(9)));
            if from == to {
                continue;
            }
            // The client waits while nobody owns the partition.
            world.ok(&["start", "p.df", "transfer", &from, &to, "1", "--id", &id]);
            acknowledged.push(id);
        }
        let at = random.below(workers.len() as u64) as usize;
        match random.below(4) {
            0 => {
                workers.swap_remove(at).kill();
                workers.push(world.worker_with(&["--lease", "1s", "--journal-entities"]));
            }
            1 => {
                let worker = &workers[at];
                worker.signal(Signal::SIGSTOP);
                thread::sleep(Duration::from_millis(1_000 + random.below(1_500)));
                worker.signal(Signal::SIGCONT);
            }
            2 => {
                world.server.stop("immediate");
                world.server.begin();
            }
            _ => {
                workers.swap_remove(at).stop();
                workers.push(world.worker_with(&["--lease", "1s", "--journal-entities"]));
            }
        }
    }
    for id in &acknowledged {
        assert_eq!(world.ok(&["wait", id]), "moved", "{id}\n{}", world.log());
    }
    let (balance, moves, locks) = books(&world);
    assert_eq!((balance, locks.as_str()), (0, ""), "{}", world.log());
    assert_eq!(moves, 2 * acknowledged.len() as i64, "{}", world.log());
    assert_eq!(world.ok(&["list", "--json", "--status", "completed"]).lines().count(), acknowledged.len());
    world.ok(&["store", "verify"]);
    world.ok(&["verify-run", "--all"]);
}

/// A script runs in a partition of its process, survives the process, and is joined by its id.
#[test]
fn a_script_runs_in_a_partition_of_its_own() {
    let Some(world) = world(BANK, 4) else { return };
    world
        .place
        .put("s.df", "print(\"one\")\nsleep(1s)\nfs.append(\"out.txt\", \"two\\n\")\nprint(\"three\")\n");
    let mut first =
        world.command(&["run", "s.df", "--id", "mine"]).stdout(Stdio::null()).spawn().expect("it runs");
    await_that(|| world.ok(&["list", "--json"]).contains("\"mine!"));
    first.kill().expect("a kill");
    first.wait().expect("it ends");
    // Without a worker, nobody has the partition once the lease is over.
    let worker = world.worker();
    let again = world.command(&["run", "s.df", "--id", "mine"]).output().expect("it runs");
    assert!(again.status.success(), "{}{}", out(&again), err(&again));
    assert_eq!(world.place.text("out.txt"), "two\n");
    assert_eq!(world.ok(&["list", "--json", "--status", "completed"]).lines().count(), 1);
    worker.stop();
}

/// The server of one worker has the instances and the entities of all partitions, and says who owns
/// what.
#[test]
fn the_server_of_a_worker_shows_the_whole_cluster() {
    let Some(world) = world(BANK, 8) else { return };
    let tokens = world.place.path().join("tokens");
    let file = tokens.to_str().expect("a path");
    let lease = ["--lease", "2s"];
    let own =
        world.worker_with(&[&lease[..], &["--http", "127.0.0.1:0", "--http-token-file", file]].concat());
    let other = world.worker();
    world.await_owners(2);
    world.ok(&["deploy", "p.df"]);
    let log = world.log();
    let address = log.lines().find_map(|line| line.split("listening on http://").nth(1)).expect("an address");
    let token = Keys::open(&tokens).expect("tokens").token(Scope::Admin).to_string();
    let ask = |method: &str, path: &str, body: Json| -> Json {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(address).expect("a connection");
        let head =
            format!("{method} /api/v1{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}");
        write!(stream, "{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
        serde_json::from_str(body).expect("JSON")
    };
    let ids: BTreeSet<String> = (0..12).map(|number| format!("i{number}")).collect();
    for id in &ids {
        ask("POST", "/instances", json!({"function": "approval", "id": id}));
    }
    // What other workers have written is in the list within a moment.
    await_that(|| {
        let listed = ask("GET", "/instances?status=running&limit=50", Json::Null);
        let listed = listed["items"].as_array().expect("items").iter();
        listed.map(|item| item["id"].as_str().expect("an id").to_string()).collect::<BTreeSet<_>>() == ids
    });
    for id in &ids {
        ask("POST", &format!("/instances/{id}/events/approved"), json!({"for": id}));
        let ended = ask("GET", &format!("/instances/{id}?wait=20"), Json::Null);
        assert_eq!((&ended["status"], &ended["result"]), (&json!("completed"), &json!({"for": id})));
    }
    for key in 0..9 {
        let path = format!("/entities/Account/k{key}");
        assert_eq!(ask("POST", &format!("{path}/call/balance"), Json::Null)["result"], json!(100));
    }
    assert_eq!(ask("GET", "/entities/Account", Json::Null)["operations"][0]["operation"], "take");

    let cluster = || ask("GET", "/cluster", Json::Null);
    let names = |view: &Json, of: &str, name: &str| -> Vec<Json> {
        view[of].as_array().expect("a list").iter().map(|one| one[name].clone()).collect()
    };
    let view = cluster();
    assert_eq!(names(&view, "workers", "alive"), [true, true]);
    assert_eq!(names(&view, "partitions", "owner"), names(&world.cluster(), "partitions", "owner"));
    other.kill();
    // Until another worker has them, partitions have an owner that is gone; then none has.
    await_that(|| {
        let view = cluster();
        let workers = view["workers"].as_array().expect("workers");
        let alive: Vec<&Json> = workers.iter().filter(|worker| worker["alive"] == true).collect();
        alive.len() == 1 && names(&view, "partitions", "owner").iter().all(|owner| *owner == alive[0]["id"])
    });
    own.stop();
}

// ---- activities for whoever has room

const BUSY: &str = r#"
entity Count {
  state 0
  on add(n) { state += n; state }
  on get() => state
}

fn spin(k) {
  var x = k
  for i in 1..=2_000_000 { x = (x * 31 + i) % 1_000_003 }
  x
}

// Some activities call an entity and wait for its answer, and some send messages.
activity busy(k) {
  let x = spin(k)
  let called = if k % 4 == 0 { Count("called").add(1) } else { 0 }
  if k % 4 == 1 { signal Count("signalled").add(1) }
  {by: env("WORKER"), x, called: called > 0}
}

orchestration many(n) {
  let done = all((1..=n).map(fn k => async busy(k)))
  assert(done.map(fn r => r.x) == (1..=n).map(fn k => spin(k)))
  {by: done.map(fn r => r.by).unique().sort(), called: done.filter(fn r => r.called).len()}
}

activity endless(k) { var x = k; while true { x = (x * 31 + 1) % 1_000_003 } }

orchestration waits(n) { all((1..=n).map(fn k => async endless(k))) }
"#;

impl World {
    /// Starts a worker that its activities know by name.
    fn named_worker(&self, name: &str) -> Worker {
        let mut command = self.command(&["serve", "--lease", "2s"]);
        Worker(
            command
                .env("WORKER", name)
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("a worker"),
        )
    }

    /// Waits until all partitions have owners, and no worker has given one back for longer than the
    /// time between two looks.
    fn await_all_owned(&self) {
        let mut before = Vec::new();
        await_that(|| {
            let parts = self.cluster()["partitions"].as_array().cloned().unwrap_or_default();
            let epochs: Vec<Json> = parts.iter().map(|part| part["epoch"].clone()).collect();
            let rests = epochs == before && parts.iter().all(|part| part["owner"].is_string());
            before = epochs;
            if !rests {
                thread::sleep(Duration::from_millis(1_200));
            }
            rests
        });
    }

    /// Returns the number of activities that are offered to all workers.
    fn offered(&self) -> u64 {
        let count = self.server.sql(&self.database, "select count(*) from durable.task");
        count.trim().parse().expect("a number")
    }
}

/// The activities of one instance run on both workers, with everything that activities do.
#[test]
fn activities_run_where_there_is_room() {
    let Some(world) = world(BUSY, 1) else { return };
    let workers = [world.named_worker("one"), world.named_worker("two")];
    await_that(|| world.cluster()["workers"].as_array().is_some_and(|all| all.len() == 2));
    world.await_all_owned();
    world.ok(&["start", "p.df", "many", "80", "--id", "m"]);
    assert_eq!(world.ok(&["wait", "m"]), r#"{by: ["one", "two"], called: 20}"#);
    assert_eq!(world.ok(&["call", "Count@called", "get"]), "20");
    await_that(|| world.ok(&["call", "Count@signalled", "get"]) == "20");
    assert_eq!(world.offered(), 0);
    for worker in workers {
        worker.stop();
    }
}

/// Either worker is killed while both run activities: the rest is done by the other one.
#[test]
fn activities_of_a_killed_worker_run_again() {
    let Some(world) = world(BUSY, 1) else { return };
    for round in 0..2 {
        let (first, second) = (world.named_worker("one"), world.named_worker("two"));
        world.await_all_owned();
        let id = format!("m{round}");
        world.ok(&["start", "p.df", "many", "60", "--id", &id]);
        await_that(|| world.offered() > 4);
        let (killed, stays) = if round == 0 { (first, second) } else { (second, first) };
        killed.kill();
        assert!(world.ok(&["wait", &id]).ends_with("called: 15}"));
        await_that(|| world.offered() == 0);
        stays.stop();
    }
}

/// Nobody runs an activity whose instance has ended.
#[test]
fn offers_are_withdrawn() {
    let Some(world) = world(BUSY, 1) else { return };
    let workers = [world.named_worker("one"), world.named_worker("two")];
    world.await_all_owned();
    world.ok(&["start", "p.df", "waits", "40", "--id", "w"]);
    await_that(|| world.offered() > 4);
    world.ok(&["terminate", "w"]);
    await_that(|| world.offered() == 0);
    // There is room for others again.
    world.ok(&["start", "p.df", "many", "20", "--id", "m"]);
    assert!(world.ok(&["wait", "m"]).ends_with("called: 5}"));
    for worker in workers {
        worker.stop();
    }
}
