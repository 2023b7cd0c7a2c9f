//! Transactions of programs on databases happen once, whatever is killed, and all of it or nothing.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::Random;
use common::place::await_that;
use common::postgres::{self, Server};
use common::querying::{command, copy, durable, folder, kill, prints, run, start, text};

#[test]
fn an_error_undoes_the_whole_transaction() {
    let program = |url: &str| {
        format!(
            r#"
            let db = sql.connect("{url}")
            db.execute("create table t (n int primary key)")
            activity within(db, f) => db.transaction(fn tx {{
              tx.execute("insert into t values (1)")
              if f == "throw" {{ throw {{kind: "own", message: "no"}} }}
              if f == "twice" {{ tx.execute("insert into t values (1)") }}
              if f == "caught" {{ try {{ tx.execute("insert into nowhere values (1)") }} catch _ {{ null }} }}
              if f == "nested" {{ tx.transaction(["select 1"]) }}
              tx.query("select n from t")
            }})
            for f in ["throw", "twice", "nested"] {{
              print(try {{ within(db, f) }} catch e {{ e?.code ?? e.kind }})
              print(db.query("select n from t"))
            }}
            print(try {{ db.transaction(["insert into t values (2)", "insert into t values (2)"]) }} catch e {{ [e.condition, e.statement] }})
            print(db.query("select n from t"))
            activity leaks(db) {{ var kept = null; db.transaction(fn tx {{ kept = tx; 1 }}); kept.query("select 1") }}
            print(try {{ leaks(db) }} catch e {{ e.code }})
            print(within(db, "fine"))
            "#
        )
    };
    let wanted = "own\n[]\n23505\n[]\ntype_error\n[]\n[\"unique_violation\", 2]\n[]\n25P01\n[{n: 1}]\n";
    assert_eq!(prints(&program("sqlite:data.db")), wanted);
    let Some(server) = postgres::server() else { return };
    assert_eq!(prints(&program(&server.url(&server.database()))), wanted);
    // PostgreSQL takes nothing after an error, and does not pretend to have committed.
    let caught = |options: &str| {
        prints(&format!(
            r#"
            let db = sql.connect("{}")
            activity f(db) => db.transaction(fn tx {{
              tx.execute("create table t (n int)")
              try {{ tx.execute("insert into nowhere values (1)") }} catch _ {{ null }}
            }}, {options})
            print(try {{ f(db) }} catch e {{ e.condition }})
            print(try {{ db.query("select * from t") }} catch e {{ e.condition }})
            "#,
            server.url(&server.database())
        ))
    };
    for options in ["{}", "{once: false}"] {
        assert_eq!(caught(options), "in_failed_sql_transaction\nundefined_table\n", "{options}");
    }
}

/// The forms of a transaction that adds a row, with nothing that would refuse a second one.
const FORMS: [&str; 2] = [
    r#"activity add(db) with {retry: {times: 3, first: 10ms}} => db.transaction(fn tx { tx.execute("insert into t values (1)"); tx.query("select count(*) as c from t")[0].c })"#,
    r#"fn add(db) => db.transaction([["insert into t values ($1)", [1]], "select count(*) as c from t"])[1][0].c"#,
];

/// Lets a program add a row and end, sets its store back to before the row was added, and lets it
/// go on: as after a kill between the commit and the answer.
fn goes_on_with_an_older_store(form: &str, url: &str) -> (String, String) {
    let folder = folder(&format!(
        r#"
        {form}
        let db = sql.connect("{url}")
        db.execute("create table t (n int)")
        fs.write("ready", "")
        while !fs.exists("go") {{ sleep(10ms) }}
        print("rows: {{add(db)}}, {{add(db)}}")
        "#
    ));
    let child = start(&folder);
    await_that(|| folder.path().join("ready").exists());
    kill(child);
    let (store, kept) = (folder.path().join(".durable"), folder.path().join("kept"));
    copy(&store, &kept);
    fs::write(folder.path().join("go"), "").expect("a file");
    let first = run(&folder);
    fs::remove_dir_all(&store).expect("the store is removed");
    copy(&kept, &store);
    (first, run(&folder))
}

