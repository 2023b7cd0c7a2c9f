//! Upgrades: instances go on with another text, if the text fits what they did.

mod common;

use std::rc::Rc;

use common::place::{Place, await_that};
use common::sim::{Acted, Outside, World};
use durable::engine::{
    Backward, Event, InstanceRecord, Judge, Replayed, Upgrade, Verdict, read_history, read_holds,
    read_record, replay,
};
use durable::machine::{Data, Image, Value};
use serde_json::{Value as Json, json};

/// A text with steps before, at and after a wait.
const TEXT: &str = r#"import "helper.df" as helper
activity charge(order, amount) with {retry: {times: 2, first: 1ms}} { fs.append("log", "charge {order} {amount}\n"); amount }
activity ship(order) { fs.append("log", "ship {order}\n"); order }
entity Book { state 0; on add(n) { state += n; state } }
orchestration order(id) {
  let amount = helper.price(id)
  let paid = charge(id, amount)
  Book("all").add(paid)
  let address = receive("address")
  ship("{id} to {address}")
  paid
}
"#;

const HELPER: &str = "fn price(id) { 10 }\n";

/// A place in which the instance `x` waits for its address, with the text `p.df`.
fn waiting() -> Place {
    let place = Place::new(TEXT);
    place.put("helper.df", HELPER);
    place.ok(&["start", "p.df", "order", "a", "--id", "x"]);
    let server = place.serve();
    await_that(|| place.ok(&["show", "x"]).contains("waits for  receive"));
    server.stop();
    place
}

/// Returns the verdict of a dry run, as JSON.
fn verdict(place: &Place, text: &str) -> Json {
    place.put("new.df", text);
    let output = place.run(&["upgrade", "x", "--to", "new.df", "--dry-run", "--json"]);
    let text = common::place::out(&output);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{text}{}", common::place::err(&output)))
}

/// An edit: what it is, the replaced texts, and the verdict.
type Edit = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Each edit has its verdict, and an edit that fits is what the instance goes on with.
#[test]
fn each_edit_has_its_verdict() {
    let place = waiting();
    let before = place.history("x");
    let edits: &[Edit] = &[
        ("nothing", &[], "fits"),
        ("a comment", &[("activity ship", "// Ships.\nactivity ship")], "fits"),
        ("a variable has another name", &[("paid", "sum")], "fits"),
        ("a log line more after the wait", &[("  ship(", "  log.info(\"x\")\n  ship(")], "fits"),
        (
            "a log line more before the wait",
            &[("  let paid", "  log.info(\"x\")\n  let paid")],
            "diverges at 1",
        ),
        ("another argument of a done step", &[("charge(id, amount)\n", "charge(id, 11)\n")], "diverges at 1"),
        ("another argument of a later step", &[("{id} to {address}", "{address}")], "fits"),
        ("a step more before the wait", &[("  let address", "  ship(id)\n  let address")], "diverges at 5"),
        ("a step more after the wait", &[("  ship(", "  ship(id)\n  ship(")], "fits"),
        ("a step less before the wait", &[("  Book(\"all\").add(paid)\n", "")], "diverges at 3"),
        ("a step less after the wait", &[("  ship(\"{id} to {address}\")\n", "")], "fits"),
        (
            "steps in another order",
            &[(
                "  let paid = charge(id, amount)\n  Book(\"all\").add(paid)\n",
                "  Book(\"all\").add(amount)\n  let paid = charge(id, amount)\n",
            )],
            "diverges at 1",
        ),
        ("another event", &[("receive(\"address\")", "receive(\"place\")")], "diverges at 5"),
        ("other options of a retry", &[("times: 2", "times: 9")], "fits"),
        ("another activity under the same name", &[("; amount }", "; amount + 1 }")], "fits"),
        ("a changed entity", &[("state += n; state", "state += 2 * n; state")], "fits"),
        ("no function", &[("orchestration order", "orchestration other")], "unfit"),
        ("a parameter more", &[("order(id) {", "order(id, more) {")], "unfit"),
        ("an optional parameter more", &[("order(id) {", "order(id, more = 1) {")], "fits"),
        (
            "an error before the wait",
            &[("  let address", "  throw {kind: \"no\"}\n  let address")],
            "diverges at 5",
        ),
        ("an endless loop before the wait", &[("  let address", "  while true { }\n  let address")], "unfit"),
        ("a result before the wait", &[("  let address", "  return 1\n  let address")], "diverges at 5"),
    ];
    for (what, changes, wanted) in edits {
        let mut text = TEXT.to_string();
        for (from, to) in *changes {
            assert!(text.contains(from), "{what}");
            text = text.replace(from, to);
        }
        let verdict = verdict(&place, &text);
        let found = match verdict["entry"].as_u64() {
            Some(entry) => format!("{} at {entry}", verdict["verdict"].as_str().unwrap_or_default()),
            None => verdict["verdict"].as_str().unwrap_or_default().to_string(),
        };
        assert_eq!(found, *wanted, "{what}: {verdict}");
    }
    assert_eq!(place.history("x"), before, "a dry run changes nothing");
}

