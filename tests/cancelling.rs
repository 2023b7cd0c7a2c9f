//! Cancellation of instances by commands: while no process has the store, over kills, with rewinds,
//! restarts, purges and exports.

mod common;

use common::place::{Place, Server, await_that};
use serde_json::json;

const STEPS: &str = r#"
activity note(text) { fs.append("log", "{text}\n"); text }
activity mended(text) { if !fs.exists("mended") { throw {kind: "down"} }; text }
orchestration waits() { try { note("began"); receive("go") } finally { note("undone") } }
orchestration slow() {
  try { note("began"); receive("go") } finally { note("undoing"); sleep(400ms); note("undone") }
}
orchestration endless() { try { note("began"); receive("go") } finally { note("undoing"); sleep(1h); note("undone") } }
orchestration fails() { try { receive("go") } finally { mended("x"); note("undone") } }
orchestration child() { try { note("child"); receive("go"); note("went on") } finally { note("child undone") } }
orchestration parent() { all([async child(), async do { receive("fail"); mended("y") }]); note("done") }
"#;

fn lines(place: &Place) -> Vec<String> {
    place.text("log").lines().map(String::from).collect()
}

/// Waits until an instance waits for this.
fn await_wait(place: &Place, id: &str, what: &str) {
    await_that(|| {
        let shown = place.run(&["show", id]);
        String::from_utf8_lossy(&shown.stdout)
            .lines()
            .any(|line| line.contains("waits for") && line.contains(what))
    });
}

#[test]
fn while_no_process_has_the_store() {
    let place = Place::new(STEPS);
    let server = place.serve();
    place.ok(&["start", "p.df", "waits", "--id", "x"]);
    await_wait(&place, "x", "receive");
    server.kill();
    place.ok(&["cancel", "x", "--reason", "not wanted"]);
    assert_eq!(place.status("x"), "running");
    let server = place.serve();
    let told = place.refused(1, &["wait", "x"]);
    assert!(told.contains("x was terminated: not wanted"), "{told}");
    assert_eq!(lines(&place), ["began", "undone"]);
    assert!(place.ok(&["show", "x"]).contains("this instance was cancelled by a client: not wanted"));
    // What has ended is not cancelled.
    let told = place.refused(1, &["cancel", "x"]);
    assert!(told.contains("x has ended already"), "{told}");
    server.stop();
    assert_eq!(place.code(&["replay", "x"]), 0);
    let kinds: Vec<String> = place
        .history("x")
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap_or_default().to_string())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "cancelling").count(), 1);
    assert_eq!(kinds.last().map(String::as_str), Some("ended"));
    // It can be exported, imported, begun again, and purged.
    place.put("export.jsonl", &place.ok(&["store", "export"]));
    place.ok(&["store", "import", "export.jsonl", "--store", "other"]);
    assert_eq!(place.ok(&["status", "x", "--store", "other"]), "terminated");
    assert_eq!(place.code(&["replay", "x", "--store", "other"]), 0);
    place.ok(&["purge", "x"]);
    assert_eq!(place.code(&["status", "x"]), 5);
}

#[test]
fn a_clean_up_goes_on_after_a_kill() {
    for end in [Server::stop as fn(Server), Server::kill] {
        let place = Place::new(STEPS);
        let server = place.serve();
        place.ok(&["start", "p.df", "slow", "--id", "x"]);
        await_wait(&place, "x", "receive");
        place.ok(&["cancel", "x"]);
        await_wait(&place, "x", "sleep");
        end(server);
        let server = place.serve();
        place.refused(1, &["wait", "x"]);
        assert_eq!(lines(&place), ["began", "undoing", "undone"]);
        server.stop();
        assert_eq!(place.code(&["replay", "x"]), 0);
    }
}

