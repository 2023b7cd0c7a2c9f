//! The three models of the paper and the engine agree on every conformance program.
//!
//! All models have the same outcomes, explored to the end. Each outcome of the engine, at every
//! crash point and with random faults, is one of them.
//!
//! The results are the table of `docs/equivalence.md`. After a change of its figures, run `UPDATE=1
//! cargo test --release --test models`, and read the difference. Programs with larger state spaces
//! than the limit are explored by `CONFIGURATIONS=1000000 cargo test --release --test models --
//! --ignored --nocapture`, which takes long.

mod common;
#[path = "models/faults.rs"]
mod faults;
#[path = "models/loops.rs"]
mod loops;
#[path = "models/names.rs"]
mod names;
#[path = "models/operator.rs"]
mod operator;
#[path = "models/steps.rs"]
mod steps;
#[path = "models/time.rs"]
mod time;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::rc::Rc;

use common::interventions::Intervening;
use common::program::{Program as File, areas, programs};
use common::sim::{Crash, World};
use common::{Random, repository, setting};
use durable::explore::{Limits, Report, search};
use durable::machine::{Data, Image, Value};
use durable::model::compute_storage::States;
use durable::model::record_replay::Histories;
use durable::model::{
    Faults, HighLevel, Interventions, Model, Naming, Observation, Program, Stop, Storage, Subject,
};

/// The largest state space that is explored, in configurations, in an ordinary run.
const CONFIGURATIONS: u64 = 6_000;
/// The largest number of crash points of a program at which the engine is interrupted, in an
/// ordinary run.
const CRASH_POINTS: u64 = 60;
/// The number of first configurations whose steps are compared, in an ordinary run.
const STEPS_FROM: usize = 60;
/// The number of runs of the engine with random answers, delays and crashes.
const SEEDS: u64 = 8;

/// Programs whose outcomes depend on values that the world is free to choose. A model has only some
/// of these outcomes.
const OF_CHOSEN_VALUES: [&str; 2] = ["effects/now_and_random", "replay/effects_keep_their_answers"];

/// Programs with hundreds of participants or timers at once, which have as many next steps, each as
/// large. Other tests cover them.
const WIDE: [&str; 5] = [
    "children/a_thousand_children",
    "tasks/hundreds_at_once",
    "tasks/fan_out_of_fan_outs",
    "timers/sleeps_are_concurrent",
    "cancellation/tasks_count_as_memory",
];

/// A script with its inputs.
struct Script {
    name: String,
    text: String,
    image: Rc<Image>,
    args: Vec<String>,
    input: String,
    /// Whether the engine can run it in a simulated world, to an outcome that the models have.
    runs: bool,
    /// Whether it reads the time or a status. The value is read first and recorded later, which is
    /// no single step of the high-level model, so only the outcomes of the script are compared.
    looks: bool,
    /// The interventions of an operator that may occur in a run.
    interventions: Interventions,
}

impl Script {
    fn of(file: &File) -> Script {
        Script {
            name: file.name.clone(),
            text: file.text.clone(),
            interventions: Interventions::default(),
            image: file.image(),
            args: file.args(),
            input: file.input(),
            looks: ["now(", "status(", "retry"].iter().any(|call| file.text.contains(call)),
            runs: !file.is_of_another_world() && !OF_CHOSEN_VALUES.contains(&file.name.as_str()),
        }
    }

    /// Returns a random script for a seed.
    fn random(seed: u64, text: String, image: Rc<Image>) -> Script {
        Script {
            name: format!("seed {seed}"),
            text,
            image,
            args: Vec::new(),
            input: String::new(),
            runs: true,
            looks: false,
            interventions: Interventions::default(),
        }
    }
}

/// Returns the arguments of a script, as a list.
fn args_of(script: &Script) -> Data {
    let args = Value::list(script.args.iter().map(|arg| Value::str(arg.as_str())).collect());
    Data::encode(&Value::list(vec![args])).expect("data")
}

fn subject(script: &Script) -> Program {
    let mut program = Program::new(script.image.code.clone(), Subject::Script, args_of(script));
    program.interventions = script.interventions;
    program.main = common::sim::ID.into();
    program.observes = true;
    program.naming = Naming::ByNumber;
    program
}

