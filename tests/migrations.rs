//! Migrations: a new text of an entity brings each state to its own form, once.

mod common;

use common::place::Place;

const FIRST: &str =
    "entity Account {\n  state 100\n  on add(n) { state += n; state }\n  on all() => state\n}\n";

/// The text with so many migrations.
fn later(count: usize) -> String {
    let steps = [
        "fn old => {balance: old}",
        "fn old => {balance: old.balance, currency: \"EUR\"}",
        "fn old => {balance: old.balance / 0, currency: \"EUR\"}",
    ];
    let migrations: String =
        steps[..count].iter().map(|step| format!("  migrate state with {step}\n")).collect();
    format!(
        "entity Account {{\n  state {{balance: 100, currency: \"EUR\"}}\n{migrations}  on add(n) {{ state.balance += n; state.balance }}\n  on all() => state\n}}\n"
    )
}

fn deploy(place: &Place, text: &str) {
    place.put("p.df", text);
    place.run(&["deploy", "p.df"]);
}

fn call(place: &Place, args: &[&str]) -> String {
    place.ok(&[&["call"], args].concat())
}

#[test]
fn a_state_is_migrated_before_the_first_operation_of_the_new_text() {
    let place = Place::new(FIRST);
    deploy(&place, FIRST);
    assert_eq!(call(&place, &["Account@a", "add", "5"]), "105");
    deploy(&place, &later(1));
    assert!(place.ok(&["entity", "Account@a"]).contains("105"), "a deployment changes no state");
    assert_eq!(call(&place, &["Account@a", "all"]), "{balance: 105}");
    assert_eq!(call(&place, &["Account@a", "add", "1"]), "106");
    // A state of two versions before takes both steps, and a new state none.
    deploy(&place, FIRST);
    call(&place, &["Account@old", "add", "1"]);
    deploy(&place, &later(2));
    assert_eq!(call(&place, &["Account@old", "all"]), "{balance: 101, currency: \"EUR\"}");
    assert_eq!(call(&place, &["Account@a", "all"]), "{balance: 106, currency: \"EUR\"}");
    assert_eq!(call(&place, &["Account@new", "add", "1"]), "101");
    assert_eq!(call(&place, &["Account@new", "all"]), "{balance: 101, currency: \"EUR\"}");
    place.ok(&["store", "verify"]);
    // A copy of the store knows the versions.
    place.ok(&["store", "export", "all.jsonl"]);
    assert_eq!(place.text("all.jsonl").matches("\"type\":\"version\"").count(), 3);
    place.ok(&["store", "import", "all.jsonl", "--store", "copy"]);
    assert_eq!(call(&place, &["Account@a", "add", "1", "--store", "copy"]), "107");
}

#[test]
fn a_migration_that_fails_leaves_the_state_as_it_was() {
    let place = Place::new(FIRST);
    deploy(&place, FIRST);
    call(&place, &["Account@a", "add", "5"]);
    deploy(&place, &later(3));
    let said = place.refused(1, &["call", "Account@a", "add", "1"]);
    assert!(said.contains("division_by_zero"), "{said}");
    assert!(place.ok(&["entity", "Account@a"]).contains("105"), "no step of it is kept");
    deploy(&place, &later(2));
    assert_eq!(call(&place, &["Account@a", "add", "1"]), "106");
}

#[test]
fn a_text_that_knows_fewer_versions_is_refused() {
    let place = Place::new(FIRST);
    deploy(&place, &later(2));
    call(&place, &["Account@a", "add", "5"]);
    deploy(&place, &later(1));
    let said = place.refused(1, &["call", "Account@a", "add", "1"]);
    assert!(said.contains("the state of Account@a has version 2"), "{said}");
    deploy(&place, &later(2));
    assert_eq!(call(&place, &["Account@a", "add", "1"]), "106");
}

/// An instance of an old text calls the operations of the new one.
#[test]
fn instances_of_the_old_text_use_the_migrated_state() {
    let text = format!(
        "{FIRST}orchestration o() {{ Account(\"a\").add(1); receive(\"go\"); Account(\"a\").add(1) }}\n"
    );
    let place = Place::new(&text);
    let server = place.serve();
    place.ok(&["start", "p.df", "o", "--id", "x"]);
    common::place::await_that(|| place.ok(&["show", "x"]).contains("receive"));
    deploy(&place, &later(1));
    place.ok(&["raise", "x", "go"]);
    assert_eq!(place.result("x"), serde_json::json!(102));
    assert_eq!(call(&place, &["Account@a", "all"]), "{balance: 102}");
    server.stop();
}
