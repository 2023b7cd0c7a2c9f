//! Stores of several partitions, each with an engine of its own: the same promises as on one
//! engine, through crashes of one partition or of all, and messages that come late or twice.
//!
//! `SIMULATION_SEED` and `SIMULATION_RUNS` are as in `simulation.rs`.

mod common;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use common::callers::{self, Callers};
use common::driver::Driver;
use common::outside;
use common::program::{Program, areas, programs};
use common::promises::{all_records, check_rest};
use common::sim::{Crash, World};
use common::worlds::{check_logs, checkpoints, many_program, often};
use common::{Random, image, image_with, setting};
use durable::engine::{
    Active, Address, Engine, Event, InstanceRecord, Message, Output, Replayed, Status, Tree, keys,
    read_history, read_record, replay,
};
use durable::kv::{Arrival, Read, Receipt, Source};
use durable::machine::{Data, EntityId, Image, Value, format};

/// Every conformance program that needs no outside ends on three partitions as on one store, even
/// if a partition crashes at any of some points.
#[test]
fn conformance_programs_end_on_partitions_as_on_one_store() {
    let most = setting("SIMULATION_POINTS", 4);
    let (mut count, mut failures) = (0, Vec::new());
    for area in areas() {
        for program in programs(&area) {
            if program.expects_mistake() || program.is_of_another_world() {
                continue;
            }
            count += 1;
            if let Err(reason) = conforms(&program, most) {
                failures.push(format!("{}: {reason}", program.name));
            }
        }
    }
    println!("{count} programs");
    assert!(failures.is_empty(), "{} of {count}\n{}", failures.len(), failures.join("\n"));
    assert!(count > 150, "only {count} programs");
}

fn conforms(program: &Program, most: u64) -> Result<(), String> {
    let world = |partitions: u16, crash: Crash| {
        let mut world = World::new(program.image(), 1);
        world.with(&program.args(), &program.input());
        (world.orderly, world.fine, world.crash) = (true, true, crash);
        if partitions > 1 {
            world.driver.divide(partitions);
        }
        world
    };
    let mut one = world(1, Crash::Never);
    one.run()?;
    let wanted = one.observed();
    let run = |crash: Crash| -> Result<u64, String> {
        let mut spread = world(3, crash);
        let trace = |spread: &World| spread.trace[spread.trace.len().saturating_sub(30)..].join("\n");
        spread.run().map_err(|reason| format!("{crash:?}: {reason}\n{}", trace(&spread)))?;
        let observed = spread.observed();
        if observed != wanted {
            let keys = wanted.keys().chain(observed.keys());
            let differs = keys.filter(|key| observed.get(*key) != wanted.get(*key));
            let differs =
                differs.map(|key| format!("{key}: {:?} instead of {:?}", observed.get(key), wanted.get(key)));
            let differs: Vec<String> = differs.collect();
            return Err(format!("{crash:?}: {}\n{}", differs.join("\n"), trace(&spread)));
        }
        Ok(spread.points)
    };
    let points = run(Crash::Never)?;
    let every = points.div_ceil(most).max(1);
    for point in (1..=points).step_by(every as usize) {
        run(Crash::At(point))?;
    }
    Ok(())
}

/// Worlds of many instances and entities over two to four partitions. Their final states are
/// checked against what they did: money is only moved, and each sender's messages come once and in
/// order.
#[test]
fn random_worlds_over_partitions_keep_their_promises() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 300));
    let (mut crashes, mut alone) = (0, 0);
    for seed in first..first + runs {
        let of = many(seed).unwrap_or_else(|reason| panic!("{reason}"));
        (crashes, alone) = (crashes + of.0, alone + of.1);
    }
    println!("{runs} runs, {crashes} crashes of all partitions, {alone} of one");
    assert!(runs < 10 || (crashes > 0 && alone > 0), "nothing crashed");
}

