//! Rewinding: failed steps are repeated after the outside is repaired. Nothing else is lost or
//! repeated.

mod common;

use common::place::{Place, await_that};
use serde_json::json;

/// Declarations that the programs below share: steps that append a line to `log`, and fail until
/// the file `mended` exists.
const STEPS: &str = r#"
activity fails(n) { fs.append("log", "fails {n}\n"); if !fs.exists("mended") { throw {kind: "down", message: "no {n}"} }; n }
activity bad(n) { fs.append("log", "bad {n}\n"); if !fs.exists("mended") { throw {kind: "down", message: "same"} }; n }
activity note(n) { fs.append("log", "{n}\n"); n }
activity slow(n) { sleep(30ms); fs.append("log", "slow {n}\n"); n }
activity stuck(n) with {timeout: 150ms} { fs.append("log", "stuck {n}\n"); if !fs.exists("mended") { sleep(1h) }; n }
activity hangs(n) { fs.append("log", "hangs {n}\n"); if !fs.exists("mended") { sleep(1h) }; n }
activity tries(n) with {retry: {times: 3, first: 1ms}} { fs.append("log", "tries {n}\n"); if !fs.exists("mended") { throw {kind: "down"} }; n }
entity Box { state 0; on add(n) { state += n; state }; on guarded(n) { if !fs.exists("mended") { throw {kind: "locked"} }; state += n; state } }
orchestration kid(n) { note("kid {n}"); fails(n) }
orchestration sleeper(n) { note("begins {n}"); sleep(200ms); note("ends {n}"); n }
orchestration own() { throw {kind: "own", message: "by itself"} }
"#;

fn place(text: &str) -> Place {
    Place::new(&format!("{STEPS}{text}"))
}

/// Runs `o`, which fails, repairs the outside, and rewinds it. Returns the output of the rewind.
fn fail_and_rewind(place: &Place) -> String {
    assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1);
    assert_eq!(place.status("x"), "failed");
    mend_and_rewind(place)
}

fn mend_and_rewind(place: &Place) -> String {
    place.put("mended", "");
    let dry = place.ok(&["rewind", "x", "--dry-run"]);
    assert_eq!(place.status("x"), "failed", "a dry run changes nothing");
    let wet = place.ok(&["rewind", "x"]);
    assert_eq!(dry, wet);
    assert_ne!(place.status("x"), "failed");
    wet
}

/// Returns the result of `x`, after a check that its history replays.
fn ends(place: &Place) -> serde_json::Value {
    let result = place.result("x");
    place.ok(&["replay", "x"]);
    if !place.path().join(".durable/socket").exists() {
        place.ok(&["store", "verify"]);
    }
    result
}

fn lines(place: &Place) -> Vec<String> {
    place.text("log").lines().map(str::to_string).collect()
}

/// Returns whether an instance holds a lock.
fn holds(place: &Place, id: &str) -> bool {
    place.ok(&["locks"]).lines().any(|line| line.split_whitespace().nth(1) == Some(id))
}

/// Returns how often a step was done.
fn count(place: &Place, line: &str) -> usize {
    lines(place).iter().filter(|known| *known == line).count()
}

#[test]
fn a_child_that_its_callers_failure_ended_goes_on() {
    let place =
        place("orchestration o() { let s = async sleeper(2)\n sleep(60ms)\n all([async fails(1), s]) }");
    let said = fail_and_rewind(&place);
    assert_eq!(said, "x:0 goes on where it was\nx asks again: fails(1) #2");
    assert_eq!(ends(&place), json!([1, 2]));
    assert_eq!((count(&place, "fails 1"), count(&place, "ends 2")), (2, 1));
}

