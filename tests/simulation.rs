//! Simulation: programs in a world of random answers, delays, doubled answers and crashes.
//!
//! Each run ends, its journal replays to the same end, and nothing was shown that the journal does
//! not have. `SIMULATION_SEED` is the first seed, `SIMULATION_RUNS` the number of runs (400 in most
//! tests; more for longer searches). A failure prints its seed; that seed with `SIMULATION_RUNS=1`
//! repeats the failure with a trace.

mod common;

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use common::callers::{self, Callers};
use common::crowd::{self, Crowd};
use common::operator::{self, Operator};
use common::program::{Program, areas, programs};
use common::sim::{Bug, Crash, World};
use common::steps;
use common::worlds::{check_logs, checkpoints, many_program, often, program};
use common::{Random, image, image_with, setting};
use durable::code::Code;
use durable::engine::fault::{self, Fault};
use durable::engine::{Replayed, Status, read_history, replay};
use durable::machine::Image;

fn one(seed: u64, crash: Crash, bug: Option<Bug>) -> Result<u32, String> {
    let mut random = Random::new(seed);
    let text = program(&mut random);
    let image = image(&text);
    let mut world = World::new(image.clone(), random.next());
    (world.crash, world.bug, world.flaky) = (crash, bug, true);
    world.checkpoints = checkpoints(seed);
    let record = world.run().map_err(|reason| failed(seed, &world, &text, reason))?;
    let failed = |reason: String| failed(seed, &world, &text, reason);
    let history = read_history(&world.driver.store, &record).map_err(|error| failed(error.to_string()))?;
    match replay(&image, record.clone(), history.clone(), &mut |_, _| ()) {
        Replayed::Ended(status) if status == record.status => {}
        other => return Err(failed(format!("replay came to {other:?}, the run to {:?}", record.status))),
    }
    let restored = steps::with_restored_machines(&image, &record, &history).map_err(failed)?;
    let same = match (&record.status, restored) {
        (Status::Completed(a), Ok(b)) => *a == b,
        (Status::Failed(a), Err(b)) => a.value == b,
        _ => false,
    };
    match same {
        true => Ok(world.crashes),
        false => Err(failed("with restored machines it ends otherwise".into())),
    }
}

fn failed(seed: u64, world: &World, text: &str, reason: String) -> String {
    format!("seed {seed}: {reason}\n{text}\n{}", world.trace.join("\n"))
}

#[test]
fn random_programs_survive_a_faulty_world() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 400));
    let mut crashes = 0;
    for seed in first..first + runs {
        crashes += one(seed, often(seed), None).unwrap_or_else(|reason| panic!("{reason}"));
    }
    println!("{runs} runs, {crashes} crashes");
    assert!(runs < 10 || crashes > 0, "nothing crashed");
}

/// Worlds of many instances and entities, with calls, signals, critical sections, children and
/// events. Their final states are checked against what they did.
#[test]
fn random_worlds_keep_their_promises() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 400));
    let mut crashes = 0;
    for seed in first..first + runs {
        crashes += many(seed, often(seed), None).unwrap_or_else(|reason| panic!("{reason}"));
    }
    println!("{runs} runs, {crashes} crashes");
    assert!(runs < 10 || crashes > 0, "nothing crashed");
}

/// Operators reuse ids, suspend instances over restarts, cancel, terminate, repair and rewind them.
#[test]
fn operators_get_what_they_asked_for() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 600));
    let mut crashes = 0;
    for seed in first..first + runs {
        crashes += operated(seed, often(seed)).unwrap_or_else(|reason| panic!("{reason}"));
    }
    let [clean, cut, late] = operator::CANCELLED.each_ref().map(|count| count.load(Ordering::Relaxed));
    println!("{runs} runs, {crashes} crashes; {clean} clean-ups, {cut} cut short, {late} that came too late");
    assert!(runs < 10 || crashes > 0, "nothing crashed");
    assert!(runs < 100 || (clean > 0 && cut > 0 && late > 0), "not all ends of cancellations occurred");
}

