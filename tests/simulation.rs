//! Random programs in a world of random answers, delays, doubled answers and crashes: each run ends, its journal
//! replays to the same end, and nothing was shown that the journal does not have.
//!
//! `SIMULATION_SEED` is the first seed, `SIMULATION_RUNS` how many (400). A failure prints its seed; with that and
//! `SIMULATION_RUNS=1` it happens again, with a trace. For hours of it, raise the number.

mod common;

use std::rc::Rc;

use common::Random;
use common::sim::{World, unjournaled};
use common::steps;
use durable::check;
use durable::code::compile;
use durable::core::lower;
use durable::engine::{Replayed, Status, replay};
use durable::machine::Image;

fn image(text: &str) -> Rc<Image> {
    let program = check::load("sim.df", text.to_string(), &|_: &str| Err("no files".to_string()));
    let errors: Vec<_> =
        program.diagnostics.iter().filter(|d| d.severity == durable::syntax::Severity::Error).collect();
    assert!(errors.is_empty(), "{text}\n{errors:?}");
    let code = compile(&lower(&program), &program).expect("the program compiles");
    Image::new(code.into()).expect("its constants have values")
}

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

fn one(seed: u64, crash_one_in: u64, leak_outputs: bool) -> Result<u32, String> {
    let mut random = Random::new(seed);
    let text = program(&mut random);
    let image = image(&text);
    let mut world = World::new(image.clone(), random.next(), crash_one_in);
    world.leak_outputs = leak_outputs;
    let failed =
        |world: &World, reason: String| format!("seed {seed}: {reason}\n{text}\n{}", world.trace.join("\n"));
    let record = world.run().map_err(|reason| failed(&world, reason))?;
    let history = world.history();
    match replay(&image, record.clone(), history.clone(), &mut |_, _| ()) {
        Replayed::Ended(status) if status == record.status => {}
        other => {
            return Err(failed(&world, format!("replay came to {other:?}, the run to {:?}", record.status)));
        }
    }
    let restored =
        steps::with_restored_machines(&image, &record, &history).map_err(|reason| failed(&world, reason))?;
    let same = match (&record.status, restored) {
        (Status::Completed(a), Ok(b)) => *a == b,
        (Status::Failed(a), Err(b)) => a.value == b,
        _ => false,
    };
    if !same {
        return Err(failed(&world, "with restored machines it ends otherwise".into()));
    }
    match unjournaled(&world) {
        Some(line) => Err(failed(&world, format!("`{line}` was printed, but the journal does not have it"))),
        None => Ok(world.crashes),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn random_programs_survive_a_faulty_world() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 400));
    let mut crashes = 0;
    for seed in first..first + runs {
        // A third of the runs never crash.
        let often = [0, 10, 40][(seed % 3) as usize];
        crashes += one(seed, often, false).unwrap_or_else(|reason| panic!("{reason}"));
    }
    println!("{runs} runs, {crashes} crashes");
    assert!(runs < 10 || crashes > 0, "nothing crashed");
}

/// The simulation must find a bug that is put in on purpose: an output that leaves before its writes are durable.
#[test]
fn an_output_before_its_commit_is_found() {
    let found = (1..200).any(|seed| one(seed, 10, true).is_err());
    assert!(found, "output before commit was not found in 200 runs");
}