#[test]
fn several_failed_children_are_rewound() {
    let place = place(
        "orchestration o() { let a = async kid(1)\n let b = async kid(2)\n let r = try { all([a, b]) } finally { sleep(50ms) }\n r }",
    );
    let said = fail_and_rewind(&place);
    for step in ["x:0 asks again: fails(1) #1", "x:1 asks again: fails(2) #1"] {
        assert!(said.contains(step), "{said}");
    }
    assert_eq!(ends(&place), json!([1, 2]));
    assert_eq!((count(&place, "kid 1"), count(&place, "kid 2")), (1, 1));
}

/// Results that come while the instance is failed count: those of a detached child, an entity, and
/// an instance that it waits for.
#[test]
fn what_ends_meanwhile_counts() {
    let text = r#"
orchestration holder() { lock Box(1) { receive("go") } }
orchestration o() {
  let h = start sleeper(5) with {id: "started"}
  let all_of = [async do { sleep(20ms); fails(1) }, async (sleeper(2) with {detached: true}), async Box(1).add(7), async wait(h)]
  all(all_of)
}
"#;
    let place = place(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "holder", "--id", "h"]);
    await_that(|| holds(&place, "h"));
    assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1);
    place.ok(&["raise", "h", "go"]);
    await_that(|| count(&place, "ends 2") == 1 && count(&place, "ends 5") == 1);
    await_that(|| place.ok(&["entity", "Box@1"]).contains("7"));
    server.stop();
    let server = place.serve();
    mend_and_rewind(&place);
    assert_eq!(ends(&place), json!([1, 2, 7, 5]));
    assert_eq!((count(&place, "begins 2"), count(&place, "fails 1")), (1, 2));
    assert!(place.ok(&["entity", "Box@1"]).contains("7"));
    server.kill();
}

#[test]
fn successes_after_the_failed_answer_are_kept() {
    let text = "orchestration o() { let t = async fails(0)\n note(\"a\"); note(\"b\"); note(\"c\"); sleep(20ms)\n [await t] }";
    let place = place(text);
    fail_and_rewind(&place);
    assert_eq!(ends(&place), json!([0]));
    assert_eq!(["a", "b", "c", "fails 0"].map(|line| count(&place, line)), [1, 1, 1, 2]);
}

#[test]
fn received_events_are_still_received() {
    let text = r#"
orchestration o() { let t = async fails(0)
  let first = receive("go")
  let r = [first, await t, receive("go")]
  r }
orchestration diverges() { var seen = []
  let t = async do { try { fails(0) } finally { seen += [1] } }
  let first = receive("go")
  if seen.len() > 0 { note("other") }
  [first, receive("go"), await t] }
"#;
    let place = place(text);
    for name in ["o", "diverges"] {
        let _ = std::fs::remove_file(place.path().join("mended"));
        place.ok(&["start", "p.df", name, "--id", "x"]);
        let server = place.serve();
        await_that(|| place.ok(&["history", "x"]).contains("error"));
        place.ok(&["raise", "x", "go", "1"]);
        if name == "diverges" {
            await_that(|| count(&place, "other") == 1);
            place.ok(&["raise", "x", "go", "2"]);
        }
        await_that(|| place.status("x") == "failed");
        server.kill();
        let said = mend_and_rewind(&place);
        assert_eq!(said.contains("loses"), name == "diverges", "{said}");
        if name == "o" {
            place.ok(&["raise", "x", "go", "2"]);
        }
        let wanted = if name == "o" { json!([1, 0, 2]) } else { json!([1, 2, 0]) };
        assert_eq!(ends(&place), wanted);
        place.ok(&["purge", "x"]);
    }
}

