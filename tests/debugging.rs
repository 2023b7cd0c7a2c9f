//! The debugger: any moment of a run, forwards and backwards.
//!
//! The properties hold for the run of every conformance program that needs nothing from outside,
//! and for random programs.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use common::orders::ORDERS;
use common::place::debug;
use common::program::{Program, areas, programs};
use common::sim::World;
use common::{DURABLE, Random, setting, worlds};
use durable::check;
use durable::debug::{
    Breakpoint, Breakpoints, Direction, End, On, Position, Session, Step, Stepped, Stop, Watch, view,
};
use durable::engine::{InstanceRecord, Status, read_history};
use tempfile::TempDir;

/// The number of random programs. `DEBUGGING_PROGRAMS` replaces it.
const RANDOM: u64 = 25;

/// The most moments of a run that are visited one by one.
const MOST: u64 = 40;

/// The most instances of a program whose runs are visited.
const INSTANCES: usize = 3;

/// The most work of a run that is repeated again and again, in statements, calls and repetitions.
const WORK: u64 = 30_000;

/// Programs that fill the memory or recurse a million times. Their runs are repeated to their ends,
/// and their moments are not visited one by one.
const LARGE: [&str; 9] = [
    "cancellation/tasks_count_as_memory",
    "errors/list_limit",
    "errors/memory_limit",
    "errors/memory_of_many_small_values",
    "functions/endless_recursion_is_an_error",
    "functions/list_a_million_deep",
    "functions/million_element_list",
    "functions/tail_calls_of_every_kind",
    "library/unique_of_many",
];

/// Runs a world to its end, and returns a session of each of its instances.
fn sessions(mut world: World, loaded: &dyn Fn() -> check::Program) -> Result<Vec<Session>, String> {
    (world.orderly, world.fine) = (true, true);
    world.run()?;
    let records = world.records();
    let session = |record: InstanceRecord| {
        let history = read_history(&world.driver.store, &record).map_err(|error| error.to_string())?;
        Session::of(record, loaded(), history.entries).map_err(|error| error.to_string())
    };
    records.into_iter().take(INSTANCES).map(session).collect()
}

fn of_program(program: &Program) -> Result<Vec<Session>, String> {
    let mut world = World::new(program.image(), 1);
    world.with(&program.args(), &program.input());
    sessions(world, &|| program.loaded())
}

fn of_seed(seed: u64) -> Result<Vec<Session>, String> {
    let text = worlds::program(&mut Random::new(seed));
    let load = || check::load("sim.df", text.clone(), &|_: &str| Err("no files".to_string()));
    sessions(World::new(common::image(&text), seed), &load)
}

/// A property of a run, checked on its session and with random choices.
type Property = fn(&mut Session, &mut Random) -> Result<(), String>;

/// All properties. Each has a test that reports what was found. The runs are made once for all.
const PROPERTIES: [Property; 5] =
    [fits_its_history, is_the_same, is_reversed, stops_there, is_the_last_write];

/// Returns the failures of each property, on the runs of all conformance programs and of random
/// ones.
fn failures() -> &'static [Vec<String>] {
    static FOUND: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut all: Vec<Program> = areas().iter().flat_map(|area| programs(area)).collect();
        all.retain(|program| !program.expects_mistake() && !program.is_of_another_world());
        let mut cases: Vec<(String, Option<Program>, u64)> = Vec::new();
        cases.extend(all.into_iter().map(|program| (program.name.clone(), Some(program), 0)));
        let seeds = setting("DEBUGGING_PROGRAMS", RANDOM);
        cases.extend((0..seeds).map(|seed| (format!("seed {seed}"), None, seed)));
        let names: BTreeSet<String> = cases.iter().map(|(name, ..)| name.clone()).collect();
        let found = common::by_two_threads(cases, |(name, program, seed)| {
            let sessions = match &program {
                Some(program) => of_program(program),
                None => of_seed(seed),
            };
            let mut sessions = match sessions {
                Ok(sessions) => sessions,
                Err(reason) => return vec![Some(format!("{name}: {reason}")); PROPERTIES.len()],
            };
            let checked = if LARGE.contains(&&*name) { 1 } else { PROPERTIES.len() };
            let failure = |property: &Property| {
                let mut random = Random::new(seed + 1);
                sessions.iter_mut().find_map(|session| {
                    let reason = property(session, &mut random).err()?;
                    Some(format!("{name}: {}: {reason}", session.record.id))
                })
            };
            PROPERTIES[..checked].iter().map(failure).collect()
        });
        assert!(LARGE.iter().all(|large| names.contains(*large)), "a large program has another name now");
        let of = |at: usize| found.iter().filter_map(|of_case| of_case.get(at)?.clone()).collect();
        (0..PROPERTIES.len()).map(of).collect()
    })
}