fn many(seed: u64) -> Result<(u32, u32), String> {
    let mut random = Random::new(u64::wrapping_mul(seed, 7_919));
    let text = many_program(&mut random);
    let mut world = World::new(image_with(&text, |_| ()), random.next());
    world.driver.divide(2 + (seed % 3) as u16);
    world.crash = often(seed);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(3)][(seed / 3 % 3) as usize];
    world.meddling = seed.is_multiple_of(2);
    let ended = world.run();
    let failed = |reason: String| format!("seed {seed}: {reason}\n{text}\n{}", world.trace.join("\n"));
    let record = ended.map_err(failed)?;
    if let Status::Failed(error) = &record.status {
        return Err(failed(format!("it failed: {}", error.title())));
    }
    check_logs(&world.entities()).map_err(failed)?;
    for record in world.records() {
        let history =
            read_history(&world.driver.store, &record).map_err(|error| failed(error.to_string()))?;
        match replay(&world.image(), record.clone(), history, &mut |_, _| ()) {
            Replayed::Ended(status) if status == record.status => {}
            Replayed::Ended(_) if matches!(record.status, Status::Terminated(_)) => {}
            _ if !record.status.is_ended() => {}
            other => return Err(failed(format!("replay of {} came to {other:?}", record.id))),
        }
    }
    Ok((world.crashes, world.alone))
}

/// Clients call an entity beside critical sections, over partitions that crash. They ask again
/// until each call has its answer.
#[test]
fn calls_of_clients_happen_once_over_partitions() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 60));
    let image = image(callers::PROGRAM);
    for seed in first..first + runs {
        let mut world = World::new(image.clone(), u64::wrapping_mul(seed, 7_919));
        world.driver.divide(2 + (seed % 3) as u16);
        world.crash = often(seed);
        world.checkpoints = checkpoints(seed);
        world.is_operated_by(Box::new(Callers::new(image.clone(), seed)));
        let ended = world.run_to_the_end().and_then(|()| callers::check(&world));
        ended.unwrap_or_else(|reason| panic!("seed {seed}: {reason}\n{}", world.trace.join("\n")));
    }
}

// ---- single rules

/// Lets all partitions work until nothing is left to do at this time.
fn settle(driver: &mut Driver) {
    let mut idle = 0;
    while idle < 2 * driver.partitions() {
        driver.switch((driver.present() + 1) % driver.partitions());
        let arrivals = driver.arrivals();
        arrivals.iter().for_each(|arrival| driver.arrive(arrival).expect("a body of this version"));
        driver.turn();
        let outputs = driver.outputs().expect("a store in memory");
        idle = match outputs.is_empty() && arrivals.is_empty() && !driver.engine.is_ready() {
            true => idle + 1,
            false => 0,
        };
        driver.commit().expect("a store in memory");
    }
}

fn restart(driver: &mut Driver) {
    for partition in 0..driver.partitions() {
        driver.switch(partition);
        driver.restart(Engine::new(), |_| true).expect("a store in memory");
    }
}

fn begin(driver: &mut Driver, image: &Rc<Image>, id: &str, function: &str, args: Vec<Value>) {
    driver.add(image);
    driver.switch(driver.partition_of(&Address::instance(id)));
    let args = Data::encode(&Value::list(args)).expect("data");
    let record = InstanceRecord::new(id, image.code.hash, "sim.df", function, args, driver.now);
    driver.handle(Event::Begin { record, image: image.clone() });
}

fn result(driver: &Driver, id: &str) -> String {
    let record = read_record(&driver.store, id).expect("a store in memory").expect("an instance");
    match record.status {
        Status::Completed(value) => format::display(&value.decode()),
        other => format!("{other:?}"),
    }
}

const NOW: i64 = 1_700_000_000_000_000_000;

/// An entity has run an operation of the old program. A caller of the new one, in another
/// partition, gets the new one.
#[test]
fn whoever_is_called_by_new_code_runs_new_code() {
    let of = |version: u32| {
        image(&format!(
            "entity Shop {{ state 0; on version() => {version} }}\n\
             orchestration asks(key) => Shop(key).version()\n\
             orchestration asks_a_child(key, id) => asks(key) with {{id: id}}\n"
        ))
    };
    let (old, new) = (of(1), of(2));
    let mut driver = Driver::new(&old, NOW);
    driver.divide(3);
    restart(&mut driver);
    let shop = |key: i64| EntityId::new("Shop", &Value::Int(key)).expect("a key");
    let key = (0..).find(|key| driver.partition_of(&Address::entity(shop(*key))) == 0).expect("a key");
    let args = || vec![Value::Int(key)];
    let (first, again, third) =
        (id_in(&driver, 1, "first"), id_in(&driver, 1, "again"), id_in(&driver, 1, "third"));
    begin(&mut driver, &old, &first, "asks", args());
    settle(&mut driver);
    assert_eq!(result(&driver, &first), "1");
    begin(&mut driver, &new, &again, "asks", args());
    settle(&mut driver);
    assert_eq!(result(&driver, &again), "2");
    // The old program is deployed again, and the news comes by way of a third partition.
    let child = id_in(&driver, 2, "child");
    begin(&mut driver, &old, &third, "asks_a_child", vec![Value::Int(key), Value::str(child.as_str())]);
    settle(&mut driver);
    assert_eq!(result(&driver, &child), "1");
}

