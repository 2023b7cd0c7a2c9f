//! `durable repl`: entries are evaluated and shown, mistakes end nothing, and a killed session
//! resumes.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{DURABLE, Random};
use rexpect::session::{PtySession, spawn_command};
use tempfile::TempDir;

/// Pipes entries into a session. Returns the exit code, and both outputs.
fn piped(folder: &Path, session: &str, entries: &str) -> (i32, String, String) {
    let mut child = Command::new(DURABLE)
        .args(["repl", "--session", session])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("a pipe").write_all(entries.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

fn shows(entries: &str) -> String {
    let folder = TempDir::new().expect("a folder");
    let (_, out, error) = piped(folder.path(), "s", entries);
    assert_eq!(error, "", "{out}");
    out
}

fn says(entries: &str) -> String {
    let folder = TempDir::new().expect("a folder");
    piped(folder.path(), "s", entries).2
}

#[test]
fn values_bindings_and_the_last_value() {
    assert_eq!(shows("1 + 1\n_ * 10\nlet a = [1, 2]\na.map(fn x => x + 1)\n"), "2\n20\n[2, 3]\n");
    assert_eq!(shows("var n = 1; n += 5\nn\nn += 1\nn\nnull\n"), "6\n7\n");
    assert_eq!(shows("let {a, b: [c, ..]} = {a: 1, b: [2, 3]}\n[a, c]\n"), "[1, 2]\n");
    assert_eq!(
        shows("fn f(x) => x + 1\nf(1)\nlet g = f\nfn f(x) => x * 100\n[f(2), g(2)]\n"),
        "2\n[200, 3]\n"
    );
    assert_eq!(shows("let a = 1\nreturn a + 1\nlet b = 5; return 9\nb\n"), "2\n9\n");
}

#[test]
fn entries_go_over_as_many_lines_as_they_need() {
    assert_eq!(
        shows("fn f(x) {\n  let y = x\n  y + 1\n}\nf(\n1\n)\n1 +\n2\n\"\"\"\na\nb\"\"\".len()\n"),
        "2\n3\n3\n"
    );
}

#[test]
fn declarations_can_be_used_and_replaced() {
    let entries = "activity greet(n) => \"hello {n}\"\ngreet(1)\nactivity greet(n) => \"bye {n}\"\ngreet(2)\n\
                   entity C { state 0; on add(n) { state += n; state } }\nC(1).add(2)\nC(1).add(2)\n\
                   orchestration twice(x) { greet(x); greet(x) }\ntwice(3)\n";
    assert_eq!(shows(entries), "\"hello 1\"\n\"bye 2\"\n2\n4\n\"bye 3\"\n");
}

/// Within an entity, its own operations hide the functions of the session.
#[test]
fn an_entity_of_a_session_means_its_own_operations() {
    let entries = "fn add(n) => n * 100\nfn many(n) => n * 10\n\
                   entity C { state 0; on add(n) { state += n; state }; on twice(n) { add(n); add(many(n)) } }\n\
                   C(1).twice(2)\nadd(3)\n";
    assert_eq!(shows(entries), "22\n300\n");
}

#[test]
fn tasks_and_waits_go_on_from_entry_to_entry() {
    assert_eq!(shows("let t = async do { sleep(30ms); \"done\" }\n1\nawait t\n"), "1\n\"done\"\n");
    let entries = "activity work(n) { sleep(50ms); n }\nlet all_of = [1, 2, 3].map(fn n => async work(n))\n1\nall(all_of)\n";
    assert_eq!(shows(entries), "1\n[1, 2, 3]\n");
}

#[test]
fn lists_of_records_are_tables() {
    let out = shows("[{name: \"ada\", n: 1}, {name: \"bob\", n: 20}]\n");
    assert_eq!(out, "name   n\n────  ──\nada    1\nbob   20\n(2 rows)\n");
}

#[test]
fn mistakes_and_errors_end_nothing_and_show_their_place() {
    let folder = TempDir::new().expect("a folder");
    let (code, out, error) = piped(
        folder.path(),
        "s",
        "let a = 1\nfn f(x) { div(a, x) }\nf(0)\nnope\nlet b = div(1, 0)\nb\na + 1\n",
    );
    assert_eq!((code, out.as_str()), (0, "2\n"), "{error}");
    assert!(error.contains("[2]:1:11"), "{error}");
    assert!(error.contains("in f, called at [3]:1:1"), "{error}");
    assert!(error.contains("unknown name `nope`"), "{error}");
    assert!(error.contains("unknown name `b`"), "{error}");
    assert!(says("let = 1\n").contains("a pattern was expected"));
    assert!(says("test \"a\" {}\n").contains("have no place at the prompt"));
    assert!(says(":hlp\n").contains("did you mean `:help`?"));
    assert!(says(":help lst\n").contains("did you mean"));
    assert!(says("break\n").contains("`break` outside of a loop"));
}

#[test]
fn commands_tell_of_the_session() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("lib.df"), "let loaded = 1\nactivity one() => 1\n").expect("a file");
    let (_, out, error) = piped(
        folder.path(),
        "s",
        ":load lib.df\nloaded + one()\n:help list.map\n:history\n:timeline\n:instances\n:save out.df\n:core 1 + 2\n:time 5\n",
    );
    assert!(out.starts_with("2\nfn map(xs, f) · module list\n"), "{out}{error}");
    assert!(out.contains("   2  loaded + one()\n"), "{out}");
    assert!(out.contains("one() → 1"), "{out}");
    assert!(out.contains("session.df") || out.contains("script"), "{out}");
    assert!(error.contains(" ms"), "{error}");
    let saved = fs::read_to_string(folder.path().join("out.df")).expect("it was written");
    assert_eq!(saved, "let loaded = 1\nactivity one() => 1\nloaded + one()\n");
    fs::write(folder.path().join("lib.df"), "let loaded = 7\nactivity one() => 2\n").expect("a file");
    let (_, out, error) = piped(folder.path(), "s", ":load lib.df\n:reload\nloaded + one()\n");
    assert_eq!(out, "9\n", "{error}");
}

