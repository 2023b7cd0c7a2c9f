//! Databases of programs: values, errors, limits, connections, rights and secrets.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use common::place::await_that;
use common::postgres::{self, Server};
use common::querying::{command, durable, folder, prints, run, start, text};
use tempfile::TempDir;

// ---- values

#[test]
fn values_of_postgres_keep_their_kinds() {
    let Some(server) = postgres::server() else { return };
    let url = server.url(&server.database());
    let shown = prints(&format!(
        r#"
        let db = sql.connect("{url}")
        fn one(text, params = []) => db.query("select " + text + " as v", params)[0].v
        let at = time.parse("2024-02-29T12:34:56.123456Z")
        for {{give, ty}} in [
          {{give: null, ty: "int8"}}, {{give: true, ty: "bool"}}, {{give: -5, ty: "int2"}}, {{give: 5, ty: "int4"}},
          {{give: 9_223_372_036_854_775_807, ty: "int8"}}, {{give: 1.5, ty: "float8"}}, {{give: 0.1, ty: "float4"}},
          {{give: "12.50", ty: "numeric"}}, {{give: "zwölf \" \\ ' $1", ty: "text"}}, {{give: bytes.from_hex("00ff10"), ty: "bytea"}},
          {{give: at, ty: "timestamptz"}}, {{give: at, ty: "timestamp"}}, {{give: 90m, ty: "interval"}}, {{give: 0s - 1500ms, ty: "interval"}},
          {{give: {{a: [1, null, {{b: "x"}}]}}, ty: "jsonb"}}, {{give: ["a", 2], ty: "json"}}, {{give: "text", ty: "jsonb"}}, {{give: 7, ty: "json"}},
          {{give: [1, 2, null], ty: "int4[]"}}, {{give: [["a", "b,\"c"], ["NULL", ""]], ty: "text[]"}}, {{give: [], ty: "int8[]"}},
          {{give: [at], ty: "timestamptz[]"}}, {{give: "6f1c0b3e-1111-4222-8333-444455556666", ty: "uuid"}},
          {{give: "2024-02-29", ty: "date"}}, {{give: "12:34:56.5", ty: "time"}}, {{give: "10.0.0.0/8", ty: "cidr"}}, {{give: "::1", ty: "inet"}},
        ] {{
          let found = one("$1::" + ty, [give])
          if found != give || kind_of(found) != kind_of(give) {{ print("{{ty}}: {{give}} became {{found}}") }}
        }}
        print([one("1e30::numeric"), one("-0.000120::numeric"), one("'NaN'::numeric"), one("100000000::numeric"), one("$1::numeric", [3])])
        print([one("interval '1 month 2 days'"), one("'infinity'::date"), one("12345678901234567890::text::json"), one("'ok'::char(4)")])
        print([one("null::text"), one("pg_sleep(0)"), one("array[[1,2],[3,4]]")])
        db.execute("create type mood as enum ('sad', 'glad')")
        db.execute("create domain amount as int check (value > 0)")
        print([one("$1::mood", ["glad"]), one("$1::amount", [3]), one("array['sad'::mood]")])
        fn fails(text, params = []) => try {{ one(text, params) }} catch e {{ "{{e.kind}} {{e.code}}: {{e.message}}" }}
        print(fails("$1::int4", ["x"]))
        print(fails("$1", [1]))
        print(fails("$1::int2", [70000]))
        print(fails("point(1,2)"))
        print(fails("$1::amount", [0]))
        print(fails("1 as v, 2"))
        print(fails("$1::int", []))
        print(fails("'infinity'::timestamptz"))
        "#
    ));
    let wanted = r#"["1000000000000000000000000000000", "-0.000120", "NaN", "100000000", "3"]
["P1M2DT0S", "infinity", "12345678901234567890", "ok  "]
[null, null, [[1, 2], [3, 4]]]
["glad", 3, ["sad"]]
sql_error 42804: the parameter $1 is a string, and the statement wants `int4` there
sql_error 42804: the parameter $1 is an int, and the statement wants `text` there; a cast like `::int8` after it makes the type clear
sql_error 22003: value "70000" is out of range for type smallint
sql_error 0A000: the column `v`: the type `point` has no values here; a cast `::text` gives its text
sql_error 23514: value for domain amount violates check constraint "amount_check"
sql_error 42701: two columns of the result are called `v`; `as` gives one another name
sql_error 08P01: the statement has 1 parameters, and 0 were given
sql_error 0A000: the column `v`: the timestamp is not between the years 1678 and 2262; a cast `::text` gives its text
"#;
    assert_eq!(shown, wanted);
}

