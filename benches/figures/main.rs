//! The figures of `docs/performance.md`: `cargo bench`.
//!
//! Programs time themselves, so the evaluator's figures exclude the start of the process. Each
//! figure is the median of several runs, alternating with the peer's. A peer that is not installed
//! is skipped with a note. `cargo bench -- evaluator`, `journal`, `entities`, `parked`, `scaling`,
//! `start`, `explorer`, `server`, `cluster`, `debug` measure one part.

mod cluster;
mod debug;
mod evaluator;
mod journal;
mod plot;
mod scaling;
mod server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DURABLE: &str = env!("CARGO_BIN_EXE_durable");
const RUNS: usize = 7;

fn main() {
    let folder = std::env::temp_dir().join(format!("durable-figures-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the stores");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    type Part = (&'static str, fn(&Path));
    let parts: [Part; 10] = [
        ("evaluator", evaluator::evaluator),
        ("journal", journal::journal),
        ("entities", entities),
        ("parked", parked),
        ("scaling", scaling::scaling),
        ("start", start),
        ("explorer", |_| explorer()),
        ("server", server::server),
        ("cluster", cluster::cluster),
        ("debug", debug::debug),
    ];
    for (name, measure) in parts {
        if wanted.is_empty() || wanted.iter().any(|part| part == name) {
            measure(&folder);
        }
    }
    let _ = fs::remove_dir_all(&folder);
}

/// Prints configurations a second, and the memory of the process.
fn explorer() {
    println!("explorer                 configurations/s      MB");
    for (name, jobs) in [("one thread", Some("1")), ("all cores", None)] {
        let (mut rates, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let mut run = Command::new(DURABLE);
            run.arg("explore").arg(program("explore_transfers.df"));
            if let Some(jobs) = jobs {
                run.args(["--jobs", jobs]);
            }
            let output = run.output().expect("durable runs");
            let text = String::from_utf8_lossy(&output.stdout).replace(',', "");
            let number = |after: &str| -> f64 {
                let rest = text.split(after).nth(1).expect("the report");
                rest.trim().split(' ').next().and_then(|n| n.parse().ok()).expect("a figure")
            };
            rates.push(number(" s "));
            memory.push(number("second "));
        }
        println!("{name:24} {:16.0} {:7.0}", median(rates), median(memory));
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs").join(name)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns the number in the last line that a command prints.
fn last_number(command: &mut Command) -> Option<f64> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().last()?.trim().parse().ok()
}

fn fresh(folder: &Path) -> PathBuf {
    let store = folder.join("store");
    let _ = fs::remove_dir_all(&store);
    store
}

fn entities(folder: &Path) {
    println!("\nentities and instances, a second");
    for (name, what) in [
        ("signals", "signals to one entity"),
        ("calls", "calls over 100 entities, 64 instances at once"),
        ("transfers", "transfers in sections of two, 64 at once"),
        ("activities", "activities of 10,000 instances at once"),
        ("instances", "effects of 10,000 instances at once"),
    ] {
        let figure = || {
            let mut run = Command::new(DURABLE);
            run.arg("run").arg(program(&format!("{name}.df"))).arg("--store").arg(fresh(folder));
            last_number(&mut run).expect("a figure")
        };
        println!("{what:<46} {:>9.0}", median((0..RUNS).map(|_| figure()).collect()));
    }
}

/// Creates 100,000 instances that wait for an event, and reaches one of them in a new process.
fn parked(folder: &Path) {
    let store = fresh(folder);
    let began = Instant::now();
    let mut make = Command::new(DURABLE);
    make.arg("run").arg(program("parked.df")).arg("--store").arg(&store).stderr(Stdio::null());
    assert!(make.status().expect("durable runs").success());
    println!("\n100,000 instances that wait for an event");
    println!("made in                           {:>9.2} s", began.elapsed().as_secs_f64());
    let (mut times, mut pages) = (Vec::new(), Vec::new());
    for number in 0..RUNS {
        let began = Instant::now();
        let mut server = Command::new(DURABLE)
            .args(["serve", "--store"])
            .arg(&store)
            .stderr(Stdio::null())
            .spawn()
            .expect("durable runs");
        let id = format!("waits-{number}");
        while !store.join("socket").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        for args in [&["raise", &id, "go", "1"][..], &["wait", &id, "--json"][..]] {
            let mut ask = Command::new(DURABLE);
            ask.args(args).arg("--store").arg(&store).stdout(Stdio::null());
            assert!(ask.status().expect("durable runs").success());
        }
        times.push(began.elapsed().as_secs_f64());
        pages.push(first_line(Command::new(DURABLE).arg("list").arg("--store").arg(&store)));
        if number == 0 {
            let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
            if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
                println!("peak memory of the server         {:>12}", peak.trim());
            }
        }
        server.kill().expect("killed");
        server.wait().expect("ended");
    }
    let dry = |to: &Path| {
        let began = Instant::now();
        let mut dry = Command::new(DURABLE);
        dry.args(["upgrade", "--function", "waits", "--dry-run", "--to"]).arg(to).arg("--store").arg(&store);
        assert!(dry.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("durable runs").success());
        began.elapsed().as_secs_f64()
    };
    let changed = folder.join("changed.df");
    let text = fs::read_to_string(program("parked.df")).expect("the program");
    fs::write(&changed, text.replace("+ n", "+ n + 0")).expect("a file");
    println!("dry run of an upgrade of all      {:>9.2} s", dry(&changed));
    println!("reopened, and one of them done in {:>9.3} s", median(times));
    println!("first page of `durable list`      {:>9.1} ms", 1e3 * median(pages));
}

/// Returns the seconds until a command has printed its first line. Reads the other lines to the
/// end.
fn first_line(command: &mut Command) -> f64 {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("durable runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(lines.next().is_some());
    let took = began.elapsed().as_secs_f64();
    assert!(lines.count() >= 100_000, "all are listed");
    assert!(child.wait().expect("it ends").success());
    took
}

fn start(folder: &Path) {
    let mut figures = Vec::new();
    for _ in 0..RUNS * 3 {
        let store = fresh(folder);
        let mut run = Command::new(DURABLE);
        run.arg("run").arg(program("hello.df")).arg("--store").arg(store).stdout(Stdio::null());
        let began = Instant::now();
        assert!(run.status().expect("durable runs").success());
        figures.push(began.elapsed().as_secs_f64());
    }
    println!("\nhello on an empty store");
    println!("whole process                     {:>6.1} ms", median(figures) * 1000.0);
    let mut hello = Command::new(DURABLE);
    hello.arg("run").arg(program("hello.df")).arg("--store").arg(fresh(folder));
    match evaluator::peak(&mut hello) {
        Some(megabytes) => println!("peak memory                       {megabytes:>6.1} MB"),
        None => println!("(GNU time is not installed: peak memory is left out)"),
    }
}
