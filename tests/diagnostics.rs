//! Every message as users see it: the programs of `tests/diagnostics`, and the output of `durable
//! run` for each.
//!
//! A changed message is a changed snapshot. Read it as prose before you accept it:
//! `INSTA_UPDATE=always cargo test --test diagnostics`, then `git diff tests/snapshots`.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::{DURABLE, files, snapshots};
use tempfile::TempDir;

#[test]
fn messages() {
    let paths = files("tests/diagnostics");
    assert!(paths.len() >= 80, "{} programs", paths.len());
    let _bound = snapshots().bind_to_scope();
    for path in paths {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let folder = TempDir::new().expect("a temporary folder");
        fs::copy(&path, folder.path().join("main.df")).expect("the program is copied");
        fs::write(folder.path().join("lib.df"), "fn f() => 1\n").expect("a module to import");
        let run = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["run", "main.df"])
            .stdin(Stdio::null())
            .output()
            .expect("durable runs");
        let stderr = String::from_utf8_lossy(&run.stderr);
        let code = run.status.code().unwrap_or(-1);
        insta::assert_snapshot!(name, format!("{stderr}exit code {code}\n"));
    }
}

/// Correct programs have no warnings, except those that they expect.
#[test]
fn right_programs_have_no_warnings() {
    let mut wrong = Vec::new();
    for folder in ["examples", "tests/conformance", "tests/explore", "benches/programs"] {
        for path in common::files_below(folder, "df") {
            let text = fs::read_to_string(&path).expect("a program");
            let program = durable::check::load_beside(&path, text.clone());
            if !program.is_sound() {
                continue;
            }
            for found in &program.diagnostics {
                // Unused names are often the subject of a program.
                let is_wanted = |line: &str| {
                    let title = line.trim_start().strip_prefix("// expect warning: ");
                    title.is_some_and(|title| found.title.starts_with(title))
                };
                if !found.title.starts_with("unused ") && !text.lines().any(is_wanted) {
                    wrong.push(format!("{}: {}", path.display(), found.title));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