#[test]
fn values_of_sqlite_follow_the_declared_types() {
    let shown = prints(
        r#"
        let db = sql.connect("sqlite:data.db")
        db.execute("create table t (b boolean, n integer, f real, s text, raw blob, at timestamptz, doc json, d interval)")
        let row = {b: true, n: 5, f: 1.5, s: "zwölf", raw: bytes.from_hex("00ff"), at: time.parse("2024-02-29T12:34:56.123456789Z"), doc: {a: [1, null]}, d: 90m}
        print(db.execute("insert into t values ($1, $2, $3, $4, $5, $6, $7, $8)", row.values()))
        print(db.query("select * from t") == [row])
        print(db.query("select $2 as b, $1 as a, $2 as c", [1, "two"]))
        print(db.query("select n from t where s = ?", ["zwölf"]))
        print(try { db.query("select $name", ["x"]) } catch e { e.message })
        print([db.execute("update t set n = 1"), db.execute("create table u (n int)"), db.execute("delete from t where n = 7")])
        "#,
    );
    assert_eq!(
        shown,
        "1\ntrue\n[{b: \"two\", a: 1, c: \"two\"}]\n[{n: 5}]\nthe parameters of a statement are called $1, $2 and so on\n[1, 0, 0]\n"
    );
}

// ---- errors and limits

#[test]
fn an_error_has_its_code_and_the_name_of_the_code() {
    let program = |url: &str| {
        format!(
            r#"
            let db = sql.connect("{url}")
            db.execute("create table t (n int primary key, m int not null)")
            db.execute("insert into t values (1, 1)")
            fn fails(text) => try {{ db.execute(text) }} catch e {{ [e.kind, e.code, e.condition] }}
            print(fails("insert into t values (1, 1)"))
            print(fails("insert into t values (2, null)"))
            print(fails("insert into nowhere values (1)"))
            print(fails("select missing from t"))
            print(fails("inser into t"))
            print(try {{ db.execute("insert into t values (1, 1)") }} catch {{condition: "unique_violation"}} {{ "there is one" }})
            "#
        )
    };
    let wanted = r#"["sql_error", "23505", "unique_violation"]
["sql_error", "23502", "not_null_violation"]
["sql_error", "42P01", "undefined_table"]
["sql_error", "42703", "undefined_column"]
["sql_error", "42601", "syntax_error"]
there is one
"#;
    assert_eq!(prints(&program("sqlite:data.db")), wanted);
    if let Some(server) = postgres::server() {
        assert_eq!(prints(&program(&server.url(&server.database()))), wanted);
    }
}

#[test]
fn a_result_has_limits() {
    let program = |url: &str, rows: &str| {
        format!(
            r#"
            let db = sql.connect("{url}")
            fn fails(options) => try {{ db.query("{rows}", [], options).len() }} catch e {{ "{{e.kind}}: {{e.message}}" }}
            print(fails({{}}))
            print(fails({{max_rows: 999}}))
            print(fails({{max_size: 1000}}))
            print(fails({{}}))
            print(try {{ db.query("{rows}", [], {{max_row: 1}}) }} catch e {{ e.kind }})
            "#
        )
    };
    let wanted = "1000\n\
                  limit: the result has more than 999 rows; `limit` in the statement gives fewer, and option `max_rows` allows more\n\
                  limit: the result has more than 1000 bytes; `limit` in the statement gives fewer, and option `max_size` allows more\n\
                  1000\ntype_error\n";
    let recursive =
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 1000) select n from r";
    assert_eq!(prints(&program("sqlite:data.db", recursive)), wanted);
    if let Some(server) = postgres::server() {
        let url = server.url(&server.database());
        assert_eq!(prints(&program(&url, "select n from generate_series(1, 1000) as n")), wanted);
    }
}

