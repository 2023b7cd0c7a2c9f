//! Mutation tests: faults are put into the code one at a time, and the tests of their area must
//! fail.
//!
//! The faults are in `tests/mutations/*.toml`: a name, a file, a text in it with its replacement,
//! and the tests to run. `cargo test --release --test mutations -- --ignored --nocapture` puts each
//! fault into a copy of the repository, and prints the score. `MUTATIONS=store,host` takes the
//! faults whose area or name contains one of these words.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{repository, setting};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    /// A description of the fault.
    name: String,
    /// The file, or the folder in which the text is searched.
    file: String,
    find: String,
    replace: String,
    /// The arguments of each run of `cargo test`.
    tests: Vec<String>,
    #[serde(skip)]
    area: String,
}

#[derive(Deserialize)]
struct Area {
    mutation: Vec<Mutation>,
}

fn mutations() -> Vec<Mutation> {
    let mut all = Vec::new();
    for path in common::files("tests/mutations") {
        let text = fs::read_to_string(&path).expect("a list of faults");
        let area: Area = toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        all.extend(area.mutation.into_iter().map(|mutation| Mutation { area: name.clone(), ..mutation }));
    }
    all
}

impl Mutation {
    /// Returns the file, and its text with the fault; or the reason why the fault can't be put in.
    fn put_in(&self, root: &Path) -> Result<(PathBuf, String), String> {
        let place = root.join(&self.file);
        let paths = if place.is_dir() {
            common::files_below(&place.display().to_string(), "rs")
        } else {
            vec![place]
        };
        let mut found = Vec::new();
        let mut count = 0;
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            count += text.matches(&self.find).count();
            if text.contains(&self.find) {
                found.push((path, text.replace(&self.find, &self.replace)));
            }
        }
        match found.pop() {
            _ if self.find == self.replace => Err("it changes nothing".into()),
            Some(found) if count == 1 => Ok(found),
            _ => Err(format!("its text occurs {count} times in {}", self.file)),
        }
    }
}

/// Each fault can be put in, and names tests that exist. A change of the code changes the fault
/// too.
#[test]
fn every_fault_can_be_put_in() {
    let all = mutations();
    let mut names = BTreeSet::new();
    let mut wrong = Vec::new();
    for mutation in &all {
        if let Err(reason) = mutation.put_in(&repository("")) {
            wrong.push(format!("{}: {reason}", mutation.name));
        }
        if !names.insert(&mutation.name) {
            wrong.push(format!("{}: twice", mutation.name));
        }
        for run in &mutation.tests {
            let suite = run.split_whitespace().skip_while(|word| *word != "--test").nth(1);
            let exists = suite.is_some_and(|suite| repository(&format!("tests/{suite}.rs")).exists());
            if !exists && !run.starts_with("--lib") {
                wrong.push(format!("{}: `{run}` names no suite", mutation.name));
            }
        }
        if mutation.tests.is_empty() {
            wrong.push(format!("{}: no tests", mutation.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let areas: BTreeSet<&str> = all.iter().map(|mutation| mutation.area.as_str()).collect();
    assert!(all.len() >= 36 && areas.len() >= 6, "{} faults in {areas:?}", all.len());
}

/// The outcome of a run of tests.
#[derive(PartialEq)]
enum Ran {
    Passed,
    Failed,
    /// The run reached the time limit.
    Hung,
    DoesNotCompile,
}

/// The copy of the repository into which the faults are put.
struct Workshop {
    folder: PathBuf,
    target: PathBuf,
    limit: Duration,
}

impl Workshop {
    fn new() -> Workshop {
        let folder = repository("target/mutations/work");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        for entry in fs::read_dir(repository("")).expect("the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_owned();
            if !matches!(&*name.to_string_lossy(), "target" | ".git" | ".durable") {
                copy(&path, &folder.join(name));
            }
        }
        let limit = Duration::from_secs(setting("MUTATION_SECONDS", 900));
        Workshop { folder, target: repository("target/mutations/target"), limit }
    }

    /// Runs `cargo test` in a process group of its own, so that no process is left behind.
    fn cargo(&self, arguments: &str, more: &[&str]) -> Ran {
        // `MUTATION_CARGO` replaces cargo, for example by a command that queues on a busy machine.
        let cargo = std::env::var("MUTATION_CARGO").unwrap_or_else(|_| env!("CARGO").to_string());
        let mut child = Command::new(cargo)
            .args(["test", "--release", "--quiet"])
            .args(more)
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("INSTA_UPDATE", "no")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("cargo runs");
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("cargo is waited for") {
                return if status.success() { Ran::Passed } else { Ran::Failed };
            }
            if begun.elapsed() > self.limit {
                let group = format!("-{}", child.id());
                let _ = Command::new("kill").args(["-9", "--", &group]).status();
                let _ = child.wait();
                return Ran::Hung;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn test(&self, runs: &[String]) -> Ran {
        for run in runs {
            // Arguments after `--` are for the tests, not for cargo.
            let suite = run.split(" -- ").next().unwrap_or(run);
            if self.cargo(suite, &["--no-run"]) != Ran::Passed {
                return Ran::DoesNotCompile;
            }
            match self.cargo(run, &[]) {
                Ran::Passed => {}
                other => return other,
            }
        }
        Ran::Passed
    }
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        fs::copy(from, to).expect("a copy");
        return;
    }
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        copy(&path, &to.join(path.file_name().expect("a name")));
    }
}

#[test]
#[ignore = "it builds the program once for each fault"]
fn faults_are_noticed() {
    let wanted = std::env::var("MUTATIONS").unwrap_or_default();
    let is_wanted = |mutation: &Mutation| {
        wanted.split(',').any(|part| mutation.area.contains(part) || mutation.name.contains(part))
    };
    let all: Vec<Mutation> = mutations().into_iter().filter(is_wanted).collect();
    assert!(!all.is_empty(), "no fault has `{wanted}` in its area or its name");
    let workshop = Workshop::new();
    let runs: BTreeSet<&String> = all.iter().flat_map(|mutation| &mutation.tests).collect();
    // `MUTATION_BASELINE=false` skips the run without faults.
    let runs = if setting("MUTATION_BASELINE", true) { runs } else { BTreeSet::new() };
    for run in runs {
        let passed = workshop.test(std::slice::from_ref(run)) == Ran::Passed;
        assert!(passed, "without any fault `cargo test --release {run}` fails");
    }
    let (mut noticed, mut survived) = (0, Vec::new());
    for mutation in &all {
        let (path, text) =
            mutation.put_in(&workshop.folder).unwrap_or_else(|why| panic!("{}: {why}", mutation.name));
        let before = fs::read_to_string(&path).expect("the file");
        fs::write(&path, text).expect("the fault is put in");
        let begun = Instant::now();
        let ran = workshop.test(&mutation.tests);
        fs::write(&path, before).expect("the fault is taken out");
        let word = match ran {
            Ran::Passed => "SURVIVED",
            Ran::Failed => "noticed",
            Ran::Hung => "noticed (no end)",
            Ran::DoesNotCompile => panic!("{}: it does not compile", mutation.name),
        };
        println!("{word:16} {:8} {} ({} s)", mutation.area, mutation.name, begun.elapsed().as_secs());
        match ran {
            Ran::Passed => survived.push(mutation.name.as_str()),
            _ => noticed += 1,
        }
    }
    println!("{noticed} of {} noticed", all.len());
    assert!(survived.is_empty(), "not noticed: {}", survived.join(", "));
}