/// The grace period lasts over a kill, and also passes while no process has the store.
#[test]
fn the_grace_period_is_durable() {
    let place = Place::new(STEPS);
    let server = place.serve();
    place.ok(&["start", "p.df", "endless", "--id", "x"]);
    await_wait(&place, "x", "receive");
    place.ok(&["cancel", "x", "--reason", "slow", "--grace", "700ms"]);
    await_wait(&place, "x", "sleep");
    assert!(place.ok(&["show", "x"]).contains("grace until"), "{}", place.ok(&["show", "x"]));
    server.kill();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(place.status("x"), "running");
    let server = place.serve();
    let told = place.refused(1, &["wait", "x"]);
    assert!(told.contains("x was terminated: slow"), "{told}");
    assert_eq!(lines(&place), ["began", "undoing"]);
    assert_eq!(place.history("x").last().expect("an entry")["kind"], json!("terminated"));
    server.stop();
    assert_eq!(place.code(&["replay", "x"]), 0);
    // A new instance with the same function and arguments is not cancelled.
    let server = place.serve();
    place.ok(&["restart", "x", "--id", "y"]);
    await_that(|| lines(&place).iter().filter(|line| *line == "began").count() == 2);
    assert_eq!(place.status("y"), "running");
    server.stop();
}

#[test]
fn a_suspended_instance_is_cancelled_when_it_continues() {
    let place = Place::new(STEPS);
    let server = place.serve();
    place.ok(&["start", "p.df", "waits", "--id", "x"]);
    await_wait(&place, "x", "receive");
    place.ok(&["suspend", "x"]);
    await_that(|| place.status("x") == "suspended");
    let output = place.run(&["cancel", "x", "--grace", "0s"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("it is cancelled once it continues"), "{told}");
    server.kill();
    let server = place.serve();
    assert_eq!(place.status("x"), "suspended");
    place.ok(&["unsuspend", "x"]);
    place.refused(1, &["wait", "x"]);
    assert_eq!(place.status("x"), "terminated");
    server.stop();
}

#[test]
fn mistakes_of_the_command_line() {
    let place = Place::new(STEPS);
    place.serve().stop();
    assert_eq!(place.code(&["cancel", "nobody"]), 5);
    let told = place.refused(2, &["cancel", "nobody", "--grace", "soon"]);
    assert!(told.contains("`soon` is not a duration"), "{told}");
}

/// The failed step of a clean-up is asked again, with the whole grace period. A child that was
/// cancelled because its caller failed goes on where it was.
#[test]
fn what_was_cancelled_is_rewound() {
    let place = Place::new(STEPS);
    let server = place.serve();
    place.ok(&["start", "p.df", "fails", "--id", "x"]);
    await_wait(&place, "x", "receive");
    place.ok(&["cancel", "x", "--reason", "enough", "--grace", "500ms"]);
    place.refused(1, &["wait", "x"]);
    assert_eq!(place.status("x"), "failed");
    std::thread::sleep(std::time::Duration::from_millis(600));
    place.put("mended", "");
    place.ok(&["rewind", "x"]);
    let told = place.refused(1, &["wait", "x"]);
    assert!(told.contains("x was terminated: enough"), "{told}");
    assert_eq!(lines(&place), ["undone"]);
    std::fs::remove_file(place.path().join("mended")).expect("it is there");
    place.put("log", "");
    place.ok(&["start", "p.df", "parent", "--id", "p"]);
    await_wait(&place, "p:0", "receive");
    place.ok(&["raise", "p", "fail"]);
    place.refused(1, &["wait", "p"]);
    await_that(|| place.status("p:0") == "terminated");
    assert_eq!(lines(&place), ["child", "child undone"]);
    place.put("mended", "");
    place.ok(&["rewind", "p"]);
    place.ok(&["raise", "p:0", "go"]);
    assert_eq!(place.result("p"), json!("done"));
    assert_eq!(lines(&place), ["child", "child undone", "went on", "child undone", "done"]);
    server.stop();
    assert_eq!(
        [place.code(&["replay", "p"]), place.code(&["replay", "p:0"]), place.code(&["replay", "x"])],
        [0; 3]
    );
}