#[track_caller]
fn holds(property: usize) {
    let failures = &failures()[property];
    assert!(failures.is_empty(), "{} fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn debug_code_fits_each_history() {
    holds(0);
}

#[test]
fn a_moment_is_the_same_however_one_comes_there() {
    holds(1);
}

#[test]
fn a_backward_trace_is_the_reversed_forward_one() {
    holds(2);
}

#[test]
fn going_back_stops_where_going_on_did() {
    holds(3);
}

#[test]
fn the_last_write_is_the_last_change_among_all_moments() {
    holds(4);
}

/// Returns a moment as text: everything that a debugger shows of it.
fn shown(session: &Session) -> String {
    let mut out = format!("{} {:?} {:?}\n", session.position(), session.at(), session.end());
    for task in session.tasks() {
        let _ = writeln!(out, "task {} {}", task.id, task.does);
        for call in session.frames(task.id) {
            let _ = writeln!(out, "  {} {:?}", call.function, call.place);
            for variable in session.variables(task.id, call.number) {
                let _ = writeln!(out, "    {} = {}", variable.name, view::held(&variable.value, 200));
            }
        }
    }
    let lines = session.output_so_far();
    let _ = writeln!(out, "{} lines, {:?}", lines.len(), lines.last());
    out
}

/// Returns the last tick of a run; `None` if the run is too long to be repeated again and again.
fn last_tick(session: &mut Session) -> Option<u64> {
    session.visit(0);
    let before = session.worked();
    session.seek_end();
    (session.worked() - before < WORK).then_some(session.ticks())
}

fn fits_its_history(session: &mut Session, _: &mut Random) -> Result<(), String> {
    session.seek_end();
    match (session.end(), &session.record.status) {
        (Some(End::Ended), Status::Completed(_) | Status::Failed(_) | Status::Terminated(_)) => Ok(()),
        (Some(End::Terminated), Status::Terminated(_)) => Ok(()),
        (Some(End::Waits), status) if !status.is_ended() => Ok(()),
        (end, status) => Err(format!("comes to {end:?} where the instance is {}", status.word())),
    }
}

fn is_the_same(session: &mut Session, random: &mut Random) -> Result<(), String> {
    let Some(last) = last_tick(session) else { return Ok(()) };
    let step = (last / MOST).max(1);
    let ticks: Vec<u64> = (0..=last).step_by(step as usize).collect();
    // Forwards, one after another.
    let mut forward = Vec::new();
    session.visit(0);
    for tick in &ticks {
        session.visit(*tick);
        forward.push((session.position(), shown(session)));
    }
    // Backwards.
    for (tick, (position, wanted)) in ticks.iter().zip(&forward).rev() {
        session.visit(*tick);
        if shown(session) != *wanted {
            return Err(format!("going back to {position} shows\n{}instead of\n{wanted}", shown(session)));
        }
    }
    // In any order, by their positions.
    for _ in 0..10 {
        let at = random.below(ticks.len() as u64) as usize;
        let (position, wanted) = &forward[at];
        let reached = session.seek(*position);
        if reached != *position || shown(session) != *wanted {
            return Err(format!("a seek to {position} shows\n{}instead of\n{wanted}", shown(session)));
        }
    }
    Ok(())
}

/// Steps through a task from its beginning, as long as the steps stay in it.
fn steps(session: &mut Session) -> Vec<Position> {
    session.seek_start();
    let mut trace = Vec::new();
    while trace.len() < MOST as usize {
        match session.step(Step::Into) {
            Stepped::Statement if session.task() == 0 => trace.push(session.position()),
            Stepped::Child(_) | Stepped::Operation(..) => {}
            _ => break,
        }
    }
    trace
}

fn is_reversed(session: &mut Session, _: &mut Random) -> Result<(), String> {
    let forward = steps(session);
    let Some(last) = forward.last() else { return Ok(()) };
    session.seek(*last);
    session.follow(0);
    let mut backward = vec![*last];
    while session.back(Step::Into) == Stepped::Statement && session.position() >= forward[0] {
        backward.push(session.position());
        if backward.len() > forward.len() {
            break;
        }
    }
    backward.reverse();
    if forward != backward {
        return Err(format!("forward {forward:?}\nbackward {backward:?}"));
    }
    Ok(())
}

/// Returns all stops in a direction.
fn stops(session: &mut Session, direction: Direction, breakpoints: &mut Breakpoints) -> Vec<(Position, u32)> {
    match direction {
        Direction::Forward => session.seek_start(),
        Direction::Backward => session.seek_end(),
    }
    let mut found = Vec::new();
    while let Stop::At { breakpoint, .. } = session.resume(direction, breakpoints) {
        found.push((session.position(), breakpoint));
        if found.len() > 2 * MOST as usize {
            break;
        }
    }
    found
}

fn stops_there(session: &mut Session, random: &mut Random) -> Result<(), String> {
    let Some(_) = last_tick(session) else { return Ok(()) };
    let count = session.tables().statements.len() as u64;
    if count == 0 {
        return Ok(());
    }
    let mut chosen: Vec<u32> = (0..3).map(|_| random.below(count) as u32).collect();
    chosen.sort_unstable();
    chosen.dedup();
    let on = [
        On::Statements(chosen),
        On::Thrown(None),
        On::Request("print".into()),
        On::Answer("sleep".into()),
        On::Uncaught,
    ];
    // A log breakpoint at the same moments comes first, and hides no stop.
    let with = |(at, on): (usize, On)| {
        let breakpoint = |id, log| Breakpoint { id, on: on.clone(), condition: None, hits: None, log };
        [breakpoint(at as u32 + 10, Some("here".to_string())), breakpoint(at as u32, None)]
    };
    let all = on.into_iter().enumerate().flat_map(with);
    let mut breakpoints = Breakpoints { all: all.collect(), said: Vec::new() };
    let forward = stops(session, Direction::Forward, &mut breakpoints);
    if forward.len() > MOST as usize / 2 {
        return Ok(());
    }
    let mut backward = stops(session, Direction::Backward, &mut breakpoints);
    backward.reverse();
    // Two breakpoints can hold at one moment.
    let positions = |all: &[(Position, u32)]| all.iter().map(|(at, _)| *at).collect::<Vec<_>>();
    if positions(&forward) != positions(&backward) {
        return Err(format!("forward {forward:?}\nbackward {backward:?}"));
    }
    Ok(())
}

fn is_the_last_write(session: &mut Session, random: &mut Random) -> Result<(), String> {
    let Some(last) = last_tick(session).map(|last| last.min(MOST)).filter(|last| *last > 0) else {
        return Ok(());
    };
    session.visit(1 + random.below(last));
    let (here, task) = (session.ticks(), session.task());
    let Some(call) = session.own_frame(task) else { return Ok(()) };
    for variable in session.variables(task, call.number).iter().filter(|v| !v.is_function).take(3) {
        session.visit(here);
        let Some(watch) = Watch::new(session, task, call.number, &variable.name) else {
            return Err(format!("`{}` can't be watched", variable.name));
        };
        let found = session.last_write(&watch).map(|written| written.position);
        let mut values = Vec::new();
        let mut before = None;
        for tick in 0..=here {
            session.visit(tick);
            before = watch.value(session, &before);
            values.push((session.position(), before.as_ref().map(|value| view::brief(value, 10_000))));
        }
        let mut changes = values.windows(2).filter(|two| two[1].1.is_some() && two[0].1 != two[1].1);
        let wanted = changes.next_back().map(|two| two[0].0);
        if found != wanted {
            return Err(format!("`{}` was set at {found:?}, and not {wanted:?}", variable.name));
        }
    }
    Ok(())
}

// ---- the command

/// Returns the files of a folder with their bytes.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(bytes(&path)),
            false => {
                // A socket has no bytes.
                if let Ok(content) = fs::read(&path) {
                    all.insert(path.display().to_string(), content);
                }
            }
        }
    }
    all
}

