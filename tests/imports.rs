//! Imports are all or nothing, overwrite nothing, and are complete.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::DURABLE;
use tempfile::TempDir;

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let run = durable(folder, args);
    assert_eq!(run.status.code(), Some(0), "{args:?}: {}", stderr(&run));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

const PROGRAM: &str = "entity Account {\n  state 0\n  on add(n) { state += n }\n}\n\
    orchestration order(what) {\n  Account(\"a\").add(1)\n  receive(\"approval\")\n  what\n}\n\
    activity f(n) => n\nfor i in 0..5 { f(i) }\nprint(\"hello\")\n";

/// Returns a store with an ended instance, one that waits, and an entity; and its export.
fn example() -> (TempDir, String) {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("p.df"), PROGRAM).expect("a program");
    ok(folder.path(), &["run", "p.df", "--id", "x"]);
    ok(folder.path(), &["start", "p.df", "order", "tea", "--id", "waits"]);
    ok(folder.path(), &["signal", "Account@b", "add", "5"]);
    let exported = ok(folder.path(), &["store", "export"]);
    (folder, exported)
}

/// Imports a text into the named store.
fn import(folder: &Path, text: &str, store: &str) -> Output {
    fs::write(folder.join("in.jsonl"), text).expect("a file");
    durable(folder, &["store", "import", "in.jsonl", "--store", store])
}

/// Returns the lines of an export without the first, which has the count.
fn rest(text: &str) -> Vec<String> {
    text.lines().skip(1).map(str::to_string).collect()
}

/// Numbers and times from which the store would go on to the end of what it can count.
#[test]
fn a_store_is_not_brought_to_the_end_of_its_numbers_or_times() {
    let (folder, exported) = example();
    let lines: Vec<&str> = exported.lines().collect();
    let with = |kind: &str, field: &str, value: &str| {
        let changed = lines.iter().map(|line| {
            let mut json: serde_json::Value = serde_json::from_str(line).expect("a line");
            if json["type"] == kind {
                json[field] = serde_json::from_str(value).expect("a value");
            }
            format!("{json}\n")
        });
        changed.collect::<String>()
    };
    let (late, huge) = ("\"2262-04-11T23:47:16Z\"", "18446744073709551615");
    let life = format!("{}\n{{\"type\":\"life\",\"life\":{huge}}}\n", lines[0]);
    for text in [
        with("time", "time", late),
        with("instance", "created", late),
        with("instance", "life", huge),
        with("instance", "execution", "4294967295"),
        life,
    ] {
        let run = import(folder.path(), &text, "late");
        assert_eq!(run.status.code(), Some(2), "{text}");
        assert!(stderr(&run).contains("is not a line of an export"), "{}", stderr(&run));
    }
    // A store whose clock was wrong by decades goes on.
    let run = import(folder.path(), &with("time", "time", "\"2199-12-31T23:59:59Z\""), "early");
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    ok(folder.path(), &["run", "p.df", "--id", "later", "--store", "early"]);
}

/// Instances without their program are left out with their whole histories, and nothing else is.
#[test]
fn many_incomplete_instances_are_left_out_with_their_histories() {
    let folder = TempDir::new().expect("a folder");
    let program = "orchestration o(n) { n }\nfor h in range(0, 2000).map(fn n => start o(n)) { wait(h) }\n";
    fs::write(folder.path().join("p.df"), program).expect("a program");
    ok(folder.path(), &["run", "p.df", "--id", "x"]);
    let exported = ok(folder.path(), &["store", "export"]);
    // An export of a damaged store does not say how many lines it has.
    let kept = exported.lines().skip(1).filter(|line| !line.starts_with("{\"type\":\"program\""));
    let head = "{\"type\":\"store\",\"format\":5,\"commits\":0}\n";
    let partial = kept.fold(head.to_string(), |text, line| text + line + "\n");
    fs::write(folder.path().join("in.jsonl"), partial).expect("a file");
    let run = durable(folder.path(), &["store", "import", "in.jsonl", "--damaged", "--store", "copy"]);
    assert!(stderr(&run).contains("the program"), "{}", stderr(&run));
    let left = ok(folder.path(), &["store", "export", "--store", "copy"]);
    let has = |kind: &str| left.contains(&format!("{{\"type\":\"{kind}\""));
    assert!(!has("instance") && !has("history") && has("text"), "{left}");
}

#[test]
fn an_export_that_is_there_twice_is_taken_once() {
    let (folder, exported) = example();
    let run = import(folder.path(), &format!("{exported}{exported}"), "copy");
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    ok(folder.path(), &["store", "verify", "--store", "copy"]);
    assert_eq!(rest(&ok(folder.path(), &["store", "export", "--store", "copy"])), rest(&exported));
}

#[test]
fn two_exports_that_differ_are_refused() {
    let (folder, exported) = example();
    ok(folder.path(), &["signal", "Account@b", "add", "2"]);
    let later = ok(folder.path(), &["store", "export"]);
    let run = import(folder.path(), &format!("{exported}{later}"), "copy");
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
    assert!(
        stderr(&run).contains("it says something else of the state of `Account@b` than line"),
        "{}",
        stderr(&run)
    );
    assert!(stderr(&run).contains("nothing was imported"), "{}", stderr(&run));
    assert!(!folder.path().join("copy").exists());
}