/// Returns an id of a partition.
fn id_in(driver: &Driver, partition: usize, name: &str) -> String {
    let is_there = |id: &String| driver.partition_of(&Address::instance(id)) == partition;
    (0..).map(|number| format!("{name}-{number}")).find(is_there).expect("an id")
}

/// Instances that sleep are not read when their partitions are taken over, whether there is one or
/// several. They go on when their time has come, and earlier if something comes for them.
#[test]
fn what_sleeps_is_read_when_its_time_has_come() {
    let image = image(
        "orchestration sleeps(n) { sleep(1h); n }\n\
         orchestration limited(n) { try { task.timeout(2h, fn () => receive(\"go\")) } catch {kind} { kind } }\n",
    );
    for partitions in [1, 3] {
        let mut driver = Driver::new(&image, NOW);
        if partitions > 1 {
            driver.divide(partitions);
            restart(&mut driver);
        }
        for number in 0..100 {
            begin(&mut driver, &image, &format!("sleeper-{number}"), "sleeps", vec![Value::Int(number)]);
            begin(&mut driver, &image, &format!("limited-{number}"), "limited", vec![Value::Int(number)]);
        }
        settle(&mut driver);
        restart(&mut driver);
        for partition in 0..driver.partitions() {
            driver.switch(partition);
            let read = driver.engine.take_outputs();
            let fetches = read.iter().filter(|output| matches!(output, Output::Fetch { .. })).count();
            assert_eq!(fetches, 0, "{partitions} partitions");
            assert!(!driver.engine.is_quiet(), "something goes on by itself");
        }
        assert_eq!(driver.next_due(), Some(NOW + 3_600_000_000_000));
        let (to, message) = (Address::instance("limited-7"), go());
        driver.handle(Event::Send { to, from: "client-1".into(), message });
        settle(&mut driver);
        assert_eq!(result(&driver, "limited-7"), "null");
        assert!(result(&driver, "limited-8").contains("Running"));
        driver.now += 2 * 3_600_000_000_000;
        settle(&mut driver);
        for number in 0..100 {
            assert_eq!(result(&driver, &format!("sleeper-{number}")), number.to_string());
        }
        assert_eq!(result(&driver, "limited-8"), "timeout");
    }
}

fn go() -> Message {
    Message::Event { name: "go".into(), payload: Data::null() }
}

/// An arrival that was taken in and is not consumed in the store yet changes nothing when it is
/// seen again, and it is taken in again by an engine that begins anew.
#[test]
fn an_arrival_is_taken_in_once_however_often_it_is_seen() {
    let image = image(
        "orchestration counts() { var n = 0\n while true { receive(\"go\")\n n += 1\n set_status(n) } }",
    );
    let mut driver = Driver::new(&image, NOW);
    driver.divide(2);
    restart(&mut driver);
    begin(&mut driver, &image, "counter", "counts", Vec::new());
    settle(&mut driver);
    let home = driver.partition_of(&Address::instance("counter"));
    driver.switch(1 - home);
    let (to, message) = (Address::instance("counter"), go());
    driver.handle(Event::Send { to, from: "client-1".into(), message });
    driver.commit().expect("a store in memory");
    driver.switch(home);
    let arrivals = driver.arrivals();
    assert_eq!(arrivals.len(), 1);
    for _ in 0..3 {
        driver.arrive(&arrivals[0]).expect("a body of this version");
    }
    // The process ends before its commit.
    driver.restart(Engine::new(), |_| true).expect("a store in memory");
    for _ in 0..3 {
        driver.arrive(&arrivals[0]).expect("a body of this version");
        settle(&mut driver);
        driver.switch(home);
    }
    assert!(driver.arrivals().is_empty());
    let record = read_record(&driver.store, "counter").expect("a store in memory").expect("an instance");
    assert_eq!(record.custom.map(|custom| format::display(&custom.decode())), Some("1".into()));
}

