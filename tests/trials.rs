//! `durable test` runs tests on the engine in simulated time, with mocks for the outside, and again
//! with a crash at every commit.

mod common;

use std::fs;
use std::process::Command;

use common::DURABLE;
use tempfile::TempDir;

/// Writes a program and runs its tests. Returns the exit code and both outputs, or the report.
fn run(text: &str, options: &[&str]) -> (i32, String, String) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    let output =
        Command::new(DURABLE).arg("test").args(options).current_dir(folder.path()).output().expect("it runs");
    if let Ok(report) = fs::read_to_string(folder.path().join("report.xml")) {
        return (output.status.code().unwrap_or(-1), report, String::new());
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn passes(text: &str, options: &[&str]) -> String {
    let (code, out, error) = run(text, options);
    assert_eq!(code, 0, "{out}{error}");
    out
}

/// Runs tests of which one must fail. Returns the output.
fn fails(text: &str, options: &[&str]) -> String {
    let (code, out, error) = run(text, options);
    assert_eq!(code, 1, "{out}{error}");
    out
}

const BANK: &str = r#"
entity Bank {
  state {charged: 0}
  on charge(card, amount) { state.charged += amount }
}
activity charge(card, amount) => http.post("https://pay.example/", {card, amount}).status
"#;

#[test]
fn time_costs_nothing() {
    let out = passes(
        r#"test "a month" {
             let began = now()
             let tick = async do { sleep(1h); "tick" }
             sleep(30d)
             advance(1h)
             assert(now() - began == 30d + 1h)
             assert(await tick == "tick")
           }"#,
        &[],
    );
    assert!(out.contains("ok     a month"), "{out}");
    assert!(out.contains("in its own time"), "{out}");
}

#[test]
fn mocks_give_their_outcomes_in_turn_and_then_the_last_one() {
    passes(
        r#"activity charge(card, amount) with {retry: {times: 3, first: 1s}} => http.post("https://x/", {card}).status
           mock http.request with fn () => {status: 500}, fn (method, url) => {status: url.len()}
           test "two" { assert([charge("c", 1), charge("c", 2), charge("c", 3)] == [500, 10, 10]) }
           test "its own comes first, and failed attempts take their turn" {
             mock charge with fn () => throw {kind: "down", message: "down"}, fn (card) => card
             assert(charge("c", 1) == "c")
           }"#,
        &[],
    );
}

#[test]
fn outcomes_in_turn_and_the_time_within_which_they_come() {
    passes(
        r#"activity charge(card) with {timeout: 1m} => http.post("https://x/", {card}).status
           mock http.request in turn with fn () => {status: 500}, fn () => {status: 200} within 10s
           test "two" { assert([charge("c"), charge("c"), charge("c")] == [500, 200, 200]) }
           test "its own, on lines of their own, with names that are words elsewhere" {
             let turn = 1
             let within = 2
             mock charge in turn with
               fn () => 5,
               fn (card) => card
               within 1.5s
             assert([charge("c"), charge("d"), turn, within] == [5, "d", 1, 2])
             advance(1h)
           }"#,
        &[],
    );
}

/// An attempt that a crash interrupts is repeated with the same outcome, and uses up one turn of
/// the mock.
#[test]
fn an_attempt_that_is_made_again_takes_one_turn() {
    passes(
        r#"activity charge(card) => 0
           mock charge in turn with fn () => 1, fn () => 2, fn () => 3, fn () => 4, fn () => 5, fn () => 6
           test "turns" { assert([charge("a"), charge("b"), charge("c")] == [1, 2, 3]) }"#,
        &["--crash"],
    );
}

#[test]
fn one_example_may_stand_in_two_places() {
    let out = passes("/// One.\n///     1 + 1 == 2\n///     1 + 1 == 2\nfn f() => 1\n", &[]);
    assert!(out.contains("2 passed"), "{out}");
}

#[test]
fn a_file_has_one_test_of_a_name() {
    let (code, out, error) = run("test \"one\" { assert(true) }\ntest \"one\" { assert(false) }\n", &[]);
    assert_eq!((code, out.contains("passed, in")), (3, true), "{out}{error}");
    assert!(error.contains("two tests are named \"one\""), "{error}");
}

/// A stored program stays valid, even if a new program could not be like it.
#[test]
fn a_stored_program_goes_on_with_two_tests_of_one_name() {
    let text = "import \"b.df\" as f\nfn f() => 1\ntest \"a\" { }\ntest \"a\" { }\nprint(f())\n";
    let texts =
        [("a.df", text), ("b.df", "fn g() => 1\n")].map(|(name, text)| (name.to_string(), text.to_string()));
    let mut all = texts.to_vec();
    let std = durable::check::std_sources().iter();
    all.extend(std.map(|(name, text)| (format!("std:{name}.df"), text.to_string())));
    assert!(durable::check::load_stored(&all).expect("a program").is_sound());
    let read = |key: &str| {
        texts.iter().find(|(name, _)| name == key).map(|(_, text)| text.clone()).ok_or(String::new())
    };
    assert!(!durable::check::load("a.df", text.to_string(), &read).is_sound());
}