/// A text with variables of all kinds at its wait.
const STATE: &str = r#"const LIMIT = 5
activity charge(n) { n }
fn ask(name, n) { let asked = n + 1; let answer = receive(name); [asked, answer] }
orchestration order(id) {
  let rate = 3
  var total = 0
  let items = [{name: "a", price: 1}, {name: "b", price: 2}]
  for item in items { total += item.price * rate }
  let word = "of"
  let describe = fn n => "{n} {word} {id}"
  let spare = total + 1
  let ready = async do { total * 10 }
  let other = async do { let mine = "m"; receive("other") ?? mine }
  charge(spare - total)
  let [asked, address] = ask("address", 20)
  let rest = ["x", "y", "z"].map(fn mark => receive("go") ?? mark)
  for step in 1..3 { receive("step") }
  [describe(total), rate, items, address, asked, await ready, await other, LIMIT, rest]
}
"#;

/// Returns the parts that differ by a verdict, and the variables that only one text has.
fn parts(verdict: &Json) -> (Vec<String>, Vec<String>) {
    let texts = |list: &Json, field: &str| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(|of| of[field].as_str().unwrap_or_default().to_string()).collect()
    };
    (texts(&verdict["variables"], "part"), texts(&verdict["unpaired"], "name"))
}

/// A text that makes the same requests and comes to other values of variables is one that fits with
/// another state. Only variables that the new text reads after the wait count.
#[test]
fn each_edit_of_the_state_has_its_verdict() {
    type StateEdit = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [&'static str],
        &'static [&'static str],
    );
    let place = Place::new(STATE);
    place.ok(&["start", "p.df", "order", "a", "--id", "x"]);
    let server = place.serve();
    await_that(|| place.ok(&["show", "x"]).contains("receive(\"address\")"));
    let edits: &[StateEdit] = &[
        ("a comment", &[("  let rate", "  // The rate.\n  let rate")], &[], &[]),
        ("a value", &[("rate = 3", "rate = 4")], &["rate", "the result of ready", "total"], &[]),
        (
            "a computation",
            &[("item.price * rate", "item.price - rate")],
            &["the result of ready", "total"],
            &[],
        ),
        ("a value that is not read any more", &[("spare = total + 1", "spare = 1 + total")], &[], &[]),
        (
            "a changed value that is not read any more",
            &[("spare = total + 1", "spare = total + 2"), ("spare - total", "1")],
            &[],
            &[],
        ),
        (
            "an accumulator more",
            &[
                ("  var total = 0", "  var total = 0\n  var count = 0"),
                ("item.price * rate }", "item.price * rate; count += 1 }"),
                ("[describe(total),", "[count, describe(total),"),
            ],
            &[],
            &["count"],
        ),
        ("a variable more that is not read", &[("  let rate", "  let unused = 1\n  let rate")], &[], &[]),
        ("another name", &[("total", "sum")], &[], &["sum", "total"]),
        (
            "another order of declarations",
            &[("  let rate = 3\n  var total = 0\n", "  var total = 0\n  let rate = 3\n")],
            &[],
            &[],
        ),
        ("a function with another body", &[("\"{n} {word} {id}\"", "\"{id} {word} {n}!\"")], &[], &[]),
        ("what a function holds", &[("word = \"of\"", "word = \"in\"")], &["word captured by describe"], &[]),
        ("a field of a record in a list", &[("\"b\", price", "\"c\", price")], &["items[1].name"], &[]),
        ("another order of fields", &[("{name: \"b\", price: 2}", "{price: 2, name: \"b\"}")], &[], &[]),
        ("a list that is longer", &[("price: 2}]", "price: 2}, {name: \"c\", price: 0}]")], &["items"], &[]),
        ("a variable of a called function", &[("asked = n + 1", "asked = n + 2")], &["asked"], &[]),
        (
            "an argument that is not read any more",
            &[("ask(\"address\", 20)", "ask(\"address\", 20 + 0)")],
            &[],
            &[],
        ),
        ("a variable of a task", &[("mine = \"m\"", "mine = \"n\"")], &["mine"], &[]),
        ("the result of a task", &[("total * 10", "total * 11")], &["the result of ready"], &[]),
        ("a constant of the program", &[("LIMIT = 5", "LIMIT = 6")], &[], &[]),
        ("a variable after the wait", &[("[\"x\", \"y\"", "[\"w\", \"y\"")], &[], &[]),
    ];
    for (what, changes, differ, unpaired) in edits {
        let mut text = STATE.to_string();
        for (from, to) in *changes {
            assert!(text.contains(from), "{what}");
            text = text.replace(from, to);
        }
        let verdict = verdict(&place, &text);
        let wanted = if differ.is_empty() { "fits" } else { "state differs" };
        assert_eq!(verdict["verdict"], wanted, "{what}: {verdict}");
        let (found, only) = parts(&verdict);
        assert_eq!((&found[..], &only[..]), (&texts(differ)[..], &texts(unpaired)[..]), "{what}: {verdict}");
    }
    // The same in the middle of loops.
    place.ok(&["raise", "x", "address", "there"]);
    place.ok(&["raise", "x", "go", "gone"]);
    await_that(|| place.history("x").iter().filter(|entry| entry["kind"] == "requested").count() == 5);
    let all = |text: &str| parts(&verdict(&place, text)).0;
    assert_eq!(all(&STATE.replace("[\"x\", ", "[\"w\", ")), [""; 0], "an element that the loop has passed");
    assert_eq!(all(&STATE.replace("\"z\"]", "\"q\"]")), ["out[2]"], "a variable of the library's `map`");
    place.ok(&["raise", "x", "go", "gone"]);
    place.ok(&["raise", "x", "go", "gone"]);
    await_that(|| place.ok(&["show", "x"]).contains("receive(\"step\")"));
    assert_eq!(all(STATE), [""; 0]);
    assert_eq!(all(&STATE.replace("1..3", "1..4")), ["the rest of the loop of step[1]"]);
    server.stop();
}

