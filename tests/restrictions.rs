//! Restrictions are kept with an instance: they hold in every process that resumes it, and for
//! everything that it starts.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::DURABLE;
use tempfile::TempDir;

/// A program that waits for a file, and then tries to run a system program in every possible way.
const PROGRAM: &str = r#"
fn touch(name) => try { exec.run("touch", ["ran-{name}"]) } catch {kind} { kind }
activity act(name) => touch(name)
orchestration child(name) => act(name)
orchestration free(name) { touch(name) }
orchestration again(n) { if n == 0 { continue_as_new(1) }; touch("again") }
entity Box {
  state 0
  on put(name) { start free("free-{name}"); touch(name) }
}
fn all() {
  fs.write("ready", "")
  while !fs.exists("go") { sleep(10ms) }
  let results = [touch("script"), act("activity"), child("child"), again(0), Box(1).put("operation")]
  signal Box(2).put("signal")
  let h = start free("started")
  [..results, wait(h), Box(2).put("after")]
}
orchestration job() => all()
print(all())
"#;

const REFUSED: &str = "not_permitted";

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("a.df"), PROGRAM).expect("a program");
        Place(folder)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(DURABLE);
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command
    }

    fn durable(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("durable runs")
    }

    /// Starts a process, and kills it when the program waits.
    fn killed(&self, args: &[&str]) {
        let child = self.start(args);
        self.kill(child);
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("durable runs")
    }

    fn kill(&self, mut child: Child) {
        await_file(&self.at("ready"));
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }

    /// Returns the files that system programs left, which show that they ran.
    fn ran(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).expect("a folder").flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut ran: Vec<String> = names.filter(|name| name.starts_with("ran-")).collect();
        ran.sort();
        ran
    }
}

fn await_file(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks that all attempts were refused, and that nothing ran.
fn is_refused(place: &Place, output: &Output) {
    let shown = text(output);
    assert!(output.status.success(), "{shown}");
    assert_eq!(shown.matches(REFUSED).count(), 7, "{shown}");
    // Instances that nobody waits for end as well.
    let rest = place.durable(&["resume"]);
    assert!(rest.status.success(), "{}", text(&rest));
    assert_eq!(place.ran(), [""; 0]);
}

#[test]
fn without_restrictions_all_of_it_runs() {
    let place = Place::new();
    fs::write(place.at("go"), "").expect("a file");
    let run = place.durable(&["run", "a.df"]);
    assert!(run.status.success() && !text(&run).contains(REFUSED), "{}", text(&run));
    assert!(place.ran().len() >= 7, "{:?}", place.ran());
}

#[test]
fn whoever_goes_on_with_an_instance_goes_on_with_its_restrictions() {
    for flags in [["--deny", "exec"], ["--allow", "fs,env"]] {
        for again in [&["resume", "r"][..], &["run", "--id", "r", "a.df"], &["resume"], &["wait", "r"]] {
            let place = Place::new();
            place.killed(&["run", "--id", "r", flags[0], flags[1], "a.df"]);
            fs::write(place.at("go"), "").expect("a file");
            is_refused(&place, &place.durable(again));
        }
    }
}

#[test]
fn a_run_without_an_id_goes_on_with_its_restrictions() {
    let place = Place::new();
    place.killed(&["run", "--deny", "exec", "a.df"]);
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["run", "a.df"]));
    let shown = text(&place.durable(&["show", "a-1"]));
    assert!(shown.contains("--deny exec"), "{shown}");
}

#[test]
fn what_is_started_keeps_the_restrictions_of_who_starts_it_and_of_who_serves() {
    // The starter's restrictions.
    let place = Place::new();
    assert!(place.durable(&["start", "a.df", "job", "--id", "j", "--deny", "exec"]).status.success());
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["wait", "j"]));
    let again = place.durable(&["restart", "j", "--id", "k", "--wait"]);
    is_refused(&place, &again);
    // The server's restrictions.
    let place = Place::new();
    let server = place.start(&["serve", "--deny", "exec"]);
    await_file(&place.at(".durable/socket"));
    assert!(place.durable(&["start", "a.df", "job", "--id", "j"]).status.success());
    place.kill(server);
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["wait", "j"]));
}

