//! Suspension: everything that arrives for a suspended instance is kept, even through the end of
//! the process.

mod common;

use common::place::{Place, Server, await_that};
use serde_json::json;

const STEPS: &str = r#"
activity work(n) { fs.append("log", "work {n}\n"); while !fs.exists("done") { sleep(5ms) }; fs.append("log", "ends {n}\n"); n }
activity tries(n) with {retry: {times: 3, first: 1ms}} { fs.append("log", "tries {n}\n"); while !fs.exists("done") { sleep(5ms) }; if !fs.exists("mended") { fs.append("log", "ends {n}\n"); throw {kind: "down"} }; n }
activity telling(n) { fs.append("log", "work {n}\n"); signal Box(1).add(n); while !fs.exists("done") { sleep(5ms) }; fs.append("log", "ends {n}\n"); n }
activity note(n) { fs.append("log", "{n}\n"); n }
entity Box { state 0; on add(n) { state += n; state } }
orchestration child(n) { sleep(50ms); note("child {n}"); n }
"#;

fn place(text: &str) -> Place {
    Place::new(&format!("{STEPS}{text}"))
}

fn count(place: &Place, line: &str) -> usize {
    place.text("log").lines().filter(|known| *known == line).count()
}

/// Suspends `x` while its activity runs, lets the activity end, and ends the server with `end`.
fn suspended(place: &Place, end: fn(Server), line: &str) {
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.text("log").lines().any(|known| known == line));
    place.ok(&["suspend", "x"]);
    place.ok(&["suspend", "x"]);
    place.put("done", "");
    await_that(|| place.text("log").contains("ends "));
    // The result is durable within this time.
    std::thread::sleep(std::time::Duration::from_millis(150));
    end(server);
    assert_eq!(place.status("x"), "suspended");
}

#[test]
fn an_activity_that_ended_does_not_run_again() {
    for end in [Server::stop as fn(Server), Server::kill] {
        let place = place("orchestration o() { work(1); note(\"after\") }");
        suspended(&place, end, "work 1");
        let server = place.serve();
        assert_eq!(place.status("x"), "suspended");
        place.ok(&["unsuspend", "x"]);
        assert_eq!(place.result("x"), json!("after"));
        assert_eq!((count(&place, "work 1"), count(&place, "after")), (1, 1));
        server.kill();
    }
}

/// All results are kept over a restart, even more than one slice consumes, and no activity is
/// repeated.
#[test]
fn many_activities_that_ended_do_not_run_again() {
    let place = place("orchestration o() { all(range(0, 400).map(fn i => async work(i))).len() }");
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.text("log").lines().count() >= 400);
    place.ok(&["suspend", "x"]);
    place.put("done", "");
    await_that(|| place.text("log").matches("ends").count() == 400);
    std::thread::sleep(std::time::Duration::from_millis(200));
    server.stop();
    let server = place.serve();
    place.ok(&["unsuspend", "x"]);
    assert_eq!(place.result("x"), json!(400));
    assert_eq!(place.text("log").matches("work").count(), 400);
    server.kill();
}

/// Timers, children, answers of entities, events, failed attempts, and signals of activities.
#[test]
fn whatever_comes_is_kept() {
    let text = r#"
orchestration o() {
  all([async telling(1), async tries(2), async do { sleep(20ms); "slept" }, async child(3), async Box(2).add(4), async receive("e"), async note("side")])
}
"#;
    for end in [Server::stop as fn(Server), Server::kill] {
        let place = place(text);
        let server = place.serve();
        place.ok(&["start", "p.df", "o", "--id", "x"]);
        await_that(|| count(&place, "work 1") == 1 && count(&place, "tries 2") == 1);
        place.ok(&["suspend", "x"]);
        place.ok(&["raise", "x", "e", "5"]);
        place.put("done", "");
        await_that(|| {
            count(&place, "ends 1") == 1 && count(&place, "ends 2") >= 1 && count(&place, "child 3") == 1
        });
        await_that(|| place.ok(&["entity", "Box@2"]).contains("4"));
        std::thread::sleep(std::time::Duration::from_millis(150));
        end(server);
        let attempts = count(&place, "tries 2");
        assert_eq!(attempts, 1, "no attempt begins while it is held up");
        place.put("mended", "");
        let server = place.serve();
        place.ok(&["unsuspend", "x"]);
        assert_eq!(place.result("x"), json!([1, 2, "slept", 3, 4, 5, "side"]));
        let counts = ["work 1", "tries 2", "child 3", "side"].map(|line| count(&place, line));
        assert_eq!(counts, [1, 2, 1, 1]);
        assert!(place.ok(&["entity", "Box@1"]).contains("1"));
        server.kill();
    }
}

#[test]
fn a_suspended_child_and_a_critical_section() {
    let text = r#"
orchestration inner() { lock Box(7) { work(1); Box(7).add(2) } }
orchestration o() { inner() }
"#;
    let place = place(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| count(&place, "work 1") == 1);
    place.ok(&["suspend", "x:0"]);
    place.put("done", "");
    await_that(|| count(&place, "ends 1") == 1);
    std::thread::sleep(std::time::Duration::from_millis(150));
    server.kill();
    let server = place.serve();
    assert!(place.ok(&["locks"]).contains("x:0"));
    place.ok(&["unsuspend", "x:0"]);
    assert_eq!(place.result("x"), json!(2));
    assert_eq!(count(&place, "work 1"), 1);
    server.kill();
}

#[test]
fn terminated_while_suspended() {
    let place = place("orchestration o() { work(1); note(\"after\") }");
    suspended(&place, Server::stop, "work 1");
    let server = place.serve();
    place.ok(&["terminate", "x", "enough"]);
    await_that(|| place.status("x") == "terminated");
    assert_eq!(count(&place, "after"), 0);
    server.stop();
    assert!(!place.ok(&["store", "export"]).contains("\"type\":\"message\""));
}