/// An error that was handled before is not taken for the one that ended the instance, even if both
/// are equal.
#[test]
fn the_failing_step_is_known_by_provenance() {
    let handled = r#"try { bad(1) } catch e { note("handled {e.message}") }"#;
    for (name, failing) in [
        ("plainly", "bad(2)"),
        ("thrown again", "try { bad(2) } catch e { note(\"x\"); throw e }"),
        (
            "by a function",
            "do { fn again(e) { throw e }\n try { bad(2) } catch e { let copy = [e]; again(copy[0]) } }",
        ),
        ("through finally", "try { bad(2) } finally { note(\"f\") }"),
        ("through a catch that does not match", "try { bad(2) } catch {kind: \"other\"} { 0 }"),
        ("awaited", "do { let t = async bad(2)\n sleep(10ms)\n await t }"),
        ("all", "all([async note(5), async bad(2)])"),
        ("race", "race([async sleep(1h), async bad(2)])"),
        ("any", "any([async bad(2), async bad(2)])"),
        ("retry", "task.retry({times: 2, first: 1ms}, fn () => bad(2))"),
        ("par_map", "task.par_map([2], {limit: 2}, bad)"),
        ("a time limit", "task.timeout(1h, fn () => bad(2))"),
    ] {
        let place = place(&format!(
            "orchestration o() {{ {handled}\n let both = try {{ all([async bad(3), async bad(4)]) }} catch _ {{ 0 }}\n sleep(20ms)\n {failing} }}"
        ));
        let said = fail_and_rewind(&place);
        assert!(said.contains("bad(2)") && !said.contains("bad(1)"), "{name}: {said}");
        ends(&place);
        for step in ["bad 1", "bad 3", "bad 4", "handled same"] {
            assert_eq!(count(&place, step), 1, "{name}: {step} in {:?}", lines(&place));
        }
    }
}

#[test]
fn an_error_of_the_program_itself_cannot_be_rewound() {
    for failing in [
        "throw {kind: \"down\", message: \"same\"}",
        "do { try { bad(1) } catch e { throw {kind: \"wrapped\", cause: e} } }",
        "do { try { bad(1) } catch e { throw {kind: e.kind, message: e.message} } }",
        "do { let n = try { bad(1) } catch e { e }\n n.missing }",
        "do { try { bad(1) } finally { throw {kind: \"own\"} } }",
        "own()",
    ] {
        let place = place(&format!("orchestration o() {{ note(1)\n {failing} }}"));
        assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1);
        let said = place.refused(1, &["rewind", "x"]);
        assert!(said.contains("failed in its own code"), "{failing}: {said}");
        assert_eq!(place.refused(1, &["rewind", "x", "--dry-run"]), said);
        assert_eq!(place.status("x"), "failed");
    }
}

/// New requests get numbers above the greatest that was ever used. Kept requests keep theirs.
#[test]
fn numbers_are_never_given_twice() {
    let text = r#"
orchestration o() {
  let t = async do { try { fails(0) } finally { note("cleanup") } }
  let b = async do { sleep(40ms); note("b1"); note("b2") }
  await t
  await b
  kid("new")
}
"#;
    let place = place(text);
    let said = fail_and_rewind(&place);
    assert!(said.contains(r#"loses, since it no longer fits: note("cleanup")"#), "{said}");
    place.put("log", "");
    assert_eq!(ends(&place), json!("new"));
    let history = place.history("x");
    let mut numbers: Vec<u64> =
        history.iter().filter(|e| e["kind"] == "requested").filter_map(|e| e["seq"].as_u64()).collect();
    let called = history.iter().find(|e| e["call"] == "kid").expect("the call");
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "{history:?}");
    assert_eq!(called["seq"].as_u64(), numbers.last().copied());
}

/// Time limits begin anew: those of activities, children, `task.timeout`, and races with a sleep.
#[test]
fn time_limits_begin_anew() {
    let waits = "orchestration waits(n) { note(\"waits {n}\"); if !fs.exists(\"mended\") { sleep(1h) }; n }";
    for (name, failing) in [
        ("activity", "stuck(1)"),
        ("child", "kid(1) with {timeout: 10s}"),
        ("late child", "late(1) with {timeout: 150ms}"),
        ("task", "task.timeout(150ms, fn () => hangs(1))"),
        ("race", "race([async sleep(300ms), async fails(1)])"),
        ("nested", "task.timeout(300ms, fn () => all([async sleeper(3), async fails(1)])[1])"),
    ] {
        let late = "orchestration late(n) { hangs(n) }";
        let place = place(&format!("{waits}\n{late}\norchestration o() {{ note(0)\n {failing} }}"));
        assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1, "{name}");
        std::thread::sleep(std::time::Duration::from_millis(350));
        mend_and_rewind(&place);
        assert_eq!(ends(&place), json!(1), "{name}");
        assert_eq!(count(&place, "0"), 1, "{name}");
    }
}