fn outcomes<M: Model>(model: &M, program: &Program, limits: &Limits) -> Result<Report<M::Step>, Stop> {
    search(model, program, limits, &|_, _, _| ())
}

/// Removes what the models don't have from idempotency keys: the time at which an instance began,
/// its life, and the first execution.
fn without_times(observed: Observation) -> Observation {
    let first = regex::Regex::new(r"-[0-9a-f]{16}\.1\.0-").expect("a pattern");
    let later = regex::Regex::new(r"-[0-9a-f]{16}\.1\.").expect("a pattern");
    let plain = |text: String| later.replace_all(&first.replace_all(&text, "-"), ".").into_owned();
    observed.into_iter().map(|(name, text)| (plain(name), plain(text))).collect()
}

/// Runs the engine in simulated worlds. Returns the number of runs, and those whose outcome no
/// model has.
fn engine(script: &Script, known: &BTreeSet<Observation>, points: u64) -> (u64, Vec<String>) {
    let (mut runs, mut wrong) = (0, Vec::new());
    let mut run = |name: String, set: &dyn Fn(&mut World)| -> u64 {
        let mut world = World::new(script.image.clone(), 7);
        world.with(&script.args, &script.input);
        world.to_rest = true;
        if !script.interventions.is_none() {
            let (image, args) = (script.image.clone(), args_of(script));
            world.broken.extend(0..10);
            world.is_operated_by(Box::new(Intervening::new(image, args, script.interventions, runs)));
        }
        set(&mut world);
        let ended = world.run();
        let observed = without_times(world.observed());
        // An instance that waits for ever is an outcome like others.
        let waits = ended.as_ref().err().is_some_and(|reason| reason.starts_with("it waits for what nobody"));
        if !(ended.is_ok() || waits) || !known.contains(&observed) {
            let reason = ended.err().unwrap_or_default();
            wrong.push(format!("{name}: {} {observed:?}", reason.lines().next().unwrap_or_default()));
        }
        runs += 1;
        world.points
    };
    let all = run("orderly".into(), &|world| (world.orderly, world.fine) = (true, true));
    for point in 1..=all.min(points) {
        run(format!("broken off at {point}"), &|world| {
            (world.orderly, world.fine, world.crash) = (true, true, Crash::At(point));
        });
    }
    for seed in 0..SEEDS {
        run(format!("seed {seed}"), &|world| {
            world.random = Random::new(seed);
            world.crash = if seed % 2 == 0 { Crash::OneIn(10) } else { Crash::Never };
        });
    }
    (runs, wrong)
}

/// A row of the table: the results for a program.
struct Row {
    text: String,
    wrong: Vec<String>,
}

impl Row {
    /// Returns whether a state space is larger than the limit.
    fn is_larger(&self) -> bool {
        self.text.contains(" | larger | | | | |")
    }
}

