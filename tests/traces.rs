//! Validation of what happened: the stores of right runs have no findings, whatever they went
//! through, and faults of the engine are found by the journals that they leave.

mod common;

use common::operator::{self, Operator};
use common::place::{Place, await_that};
use common::program::{areas, programs};
use common::sim::World;
use common::worlds::{checkpoints, many_program, often};
use common::{Random, image, setting};
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

/// A kind of worlds: its name, and how a world is made of a seed.
type Kind = (&'static str, fn(u64) -> World);

const KINDS: [Kind; 2] = [("operated", operated), ("many", many)];

/// Runs a world to its end, or to the point at which it goes wrong or stops, and validates the store
/// that a kill would leave there. Returns the number of steps as well.
fn traced(mut world: World, fault: Option<Fault>) -> (Traced, u64) {
    let _ = fault::with(fault, || world.run_to_the_end());
    let traced = trace(&world.durable, None).expect("the store can be read");
    (traced, world.steps)
}

/// A right world has no findings, neither at its end nor in the middle.
#[test]
fn worlds_without_faults_have_no_findings() {
    let mut entries = 0;
    let mut wrong = Vec::new();
    for seed in 1..setting("TRACES_SEEDS", SEEDS) {
        for (kind, world) in KINDS {
            let (at_end, steps) = traced(world(seed), None);
            let mut check = |traced: Traced, at: u64| {
                entries += traced.entries;
                wrong.extend(
                    traced.findings.into_iter().map(|found| format!("{kind} {seed} at {at}: {found:?}")),
                );
            };
            check(at_end, steps);
            for part in 1..4 {
                let mut world = world(seed);
                world.most_steps = (steps * part / 4).max(1);
                check(traced(world, None).0, steps * part / 4);
            }
        }
    }
    println!("{entries} entries");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(entries > 10_000, "{entries} entries");
}

/// The number of seeds of each kind of world without faults.
const SEEDS: u64 = 40;

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
            let (traced, _) = traced(world, None);
            assert!(traced.findings.is_empty(), "{}: {:#?}", program.name, traced.findings);
            count += 1;
        }
    }
    assert!(count > 150, "only {count} programs");
}

/// The faults that are found by the journals that they leave, each with a seed that shows it. The
/// search begins there.
///
/// `SuspensionForgets` is not among them. An answer that is lost before it is written looks like one
/// that had not come when the process was killed. No process records its own end, so no store tells
/// the two apart.
const VISIBLE: [(Fault, u64); 10] = [
    (Fault::PurgeLeavesChildren, 4),
    (Fault::AnswersReachOtherLives, 78),
    (Fault::FailedDropsAnswers, 40),
    (Fault::SuccessesCut, 33),
    (Fault::OldLimitsCount, 126),
    (Fault::ContinuationLeavesChildren, 3),
    (Fault::GivenUpUnsent, 40),
    (Fault::EventsByRequest, 40),
    (Fault::EventsBeforeTimers, 1),
    (Fault::NumbersAgain, 6),
];

/// A fault is found if its journals have a finding, and those of the right world at the same step
/// have none.
#[test]
fn faults_of_the_engine_are_found_in_the_journals_that_they_leave() {
    let mut missed = Vec::new();
    for (fault, first) in VISIBLE {
        let found = (first..200).chain(1..first).find_map(|seed| {
            KINDS.into_iter().find_map(|(kind, world)| {
                let (traced_world, steps) = traced(world(seed), Some(fault));
                let finding = traced_world.findings.into_iter().next()?;
                let mut right = world(seed);
                right.most_steps = steps;
                let of_right = traced(right, None).0.findings;
                assert!(of_right.is_empty(), "{kind} {seed} at {steps}: {of_right:?}");
                Some((kind, seed, finding))
            })
        });
        match found {
            Some((kind, seed, finding)) => println!("{fault:?}: {kind} {seed}: {finding:?}"),
            None => missed.push(fault),
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
