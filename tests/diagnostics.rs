//! Every message as a person sees it: the programs of `tests/diagnostics` and what `durable run` says of each.
//!
//! A changed message is a changed snapshot, to be read as prose before it is accepted: `INSTA_UPDATE=always cargo
//! test --test diagnostics`, then `git diff tests/snapshots`.

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