fn texts(of: &[&str]) -> Vec<String> {
    of.iter().map(|text| text.to_string()).collect()
}

/// A text with which variables have other values is adopted only if that is accepted, and it goes
/// on with its own values.
#[test]
fn another_state_has_to_be_accepted() {
    let text = "orchestration o(n) { let total = n * 2\n receive(\"go\"); total }\n";
    let place = Place::new(text);
    for id in ["x", "y", "z"] {
        place.ok(&["start", "p.df", "o", "21", "--id", id]);
    }
    let server = place.serve();
    for id in ["x", "y", "z"] {
        await_that(|| place.ok(&["show", id]).contains("receive"));
    }
    place.put("new.df", &text.replace("n * 2", "n * 3"));
    let before = place.history("x");
    let refused = place.run(&["upgrade", "x", "--to", "new.df"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        common::place::out(&refused),
        "x fits new.df, state differs\n\
         \x20 total in o: 42, and 63 with the new text\n\
         \x20 `--accept-state` goes on with the values of the new text\n"
    );
    let many = place.run(&["upgrade", "--function", "o", "--to", "new.df", "--dry-run"]);
    assert_eq!(many.status.code(), Some(1));
    assert_eq!(common::place::out(&many), "3 instances: fit, state differs\n    total in o\n    x, y, z\n");
    place.ok(&["upgrade", "x", "--to", "new.df", "--accept-state", "--dry-run"]);
    assert_eq!(place.history("x"), before, "nothing is changed");
    // Another name alone is no other state.
    place.put("named.df", &text.replace("total", "sum"));
    assert_eq!(
        place.ok(&["upgrade", "x", "--to", "named.df"]),
        "x goes on with named.df\n  only the new text has sum in o: 42\n  only the text before has total in o: 42"
    );
    let said = place.ok(&["upgrade", "x", "--to", "new.df", "--accept-state", "--json"]);
    let said: Json = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["verdict"], &said["adopted"]), (&json!("fits"), &json!(true)), "{said}");
    let said = place.ok(&["upgrade", "--function", "o", "--to", "new.df", "--accept-state"]);
    assert_eq!(
        said,
        "2 instances: go on with new.df, state differs\n    total in o\n    y, z\n\
         1 instance: have this program already\n    x"
    );
    for id in ["x", "y", "z"] {
        place.ok(&["raise", id, "go"]);
        assert_eq!(place.result(id), json!(63));
    }
    server.stop();
    for id in ["x", "y", "z"] {
        place.ok(&["replay", id]);
    }
    place.ok(&["verify-run", "--all"]);
}