/// What can't be read stops the worker. It is not passed over.
#[test]
fn an_arrival_that_can_not_be_read_is_an_error() {
    let image = image("null");
    let mut driver = Driver::new(&image, NOW);
    driver.divide(2);
    let receipt = Receipt { source: Source::Partition(1), number: 1 };
    let error = driver.arrive(&Arrival { receipt, body: vec![0, 0, 0, 9, 77] }).expect_err("an error");
    assert_eq!(error, "message 1 of partition 1 is not readable");
}

/// A purge takes the instances of its own partition. Those of others stay, and can be purged by
/// their own ids.
#[test]
fn a_purge_takes_what_belongs_to_its_partition() {
    let image = image(
        "activity starts(n) { start kid(n); n }\n\
         orchestration kid(n) => n\n\
         orchestration parent() { kid(1); range(0, 20).map(fn n => starts(n)); 0 }\n",
    );
    let mut driver = Driver::new(&image, NOW);
    driver.divide(3);
    restart(&mut driver);
    begin(&mut driver, &image, "parent", "parent", Vec::new());
    for _ in 0..60 {
        work(&mut driver, &image);
    }
    assert_eq!(result(&driver, "parent"), "0");
    let all: Vec<String> = all_records(&driver.store).into_iter().map(|record| record.id).collect();
    assert_eq!(all.len(), 22, "{all:?}");
    driver.switch(driver.partition_of(&Address::instance("parent")));
    let (here, away): (Vec<_>, Vec<_>) = all.into_iter().partition(|id| driver.has(id));
    assert!(here.len() > 1 && !away.is_empty(), "{here:?} {away:?}");
    let tree = Tree::read(&driver.store, &["parent".to_string()]).expect("a tree");
    assert!(driver.engine.unfinished(&tree).is_empty());
    driver.handle(Event::Purge { tree });
    settle(&mut driver);
    let left: Vec<String> = all_records(&driver.store).into_iter().map(|record| record.id).collect();
    assert_eq!(left, away);
    check_rest(&driver.store, driver.now).expect("nothing else is left");
}

/// Lets each partition work once, with its activities.
fn work(driver: &mut Driver, image: &Rc<Image>) {
    let images = HashMap::from([(image.code.hash, image.clone())]);
    for partition in 0..driver.partitions() {
        driver.switch(partition);
        let arrivals = driver.arrivals();
        arrivals.iter().for_each(|arrival| driver.arrive(arrival).expect("a body of this version"));
        while driver.engine.is_ready() {
            driver.turn();
        }
        let outputs = driver.outputs().expect("a store in memory");
        driver.commit().expect("a store in memory");
        for output in outputs {
            if let Output::Activity { step, .. } = &output {
                let done = outside::carry_out(&images, step, &output, driver.now, 1).expect("an activity");
                driver.handle(Event::Answer { step: step.clone(), result: done.0, sends: done.1 });
            }
        }
        driver.commit().expect("a store in memory");
    }
}

/// Prints how long an engine takes to begin on a store with 100,000 sleepers: with the times in the
/// index, and with an index of an earlier version, which has none.
#[test]
#[ignore = "it measures"]
fn how_long_a_store_with_sleepers_takes_to_open() {
    let image = image("orchestration sleeps(n) { sleep(1h); n }");
    let mut driver = Driver::new(&image, NOW);
    for number in 0..100_000 {
        begin(&mut driver, &image, &format!("sleeper-{number}"), "sleeps", vec![Value::Int(number)]);
        if number % 1_000 == 0 {
            settle(&mut driver);
        }
    }
    settle(&mut driver);
    let mut open = |what: &str| {
        let began = Instant::now();
        restart(&mut driver);
        settle(&mut driver);
        println!("{what}: {:?}", began.elapsed());
        let entries: Vec<Vec<u8>> =
            driver.store.all(keys::ACTIVE).expect("a store").into_iter().map(|(key, _)| key).collect();
        assert_eq!(entries.len(), 100_000);
        for key in entries {
            let value = driver.store.tree.get_mut(&key).expect("an entry");
            let active = Active::decode(value).expect("an entry");
            *value = Active { due: None, ..active }.encode();
        }
    };
    open("with the times");
    open("without the times");
}