fn durable(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(DURABLE).current_dir(folder).args(args).output().expect("durable runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Returns a folder with a store in which an order failed.
fn failed_order() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("orders.df"), ORDERS).expect("the program is written");
    let (code, _, said) = durable(
        folder.path(),
        &["start", "orders.df", "order", "[\"tea\", \"cake\", \"pie\"]", "--id", "order-17", "--wait"],
    );
    assert_eq!(code, 1, "{said}");
    folder
}

#[test]
fn a_failed_instance_opens_at_the_statement_that_failed() {
    let folder = failed_order();
    let said = debug(
        folder.path(),
        &["order-17"],
        "vars\nprint sum * 2\nwho sum\nstack\noutput\nback\nback\nvars\n",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("orders.df:12  let one = price(item)"), "{said}");
    assert!(said.contains("item = \"pie\"\n"), "{said}");
    assert!(said.contains("sum = 8\n"), "{said}");
    assert!(said.contains("\n16\n"), "{said}");
    assert!(said.contains("sum was set at"), "{said}");
    assert!(said.contains("orders.df:13  sum += one"), "{said}");
    assert!(said.contains("tea: 3\ncake: 5\n"), "{said}");
    assert!(said.contains("order  orders.df:20"), "{said}");
}

#[test]
fn an_expression_changes_nothing_and_does_nothing_outside() {
    let folder = failed_order();
    let said = debug(
        folder.path(),
        &["order-17"],
        "print items + [\"x\"]\nprint items\nprint print(\"hello\")\nprint nothing_here\nprint total\nprint 1 +\n",
    );
    assert!(said.contains("[\"tea\", \"cake\", \"pie\", \"x\"]\n[\"tea\", \"cake\", \"pie\"]\n"), "{said}");
    assert_eq!(said.matches("error: ").count(), 3, "{said}");
    assert!(!said.contains("hello\n"), "{said}");
}