/// A helper module is a part of the text.
#[test]
fn a_changed_module_is_judged_too() {
    let place = waiting();
    place.put("helper.df", "fn price(id) { 5 + 5 }\n");
    assert_eq!(verdict(&place, TEXT)["verdict"], "fits");
    place.put("helper.df", "fn price(id) { 11 }\n");
    let verdict = verdict(&place, TEXT);
    assert_eq!((&verdict["verdict"], &verdict["entry"]), (&json!("diverges"), &json!(1)));
    assert_eq!(verdict["recorded"]["what"], "charge(\"a\", 10)");
    assert_eq!(verdict["found"]["what"], "charge(\"a\", 11)");
    assert_eq!(verdict["found"]["line"], "let paid = charge(id, amount)");
}

#[test]
fn a_text_with_a_mistake_changes_nothing() {
    let place = waiting();
    place.put("new.df", &TEXT.replace("let paid", "let"));
    let said = place.refused(3, &["upgrade", "x", "--to", "new.df"]);
    assert!(said.contains("new.df has 2 mistakes"), "{said}");
    assert_eq!(place.ok(&["programs", "--json"]).lines().count(), 1);
}

/// After an upgrade the instance does what the new text says, and its history replays, exports and
/// imports. The old text stays for the lines of the entries before.
#[test]
fn an_upgraded_instance_goes_on_with_the_new_text() {
    let place = waiting();
    place.put("new.df", &format!("// One line more.\n{}", TEXT.replace("{id} to {address}", "{address}!")));
    assert_eq!(place.ok(&["upgrade", "x", "--to", "new.df"]), "x goes on with new.df");
    assert_eq!(place.ok(&["upgrade", "x", "--to", "new.df"]), "x has this program already");
    let history = place.history("x");
    assert_eq!(history.last().expect("an entry")["kind"], "upgraded");
    place.ok(&["replay", "x"]);
    place.ok(&["store", "verify"]);
    place.ok(&["store", "export", "export.jsonl"]);
    place.ok(&["store", "import", "export.jsonl", "--store", "other"]);
    place.ok(&["raise", "x", "address", "home"]);
    assert_eq!(place.result("x"), json!(10));
    assert_eq!(place.text("log"), "charge a 10\nship home!\n");
    place.ok(&["replay", "x"]);
    place.ok(&["raise", "x", "address", "away", "--store", "other"]);
    place.ok(&["wait", "x", "--store", "other"]);
    assert_eq!(place.text("log"), "charge a 10\nship home!\nship away!\n");
    // Both texts are there until the instance is purged.
    assert_eq!(place.ok(&["programs", "--json"]).lines().count(), 2);
    place.ok(&["purge", "x"]);
    // The entity still has its program.
    assert_eq!(place.ok(&["programs", "--json"]).lines().count(), 1);
}

/// What has ended is not upgraded.
#[test]
fn an_ended_instance_is_refused() {
    let place = waiting();
    place.ok(&["terminate", "x"]);
    let said = place.refused(1, &["upgrade", "x", "--to", "p.df"]);
    assert!(said.contains("x has ended: it is terminated"), "{said}");
    place.refused(5, &["upgrade", "y", "--to", "p.df"]);
}