/// Attempts are counted anew, and the idempotency key stays the same.
#[test]
fn attempts_and_keys() {
    let text = r#"
activity keyed(n) with {retry: {times: 2, first: 1ms}} { fs.append("log", "{idempotency_key()}\n"); if !fs.exists("mended") { throw {kind: "down"} }; n }
orchestration o() { keyed(1) }
"#;
    let place = place(text);
    assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1);
    place.ok(&["rewind", "x"]);
    assert_eq!(place.code(&["wait", "x"]), 1);
    let keys = lines(&place);
    assert_eq!(keys.len(), 4, "two attempts, and two again");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    mend_and_rewind(&place);
    assert_eq!(ends(&place), json!(1));
    assert_eq!(lines(&place).len(), 5);
    assert_eq!(lines(&place)[4], keys[0]);
}

#[test]
fn critical_sections() {
    let text = r#"
orchestration o() { note("before"); lock Box(1) { note("in"); fails(1); Box(1).add(5) } }
orchestration called() { lock Box(2) { Box(2).add(1); fails(1) } }
orchestration waits_for_it() { all([async fails(1), async do { lock Box(3) { Box(3).add(1) } }]) }
orchestration holder() { lock Box(3) { receive("go") } }
"#;
    let place = place(text);
    let said = fail_and_rewind(&place);
    assert!(said.contains("asks again: lock("), "{said}");
    assert_eq!(ends(&place), json!(5));
    assert_eq!((count(&place, "before"), count(&place, "in")), (1, 2));
    let _ = std::fs::remove_file(place.path().join("mended"));
    assert_eq!(place.code(&["start", "p.df", "called", "--id", "y", "--wait"]), 1);
    let said = place.refused(1, &["rewind", "y"]);
    assert!(said.contains("within a critical section that had called its entities already"), "{said}");
    // A critical section that waited for its entities requests them again.
    place.ok(&["purge", "x"]);
    let server = place.serve();
    place.ok(&["start", "p.df", "holder", "--id", "h"]);
    await_that(|| holds(&place, "h"));
    assert_eq!(place.code(&["start", "p.df", "waits_for_it", "--id", "x", "--wait"]), 1);
    place.ok(&["raise", "h", "go"]);
    place.ok(&["wait", "h"]);
    mend_and_rewind(&place);
    assert_eq!(ends(&place), json!([1, 1]));
    assert!(!holds(&place, "x"));
    server.kill();
}

/// A child can be rewound alone, and its new result counts for its failed caller.
#[test]
fn a_child_alone() {
    let place = place("orchestration o() { [kid(1), note(\"after\")] }");
    assert_eq!(place.code(&["start", "p.df", "o", "--id", "x", "--wait"]), 1);
    place.put("mended", "");
    place.ok(&["rewind", "x:0"]);
    assert_eq!(place.result("x:0"), json!(1));
    assert_eq!(place.status("x"), "failed");
    let said = place.ok(&["rewind", "x"]);
    assert!(!said.contains("x:0"), "{said}");
    assert_eq!(ends(&place), json!([1, "after"]));
    assert_eq!((count(&place, "kid 1"), count(&place, "fails 1")), (1, 2));
}