/// A key with another value in the target makes the import fail, and the target stays as it is.
#[test]
fn nothing_of_the_target_is_overwritten() {
    let (folder, exported) = example();
    let other = "entity Account {\n  state 100\n  on add(n) { state += n }\n}\nprint(\"other\")\n";
    fs::write(folder.path().join("other.df"), other).expect("a program");
    ok(folder.path(), &["run", "other.df", "--id", "y", "--store", "target"]);
    ok(folder.path(), &["signal", "Account@b", "add", "1", "--store", "target"]);
    let before = ok(folder.path(), &["store", "export", "--store", "target"]);
    let run = import(folder.path(), &exported, "target");
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
    assert!(stderr(&run).contains("the store has another value of"), "{}", stderr(&run));
    assert_eq!(rest(&ok(folder.path(), &["store", "export", "--store", "target"])), rest(&before));
    ok(folder.path(), &["store", "verify", "--store", "target"]);
    // Keys with the same value are accepted.
    ok(folder.path(), &["run", "p.df", "--id", "z", "--store", "same"]);
    let run = import(folder.path(), &exported, "same");
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    ok(folder.path(), &["store", "verify", "--store", "same"]);
}

/// An instance needs its program, and an entity needs the one that declares it, each by itself.
#[test]
fn a_program_is_missed_by_whatever_has_it() {
    let script = "print(1)\n";
    let entity = "entity Account { state 0\n on add(n) { state += n } }\nprint(Account(\"a\").add(1))\n";
    for (text, purges, misses) in
        [(script, false, "instance `x`"), (entity, false, "instance `x`"), (entity, true, "entity Account")]
    {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("p.df"), text).expect("a program");
        ok(folder.path(), &["run", "p.df", "--id", "x"]);
        if purges {
            ok(folder.path(), &["purge", "x"]);
        }
        let exported = ok(folder.path(), &["store", "export"]);
        let is_program = |line: &&str| line.contains("\"type\":\"program\"");
        assert_eq!(exported.lines().filter(is_program).count(), 1, "{exported}");
        let mut left: Vec<&str> = exported.lines().filter(|line| !is_program(line)).collect();
        left[0] = r#"{"type":"store","format":5,"commits":1}"#;
        let run = import(folder.path(), &left.join("\n"), "copy");
        assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
        let says = format!("of {misses} is neither in the file nor in the store");
        assert!(stderr(&run).contains(&says), "{says}\n{}", stderr(&run));
    }
}

/// An export without one of its lines is refused. Lines of the kinds that others need are missed
/// even if the first line has no count.
#[test]
fn an_incomplete_export_is_refused() {
    let (folder, exported) = example();
    let lines: Vec<&str> = exported.lines().collect();
    let mut refused = 0;
    for counted in [true, false] {
        for (number, line) in lines.iter().enumerate().skip(1) {
            let kind = serde_json::from_str::<serde_json::Value>(line).expect("JSON")["type"].clone();
            let needed = ["text", "program", "history", "instance"].iter().any(|needed| kind == *needed);
            if !counted && !needed {
                continue;
            }
            let mut left = lines.clone();
            left.remove(number);
            if !counted {
                left[0] = r#"{"type":"store","format":5,"commits":1}"#;
            }
            // Without a count, nothing shows that the end of a running instance's history is
            // missing.
            if !counted && kind == "history" && line.contains("\"instance\":\"waits\"") {
                continue;
            }
            let store = format!("copy-{counted}-{number}");
            let run = import(folder.path(), &left.join("\n"), &store);
            assert_eq!(run.status.code(), Some(2), "without {line}: {}", stderr(&run));
            assert!(stderr(&run).contains("nothing was imported"), "{}", stderr(&run));
            let there = durable(folder.path(), &["list", "--json", "--store", &store]);
            assert!(there.stdout.is_empty(), "without {line}");
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn another_text_under_a_program_is_refused() {
    let (folder, exported) = example();
    let changed: Vec<String> = exported
        .lines()
        .map(|line| {
            if line.contains("\"type\":\"text\"") { line.replace("hello", "hallo") } else { line.to_string() }
        })
        .collect();
    let run = import(folder.path(), &changed.join("\n"), "copy");
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
}

/// With `--damaged`, an import takes what is complete in the export of a damaged store.
#[test]
fn an_export_of_a_damaged_store_is_taken_as_far_as_it_is_complete() {
    let (folder, exported) = example();
    let mut lines: Vec<&str> = exported.lines().collect();
    lines[0] = r#"{"type":"store","format":5,"commits":1}"#;
    lines.retain(|line| !(line.contains("\"type\":\"history\"") && line.contains("\"instance\":\"x\"")));
    let text = lines.join("\n");
    assert_eq!(import(folder.path(), &text, "copy").status.code(), Some(2));
    fs::write(folder.path().join("in.jsonl"), text).expect("a file");
    let run = durable(folder.path(), &["store", "import", "--damaged", "in.jsonl", "--store", "copy"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    assert!(stderr(&run).contains("left out: line"), "{}", stderr(&run));
    ok(folder.path(), &["store", "verify", "--store", "copy"]);
    let list = ok(folder.path(), &["list", "--json", "--store", "copy"]);
    assert!(list.contains("\"id\":\"waits\"") && !list.contains("\"id\":\"x\""), "{list}");
}

/// NaN has many bit patterns, and histories are compared by their bytes.
#[test]
fn what_is_not_a_number_comes_back_as_it_was() {
    let folder = TempDir::new().expect("a folder");
    let program =
        "activity f(x) => x\nlet inf = 1e308 * 10.0\nlet n = inf - inf\nprint([f(n), f(-n), f(inf)])\n";
    fs::write(folder.path().join("p.df"), program).expect("a program");
    ok(folder.path(), &["run", "p.df", "--id", "x"]);
    let exported = ok(folder.path(), &["store", "export"]);
    let run = import(folder.path(), &exported, "copy");
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    assert_eq!(rest(&ok(folder.path(), &["store", "export", "--store", "copy"])), rest(&exported));
    assert!(ok(folder.path(), &["replay", "x", "--store", "copy"]).contains("NaN"));
}