#[test]
fn statements_of_transactions_belong_to_transaction() {
    let shown = prints(
        r#"
        let db = sql.connect("sqlite:data.db")
        for text in ["begin", "/* a */ commit", "-- b\nrollback", "savepoint a", "/* a /* b */ commit"] {
          print(try { db.execute(text) } catch e { e.kind })
        }
        print(try { db.transaction(["select 1", "commit"]) } catch e { e.kind })
        print(try { db.query("select 1; select 2") } catch e { e.code })
        print(try { sql.connect("mysql://x/y") } catch e { e.message })
        print(try { sql.connect(7) } catch e { e.message })
        print(try { {a: 1}.query("select 1") } catch e { e.message })
        print(try { sql.connect("sqlite::memory:").query("select 1") } catch e { e.message })
        "#,
    );
    assert_eq!(
        shown,
        "type_error\n".repeat(6)
            + "42601\n\
               a database has a URL like postgres://user@host/name or sqlite:data.db; `mysql` is not among the databases that are there\n\
               `sql.connect` takes a URL, not an int\n\
               a database was expected, not a record: `sql.connect(url)` makes one\n\
               a database in memory would be gone with its process: sqlite:data.db is a file\n"
    );
}

#[test]
fn a_server_that_is_not_there_is_a_lost_connection() {
    let Some(server) = postgres::server() else { return };
    server.sql("postgres", "create role locked login password 'right'");
    let port = server.port;
    let shown = prints(&format!(
        r#"
        fn fails(url, options = {{}}) => try {{ sql.connect(url, options).query("select 1 as n") }} catch e {{ [e.kind, e.message, e?.code] }}
        print(fails("postgres://127.0.0.1:1/x"))
        print(fails("postgres://no.such.host.invalid/x?sslmode=disable")[0])
        print(fails("postgres://locked:wrong@127.0.0.1:{port}/postgres"))
        print(fails("postgres://locked@127.0.0.1:{port}/postgres", {{password: "right"}}))
        print(fails("postgres://locked:right@127.0.0.1:{port}/none"))
        print(fails("postgres://locked:right@127.0.0.1:{port}/postgres?sslmode=require")[0])
        print(fails("postgres://locked:right@127.0.0.1:{port}/postgres?sslrootcert=system")[0])
        print(fails("postgres://locked:right@127.0.0.1:{port}/postgres?sslrootcert=system&sslmode=require")[1])
        print(fails("postgres://locked:right@127.0.0.1:{port}/postgres?sslmod=off")[0])
        "#
    ));
    assert_eq!(
        shown,
        r#"["connection_lost", "127.0.0.1:1: could not connect: connection refused", null]
connection_lost
["sql_error", "password authentication failed for user \"locked\"", "28P01"]
[{n: 1}]
["sql_error", "database \"none\" does not exist", "3D000"]
connection_lost
connection_lost
the URL of the database: `sslrootcert=system` needs `sslmode=verify-full`
type_error
"#
    );
}

/// Returns the number of statements with a mark that a server executes now.
fn running(server: &Server, mark: &str) -> String {
    let of = format!("state = 'active' and query like '%{mark}%' and pid <> pg_backend_pid()");
    server.sql("postgres", &format!("select count(*) from pg_stat_activity where {of}"))
}