/// An instance can be rewound again: after kills, with checkpoints, with trimmed histories, and
/// after `continue_as_new`.
#[test]
fn again_and_again() {
    let text = r#"
activity two(n) { fs.append("log", "two {n}\n"); if !fs.exists("second") { throw {kind: "down"} }; n }
orchestration o(n = 2) {
  if n > 0 { note("run {n}"); continue_as_new(n - 1) }
  let t = async fails(1)
  let slept = async sleeper(9)
  let seen = range(0, 200).map(fn i => random_int(i, i))
  note("middle")
  let a = await t
  let b = two(2)
  [a, b, await slept, seen.len()]
}
"#;
    for keep in ["all", "latest"] {
        let place = place(text);
        place.ok(&["start", "p.df", "o", "--id", "x"]);
        let server = place.serve_with(&["--history", keep]);
        await_that(|| place.status("x") == "failed");
        server.kill();
        mend_and_rewind(&place);
        let server = place.serve_with(&["--history", keep]);
        await_that(|| place.status("x") == "failed");
        place.put("second", "");
        place.ok(&["rewind", "x"]);
        server.kill();
        let server = place.serve_with(&["--history", keep]);
        assert_eq!(place.result("x"), json!([1, 2, 9, 200]));
        server.stop();
        // Steps in flight at the kill are repeated.
        assert!(count(&place, "two 2") >= 2);
        assert_eq!((count(&place, "middle"), count(&place, "fails 1")), (1, 2));
        assert!(count(&place, "ends 9") >= 1);
        place.ok(&["store", "verify"]);
    }
}

/// An answer to a cancelled request that came before the instance failed is kept for the rewind.
#[test]
fn answers_to_what_was_given_up_are_kept() {
    let text = r#"
orchestration holder() { lock Box(1) { receive("go") } }
orchestration o() {
  try { race([async do { sleep(20ms); fails(1); sleep(1h) }, async Box(1).add(7)]) }
  finally { receive("end") }
}
"#;
    let place = place(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "holder", "--id", "h"]);
    await_that(|| holds(&place, "h"));
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.ok(&["history", "x"]).contains("receive"));
    place.ok(&["raise", "h", "go"]);
    await_that(|| place.ok(&["entity", "Box@1"]).contains("7"));
    place.ok(&["raise", "x", "end"]);
    await_that(|| place.status("x") == "failed");
    // The event that the clean-up took is in the buffer again.
    let said = mend_and_rewind(&place);
    assert!(said.contains("loses, since it no longer fits: receive(\"end\")"), "{said}");
    assert_eq!(ends(&place), json!(7));
    assert!(place.ok(&["entity", "Box@1"]).contains("7"));
    server.kill();
}

/// A purge removes what was kept for a rewind.
#[test]
fn purge_takes_what_was_kept() {
    let place = place("orchestration o() { let t = async fails(0)\n receive(\"go\")\n await t }");
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    place.ok(&["raise", "x", "go", "1"]);
    place.ok(&["raise", "x", "go", "2"]);
    assert_eq!(place.code(&["resume", "x"]), 1);
    assert!(place.ok(&["store", "export"]).contains("\"type\":\"message\""));
    place.ok(&["purge", "x"]);
    assert!(!place.ok(&["store", "export"]).contains("\"type\":\"message\""));
}

/// With a trimmed history, only a step that failed after the checkpoint can be repeated.
#[test]
fn trimmed_histories() {
    let text = r#"
fn long() { var n = 0; while n < 8_000 { n += random_int(1, 1) }; n }
orchestration o() { note("begins"); let t = async sleeper(9); let n = long(); [n, fails(1), await t] }
orchestration before() { let t = async do { try { fails(1) } finally { 0 } }; sleep(20ms); long(); await t }
"#;
    let place = place(text);
    for name in ["o", "before"] {
        place.ok(&["start", "p.df", name, "--id", "x"]);
        assert_eq!(place.code(&["resume", "x", "--history", "latest"]), 1);
        assert!(place.history("x").len() < 8_000, "nothing was trimmed");
        if name == "before" {
            let said = place.refused(1, &["rewind", "x"]);
            assert!(said.contains("only since its last checkpoint"), "{said}");
            continue;
        }
        mend_and_rewind(&place);
        place.ok(&["resume", "x", "--history", "latest"]);
        assert_eq!(place.result("x"), json!([8000, 1, 9]));
        assert_eq!((count(&place, "begins"), count(&place, "fails 1")), (1, 2));
        place.ok(&["store", "verify"]);
        place.ok(&["purge", "x"]);
        std::fs::remove_file(place.path().join("mended")).expect("removed");
    }
}

