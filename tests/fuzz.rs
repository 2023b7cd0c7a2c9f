//! The corpus and the past findings of the fuzzers, run through the targets' functions
//! (`fuzz/src`).

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[path = "fuzz/seeds.rs"]
mod seeds;

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of programs, which are inputs of the targets that read programs.
const PROGRAMS: [&str; 5] = ["tests/conformance", "tests/diagnostics", "tests/explore", "examples", "stdlib"];

/// Returns the files below a folder, in order, or none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Runs a target on all its inputs.
fn run(name: &str) {
    let (_, target) = targets::TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    let kept = ["corpus", "regressions"].map(|kind| files(&Path::new("fuzz").join(kind).join(name)));
    assert!(!kept[0].is_empty(), "fuzz/corpus/{name} is empty");
    let programs = ["source", "check"].contains(&name).then_some(PROGRAMS).into_iter().flatten();
    let inputs = kept.into_iter().flatten().chain(programs.flat_map(|folder| files(Path::new(folder))));
    for path in inputs {
        let bytes = fs::read(&path).expect("an input is read");
        if let Err(panic) = std::panic::catch_unwind(|| target(&bytes)) {
            eprintln!("this was with {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*
    };
}

targets!(source, check, natives, history, frames, socket, import);

/// Each target has a program for libFuzzer, and no input is kept for a target that does not exist.
#[test]
fn every_target_is_there() {
    assert_eq!(targets::TARGETS.map(|(name, _)| name), NAMES);
    let programs = files(Path::new("fuzz/fuzz_targets"));
    let mut programs: Vec<_> = programs.iter().filter_map(|path| path.file_stem()?.to_str()).collect();
    let mut names = NAMES.to_vec();
    names.sort_unstable();
    programs.sort_unstable();
    assert_eq!(programs, names);
    for kind in ["fuzz/corpus", "fuzz/regressions"] {
        for path in files(Path::new(kind)) {
            let target = path.strip_prefix(kind).ok().and_then(|path| path.iter().next()?.to_str());
            assert!(target.is_some_and(|target| NAMES.contains(&target)), "{}", path.display());
        }
    }
}
