//! Programs that use databases, in folders of their own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::{DURABLE, place};

pub fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    folder
}

pub fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder.path()).args(args).stdin(Stdio::null());
    command
}

pub fn durable(folder: &TempDir, args: &[&str]) -> Output {
    place::durable(folder.path(), args)
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a program, which must end well, and returns what it prints.
pub fn run(folder: &TempDir) -> String {
    let output = durable(folder, &["run", "--id", "r", "a.df"]);
    assert!(output.status.success(), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program in a folder of its own, and returns what it prints.
pub fn prints(program: &str) -> String {
    run(&folder(program))
}

pub fn start(folder: &TempDir) -> Child {
    let mut command = command(folder, &["run", "--id", "r", "a.df"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("durable starts")
}

pub fn kill(mut child: Child) {
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a kind") {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).expect("a copy")),
            // The socket of a process that is gone.
            _ => {}
        }
    }
}