/// An upgrade by a server changes instances in its memory, and breaks off nothing that they do.
#[test]
fn an_instance_under_a_server_is_upgraded_where_it_waits() {
    let text = r#"
activity slow(n) { fs.append("log", "begins {n}\n"); sleep(600ms); fs.append("log", "ends {n}\n"); n }
activity flaky(n) with {retry: {times: 9, first: 700ms, factor: 1.0}} { fs.append("log", "tries {n}\n"); if !fs.exists("mended") { throw {kind: "down"} }; n }
orchestration kid(n) { receive("go") }
entity Box { state 0; on add(n) { state += n; state } }
orchestration o() {
  let parts = [async slow(1), async flaky(2), async kid(3), async do { sleep(1s); 4 }]
  lock Box(1) { Box(1).add(1); receive("held") }
  [all(parts), "old"]
}
"#;
    let place = Place::new(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.text("log").contains("tries") && place.text("log").contains("begins"));
    await_that(|| place.ok(&["show", "x"]).contains("receive"));
    place.put("p.df", &text.replace("\"old\"", "\"new\""));
    assert_eq!(place.ok(&["upgrade", "x", "--to", "p.df"]), "x goes on with p.df");
    place.put("mended", "");
    place.ok(&["raise", "x:2", "go", "3"]);
    place.ok(&["raise", "x", "held"]);
    assert_eq!(place.result("x"), json!([[1, 2, 3, 4], "new"]));
    let log = place.text("log");
    assert_eq!(log.matches("begins 1").count(), 1, "the step under way goes on: {log}");
    assert_eq!(log.matches("tries 2").count(), 2, "{log}");
    assert!(place.ok(&["locks"]).is_empty() || !place.ok(&["locks"]).contains(" x "));
    server.stop();
    place.ok(&["replay", "x"]);
    place.ok(&["store", "verify"]);
}

/// Goes back, so that a step before the wait can be another one. What came meanwhile comes again.
#[test]
fn an_instance_goes_back_to_where_the_texts_part() {
    let place = waiting();
    let text = TEXT.replace("Book(\"all\").add(paid)", "Book(\"all\").add(2 * paid)");
    place.put("new.df", &text);
    let output = place.run(&["upgrade", "x", "--to", "new.df"]);
    let said = common::place::out(&output);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        said,
        "x diverges at entry 3 of 5; the 2 entries before it are common\n\
         \x20 the history holds: Book(\"all\").add(10)\n\
         \x20   p.df:8:3: Book(\"all\").add(paid)\n\
         \x20 the new text does: Book(\"all\").add(20)\n\
         \x20   new.df:8:3: Book(\"all\").add(2 * paid)\n\
         \x20 `--from 3` goes back to entry 3, and on with the new text\n"
    );
    let before = place.history("x");
    let dry = place.ok(&["upgrade", "x", "--to", "new.df", "--from", "3", "--dry-run"]);
    assert!(dry.contains("forgets: Book(\"all\").add(10), done #1\n"), "{dry}");
    assert!(dry.contains("forgets: receive(\"address\"), under way #2"), "{dry}");
    assert_eq!(place.history("x"), before, "a dry run changes nothing");
    let late = place.refused(1, &["upgrade", "x", "--to", "new.df", "--from", "5"]);
    assert!(late.contains("the text diverges at entry 3 already"), "{late}");
    place.refused(1, &["upgrade", "x", "--to", "new.df", "--from", "6"]);
    let said = place.ok(&["upgrade", "x", "--to", "new.df", "--from", "3"]);
    assert!(said.starts_with("x goes back to entry 3, and on with new.df"), "{said}");
    place.ok(&["raise", "x", "address", "home"]);
    assert_eq!(place.result("x"), json!(10));
    assert_eq!(place.text("log"), "charge a 10\nship a to home\n", "what was before is not done again");
    assert!(place.ok(&["entity", "Book@all"]).contains("30"), "what was forgotten stays done");
    let numbers: Vec<Json> = place.history("x").iter().map(|entry| entry["seq"].clone()).collect();
    assert!(numbers.contains(&json!(3)) && !numbers.contains(&json!(1)), "{numbers:?}");
    place.ok(&["replay", "x"]);
    place.ok(&["store", "verify"]);
}

