//! Kills: every conformance program runs in a process of its own, which is killed with SIGKILL at
//! random moments, and runs again until it ends. It must end as the uninterrupted run does, with a
//! whole journal.
//!
//! `CRASH_SEED` chooses the moments. `CRASH_ROUNDS` is the number of times that each program is
//! tried (1 by default). For hours of it: `CRASH_ROUNDS=1000 cargo test --release --test crash`.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::program::{Program, areas, programs};
use common::{DURABLE, Random, setting};
use tempfile::TempDir;

/// The largest number of kills before a program may run to its end.
const KILLS: u32 = 4;

#[test]
fn killed_programs_end_as_if_nothing_had_been() {
    let seed = setting("CRASH_SEED", 1);
    let rounds = setting("CRASH_ROUNDS", 1);
    let mut all: Vec<Program> = areas().iter().flat_map(|area| programs(area)).collect();
    all.retain(|program| !program.expects_mistake() && !program.text.contains("// slow:"));
    let count = all.len() as u64;
    let runs = (0..rounds).flat_map(|round| (0..count).map(move |nth| (round, nth)));
    let killed = common::by_two_threads(runs, |(round, nth)| {
        let program = &all[nth as usize];
        let mut random = Random::new(seed + round * 1_000_003 + nth);
        check(program, &mut random)
            .map_err(|reason| format!("{} (CRASH_SEED={seed}, round {round}): {reason}", program.name))
    });
    let failures: Vec<&str> =
        killed.iter().filter_map(|run| run.as_ref().err()).map(String::as_str).collect();
    let kills: u32 = killed.iter().flatten().sum();
    println!("{} runs, killed {kills} times", killed.len());
    assert!(u64::from(kills) > rounds * count / 2, "only {kills} kills: the moments are chosen too late");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Compares an uninterrupted run of a program with a killed one. Returns the number of kills.
fn check(program: &Program, random: &mut Random) -> Result<u32, String> {
    let began = Instant::now();
    let unbroken = program.run();
    let usual = began.elapsed();
    program.check(&unbroken)?;
    let folder = TempDir::new().expect("a temporary folder");
    program.lay_out(folder.path());
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut child = program.command(folder.path()).spawn().expect("durable runs");
        let _ = child.stdin.take().expect("stdin").write_all(program.input().as_bytes());
        let micros = usual.as_micros() as u64;
        std::thread::sleep(Duration::from_micros(random.below(micros + micros / 4 + 1)));
        // The child may have ended before.
        let _ = child.kill();
        let output = child.wait_with_output().expect("durable ends");
        if output.status.code().is_some() {
            break;
        }
        kills += 1;
    }
    let mut last = program.command(folder.path()).spawn().expect("durable runs");
    let _ = last.stdin.take().expect("stdin").write_all(program.input().as_bytes());
    let Output { status, stdout, stderr } = last.wait_with_output().expect("durable ends");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let result = |stdout: &str| stdout.lines().last().unwrap_or_default().to_string();
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    verify(folder.path())?;
    if program.text.contains("// outside:") || program.text.contains("// real time:") {
        return Ok(kills);
    }
    if status.code() != Some(unbroken.code) {
        return Err(format!(
            "after {kills} kills it ended with {:?} instead of {}\n{stderr}",
            status.code(),
            unbroken.code
        ));
    }
    if result(&stdout) != result(&unbroken.stdout) {
        return Err(format!(
            "after {kills} kills the result is {} instead of {}",
            result(&stdout),
            result(&unbroken.stdout)
        ));
    }
    // The journal has every line that the script printed, once and in order.
    let printed = replayed(folder.path());
    let wanted = replayed(unbroken.folder.path());
    if !program.text.contains("// expect last:") && printed != wanted {
        return Err(format!(
            "after {kills} kills the journal has the output\n{printed}\ninstead of\n{wanted}"
        ));
    }
    Ok(kills)
}

fn replayed(folder: &Path) -> String {
    let run =
        Command::new(DURABLE).current_dir(folder).args(["replay", "test"]).output().expect("durable runs");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

fn verify(folder: &Path) -> Result<(), String> {
    let run =
        Command::new(DURABLE).current_dir(folder).args(["store", "verify"]).output().expect("durable runs");
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}
