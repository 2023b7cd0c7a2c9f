//! The evaluator beside its peers: the same program in each language, timed by the program itself,
//! and the memory of the process.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{DURABLE, RUNS, fresh, last_number, median, program};

/// The peers: name, command, folder of the programs, and their file extension.
const PEERS: [(&str, &str, &str, &str); 6] = [
    ("lua5.4", "lua5.4", "", "lua"),
    ("luajit", "luajit", "", "lua"),
    ("python3", "python3", "peers/", "py"),
    ("rhai", "rhai-run", "peers/", "rhai"),
    ("koto", "koto", "peers/", "koto"),
    ("steel", "steel", "peers/", "scm"),
];

const PROGRAMS: [&str; 11] = [
    "fib",
    "tail_sum",
    "map_filter_fold",
    "group_by",
    "queens",
    "nbody",
    "merge_sort",
    "words",
    "record",
    "trees",
    "json",
];

pub fn evaluator(folder: &Path) {
    let there: Vec<_> = PEERS.iter().filter(|peer| is_there(peer.1)).collect();
    for peer in PEERS.iter().filter(|peer| !is_there(peer.1)) {
        println!("({} is not installed: its column is left out)", peer.0);
    }
    print!("evaluator, seconds      durable");
    there.iter().for_each(|peer| print!(" {:>8}", peer.0));
    println!("  of Lua   MB  of Lua");
    let (mut ratios, mut memories) = (Vec::new(), Vec::new());
    for name in PROGRAMS {
        let path = program(&format!("{name}.df"));
        let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); there.len()]);
        for _ in 0..RUNS {
            let mut run = Command::new(DURABLE);
            run.arg("run").arg(&path).arg("--store").arg(fresh(folder));
            ours.push(last_number(&mut run).expect("a figure"));
            for ((_, command, place, ending), times) in there.iter().zip(&mut theirs) {
                let path = program(&format!("{place}{name}.{ending}"));
                // A peer that takes more than a second is run once.
                if path.exists() && times.first().is_none_or(|first| *first < 1.0) {
                    times.extend(last_number(Command::new(command).arg(path)));
                }
            }
        }
        let ours = median(ours);
        print!("{name:<22} {ours:>8.4}");
        for times in &theirs {
            match times.is_empty() {
                true => print!("        -"),
                false => print!(" {:>8.4}", median(times.clone())),
            }
        }
        let lua = there.iter().position(|peer| peer.0 == "lua5.4");
        if let Some(times) = lua.map(|at| &theirs[at]).filter(|times| !times.is_empty()) {
            let ratio = ours / median(times.clone());
            ratios.push(ratio);
            print!(" {ratio:>7.2}");
        }
        let own = peak(Command::new(DURABLE).arg("run").arg(&path).arg("--store").arg(fresh(folder)));
        let of = peak(Command::new("lua5.4").arg(program(&format!("{name}.lua"))));
        if let (Some(own), Some(of)) = (own, of) {
            memories.push(own / of);
            print!(" {own:>5.0} {:>6.2}", own / of);
        }
        println!();
    }
    let mean = |of: &[f64]| (of.iter().map(|x| x.ln()).sum::<f64>() / of.len() as f64).exp();
    if !ratios.is_empty() {
        println!("geometric mean, of Lua: time {:.2}, memory {:.2}", mean(&ratios), mean(&memories));
    }
}

/// Returns whether a command is installed.
pub fn is_there(command: &str) -> bool {
    let mut run = Command::new(command);
    run.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    run.spawn().map(|mut child| child.wait()).is_ok()
}

/// Returns the peak memory of a command in megabytes, or `None` without GNU time.
pub fn peak(command: &mut Command) -> Option<f64> {
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M"]).arg(command.get_program()).args(command.get_args());
    let output = time.stdout(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().last()?.trim().parse::<f64>().ok().map(|kilobytes| kilobytes / 1000.0)
}
