//! Workers over one database: commits that fail, land late, or land without an answer; owners that
//! are deposed and do not know it; databases that go back to an earlier time; partitions that are
//! split. Every promise holds, and every rule of the database and of the workers that is broken on
//! purpose is found.
//!
//! `SIMULATION_SEED` is the first seed, `SIMULATION_RUNS` the number of runs.

mod common;

use std::collections::BTreeMap;

use common::cluster::{Cluster, Environment, Fate};
use common::database::Broken;
use common::promises::all_entities;
use common::worlds::{check_logs, many_program};
use common::{Random, image, setting};
use durable::engine::Status;
use durable::engine::fault::{self, Fault};

const CALM: Environment = Environment { loses: false, deposes: false, restores: false, splits: false };
const LOSSY: Environment = Environment { loses: true, ..CALM };
const STORMY: Environment = Environment { deposes: true, ..LOSSY };
const GOES_BACK: Environment = Environment { restores: true, ..STORMY };
const GROWS: Environment = Environment { splits: true, ..STORMY };
const ALL: [Environment; 5] = [CALM, LOSSY, STORMY, GOES_BACK, GROWS];

type Counts = BTreeMap<&'static str, u64>;

/// Runs a random program. Its workers are instances of partitions of their own.
fn run(seed: u64, environment: Environment, broken: Option<Broken>) -> Result<Counts, String> {
    let mut random = Random::new(u64::wrapping_mul(seed, 7_919));
    let text = spread(many_program(&mut random));
    let partitions = 2 + (seed % 3) as u16;
    let mut cluster = Cluster::new(image(&text), random.next(), partitions, environment, broken);
    let ended = cluster.run();
    let failed = |reason: String| {
        let from = cluster.trace.len().saturating_sub(300);
        format!("seed {seed}, {environment:?}: {reason}\n{text}\n{}", cluster.trace[from..].join("\n"))
    };
    let record = ended.map_err(failed)?;
    if let Status::Failed(error) = &record.status {
        return Err(failed(format!("it failed: {}", error.title())));
    }
    check_logs(&all_entities(&cluster.database.tree)).map_err(failed)?;
    Ok(cluster.counts)
}

/// Gives the workers of a random program ids of their own, so that they are spread over partitions.
fn spread(text: String) -> String {
    let mut text = text;
    for worker in 0..8 {
        let call = format!("async worker_{worker}()");
        text =
            text.replace(&call, &format!("async (worker_{worker}() with {{id: \"own-worker-{worker}\"}})"));
    }
    text
}

#[test]
fn promises_hold_whatever_becomes_of_commits_and_owners() {
    let (first, runs) = (setting("SIMULATION_SEED", 1), setting("SIMULATION_RUNS", 150));
    let mut all = Counts::new();
    for seed in first..first + runs {
        let environment = ALL[(seed % 5) as usize];
        let counts = run(seed, environment, None).unwrap_or_else(|reason| panic!("{reason}"));
        for (kind, count) in counts {
            *all.entry(kind).or_default() += count;
        }
    }
    println!("{runs} runs: {all:?}");
    for kind in
        ["fails", "late", "unheard", "ghost", "takeover", "deposed", "dies", "restore", "adopt", "split"]
    {
        assert!(runs < 50 || all.contains_key(kind), "{kind} did not happen");
    }
}

/// A program of two partitions and more: numbered signals, money that is moved in critical
/// sections, a section that is given up, and a child with an id of its own.
const SMALL: &str = r#"
entity Account { state {balance: 100}; on add(n) { state.balance += n; state.balance }; on balance() => state.balance }
entity Log { state {seen: []}; on note(n) { state.seen += [n] }; on seen() => state.seen }
orchestration moves(from, to, n) {
  signal Log("log-{n}").note(1)
  lock Account(from), Account(to) { Account(from).add(-n); Account(to).add(n) }
  signal Log("log-{n}").note(2)
  try { lock Account(from), Account(to) with {timeout: 1ms} { sleep(2ms); Account(to).balance() } } catch {kind} { kind }
  signal Log("log-{n}").note(3)
  n
}
let done = all([async (moves(1, 2, 10) with {id: "a"}), async (moves(2, 1, 20) with {id: "b"}), async (moves(3, 1, 30) with {id: "c"})])
assert(done == [10, 20, 30], "results")
assert(range(1, 4).map(fn n => Account(n).balance()) == [140, 90, 70], "money")
assert([10, 20, 30].all(fn n => Log("log-{n}").seen() == [1, 2, 3]), "order")
"#;

/// Every commit of a small program fails, comes late, gets no answer, or loses its owner, and so
/// does every one of the next commits.
#[test]
fn each_commit_of_a_small_program_may_have_any_fate() {
    let image = image(SMALL);
    let run = |fates: &[(u64, Fate)]| -> Result<u64, String> {
        let mut cluster = Cluster::new(image.clone(), 5, 3, CALM, None);
        cluster.fates = fates.iter().copied().collect();
        let ended = cluster.run();
        let failed = |reason: String| format!("{fates:?}: {reason}\n{}", cluster.trace.join("\n"));
        match ended.map_err(failed)?.status {
            Status::Completed(_) => Ok(cluster.requests),
            other => Err(failed(format!("it came to {other:?}"))),
        }
    };
    let commits = run(&[]).unwrap_or_else(|reason| panic!("{reason}"));
    assert!(commits > 15, "only {commits} commits");
    let mut runs = 0;
    for (at, first) in (1..=commits).flat_map(|at| Fate::ALL.map(|fate| (at, fate))) {
        run(&[(at, first)]).unwrap_or_else(|reason| panic!("{reason}"));
        for (after, second) in (1..=3).flat_map(|after| Fate::ALL.map(|fate| (after, fate))) {
            runs += 1;
            run(&[(at, first), (at + after, second)]).unwrap_or_else(|reason| panic!("{reason}"));
        }
    }
    println!("{commits} commits, {runs} pairs of fates");
}

/// Each broken rule is found within 200 runs.
#[test]
fn broken_rules_of_the_database_are_found() {
    let rules = [
        (Broken::FenceWithoutLock, STORMY),
        (Broken::LookThenDecide, LOSSY),
        (Broken::GlobalSerial, LOSSY),
        (Broken::SplitLeavesMail, GROWS),
        (Broken::SplitLeavesOwners, GROWS),
        (Broken::SplitInAnyOrder, GROWS),
        (Broken::EpochWithoutToken, GOES_BACK),
    ];
    for (broken, environment) in rules {
        let found = (1..200).find_map(|seed| run(seed, environment, Some(broken)).err());
        let reason = found.unwrap_or_else(|| panic!("{broken:?} was not found in 200 runs"));
        println!("{broken:?}: {}", reason.lines().next().unwrap_or_default());
    }
}

/// The withdrawal of a request follows it from entity to entity. One that goes to each entity
/// directly overtakes the request, and leaves a lock.
#[test]
fn a_withdrawal_that_overtakes_its_request_is_found() {
    let fault = Some(Fault::WithdrawalOvertakes);
    let found = (1..200).find_map(|seed| fault::with(fault, || run(seed, CALM, None)).err());
    let reason = found.expect("it is found in 200 runs");
    println!("{}", reason.lines().next().unwrap_or_default());
}