fn operated(seed: u64, crash: Crash) -> Result<u32, String> {
    let image = image(operator::PROGRAM);
    let mut world = World::new(image.clone(), seed.wrapping_mul(104_729));
    world.crash = crash;
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(2)][(seed / 3 % 3) as usize];
    world.is_operated_by(Box::new(Operator::new(image.clone(), seed)));
    let ended = world.run_to_the_end();
    let failed = |reason: String| format!("seed {seed}: {reason}\n{}", world.trace.join("\n"));
    ended.map_err(failed)?;
    for record in world.records() {
        let history =
            read_history(&world.driver.store, &record).map_err(|error| failed(error.to_string()))?;
        match replay(&image, record.clone(), history, &mut |_, _| ()) {
            Replayed::Ended(status) if status == record.status => {}
            // Terminated instances stop where they were.
            Replayed::Ended(_) if matches!(record.status, Status::Terminated(_)) => {}
            other => return Err(failed(format!("replay of {} came to {other:?}", record.id))),
        }
    }
    Ok(world.crashes)
}

/// Clients call an entity beside critical sections, in worlds with crashes. They ask again until
/// each call has its answer.
#[test]
fn calls_of_clients_happen_once() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 60));
    let image = image(callers::PROGRAM);
    let mut crashes = 0;
    for seed in first..first + runs {
        let mut world = World::new(image.clone(), u64::wrapping_mul(seed, 7_919));
        world.crash = often(seed);
        world.checkpoints = checkpoints(seed);
        world.is_operated_by(Box::new(Callers::new(image.clone(), seed)));
        let ended = world.run_to_the_end().and_then(|()| callers::check(&world));
        ended.unwrap_or_else(|reason| panic!("seed {seed}: {reason}\n{}", world.trace.join("\n")));
        crashes += world.crashes;
    }
    assert!(runs < 10 || crashes > 0, "nothing crashed");
}

/// Each client is answered within a bounded number of turns, next to endless operations and
/// instances, natives and searches, floods of instances and messages, effects that never answer,
/// and messages that can't be consumed.
#[test]
fn clients_are_answered_whatever_others_do() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 25));
    let image = image(crowd::PROGRAM);
    let mut worst: f64 = 0.0;
    for seed in first..first + runs {
        worst = worst.max(crowded(&image, seed).unwrap_or_else(|reason| panic!("{reason}")));
    }
    println!("{runs} runs; the longest wait was {:.0} % of what it may be", worst * 100.0);
}

/// Faults in the rules of turns are noticed: a client waits too long.
#[test]
fn turns_that_are_not_fair_are_found() {
    let image = image(crowd::PROGRAM);
    for fault in Fault::OF_TURNS {
        let found = (1..60).find_map(|seed| fault::with(Some(fault), || crowded(&image, seed)).err());
        let reason = found.unwrap_or_else(|| panic!("{fault:?} was not found in 60 runs"));
        println!("{fault:?}: {}", reason.lines().next().unwrap_or_default());
    }
}

fn crowded(image: &Rc<Image>, seed: u64) -> Result<f64, String> {
    let mut crowd = Crowd::new(image.clone(), seed);
    crowd.run().map_err(|reason| format!("seed {seed}: {reason}\n{}", crowd.trace.join("\n")))
}

/// Faults that the engine once had are found when they are put back, one by one.
#[test]
fn faults_that_are_put_back_are_found() {
    for fault in Fault::ALL.into_iter().filter(|fault| !Fault::OF_TURNS.contains(fault)) {
        let first = |world: &dyn Fn(u64) -> Result<u32, String>| {
            (1..400).find_map(|seed| fault::with(Some(fault), || world(seed)).err())
        };
        let found = first(&|seed| operated(seed, often(seed)));
        let found = found.or_else(|| first(&|seed| many(seed, often(seed), None)));
        let reason = found.unwrap_or_else(|| panic!("{fault:?} was not found in 400 worlds of each kind"));
        println!("{fault:?}: {}", reason.lines().next().unwrap_or_default());
    }
    // The code of earlier versions has no structured cancellation: a cancelled task leaves what it
    // began.
    let found = (1..400)
        .find_map(|seed| many_with(seed, often(seed), None, |code| code.structured = false).err())
        .expect("found in 400 worlds");
    println!("unstructured: {}", found.lines().next().unwrap_or_default());
}

