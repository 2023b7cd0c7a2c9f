//! Programs in a world of random answers, delays, doubled answers and crashes: each run ends, its journal
//! replays to the same end, and nothing was shown that the journal does not have.
//!
//! `SIMULATION_SEED` is the first seed, `SIMULATION_RUNS` how many (400). A failure prints its seed; with that and
//! `SIMULATION_RUNS=1` it happens again, with a trace. For hours of it, raise the number.

mod common;

use std::time::Instant;

use common::program::{Program, areas, programs};
use common::sim::{Bug, Crash, World};
use common::steps;
use common::{Random, image, setting};
use durable::engine::{Checkpoints, Replayed, Status, read_history, replay};

/// A program of random statements; every form of waiting occurs.
fn program(random: &mut Random) -> String {
    let mut text = String::from(
        "activity work(n) => n\n\
         activity stubborn(n) with {retry: {times: 3, first: 1s, factor: 2.0}} => n\n\
         activity hasty(n) with {timeout: 2s, retry: {times: 2, first: 100ms}} => n\n\
         var seen = []\n\
         fn safely(f) => try { f() } catch {kind} { seen += [kind]; -1 }\n\
         fn slow(d, n) { sleep(d); work(n) }\n",
    );
    let count = 2 + random.below(8);
    for _ in 0..count {
        statement(random, &mut text, 0);
    }
    text.push_str("print(seen)\nseen\n");
    text
}

fn statement(random: &mut Random, text: &mut String, depth: u32) {
    let n = random.below(100);
    let line = match random.below(if depth < 2 { 12 } else { 8 }) {
        0 => format!("seen += [safely(fn () => work({n}))]"),
        1 => format!("seen += [safely(fn () => stubborn({n}))]"),
        2 => format!("seen += [safely(fn () => hasty({n}))]"),
        3 => format!("sleep({}ms)", n * 10),
        4 => format!("print(\"step {n} \" + to_string(seen.len()))"),
        5 => "if random() < 0.5 { seen += [1] } else { seen += [fs.exists(\"x\")] }".to_string(),
        6 => {
            format!("seen += [safely(fn () => all(range(0, {}).map(fn i => async slow(1ms, i))))]", 1 + n % 5)
        }
        7 => format!(
            "seen += [safely(fn () => race({{a: async slow({n}ms, 1), b: async slow({}ms, 2)}}))]",
            100 - n
        ),
        8 => {
            text.push_str(&format!("for i in 0..{} {{\n seen += [i]\n", 1 + n % 4));
            statement(random, text, depth + 1);
            "}".to_string()
        }
        9 => {
            text.push_str("try {\n");
            statement(random, text, depth + 1);
            text.push_str(&format!("seen += [work({n})]\n"));
            "} catch e { seen += [e.kind] } finally { seen += [\"f\"] }".to_string()
        }
        10 => {
            text.push_str("do {\nfn task() {\n");
            statement(random, text, depth + 1);
            format!(
                "{n}\n}}\nlet t = async task()\nseen += [safely(fn () => work(1))]\nseen += [safely(fn () => await t)]\n}}"
            )
        }
        _ => format!("do {{ let t = async slow(1s, {n}); seen += [safely(fn () => work(2))]; cancel(t) }}"),
    };
    text.push_str(&line);
    text.push('\n');
}