#[test]
fn who_gives_up_a_statement_cancels_it() {
    let Some(server) = postgres::server() else { return };
    let url = server.url(&server.database());
    // A time limit.
    let shown = prints(&format!(
        r#"
        let db = sql.connect("{url}", {{connections: 1}})
        print(try {{ db.query("select pg_sleep(60), 'limited'", [], {{timeout: 200ms}}) }} catch e {{ e.kind }})
        print(try {{ task.timeout(200ms, fn () => db.query("select pg_sleep(60), 'raced'")) }} catch e {{ e.kind }})
        print(db.query("select 1 as n"))
        "#
    ));
    assert_eq!(shown, "timeout\ntimeout\n[{n: 1}]\n");
    await_that(|| running(server, "limited") == "0" && running(server, "raced") == "0");
    // An instance that is terminated, in an activity and in the orchestration itself.
    for (at, program) in [
        "let db = sql.connect(\"URL\")\ndb.query(\"select pg_sleep(60), 'direct'\")",
        "activity wait(db) => db.transaction(fn tx { tx.execute(\"create table held (n int)\"); tx.query(\"select pg_sleep(60), 'direct'\") })\nwait(sql.connect(\"URL\"))",
    ]
    .iter()
    .enumerate()
    {
        let folder = folder(&program.replace("URL", &url));
        let mut child = start(&folder);
        await_that(|| running(server, "direct") == "1");
        // The process may end before its reply is read.
        durable(&folder, &["terminate", "r"]);
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), Some(1), "it was terminated");
        await_that(|| running(server, "direct") == "0");
        // Nothing is left of the transaction.
        let left = "select count(*) from pg_tables where tablename = 'held'";
        let database = url.split('/').nth(3).and_then(|rest| rest.split('?').next()).expect("a database");
        assert_eq!(server.sql(database, left), "0", "{at}");
    }
}

// ---- connections

#[test]
fn connections_are_shared_and_each_session_is_as_new() {
    let Some(server) = postgres::server() else { return };
    let url = server.url(&server.database());
    let shown = prints(&format!(
        r#"
        let db = sql.connect("{url}", {{connections: 2}})
        let pids = all((1..=20).map(fn _ => async db.query("select pg_backend_pid() as pid, pg_sleep(0.01)")[0].pid))
        print(pids.unique().len() <= 2)
        let one = sql.connect("{url}", {{connections: 1}})
        one.execute("set search_path to nowhere")
        one.execute("create temp table mine (n int)")
        one.query("select pg_advisory_lock(7)")
        print(one.query("show search_path"))
        print(try {{ one.query("select * from mine") }} catch e {{ e.condition }})
        print(db.query("select pg_try_advisory_lock(7) as free"))
        "#
    ));
    assert_eq!(shown, "true\n[{search_path: \"\\\"$user\\\", public\"}]\nundefined_table\n[{free: true}]\n");
}

#[test]
fn a_server_that_restarted_is_found_again() {
    let Some(server) = Server::start("") else { return };
    let url = server.url("postgres");
    let folder = folder(&format!(
        r#"
        let db = sql.connect("{url}")
        db.execute("create table t (n int)")
        fs.write("ready", "")
        while !fs.exists("go") {{ sleep(10ms) }}
        print(db.execute("insert into t values (1)"))
        "#
    ));
    let child =
        command(&folder, &["run", "--id", "r", "a.df"]).stdout(Stdio::piped()).spawn().expect("it starts");
    await_that(|| folder.path().join("ready").exists());
    server.stop("immediate");
    server.begin();
    fs::write(folder.path().join("go"), "").expect("a file");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
}

// ---- secrets and rights

