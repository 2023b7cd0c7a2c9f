//! Validation of what happened: the stores of right runs have no findings, whatever they went
//! through, and faults of the engine are found by the journals that they leave.

mod common;

use std::collections::BTreeSet;

use common::operator::{self, Operator};
use common::place::{Place, await_that};
use common::program::{areas, programs};
use common::sim::World;
use common::worlds::{checkpoints, many_program, often};
use common::{Random, image};
use durable::archive::{Traced, trace};
use durable::engine::fault::{self, Fault};

/// A world whose operators reuse ids, suspend, cancel, terminate, purge, repair and rewind.
fn operated(seed: u64) -> World {
    let image = image(operator::PROGRAM);
    let mut world = World::new(image.clone(), seed.wrapping_mul(104_729));
    world.crash = often(seed);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(2)][(seed / 3 % 3) as usize];
    world.is_operated_by(Box::new(Operator::new(image, seed)));
    world
}

/// A world of many instances and entities, with calls, signals, sections, children and events.
fn many(seed: u64) -> World {
    let mut random = Random::new(u64::wrapping_mul(seed, 7_919));
    let text = many_program(&mut random);
    let mut world = World::new(image(&text), random.next());
    world.crash = often(seed);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(3)][(seed / 3 % 3) as usize];
    world.meddling = seed.is_multiple_of(2);
    world
}

/// Runs a world to its end, or to the point at which it goes wrong, and validates its store.
fn traced(mut world: World, fault: Option<Fault>) -> Traced {
    let _ = fault::with(fault, || world.run_to_the_end());
    trace(&world.driver.store, None).expect("the store can be read")
}

#[test]
fn worlds_without_faults_have_no_findings() {
    let mut entries = 0;
    for seed in 1..60 {
        for (kind, world) in [("operated", operated(seed)), ("many", many(seed))] {
            let traced = traced(world, None);
            assert!(traced.findings.is_empty(), "{kind} {seed}: {:#?}", traced.findings);
            entries += traced.entries;
        }
    }
    println!("{entries} entries");
    assert!(entries > 10_000, "{entries} entries");
}

/// The stores of conformance programs have no findings at their ends.
#[test]
fn conformance_programs_have_no_findings() {
    let mut count = 0;
    for area in areas() {
        for program in programs(&area) {
            if program.expects_mistake() || program.is_of_another_world() {
                continue;
            }
            let mut world = World::new(program.image(), 1);
            world.with(&program.args(), &program.input());
            (world.orderly, world.fine) = (true, true);
            let traced = traced(world, None);
            assert!(traced.findings.is_empty(), "{}: {:#?}", program.name, traced.findings);
            count += 1;
        }
    }
    assert!(count > 150, "only {count} programs");
}

/// The faults that are found by the journals that they leave.
///
/// Others change what no journal has: the order in which events were raised (`EventsByRequest`,
/// `EventsBeforeTimers`), an answer that was lost before it was written, which looks like one that
/// has not come (`SuspensionForgets`), and what a rewind cut (`SuccessesCut`, `NumbersAgain`: the
/// entries that used the numbers before are gone).
const VISIBLE: [Fault; 3] =
    [Fault::PurgeLeavesChildren, Fault::AnswersReachOtherLives, Fault::FailedDropsAnswers];

#[test]
fn faults_of_the_engine_are_found_in_the_journals_that_they_leave() {
    let mut missed = BTreeSet::new();
    for fault in VISIBLE {
        let found = (1..400).find_map(|seed| {
            let worlds = [operated(seed), many(seed)];
            worlds.into_iter().find_map(|world| traced(world, Some(fault)).findings.into_iter().next())
        });
        match found {
            Some(finding) => println!("{fault:?}: {finding:?}"),
            None => {
                missed.insert(format!("{fault:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// The command says what holds, what does not, and what is not known.
#[test]
fn the_command_says_what_is_not_known() {
    let text = "orchestration o() { var n = 0\n while n < 3000 { n = n + uuid().len() / uuid().len() }\n receive(\"go\") }\nentity E { state 0; on add(n) { state += n } }\norchestration p() { lock E(1) { E(1).add(1) } }\n";
    let place = Place::new(text);
    let server = place.serve_with(&["--history", "latest"]);
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    place.ok(&["start", "p.df", "p", "--id", "y", "--wait"]);
    await_that(|| place.ok(&["show", "x"]).contains("receive"));
    server.stop();
    let output = place.run(&["verify-run", "--all"]);
    assert!(common::place::out(&output).starts_with("all rules hold: 2 instances, "));
    let said = common::place::err(&output);
    assert!(said.contains("not known: x: its history before its last checkpoint is not kept"), "{said}");
    place.ok(&["verify-run", "y"]);
    place.refused(5, &["verify-run", "z"]);
}
