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