fn one(seed: u64, crash: Crash, bug: Option<Bug>) -> Result<u32, String> {
    let mut random = Random::new(seed);
    let text = program(&mut random);
    let image = image(&text);
    let mut world = World::new(image.clone(), random.next());
    (world.crash, world.bug, world.flaky) = (crash, bug, true);
    world.checkpoints = checkpoints(seed);
    let record = world.run().map_err(|reason| failed(seed, &world, &text, reason))?;
    let failed = |reason: String| failed(seed, &world, &text, reason);
    let history = read_history(&world.store, &record).map_err(failed)?;
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

/// Half of the runs have a checkpoint with each chunk of their histories.
fn checkpoints(seed: u64) -> Checkpoints {
    match seed % 4 {
        0 | 1 => Checkpoints { after: 0, ..Checkpoints::default() },
        _ => Checkpoints::default(),
    }
}

/// A third of the runs never crash.
fn often(seed: u64) -> Crash {
    [Crash::Never, Crash::OneIn(10), Crash::OneIn(40)][(seed % 3) as usize]
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

/// Many instances and entities: calls, signals, critical sections, children, events. What they leave behind is
/// checked against what they did.
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

/// The simulation must find bugs that are put in on purpose.
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

/// Every conformance program of this world, broken off once at each of its crash points: before and after every
/// commit, and after every effect. What can be observed must be as in the unbroken run.
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
    // Programs that compute for long are broken off at fewer points.
    let most = most.min((400 / (began.elapsed().as_millis() as u64 + 1)).max(3));
    let wanted = unbroken.observed();
    // Once more with all that waits dropped from memory at once.
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

/// A program in which several workers at once call, signal, lock, begin children and raise events. Each notes in
/// `Log` what it sends, numbered, so that what arrives can be checked: each once, in order; and money is only moved.
fn many_program(random: &mut Random) -> String {
    let workers = 2 + random.below(4);
    let accounts = 2 + random.below(3);
    let mut text = String::from(
        "entity Account {\n state {balance: 100}\n on add(n) { state.balance += n; state.balance }\n on balance() => state.balance\n \
         on fail(n) { state.balance += n; throw {kind: \"declined\"} }\n on clear() { delete_state() }\n}\n\
         entity Log {\n state {seen: []}\n on note(n) { state.seen += [n] }\n on seen() => state.seen\n \
         on relay(to, n) { state.seen += [n]; signal Log(to).note(n) }\n}\n\
         activity work(n) => n\n\
         activity telling(key, n) { signal Log(key).note(n); n }\n\
         orchestration child(n) { print(n)\n if n % 3 == 0 { sleep(1s) }\n work(n) }\n\
         orchestration looping(n, key) { log.info(n)\n signal Log(key).note(n)\n if n > 0 { continue_as_new(n - 1, key) }\n n }\n\
         orchestration waiter(n) { var got = []\n for i in 0..n { got += [receive(\"go\")] }\n got }\n\
         orchestration transfer(a, b, n) {\n lock Account(a), Account(b) {\n let before = Account(a).balance()\n Account(a).add(-n)\n \
         Account(b).add(n)\n assert(Account(a).balance() == before - n, \"torn\")\n if n == 7 { throw {kind: \"unlucky\"} }\n }\n}\n\
         orchestration looking(a, b, n) { lock Account(a), Account(b) { sleep(5ms)\n Account(b).balance()\n sleep(n * 1ms) } }\n\
         orchestration holder(a, b) { lock Account(a), Account(b) { sleep(1h) } }\n",
    );
    for worker in 0..workers {
        text.push_str(&format!("orchestration worker_{worker}() {{\n var seen = []\n"));
        let mut told = 0;
        for number in 0..3 + random.below(6) {
            let (a, b) = (random.below(accounts), random.below(accounts));
            let b = if a == b { (a + 1) % accounts } else { b };
            let n = 1 + random.below(9);
            let line = match random.below(17) {
                0 | 1 => format!("try {{ transfer({a}, {b}, {n}) }} catch {{kind}} {{ seen += [kind] }}"),
                2 => {
                    told += 1;
                    format!("signal Log(\"log-{worker}\").note({told})")
                }
                3 => {
                    told += 1;
                    format!("Log(\"log-{worker}\").note({told})")
                }
                4 => format!("try {{ Account({a}).fail({n}) }} catch {{kind}} {{ seen += [kind] }}"),
                5 => format!("seen += [child({n})]"),
                6 => format!("seen += [all(range(0, {n}).map(fn i => async child(i)))]"),
                7 => format!("do {{ let h = start child({n})\n seen += [wait(h)] }}"),
                8 => {
                    told += 1;
                    format!("telling(\"told-{worker}-{number}\", {told})")
                }
                9 => format!("looping({n}, \"loop-{worker}-{number}\")"),
                10 => format!(
                    "do {{ let h = start waiter({n})\n for i in 0..{n} {{ raise(h, \"go\", i) }}\n assert(wait(h) == range(0, {n}), \"events\") }}"
                ),
                11 => format!(
                    "seen += [race({{a: async looking({a}, {b}, {n}), b: async sleep({n}ms)}}).keys().len()]"
                ),
                12 => format!(
                    "do {{ let h = start holder({a}, {b})\n if {n} > 4 {{ sleep({n}ms) }}\n terminate(h, \"enough\")\n try {{ wait(h) }} catch {{kind}} {{ seen += [kind] }} }}"
                ),
                13 => format!(
                    "try {{ lock Account({a}), Account({b}) with {{timeout: {n}ms}} {{ Account({a}).add(1)\n Account({b}).add(-1) }} }} catch {{kind}} {{ seen += [kind] }}"
                ),
                15 => format!("start looping({n}, \"loop-{worker}-{number}\")"),
                14 => format!(
                    "do {{ signal Account(\"gone-{worker}-{number}\").add(1)\n Account(\"gone-{worker}-{number}\").clear() }}"
                ),
                _ => format!(
                    "do {{ set_status({n})\n let h = start child({n})\n suspend(h)\n resume(h)\n wait(h) }}"
                ),
            };
            text.push_str(&format!(" {line}\n"));
        }
        text.push_str(&format!(
            " assert(Log(\"log-{worker}\").seen() == range(1, {told} + 1).filter(fn n => Log(\"log-{worker}\").seen().contains(n)), \"order\")\n {{told: {told}, seen}}\n}}\n"
        ));
    }
    let names: Vec<String> = (0..workers).map(|worker| format!("async worker_{worker}()")).collect();
    text.push_str(&format!(
        "let results = all([{}])\nlet balances = range(0, {accounts}).map(fn i => Account(i).balance())\n\
         assert(sum(balances) == {}, \"money\")\nresults\n",
        names.join(", "),
        accounts * 100
    ));
    text
}

fn many(seed: u64, crash: Crash, bug: Option<Bug>) -> Result<u32, String> {
    let mut random = Random::new(seed.wrapping_mul(7_919));
    let text = many_program(&mut random);
    let mut world = World::new(image(&text), random.next());
    (world.crash, world.bug) = (crash, bug);
    world.checkpoints = checkpoints(seed);
    world.resident = [None, Some(0), Some(3)][(seed / 3 % 3) as usize];
    world.meddling = seed.is_multiple_of(2);
    let record = world.run().map_err(|reason| failed(seed, &world, &text, reason))?;
    let failed = |reason: String| failed(seed, &world, &text, reason);
    if let Status::Failed(error) = &record.status {
        return Err(failed(format!("it failed: {}", error.title())));
    }
    check_logs(&world).map_err(failed)?;
    Ok(world.crashes)
}

/// Every log has each of its numbers once; those of one sender in order.
fn check_logs(world: &World) -> Result<(), String> {
    for (entity, state) in world.entities() {
        if entity.starts_with("Account@gone") {
            return Err(format!("{entity} is left behind: {state}"));
        }
        let Some(name) = entity.strip_prefix("Log@") else { continue };
        let list = state.split(['[', ']']).nth(1).unwrap_or_default();
        let seen: Vec<i64> = list.split(", ").filter_map(|n| n.parse().ok()).collect();
        let wanted: Vec<i64> = match name.split('-').next() {
            Some("loop") => (0..seen.len() as i64).rev().collect(),
            // Numbers that went elsewhere are missing; none is there twice, and they are in order.
            Some("log" | "told") => {
                let mut sorted = seen.clone();
                sorted.sort();
                sorted.dedup();
                sorted
            }
            _ => continue,
        };
        if seen != wanted {
            return Err(format!("{entity} has {seen:?} instead of {wanted:?}"));
        }
    }
    Ok(())
}
