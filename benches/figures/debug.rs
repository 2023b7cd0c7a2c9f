//! The debugger: steps backwards in a long run, seeks in a long history, the first view.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use durable::debug::{Position, Session, Step};
use durable::store;

use super::{DURABLE, evaluator, fresh, median, program};

/// Runs a program under an id, measures the memory of the command on the run, and opens it.
fn opened(folder: &Path, name: &str, args: &[&str]) -> Session {
    let path = fresh(folder);
    let mut run = Command::new(DURABLE);
    run.arg("run").arg(program(name)).args(["--id", "run", "--durability", "none"]);
    run.arg("--store").arg(&path).arg("--").args(args).stdout(Stdio::null());
    assert!(run.status().expect("durable runs").success());
    peak(folder);
    let store = store::open(&path).expect("the store");
    Session::open(&store, "run").expect("its run")
}

/// Returns milliseconds.
fn timed(act: impl FnOnce()) -> f64 {
    let began = Instant::now();
    act();
    began.elapsed().as_secs_f64() * 1e3
}

pub fn debug(folder: &Path) {
    println!("\nthe debugger");
    let mut session = opened(folder, "statements.df", &[]);
    let forward = timed(|| session.seek_end());
    println!("{:<46} {:>9}", "statements and entries of that", session.ticks());
    println!("{:<46} {forward:>9.1} ms", "forward from its beginning to its end");
    let last = session.ticks();
    let (mut backs, mut worst) = (Vec::new(), 0f64);
    for part in 1..=40 {
        session.visit(last * part / 41);
        // The first step may read a snapshot that is far away.
        for _ in 0..3 {
            let took = timed(|| {
                session.back(Step::Over);
            });
            backs.push(took);
            worst = worst.max(took);
        }
    }
    println!("{:<46} {:>9.2} ms", "back one statement, the median", median(backs));
    println!("{:<46} {worst:>9.2} ms", "back one statement, the slowest");
    let mut session = opened(folder, "entries.df", &["100000"]);
    let all = session.history.len() as u64;
    let forward = timed(|| session.seek_end());
    println!("{:<46} {forward:>9.1} ms", format!("forward over {all} entries"));
    let (mut seeks, mut worst) = (Vec::new(), 0f64);
    for part in 0..60u64 {
        let entry = part * 7919 * 13 % all;
        let took = timed(|| {
            session.seek(Position::at(entry));
        });
        seeks.push(took);
        worst = worst.max(took);
    }
    println!("{:<46} {:>9.2} ms", "a seek to an entry of them, the median", median(seeks));
    println!("{:<46} {worst:>9.2} ms", "a seek to an entry of them, the slowest");
    drop(session);
    views(folder);
}

/// Returns the command that shows the end of the run in a folder's store.
fn view(folder: &Path) -> Command {
    let mut debug = Command::new(DURABLE);
    debug.args(["debug", "run", "--store"]).arg(folder.join("store"));
    debug.stdin(Stdio::null()).stdout(Stdio::null());
    debug
}

/// Measures the memory of the command on the run in a folder's store.
fn peak(folder: &Path) {
    assert!(view(folder).status().expect("durable runs").success());
    match evaluator::peak(&mut view(folder)) {
        Some(megabytes) => println!("{:<46} {megabytes:>9.1} MB", "peak memory of the command"),
        None => println!("(GNU time is not installed: peak memory is left out)"),
    }
}

/// Measures the whole command on an instance of 20,000 entries, until its first line.
fn views(folder: &Path) {
    let path = fresh(folder);
    let mut run = Command::new(DURABLE);
    run.arg("run").arg(program("entries.df")).args(["--id", "run", "--durability", "none"]);
    run.arg("--store").arg(&path).args(["--", "20000"]).stdout(Stdio::null());
    assert!(run.status().expect("durable runs").success());
    let times = (0..7).map(|_| timed(|| assert!(view(folder).status().expect("durable runs").success())));
    println!("{:<46} {:>9.1} ms", "the first view of 20,000 entries", median(times.collect()));
    peak(folder);
}
