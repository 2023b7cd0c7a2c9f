//! Critical sections never leave an entity locked. The tests reproduce the situations in which
//! Azure's implementation did, by the numbers of the issues in
//! Azure/azure-functions-durable-extension, at each point where a process may die.

mod common;

use common::sim::{Crash, World};
use durable::engine::Status;

const ENTITIES: &str = "
entity Thing { state 0; on add(n) { state += n; state } }
activity work(n) => n
activity fails() { throw {kind: \"broken\", message: \"in the activity\"} }
";

/// Runs a program once for each crash point, and for each pair of crash points a little apart. In
/// each run the world checks that only running instances hold locks, and that no lock is left at
/// the end.
fn at_every_point(program: &str, result: &str) {
    let text = format!("{ENTITIES}{program}");
    let image = common::image(&text);
    let mut unbroken = World::new(image.clone(), 1);
    (unbroken.orderly, unbroken.fine) = (true, true);
    unbroken.run().expect("the unbroken run");
    for first in 1..=unbroken.points {
        for apart in [0, 1, 3, 7] {
            let mut world = World::new(image.clone(), 1);
            (world.orderly, world.fine) = (true, true);
            world.crash = if apart == 0 { Crash::At(first) } else { Crash::Twice(first, first + apart) };
            let record = world.run().unwrap_or_else(|reason| {
                panic!("at {first} and {apart} later: {reason}\n{text}\n{}", world.trace.join("\n"))
            });
            match &record.status {
                Status::Completed(value) => {
                    assert_eq!(durable::machine::format::display(&value.decode()), result, "at {first}");
                }
                other => panic!("at {first} and {apart} later it ended as {other:?}"),
            }
        }
    }
    assert!(unbroken.points > 20, "{}", unbroken.points);
}

/// The process is killed within a critical section, around an activity.
#[test]
fn azure_1325_a_process_that_is_killed_within_the_section() {
    at_every_point(
        "orchestration section() { lock Thing(3) { Thing(3).add(1); work(1); Thing(3).add(1) } }
         section()
         lock Thing(3) { Thing(3).add(10) }",
        "12",
    );
}

/// A critical section throws an error, and each replay throws it again.
#[test]
fn azure_1977_an_error_during_replay() {
    at_every_point(
        "orchestration section(n) {
           lock Thing(3) { work(n); sleep(1s); if n > 1 { throw {kind: \"random\"} }; Thing(3).add(n) }
         }
         let kinds = [1, 2, 3].map(fn n => try { section(n); \"fine\" } catch {kind} { kind })
         [kinds, lock Thing(3) with {timeout: 1h} { Thing(3).add(0) }]",
        "[[\"fine\", \"random\", \"random\"], 1]",
    );
}

/// The process dies before or after the grant of a lock is written, while the holder goes on and
/// releases the lock.
#[test]
fn azure_2228_a_crash_between_the_grant_and_the_release() {
    at_every_point(
        "orchestration section(n) { lock Thing(1), Thing(2) { Thing(1).add(n); Thing(2).add(-n) } }
         all([1, 2, 3, 4].map(fn n => async section(n)))
         lock Thing(1), Thing(2) { [Thing(1).add(0), Thing(2).add(0)] }",
        "[10, -10]",
    );
}

/// An uncaught error of an activity leaves the critical section and fails the instance.
#[test]
fn azure_2743_a_section_that_is_left_by_an_error() {
    at_every_point(
        "orchestration section() { lock Thing(1), Thing(2) { Thing(1).add(1); fails() } }
         let kind = try { section() } catch {kind} { kind }
         [kind, lock Thing(1), Thing(2) with {timeout: 1h} { Thing(1).add(0) + Thing(2).add(0) }]",
        "[\"broken\", 1]",
    );
}

/// A holder and an instance that waits for the lock are terminated.
#[test]
fn termination_while_holding_and_while_waiting() {
    at_every_point(
        "orchestration section(n) { lock Thing(1), Thing(2) { Thing(1).add(n); receive(\"never\") } }
         let holder = start section(1)
         sleep(1s)
         let waits = start section(10)
         sleep(1s)
         terminate(waits)
         terminate(holder)
         lock Thing(1), Thing(2) with {timeout: 1h} { Thing(1).add(0) }",
        "1",
    );
}

/// A critical section that times out while it queues leaves nothing in the queues.
#[test]
fn a_timeout_while_queueing() {
    at_every_point(
        "orchestration section(n) { lock Thing(2) { sleep(10s); Thing(2).add(n) } }
         let holder = start section(1)
         sleep(1s)
         let kind = try { lock Thing(1), Thing(2), Thing(3) with {timeout: 2s} { 0 } } catch {kind} { kind }
         let free = lock Thing(1), Thing(3) with {timeout: 1s} { Thing(1).add(5) }
         wait(holder)
         [kind, free, lock Thing(1), Thing(2), Thing(3) { Thing(2).add(0) }]",
        "[\"timeout\", 5, 1]",
    );
}

/// The loser of a race releases the locks that it holds or requests.
#[test]
fn a_lost_race() {
    at_every_point(
        "fn section(d) { lock Thing(1), Thing(2) { Thing(1).add(1); sleep(d); Thing(2).add(1) } }
         let first = race({s: async section(10s), t: async sleep(1s)}).keys()
         [first, lock Thing(1), Thing(2) with {timeout: 1h} { [Thing(1).add(0), Thing(2).add(0)] }]",
        "[[\"t\"], [1, 0]]",
    );
}