#[test]
fn settings_of_the_folder_are_kept_as_well() {
    let place = Place::new();
    fs::write(place.at("durable.toml"), "[permissions]\ndeny = [\"exec\"]\n").expect("settings");
    place.killed(&["run", "--id", "r", "a.df"]);
    fs::remove_file(place.at("durable.toml")).expect("they are removed");
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["resume", "r"]));
}

#[test]
fn a_process_may_allow_less_and_never_more() {
    let place = Place::new();
    place.killed(&["run", "--id", "r", "--allow", "fs,exec", "a.df"]);
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["resume", "r", "--deny", "exec"]));
    let place = Place::new();
    place.killed(&["run", "--id", "r", "--allow", "fs", "a.df"]);
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["resume", "r", "--allow", "fs,exec,net,env"]));
    // A restriction that was added once stays.
    for again in [&["resume", "r", "--deny", "exec"][..], &["run", "--id", "r", "--deny", "exec", "a.df"]] {
        let place = Place::new();
        place.killed(&["run", "--id", "r", "a.df"]);
        fs::remove_file(place.at("ready")).expect("it is removed");
        let second = place.start(again);
        // The process has resumed the instance when the store shows the restriction.
        let began = Instant::now();
        while !text(&place.durable(&["show", "r"])).contains("--deny exec") {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
        place_kill(second);
        fs::write(place.at("go"), "").expect("a file");
        is_refused(&place, &place.durable(&["resume", "r"]));
    }
}

#[test]
fn an_export_has_the_restrictions() {
    let place = Place::new();
    place.killed(&["run", "--id", "r", "--deny", "exec", "a.df"]);
    assert!(place.durable(&["store", "export", "all.jsonl"]).status.success());
    fs::remove_dir_all(place.at(".durable")).expect("it is removed");
    assert!(place.durable(&["store", "import", "all.jsonl"]).status.success());
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["resume", "r"]));
}

#[test]
fn a_deployment_by_somebody_else_frees_nobody() {
    let place = Place::new();
    place.killed(&["run", "--id", "r", "--deny", "exec", "a.df"]);
    // Another instance deploys the same program without restrictions.
    let other = place.start(&["run", "--id", "s", "--store", ".durable", "a.df"]);
    std::thread::sleep(Duration::from_millis(300));
    place.kill(other);
    assert!(place.durable(&["terminate", "s"]).status.success());
    fs::write(place.at("go"), "").expect("a file");
    is_refused(&place, &place.durable(&["resume", "r"]));
}

#[test]
fn relative_paths_mean_what_they_meant_at_the_start() {
    let place = Place::new();
    fs::create_dir(place.at("data")).expect("a folder");
    fs::create_dir_all(place.at("other/data")).expect("a folder");
    let text = r#"
    fn attempt(f) => try { f() } catch {kind} { kind }
    while !fs.exists("WHERE/data/go") { sleep(10ms); fs.write("WHERE/data/ready", "") }
    print([attempt(fn () => fs.list("WHERE/other/data")), attempt(fn () => fs.exists("WHERE/data/go"))])
    "#;
    let text = text.replace("WHERE", &place.0.path().display().to_string());
    fs::write(place.at("a.df"), text).expect("a program");
    let child = place.start(&["run", "--id", "r", "--allow", "fs=data", "a.df"]);
    await_file(&place.at("data/ready"));
    place_kill(child);
    fs::write(place.at("data/go"), "").expect("a file");
    let again = Command::new(DURABLE)
        .args(["resume", "r", "--store", "../.durable"])
        .current_dir(place.at("other"))
        .output()
        .expect("durable runs");
    assert!(text_has(&again, "[\"not_permitted\", true]"), "{}", self::text(&again));
}

fn place_kill(mut child: Child) {
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
}

fn text_has(output: &Output, wanted: &str) -> bool {
    text(output).contains(wanted)
}
