//! The three models of the paper, and the engine, on every conformance program.

mod common;

use std::collections::BTreeSet;

use common::Random;
use common::program::{Program as File, areas, programs};
use common::sim::{Crash, World};
use durable::explore::{Limits, Report, search};
use durable::machine::{Data, Value};
use durable::model::compute_storage::States;
use durable::model::record_replay::Histories;
use durable::model::{Faults, HighLevel, Model, Naming, Observation, Program, Stop, Storage, Subject};

fn subject(file: &File) -> Program {
    let args = Value::list(file.args().iter().map(|arg| Value::str(arg.as_str())).collect());
    let args = Data::encode(&Value::list(vec![args])).expect("data");
    let mut program = Program::new(file.image().code.clone(), Subject::Script, args);
    program.main = "sim".into();
    program.observes = true;
    program.naming = Naming::ByNumber;
    program
}

fn limits() -> Limits {
    Limits { configurations: 20_000, jobs: 1, collect: true, memory: 300 << 20, ..Limits::default() }
}

/// A program's outcomes in a model, if all could be seen.
fn outcomes<M: Model>(model: &M, program: &Program, limits: &Limits) -> Result<Report<M::Step>, Stop> {
    search(model, program, limits, &|_, _, _| ())
}

#[test]
#[ignore]
fn look() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for area in areas() {
        for file in programs(&area) {
            if file.expects_mistake() || !file.name.contains(&only) {
                continue;
            }
            let program = subject(&file);
            let high = match outcomes(&HighLevel, &program, &limits()) {
                Err(Stop::NoMock { .. }) => continue,
                Err(stop) => {
                    println!("{} STOP {stop:?}", file.name);
                    continue;
                }
                Ok(high) if high.bound.is_some() => {
                    println!("{} large", file.name);
                    continue;
                }
                Ok(high) => high,
            };
            let whole = outcomes(&HighLevel, &program, &Limits { reduced: false, ..limits() });
            let faults = Faults { crashes: 1, ..Faults::default() };
            let storage = Storage { faults, keep: States };
            let compute = outcomes(&storage, &program, &limits());
            let record = outcomes(&Storage { faults, keep: Histories }, &program, &limits());
            let mut line = format!("{} {} outcomes {}", file.name, high.configurations, high.outcomes.len());
            let mut differ = Vec::new();
            let mut add = |name: &str,
                           found: Result<
                (u64, Option<durable::explore::Bound>, BTreeSet<Observation>),
                Stop,
            >| match found {
                Err(stop) => line.push_str(&format!(" {name} STOP {stop:?}")),
                Ok((n, Some(bound), _)) => line.push_str(&format!(" {name} {n} {bound:?}")),
                Ok((n, None, outcomes)) => {
                    line.push_str(&format!(" {name} {n}"));
                    if outcomes != high.outcomes {
                        line.push_str(" DIFFER");
                        differ.push((name.to_string(), outcomes));
                    }
                }
            };
            add("whole", whole.map(|r| (r.configurations, r.bound, r.outcomes)));
            add("compute", compute.map(|r| (r.configurations, r.bound, r.outcomes)));
            add("record", record.map(|r| (r.configurations, r.bound, r.outcomes)));
            println!("{line}");
            if !only.is_empty() {
                println!("{:?}", high.outcomes);
                let found =
                    outcomes(&HighLevel, &program, &Limits { collect: false, ..limits() }).expect("a search");
                println!("{:?}", found.found);
            }
            for (name, outcomes) in differ {
                for outcome in high.outcomes.symmetric_difference(&outcomes).take(3) {
                    println!(
                        "    {name} {} {outcome:?}",
                        if high.outcomes.contains(outcome) { "lacks" } else { "adds" }
                    );
                }
            }
        }
    }
}

/// What the engine does in a world of its own, at every crash point and with seeds.
fn engine(file: &File, high: &BTreeSet<Observation>) -> Vec<String> {
    let image = file.image();
    let mut wrong = Vec::new();
    let mut run = |name: String, set: &dyn Fn(&mut World)| -> u64 {
        let mut world = World::new(image.clone(), 7);
        world.with(&file.args(), &file.input());
        set(&mut world);
        match world.run() {
            Ok(_) => {
                let observed = world.observed();
                if !high.contains(&observed) {
                    wrong.push(format!("{name}: {observed:?}"));
                }
            }
            Err(reason) => wrong.push(format!("{name}: {}", reason.lines().next().unwrap_or_default())),
        }
        world.points
    };
    let points = run("orderly".into(), &|world| (world.orderly, world.fine) = (true, true));
    for point in 1..=points.min(200) {
        run(format!("crash at {point}"), &|world| {
            (world.orderly, world.fine, world.crash) = (true, true, Crash::At(point))
        });
    }
    for seed in 0..8 {
        run(format!("seed {seed}"), &|world| {
            world.random = Random::new(seed);
            world.crash = if seed % 2 == 0 { Crash::OneIn(10) } else { Crash::Never };
        });
    }
    wrong
}

#[test]
#[ignore]
fn engines() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for area in areas() {
        for file in programs(&area) {
            if file.expects_mistake() || file.is_of_another_world() || !file.name.contains(&only) {
                continue;
            }
            let program = subject(&file);
            let Ok(high) = outcomes(&HighLevel, &program, &limits()) else { continue };
            if high.bound.is_some() {
                continue;
            }
            let wrong = engine(&file, &high.outcomes);
            println!("{} {} wrong {}", file.name, high.outcomes.len(), wrong.len());
            for wrong in wrong.iter().take(2) {
                println!("    {wrong}");
            }
            if !wrong.is_empty() {
                println!("    of {:?}", high.outcomes.first());
            }
        }
    }
}

#[test]
#[ignore]
fn stroll() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for file in areas().iter().flat_map(|area| programs(area)).filter(|file| file.name.contains(&only)) {
        let program = subject(&file);
        let mut evaluator = durable::model::Evaluator::new(&program).expect("it loads");
        for seed in 0..4 {
            println!("--- {seed}");
            let mut random = durable::explore::Random::new(seed);
            let mut c = HighLevel.initial(&mut evaluator).unwrap();
            loop {
                let steps = HighLevel.enabled(&mut evaluator, &c).unwrap();
                if steps.is_empty() {
                    println!("{:?}", HighLevel.seen(&c).observe());
                    break;
                }
                let step = &steps[random.below(steps.len())];
                println!("{:?}", HighLevel.show(&mut evaluator, &c, step));
                c = HighLevel.apply(&mut evaluator, &c, step).unwrap();
            }
        }
    }
}