/// Going back within an open `all` keeps the answers of kept steps, and ends forgotten children.
#[test]
fn going_back_keeps_answers_and_ends_forgotten_children() {
    let text = r#"
activity note(n) { fs.append("log", "{n}\n"); n }
orchestration kid(n) { receive("go"); n }
orchestration o() {
  note(1)
  let early = async receive("early")
  let first = receive("first")
  let called = async kid(first)
  receive("second")
  [await early, first, await called]
}
"#;
    let place = Place::new(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.ok(&["show", "x"]).contains("receive(\"first\")"));
    place.ok(&["raise", "x", "first", "1"]);
    await_that(|| place.ok(&["list"]).contains("x:"));
    place.ok(&["raise", "x", "early", "0"]);
    await_that(|| place.history("x").iter().filter(|entry| entry["kind"] == "answered").count() == 3);
    let child = "x:3";
    assert_eq!(place.status(child), "running");
    let new = text.replace("async kid(first)", "async note(first)").replace("receive(\"second\")", "0");
    let entry = verdict(&place, &new)["entry"].to_string();
    place.ok(&["upgrade", "x", "--to", "new.df", "--from", &entry]);
    // The events are taken again.
    assert_eq!(place.result("x"), json!([0, 1, 1]));
    assert_eq!(place.text("log"), "1\n1\n");
    await_that(|| place.status(child) == "terminated");
    server.stop();
    place.ok(&["replay", "x"]);
    place.ok(&["store", "verify"]);
}

/// A section that is forgotten is released.
#[test]
fn going_back_releases_what_was_locked_since() {
    let text = r#"
entity Box { state 0; on add(n) { state += n; state } }
orchestration o() {
  receive("go")
  lock Box(1) { Box(1).add(1); receive("held") }
  "old"
}
"#;
    let place = Place::new(text);
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    place.ok(&["raise", "x", "go"]);
    let server = place.serve();
    await_that(|| place.ok(&["locks"]).contains(" x "));
    place.put("new.df", &text.replace("lock Box(1) { Box(1).add(1); receive(\"held\") }", "Box(1).add(1)"));
    place.refused(1, &["upgrade", "x", "--to", "new.df", "--from", "7"]);
    let said = place.ok(&["upgrade", "x", "--to", "new.df", "--from", "3"]);
    assert!(said.contains("forgets: lock"), "{said}");
    assert_eq!(place.result("x"), json!("old"));
    assert!(!place.ok(&["locks"]).contains(" x "));
    server.stop();
    place.ok(&["store", "verify"]);
}

/// All instances of a program or of a function: a dry run groups them, and only those that fit
/// change.
#[test]
fn all_instances_of_a_program_are_judged() {
    let place = Place::new(TEXT);
    place.put("helper.df", HELPER);
    let server = place.serve();
    for id in ["a", "b", "c", "d"] {
        place.ok(&["start", "p.df", "order", id, "--id", id]);
    }
    for id in ["a", "b", "c", "d"] {
        await_that(|| place.ok(&["show", id]).contains("receive(\"address\")"));
    }
    place.ok(&["raise", "d", "address", "there"]);
    place.ok(&["wait", "d"]);
    place.ok(&["suspend", "b"]);
    let text = TEXT.replace("  let address", "  if id == \"c\" { ship(\"more\") }\n  let address");
    place.put("new.df", &text);
    let program = place.ok(&["programs", "--json"]);
    let program: Json = serde_json::from_str(&program).expect("JSON");
    let hash = program["program"].as_str().expect("a hash")[..8].to_string();
    let dry = common::place::out(&place.run(&["upgrade", "--program", &hash, "--to", "new.df", "--dry-run"]));
    assert!(dry.starts_with("2 instances: fit\n    a, b\n1 instance: diverge\n"), "{dry}");
    assert!(dry.contains("the new text comes to new.df:9:18: if id == \"c\" { ship(\"more\") }"), "{dry}");
    let output = place.run(&["upgrade", "--function", "order", "--to", "new.df"]);
    assert_eq!(output.status.code(), Some(1), "one diverges");
    assert!(common::place::out(&output).starts_with("2 instances: go on with new.df\n    a, b\n"));
    place.ok(&["unsuspend", "b"]);
    for id in ["a", "b", "c"] {
        place.ok(&["raise", id, "address", "home"]);
        assert_eq!(place.result(id), json!(10));
    }
    server.stop();
    for id in ["a", "b", "c", "d"] {
        place.ok(&["replay", id]);
    }
    let none = place.run(&["upgrade", "--function", "order", "--to", "new.df"]);
    assert_eq!(none.status.code(), Some(0));
    assert!(common::place::err(&none).contains("no instance of it is unfinished"));
}