#[test]
fn an_entry_is_taken_back_with_what_it_changed_in_the_session() {
    let folder = TempDir::new().expect("a folder");
    let entries = "let a = 1\nlet a = 2; print(\"seen\")\na\n:undo\n:undo\na\nactivity f() => 1\nactivity f() => 2\n:undo\nf()\n";
    let (_, out, error) = piped(folder.path(), "s", entries);
    assert_eq!(out, "seen\n2\n1\n1\n", "{error}");
    assert!(error.contains("print(\"seen\")"), "{error}");
    let thrice = "activity g() => 1\nactivity g() => 2\nactivity g() => 3\n:undo\ng()\n:undo\n:undo\ng()\n";
    let (_, out, error) = piped(folder.path(), "thrice", thrice);
    assert_eq!(out, "2\n1\n", "{error}");
    let (_, out, error) = piped(folder.path(), "s", ":undo\n:undo\n:undo\n:undo\n:undo\n1\n");
    assert!(error.contains("there is no entry before"), "{error}");
    assert_eq!(out, "1\n");
}

#[test]
fn a_session_is_gone_on_with_and_other_instances_are_none() {
    let folder = TempDir::new().expect("a folder");
    piped(folder.path(), "s", "let a = 41\nfn next(x) => x + 1\n");
    assert_eq!(piped(folder.path(), "s", "next(a)\n").1, "42\n");
    fs::write(folder.path().join("a.df"), "1").expect("a file");
    let run = Command::new(DURABLE).args(["run", "a.df", "--id", "r"]).current_dir(folder.path()).status();
    assert!(run.expect("it runs").success());
    let (code, _, error) = piped(folder.path(), "r", "1\n");
    assert_eq!(code, 1);
    assert!(error.contains("no session of the prompt"), "{error}");
}

#[test]
fn what_came_due_while_nobody_was_there_is_taken_in() {
    let folder = TempDir::new().expect("a folder");
    piped(
        folder.path(),
        "s",
        "let t = async do { sleep(1ms); \"done\" }\nactivity f(n) => n\nlet u = async f(7)\n",
    );
    assert_eq!(piped(folder.path(), "s", "[await t, await u]\n").1, "[\"done\", 7]\n");
}

/// An undo breaks off the activity of its entry. The rest of the store goes on meanwhile.
#[test]
fn an_undo_breaks_off_what_its_entry_began_and_nothing_else() {
    let folder = TempDir::new().expect("a folder");
    let entries = r#"
activity slow(n) { while !fs.exists("go") { sleep(5ms) }; fs.append("log", "{n}\n"); n }
orchestration other(n) => slow(n)
let h = start other(1)
let t = async slow(2)
let u = async slow(3)
:undo
fs.write("go", "")
[wait(h), await t]
sleep(200ms)
fs.read("log").lines().sort()
u
"#;
    let (_, out, error) = piped(folder.path(), "s", entries.trim_start());
    assert_eq!(out, "[1, 2]\n[\"1\", \"2\"]\n", "{error}");
    assert!(error.contains("the last entry is taken back") && error.contains("slow(3)"), "{error}");
    let (_, history, _) = piped(folder.path(), "s", ":timeline\n");
    assert!(history.contains("slow(2)") && !history.contains("slow(3)"), "{history}");
}