#[test]
fn breakpoints_have_conditions_hits_and_texts() {
    let folder = failed_order();
    let commands = "seek start\nbreak 13 if one == 5\ncontinue\nprint item\ndelete 1\n\
                    break 12 hits 2\nseek start\ncontinue\nprint item\ndelete 2\n\
                    break orders.df:14 log now {item} costs {one}\nseek start\ncontinue\n";
    let said = debug(folder.path(), &["order-17"], commands);
    assert_eq!(said.matches("\n\"cake\"\n").count(), 2, "{said}");
    assert!(said.contains("now tea costs 3\nnow cake costs 5\n"), "{said}");
}

/// A moment can have a log breakpoint and one that stops, in either order and of any kind.
#[test]
fn a_log_breakpoint_hides_no_other_one() {
    let folder = failed_order();
    for (log, stop) in [
        ("break 13 log at {item}", "break 13 if one == 5"),
        ("break fn total log begins", "break fn total"),
        ("break request print log asked", "break request print hits 2"),
        ("break error log fails", "break error"),
        ("break uncaught log fails", "break uncaught"),
    ] {
        for both in [format!("{log}\n{stop}"), format!("{stop}\n{log}")] {
            let number = if both.starts_with(log) { 2 } else { 1 };
            let said = debug(folder.path(), &["order-17"], &format!("{both}\nseek start\ncontinue\n"));
            let (stops, throws) = (format!("breakpoint {number}"), format!("breakpoint {number}: throws"));
            assert!(said.lines().any(|line| line == stops || line.starts_with(&throws)), "{both}: {said}");
            let at = said.lines().last().unwrap_or_default().to_string();
            let said = debug(folder.path(), &["order-17"], &format!("{both}\nseek end\nreverse\n"));
            assert_eq!(said.lines().last(), Some(&*at), "{both}: {said}");
        }
    }
}