#[test]
fn a_step_that_is_repeated_finds_its_result() {
    for form in FORMS {
        let (first, second) = goes_on_with_an_older_store(form, "sqlite:data.db");
        assert_eq!((first.as_str(), second.as_str()), ("rows: 1, 2\n", "rows: 1, 2\n"), "{form}");
        let Some(server) = postgres::server() else { continue };
        let database = server.database();
        let (first, second) = goes_on_with_an_older_store(form, &server.url(&database));
        assert_eq!((first.as_str(), second.as_str()), ("rows: 1, 2\n", "rows: 1, 2\n"), "{form}");
        assert_eq!(server.sql(&database, "select count(*) from t"), "2", "{form}");
        assert_eq!(server.sql(&database, "select count(*) from durable_steps"), "2", "{form}");
    }
}

/// The place where a proxy stops a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    /// The commit does not reach the server.
    BeforeCommit,
    /// The server has committed, and the answer does not reach the client.
    BeforeAnswer,
}

/// What becomes of the first commit.
struct Trap {
    stop: Stop,
    /// Whether the connection is closed; otherwise nothing more comes over it.
    breaks: bool,
    is_sprung: AtomicBool,
    told: Mutex<Sender<()>>,
}

/// Transactions that find their results, and those that fail to begin, are open no more.
#[test]
fn an_activity_has_any_number_of_transactions() {
    let program = |url: &str| {
        format!(
            r#"
            activity many(db) {{
              for _ in 1..=1_100 {{ db.transaction(fn tx {{ 7 }}, {{key: "one", max_rows: 0}}) }}
              db.transaction(fn tx {{ 8 }}, {{key: "two"}})
            }}
            print(many(sql.connect("{url}")))
            "#
        )
    };
    assert_eq!(prints(&program("sqlite:data.db")), "8\n");
    if let Some(server) = postgres::server() {
        assert_eq!(prints(&program(&server.url(&server.database()))), "8\n");
    }
}

/// Starts a proxy before a server, which stops the first commit at a place, and says so.
fn stopping(server: &Server, stop: Stop, breaks: bool) -> (u16, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (told, news) = channel();
    let trap = Arc::new(Trap { stop, breaks, is_sprung: AtomicBool::new(false), told: Mutex::new(told) });
    let socket = server.socket();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = UnixStream::connect(&socket).expect("the server");
            let is_held = Arc::new(AtomicBool::new(false));
            let (from, to) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            let (shared, held) = (trap.clone(), is_held.clone());
            thread::spawn(move || requests(from, to, &shared, &held));
            let shared = trap.clone();
            thread::spawn(move || answers(server, client, &shared, &is_held));
        }
    });
    (port, news)
}

