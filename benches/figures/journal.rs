//! The journal: external steps, beside the raw disk and beside other engines in the same run.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::evaluator::is_there;
use super::{DURABLE, RUNS, fresh, median, program};

/// The other engines: name, command with its arguments, and arguments with which the command
/// succeeds if the engine's library is installed.
const PEERS: [(&str, &[&str], &[&str]); 3] = [
    ("Restate", &["node", "restate.cjs"], &["-e", "require('@restatedev/restate-sdk')"]),
    ("DBOS, SQLite", &["python3", "dbos_steps.py"], &["-c", "import dbos"]),
    ("duroxide, SQLite", &["duroxide-steps"], &[]),
];

/// The number of runs of each engine. Some take many seconds.
const PEER_RUNS: usize = 3;

pub fn journal(folder: &Path) {
    let raw = median((0..RUNS).map(|_| raw_append(&folder.join("raw"))).collect());
    let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let store = fresh(folder);
        let mut run = Command::new(DURABLE);
        run.arg("run").arg(program("steps.df")).arg("--store").arg(store).stdout(Stdio::null());
        let output = run.output().expect("durable runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("info: {name} ")));
            1000.0 / line.expect("a figure").trim().parse::<f64>().expect("a number")
        };
        sequential.push(figure("sequential"));
        parallel.push(figure("parallel"));
    }
    let sequential = median(sequential);
    println!("\njournal, a second");
    println!("raw append and fdatasync          {raw:>9.0}");
    println!("external steps, one by one        {sequential:>9.0}  {:.2} of raw", sequential / raw);
    println!("external steps, 1,000 at once     {:>9.0}", median(parallel));
    written(folder);
    peers(folder, sequential);
}

/// Prints the bytes written for a step, by the size of its result. Only Linux counts them.
fn written(folder: &Path) {
    let store = fresh(folder);
    let mut run = Command::new(DURABLE);
    run.arg("run").arg(program("bytes.df")).arg("--store").arg(store).arg("result");
    let output = run.current_dir(folder).stderr(Stdio::null()).output().expect("durable runs");
    println!("bytes of a step's result          written for it");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (size, bytes) = line.split_once(' ').expect("two numbers");
        let of_size = bytes.parse::<f64>().expect("a number") / size.parse::<f64>().expect("a number");
        println!("{size:>24}          {bytes:>9}  {of_size:.2}");
    }
}

/// Measures the same 1,000 steps in other engines, where they are installed.
fn peers(folder: &Path, ours: f64) {
    println!("steps a second of others          one by one  at once  ours is so many times as fast");
    for (name, run, library) in PEERS {
        let has_library = || {
            let mut check = Command::new(run[0]);
            check.args(library).stdout(Stdio::null()).stderr(Stdio::null());
            check.status().is_ok_and(|status| status.success())
        };
        if !is_there(run[0]) || !(library.is_empty() || has_library()) {
            println!("{name:<32} (not installed)");
            continue;
        }
        let (mut sequential, mut parallel) = (Vec::new(), Vec::new());
        for _ in 0..PEER_RUNS {
            let place = folder.join("peer");
            let _ = fs::remove_dir_all(&place);
            fs::create_dir_all(&place).expect("a folder");
            let mut command = Command::new(run[0]);
            command.current_dir(program("peers/engines")).args(&run[1..]).arg(&place).stderr(Stdio::null());
            let output = command.output().expect("the peer runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let figure = |name: &str| -> Option<f64> {
                let seconds: f64 =
                    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()?;
                Some(1000.0 / seconds)
            };
            sequential.extend(figure("sequential "));
            parallel.extend(figure("parallel "));
        }
        if sequential.is_empty() {
            println!("{name:<32} (it says nothing)");
            continue;
        }
        let at_once = if parallel.is_empty() { "-".to_string() } else { format!("{:.0}", median(parallel)) };
        let sequential = median(sequential);
        println!("{name:<32} {sequential:>11.0} {at_once:>8} {:>9.1}", ours / sequential);
    }
}

/// Appends records of 100 bytes to a file, each followed by fdatasync. Returns the records a
/// second.
fn raw_append(path: &Path) -> f64 {
    let mut file = File::create(path).expect("a file");
    let began = Instant::now();
    for _ in 0..500 {
        file.write_all(&[7; 100]).expect("a record");
        file.sync_data().expect("synced");
    }
    500.0 / began.elapsed().as_secs_f64()
}
