//! What-if: runs go on from an entry in memory, begin anew from there, and become tests.

mod common;

use common::place::{Place, await_that, err, out};
use common::program::{areas, programs};
use common::sim::World;
use durable::engine::{read_history, read_record};
use durable::explore::written;
use serde_json::{Value as Json, json};

const TEXT: &str = r#"
activity charge(order, amount) { fs.append("log", "charge {order} {amount}\n"); if amount > 100 { throw {kind: "declined"} }; amount }
activity ship(order) { fs.append("log", "ship {order}\n"); "shipped {order}" }
orchestration order(id, price) {
  let paid = try { charge(id, price) } catch {kind: "declined"} { charge(id, 100) }
  let answer = race({address: async receive("address"), late: async sleep(1h)})
  match answer {
    {address} => ship("{id} to {address}")
    _ => "nothing"
  }
}
"#;

/// A place in which the order `x` has ended: charged, and shipped home.
fn ended() -> Place {
    let place = Place::new(TEXT);
    place.ok(&["start", "p.df", "order", "a", "10", "--id", "x"]);
    place.ok(&["raise", "x", "address", "home"]);
    place.ok(&["resume", "x"]);
    assert_eq!(place.result("x"), json!("shipped a to home"));
    place
}

fn lines(place: &Place, args: &[&str]) -> Vec<Json> {
    let all = place.ok(&[&["fork", "x", "--json"], args].concat());
    all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Without other answers a run does what happened, from every entry.
#[test]
fn a_run_without_other_answers_does_what_happened() {
    let place = ended();
    let before = place.history("x");
    for at in 0..before.len() {
        let steps = lines(&place, &["--at", &at.to_string()]);
        let end = steps.last().expect("an end");
        assert_eq!(
            (&end["kind"], &end["result"]),
            (&json!("completed"), &json!("shipped a to home")),
            "{at}"
        );
        assert!(
            steps.iter().all(|step| step["kind"] != "missing" && step["happened"] != json!(false)),
            "{at}"
        );
    }
    assert_eq!(place.history("x"), before);
    assert_eq!(place.text("log"), "charge a 10\nship a to home\n", "nothing outside is touched");
}

#[test]
fn other_answers_show_where_the_run_differs() {
    let place = ended();
    let said = place.ok(&[
        "fork",
        "x",
        "--at",
        "1",
        "--answer",
        "charge(\"a\", 10)={\"$error\": {\"kind\": \"declined\"}}",
    ]);
    assert!(said.contains("≠ #0 → error {kind: \"declined\"}, given; happened: 10"), "{said}");
    assert!(said.contains("+ #1 charge(\"a\", 100)\n     p.df:5:67: let paid"), "{said}");
    assert!(said.contains("it waits for answers that nobody has given:\n  #1 charge(\"a\", 100)"), "{said}");
    let said = place.ok(&[
        "fork",
        "x",
        "--at",
        "1.7",
        "--answer",
        "charge(\"a\", 10)={\"$error\": {\"kind\": \"declined\"}}",
        "--answer",
        "charge=100",
    ]);
    assert!(said.contains("it completes: \"shipped a to home\""), "{said}");
    // Time passes at once where an event does not come.
    let said =
        place.ok(&["fork", "x", "--at", "2", "--answer", "receive={\"$error\": {\"kind\": \"gone\"}}"]);
    assert!(said.contains("it fails: {kind: \"gone\"}"), "{said}");
    let wrong = place.refused(2, &["fork", "x", "--at", "2", "--answer", "charge"]);
    assert!(wrong.contains("it has no `=`"), "{wrong}");
    place.refused(1, &["fork", "x", "--at", "99"]);
    place.refused(2, &["fork", "x", "--at", "soon"]);
    let unused = err(&place.run(&["fork", "x", "--at", "2", "--answer", "refund=1"]));
    assert!(unused.contains("no request is `refund`"), "{unused}");
}

#[test]
fn mocks_and_other_texts_take_part() {
    let place = ended();
    place.put("mocks.df", "mock ship in turn with fn (order) => \"mocked {order}\"\n");
    let said = place.ok(&["fork", "x", "--at", "4", "--mock", "mocks.df"]);
    assert!(said.contains("→ \"mocked a to home\", by a mock; happened: \"shipped a to home\""), "{said}");
    place.put("new.df", &TEXT.replace("ship(\"{id} to {address}\")", "ship(\"{address}\")"));
    let said = place.ok(&["fork", "x", "--at", "4", "--program", "new.df", "--mock", "mocks.df"]);
    assert!(said.contains("+ #3 ship(\"home\")"), "{said}");
    assert!(said.contains("- #3 ship(\"a to home\"), which happened"), "{said}");
    place.put("other.df", &TEXT.replace("charge(id, price)", "charge(id, 2 * price)"));
    let said = place.refused(1, &["fork", "x", "--at", "4", "--program", "other.df"]);
    assert!(said.contains("the text diverges at entry 1"), "{said}");
    assert_eq!(place.text("log"), "charge a 10\nship a to home\n");
}

/// A new instance begins after an entry, and repeats nothing of what was before.
#[test]
fn a_new_instance_begins_in_the_middle() {
    let place = ended();
    let output = place.run(&["fork", "x", "--at", "2", "--start", "y", "--dry-run"]);
    assert!(err(&output).contains("not repeated: charge(\"a\", 10) #0"), "{}", err(&output));
    place.refused(5, &["status", "y"]);
    let output = place.run(&["fork", "x", "--at", "2", "--start", "y"]);
    assert_eq!(out(&output), "y\n");
    place.refused(1, &["fork", "x", "--at", "2", "--start", "y"]);
    let last = place.history("x").len().to_string();
    let said = place.refused(1, &["fork", "x", "--at", &last, "--start", "z"]);
    assert!(said.contains("it has ended at entry"), "{said}");
    place.ok(&["raise", "y", "address", "away"]);
    assert_eq!(place.result("y"), json!("shipped a to away"));
    assert_eq!(place.text("log"), "charge a 10\nship a to home\nship a to away\n");
    place.ok(&["replay", "y"]);
    place.ok(&["verify-run", "--all"]);
    place.ok(&["store", "verify"]);
}

/// Open calls are made again under the new id, since their answers come to the other instance.
#[test]
fn open_calls_are_made_again() {
    let text = "entity Box { state 0; on add(n) { state += n; state } }\norchestration kid(n) { receive(\"go\"); n }\norchestration o() { Box(1).add(1); let k = async kid(2)\n receive(\"on\"); [await k, Box(1).add(1)] }\n";
    let place = Place::new(text);
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    await_that(|| place.ok(&["show", "x"]).contains("receive"));
    let all = place.history("x").len().to_string();
    let said = err(&place.run(&["fork", "x", "--at", &all, "--start", "y"]));
    assert!(said.contains("not repeated: Box(1).add(1) #0"), "{said}");
    assert!(said.contains("made again under y: kid(2) #1"), "{said}");
    await_that(|| place.ok(&["list"]).contains("y:1"));
    place.ok(&["raise", "y:1", "go"]);
    place.ok(&["raise", "y", "on"]);
    assert_eq!(place.result("y"), json!([2, 2]));
    server.stop();
    place.ok(&["replay", "y"]);
    place.ok(&["verify-run", "--all"]);
}

/// A run is written as a test, which passes beside the text.
#[test]
fn a_run_becomes_a_test() {
    let place = ended();
    let block = place.ok(&["test", "--from", "x"]);
    assert!(block.starts_with("test \"order as in x\" {"), "{block}");
    assert!(block.contains("mock charge with fn () => 10"), "{block}");
    place.put("tested.df", &format!("{TEXT}\n{block}\n"));
    assert!(place.ok(&["test", "tested.df"]).contains("1 passed"));
    // With another price the test fails.
    place.put("tested.df", &format!("{}\n{block}\n", TEXT.replace("\"{id} to {address}\"", "\"{address}\"")));
    place.put("tested.df", &place.text("tested.df").replace("=> \"shipped a to home\"", "=> \"other\""));
    assert_eq!(place.code(&["test", "tested.df"]), 1);
    place.ok(&["start", "p.df", "order", "b", "10", "--id", "open"]);
    let said = place.refused(1, &["test", "--from", "open"]);
    assert!(said.contains("has not ended"), "{said}");
}

/// The runs of conformance programs become tests that pass, or there is a reason why not.
#[test]
fn runs_of_conformance_programs_become_tests() {
    let (mut count, mut refused) = (0, Vec::new());
    for area in areas() {
        for program in programs(&area) {
            if program.expects_mistake() || program.is_of_another_world() {
                continue;
            }
            let image = program.image();
            let mut world = World::new(image.clone(), 1);
            world.with(&program.args(), &program.input());
            (world.orderly, world.fine) = (true, true);
            if world.run_to_the_end().is_err() {
                continue;
            }
            let store = &world.driver.store;
            let root = read_record(store, common::sim::ID).expect("a record").expect("the script");
            let mut tree = vec![root];
            tree.extend(world.records().into_iter().filter(|record| record.id != common::sim::ID));
            let tree: Vec<_> = tree
                .into_iter()
                .map(|record| {
                    let history = read_history(store, &record).expect("a history");
                    (record, history)
                })
                .collect();
            match written(&image.code.sources.texts(), &tree) {
                Ok(_) => count += 1,
                Err(why) => refused.push((why, program.name.clone())),
            }
        }
    }
    refused.sort();
    for (why, name) in &refused {
        println!("{name}: {why}");
    }
    println!("{count} become tests, {} do not", refused.len());
    assert!(count > 60, "only {count} become tests");
}