#[test]
fn a_session_with_a_long_history_goes_on_from_its_beginning() {
    let folder = TempDir::new().expect("a folder");
    // The history is long enough for a checkpoint, which fits only one program.
    let entries = "var n = 0\nfor i in 0..100_000 { n += random_int(1, 1) }\nn\n:undo\nn + 1\nlet t = async sleep(1ms)\n";
    assert_eq!(piped(folder.path(), "s", entries).1, "100000\n100001\n");
    assert_eq!(piped(folder.path(), "s", "await t\nn + 2\n:undo\n:undo\nn\n").1, "100002\n100000\n");
}

/// Starts a session at a terminal.
fn terminal(folder: &Path) -> PtySession {
    let mut command = Command::new(DURABLE);
    command.args(["repl", "--session", "s"]).current_dir(folder).env("NO_COLOR", "1").env("TERM", "xterm");
    spawn_command(command, Some(20_000)).expect("it runs")
}

#[test]
fn a_terminal_that_is_killed_loses_nothing() {
    let folder = TempDir::new().expect("a folder");
    let mut first = terminal(folder.path());
    first.exp_string("[1]").expect("a prompt");
    first.send_line("let a = 20; let t = async do { sleep(300ms); a + 1 }").expect("it reads");
    first.exp_string("[2]").expect("a prompt");
    first.send_line("fn twice(x) => x * 2").expect("it reads");
    first.exp_string("[3]").expect("a prompt");
    // The kill comes in the middle of an entry that waits.
    first
        .send_line("print(\"begins\"); sleep(400ms); let r = await t; print(\"ends {twice(r)}\"); r")
        .expect("it reads");
    first.exp_string("begins\r\n").expect("the first effect");
    first.process_mut().kill(rexpect::process::signal::SIGKILL).expect("it dies");
    drop(first);
    let mut second = terminal(folder.path());
    second.exp_string("going on with the last entry").expect("it goes on");
    let between = second.exp_string("ends 42").expect("the rest of the entry");
    assert!(!between.contains("begins"), "{between}");
    second.exp_string("21").expect("its value");
    second.exp_string("[4]").expect("a prompt");
    second.send_line("twice(r) + a").expect("it reads");
    second.exp_string("62").expect("the bindings are there");
    second.send_control('d').expect("it reads");
    second.exp_string("go on with it").expect("it leaves");
}

#[test]
fn an_interrupt_ends_the_evaluation_and_not_the_session() {
    let folder = TempDir::new().expect("a folder");
    let mut session = terminal(folder.path());
    session.exp_string("[1]").expect("a prompt");
    session.send_line("let a = 1").expect("it reads");
    session.exp_string("[2]").expect("a prompt");
    for entry in ["print(\"one\"); sleep(1h)", "print(\"two\"); while true {}"] {
        session.send_line(entry).expect("it reads");
        let word = entry.split('"').nth(1).expect("a word");
        session.exp_string(&format!("{word}\r\n")).expect("it runs");
        session.send_control('c').expect("it reads");
        session.exp_string("interrupted").expect("it stops");
        session.exp_string("] ").expect("a prompt");
        session.send_line("a + 4").expect("it reads");
        session.exp_string("5\r\n").expect("the session is there");
        session.exp_string("] ").expect("a prompt");
    }
    session.send_line("if true {").expect("it reads");
    // The terminal's bytes come one by one.
    session.exp_string("\u{e2}\u{80}\u{a6} ").expect("a mark");
    session.send_line("7 * 6 }").expect("it reads");
    session.exp_string("42\r\n").expect("it waited for the rest");
    session.send_control('d').expect("it reads");
    session.exp_string("go on with it").expect("it leaves");
}