#[test]
fn debugging_leaves_every_byte_of_the_store() {
    let folder = failed_order();
    let store = folder.path().join(".durable");
    let before = bytes(&store);
    let commands =
        "seek start\nstep\ninto\nprint items\nbreak error\ncontinue\nreverse\nwho items\nseek end\n";
    debug(folder.path(), &["order-17"], commands);
    assert!(before == bytes(&store), "the store has changed");
    // An export is read as the store is.
    let (code, _, said) = durable(folder.path(), &["store", "export", "backup.jsonl"]);
    assert_eq!(code, 0, "{said}");
    let of_store = debug(folder.path(), &["order-17"], "vars\nstack\noutput\n");
    let of_export = debug(folder.path(), &["order-17", "--store", "backup.jsonl"], "vars\nstack\noutput\n");
    assert_eq!(of_store, of_export);
}

#[test]
fn a_crashed_store_and_a_running_one_can_be_debugged() {
    let folder = TempDir::new().expect("a temporary folder");
    let text = "print(\"begins\")\nlet answer = receive(\"go\")\nprint(answer)\n";
    fs::write(folder.path().join("waits.df"), text).expect("the program is written");
    let mut child = Command::new(DURABLE)
        .current_dir(folder.path())
        .args(["run", "waits.df", "--id", "waits"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("durable runs");
    let mut line = String::new();
    let out = child.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    assert_eq!(line, "begins\n");
    let running = debug(folder.path(), &["waits"], "waiting\noutput\n");
    assert!(running.contains("waits for receive(\"go\")") && running.contains("begins\n"), "{running}");
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let store = folder.path().join(".durable");
    let before = bytes(&store);
    let crashed = debug(folder.path(), &["waits"], "waiting\noutput\n");
    assert!(crashed.contains("waits for receive(\"go\")") && crashed.contains("begins\n"), "{crashed}");
    assert!(before == bytes(&store), "the store has changed");
}

#[test]
fn an_instance_that_is_not_there_is_a_problem() {
    let folder = failed_order();
    let (code, _, said) = durable(folder.path(), &["debug", "order-18"]);
    assert_eq!((code, said.contains("there is no instance `order-18`")), (5, true), "{said}");
    let (code, _, said) = durable(folder.path(), &["debug", "order-17", "--at", "soon"]);
    assert_eq!((code, said.contains("`soon` is not a position")), (2, true), "{said}");
    let (code, _, said) = durable(folder.path(), &["debug", "order-17", "--store", "nowhere"]);
    assert_eq!(code, 4, "{said}");
}

fn press(terminal: &mut rexpect::session::PtySession, keys: &str) {
    terminal.send(keys).expect("a key");
    terminal.flush().expect("a key");
}

/// The screen needs 80 columns and 24 lines. Only changed cells are drawn, so the test looks for
/// texts that are new as a whole.
#[test]
fn a_terminal_shows_the_moment() {
    let folder = failed_order();
    let mut command = Command::new("sh");
    let line = format!("stty rows 24 cols 80; exec {DURABLE} debug order-17");
    command.current_dir(folder.path()).env("TERM", "xterm").args(["-c", &line]);
    let mut terminal = rexpect::session::spawn_command(command, Some(60_000)).expect("a terminal");
    terminal.exp_string("orders.df:12").expect("the statement");
    terminal.exp_string("let one = price(item)").expect("the source");
    terminal.exp_string("sum").expect("a variable");
    press(&mut terminal, "e");
    press(&mut terminal, "\"zz\" + \"zz\"\r");
    terminal.exp_string("\"zzzz\"").expect("a value");
    press(&mut terminal, "?");
    terminal.exp_string("reverse").expect("the keys");
    press(&mut terminal, "x");
    press(&mut terminal, "q");
    terminal.exp_eof().expect("the end");
}
