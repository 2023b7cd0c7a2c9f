//! The command line as a user meets it.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::DURABLE;
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    folder
}

fn durable(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE).current_dir(folder).args(args).stdin(Stdio::null()).output().expect("durable runs")
}

fn spawn(folder: &Path, args: &[&str]) -> Child {
    Command::new(DURABLE)
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("durable runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until a run has committed the output that it has shown, which takes it milliseconds.
fn settle() {
    std::thread::sleep(Duration::from_millis(400));
}

/// Reads one line of a child's output.
fn line(child: &mut Child) -> String {
    let mut text = String::new();
    let mut byte = BufReader::with_capacity(1, child.stdout.as_mut().expect("stdout"));
    byte.read_line(&mut text).expect("a line");
    text
}

const WAITS: &str = "print(\"first\")\nlet name = input(\"\")\nprint(\"second {name}\")\n";

/// A killed script resumes where it stopped when it is run again, without any code for recovery.
#[test]
fn a_killed_run_goes_on() {
    let folder = folder(&[("s.df", WAITS)]);
    let mut first = spawn(folder.path(), &["run", "s.df"]);
    assert_eq!(line(&mut first), "first\n");
    settle();
    first.kill().expect("killed");
    first.wait().expect("ended");
    let mut second = spawn(folder.path(), &["run", "s.df"]);
    second.stdin.take().expect("stdin").write_all(b"Ada\n").expect("a line");
    let second = second.wait_with_output().expect("ended");
    assert_eq!(out(&second), "second Ada\n");
    assert!(err(&second).contains("going on with s-1"), "{}", err(&second));
    // After the end, there is one instance, and its replay prints both lines.
    let listed = out(&durable(folder.path(), &["list", "--json"]));
    assert_eq!(listed.lines().count(), 1);
    assert_eq!(out(&durable(folder.path(), &["replay", "s-1"])), "first\nsecond Ada\n");
}

#[test]
fn an_id_names_one_run() {
    let folder = folder(&[("s.df", "print(\"once\")\n{n: 42}\n")]);
    let first = durable(folder.path(), &["run", "s.df", "--id", "order-17", "--json"]);
    assert_eq!(out(&first), "once\n{\"id\":\"order-17\",\"status\":\"completed\",\"result\":{\"n\":42}}\n");
    let again = durable(folder.path(), &["run", "s.df", "--id", "order-17", "--json"]);
    assert_eq!(out(&again), "{\"id\":\"order-17\",\"status\":\"completed\",\"result\":{\"n\":42}}\n");
    assert!(err(&again).contains("has ended already"));
    assert_eq!(durable(folder.path(), &["run", "s.df", "--id", "a b"]).status.code(), Some(2));
}

#[test]
fn arguments_and_input() {
    let folder = folder(&[("s.df", "print(args)\n")]);
    assert_eq!(out(&durable(folder.path(), &["run", "s.df", "a", "b c"])), "[\"a\", \"b c\"]\n");
    assert_eq!(
        out(&durable(folder.path(), &["run", "s.df", "--input", "{\"day\": [1, 2.5, null]}"])),
        "{day: [1, 2.5, null]}\n"
    );
    let bad = durable(folder.path(), &["run", "s.df", "--input", "{"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(err(&bad).contains("`--input` is not JSON"), "{}", err(&bad));
}

#[test]
fn exit_codes() {
    let folder = folder(&[("ok.df", "1\n"), ("fails.df", "throw \"x\"\n"), ("wrong.df", "print(nothing)\n")]);
    for (args, code) in [
        (&["run", "ok.df"][..], 0),
        (&["run", "fails.df"], 1),
        (&["frobnicate"], 2),
        (&["run"], 2),
        (&["run", "wrong.df"], 3),
        (&["check", "wrong.df"], 3),
        (&["check", "ok.df", "fails.df"], 0),
        (&["run", "missing.df"], 4),
        (&["run", "."], 4),
        (&["show", "nobody"], 5),
        (&["resume", "nobody"], 5),
        (&["history", "nobody"], 5),
        (&["replay", "nobody"], 5),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["completions", "bash"], 0),
    ] {
        let run = durable(folder.path(), args);
        assert_eq!(run.status.code(), Some(code), "{args:?}: {}", err(&run));
    }
}

#[test]
fn a_failed_run_shows_the_chain_of_calls_across_the_activity() {
    let script = "activity charge(card) { throw {kind: \"declined\", message: \"no funds\", card} }\n\
                  fn pay(card) {\n  let receipt = charge(card)\n  receipt\n}\npay(\"12\")\n";
    let folder = folder(&[("pay.df", script)]);
    let run = durable(folder.path(), &["run", "pay.df", "--json"]);
    assert_eq!(run.status.code(), Some(1));
    let text = err(&run);
    for wanted in [
        "Error: declined: no funds",
        "pay.df:1:25",
        "activity charge, called at pay.df:3:17",
        "in pay, called at pay.df:6:1",
        "card: \"12\"",
    ] {
        assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
    }
    assert!(out(&run).contains("\"status\":\"failed\""));
}

/// Ctrl-C leaves an instance that can be resumed, and prints the command for it.
#[test]
fn an_interrupt_leaves_it_to_be_resumed() {
    let folder = folder(&[("s.df", "print(\"begun\")\nsleep(2s)\nprint(\"done\")\n")]);
    let mut child = spawn(folder.path(), &["run", "s.df"]);
    assert_eq!(line(&mut child), "begun\n");
    settle();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    let stopped = child.wait_with_output().expect("ended");
    assert_eq!(stopped.status.code(), Some(130));
    assert!(err(&stopped).contains("s-1 is paused; go on with: durable resume s-1"), "{}", err(&stopped));
    let resumed = durable(folder.path(), &["resume", "s-1"]);
    assert_eq!((out(&resumed).as_str(), resumed.status.code()), ("done\n", Some(0)));
    assert!(err(&durable(folder.path(), &["resume"])).contains("nothing is unfinished"));
}

#[test]
fn resume_goes_on_with_all() {
    let folder = folder(&[("s.df", "print(\"begun\")\nsleep(600ms)\nprint(\"{self.id} done\")\n")]);
    for id in ["a", "b", "c"] {
        let mut child = spawn(folder.path(), &["run", "s.df", "--id", id]);
        assert_eq!(line(&mut child), "begun\n");
        settle();
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let resumed = durable(folder.path(), &["resume"]);
    let text = out(&resumed);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort();
    assert_eq!(lines, ["a done", "b done", "c done"], "{}", err(&resumed));
}

/// An instance goes on with the text that it began with, even if the file changes.
#[test]
fn an_edited_file_does_not_break_a_run() {
    let folder = folder(&[("s.df", WAITS)]);
    let mut first = spawn(folder.path(), &["run", "s.df", "--id", "x"]);
    assert_eq!(line(&mut first), "first\n");
    settle();
    first.kill().expect("killed");
    first.wait().expect("ended");
    fs::write(folder.path().join("s.df"), "print(\"another program\")\n").expect("an edit");
    let mut second = spawn(folder.path(), &["run", "s.df", "--id", "x"]);
    second.stdin.take().expect("stdin").write_all(b"Ada\n").expect("a line");
    let second = second.wait_with_output().expect("ended");
    assert_eq!(out(&second), "second Ada\n");
    assert!(err(&second).contains("goes on with the text that it began with"), "{}", err(&second));
}

#[test]
fn history_and_show() {
    let folder =
        folder(&[("s.df", "activity f(x) => x * 2\nprint(f(21))\nlet t = async sleep(1h)\ncancel(t)\n")]);
    durable(folder.path(), &["run", "s.df"]);
    let table = out(&durable(folder.path(), &["history", "s-1"]));
    assert!(table.starts_with("NO  TIME"), "{table}");
    assert!(table.contains("f(21) → 42") && table.contains("print(42)"), "{table}");
    let json = out(&durable(folder.path(), &["history", "s-1", "--json"]));
    for line in json.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(entry["kind"].is_string() && entry["time"].is_string());
    }
    assert!(json.contains("\"activity\":\"f\"") && json.contains("\"args\":[21]"), "{json}");
    let shown = out(&durable(folder.path(), &["show", "s-1"]));
    assert!(shown.contains("status     completed"), "{shown}");
    let shown: serde_json::Value =
        serde_json::from_str(&out(&durable(folder.path(), &["show", "s-1", "--json"]))).expect("JSON");
    assert_eq!((shown["status"].as_str(), shown["id"].as_str()), (Some("completed"), Some("s-1")));
    let listed = out(&durable(folder.path(), &["list"]));
    assert!(listed.contains("s-1  completed"), "{listed}");
    assert_eq!(out(&durable(folder.path(), &["list", "--status", "failed", "--json"])), "");
}

/// A replay performs no effects: a file that the run wrote is not written again.
#[test]
fn replay_does_nothing() {
    let folder = folder(&[(
        "s.df",
        "fs.write(\"out\", \"x\")\nprint(fs.read(\"out\"))\nthrow {kind: \"end\", message: \"of it\"}\n",
    )]);
    durable(folder.path(), &["run", "s.df"]);
    fs::remove_file(folder.path().join("out")).expect("removed");
    let replay = durable(folder.path(), &["replay", "s-1"]);
    assert_eq!((out(&replay).as_str(), replay.status.code()), ("x\n", Some(1)));
    assert!(err(&replay).contains("end: of it"));
    assert!(!folder.path().join("out").exists());
    let trace = out(&durable(folder.path(), &["replay", "s-1", "--trace"]));
    assert!(
        trace.contains("#0 fs.write(\"out\", \"x\")") && trace.contains("s.df:1:1: fs.write(\"out\", \"x\")"),
        "{trace}"
    );
}

/// A replay that reaches the end of an unfinished history shows the open request and its place.
#[test]
fn replay_of_an_unfinished_run() {
    let folder = folder(&[("s.df", WAITS)]);
    let mut first = spawn(folder.path(), &["run", "s.df"]);
    assert_eq!(line(&mut first), "first\n");
    settle();
    first.kill().expect("killed");
    first.wait().expect("ended");
    let replay = durable(folder.path(), &["replay", "s-1"]);
    assert_eq!(out(&replay), "first\n");
    assert!(err(&replay).contains("input(\"\") at s.df:2:12: let name = input(\"\")"), "{}", err(&replay));
}

/// Open requests are shown by the names in the program, underscores included.
#[test]
fn what_is_waited_for_has_its_own_name() {
    let script = "activity long_nap() { sleep(1h) }\nprint(\"begun\")\nall([async long_nap(), async sleep_until(now() + 1h)])\n";
    let folder = folder(&[("s.df", script)]);
    let mut first = spawn(folder.path(), &["run", "s.df"]);
    assert_eq!(line(&mut first), "begun\n");
    settle();
    first.kill().expect("killed");
    first.wait().expect("ended");
    let replay = err(&durable(folder.path(), &["replay", "s-1"]));
    assert!(replay.contains("long_nap()") && replay.contains("sleep_until("), "{replay}");
}

/// An instance whose program does not follow its history stops, and both sides are shown. Nothing
/// is done or lost.
#[test]
fn a_foreign_history_is_nondeterminism() {
    let folder = folder(&[("s.df", "print(\"one\")\nprint(\"two\")\nlet x = input(\"\")\n")]);
    let mut first = spawn(folder.path(), &["run", "s.df", "--id", "x"]);
    assert_eq!(line(&mut first), "one\n");
    assert_eq!(line(&mut first), "two\n");
    settle();
    first.kill().expect("killed");
    first.wait().expect("ended");
    let export = out(&durable(folder.path(), &["store", "export"]));
    fs::write(folder.path().join("x.jsonl"), export.replace("[\"two\"]", "[\"three\"]")).expect("a file");
    durable(folder.path(), &["store", "import", "x.jsonl", "--store", "other"]);
    let before = out(&durable(folder.path(), &["store", "export", "--store", "other"]));
    let run = durable(folder.path(), &["resume", "x", "--store", "other"]);
    assert_eq!(run.status.code(), Some(1), "{}", err(&run));
    let text = err(&run);
    for wanted in [
        "nondeterminism",
        "the program now does this: print(\"two\")",
        "the history holds: print(\"three\")",
        "s.df:2:1",
    ] {
        assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
    }
    assert_eq!(out(&run), "");
    let after = out(&durable(folder.path(), &["store", "export", "--store", "other"]));
    let rest = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(rest(&after), rest(&before));
    // The instance can't go on, but it can be terminated.
    assert!(durable(folder.path(), &["terminate", "x", "--store", "other"]).status.success());
    assert_eq!(out(&durable(folder.path(), &["status", "x", "--store", "other"])), "terminated\n");
}

#[test]
fn check_dumps_core_and_code() {
    let folder = folder(&[("s.df", "fn double(x) => x + x\nprint(double(2 + 3))\n")]);
    let core = out(&durable(folder.path(), &["check", "s.df", "--dump", "core"]));
    assert!(core.contains("double") && core.contains('5'), "constants are folded: {core}");
    let code = out(&durable(folder.path(), &["check", "s.df", "--dump", "code"]));
    assert!(code.contains("CallFunction") && code.contains("Return"), "{code}");
}

/// Hostile sources get a proper answer.
#[test]
fn hostile_sources() {
    let n = 1_000_000;
    let deep = |open: &str, close: &str| format!("let x = {}1{}\n", open.repeat(n), close.repeat(n));
    for (name, text, code) in [
        ("parentheses", deep("(", ")"), 3),
        ("lists", deep("[", "]"), 3),
        ("unclosed", format!("let x = {}", "(".repeat(n)), 3),
        ("negations", format!("let x = {}true\nprint(x)\n", "!".repeat(n)), 3),
        ("sums", format!("let x = 1{}\nprint(x)\n", " + 1".repeat(n)), 3),
        ("blocks", format!("{}{}\n", "do { ".repeat(n), "}".repeat(n)), 3),
        ("interpolations", "\"{".repeat(10_000), 3),
        ("foreign_characters", "@ ".repeat(n), 3),
        ("closing_brackets", ") ".repeat(n), 3),
        ("broken_statements", "let = 1; ".repeat(n / 4), 3),
        ("wrong_arguments", "len()\n".repeat(n / 8), 3),
        ("unknown_names", "print(q)\n".repeat(n / 8), 3),
        ("comments", format!("{}{}\nprint(1)\n", "/*".repeat(n), "*/".repeat(n)), 0),
        (
            "else_if",
            format!("let x = if false {{ 1 }} {}\nprint(x)\n", "else if false { 1 }".repeat(10_000)),
            3,
        ),
        ("calls", format!("fn f() => f\nlet x = f{}\nprint(1)\n", "()".repeat(n)), 3),
        ("a_long_line", format!("let x = \"{}\"\nprint(x.len())\n", "x".repeat(4_000_000)), 0),
        ("many_statements", "print(1)\n".repeat(2_000), 0),
        (
            "a_long_text_block",
            format!("let x = \"\"\"\n{}  \"\"\"\nprint(x.len())\n", "  line\n".repeat(n / 5)),
            0,
        ),
        ("raw_strings", "r\"".repeat(n / 3), 3),
        ("code_points", format!("let x = \"{}\"\n", "\\u{".repeat(n / 3)), 3),
        ("comment_lines", format!("{}print(1)\n", "// a\n".repeat(n / 3)), 0),
        ("names_not_defined", (0..50_000).map(|i| format!("let a{i} = a{}\n", i + 1)).collect(), 3),
        ("nul_bytes", "print(\"\0\")\n\0".to_string(), 3),
        ("empty", String::new(), 0),
        ("a_byte_order_mark", "\u{feff}print(1)\n".to_string(), 0),
    ] {
        let folder = folder(&[("s.df", &text)]);
        let run = durable(folder.path(), &["run", "s.df"]);
        assert_eq!(
            run.status.code(),
            Some(code),
            "{name}: {}",
            err(&run).chars().take(2_000).collect::<String>()
        );
        assert!(err(&run).len() < 100_000, "{name}: {} bytes of messages", err(&run).len());
        let style = durable(folder.path(), &["fmt", "--check", "s.df"]);
        assert!(matches!(style.status.code(), Some(0 | 1 | 3)), "{name}: {}", style.status);
    }
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("bytes.df"), [0xff, 0xfe, 0x00]).expect("a file");
    let run = durable(folder.path(), &["run", "bytes.df"]);
    assert_eq!(run.status.code(), Some(4));
    assert!(err(&run).contains("it is not UTF-8 text"), "{}", err(&run));
}

/// Standard output has only what the program prints.
#[test]
fn output_goes_where_it_belongs() {
    let folder = folder(&[("s.df", "log.info(\"a message\")\nprint(\"output\")\nlet unused = 1\n")]);
    let run = durable(folder.path(), &["run", "s.df"]);
    assert_eq!(out(&run), "output\n");
    assert!(err(&run).contains("info: a message") && err(&run).contains("unused binding"));
}

/// A reader that closes the pipe breaks nothing: the run stops and can be resumed.
#[test]
fn a_closed_pipe_stops_the_run() {
    let folder = folder(&[("s.df", "for i in 0..100000 { print(i) }\n")]);
    let mut child = spawn(folder.path(), &["run", "s.df"]);
    assert_eq!(line(&mut child), "0\n");
    drop(child.stdout.take());
    let stopped = child.wait_with_output().expect("ended");
    assert_eq!(stopped.status.code(), Some(4), "{}", err(&stopped));
    assert!(err(&stopped).contains("standard output can't be written"), "{}", err(&stopped));
    let listed = out(&durable(folder.path(), &["list", "--json"]));
    assert!(listed.contains("\"status\":\"running\""), "{listed}");
}

#[test]
fn a_new_project_runs_passes_its_tests_and_is_in_the_style() {
    let folder = TempDir::new().expect("a folder");
    let durable = |arguments: &[&str], within: &str| {
        let run = Command::new(DURABLE).args(arguments).current_dir(folder.path().join(within)).output();
        let run = run.expect("durable runs");
        assert!(run.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    durable(&["new", "app"], "");
    assert_eq!(durable(&["run", "main.df", "Ada"], "app"), "Hello, Ada!\n");
    assert!(durable(&["test", "--crash"], "app").contains("3 passed"));
    durable(&["fmt", "--check"], "app");
    let pages = durable(&["doc", "lib"], "app");
    assert!(pages.contains("### all_of\n\n`fn all_of(names)`\n"), "{pages}");
    assert!(
        durable(&["doc", "--form", "html"], "app")
            .contains("<h3 id=\"list.map\"><code>fn map(xs, f)</code></h3>")
    );
    let again = Command::new(DURABLE).args(["new", "app"]).current_dir(folder.path()).output();
    assert_eq!(again.expect("durable runs").status.code(), Some(2));
}

/// A pattern of any size matches what it says, or is a mistake.
#[test]
fn large_patterns_match_or_are_refused() {
    let items = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let fields = |n: usize| (0..n).map(|i| format!("f{i}: {i}")).collect::<Vec<_>>().join(", ");
    for n in [100, 988, 989, 3_000] {
        let list = format!("print(match range(0, {n}) {{ [{}] => \"yes\", _ => \"no\" }})\n", items(n));
        let n = n / 2;
        let record = format!("print(match {{{0}}} {{ {{{0}}} => \"yes\", _ => \"no\" }})\n", fields(n));
        let within = format!("print(match [1, [{0}]] {{ [1, [{0}]] => \"yes\", _ => \"no\" }})\n", items(n));
        for text in [list, record, within] {
            let folder = folder(&[("p.df", &text)]);
            let run = durable(folder.path(), &["run", "p.df"]);
            let head: String = text.chars().take(40).collect();
            match n < 494 {
                true => assert_eq!(out(&run), "yes\n", "{n}: {head}\n{}", err(&run)),
                false if out(&run) == "yes\n" => {}
                false => {
                    assert_eq!(run.status.code(), Some(3), "{n}: {head}\n{}", err(&run));
                    assert_eq!(err(&run).matches("pattern too large").count(), 1, "{}", err(&run));
                }
            }
        }
    }
}