/// Explores a program in all models, and compares. Returns `None` for a program that is left out.
fn row(script: &Script, limits: &Limits, points: u64) -> Option<Row> {
    let program = subject(script);
    let name = &script.name;
    if WIDE.contains(&name.as_str()) {
        return None;
    }
    let high = match outcomes(&HighLevel, &program, limits) {
        // Models have no files, network or programs, and a turn without an end is no step.
        Err(Stop::NoMock { .. } | Stop::Endless) => return None,
        Err(stop) => {
            return Some(Row { text: format!("{name} {stop:?}"), wrong: vec![format!("{name}: {stop:?}")] });
        }
        Ok(high) => high,
    };
    let mut wrong = Vec::new();
    let all = Faults { crashes: 1, slow: 1, duplicates: 1 };
    let low = Storage { faults: all, keep: Histories };
    let compared = match script.looks {
        true => Ok((0, false)),
        false => steps::compare(&low, &program, &program, STEPS_FROM),
    };
    let compared = match compared {
        Ok((0, _)) => String::new(),
        Ok((steps, true)) => format!("all {steps}"),
        Ok((steps, false)) => steps.to_string(),
        Err(reason) => {
            wrong.push(format!("{name}, step by step: {reason}"));
            String::new()
        }
    };
    if high.bound.is_some() {
        let text = format!("| {name} | larger | | | | | {compared} | | |");
        return Some(Row { text, wrong });
    }
    let mut spaces = Vec::new();
    let mut compare = |model: &str, found: Result<(u64, bool, BTreeSet<Observation>), Stop>| match found {
        Err(stop) => wrong.push(format!("{name}, {model}: {stop:?}")),
        Ok((_, false, found)) => {
            // The search is incomplete, but each outcome that it found must be right.
            wrong.extend(
                found.difference(&high.outcomes).map(|more| format!("{name}, {model} adds {more:?}")),
            );
            spaces.push("larger".to_string());
        }
        Ok((count, true, found)) => {
            wrong.extend(
                found.difference(&high.outcomes).map(|more| format!("{name}, {model} adds {more:?}")),
            );
            wrong.extend(
                high.outcomes.difference(&found).map(|less| format!("{name}, {model} lacks {less:?}")),
            );
            spaces.push(count.to_string());
        }
    };
    let whole = outcomes(&HighLevel, &program, &Limits { reduced: false, ..limits.clone() });
    compare("high-level without reduction", whole.map(|r| (r.configurations, r.bound.is_none(), r.outcomes)));
    let faults = Faults { crashes: 1, ..Faults::default() };
    let compute = outcomes(&Storage { faults, keep: States }, &program, limits);
    compare("compute-storage", compute.map(|r| (r.configurations, r.bound.is_none(), r.outcomes)));
    let record = outcomes(&Storage { faults, keep: Histories }, &program, limits);
    compare("record-replay", record.map(|r| (r.configurations, r.bound.is_none(), r.outcomes)));
    let overtaken = Faults { crashes: 0, slow: 1, duplicates: 1 };
    let record = outcomes(&Storage { faults: overtaken, keep: Histories }, &program, limits);
    compare("overtaken and twice", record.map(|r| (r.configurations, r.bound.is_none(), r.outcomes)));
    let ran = match script.runs {
        false => String::new(),
        true => {
            let (runs, more) = engine(script, &high.outcomes, points);
            wrong.extend(more.into_iter().map(|more| format!("{name}, engine, {more}")));
            runs.to_string()
        }
    };
    let text = format!(
        "| {name} | {} | {} | {compared} | {} | {ran} |",
        high.configurations,
        spaces.join(" | "),
        high.outcomes.len()
    );
    Some(Row { text, wrong })
}

/// Computes the rows of all programs, by two threads.
fn rows(limits: &Limits, points: u64, each: &(dyn Fn(&Row) + Sync)) -> Vec<Row> {
    let mut files: Vec<File> = areas().iter().flat_map(|area| programs(area)).collect();
    files.retain(|file| !file.expects_mistake());
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = common::by_two_threads(&files, |file| {
        let row = row(&Script::of(file), limits, points)?;
        each(&row);
        Some(row)
    });
    rows.into_iter().flatten().collect()
}

/// Returns limits with a single thread, so that the figures are the same each time.
fn limits(configurations: u64) -> Limits {
    Limits { configurations, jobs: 1, collect: true, ..Limits::default() }
}

#[test]
fn the_models_and_the_engine_agree() {
    let rows = rows(&limits(CONFIGURATIONS), CRASH_POINTS, &|_| ());
    let wrong: Vec<&String> = rows.iter().flat_map(|row| &row.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let larger = rows.iter().filter(|row| row.is_larger()).count();
    let mut table = String::new();
    let _ = writeln!(table, "{} programs, {} of them larger than the limit.\n", rows.len(), larger);
    table.push_str(
        "| Program | High-level, reduced | High-level | Compute-storage | Record-replay | Overtaken, twice | Steps | Outcomes | Engine runs |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in &rows {
        table.push_str(&row.text);
        table.push('\n');
    }
    let path = repository("docs/equivalence.md");
    let text = fs::read_to_string(&path).expect("docs/equivalence.md");
    let (head, known) = text.split_once("<!-- generated -->\n").expect("the mark before the table");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{head}<!-- generated -->\n{table}")).expect("the table is written");
    } else {
        assert_eq!(known, table, "docs/equivalence.md is not what is so now");
    }
}