/// Instances that the failed one waits for are rewound too, if they belong to its tree.
#[test]
fn what_is_waited_for_goes_back_too() {
    let text = r#"
orchestration o() { let h = start kid(1)
  let d = start kid(2) with {id: "d"}
  [wait(h), wait(d)] }
orchestration other(id) { wait(id) }
"#;
    let place = place(text);
    let said = fail_and_rewind(&place);
    assert!(said.contains("x:0 asks again: fails(1) #1"), "{said}");
    // The instance had not waited for `d` yet, which failed as well.
    assert_eq!(place.code(&["wait", "x"]), 1);
    let said = mend_and_rewind(&place);
    assert!(said.contains("d asks again: fails(2) #1"), "{said}");
    assert_eq!(ends(&place), json!([1, 2]));
    assert_eq!((count(&place, "kid 1"), count(&place, "fails 1")), (1, 2));
    // An instance of another root is not touched.
    std::fs::remove_file(place.path().join("mended")).expect("removed");
    assert_eq!(place.code(&["start", "p.df", "kid", "7", "--id", "k", "--wait"]), 1);
    assert_eq!(place.code(&["start", "p.df", "other", "k", "--id", "y", "--wait"]), 1);
    let said = place.refused(1, &["rewind", "y"]);
    assert!(said.contains("y failed by k") && said.contains("rewind that first"), "{said}");
    place.put("mended", "");
    place.ok(&["rewind", "k"]);
    place.result("k");
    place.ok(&["rewind", "y"]);
    assert_eq!(place.result("y"), json!(7));
}

/// A script can be rewound as well, and so can a step that nobody awaited.
#[test]
fn a_script_and_a_task_that_nobody_awaited() {
    let place = place("let _t = async fails(1)\nprint(\"once\")\nnote(\"main\")\n");
    assert_eq!(place.code(&["run", "p.df", "--id", "x"]), 1);
    let said = mend_and_rewind(&place);
    assert_eq!(said, "x asks again: fails(1) #0");
    let resumed = place.ok(&["resume", "x"]);
    assert!(!resumed.contains("once"), "{resumed}");
    assert_eq!(place.status("x"), "completed");
    assert_eq!((count(&place, "main"), count(&place, "fails 1")), (1, 2));
}

/// A rewound instance can be exported and imported, and its history shows the rewind.
#[test]
fn exported_and_shown() {
    let place =
        place("orchestration o() { try { fails(1) } finally { note(\"cleanup\") }; receive(\"go\") }");
    fail_and_rewind(&place);
    place.put("copy", &place.ok(&["store", "export"]));
    place.ok(&["store", "import", "copy", "--store", "other"]);
    for store in [".durable", "other"] {
        let text = place.ok(&["history", "x", "--store", store]);
        assert!(text.contains("asked again"), "{text}");
        place.ok(&["raise", "x", "go", "1", "--store", store]);
        place.ok(&["resume", "x", "--store", store]);
        assert_eq!(place.ok(&["status", "x", "--store", store]), "completed");
        place.ok(&["replay", "x", "--store", store]);
    }
    let kinds: Vec<String> =
        place.history("x").iter().map(|e| e["kind"].as_str().unwrap_or_default().to_string()).collect();
    assert!(kinds.contains(&"rewound".to_string()) && kinds.contains(&"renewed".to_string()), "{kinds:?}");
}
