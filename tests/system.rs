//! Effects on the operating system: the processes that programs start, and the access to a store's
//! files.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::DURABLE;
use tempfile::TempDir;

/// A folder with a program, and an argument of `sleep` that no other process has.
struct Place {
    folder: TempDir,
    mark: String,
}

impl Place {
    fn new(name: u32, text: &str) -> Place {
        let folder = TempDir::new().expect("a folder");
        let mark = format!("9{name}{}", std::process::id());
        fs::write(folder.path().join("a.df"), text.replace("MARK", &mark)).expect("a program");
        Place { folder, mark }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DURABLE);
        command.current_dir(self.folder.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn durable(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("durable runs")
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("durable runs")
    }

    /// Returns the process ids of the `sleep`s that are left.
    fn left(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let is_dead = read("stat").rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z'));
            if read("cmdline") == format!("sleep\0{}\0", self.mark) && !is_dead {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }

    fn await_that(&self, what: &str, mut holds: impl FnMut(&Place) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", self.left());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in self.left() {
            signal("KILL", &process);
        }
    }
}

fn signal(name: &str, process: &str) {
    let status = Command::new("kill").args(["-s", name, process]).status().expect("kill runs");
    assert!(status.success(), "{name} {process}");
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_program_is_done_when_it_has_ended_itself() {
    let place = Place::new(
        1,
        r#"
        let r = exec("sh", ["-c", "head -c 200000 /dev/zero | tr '\\0' x; sleep MARK & echo started; echo odd >&2; exit 3"])
        print([r.status, r.stdout.len(), r.stdout.slice(-8), r.stderr])
        "#,
    );
    let run = place.durable(&["run", "a.df"]);
    assert_eq!(out(&run), "[3, 200008, \"started\\n\", \"odd\\n\"]\n", "{}", err(&run));
    // The process that it left behind goes on, as in a shell.
    assert_eq!(place.left().len(), 1);
}

/// A shell that waits for two processes of its group.
const GROUP: &str = r#"fn long(options = {}) => exec("sh", ["-c", "sleep MARK & sleep MARK & wait"], options)
"#;

#[test]
fn a_program_that_is_given_up_ends_with_its_group() {
    for (number, (text, printed)) in [
        (r#"try { long({timeout: 300ms}) } catch e { print(e.kind) }"#, "timeout"),
        (
            r#"activity slow() with {timeout: 300ms} => long()
               try { slow() } catch e { print(e.kind) }"#,
            "timeout",
        ),
        (
            r#"match race({a: async long(), b: async sleep(300ms)}) { {b} => print("b"), _ => print("a") }"#,
            "b",
        ),
        (r#"try { task.timeout(300ms, fn () => long()) } catch e { print(e.kind) }"#, "timeout"),
        (r#"let t = async long(); sleep(300ms); cancel(t); print("left")"#, "left"),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::new(20 + number as u32, &format!("{GROUP}{text}"));
        let run = place.durable(&["run", "a.df"]);
        assert_eq!(out(&run), format!("{printed}\n"), "{text}\n{}", err(&run));
        assert_eq!(place.left(), [""; 0], "{text}");
    }
}

#[test]
fn a_program_may_clean_up_and_is_killed_when_it_does_not_end() {
    let place = Place::new(
        3,
        r#"
        let polite = "trap 'echo cleaned > cleaned; exit' TERM; sleep MARK & wait"
        let stubborn = "trap '' TERM; sleep MARK & sleep MARK; sleep MARK"
        for text in [polite, stubborn] {
            try { exec("sh", ["-c", text], {timeout: 300ms}) } catch e { print(e.message) }
        }
        "#,
    );
    let run = place.durable(&["run", "a.df"]);
    assert_eq!(out(&run), "sh was not done within 300ms\n".repeat(2), "{}", err(&run));
    assert_eq!(fs::read_to_string(place.folder.path().join("cleaned")).expect("it had time"), "cleaned\n");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn the_end_of_the_process_and_of_the_instance_end_programs() {
    let text = format!("{GROUP}orchestration job() {{ long() }}\nprint(\"begins\"); long()\n");
    for (number, name) in ["INT", "TERM"].into_iter().enumerate() {
        let place = Place::new(40 + number as u32, &text);
        let run = place.start(&["run", "a.df"]);
        place.await_that("it runs", |place| place.left().len() == 2);
        signal(name, &run.id().to_string());
        let run = run.wait_with_output().expect("it ends");
        assert_eq!((run.status.code(), out(&run)), (Some(130), "begins\n".into()), "{}", err(&run));
        assert_eq!(place.left(), [""; 0]);
        // The effect has no result, so it is repeated.
        let again = place.start(&["resume", "a-1"]);
        place.await_that("it runs again", |place| place.left().len() == 2);
        signal(name, &again.id().to_string());
        assert_eq!(again.wait_with_output().expect("it ends").status.code(), Some(130));
    }
    let place = Place::new(50, &text);
    let mut server = place.start(&["serve"]);
    place.await_that("it listens", |place| place.folder.path().join(".durable/socket").exists());
    place.durable(&["start", "a.df", "job"]);
    place.await_that("it runs", |place| place.left().len() == 2);
    place.durable(&["terminate", "job-1"]);
    place.await_that("it ends with its instance", |place| place.left().is_empty());
    signal("TERM", &server.id().to_string());
    server.wait().expect("it ends");
}

/// Returns the files and folders that others may access, at and below a path.
fn open_to_others(path: &Path) -> Vec<String> {
    let data = fs::symlink_metadata(path).expect("it is there");
    let mode = data.permissions().mode() & 0o777;
    let mut found = Vec::new();
    if mode != if data.is_dir() { 0o700 } else { 0o600 } {
        found.push(format!("{} {mode:o}", path.display()));
    }
    if data.is_dir() {
        for entry in fs::read_dir(path).expect("a folder").flatten() {
            found.extend(open_to_others(&entry.path()));
        }
    }
    found
}

#[test]
fn a_store_is_its_owners_alone() {
    let place = Place::new(
        6,
        r#"
        orchestration waits() { receive("go") }
        let large = range(0, 40000).map(fn n => "{n * 7919 % 104729}").join(" ")
        activity echo(text) => text
        print(echo(large).len() + echo(env("SECRET")).len())
        "#,
    );
    let at = place.folder.path();
    let store = at.join(".durable");
    let with_umask = |command: &str| {
        let script = format!("umask 000; SECRET=hush exec {DURABLE} {command}");
        let output = Command::new("sh").current_dir(at).args(["-c", &script]).output().expect("sh runs");
        assert!(output.status.success(), "{command}: {}", err(&output));
    };
    with_umask("run a.df");
    assert!(store.join("journal/db").exists());
    assert_eq!(open_to_others(&store), [""; 0]);
    with_umask("store export all.jsonl");
    assert_eq!(open_to_others(&at.join("all.jsonl")), [""; 0]);
    with_umask("start a.df waits");
    with_umask("run --store other a.df");
    assert_eq!(open_to_others(&at.join("other")), [""; 0]);
    let script = format!("umask 000; exec {DURABLE} serve");
    let mut server = Command::new("sh")
        .current_dir(at)
        .args(["-c", &script])
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    place.await_that("it listens", |_| store.join("socket").exists());
    with_umask("start a.df waits");
    assert_eq!(open_to_others(&store), [""; 0]);
    server.kill().expect("killed");
    server.wait().expect("ended");
    // A store of an earlier version was open to others.
    let loosen = Command::new("chmod").args(["-R", "a+rX"]).arg(&store).status().expect("chmod runs");
    assert!(loosen.success() && open_to_others(&store).len() > 4);
    with_umask("list");
    assert_eq!(open_to_others(&store), [""; 0]);
}