/// What people type who are new here does what they mean.
#[test]
fn words_that_mean_a_command_are_commands() {
    for word in ["exit", "quit", "exit()", "quit()", "exit(0)", "exit;", ":q"] {
        let folder = TempDir::new().expect("a folder");
        let (code, out, _) = piped(folder.path(), "s", &format!("1\n{word}\n2\n"));
        assert_eq!((code, out.as_str()), (0, "1\n"), "{word}");
    }
    for word in ["help", "help()", "?"] {
        assert!(shows(&format!("{word}\n")).contains(":undo"), "{word}");
    }
    assert!(shows("help list.map\n").contains("map(xs, f)"));
    assert!(shows("help(filter)\n").contains("module list"));
    assert_eq!(shows("let exit = 5\nexit\nexit + 1\n"), "5\n6\n");
    let entity = "entity Account { state 100; on add(n) { state += n; state } }\nAccount(\"ada\").add(1)\n";
    let shown = shows(&format!("{entity}:entities\n:entity Account@ada\n"));
    assert!(shown.contains("Account@ada") && shown.ends_with("101\n"), "{shown}");
    assert!(says(&format!("{entity}Account@ada.add(1)\n")).contains("Account(\"ada\")"));
}

/// Tab lists the candidates, those of entities among them.
#[test]
fn candidates_are_listed() {
    let folder = TempDir::new().expect("a folder");
    let mut session = terminal(folder.path());
    session.exp_string("[1]").expect("a prompt");
    session.send_line("entity Shop { state 0; on sell() { 1 }; on send() { 2 } }").expect("it reads");
    session.exp_string("[2]").expect("a prompt");
    session.send("Shop(\"a\").se\t\t").expect("it reads");
    session.flush().expect("it is sent");
    session.exp_string("sell").expect("the first candidate");
    session.exp_string("send").expect("the second candidate");
    session.send_line("ll()").expect("it reads");
    session.exp_string("[3]").expect("a prompt");
    session.send_line("exit").expect("it reads");
    session.exp_string("go on with it").expect("it leaves");
}