/// Bugs that are put in on purpose are found.
#[test]
fn bugs_put_in_on_purpose_are_found() {
    use Bug::*;
    let found = (1..200).any(|seed| one(seed, Crash::OneIn(10), Some(OutputBeforeCommit)).is_err());
    assert!(found, "output before commit was not found in 200 runs");
    for bug in [
        OutputBeforeCommit,
        MessageBeforeCommit,
        DoubleDelivery,
        LostMessage,
        LockNotReleased,
        LostWake,
        LostLines,
    ] {
        let found = (1..200).find_map(|seed| many(seed, Crash::OneIn(10), Some(bug)).err());
        let reason = found.unwrap_or_else(|| panic!("{bug:?} was not found in 200 runs"));
        println!("{bug:?}: {}", reason.lines().next().unwrap_or_default());
    }
}

/// Every conformance program that needs no outside crashes once at each of its crash points: before
/// and after every commit, and after every effect. Its observations must equal those of the
/// uninterrupted run.
#[test]
fn every_crash_point_of_every_conformance_program() {
    let most = setting("SIMULATION_POINTS", 40);
    let (mut count, mut runs) = (0, 0);
    let mut failures = Vec::new();
    for area in areas() {
        for program in programs(&area) {
            if program.expects_mistake() || program.is_of_another_world() {
                continue;
            }
            count += 1;
            match crash_points(&program, most) {
                Ok(points) => runs += points,
                Err(reason) => failures.push(format!("{}: {reason}", program.name)),
            }
        }
    }
    println!("{count} programs, {runs} broken runs");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(count > 150, "only {count} programs");
}

fn crash_points(program: &Program, most: u64) -> Result<u64, String> {
    let world = |crash: Crash, resident: Option<usize>| {
        let mut world = World::new(program.image(), 1);
        world.with(&program.args(), &program.input());
        (world.orderly, world.fine, world.crash, world.resident) = (true, true, crash, resident);
        world
    };
    let mut unbroken = world(Crash::Never, None);
    let began = Instant::now();
    unbroken.run()?;
    // Programs that compute for long crash at fewer points.
    let most = most.min((400 / (began.elapsed().as_millis() as u64 + 1)).max(3));
    let wanted = unbroken.observed();
    // One run drops each waiting instance from memory at once.
    let mut dropping = world(Crash::Never, Some(0));
    dropping.run().map_err(|reason| format!("with what waits dropped: {reason}"))?;
    if dropping.observed() != wanted {
        return Err(format!("with what waits dropped: {:?} instead of {wanted:?}", dropping.observed()));
    }
    let every = unbroken.points.div_ceil(most).max(1);
    let points: Vec<u64> = (1..=unbroken.points).step_by(every as usize).collect();
    for point in &points {
        let mut broken = world(Crash::At(*point), None);
        let trace = |broken: &World| broken.trace[broken.trace.len().saturating_sub(30)..].join("\n");
        broken.run().map_err(|reason| format!("broken off at {point}: {reason}\n{}", trace(&broken)))?;
        let observed = broken.observed();
        if observed != wanted {
            let differs = wanted
                .iter()
                .filter(|(key, value)| observed.get(*key) != Some(value))
                .map(|(key, value)| format!("{key}: {:?} instead of {value:?}", observed.get(key)));
            let differs: Vec<String> = differs.collect();
            return Err(format!("broken off at {point}: {}\n{}", differs.join("\n"), trace(&broken)));
        }
    }
    Ok(points.len() as u64)
}

// ---- worlds of many

fn many(seed: u64, crash: Crash, bug: Option<Bug>) -> Result<u32, String> {
    many_with(seed, crash, bug, |_| ())
}

fn many_with(
    seed: u64,
    crash: Crash,
    bug: Option<Bug>,
    change: impl FnOnce(&mut Code),
) -> Result<u32, String> {
    let mut random = Random::new(u64::wrapping_mul(seed, 7_919));
    let text = many_program(&mut random);
    let mut world = World::new(image_with(&text, change), random.next());
    (world.crash, world.bug) = (crash, bug);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(3)][(seed / 3 % 3) as usize];
    world.meddling = seed.is_multiple_of(2);
    let record = world.run().map_err(|reason| failed(seed, &world, &text, reason))?;
    let failed = |reason: String| failed(seed, &world, &text, reason);
    if let Status::Failed(error) = &record.status {
        return Err(failed(format!("it failed: {}", error.title())));
    }
    check_logs(&world.entities()).map_err(failed)?;
    Ok(world.crashes)
}
