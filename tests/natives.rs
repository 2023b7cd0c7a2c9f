//! Natives on large values: a call that would take too much memory fails in advance, and a long
//! call gives others their turns.

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::DURABLE;
use tempfile::TempDir;

/// Runs a script, and compares its output with the expectations in it.
fn runs(text: &str) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("s.df"), text).expect("a script");
    let output = Command::new(DURABLE)
        .current_dir(folder.path())
        .args(["run", "s.df"])
        .stdin(Stdio::null())
        .output()
        .expect("durable runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {said}", output.status);
    let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("// expect: ")).collect();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{said}");
}

#[test]
fn further_matches_are_looked_for_in_steps() {
    runs(
        r#"
let text = "aé".repeat(200_000)
let all = regex.find_all(text, "é")
print([all.len(), all[0].start, all.last().start, all.last().end])
print(regex.replace(text, "(é)", "<$1>").len())
print(regex.split(text, "é").len())
print(regex.split(text, "").len())
print(regex.find_all("aébc", "").map(fn m => m.start))
print(regex.find_all("aébc", "x*").map(fn m => m.start))
print(regex.find_all("aab", "a*").map(fn m => m.text))
print(regex.find_all("one two", "\\b").map(fn m => m.start))
print(regex.find_all("a\nb", "(?m)^.").map(fn m => m.text))
print([regex.replace("aébc", "", "-"), regex.replace("aab", "a*", "-"), regex.replace("", "^", "x"), regex.replace("ab", "c", "x")])
print([regex.split("aébc", ""), regex.split("", ","), regex.split(",a,,b,", ",")])
// expect: [200000, 1, 399999, 400000]
// expect: 800000
// expect: 200001
// expect: 400002
// expect: [0, 1, 2, 3, 4]
// expect: [0, 1, 2, 3, 4]
// expect: ["aa", ""]
// expect: [0, 3, 4, 7]
// expect: ["a", "b"]
// expect: ["-a-é-b-c-", "-b-", "x", "ab"]
// expect: [["", "a", "é", "b", "c", ""], [""], ["", "a", "", "b", ""]]
"#,
    );
}

#[test]
fn what_takes_too_much_memory_is_an_error_before() {
    runs(
        r#"
fn limited(f) => try { f(); "done" } catch {kind} { kind }
let long = "x".repeat(60_000_000)
print(limited(fn () => regex.split(long, "")))
print(limited(fn () => regex.replace("a".repeat(100_000), "a", "b".repeat(40_000))))
print(limited(fn () => long.split("")))
print(limited(fn () => long.chars()))
print(limited(fn () => "\n".repeat(60_000_000).lines()))
print(limited(fn () => ",".repeat(60_000_000).split(",")))
print(limited(fn () => csv.parse(",".repeat(60_000_000), {header: false})))
print(limited(fn () => json.encode("\u{1}".repeat(60_000_000))))
print(limited(fn () => bytes.hex(bytes.of("x".repeat(200_000_000)))))
print(limited(fn () => bytes.base64(bytes.of("x".repeat(250_000_000)))))
print(limited(fn () => csv.encode([range(0, 9).map(fn _ => long)])))
print(limited(fn () => range(0, 9).map(fn _ => long).join("")))
print(limited(fn () => regex.matches(long, "(a?)\{300\}b")))
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
// expect: limit
"#,
    );
}

#[test]
fn shared_parts_are_compared_once() {
    runs(
        r#"
var a = [1]
var b = [1]
var c = [2]
var r = {x: 1}
var s = {x: 1}
for _ in 0..60 { a = [a, a]; b = [b, b]; c = [c, c]; r = {l: r, r: r}; s = {l: s, r: s} }
print([a == b, a == c, r == s, [a].contains(b), [a, b, c].unique().len()])
print([a <= b, a < c, [c, b, a].sort()[2] == c, min(a, c) == a, [c, a].sort_by(fn x => x)[0] == b])
// expect: [true, false, true, true, 2]
// expect: [true, true, true, true, true]
"#,
    );
}

#[test]
fn orders_that_are_drawn() {
    runs(
        r#"
fn tries(f) => try { f() } catch e { "{e.kind}: {e.message}" }
let xs = range(0, 50)
print([random.shuffle([]), random.shuffle([1]), random.sample([1, 2], 10).sort(), random.sample(xs, 0), random.sample(xs, -1), random.choice(["only"])])
print([tries(fn () => random.sample(xs, "2")), tries(fn () => random.shuffle("abc"))])
var counts = {}
for _ in 0..300 { let order = random.shuffle(["a", "b", "c"]).join(); counts[order] = counts.get(order, 0) + 1 }
print([counts.len(), counts.values().all(fn n => n > 20)])
activity draw() => random.sample([1, 2, 3], 3).sort()
print(draw())
let early = uuid.v7()
sleep(2ms)
print(early < uuid.v7())
// expect: [[], [1], [1, 2], [], [], "only"]
// expect: ["type_error: `sample` takes a number of elements, an int, not a string", "type_error: a list was expected, not a string"]
// expect: [6, true]
// expect: [1, 2, 3]
// expect: true
"#,
    );
}

/// Calculation with a zone takes the rules from the recorded answer, and none from the database of
/// the running version. Here the answer has the rules of a zone nine hours east of Greenwich.
#[test]
fn a_zone_has_the_rules_that_were_recorded() {
    let folder = TempDir::new().expect("a folder");
    let text = r#"
mock time.zone with fn (name) => {zone: name, rules: bytes.from_base64("RULES")}
test "the rules are those of the answer" {
  let t = time.parse("2026-07-01T12:00:00Z")
  let zone = time.zone("Europe/Berlin")
  assert(t.hour(zone) == 21)
  assert(time.of({year: 2026, hour: 9}, zone) == time.parse("2026-01-01T00:00:00Z"))
  assert(cron.next("0 21 * * *", t, zone) == t + 1d)
}
"#;
    let text = text.replace("RULES", "VFppZjIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAAAQAAH6QAAArMDkAVFppZjIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQAAAAQAAH6QAAArMDkACjwrMDk+LTkK");
    fs::write(folder.path().join("s.df"), text).expect("a program");
    let output = Command::new(DURABLE).current_dir(folder.path()).args(["test", "s.df"]).output();
    let output = output.expect("durable runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
