//! Secrets are known by their names. An effect reads the value when it needs it, and the value is
//! written nowhere.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{DURABLE, FINE, server};
use tempfile::TempDir;

const TOKEN: &str = "hush-4711";

fn folder(text: &str) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("a.df"), text).expect("a program");
    folder
}

fn command(folder: &TempDir, token: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new(DURABLE);
    command.current_dir(folder.path()).args(args).stdin(Stdio::null()).env_remove("TOKEN");
    if let Some(token) = token {
        command.env("TOKEN", token);
    }
    command
}

fn durable(folder: &TempDir, args: &[&str]) -> Output {
    command(folder, Some(TOKEN), args).output().expect("durable runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Returns whether a file below a folder contains a text.
fn has(folder: &Path, wanted: &str) -> bool {
    fs::read_dir(folder).expect("a folder").flatten().any(|entry| match entry.path() {
        path if path.is_dir() => has(&path, wanted),
        path => {
            let bytes = fs::read(path).unwrap_or_default();
            bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
        }
    })
}

/// Returns everything that commands show of a store.
fn seen(folder: &TempDir, id: &str) -> String {
    let commands: [&[&str]; 5] = [
        &["store", "export"],
        &["history", id],
        &["history", id, "--json"],
        &["show", id, "--json"],
        &["list", "--json"],
    ];
    commands.into_iter().map(|args| text(&durable(folder, args))).collect()
}

#[test]
fn a_secret_reaches_effects_and_nothing_else() {
    let (port, asked) = server(|_| FINE.to_string());
    let folder = folder(&format!(
        r#"
        activity call(token) {{
          http.post("http://127.0.0.1:{port}/", {{inside: [token]}}, {{headers: {{authorization: "Bearer {{token}}"}}, query: {{key: token}}}}).body
        }}
        orchestration child(token) => call(token)
        let token = secret("TOKEN")
        print(token)
        print("it is {{token}}, " + token)
        print(child(token))
        print(http.get("http://127.0.0.1:{port}/", {{headers: {{"x-api-key": token}}}}).body)
        exec.run("sh", ["-c", "echo $T > from-variable; echo $0 > from-argument; cat > from-input", token], {{env: {{T: token}}, input: token}})
        fs.write("from-write", "a " + token)
        log.info(token)
        set_status({{token}})
        print([kind_of(["a", token].join("-")), ["a", token].join("-")])
        print([kind_of(token), token == secret("TOKEN"), token])
        "#
    ));
    let run = durable(&folder, &["run", "--id", "r", "a.df"]);
    let shown = text(&run);
    assert!(run.status.success(), "{shown}");
    assert!(
        shown.contains("***\nit is ***, ***\nhi\nhi\n") && shown.contains("[\"secret\", true, ***]"),
        "{shown}"
    );
    assert!(!shown.contains(TOKEN), "{shown}");
    assert!(shown.contains("[\"secret\", a-***]"), "{shown}");
    let first = asked.recv().expect("a request");
    assert!(first.contains(&format!("authorization: Bearer {TOKEN}")), "{first}");
    assert!(
        first.contains(&format!("?key={TOKEN}")) && first.contains(&format!("{{\"inside\":[\"{TOKEN}\"]}}")),
        "{first}"
    );
    assert!(asked.recv().expect("a request").contains(&format!("x-api-key: {TOKEN}")));
    for (file, held) in
        [("variable", "hush-4711\n"), ("argument", "hush-4711\n"), ("input", TOKEN), ("write", "a hush-4711")]
    {
        assert_eq!(
            fs::read_to_string(folder.path().join(format!("from-{file}"))).expect(file),
            held,
            "{file}"
        );
    }
    let seen = seen(&folder, "r");
    assert!(seen.contains("TOKEN") && !seen.contains(TOKEN), "{seen}");
    assert!(!has(&folder.path().join(".durable"), TOKEN));
    assert!(text(&durable(&folder, &["replay", "r"])).contains("r"), "it replays");
}

#[test]
fn a_secret_is_read_again_by_who_goes_on() {
    let folder = folder(
        r#"
        let token = secret("TOKEN")
        while !fs.exists("go") { fs.write("ready", ""); sleep(10ms) }
        print(try { exec.run("sh", ["-c", "printf %s \"$T\" > used"], {env: {T: token}}) } catch {kind} { kind })
        "#,
    );
    let at = |name: &str| folder.path().join(name);
    for (token, used) in [(Some("another"), "another"), (None, "no_secret")] {
        fs::remove_file(at("go")).ok();
        fs::remove_file(at("ready")).ok();
        let id = format!("r-{used}");
        let mut child = command(&folder, Some(TOKEN), &["run", "--id", &id, "a.df"])
            .stdout(Stdio::null())
            .spawn()
            .expect("durable runs");
        let began = Instant::now();
        while !at("ready").exists() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        fs::write(at("go"), "").expect("a file");
        let again = command(&folder, token, &["resume", &id]).output().expect("durable runs");
        let held = fs::read_to_string(at("used")).unwrap_or_default();
        assert!(held == used || text(&again).contains(used), "{held} {}", text(&again));
    }
}

#[test]
fn a_secret_needs_its_variable_and_the_right_to_read_it() {
    let folder = folder(
        r#"
        fn attempt(f) => try { f() } catch {kind, message, ..} { "{kind}: {message}" }
        let token = secret("TOKEN")
        print(attempt(fn () => secret("NO_SUCH_VARIABLE")))
        print(attempt(fn () => token.len()))
        print(attempt(fn () => json.encode({token})))
        print(attempt(fn () => token + 1))
        print(attempt(fn () => http.get("http://127.0.0.1:1/{token}")))
        print(attempt(fn () => http.get("http://127.0.0.1:1/", {query: {token}})))
        print(attempt(fn () => exec("{token}/x")))
        print(attempt(fn () => fs.read("x{token}")))
        "#,
    );
    let run = durable(&folder, &["run", "a.df"]);
    let shown = text(&run);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(run.status.success() && !shown.contains(TOKEN), "{shown}");
    assert!(lines[0].starts_with("no_secret: there is no secret `NO_SUCH_VARIABLE`"), "{shown}");
    assert!(lines[1..4].iter().all(|line| line.starts_with("type_error")), "{shown}");
    assert!(lines[5].starts_with("http_error"), "{shown}");
    for flags in [["--deny", "env=TOKEN"], ["--allow", "net"]] {
        let run = durable(&folder, &["run", flags[0], flags[1], "--store", "other", "a.df"]);
        assert!(!run.status.success() && text(&run).contains("not_permitted"), "{}", text(&run));
    }
}

#[test]
fn what_is_redacted_has_no_values_of_variables_and_headers() {
    let (port, asked) = server(|_| FINE.to_string());
    let folder = folder(&format!(
        r#"
        let token = env("TOKEN")
        print(http.get("http://127.0.0.1:{port}/?t={{token}}", {{headers: {{"x-api-key": "key-0815", authorization: "Basic pass-99", accept: "text/plain"}}}}).body)
        exec.run("true", [], {{env: {{T: "variable-3"}}}})
        activity echo(x) => x
        print(echo({{deep: ["so {{token}}", "key-0815", "pass-99"]}}))
        "#
    ));
    let run = durable(&folder, &["run", "--id", "r", "a.df"]);
    assert!(run.status.success(), "{}", text(&run));
    assert!(asked.recv().expect("a request").contains(TOKEN));
    let secrets = [TOKEN, "key-0815", "pass-99", "variable-3"];
    let plain = text(&durable(&folder, &["store", "export"]));
    assert!(secrets.iter().all(|secret| plain.contains(secret)), "{plain}");
    let redacted: [&[&str]; 4] = [
        &["store", "export", "--redact"],
        &["history", "r", "--redact"],
        &["history", "r", "--redact", "--json"],
        &["store", "export", "--redact", "out.jsonl"],
    ];
    for args in redacted {
        let mut shown = text(&durable(&folder, args));
        shown.push_str(&fs::read_to_string(folder.path().join("out.jsonl")).unwrap_or_default());
        let program = |line: &&str| !line.contains("\"type\":\"text\"");
        let shown: String = shown.lines().filter(program).collect();
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{args:?} {shown}");
        assert!(shown.contains("***"), "{args:?} {shown}");
    }
    let import = durable(&folder, &["store", "import", "out.jsonl", "--store", "other"]);
    assert_eq!(import.status.code(), Some(2), "{}", text(&import));
    assert!(text(&import).contains("--redact"), "{}", text(&import));
}

#[test]
fn a_signature_by_a_secret_is_that_of_its_value() {
    let folder = folder(
        r#"
        let body = "body"
        let signature = hash.hmac(secret("TOKEN"), body)
        print(signature == hash.hmac("hush" + "-4711", body))
        print(hash.hmac("v1-" + secret("TOKEN"), body, {algorithm: "sha512"}) == hash.hmac("v1-hush" + "-4711", body, {algorithm: "sha512"}))
        fn tries(f) => try { f() } catch e { "{e.kind}: {e.message}" }
        print(tries(fn () => hash.hmac(secret("TOKEN"), 5)))
        print(tries(fn () => hash.hmac(secret("TOKEN"), body, {algo: "sha512"})))
        print(tries(fn () => hash.sha256(secret("TOKEN"))))
        activity sign(text) => hash.hmac(secret("TOKEN"), text)
        print(sign(body) == signature)
        "#,
    );
    let run = durable(&folder, &["run", "a.df", "--id", "x"]);
    let lines: Vec<String> = text(&run).lines().map(str::to_string).collect();
    assert_eq!(
        lines,
        [
            "true",
            "true",
            "type_error: a string or bytes was expected, not an int",
            "type_error: `hash.hmac` has no option `algo` (its option is algorithm)",
            "type_error: a secret has no checksum: it can be joined with text, and handed to an effect, which finds its value",
            "true"
        ]
    );
    assert!(!has(&folder.path().join(".durable"), TOKEN) && !seen(&folder, "x").contains(TOKEN));
    let replayed = durable(&folder, &["replay", "x"]);
    assert!(replayed.status.success(), "{}", text(&replayed));
}

/// Neither a command line nor an input names a secret, and an export does.
#[test]
fn arguments_can_not_name_secrets() {
    let program = "orchestration o(x) { exec.run(\"/bin/echo\", [\"{x}\"]) }\n\
        let token = secret(\"TOKEN\")\nprint(token)\nprint(args)\n";
    let folder = folder(program);
    let named = r#"{"$entity": "***", "key": ["", "TOKEN", ""]}"#;
    let within = format!("[[{named}]]");
    let commands: [&[&str]; 3] = [
        &["start", "a.df", "o", named, "--id", "x"],
        &["start", "a.df", "o", &within, "--id", "y"],
        &["run", "a.df", "--input", named],
    ];
    for args in commands {
        let run = durable(&folder, args);
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", text(&run));
        assert!(text(&run).contains("can't name a secret"), "{args:?}: {}", text(&run));
    }
    // The history of a program that made a secret itself comes back.
    let run = durable(&folder, &["run", "a.df", "--id", "k"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    fs::write(folder.path().join("all.jsonl"), durable(&folder, &["store", "export"]).stdout)
        .expect("a file");
    let run = durable(&folder, &["store", "import", "all.jsonl", "--store", "copy"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run));
    let histories =
        [".durable", "copy"].map(|store| text(&durable(&folder, &["history", "k", "--store", store])));
    assert_eq!(histories[0], histories[1]);
}