#[test]
fn random_numbers_are_the_same_in_each_run() {
    let text = r#"test "random" { print([random_int(1, 1_000_000), random(), uuid()]); assert(false) }"#;
    let (first, second) = (fails(text, &[]), fails(text, &[]));
    let printed = |out: &str| out.lines().nth(3).map(str::to_string);
    assert!(printed(&first).is_some_and(|line| line.contains("[")), "{first}");
    assert_eq!(printed(&first), printed(&second));
}

#[test]
fn an_assertion_shows_both_sides_and_where_they_differ() {
    let out = fails(r#"test "a" { assert({a: [1, {b: 2}]} == {a: [1, {b: 5}]}, "the same") }"#, &[]);
    assert!(out.contains("the same: the sides differ at `.a[1].b`: 2 on the left, 5 on the right"), "{out}");
    assert!(out.contains("right  {a: [1, {b: 5}]}"), "{out}");
    let cases = [
        (
            "[1] == [1, 2]",
            "1 element on the left, 2 elements on the right; the first that only the right has is 2",
        ),
        ("{a: 1} == {}", "only the left has `a`, which is 1"),
        ("{a: {}} == {a: {\"b c\": 1}}", "the sides differ at `.a`: only the right has `b c`, which is 1"),
        ("1 == \"1\"", "1 (an int) on the left, \"1\" (a string) on the right"),
        ("3 <= 2", "`<=` does not hold: 3 on the left, 2 on the right"),
        ("1 + 1 != 2", "both sides are 2"),
        ("[1].is_empty()", "an assertion does not hold"),
    ];
    for (condition, said) in cases {
        let out = fails(&format!("test \"a\" {{ assert({condition}) }}"), &[]);
        assert!(out.contains(said), "{condition}\n{out}");
    }
}

#[test]
fn an_expected_error_is_given_back_or_missed() {
    passes(r#"test "a" { assert(assert_throws(fn () => div(1, 0)).kind == "division_by_zero") }"#, &[]);
    let out = fails(r#"test "a" { assert_throws(fn () => div(1, 0), "overflow") }"#, &[]);
    assert!(out.contains("an error of kind overflow was expected, not {kind: \"division_by_zero\""), "{out}");
    let out = fails(r#"test "a" { assert_throws(fn () => 1) }"#, &[]);
    assert!(out.contains("an error was expected, but there is the value 1"), "{out}");
}

#[test]
fn what_stops_a_test_is_named() {
    let cases = [
        (r#"test "a" { receive("never") }"#, "main waits for receive(\"never\"), a.df:1:12"),
        (r#"test "a" { fs.read("x") }"#, "Help: say what can come of it: `mock fs.read with"),
        (
            r#"orchestration bad() { throw {kind: "bad", message: "so"} }
               test "a" { start bad(); sleep(1s) }"#,
            "main:0 failed, and nobody awaited it",
        ),
        (
            r#"entity E { state 0; on add() { state += 1 } }
               invariant "at most one" { states_of(E).all(fn e => e.state < 2) }
               test "a" { E(1).add(); E(1).add() }"#,
            "the invariant \"at most one\" does not hold",
        ),
        (
            r#"entity E { state 0; on add() { state += 1 } }
               test "a" { E(1).add(); eventually "two" { state_of(E(1)) == 2 } }"#,
            "at the end, \"two\" does not hold",
        ),
        (r#"test "a" { while true { sleep(1h) } }"#, "it does not come to an end"),
        (r#"test "a" { while true {} }"#, "it does not come to an end"),
    ];
    for (text, said) in cases {
        let out = fails(text, &[]);
        assert!(out.contains(said), "{text}\n{out}");
    }
}

#[test]
fn a_crash_shows_what_is_done_twice() {
    let text =
        format!("{BANK}\nmock charge with Bank(\"world\").charge\ntest \"once\" {{ charge(\"c\", 10) }}");
    passes(&text, &[]);
    let out = fails(&text, &["--crash"]);
    assert!(
        out.contains("killed before commit 2 of 2 and gone on with, it does not come to the same"),
        "{out}"
    );
    assert!(out.contains("without a crash: {charged: 10}"), "{out}");
    assert!(out.contains("with it:         {charged: 20}"), "{out}");
    // An entity that remembers idempotency keys charges once.
    let keyed = text
        .replace("state {charged: 0}", "state {charged: 0, seen: []}")
        .replace("{ state.charged += amount }", "{ if !state.seen.contains(idempotency_key()) { state.charged += amount; state.seen += [idempotency_key()] } }");
    let out = passes(&keyed, &["--crash"]);
    assert!(out.contains("1 passed, 4 crashes"), "{out}");
}

/// A later time or another number of attempts is all that follows from the attempt that a crash
/// costs, and no alarm. An activity without another attempt fails, which is one.
#[test]
fn a_crash_that_only_costs_an_attempt_is_no_alarm() {
    let declared = "activity pay() with {retry: {times: 3, first: 1m}} { http.get(\"http://a/\").status }\n\
                    activity once() with {retry: {times: 1}} { http.get(\"http://a/\").status }\n\
                    activity twice() with {retry: {times: 2, first: 1s}} { http.get(\"http://a/\").status }\n\
                    mock http.request in turn with fn () => throw {kind: \"down\"}, fn () => {status: 200}\n";
    let time = format!("{declared}test \"time\" {{ let t = now(); pay(); assert(now() - t == 1m); now() }}");
    passes(&time, &["--crash"]);
    let lone =
        format!("{declared}test \"lone\" {{ mock http.request with fn () => {{status: 200}}\nonce() }}");
    assert!(fails(&lone, &["--crash"]).contains("interrupted"));
    let few = format!("{declared}test \"few\" {{ assert(twice() == 200) }}");
    passes(&few, &[]);
    fails(&few, &["--crash"]);
}

/// An instance that waits for one that has already ended gets the result through every crash.
#[test]
fn an_end_that_came_before_its_waiter_is_told_through_every_crash() {
    let declared = r#"
        orchestration fails() { throw {kind: "x"} }
        orchestration later() { sleep(1m); throw {kind: "x"} }
        orchestration waits(h) { try { wait(h) } catch { kind } { kind } }
        orchestration passes_on() { let h = start fails(); wait(h) }
    "#;
    let tests = [
        r#"let h = start fails(); try { wait(h) } catch _ { null }"#,
        r#"let h = start fails(); sleep(1s); assert(try { wait(h) } catch {kind} { kind } == "x")"#,
        r#"let h = start later(); advance(2m); assert_throws(fn () => wait(h), "x")"#,
        r#"let h = start fails() with {id: "named"}; sleep(1s); assert_throws(fn () => wait("named"), "x"); assert_throws(fn () => wait(h), "x")"#,
        r#"let h = start fails(); sleep(1s); assert(waits(h) == "x")"#,
        r#"let h = start fails(); sleep(1s); assert(all([async waits(h), async waits(h)]) == ["x", "x"])"#,
        r#"assert_throws(fn () => passes_on(), "x")"#,
        r#"let h = start passes_on(); sleep(1s); assert_throws(fn () => wait(h), "x")"#,
        r#"let h = start later(); match race({ended: async waits(h), late: async sleep(2m)}) { {ended} => assert(ended == "x"); {late} => assert(late) }"#,
        // A day passes in between, and neither instance is in memory.
        r#"let h = start later(); let g = start later(); advance(1m); advance(1d); assert_throws(fn () => wait(h), "x"); assert_throws(fn () => wait(g), "x")"#,
        r#"let hs = range(0, 3).map(fn n => start fails()); sleep(1s); for h in hs { assert_throws(fn () => wait(h), "x") }"#,
    ];
    let mut text = declared.to_string();
    for (number, body) in tests.iter().enumerate() {
        text.push_str(&format!("test \"{number}\" {{ {body} }}\n"));
    }
    let out = passes(&text, &["--crash"]);
    assert!(out.contains("11 passed"), "{out}");
    // A failure that nobody awaits is reported.
    let out = fails(&format!("{declared} test \"unseen\" {{ start fails() }}"), &["--crash"]);
    assert!(out.contains("nobody awaited it"), "{out}");
}

#[test]
fn tests_of_the_tour_survive_every_crash() {
    let tour = fs::read_to_string(common::repository("docs/tour.md")).expect("the tour");
    let programs = tour.split("```df\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut tried = 0;
    for text in programs.filter(|text| text.contains("test \"")) {
        passes(text, &["--crash"]);
        tried += 1;
    }
    assert!(tried >= 3, "{tried} programs have tests");
}

#[test]
fn tests_of_the_examples_survive_every_crash() {
    // The tests of the cookbook have worlds that count attempts; `tests/cookbook.rs` runs them.
    let mut files: Vec<_> = ["examples", "examples/paper"]
        .into_iter()
        .flat_map(|folder| fs::read_dir(common::repository(folder)).expect("a folder"))
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "df"))
        .collect();
    files.sort();
    let output = Command::new(DURABLE)
        .args(["test", "--crash"])
        .args(files)
        .current_dir(common::repository(""))
        .output()
        .expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("crashes"), "{out}");
}

#[test]
fn lines_of_code_in_doc_comments_are_tests() {
    let text =
        "/// Doubles.\n///     double(2) == 4\n///     double(\"a\") == \"{1}\"\nfn double(x) => x * 2\n";
    let out = fails(text, &[]);
    assert!(out.contains("ok     doc of double: double(2) == 4"), "{out}");
    assert!(out.contains("FAILED doc of double: double(\"a\") == \"{1}\""), "{out}");
    assert!(out.contains("type_error"), "{out}");
}

#[test]
fn fenced_code_in_doc_comments_is_a_test() {
    let text = "/// Doubles.\n/// ```df\n/// let a = double(2)\n/// a == 4 // as it should\n/// double(a) == 9 && true\n/// ```\n\
                /// ```sh\n/// durable run\n/// ```\n/// ```\n/// !(double(1) == 3)\n/// ```\nfn double(x) => x * 2\n";
    let out = fails(text, &[]);
    assert!(out.contains("FAILED doc of double: let a = double(2) …"), "{out}");
    assert!(out.contains("8 on the left, 9 on the right") || out.contains("double(a) == 9"), "{out}");
    assert!(out.contains("ok     doc of double: !(double(1) == 3) …"), "{out}");
    passes(&text.replace("== 9", "== 8"), &["--crash"]);
}

#[test]
fn files_filters_and_reports() {
    let text = "test \"one\" { assert(true) }\ntest \"two < three\" { print(\"seen\"); assert(false) }";
    let out = passes(text, &["--filter", "one"]);
    assert!(out.contains("1 passed, 1 left out"), "{out}");
    let report = fails(text, &["--junit", "report.xml"]);
    assert!(report.contains("<testsuite name=\"a.df\" tests=\"2\" failures=\"1\""), "{report}");
    assert!(report.contains("name=\"two &lt; three\""), "{report}");
    assert!(report.contains("<system-out>seen</system-out>"), "{report}");
    let (code, _, error) = run("let = 1", &[]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("1 file with mistakes"), "{error}");
    let (code, out, error) = run("print(1)", &[]);
    assert_eq!((code, out.starts_with("0 passed")), (0, true), "{error}");
    assert!(error.contains("there are no tests"), "{error}");
}

#[test]
fn a_test_looks_into_entities_and_instances() {
    let text = r#"
entity Counter {
  state {n: 0}
  on add(k) { state.n += k }
}
entity World {
  state []
  on record(what) { state += [what] }
}
activity record(what) { fs.append("log", what) }
orchestration counts(key) {
  signal Counter(key).add(1)
  record(key)
  receive("go")
  signal Counter(key).add(1)
  if key == "bad" { throw {kind: "odd", message: "no"} }
  key
}
fn sum_of(kind) => states_of(kind).map(fn e => e.state.n).sum()

test "looks" {
  mock record with World("w").record
  assert(state_of(Counter("a")) == {n: 0})
  let a = start counts("a") with {id: "a"}
  let bad = start counts("bad") with {id: "bad"}
  advance(1s)
  assert(state_of(Counter("a")) == {n: 1})
  assert(outcome_of("a").status == "running")
  assert(outcome_of("nobody") == null)
  raise(a, "go")
  raise(bad, "go")
  advance(1s)
  assert(state_of(Counter("a")) == {n: 2})
  assert(sum_of(Counter) == 4)
  assert(outcome_of(a).status == "completed")
  assert(outcome_of(bad).status == "failed")
  assert(state_of(World("w")) == ["a", "bad"])
  assert_throws(fn () => wait(bad), "odd")
}
"#;
    passes(text, &[]);
    // A script can't read states, and exploration would find another state in every schedule.
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    let durable = |args: &[&str]| {
        let output = Command::new(DURABLE).args(args).current_dir(folder.path()).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = durable(&["explore", "a.df"]);
    assert!(code == Some(3) && said.contains("a test that looks at states"), "{said}");
    fs::write(folder.path().join("b.df"), "entity C { state 0 }\nfn f() => state_of(C(1))\nf()\n")
        .expect("a program");
    let (code, said) = durable(&["run", "b.df"]);
    assert!(code == Some(1) && said.contains("context: `state_of` is possible in a test"), "{said}");
    fs::write(folder.path().join("c.df"), "entity C { state 0 }\norchestration f() => state_of(C(1))\n")
        .expect("a program");
    let (code, said) = durable(&["check", "c.df"]);
    assert!(
        code == Some(3) && said.contains("only a test, a property or a mock looks into others"),
        "{said}"
    );
}

#[test]
fn a_test_of_very_many_commits_is_crashed_at_some_of_them() {
    let text = "orchestration f() {\n  for n in 0..3000 { sleep(1s) }\n}\ntest \"long\" { f() }\n";
    let out = passes(text, &["--crash=20"]);
    let crashes: u32 = out
        .split("passed, ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!((10..=20).contains(&crashes), "{out}");
}