#[test]
fn the_url_and_the_password_are_written_nowhere() {
    let Some(server) = postgres::server() else { return };
    server.sql("postgres", "create role keeper login password 'hush-4711'");
    let port = server.port;
    let folder = folder(&format!(
        r#"
        activity count(db) => db.transaction(fn tx {{ tx.query("select 1 as n") }}, {{once: false}})
        let whole = sql.connect(secret("URL"))
        let part = sql.connect("postgres://keeper@127.0.0.1:{port}/postgres", {{password: secret("PASSWORD")}})
        let joined = sql.connect("postgres://keeper:" + secret("PASSWORD") + "@127.0.0.1:{port}/postgres")
        for db in [whole, part, joined] {{
          print(db)
          print(db.query("select 1 as n"), count(db))
          print(try {{ db.query("select $1::int", [secret("PASSWORD")]) }} catch e {{ e }})
          print(try {{ db.query("select $1::bytea", ["x"]) }} catch e {{ e }})
        }}
        print(try {{ sql.connect(secret("WRONG")).query("select 1") }} catch e {{ e }})
        print(try {{ sql.connect(secret("BROKEN")).query("select 1") }} catch e {{ e }})
        "#
    ));
    let url = format!("postgres://keeper:hush-4711@127.0.0.1:{port}/postgres");
    let with = |args: &[&str]| {
        let mut command = command(&folder, args);
        command.env("URL", &url).env("PASSWORD", "hush-4711");
        command
            .env("WRONG", url.replace("4711", "4711-no"))
            .env("BROKEN", url.replace("postgres:", "hush-4711:"));
        text(&command.output().expect("durable runs"))
    };
    let mut shown = with(&["run", "--id", "r", "a.df"]);
    assert_eq!(shown.matches("[{n: 1}] [{n: 1}]").count(), 3, "{shown}");
    assert!(shown.contains("password authentication failed"), "{shown}");
    for args in
        [&["history", "r"][..], &["history", "r", "--json"], &["store", "export"], &["show", "r", "--json"]]
    {
        shown += &with(args);
    }
    assert!(!shown.contains("hush-4711"), "{shown}");
    for file in ["wal", "lock"] {
        let bytes = fs::read(folder.path().join(".durable").join(file)).expect("a file");
        assert!(!bytes.windows(9).any(|window| window == b"hush-4711"), "{file}");
    }
    // A password that is written in the program is left out by redaction.
    let plain = self::folder(&format!("print(sql.connect(\"{url}\").query(\"select 1 as n\"))"));
    run(&plain);
    let redacted = text(&durable(&plain, &["history", "r", "--redact"]));
    assert!(redacted.contains("keeper") && !redacted.contains("hush-4711"), "{redacted}");
    // A URL without a host is of this machine.
    let local = url.replace(&format!("127.0.0.1:{port}"), "");
    let plain = self::folder(&format!(
        "print(try {{ sql.connect(\"{local}?port={port}\").query(\"select 1 as n\") }} catch e {{ e.kind }})"
    ));
    run(&plain);
    let redacted = text(&durable(&plain, &["history", "r", "--redact"]));
    assert!(redacted.contains("keeper") && !redacted.contains("hush-4711"), "{redacted}");
}

fn permitted(folder: &TempDir, allow: &str) -> String {
    let output = durable(folder, &["run", "a.df", "--allow", allow]);
    fs::remove_dir_all(folder.path().join(".durable")).ok();
    text(&output)
}

#[test]
fn a_server_is_reached_only_if_its_address_is_allowed() {
    let Some(server) = postgres::server() else { return };
    server.sql("postgres", "create role visitor login password 'v'");
    let port = server.port;
    let folder = folder(&format!(
        r#"print(try {{ sql.connect("postgres://visitor:v@localhost:{port}/postgres").query("select 1 as n") }} catch e {{ "{{e.kind}}: {{e.message}}" }})"#
    ));
    let refused = permitted(&folder, "read=.");
    assert!(
        refused.contains(&format!(
            "not_permitted: `localhost:{port}` is not allowed; `--allow net=localhost:{port}` would allow it"
        )),
        "{refused}"
    );
    for allow in ["net", "net=localhost", &format!("net=localhost:{port}"), "net=127.0.0.0/8"] {
        assert!(permitted(&folder, allow).contains("[{n: 1}]"), "{allow}");
    }
    // A name may be allowed whose address is denied.
    let denied = durable(&folder, &["run", "a.df", "--deny", "net=127.0.0.1"]);
    assert!(text(&denied).contains("not_permitted"), "{}", text(&denied));
    let wanted = text(&durable(&folder, &["check", "--permissions", "a.df"]));
    assert!(wanted.contains(&format!("--allow net=localhost:{port}")), "{wanted}");
    // A socket is a file.
    let socket = self::folder(&format!(
        "print(try {{ sql.connect(\"{}\").query(\"select 1 as n\") }} catch e {{ e.kind }})",
        server.url("postgres")
    ));
    assert!(permitted(&socket, "net").contains("not_permitted"));
    assert!(permitted(&socket, &format!("fs={}", server.socket().display())).contains("[{n: 1}]"));
}