/// Suspended instances, those that have not begun, scripts, and instances after
/// `continue_as_new` are upgraded like all others.
#[test]
fn instances_of_all_kinds_are_upgraded() {
    let text = r#"
orchestration later(n) { n }
orchestration again(n) { let got = receive("go"); if got == "stop" { "old" } else { continue_as_new(n + 1) } }
receive("end")
print("old")
"#;
    let place = Place::new(text);
    let new = text.replace("{ n }", "{ n + 1 }").replace("\"old\"", "\"new\"");
    place.ok(&["start", "p.df", "later", "1", "--id", "later", "--after", "1h"]);
    place.ok(&["start", "p.df", "again", "1", "--id", "again"]);
    let server = place.serve();
    let script = place.command(&["run", "p.df", "--id", "script"]).spawn().expect("it runs");
    await_that(|| place.ok(&["list"]).contains("script"));
    place.ok(&["raise", "again", "go", "on"]);
    await_that(|| place.ok(&["show", "again"]).contains("execution"));
    place.ok(&["suspend", "again"]);
    await_that(|| place.status("again") == "suspended");
    await_that(|| place.ok(&["show", "script"]).contains("receive"));
    place.put("p.df", &new);
    for id in ["later", "again", "script"] {
        assert_eq!(place.ok(&["upgrade", id, "--to", "p.df"]), format!("{id} goes on with p.df"));
    }
    assert_eq!(place.status("again"), "suspended");
    place.ok(&["unsuspend", "again"]);
    place.ok(&["raise", "again", "go", "stop"]);
    assert_eq!(place.result("again"), json!("new"));
    place.ok(&["raise", "script", "end"]);
    let shown = { script }.wait_with_output().expect("it ends");
    assert!(shown.status.success());
    assert_eq!(place.ok(&["history", "script", "--output"]), "new");
    assert!(place.ok(&["show", "later"]).contains("begins"));
    server.stop();
}

/// A history that begins at a checkpoint can't be judged. A checkpoint beside the whole history is
/// made anew.
#[test]
fn checkpoints_of_the_old_text_are_not_used() {
    let text = "orchestration o() { var n = 0\n while n < 3000 { n = n + uuid().len() / uuid().len() }\n receive(\"go\"); \"old\" }\n";
    for (keep, fits) in [("all", true), ("latest", false)] {
        let place = Place::new(text);
        let server = place.serve_with(&["--history", keep]);
        place.ok(&["start", "p.df", "o", "--id", "x"]);
        await_that(|| place.ok(&["show", "x"]).contains("receive"));
        server.stop();
        let trimmed = common::place::err(&place.run(&["history", "x"])).contains("is not kept");
        assert_eq!(trimmed, !fits, "a checkpoint was written");
        place.put("p.df", &text.replace("old", "new"));
        let output = place.run(&["upgrade", "x", "--to", "p.df"]);
        assert_eq!(output.status.success(), fits);
        if !fits {
            let said = common::place::out(&output);
            assert!(said.contains("unfit: its history is kept only since its last checkpoint"), "{said}");
        }
        let server = place.serve_with(&["--history", keep]);
        place.ok(&["raise", "x", "go"]);
        assert_eq!(place.result("x"), json!(if fits { "new" } else { "old" }));
        server.stop();
    }
}

