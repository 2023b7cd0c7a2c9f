//! Validation of what happened: the stores of right runs have no findings, whatever they went
//! through, and faults of the engine are found by the journals that they leave.

mod common;

use common::callers::{self, Callers};
use common::operator::{self, Operator};
use common::partition;
use common::place::{Place, await_that};
use common::program::{areas, programs};
use common::sim::World;
use common::worlds::{checkpoints, many_program, often};
use common::{Random, image, setting};
use durable::archive::{Traced, trace};
use durable::engine::fault::{self, Fault};
use durable::engine::{KeptOperation, keys};
use durable::kv::{MemoryTree, Read};
use durable::machine::Data;

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

/// A world like that, whose store keeps the operations of entities.
fn kept(seed: u64) -> World {
    let mut world = many(seed);
    world.keep_operations = Some(true);
    world
}

/// A world of clients that call an entity beside the critical sections that hold it.
fn called(seed: u64) -> World {
    let image = image(callers::PROGRAM);
    let mut world = World::new(image.clone(), u64::wrapping_mul(seed, 7_919));
    world.crash = often(seed);
    world.checkpoints = checkpoints(seed);
    world.keep_operations = Some(true);
    world.is_operated_by(Box::new(Callers::new(image, seed)));
    world
}

/// A kind of worlds: its name, and how a world is made of a seed.
type Kind = (&'static str, fn(u64) -> World);

const KINDS: [Kind; 4] = [("operated", operated), ("many", many), ("kept", kept), ("called", called)];

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
    let (mut entries, mut operations) = (0, 0);
    let mut wrong = Vec::new();
    for seed in 1..setting("TRACES_SEEDS", SEEDS) {
        for (kind, world) in KINDS {
            let (at_end, steps) = traced(world(seed), None);
            let mut check = |traced: Traced, at: u64| {
                (entries, operations) = (entries + traced.entries, operations + traced.operations);
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
    println!("{entries} entries, {operations} operations");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(entries > 10_000 && operations > 1_000, "{entries} entries, {operations} operations");
}

/// Right worlds over partitions, which crash one by one, have no findings once nothing is on its way.
#[test]
fn worlds_over_partitions_have_no_findings() {
    let (mut traces, mut operations, mut wrong) = (0, 0, Vec::new());
    for seed in 1..setting("TRACES_SEEDS", SEEDS) {
        for (kind, world) in KINDS.iter().filter(|(kind, _)| *kind != "operated") {
            let steps = {
                let mut world = world(seed);
                world.driver.divide(2 + (seed % 3) as u16);
                world.run_to_the_end().unwrap_or_else(|reason| panic!("{kind} {seed}: {reason}"));
                world.steps
            };
            for part in 1..=8 {
                let mut world = world(seed);
                world.driver.divide(2 + (seed % 3) as u16);
                world.most_steps = (steps * part / 8).max(1);
                let _ = world.run_to_the_end();
                if partition::has_transit(&world.durable) {
                    continue;
                }
                let traced = trace(&partition::whole(&world.durable), None).expect("the store can be read");
                (traces, operations) = (traces + 1, operations + traced.operations);
                let found =
                    traced.findings.into_iter().map(|found| format!("{kind} {seed} {part}: {found:?}"));
                wrong.extend(found);
            }
        }
    }
    println!("{traces} stores, {operations} operations");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(traces > 200 && operations > 1_000, "{traces} stores, {operations} operations");
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
const VISIBLE: [(Fault, u64); 12] = [
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
    (Fault::OperationsTwice, 1),
    (Fault::StatesForgotten, 1),
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

/// Returns what is found in the stores of right worlds with one change each. The change gets the
/// keys of a kept operation and of the next one, and the operation. The next one begins with the
/// state that this one left.
fn found_after(change: impl Fn(&mut MemoryTree, [&[u8]; 2], KeptOperation)) -> Vec<String> {
    let mut all = Vec::new();
    for seed in 1..6 {
        let mut world = kept(seed);
        world.run_to_the_end().expect("a right world");
        let store = world.durable;
        assert_eq!(trace(&store, None).expect("the store can be read").findings, []);
        for pair in store.all(keys::OPERATIONS).expect("a scan").windows(2) {
            let [(key, bytes), (next, after)] = pair else { continue };
            let of = |key: &[u8]| keys::parse_operation(key).expect("an operation").0;
            let decoded = |bytes: &[u8]| KeptOperation::decode(bytes).expect("an operation");
            if of(key) != of(next) || decoded(after).before.is_some() {
                continue;
            }
            let mut changed = MemoryTree { tree: store.tree.clone() };
            change(&mut changed, [key, next], decoded(bytes));
            let found = found(&changed);
            assert!(!found.is_empty(), "{seed}: {:?}", keys::parse_operation(key));
            all.extend(found);
        }
    }
    all
}

fn found(store: &MemoryTree) -> Vec<String> {
    let traced = trace(store, None).expect("the store can be read");
    traced.findings.into_iter().map(|found| format!("{}: {}", found.rule, found.what)).collect()
}

/// Every change of a kept operation is found: of its state or its result, a second execution, and a
/// missing one.
#[test]
fn wrong_kept_operations_are_found() {
    let says = |found: &[String], what: &str| {
        assert!(found.iter().any(|one| one.contains(what)), "{what}: {found:#?}");
    };
    let other = || Data(vec![3, 86]);
    let states = found_after(|store, [key, _], kept| {
        let changed = KeptOperation { after: Some(Some(other())), ..kept };
        store.tree.insert(key.to_vec(), changed.encode());
    });
    says(&states, "operate: operation 2: its program leaves another state");
    let results = found_after(|store, [key, _], kept| {
        let changed = KeptOperation { result: Ok(other()), ..kept };
        store.tree.insert(key.to_vec(), changed.encode());
    });
    says(&results, "its program comes to");
    says(&results, "deliver: an answer that is not the result of operation");
    let doubled = found_after(|store, [_, next], kept| {
        let again = KeptOperation { before: None, ..kept };
        store.tree.insert(next.to_vec(), again.encode());
    });
    says(&doubled, "is executed a second time");
    let missing = found_after(|store, [key, _], _| {
        store.tree.remove(key);
    });
    says(&missing, "operate: operation 2: it is missing");
}

/// An operation of nobody in the critical section of another is found, and so is a state that the
/// last operation did not leave.
#[test]
fn operations_of_others_and_other_states_are_found() {
    let mut world = called(1);
    world.run_to_the_end().expect("a right world");
    let store = world.durable;
    let mut all = Vec::new();
    for (key, bytes) in store.all(keys::OPERATIONS).expect("a scan") {
        let mut changed = MemoryTree { tree: store.tree.clone() };
        let kept = KeptOperation::decode(&bytes).expect("an operation");
        changed.tree.insert(key, KeptOperation { caller: None, ..kept }.encode());
        all.extend(found(&changed));
    }
    assert!(all.iter().any(|one| one.contains("it is executed while")), "{all:#?}");
    let mut changed = store;
    let (key, _) = changed.all(keys::ENTITIES).expect("a scan").remove(0);
    changed.tree.insert(key, vec![3, 86]);
    assert_eq!(found(&changed), ["operate: its state is not the one that its last operation left"]);
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
