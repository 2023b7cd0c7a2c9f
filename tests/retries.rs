//! Attempts across processes that die: each attempt counts, and a death during a pause does not.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::DURABLE;
use tempfile::TempDir;

fn run(folder: &Path) -> Output {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder).args(["run", "x.df", "--id", "x"]).stdin(Stdio::null());
    command.output().expect("durable runs")
}

/// Runs a program until it ends. Returns its output, and how often its process died.
fn run_to_its_end(folder: &Path) -> (String, usize) {
    let mut out = String::new();
    for deaths in 0..20 {
        let output = run(folder);
        out += &String::from_utf8_lossy(&output.stdout);
        match output.status.code() {
            Some(0) => return (out, deaths),
            None => {}
            code => panic!("{code:?}\n{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    panic!("it dies for ever\n{out}")
}

fn program(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("x.df"), text).expect("a file");
    folder
}

const DIES: &str = r#"exec("sh", ["-c", "kill -9 $PPID"])"#;

#[test]
fn times_limits_the_processes_that_die() {
    let folder = program(&format!(
        "activity dies() with {{retry: {{times: 3, first: 1ms}}}} {{ fs.append(\"n\", \"{{attempt()}}\"); {DIES} }}\n\
         print(try {{ dies() }} catch {{kind}} {{ kind }})\n"
    ));
    assert_eq!(run_to_its_end(folder.path()), ("interrupted\n".to_string(), 3));
    assert_eq!(fs::read_to_string(folder.path().join("n")).expect("a file"), "123");
}

#[test]
fn an_attempt_that_was_interrupted_may_be_the_only_one() {
    let folder = program(&format!(
        "activity dies() {{ fs.append(\"n\", \"x\"); {DIES} }}\n\
         fn once(f) => try {{ f() }} catch {{kind}} {{ kind }}\n\
         print(once(fn () => dies() with {{retry: {{times: 5, except: [\"interrupted\"]}}}}))\n\
         print(once(fn () => dies() with {{retry: {{times: 5, first: 1ms, when: fn e => e.kind != \"interrupted\"}}}}))\n"
    ));
    assert_eq!(run_to_its_end(folder.path()), ("interrupted\ninterrupted\n".to_string(), 2));
    assert_eq!(fs::read_to_string(folder.path().join("n")).expect("a file"), "xx");
}

/// Without a policy, an interrupted attempt is repeated without limit.
#[test]
fn without_a_policy_it_is_done_again() {
    let folder = program(&format!(
        "activity dies() {{ fs.append(\"n\", \"x\"); if fs.read(\"n\").len() < 6 {{ {DIES} }} else {{ \"done\" }} }}\n\
         print(dies())\n"
    ));
    assert_eq!(run_to_its_end(folder.path()), ("done\n".to_string(), 5));
}

/// A process that dies in the pause has not begun the next attempt.
#[test]
fn a_pause_that_is_over_is_no_attempt() {
    let folder = program(
        "activity down() with {retry: {times: 3, first: 400ms, factor: 1}} { fs.append(\"n\", \"{attempt()}\"); throw {kind: \"down\"} }\n\
         print(try { down() } catch {kind} { kind })\n",
    );
    let mut command = Command::new(DURABLE);
    command.current_dir(folder.path()).args(["run", "x.df", "--id", "x"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("durable runs");
    while !Path::new(&folder.path().join("n")).exists() {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(150));
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    thread::sleep(Duration::from_millis(400));
    assert_eq!(run_to_its_end(folder.path()), ("down\n".to_string(), 0));
    assert_eq!(fs::read_to_string(folder.path().join("n")).expect("a file"), "123");
}
