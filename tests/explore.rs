//! `durable explore` finds the bugs of `tests/explore/bugs`, finds nothing in `tests/explore/right`
//! and in the paper's examples, and claims no more than it has covered.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{DURABLE, repository};
use tempfile::TempDir;

fn explore(folder: &Path, args: &[&str]) -> Output {
    Command::new(DURABLE)
        .current_dir(folder)
        .arg("explore")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("durable runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(repository(folder))
        .expect("the folder")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "df"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Returns the value of a comment such as `// found: …`.
fn said(path: &Path, what: &str) -> Option<String> {
    let text = fs::read_to_string(path).expect("a program");
    text.lines().find_map(|line| Some(line.strip_prefix("// ")?.strip_prefix(what)?.trim().to_string()))
}

fn model(path: &Path) -> String {
    said(path, "model:").unwrap_or_else(|| "high-level".into())
}

fn program(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("main.df"), text).expect("the program is written");
    folder
}

/// Checks that a run found nothing, and returns its output.
fn fine(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

#[test]
fn every_known_bug_is_found() {
    for path in files("tests/explore/bugs") {
        let folder = TempDir::new().expect("a temporary folder");
        let file = path.to_string_lossy().into_owned();
        let found = said(&path, "found:").expect("what is to be found");
        let output = explore(folder.path(), &[&file, "--model", &model(&path), "--save", "found.json"]);
        assert_eq!(output.status.code(), Some(1), "{file}: {}{}", stdout(&output), stderr(&output));
        let text = stdout(&output);
        assert!(text.contains(&found), "{file}: no {found:?} in\n{text}");
        // The saved schedule leads there again. An endless schedule leads to the start of its
        // cycle.
        let again = explore(folder.path(), &[&file, "--model", &model(&path), "--replay", "found.json"]);
        let steps =
            |text: &str| text.lines().filter(|line| line.starts_with("  ") && line.contains("   ")).count();
        assert!(steps(&text) > 0, "{text}");
        assert_eq!(again.status.code(), Some(1), "{file}: {}{}", stdout(&again), stderr(&again));
        let wanted = match found.contains("for ever") {
            true => "lead back to where they began: this can go on for ever",
            false => &found,
        };
        assert!(stdout(&again).contains(wanted), "{file}: {}", stdout(&again));
    }
}

#[test]
fn nothing_is_found_in_right_programs() {
    for path in files("tests/explore/right") {
        let file = path.to_string_lossy().into_owned();
        let text = fine(&explore(Path::new("."), &[&file, "--model", &model(&path)]));
        assert!(text.contains("nothing goes wrong, under any schedule"), "{file}: {text}");
    }
}

/// The reduction changes no verdict.
#[test]
fn reduction_changes_no_verdict() {
    for path in files("tests/explore/right").into_iter().chain(files("examples/paper")) {
        let file = path.to_string_lossy().into_owned();
        let text = fine(&explore(Path::new("."), &[&file, "--unreduced"]));
        assert!(text.contains("nothing goes wrong, under any schedule"), "{file}: {text}");
    }
    for path in files("tests/explore/bugs").into_iter().filter(|path| model(path) == "high-level") {
        let (file, found) = (path.to_string_lossy().into_owned(), said(&path, "found:").expect("what"));
        let output = explore(Path::new("."), &[&file, "--unreduced"]);
        assert!(stdout(&output).contains(&found), "{file}: {}", stdout(&output));
    }
}

/// Each test must be able to end, unless `--may-run-forever` is given.
#[test]
fn what_may_never_end() {
    let server = "entity Clock { state false; on tick() { state = !state } }\n\
                  test \"a server\" { while true { Clock(\"1\").tick(); sleep(1s) } }\n";
    let folder = program(server);
    for model in ["high-level", "compute-storage"] {
        let output = explore(folder.path(), &["main.df", "--model", model, "--depth", "4"]);
        let text = fine(&output);
        assert!(text.contains("whether every schedule comes to an end is not known"), "{text}");
    }
    let output = explore(folder.path(), &["main.df"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("main can't end any more"), "{}", stdout(&output));
    let text = fine(&explore(folder.path(), &["main.df", "--may-run-forever"]));
    assert!(text.contains("nothing goes wrong, under any schedule"), "{text}");
    // Instances may run on after the end of the test.
    let after = program(&format!(
        "{}let _runs = start runs()\n",
        server.replace("test \"a server\"", "orchestration runs()")
    ));
    let text = fine(&explore(after.path(), &["main.df"]));
    assert!(text.contains("nothing goes wrong, under any schedule"), "{text}");
}

/// Tests that `durable test` passes are also correct under exploration.
#[test]
fn the_tests_of_the_cookbook_are_right() {
    for path in files("examples/cookbook").into_iter().chain(files("examples")) {
        if !fs::read_to_string(&path).expect("a program").contains("\ntest ") {
            continue;
        }
        let file = path.to_string_lossy().into_owned();
        let text = fine(&explore(Path::new("."), &[&file, "--configurations", "3000", "--walks", "5"]));
        assert!(text.contains("nothing goes wrong"), "{file}: {text}");
    }
}

fn configurations(text: &str) -> f64 {
    let count = text.split("; ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a count");
    count.replace(',', "").parse().expect("a number")
}

/// A step that interferes with no other is taken alone, so one more child does not multiply the
/// number of configurations.
#[test]
fn independent_children_are_not_interleaved() {
    let declared = "activity first(n) => n\nactivity second(n) => n + 1\n\
                    orchestration child(n) { let x = first(n); second(x) }\n";
    let calls = |n: usize, call: &str| (0..n).map(|n| call.replace('#', &n.to_string())).collect::<String>();
    let all = |n| format!("{declared}test \"t\" {{ all([{}]) }}\n", calls(n, "async child(#), "));
    let started = |n| {
        let (starts, waits) = (calls(n, "let h# = start child(#)\n"), calls(n, "wait(h#)\n"));
        format!("{declared}test \"t\" {{\n{starts}{waits}}}\n")
    };
    for text in [&all as &dyn Fn(usize) -> String, &started] {
        let mut before: Option<f64> = None;
        for n in 1..=6 {
            let folder = program(&text(n));
            let now = configurations(&fine(&explore(folder.path(), &["main.df", "--jobs", "1"])));
            assert!(before.is_none_or(|before| now < before * 2.5), "{n} children: {before:?}, {now}");
            before = Some(now);
        }
    }
    // With three children, the reduction saves most of the configurations.
    let folder = program(&all(3));
    let whole = configurations(&fine(&explore(folder.path(), &["main.df", "--unreduced"])));
    let reduced = configurations(&fine(&explore(folder.path(), &["main.df"])));
    assert!(whole > reduced * 5.0, "{whole} {reduced}");
}

/// Tests that can be explored are explored, and the others are named.
#[test]
fn some_tests_are_left_out() {
    let folder = program(
        "entity Box { state 0; on add() { state += 1 } }\n\
         test \"a page\" { http.get(\"https://example.com\") }\n\
         test \"a state\" { assert(state_of(Box(1)) == 0) }\n\
         test \"a box\" { Box(1).add() }\n",
    );
    let text = fine(&explore(folder.path(), &["main.df"]));
    assert!(text.contains("test \"a box\": nothing goes wrong, under any schedule"), "{text}");
    assert!(text.contains("left out, since they can't be explored:"), "{text}");
    assert!(text.contains("test \"a page\": `http.request` has no mock, main.df:2:"), "{text}");
    assert!(text.contains("test \"a state\": it looks at states, main.df:3:"), "{text}");
    let alone = explore(folder.path(), &["main.df", "--test", "a page"]);
    assert_eq!(alone.status.code(), Some(3), "{}", stdout(&alone));
}

/// The report names code, events, mocks and states that no schedule reached.
#[test]
fn what_was_not_seen() {
    let cases = [
        (
            "orchestration order() {\n\
               match race({paid: async receive(\"approved\"), late: async sleep(1d)}) {\n\
                 {paid} {\n\
                   print(paid)\n\
                 }\n\
                 _ => \"given up\"\n\
               }\n\
             }\n\
             test \"t\" { let o = start order(); raise(o, \"aproved\"); wait(o) }\n",
            &[
                "nobody receives the event \"aproved\"; did you mean \"approved\"?",
                "nobody raises the event \"approved\"; did you mean \"aproved\"?",
                "main.df:4:7: never reached: print(paid)",
            ][..],
        ),
        (
            "entity Acc { state 0; on add() { state += 1 } }\n\
             invariant \"small\" { state_of(Acc(\"Ada\")) < 5 }\n\
             eventually \"ended\" { outcome_of(\"nobody\") == null }\n\
             test \"t\" { Acc(\"ada\").add() }\n",
            &[
                "\"small\" looks at Acc@Ada, whose state nothing ever changes",
                "\"ended\" looks at the instance nobody, which there never is",
            ],
        ),
        (
            "activity charge(n) => n\n\
             activity refund(n) => n\n\
             mock charge with fn n => n\n\
             mock refund with fn n => n\n\
             test \"t\" {\n\
               let n = charge(1)\n\
               if n == 2 {\n\
                 assert(refund(n) == 2)\n\
               }\n\
             }\n",
            &["the mock of `refund` is never called", "main.df:8:8: never evaluated: assert(refund(n) == 2)"],
        ),
    ];
    for (text, wanted) in cases {
        let folder = program(text);
        let text = fine(&explore(folder.path(), &["main.df"]));
        assert!(text.contains("not seen, under any schedule:"), "{text}");
        for wanted in wanted {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
    }
    // Correct programs that reach everything get no such report.
    for path in files("tests/explore/right").into_iter().chain(files("examples/paper")) {
        let file = path.to_string_lossy().into_owned();
        let text = fine(&explore(Path::new("."), &[&file]));
        assert!(!text.contains("not seen"), "{file}: {text}");
    }
}

/// Properties of instances and inequalities hold or fail in every model, the engine included.
#[test]
fn properties_of_instances() {
    let text = "activity work() => 1\n\
                mock work with fn () => 1, fn () => throw {kind: \"no\", message: \"\"}\n\
                orchestration child() => work()\n\
                test \"t\" { try { child() with {id: \"kid\"} } catch _ { null } }\n\
                invariant \"never fails\" { outcome_of(\"kid\")?.status != \"failed\" }\n";
    for model in ["high-level", "compute-storage", "record-replay", "engine"] {
        let folder = program(text);
        let output = explore(folder.path(), &["main.df", "--model", model]);
        assert_eq!(output.status.code(), Some(1), "{model}: {}{}", stdout(&output), stderr(&output));
        assert!(
            stdout(&output).contains("the invariant \"never fails\" does not hold"),
            "{}",
            stdout(&output)
        );
        // With one outcome less the property holds. Records with different fields are not equal.
        let right = text.replace(", fn () => throw {kind: \"no\", message: \"\"}", "").replace(
            "outcome_of(\"kid\")?.status != \"failed\"",
            "outcome_of(\"kid\")?.result != {a: 1} && {a: 1} != {a: 1, b: 2} && {a: 1, b: 2} != {a: 1}",
        );
        let folder = program(&right);
        fine(&explore(folder.path(), &["main.df", "--model", model]));
    }
}

/// The engine does nothing wrong at any crash point of correct programs, and shows the bugs that
/// occur in its own order.
#[test]
fn the_engine_can_be_explored() {
    for path in files("tests/explore/right").into_iter().chain(files("examples/paper")) {
        // This program books twice after a crash in the engine.
        if path.ends_with("a_world_in_time.df") {
            continue;
        }
        let file = path.to_string_lossy().into_owned();
        // The engine's time only grows, so a polling program has no end of configurations.
        let polls = fs::read_to_string(&path).expect("a program").contains("while ");
        let some = if polls { "200" } else { "1000000" };
        let text = fine(&explore(
            Path::new("."),
            &[&file, "--model", "engine", "--configurations", some, "--walks", "0"],
        ));
        let whole = "nothing goes wrong in the engine's own order, whatever comes of what is outside, with up to 1 crash";
        assert!(
            text.contains(whole) || polls && text.contains("nothing goes wrong in any"),
            "{file}: {text}"
        );
        // The report claims no more than it has covered.
        assert!(!text.contains("under any schedule"), "{file}: {text}");
        assert!(text.contains("one of many that the models allow: the others were not looked at"), "{text}");
    }
    for name in ["transfer_in_two_steps", "charged_twice", "no_timeout", "deadlock_by_events", "lost_update"]
    {
        let path = repository("tests/explore/bugs").join(format!("{name}.df"));
        let folder = TempDir::new().expect("a temporary folder");
        let (file, found) = (path.to_string_lossy().into_owned(), said(&path, "found:").expect("what"));
        let output = explore(folder.path(), &[&file, "--model", "engine", "--save", "found.json"]);
        assert!(stdout(&output).contains(&found), "{file}: {}", stdout(&output));
        let again = explore(folder.path(), &[&file, "--replay", "found.json"]);
        assert!(stdout(&again).contains(&found), "{file}: {}", stdout(&again));
    }
}

/// The state spaces in `docs/explore.md` are up to date.
#[test]
fn the_examples_of_the_paper() {
    let mut table = String::from(
        "| Program | High-level | Without reduction | Compute-storage | Record-replay |\n|---|--:|--:|--:|--:|\n",
    );
    for path in files("examples/paper") {
        let file = path.to_string_lossy().into_owned();
        let mut row = format!("| `{}` |", path.file_name().expect("a name").to_string_lossy());
        for args in [
            &["--model", "high-level"][..],
            &["--model", "high-level", "--unreduced"],
            &["--model", "compute-storage"],
            &["--model", "record-replay"],
        ] {
            let args: Vec<&str> =
                [&file as &str, "--jobs", "1"].into_iter().chain(args.iter().copied()).collect();
            let text = fine(&explore(Path::new("."), &args));
            assert!(text.contains("nothing goes wrong, under any schedule"), "{file}: {text}");
            let count = text.split("; ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a count");
            row.push_str(&format!(" {count} |"));
        }
        table.push_str(&row);
        table.push('\n');
        let folder = TempDir::new().expect("a temporary folder");
        let run = Command::new(DURABLE).current_dir(folder.path()).arg("run").arg(&path).output();
        assert!(run.expect("durable runs").status.success(), "{file}");
    }
    let path = repository("docs/explore.md");
    let text = fs::read_to_string(&path).expect("docs/explore.md");
    let (head, rest) = text.split_once("<!-- generated -->\n").expect("the mark before the table");
    let (known, tail) = rest.split_once("<!-- end -->\n").expect("the mark after the table");
    if std::env::var_os("UPDATE").is_some() {
        let text = format!("{head}<!-- generated -->\n{table}<!-- end -->\n{tail}");
        fs::write(&path, text).expect("the table is written");
    } else {
        assert_eq!(known, table, "docs/explore.md is not what is so now");
    }
}

/// A program of counters that only grow, with infinitely many configurations.
const ENDLESS: &str = "
entity Counter { state 0; on add(n) { state += n } }
orchestration counts(n) { while true { Counter(\"1\").add(n) } }
test \"for ever\" { all([async counts(1), async counts(2), async counts(3)]) }
invariant \"small\" { state_of(Counter(\"1\")) < 1000000 }
";

#[test]
fn a_limit_is_named() {
    let folder = program(ENDLESS);
    let text = fine(&explore(folder.path(), &["main.df", "--depth", "12", "--walks", "3"]));
    assert!(text.contains("nothing goes wrong in any schedule of up to 12 steps;"), "{text}");
    assert!(text.contains("configurations lie beyond"), "{text}");
    assert!(text.contains("beyond that: 3 random schedules with 30,000 steps"), "{text}");
    let text = fine(&explore(folder.path(), &["main.df", "--configurations", "5000", "--walks", "0"]));
    assert!(text.contains("then the limit of configurations is reached"), "{text}");
    let text = fine(&explore(folder.path(), &["main.df", "--memory", "60MB", "--walks", "0"]));
    assert!(text.contains("then the memory is used up"), "{text}");
    let taken = text.split(" a second, ").nth(1).and_then(|rest| rest.split(' ').next());
    let taken: u64 = taken.and_then(|taken| taken.parse().ok()).expect("the memory taken");
    assert!(taken <= 72, "{taken} MB of 60 and what it had before: {text}");
}

#[test]
fn random_schedules_find_what_lies_beyond_a_limit() {
    let folder = program(&ENDLESS.replace("1000000", "60"));
    let output = explore(folder.path(), &["main.df", "--depth", "10"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("beyond that, the random schedule of seed 1 went wrong"));
    assert!(stdout(&output).contains("the invariant \"small\" does not hold"));
}

#[test]
fn outcomes_are_listed() {
    let folder = program(
        "entity Log { state []; on add(n) { state += [n] } }\n\
         orchestration adds(n) { Log(1).add(n) }\n\
         test \"two\" { all([async adds(1), async adds(2)]) }\n",
    );
    let text = fine(&explore(folder.path(), &["main.df", "--outcomes"]));
    assert!(text.contains("Log@1: [1, 2]") && text.contains("Log@1: [2, 1]"), "{text}");
    assert_eq!(text.matches("  outcome\n").count(), 2, "{text}");
}

#[test]
fn a_schedule_without_its_program() {
    let folder = program("test \"a\" { assert(random_int(0, 1) == 0) }\n");
    let output = explore(folder.path(), &["main.df", "--save", "found.json"]);
    assert_eq!(output.status.code(), Some(1));
    fs::write(folder.path().join("main.df"), "test \"a\" { sleep(1s) }\n").expect("it is changed");
    let again = explore(folder.path(), &["main.df", "--replay", "found.json"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("the program has changed since this schedule was saved"));
    assert!(stderr(&again).contains("step 1 of the schedule is not possible here"));
}

/// Each program or argument that can't be explored gets its message.
#[test]
fn messages() {
    let cases: [(&str, &str, &[&str], i32, &str); 9] = [
        ("no mock", "let page = http.get(\"https://example.com\")\n", &[], 3, "mock http.request with"),
        (
            "unknown test",
            "test \"transfer\" { 1 }\n",
            &["--test", "transfers"],
            5,
            "did you mean \"transfer\"?",
        ),
        ("no tests", "1\n", &["--test", "x"], 5, "without `--test` its script is explored"),
        ("a size", "1\n", &["--memory", "lots"], 2, "a size is a number with a unit"),
        ("no schedule", "1\n", &["--replay", "none.json"], 4, "none.json can't be read"),
        ("no JSON", "1\n", &["--replay", "main.df"], 3, "main.df is no schedule"),
        ("endless", "test \"a\" { while true { } }\n", &[], 3, "computes without an end"),
        ("a mistake", "let x =\n", &[], 3, "has a mistake"),
        ("a constant", "const X = 1 / 0\ntest \"a\" { X }\n", &[], 3, "has no value"),
    ];
    for (name, text, args, code, wanted) in cases {
        let folder = program(text);
        let args: Vec<&str> = ["main.df"].iter().chain(args).copied().collect();
        let output = explore(folder.path(), &args);
        assert_eq!(output.status.code(), Some(code), "{name}: {}{}", stdout(&output), stderr(&output));
        assert!(stderr(&output).contains(wanted), "{name}: {}", stderr(&output));
    }
}

/// Snapshots of the report of each kind of violation, to be read as prose.
#[test]
fn reports() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _bound = settings.bind_to_scope();
    for path in files("tests/explore/bugs") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let folder = path.parent().expect("a folder");
        let output = explore(folder, &[&name, "--model", &model(&path), "--jobs", "1"]);
        // The first line has times in it.
        let text: String = stdout(&output).lines().skip(1).map(|line| format!("{line}\n")).collect();
        insta::assert_snapshot!(format!("explore_{}", name.trim_end_matches(".df")), text);
    }
}