#[test]
#[ignore = "long: as large as CONFIGURATIONS says"]
fn larger_programs_agree() {
    let wanted = setting("CONFIGURATIONS", 100_000);
    let rows = rows(&limits(wanted), u64::MAX, &|row| println!("{}", row.text));
    let wrong: Vec<&String> = rows.iter().flat_map(|row| &row.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns a program of random statements with instances, entities, critical sections, signals and
/// races.
fn random_program(random: &mut Random) -> String {
    let mut text = String::from(
        "entity Box {\n\
         state []\n\
         on add(n) { state += [n]; state.len() }\n\
         on pick(n) { if state.contains(n) { throw {kind: \"there\", message: \"{n}\"} }; state += [n]; n }\n\
         on tell(n) { signal Box(\"z\").add(n); state += [n] }\n\
         }\n\
         activity work(n) => n\n",
    );
    for child in 0..2 {
        let _ = writeln!(text, "orchestration child{child}(n) {{\n  var seen = []");
        for _ in 0..1 + random.below(2) {
            statement(random, &mut text, false);
        }
        text.push_str("  seen\n}\n");
    }
    text.push_str("var seen = []\nvar h = null\n");
    for _ in 0..2 + random.below(2) {
        statement(random, &mut text, true);
    }
    text.push_str("print(seen)\n");
    text
}

fn statement(random: &mut Random, text: &mut String, script: bool) {
    let n = random.below(3);
    let (a, b) = (["x", "y"][random.below(2) as usize], ["x", "y"][random.below(2) as usize]);
    let child = format!("child{}({n})", random.below(2));
    let safely = |call: String| format!("seen += [try {{ {call} }} catch error {{ error.kind }}]");
    let kinds = if script { 15 } else { 9 };
    let line = match random.below(kinds) {
        0 => format!("seen += [work({n})]"),
        1 => format!("seen += [Box(\"{a}\").add({n})]"),
        2 => safely(format!("Box(\"{a}\").pick({n})")),
        3 => format!("signal Box(\"{a}\").add({n})"),
        4 => format!("seen += [Box(\"{a}\").tell({n})]"),
        5 => format!(
            "lock Box(\"{a}\"), Box(\"{b}\") {{ seen += [Box(\"{a}\").add({n}), Box(\"{b}\").add({n})] }}"
        ),
        6 => safely(format!("lock Box(\"{a}\") with {{timeout: {}s}} {{ Box(\"{a}\").pick({n}) }}", n + 1)),
        7 => format!("sleep({}s)", n + 1),
        8 if !script => format!("try {{ sleep(1s) }} finally {{ Box(\"{a}\").add({n}) }}"),
        8 => safely(child),
        9 => safely(format!("all([async {child}, async Box(\"{a}\").add({n})])")),
        10 => safely(format!("race({{child: async {child}, late: async sleep({}s)}})", n + 1)),
        11 if n == 2 => format!("h = start {child} after 1s"),
        11 => format!("h = start {child}"),
        12 => format!("if h != null {{ {} }}", safely("wait(h)".into())),
        13 => format!("if h != null {{ {} }}", safely(format!("terminate(h, {n})"))),
        _ => format!("if h != null {{ {} }}", safely(format!("cancel(h, {{reason: {n}, grace: {n}s}})"))),
    };
    let _ = writeln!(text, "{}{line}", if script { "" } else { "  " });
}

/// `RANDOM_SEED` is the first seed, `RANDOM_PROGRAMS` the number of programs. A failure prints its
/// program.
#[test]
fn random_programs_agree() {
    let (first, count): (u64, u64) = (setting("RANDOM_SEED", 1), setting("RANDOM_PROGRAMS", 120));
    let is_larger = common::by_two_threads(first..first + count, |seed| {
        let text = random_program(&mut Random::new(seed));
        let script = Script::random(seed, text.clone(), common::image(&text));
        let row = row(&script, &limits(CONFIGURATIONS), 20).expect("nothing of the outside");
        assert!(row.wrong.is_empty(), "{text}\n{:#?}", row.wrong);
        row.is_larger()
    });
    let larger = is_larger.iter().filter(|is| **is).count();
    let whole = is_larger.len() - larger;
    println!("{whole} programs compared, {larger} larger than the limit");
    assert!(whole >= larger, "{whole} {larger}");
}