/// A process that dies during an upgrade leaves the old text or the new one, and nothing between.
/// The world crashes before and after each commit, in turn.
#[test]
fn an_upgrade_survives_a_crash_at_every_point() {
    for kind in [Kind::Fits, Kind::StateDiffers, Kind::GoesBack] {
        let mut unbroken = world(kind);
        unbroken.run_to_the_end().expect("it ends");
        let wanted = unbroken.observed();
        assert!(wanted["up"].contains("new"), "{kind:?}: {wanted:?}");
        assert_eq!(wanted["up"].contains("77"), kind == Kind::StateDiffers, "{wanted:?}");
        assert!(unbroken.points > 10, "{kind:?}");
        for resident in [None, Some(0)] {
            for point in 1..=unbroken.points {
                let mut broken = world(kind);
                (broken.crash, broken.resident) = (common::sim::Crash::At(point), resident);
                if let Err(reason) = broken.run_to_the_end() {
                    panic!("{kind:?} at {point}: {reason}\n{}", broken.trace.join("\n"));
                }
                assert_eq!(broken.observed(), wanted, "{kind:?} at {point}\n{}", broken.trace.join("\n"));
                for record in broken.records() {
                    let history = read_history(&broken.driver.store, &record).expect("a history");
                    let image = broken.driver.image(&record.program).expect("a program");
                    match replay(&image, record.clone(), history, &mut |_, _| ()) {
                        Replayed::Ended(status) => assert_eq!(status, record.status),
                        other => panic!("{kind:?} at {point}: {other:?}"),
                    }
                }
            }
        }
    }
}

const OLD: &str = r#"
entity Sum { state 0; on add(n) { state += n; state } }
activity step(n) => n
orchestration kid(n) { sleep(1s); n }
orchestration o() {
  let a = step(1)
  let note = 70 + a
  let parts = [async kid(a), async step(2)]
  Sum("s").add(a)
  lock Sum("t") { sleep(5s); Sum("t").add(1) }
  [all(parts), "old", note]
}
"#;

/// The kinds of upgrades of a world.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Fits,
    StateDiffers,
    GoesBack,
}

/// A world in which an operator upgrades the instance while it is in its section.
fn world(kind: Kind) -> World {
    let old = common::image(OLD);
    let changed = OLD.replace("\"old\"", "\"new\"");
    let changed = match kind {
        Kind::Fits => changed,
        Kind::StateDiffers => changed.replace("70 + a", "76 + a"),
        Kind::GoesBack => changed.replace("Sum(\"s\").add(a)", "step(7)"),
    };
    let new = common::image(&changed);
    let mut world = World::new(old.clone(), 1);
    (world.orderly, world.fine) = (true, true);
    world.driver.add(&new);
    world.is_operated_by(Box::new(Upgrader { old, new, kind, is_done: false }));
    world
}

/// An operator that starts an instance, and upgrades it once while it waits.
struct Upgrader {
    old: Rc<Image>,
    new: Rc<Image>,
    kind: Kind,
    is_done: bool,
}

impl Upgrader {
    fn record(world: &World) -> Option<InstanceRecord> {
        read_record(&world.driver.store, "up").expect("memory can be read")
    }
}

impl Outside for Upgrader {
    fn act(&mut self, world: &mut World, rests: bool) -> Result<Acted, String> {
        let Some(record) = Self::record(world) else {
            let args = Data::encode(&Value::list(Vec::new())).expect("data");
            let now = world.driver.now;
            let record = InstanceRecord::new("up", self.old.code.hash, "p.df", "o", args, now);
            world.driver.handle(Event::Begin { record, image: self.old.clone() });
            return Ok(Acted::Something);
        };
        self.is_done = record.status.is_ended();
        let is_held = !read_holds(&world.driver.store)?.is_empty();
        if record.program == self.new.code.hash || !rests || !is_held {
            return Ok(Acted::Nothing);
        }
        if !world.driver.engine.can_be_upgraded("up") {
            return Ok(Acted::Nothing);
        }
        let history = read_history(&world.driver.store, &record)?;
        let verdict = Judge::new(&self.new).verdict(Some(&self.old), &record, &history);
        let back = match (self.kind, verdict) {
            (Kind::GoesBack, Verdict::Diverges(of)) => {
                Some(Backward::plan((&self.new, Some(&self.old)), &record, &history, of.entry)?)
            }
            (Kind::Fits, Verdict::Fits { .. }) => None,
            (Kind::StateDiffers, verdict) if !verdict.allows(false) && verdict.allows(true) => None,
            (_, verdict) => return Err(format!("{verdict:?}")),
        };
        let from = record.program;
        let record = InstanceRecord { program: self.new.code.hash, ..record };
        let upgrade = Upgrade { record, image: self.new.clone(), history, from, stale: Vec::new(), back };
        world.driver.handle(Event::Upgrade(Box::new(upgrade)));
        world.say(|| "upgrade".into());
        Ok(Acted::Something)
    }

    fn arrive(&mut self, _: &mut World) -> Result<(), String> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}