/// Passes requests to the server, except the first commit.
fn requests(mut from: TcpStream, mut to: UnixStream, trap: &Trap, is_held: &AtomicBool) {
    let mut bytes = [0; 1 << 16];
    let mut is_silent = false;
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let commits = bytes[..count].windows(6).any(|window| window == b"commit");
        let springs = commits && !trap.is_sprung.swap(true, Ordering::SeqCst);
        is_silent |= springs && trap.stop == Stop::BeforeCommit;
        if springs && trap.stop == Stop::BeforeAnswer {
            is_held.store(true, Ordering::SeqCst);
        }
        if is_silent && trap.breaks || !is_silent && to.write_all(&bytes[..count]).is_err() {
            break;
        }
        if springs {
            let _ = trap.told.lock().expect("not poisoned").send(());
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes answers to the client, except that to the first commit.
fn answers(mut from: UnixStream, mut to: TcpStream, trap: &Trap, is_held: &AtomicBool) {
    let mut bytes = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        match is_held.load(Ordering::SeqCst) {
            true if trap.breaks => break,
            true => {}
            false if to.write_all(&bytes[..count]).is_err() => break,
            false => {}
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_transaction_happens_once_wherever_the_process_is_killed() {
    let Some(server) = postgres::server() else { return };
    for form in FORMS {
        for stop in [Stop::BeforeCommit, Stop::BeforeAnswer] {
            let database = server.database();
            server.sql(&database, "create table t (n int)");
            let (port, stopped) = stopping(server, stop, false);
            let direct = server.url(&database);
            let folder = folder(&format!("{form}\nlet db = sql.connect(secret(\"URL\"))\nprint(add(db))"));
            let with = |url: &str| {
                let mut command = command(&folder, &["run", "--id", "r", "a.df"]);
                command.env("URL", url);
                command
            };
            let mut child =
                with(&format!("postgres://admin@127.0.0.1:{port}/{database}")).spawn().expect("it starts");
            stopped.recv().expect("it commits");
            let rows = || server.sql(&database, "select count(*) from t");
            if stop == Stop::BeforeAnswer {
                await_that(|| rows() == "1");
            }
            child.kill().expect("it is killed");
            child.wait().expect("it ends");
            let output = with(&direct).output().expect("durable runs");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{stop:?}: {}", text(&output));
            assert_eq!(rows(), "1", "{stop:?}: {form}");
            // Once more, after the answer.
            let again = with(&direct).output().expect("durable runs");
            assert!(again.status.success() && rows() == "1", "{}", text(&again));
        }
    }
}

#[test]
fn a_connection_that_breaks_at_the_commit_costs_nothing() {
    let Some(server) = postgres::server() else { return };
    for form in FORMS {
        for stop in [Stop::BeforeCommit, Stop::BeforeAnswer] {
            let database = server.database();
            server.sql(&database, "create table t (n int)");
            let (port, _stopped) = stopping(server, stop, true);
            let shown = prints(&format!(
                "{form}\nprint(add(sql.connect(\"postgres://admin@127.0.0.1:{port}/{database}\")))"
            ));
            assert_eq!(shown, "1\n", "{stop:?}: {form}");
            assert_eq!(server.sql(&database, "select count(*) from t"), "1", "{stop:?}: {form}");
        }
    }
}

#[test]
fn attempts_at_one_time_wait_for_one_another() {
    let program = |url: &str, pause: &str| {
        format!(
            r#"
            let db = sql.connect("{url}")
            db.execute("create table t (n int)")
            let add = ["insert into t values (1)", "select count(*) as c from t"{pause}]
            let all = all((1..=6).map(fn _ => async db.transaction(add, {{key: "one"}})[1]))
            print(all.unique())
            print(db.query("select count(*) as c from t"))
            print(db.transaction(["insert into t values (2)"], {{key: "two"}}))
            print(db.transaction(["insert into t values (2)"], {{once: false}}))
            print(db.query("select count(*) as c from t"))
            "#
        )
    };
    let wanted = "[[{c: 1}]]\n[{c: 1}]\n[1]\n[1]\n[{c: 3}]\n";
    assert_eq!(prints(&program("sqlite:data.db", "")), wanted);
    if let Some(server) = postgres::server() {
        // All of them make the table of results at first.
        assert_eq!(prints(&program(&server.url(&server.database()), ", \"select pg_sleep(0.1)\"")), wanted);
    }
}

#[test]
fn the_table_of_results_is_made_once() {
    let Some(server) = postgres::server() else { return };
    let shown = prints(&format!(
        r#"
        let db = sql.connect("{}")
        db.execute("create table t (n int)")
        let add = ["insert into t values (1)"]
        for _ in 1..=20 {{
            db.execute("drop table if exists durable_steps")
            all((1..=12).map(fn _ => async db.transaction(add)))
        }}
        print(db.query("select count(*) as c from t"))
        "#,
        server.url(&server.database())
    ));
    assert_eq!(shown, "[{c: 240}]\n");
}

#[test]
fn transactions_that_collide_are_tried_again() {
    let Some(server) = postgres::server() else { return };
    let shown = prints(&format!(
        r#"
        let db = sql.connect("{}")
        db.execute("create table t (n int)")
        db.execute("insert into t values (0)")
        let add = ["update t set n = n + 1"]
        all((1..=12).map(fn _ => async db.transaction(add, {{isolation: "serializable"}})))
        print(db.query("select n from t"))
        "#,
        server.url(&server.database())
    ));
    assert_eq!(shown, "[{n: 12}]\n");
}

/// Many steps under kills at any moment: each has happened once in the end.
#[test]
fn a_storm_of_kills_repeats_and_loses_nothing() {
    const STEPS: u32 = 40;
    let mut urls = vec![("sqlite:data.db".to_string(), None)];
    if let Some(server) = postgres::server() {
        let database = server.database();
        urls.push((server.url(&database), Some((server, database))));
    }
    for (url, postgres) in urls {
        let folder = folder(&format!(
            r#"
            activity add(db, n) {{
              db.transaction(fn tx {{ tx.execute("insert into t values ($1)", [n]); n }})
              db.transaction(fn tx {{ tx.execute("insert into t values ($1)", [n + 1000]); n }})
            }}
            let db = sql.connect("{url}")
            db.execute("create table if not exists t (n int)")
            for n in 0..{STEPS} {{
              add(db, n)
              db.transaction([["insert into t values ($1)", [n + 2000]]])
            }}
            "#
        ));
        let mut random = Random::new(7);
        let mut kills = 0;
        loop {
            let mut child = start(&folder);
            thread::sleep(Duration::from_millis(20 + random.below(120)));
            match child.try_wait().expect("it can be asked") {
                Some(status) => {
                    assert!(status.success(), "{}", text(&durable(&folder, &["show", "r"])));
                    break;
                }
                None => kill(child),
            }
            kills += 1;
        }
        assert!(kills > 0, "it was too quick to be killed");
        let count = STEPS * 3;
        let counts = format!(
            r#"print(sql.connect("{url}").query("select count(*) as all_rows, count(distinct n) as each from t"))"#
        );
        fs::write(folder.path().join("b.df"), counts).expect("a program");
        let shown = text(&durable(&folder, &["run", "b.df"]));
        assert_eq!(shown, format!("[{{all_rows: {count}, each: {count}}}]\n"));
        if let Some((server, database)) = postgres {
            assert_eq!(server.sql(&database, "select count(*) from durable_steps"), count.to_string());
        }
    }
}

#[test]
fn a_user_who_may_make_no_table_is_told_so() {
    let Some(server) = postgres::server() else { return };
    let database = server.database();
    server.sql("postgres", "create role guest login password 'guest'");
    server.sql(
        &database,
        "create table t (n int); grant all on t to guest; revoke create on schema public from public",
    );
    let shown = prints(&format!(
        r#"
        let db = sql.connect("postgres://guest:guest@127.0.0.1:{}/{database}")
        print(try {{ db.transaction(["insert into t values (1)"]) }} catch e {{ [e.code, e.message.contains("create table durable_steps")] }})
        print(db.transaction(["insert into t values (1)"], {{once: false}}))
        "#,
        server.port
    ));
    assert_eq!(shown, "[\"42501\", true]\n[1]\n");
}

#[test]
fn the_recipe_moves_money_once() {
    let recipe = common::repository("examples/cookbook/transfer_sql.df").display().to_string();
    let folder = folder("");
    let mut urls = vec!["sqlite:bank.db".to_string()];
    urls.extend(postgres::server().map(|server| server.url(&server.database())));
    for (number, url) in urls.iter().enumerate() {
        let id = format!("transfer-{number}");
        let args = ["run", "--id", &id, &recipe, url.as_str(), "ada", "bob", "30"];
        let shown = text(&durable(&folder, &args));
        assert_eq!(shown, "half of what bob has goes back: 65\nada: 135\nbob: 65\n");
        let poor = text(&durable(&folder, &["run", &recipe, url.as_str(), "ada", "bob", "1000"]));
        assert!(poor.contains("no_funds"), "{poor}");
        let nobody = text(&durable(&folder, &["run", &recipe, url.as_str(), "ada", "carl", "1"]));
        assert!(nobody.contains("unexpected_rows"), "{nobody}");
    }
}