#[test]
fn the_session_goes_on_while_nobody_types_and_others_reach_the_store() {
    let folder = TempDir::new().expect("a folder");
    let mut child = Command::new(DURABLE)
        .args(["repl", "--session", "s"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("it is readable");
    writeln!(pipe, "let t = async do {{ sleep(30ms); print(\"by itself\"); receive(\"news\") }}")
        .expect("it reads");
    // The task prints while no more entries come.
    assert_eq!(next(), "by itself");
    let durable = |args: &[&str]| {
        let output = Command::new(DURABLE).args(args).current_dir(folder.path()).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(durable(&["list"]).contains("running"));
    durable(&["raise", "s", "news", "[1, 2]"]);
    writeln!(pipe, "await t").expect("it reads");
    assert_eq!(next(), "[1, 2]");
    // A program reads a line of its input from the entries that follow it.
    writeln!(pipe, "let name = input(\"\")\nada\n\"hello {{name}}\"").expect("it reads");
    assert_eq!(next(), "\"hello ada\"");
    drop(pipe);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn what_is_printed_meanwhile_stands_above_what_is_being_typed() {
    let folder = TempDir::new().expect("a folder");
    let mut terminal = terminal(folder.path());
    terminal.exp_string("[1] ").expect("a prompt");
    terminal.send_line("let t = async do { sleep(300ms); print(\"news\") }").expect("typed");
    terminal.exp_string("[2] ").expect("a prompt");
    terminal.send("1 + ").expect("typed");
    terminal.flush().expect("typed");
    terminal.exp_string("news").expect("it comes by itself");
    terminal.exp_string("1 + ").expect("what was typed is shown again");
    terminal.send_line("41").expect("typed");
    terminal.exp_string("42").expect("it is whole");
}

#[test]
fn what_runs_on_its_own_calls_functions_of_the_session() {
    let folder = TempDir::new().expect("a folder");
    let entries = "fn add(a, b) => a + b\nfn twice(add) => {add, more: [add, add]}\n\
                   activity slow(n) { sleep(1ms); add(n, 1) + twice(n).more.len() }\nslow(4)\n\
                   entity E { state 0; on plus(n) { state = add(state, n); state } }\nE(1).plus(2)\n\
                   orchestration o(n) { \"{slow(n)} {add(n, n)} {E(1).plus(n)}\" }\no(3)\n\
                   fn add(a, b) => a * b\nslow(4)\no(3)\nadd(5, 5)\n";
    let (_, out, error) = piped(folder.path(), "s", entries);
    assert_eq!((out.as_str(), error.as_str()), ("7\n2\n\"6 6 5\"\n6\n\"5 9 15\"\n25\n", ""));
    // A later process has all of it.
    let (_, out, error) = piped(
        folder.path(),
        "s",
        "[slow(4), E(1).plus(1)]\nlet x = 1\nfn uses() => x\nactivity a() => uses()\n",
    );
    assert_eq!(out, "[6, 15]\n");
    assert!(
        error.contains("activity `a` uses the script variable `x`") || error.contains("`uses`"),
        "{error}"
    );
    assert!(!error.contains("_fn_"), "{error}");
    let (_, _, error) =
        piped(folder.path(), "s", "fn deep(n) => div(n, 0)\nactivity b(n) { deep(n) }\nb(1)\n1\n");
    assert!(
        error.contains("division_by_zero") && error.contains("deep, called at") && !error.contains("_fn_"),
        "{error}"
    );
    let (_, out, _) = piped(folder.path(), "s", "add(2, 3)\n");
    assert_eq!(out, "6\n");
}

#[test]
fn a_file_of_another_folder_brings_what_it_imports() {
    let folder = TempDir::new().expect("a folder");
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    fs::write(
        folder.path().join("sub/main.df"),
        "import \"helper.df\" as helper\nlet greeting = helper.hello(\"ada\")\n",
    )
    .expect("a file");
    fs::write(folder.path().join("sub/helper.df"), "fn hello(n) => \"hello {n}\"\n").expect("a file");
    let (_, out, error) = piped(folder.path(), "s", ":load sub/main.df\ngreeting\n");
    assert_eq!((out.as_str(), error.as_str()), ("\"hello ada\"\n", ""));
}

#[test]
fn entries_that_fail_in_others_are_replayed_to_the_same() {
    let folder = TempDir::new().expect("a folder");
    let entries = "activity b(n) { div(n, 0) }\norchestration o() { throw {kind: \"odd\"} }\n\
                   entity E { state 0; on bad() { throw {kind: \"bad\"} } }\nb(1)\no()\nE(1).bad()\n\
                   try { b(2) } catch e { e.kind }\nlet t = async b(3)\nsleep(1ms)\nawait t\n1 + 1\n";
    let (_, out, error) = piped(folder.path(), "s", entries);
    assert_eq!(out, "\"division_by_zero\"\n2\n", "{error}");
    assert_eq!(error.matches("thrown here").count(), 4, "{error}");
    for _ in 0..3 {
        let (_, out, error) = piped(folder.path(), "s", "b(1)\n40 + 2\n");
        assert_eq!(out, "42\n", "{error}");
        assert!(error.contains("activity b, called at"), "{error}");
    }
}

/// Random entries, random kills and later processes: the session never ends and never hangs.
#[test]
fn sessions_survive_whatever_is_typed_and_whenever_they_are_killed() {
    const POOL: &[&str] = &[
        "let a# = #",
        "a#",
        "fn f#(x) => x + #",
        "f#(#)",
        "activity act#(x) { sleep(#ms); f#(x) }",
        "act#(1)",
        "let t# = async act#(#)",
        "await t#",
        "var v# = [1]; v# += [#]",
        "throw {kind: \"e#\"}",
        "entity E# { state 0; on add(x) { state += x; state } }",
        "E#(\"k\").add(#)",
        "signal E#(\"k\").add(1) after #ms",
        "orchestration o#(x) { E#(\"k\").add(x); act#(x) }",
        "o#(2)",
        "let h# = start o#(3)",
        "wait(h#)",
        "sleep(#ms)",
        ":undo",
        "random()",
        "print(random_int(1, # + 1))",
        "all([async sleep(1ms), async sleep(#ms)])",
        "try { act#(1) } catch e { e }",
        "nonsense#",
        "let (",
        "status(h#)",
        "race({a: async act#(1), b: async sleep(1ms)})",
        "lock E#(\"k\") { E#(\"k\").add(1) }",
        "fn f#(x) => x * #",
        "activity act#(x) { f#(x) * 2 }",
        "const c# = # * 2",
        "c#",
        "div(#, 0)",
    ];
    let mut random = Random::new(11);
    for _ in 0..12 {
        let folder = TempDir::new().expect("a folder");
        for _ in 0..6 {
            let entries: String = (0..random.below(12) + 3)
                .map(|_| {
                    let entry = POOL[random.below(POOL.len() as u64) as usize];
                    format!("{}\n", entry.replace('#', &(random.below(4) + 1).to_string()))
                })
                .collect();
            let mut child = Command::new(DURABLE)
                .args(["repl", "--session", "s"])
                .current_dir(folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it runs");
            let mut pipe = child.stdin.take().expect("a pipe");
            pipe.write_all(entries.as_bytes()).expect("it reads");
            if random.below(2) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(random.below(100)));
                let _ = child.kill();
            }
            drop(pipe);
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr);
            for wrong in ["come to an end", "does not wait", "panicked", "internal", "nondeterminism", "_fn_"]
            {
                assert!(!said.contains(wrong), "{entries}\n{said}");
            }
        }
    }
}