#[test]
fn a_file_is_used_only_if_its_path_is_allowed() {
    let folder = folder(
        r#"
        fn attempt(f) => try { f() } catch {kind, ..} { kind }
        let db = sql.connect("sqlite:in/data.db")
        print(attempt(fn () => db.execute("create table if not exists t (n int)")))
        print(attempt(fn () => sql.connect("sqlite:in/data.db?mode=ro").query("select count(*) as c from t")))
        print(attempt(fn () => sql.connect("sqlite:out.db").execute("create table if not exists t (n int)")))
        print(attempt(fn () => sql.connect("sqlite:in/link.db").execute("create table if not exists t (n int)")))
        print(attempt(fn () => db.execute("attach 'out.db' as o")))
        print(attempt(fn () => db.execute("attach $1 as o", ["out.db"])))
        print(attempt(fn () => db.execute("attach 'out' || '.db' as o")))
        print(attempt(fn () => db.execute("vacuum into 'out.db'")))
        print(attempt(fn () => db.execute("vacuum")))
        print(attempt(fn () => sql.connect("sqlite:in").query("select 1")))
        print(attempt(fn () => sql.connect("sqlite:in/data.db?mode=ro").execute("insert into t values (1)")))
        "#,
    );
    fs::create_dir(folder.path().join("in")).expect("a folder");
    symlink("../out.db", folder.path().join("in/link.db")).expect("a link");
    let shown = permitted(&folder, "fs=in");
    assert_eq!(
        shown,
        format!(
            "0\n[{{c: 0}}]\n{}{}0\nio_error\nsql_error\n",
            "not_permitted\n".repeat(2),
            "sql_error\n".repeat(4)
        )
    );
    assert!(!folder.path().join("out.db").exists());
    assert_eq!(permitted(&folder, "read=in").lines().next(), Some("not_permitted"));
    let wanted = text(&durable(&folder, &["check", "--permissions", "a.df"]));
    assert!(wanted.contains("read=in/data.db") && wanted.contains("write=out.db"), "{wanted}");
}

// ---- tests of programs

#[test]
fn a_mock_answers_in_place_of_a_database() {
    let folder = folder(
        r#"
        let found = "not run"
        orchestration count(url) => sql.connect(url).query("select count(*) as c from t")[0].c
        orchestration move(url) => sql.connect(url).transaction(["update t set n = 1"])
        test "counts" {
          mock sql.query with fn (db, text, params, options) => [{c: 7}]
          mock sql.transaction with fn () => [1]
          assert(count("postgres://nowhere/x") == 7)
          assert(move("postgres://nowhere/x") == [1])
        }
        "#,
    );
    for args in [&["test", "a.df"][..], &["explore", "a.df"]] {
        let output = durable(&folder, args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
    }
    let unmocked = self::folder("test \"t\" { sql.connect(\"sqlite:data.db\").query(\"select 1\") }");
    let shown = text(&durable(&unmocked, &["test", "a.df"]));
    assert!(shown.contains("sql.query"), "{shown}");
    assert!(!unmocked.path().join("data.db").exists());
}
