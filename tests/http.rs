//! The HTTP server: every route with its codes, the matrix of rights, the feed of changes, and
//! kills in the middle.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::DURABLE;
use durable::http::{Keys, Scope};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

const PROGRAM: &str = r#"
entity Account {
  state {balance: 0}
  on deposit(n) {
    if n < 0 { throw {kind: "bad_amount", message: "{n}"} }
    state.balance += n
  }
}
activity charge(n) with {retry: {times: 2, first: 1ms}} {
  if n > 100 { throw {kind: "declined", message: "too dear"} }
  "receipt {n}"
}
orchestration order(n) {
  let receipt = charge(n)
  set_status({receipt})
  let ok = receive("approved")
  {receipt, ok}
}
activity flaky() with {retry: {times: 9, first: 1ms, factor: 3600000.0}} {
  throw {kind: "unavailable", message: "attempt {attempt()}"}
}
orchestration trying() => flaky()
orchestration double(n) => n * 2
orchestration nothing() => null
orchestration failing() => throw {kind: "odd", message: "on purpose"}
orchestration holding(who) {
  lock Account(who) { receive("go") }
}
"#;

/// A process that serves a store.
struct Server {
    child: Child,
    address: String,
    keys: Keys,
}

impl Server {
    /// Serves the store in a folder, with the program of this file deployed.
    fn start(folder: &Path) -> Server {
        Server::with(folder, &[])
    }

    fn with(folder: &Path, more: &[&str]) -> Server {
        fs::write(folder.join("orders.df"), PROGRAM).expect("a program");
        let deployed = Command::new(DURABLE)
            .current_dir(folder)
            .args(["deploy", "orders.df", "--store", "store"])
            .output()
            .expect("durable runs");
        assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        Server::serve(folder, more)
    }

    /// Serves the store in a folder as it is.
    fn serve(folder: &Path, more: &[&str]) -> Server {
        let store = folder.join("store");
        let mut child = Command::new(DURABLE)
            .current_dir(folder)
            .args(["serve", "--store", "store", "--http", "127.0.0.1:0"])
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("durable runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let address = line.trim().rsplit("//").next().unwrap_or_default().to_string();
        assert!(line.starts_with("listening on http"), "{line}");
        // The pipe is read to its end, so that the server never waits for it.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let keys = Keys::open(&store.join("token")).expect("tokens");
        Server { child, address, keys }
    }

    fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    /// Sends a request as an administrator.
    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let token = format!("authorization: Bearer {}", self.keys.token(Scope::Admin));
        self.send(method, path, &[&token], body)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, body)
    }

    /// Begins an instance.
    fn begin(&self, function: &str, args: Json, id: &str) {
        let body = json!({"function": function, "args": args, "id": id}).to_string();
        assert_eq!(self.post("/api/v1/instances", &body).code, 202);
    }

    /// Sends a request with these headers alone.
    fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        if !headers.iter().any(|header| header.to_lowercase().starts_with("host:")) {
            more.push_str(&format!("Host: {}\r\n", self.address));
        }
        let text = format!(
            "{method} {path} HTTP/1.1\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        raw(&self.address, text.as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the server.
#[derive(Debug)]
struct Answer {
    code: u16,
    headers: BTreeMap<String, String>,
    text: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Sends bytes, and reads an answer to its end.
fn raw(address: &str, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a limit");
    // A server that refuses a body need not read the rest of it.
    let _ = stream.write_all(bytes);
    answer(stream)
}

/// Reads an answer to its end.
fn answer(mut stream: TcpStream) -> Answer {
    let mut answer = Vec::new();
    // A server that ends the connection early has answered before.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let code = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_string()))
        .collect();
    Answer { code: code.unwrap_or(0), headers, text: body.to_string() }
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// Clients can't choose a variable of the server's environment and have a program send its value
/// out: no JSON that they send names a secret.
#[test]
fn clients_can_not_name_secrets() {
    let folder = folder();
    let server = Server::start(folder.path());
    let secret = r#"{"$entity": "***", "key": ["", "HOME", ""]}"#;
    let list = format!("[{secret}]");
    // The same list as a client may hide it.
    let hidden = json!({"$data": data_of(&list)}).to_string();
    server.post("/api/v1/instances", r#"{"function": "order", "args": [5], "id": "o1"}"#);
    for given in [list.clone(), format!("[[{{\"a\": {secret}}}]]"), list.replace('$', "\\u0024"), hidden] {
        for (path, body) in [
            ("/api/v1/instances", format!(r#"{{"function": "double", "args": {given}, "id": "s1"}}"#)),
            ("/api/v1/instances", format!(r#"{{"function": "double", "input": {given}, "id": "s1"}}"#)),
            ("/api/v1/instances/o1/events/approved", given.clone()),
            ("/api/v1/entities/Account/a/signal/deposit", format!(r#"{{"args": {given}}}"#)),
            ("/api/v1/entities/Account/a/call/deposit", format!(r#"{{"args": {given}, "id": "c1"}}"#)),
        ] {
            let answer = server.post(path, &body);
            assert_eq!(answer.code, 400, "{path} {body}: {}", answer.text);
        }
    }
    assert_eq!(server.get("/api/v1/instances/s1").code, 404);
}

/// Returns the data of lossless JSON in base64.
fn data_of(json: &str) -> String {
    let data = durable::machine::json::stored_data(json).expect("data");
    BASE64.encode(&data.0)
}

/// Each request with the code that it gets, and for problems their kind.
#[test]
fn every_route_has_its_codes() {
    let folder = folder();
    let server = Server::start(folder.path());
    let table: &[(&str, &str, &str, u16, &str)] = &[
        ("GET", "/healthz", "", 200, ""),
        ("GET", "/readyz", "", 200, ""),
        ("GET", "/", "", 200, ""),
        ("GET", "/page/main.js", "", 200, ""),
        ("GET", "/page/none.js", "", 404, "unknown_route"),
        ("GET", "/nothing", "", 404, "unknown_route"),
        ("PUT", "/healthz", "", 405, "wrong_method"),
        ("GET", "/metrics", "", 200, ""),
        ("GET", "/api/v1/openapi.json", "", 200, ""),
        ("GET", "/api/v1/nothing", "", 404, "unknown_route"),
        ("DELETE", "/api/v1/instances", "", 405, "wrong_method"),
        // Starts.
        ("POST", "/api/v1/instances", r#"{"function": "order", "args": [5], "id": "o1"}"#, 202, ""),
        ("POST", "/api/v1/instances", r#"{"function": "order", "args": [5], "id": "o1"}"#, 202, ""),
        ("POST", "/api/v1/instances", r#"{"function": "order", "args": [6], "id": "o1"}"#, 409, "id_taken"),
        (
            "POST",
            "/api/v1/instances",
            r#"{"function": "order", "args": [5], "id": "o1", "if_exists": "fail"}"#,
            409,
            "id_taken",
        ),
        ("POST", "/api/v1/instances", r#"{"function": "double", "input": 21, "id": "d1"}"#, 202, ""),
        ("POST", "/api/v1/instances", r#"{"function": "nothing"}"#, 202, ""),
        ("POST", "/api/v1/instances", r#"{"function": "failing", "id": "f1"}"#, 202, ""),
        ("POST", "/api/v1/instances", r#"{"function": "none"}"#, 404, "unknown_function"),
        ("POST", "/api/v1/instances", r#"{"function": "double", "args": []}"#, 400, "bad_request"),
        (
            "POST",
            "/api/v1/instances",
            r#"{"function": "double", "args": [1], "input": 1}"#,
            400,
            "bad_request",
        ),
        ("POST", "/api/v1/instances", r#"{"function": "double", "args": {}}"#, 400, "bad_request"),
        (
            "POST",
            "/api/v1/instances",
            r#"{"function": "double", "args": [1], "ID": "x"}"#,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/api/v1/instances",
            r#"{"function": "double", "args": [1], "id": "a:b"}"#,
            400,
            "bad_request",
        ),
        (
            "POST",
            "/api/v1/instances",
            r#"{"function": "double", "args": [99999999999999999999]}"#,
            400,
            "bad_request",
        ),
        ("POST", "/api/v1/instances", "not JSON", 400, "bad_request"),
        ("POST", "/api/v1/instances", "", 400, "bad_request"),
        // Reads.
        ("GET", "/api/v1/instances/d1?wait=20", "", 200, ""),
        ("GET", "/api/v1/instances/f1?wait=20", "", 200, ""),
        ("GET", "/api/v1/instances/d1?wait=-1", "", 400, "bad_request"),
        ("GET", "/api/v1/instances/d1?weight=1", "", 400, "bad_request"),
        ("GET", "/api/v1/instances/none", "", 404, "unknown_instance"),
        ("GET", "/api/v1/instances", "", 200, ""),
        ("GET", "/api/v1/instances?status=failed,running&function=order&limit=1", "", 200, ""),
        ("GET", "/api/v1/instances?status=odd", "", 400, "bad_request"),
        ("GET", "/api/v1/instances?limit=0", "", 400, "bad_request"),
        ("GET", "/api/v1/instances?limit=1001", "", 400, "bad_request"),
        ("GET", "/api/v1/instances?cursor=x", "", 400, "bad_request"),
        ("GET", "/api/v1/instances?after=yesterday", "", 400, "bad_request"),
        ("GET", "/api/v1/instances?after=2000-01-01T00:00:00Z&before=2000-01-01T00:00:00Z", "", 200, ""),
        ("GET", "/api/v1/instances/counts", "", 200, ""),
        ("GET", "/api/v1/instances/o1/tree", "", 200, ""),
        ("GET", "/api/v1/instances/none/tree", "", 404, "unknown_instance"),
        ("GET", "/api/v1/instances/o1/history?kind=activity&text=charge&limit=5", "", 200, ""),
        ("GET", "/api/v1/instances/none/history", "", 404, "unknown_instance"),
        ("GET", "/api/v1/instances/o1/timeline?pixels=300", "", 200, ""),
        ("GET", "/api/v1/instances/o1/debug", "", 200, ""),
        ("GET", "/api/v1/instances/o1/debug?at=1.1&step=next", "", 200, ""),
        ("GET", "/api/v1/instances/o1/debug?at=soon", "", 400, "bad_request"),
        ("GET", "/api/v1/instances/none/debug", "", 404, "unknown_instance"),
        ("GET", "/api/v1/instances/o1/trace.json", "", 200, ""),
        ("GET", "/api/v1/instances/o1/output", "", 200, ""),
        ("GET", "/api/v1/instances/o1/waits", "", 200, ""),
        // Commands.
        ("POST", "/api/v1/instances/o1/suspend", "", 202, ""),
        ("POST", "/api/v1/instances/o1/resume", "{}", 202, ""),
        ("POST", "/api/v1/instances/none/suspend", "", 404, "unknown_instance"),
        ("POST", "/api/v1/instances/o1/events/approved", "{", 400, "bad_request"),
        ("POST", "/api/v1/instances/o1/purge", "", 412, "refused"),
        ("POST", "/api/v1/instances/o1/rewind", "", 412, "refused"),
        (
            "POST",
            "/api/v1/instances/o1/upgrade",
            r#"{"file": "a.df", "modules": {"a.df": "orchestration order(n) => n"}, "dry_run": true}"#,
            200,
            "",
        ),
        (
            "POST",
            "/api/v1/instances/none/upgrade",
            r#"{"file": "a.df", "modules": {"a.df": "orchestration order(n) => n"}}"#,
            404,
            "unknown_instance",
        ),
        (
            "POST",
            "/api/v1/instances/d1/upgrade",
            r#"{"file": "a.df", "modules": {"a.df": "orchestration order(n) => n"}}"#,
            410,
            "ended",
        ),
        ("POST", "/api/v1/instances/o1/upgrade", r#"{"file": "a.df", "modules": {}}"#, 400, "bad_request"),
        ("POST", "/api/v1/instances/o1/events/approved", r#"{"by": "ada"}"#, 202, ""),
        ("GET", "/api/v1/instances/o1?wait=20", "", 200, ""),
        ("POST", "/api/v1/instances/o1/events/approved", "", 410, "ended"),
        ("POST", "/api/v1/instances/o1/terminate", "", 410, "ended"),
        ("POST", "/api/v1/instances/f1/rewind", r#"{"dry_run": true}"#, 412, "refused"),
        ("POST", "/api/v1/instances", r#"{"function": "order", "args": [101], "id": "r1"}"#, 202, ""),
        ("GET", "/api/v1/instances/r1?wait=20", "", 200, ""),
        ("POST", "/api/v1/instances/r1/rewind", r#"{"dry_run": true}"#, 200, ""),
        ("POST", "/api/v1/instances/r1/rewind", "", 200, ""),
        ("POST", "/api/v1/instances/o1/restart", r#"{"id": "o3"}"#, 202, ""),
        ("POST", "/api/v1/instances/o3/cancel", r#"{"reason": "late", "grace": 5}"#, 202, ""),
        ("GET", "/api/v1/instances/o3?wait=20", "", 200, ""),
        ("POST", "/api/v1/instances/o3/cancel", "", 410, "ended"),
        ("POST", "/api/v1/instances/none/cancel", "", 404, "unknown_instance"),
        ("POST", "/api/v1/instances/o3/cancel", r#"{"grace": -1}"#, 400, "bad_request"),
        ("POST", "/api/v1/instances/o1/restart", r#"{"id": "o2"}"#, 202, ""),
        ("POST", "/api/v1/instances/o2/terminate", r#"{"reason": "no need"}"#, 202, ""),
        ("GET", "/api/v1/instances/o2?wait=20", "", 200, ""),
        ("POST", "/api/v1/instances/o2/purge", "", 200, ""),
        ("GET", "/api/v1/instances/o2", "", 404, "unknown_instance"),
        ("POST", "/api/v1/instances/batch", r#"{"ids": ["d1", "none"], "action": "suspend"}"#, 200, ""),
        (
            "POST",
            "/api/v1/instances/batch",
            r#"{"filter": {"function": "order"}, "action": "purge", "expect": 7}"#,
            412,
            "refused",
        ),
        ("POST", "/api/v1/instances/batch", r#"{"action": "purge"}"#, 400, "bad_request"),
        // Entities and programs.
        ("POST", "/api/v1/entities/Account/ada/signal/deposit", r#"{"args": [5]}"#, 202, ""),
        (
            "POST",
            "/api/v1/entities/Account/ada/signal/deposit",
            r#"{"args": [5], "after": -1}"#,
            400,
            "bad_request",
        ),
        ("POST", "/api/v1/entities/None/ada/signal/deposit", "", 404, "unknown_entity"),
        ("POST", "/api/v1/entities/Account/cy/call/deposit", r#"{"args": [5], "id": "c1"}"#, 200, ""),
        ("POST", "/api/v1/entities/Account/cy/call/deposit", r#"{"args": [5], "id": "c1"}"#, 200, ""),
        ("POST", "/api/v1/entities/Account/cy/call/deposit", r#"{"args": [6], "id": "c1"}"#, 409, "id_taken"),
        ("POST", "/api/v1/entities/Account/cy/call/deposit", r#"{"args": [-1]}"#, 422, "operation_failed"),
        (
            "POST",
            "/api/v1/entities/Account/cy/call/deposit",
            r#"{"args": [5], "timeout": -1}"#,
            400,
            "bad_request",
        ),
        ("POST", "/api/v1/entities/None/cy/call/deposit", "", 404, "unknown_entity"),
        ("GET", "/api/v1/entities/Account/ada", "", 200, ""),
        ("GET", "/api/v1/entities/None/ada", "", 404, "unknown_entity"),
        ("GET", "/api/v1/entities/Account/ada/operations?limit=5", "", 200, ""),
        ("GET", "/api/v1/entities/Account/ada/operations?cursor=x", "", 400, "bad_request"),
        ("GET", "/api/v1/entities/None/ada/operations", "", 404, "unknown_entity"),
        ("GET", "/api/v1/entities/Account", "", 200, ""),
        ("GET", "/api/v1/entities/None", "", 404, "unknown_entity"),
        ("POST", "/api/v1/entities/Account", "", 405, "wrong_method"),
        ("GET", "/api/v1/entities?name=Account&limit=1", "", 200, ""),
        ("GET", "/api/v1/entities?cursor=zz", "", 400, "bad_request"),
        ("GET", "/api/v1/locks", "", 200, ""),
        ("GET", "/api/v1/cluster", "", 200, ""),
        ("GET", "/api/v1/programs", "", 200, ""),
        ("GET", "/api/v1/functions", "", 200, ""),
        ("GET", "/api/v1/programs/abc/texts/0", "", 400, "bad_request"),
        (
            "POST",
            "/api/v1/programs",
            r#"{"file": "a.df", "modules": {"a.df": "orchestration more() => 1"}}"#,
            200,
            "",
        ),
        (
            "POST",
            "/api/v1/programs",
            r#"{"file": "a.df", "modules": {"a.df": "let = "}}"#,
            400,
            "bad_request",
        ),
        ("POST", "/api/v1/programs", r#"{"file": "a.df", "modules": {}}"#, 400, "bad_request"),
        ("POST", "/api/v1/instances", r#"{"function": "more"}"#, 202, ""),
        ("GET", "/api/v1/changes?since=x", "", 400, "bad_request"),
    ];
    for (method, path, body, code, kind) in table {
        let answer = server.ask(method, path, body);
        assert_eq!(answer.code, *code, "{method} {path} {body}: {}", answer.text);
        if *code >= 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
            assert_eq!(answer.json()["kind"], *kind, "{method} {path} {body}: {}", answer.text);
            assert_eq!(answer.json()["status"], *code);
        }
        for header in ["content-security-policy", "x-content-type-options", "referrer-policy"] {
            assert!(answer.headers.contains_key(header), "{method} {path} has no {header}");
        }
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    assert_eq!(server.get("/api/v1/instances/d1").json()["result"], 42);
    let cy = server.get("/api/v1/entities/Account/cy").json();
    assert_eq!(cy["state"], json!({"balance": 5}), "a repeated call happens once");
    let order = server.get("/api/v1/instances/o1").json();
    assert_eq!(order["result"], json!({"receipt": "receipt 5", "ok": {"by": "ada"}}));
    // The state shows once the signal was taken in.
    let until = Instant::now() + Duration::from_secs(20);
    while server.get("/api/v1/entities/Account/ada").json()["state"] != json!({"balance": 5}) {
        assert!(Instant::now() < until, "the signal is not taken in");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The declared operations are those of the newest program, wherever the program has the entity.
#[test]
fn an_entity_has_the_operations_of_its_newest_program() {
    let folder = folder();
    let server = Server::start(folder.path());
    let operations = |server: &Server| server.get("/api/v1/entities/Account").json()["operations"].clone();
    let deposit = json!([{"operation": "deposit", "doc": "", "params": [{"name": "n", "default": null}],
        "least": 1, "most": 1}]);
    assert_eq!(operations(&server), deposit);
    let newer = json!({"file": "bank.df", "modules": {
        "bank.df": "import \"accounts.df\" as accounts\norchestration look(who) => accounts.Account(who).balance()",
        "accounts.df": "/// Money.\nentity Account {\n  state {balance: 0}\n  /// Pays in.\n  \
                        on deposit(n, note = \"none\") { state.balance += n }\n  on balance() => state.balance\n}",
    }});
    assert_eq!(server.post("/api/v1/programs", &newer.to_string()).code, 200);
    let found = server.get("/api/v1/entities/Account").json();
    assert_eq!((&found["file"], &found["doc"]), (&json!("accounts.df"), &json!("Money.")));
    assert_eq!(found["state"], "{balance: 0}");
    let newest = json!([
        {"operation": "deposit", "doc": "Pays in.", "least": 1, "most": 2,
            "params": [{"name": "n", "default": null}, {"name": "note", "default": "\"none\""}]},
        {"operation": "balance", "doc": "", "params": [], "least": 0, "most": 0},
    ]);
    assert_eq!(found["operations"], newest);
    server.kill();
    assert_eq!(operations(&Server::serve(folder.path(), &[])), newest, "after a restart");
}

/// A step that is tried again says how often it has failed, why, and when the next attempt comes.
#[test]
fn waits_say_why_attempts_have_failed() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.begin("trying", json!([]), "t1");
    let until = Instant::now() + Duration::from_secs(20);
    let wait = loop {
        let wait = server.get("/api/v1/instances/t1/waits").json()["items"][0].clone();
        if wait["failed_attempts"] == 2 {
            break wait;
        }
        assert!(Instant::now() < until, "{wait}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        (&wait["shown"], &wait["error"]["value"]["message"]),
        (&json!("flaky()"), &json!("attempt 2"))
    );
    assert!(wait["again"].as_str() > wait["time"].as_str(), "{wait}");
    server.kill();
    let server = Server::serve(folder.path(), &[]);
    assert_eq!(server.get("/api/v1/instances/t1/waits").json()["items"][0], wait, "after a restart");
}

/// The kept operations of an entity come in pages, the newest first, with their callers, results and
/// states.
#[test]
fn kept_operations_come_in_pages() {
    let folder = folder();
    let server = Server::with(folder.path(), &["--journal-entities"]);
    let path = "/api/v1/entities/Account/ada";
    for (amount, code) in [(5, 200), (-1, 422), (7, 200)] {
        let call = json!({"args": [amount], "id": format!("call-{amount}")}).to_string();
        assert_eq!(server.post(&format!("{path}/call/deposit"), &call).code, code);
    }
    assert_eq!(server.post(&format!("{path}/signal/deposit"), r#"{"args": [1]}"#).code, 202);
    let read = |server: &Server, query: &str| server.get(&format!("{path}/operations?{query}")).json();
    let until = Instant::now() + Duration::from_secs(20);
    while read(&server, "")["count"] != 4 {
        assert!(Instant::now() < until, "the signal is not taken in");
        std::thread::sleep(Duration::from_millis(5));
    }

    let first = read(&server, "limit=3");
    let numbers = |page: &Json| -> Vec<Json> {
        page["items"].as_array().expect("items").iter().map(|item| item["number"].clone()).collect()
    };
    assert_eq!(numbers(&first), [4, 3, 2]);
    let [signal, paid, refused] = [0, 1, 2].map(|at| first["items"][at].clone());
    assert_eq!((&signal["kind"], &signal["caller"]), (&json!("signal"), &Json::Null));
    assert_eq!((&paid["operation"], &paid["args"]), (&json!("deposit"), &json!([7])));
    assert!(paid["caller"].as_str().expect("a caller").ends_with("call-7"), "{paid}");
    assert_eq!((&paid["before"], &paid["after"]), (&json!({"balance": 5}), &json!({"balance": 12})));
    assert_eq!(
        (&refused["changed"], &refused["error"]["value"]["kind"]),
        (&json!(false), &json!("bad_amount"))
    );

    let second = read(&server, &format!("limit=3&cursor={}", first["next"].as_str().expect("a cursor")));
    assert_eq!((numbers(&second), &second["next"]), (vec![json!(1)], &Json::Null));
    let (mut all, mut query) = (Vec::new(), "limit=1".to_string());
    loop {
        let page = read(&server, &query);
        all.extend(numbers(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=1&cursor={next}");
    }
    assert_eq!(all, [4, 3, 2, 1]);

    // What was kept stays when operations are kept no longer.
    server.kill();
    let server = Server::serve(folder.path(), &["--journal-entities=off"]);
    assert_eq!(server.post(&format!("{path}/call/deposit"), r#"{"args": [2]}"#).code, 200);
    let page = read(&server, "");
    assert_eq!(
        (&page["kept"], numbers(&page)),
        (&json!(false), vec![json!(4), json!(3), json!(2), json!(1)])
    );
    let other = server.get("/api/v1/entities/Account/bob/operations").json();
    assert_eq!(other, json!({"items": [], "next": null, "count": 0, "kept": false}));
}

/// The management API of Azure: each request with the code that it gets there.
#[test]
fn azures_routes_have_its_codes() {
    let folder = folder();
    let server = Server::start(folder.path());
    let key = server.keys.token(Scope::Admin).to_string();
    let base = "/runtime/webhooks/durabletask";
    let ask = |method: &str, path: &str, body: &str| {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{base}{path}{join}taskHub=x&connection=Storage&code={key}");
        server.send(method, &path, &[], body)
    };
    let started = ask("POST", "/orchestrators/order/a1", "5");
    assert_eq!(started.code, 202);
    assert!(started.headers["location"].contains("/instances/a1?code="));
    assert!(started.headers.contains_key("retry-after"));
    let links = started.json();
    for name in [
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
        "rewindPostUri",
    ] {
        assert!(links[name].as_str().is_some_and(|link| link.contains("code=")), "{name}");
    }
    let table: &[(&str, &str, &str, u16)] = &[
        ("POST", "/orchestrators/order/a1", "5", 202),
        ("POST", "/orchestrators/order/a1", "6", 409),
        ("POST", "/Orchestrators/double?timeout=20&pollingInterval=1", "4", 200),
        ("POST", "/orchestrators/failing?timeout=20", "", 500),
        ("POST", "/orchestrators/none", "", 400),
        ("POST", "/orchestrators/double", "{", 400),
        ("GET", "/orchestrators/double", "", 405),
        ("GET", "/instances/a1", "", 202),
        ("GET", "/instances/none", "", 404),
        ("POST", "/instances/a1/suspend?reason=x", "", 202),
        ("POST", "/instances/a1/resume?reason=x", "", 202),
        ("POST", "/instances/none/suspend", "", 404),
        ("DELETE", "/instances/a1", "", 412),
        ("POST", "/instances/a1/rewind", "", 412),
        ("POST", "/instances/a1/restart?restartWithNewInstanceId=false", "", 409),
        ("POST", "/instances/a1/raiseEvent/approved", "{", 400),
        ("POST", "/instances/none/raiseEvent/approved", "1", 404),
        ("POST", "/instances/a1/RaiseEvent/approved", "true", 202),
        ("GET", "/instances?top=0", "", 400),
        ("GET", "/instances?runtimeStatus=odd", "", 400),
        ("GET", "/instances?runtimeStatus=Pending", "", 200),
        ("GET", "/instances?createdTimeFrom=x", "", 400),
        ("DELETE", "/instances", "", 400),
        ("DELETE", "/instances?createdTimeFrom=2999-01-01T00:00:00Z", "", 404),
        ("POST", "/entities/Account/bob?op=deposit", "3", 202),
        ("POST", "/entities/Account/bob", "3", 400),
        ("POST", "/entities/None/bob?op=deposit", "3", 404),
        ("GET", "/entities/Account/nobody", "", 404),
        ("GET", "/entities?fetchState=true", "", 200),
        ("GET", "/entities/Account?top=1", "", 200),
        ("GET", "/nothing", "", 404),
    ];
    for (method, path, body, code) in table {
        let answer = ask(method, path, body);
        assert_eq!(answer.code, *code, "{method} {path} {body}: {}", answer.text);
    }
    assert_eq!(server.get("/api/v1/instances/a1?wait=20").json()["status"], "completed");
    let shown = ask("GET", "/instances/a1?showHistory=true&showHistoryOutput=true", "");
    assert_eq!((shown.code, shown.json()["runtimeStatus"].as_str()), (200, Some("Completed")));
    assert_eq!(shown.json()["output"], json!({"receipt": "receipt 5", "ok": true}));
    assert_eq!(shown.json()["input"], 5);
    let events: Vec<String> = shown.json()["historyEvents"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["EventType"].as_str().unwrap_or_default().to_string())
        .collect();
    assert_eq!(events.first().map(String::as_str), Some("ExecutionStarted"));
    assert_eq!(events.last().map(String::as_str), Some("ExecutionCompleted"));
    assert!(events.contains(&"EventRaised".to_string()), "{events:?}");
    assert_eq!(ask("POST", "/instances/a1/raiseEvent/approved", "1").code, 410);
    assert_eq!(ask("POST", "/instances/a1/restart?restartWithNewInstanceId=true", "").code, 202);
    assert_eq!(ask("DELETE", "/instances/a1", "").json()["instancesDeleted"], 1);
    // The path and the prefix are matched without regard to case.
    let path = format!("/Runtime/Webhooks/DurableTask/Instances/none?code={key}");
    assert_eq!(server.send("GET", &path, &[], "").code, 404);
    let header = format!("x-functions-key: {key}");
    assert_eq!(server.send("GET", &format!("{base}/instances"), &[&header], "").code, 200);
    // The key as the password of an address, as in `http://key:TOKEN@host/`.
    let basic = |password: &str| format!("authorization: Basic {}", BASE64.encode(format!("key:{password}")));
    let code = |path: &str, header: &str| server.send("GET", path, &[header], "").code;
    let read = server.keys.token(Scope::Read);
    assert_eq!(code(&format!("{base}/instances"), &basic(&key)), 200);
    assert_eq!(code(&format!("{base}/instances"), &basic(read)), 200);
    assert_eq!(code(&format!("{base}/instances"), &basic("wrong")), 401);
    assert_eq!(code(&format!("{base}/instances"), "authorization: Basic ???"), 401);
    assert_eq!(code(&format!("{base}/instances"), &format!("authorization: Basic {key}")), 401);
    let begin = server.send("POST", &format!("{base}/orchestrators/double"), &[&basic(read)], "1");
    assert_eq!(begin.code, 403);
    // Nothing else takes a password.
    assert_eq!(code("/api/v1/instances", &basic(&key)), 401);
    assert_eq!(code("/metrics", &basic(&key)), 401);
}

/// The codes of links are for their instance alone, and those of an event for this event alone.
#[test]
fn links_are_for_one_instance() {
    let folder = folder();
    let server = Server::start(folder.path());
    for id in ["l1", "l2"] {
        server.begin("order", json!([1]), id);
    }
    let code = server.keys.instance_code("l1");
    let status = |id: &str| {
        server.send("GET", &format!("/runtime/webhooks/durabletask/instances/{id}?code={code}"), &[], "").code
    };
    assert_eq!((status("l1"), status("l2")), (202, 401));
    let all = format!("/runtime/webhooks/durabletask/instances?code={code}");
    assert_eq!(server.send("GET", &all, &[], "").code, 401);
    let all = format!("/api/v1/instances/l1?code={code}");
    assert_eq!(server.send("GET", &all, &[], "").code, 401);
}

/// `callback_url` gives a URL that raises one event of one instance, across restarts, until its end.
#[test]
fn a_callback_url_is_for_one_event() {
    let folder = folder();
    let server = Server::start(folder.path());
    let text = "orchestration ask(n) { set_status(callback_url(\"go on\")); receive(\"go on\") }\n";
    let program = json!({"file": "ask.df", "modules": {"ask.df": text}}).to_string();
    assert_eq!(server.post("/api/v1/programs", &program).code, 200);
    let begin = |server: &Server, id: &str| {
        server.begin("ask", json!([1]), id);
        loop {
            let shown = server.get(&format!("/api/v1/instances/{}", id.replace('/', "%2F"))).json();
            if let Some(url) = shown["custom"].as_str() {
                return url.to_string();
            }
        }
    };
    let (one, two) = (begin(&server, "c/1"), begin(&server, "c/2"));
    let begins = format!("http://{}/api/v1/instances/c%2F1/events/go%20on?code=", server.address);
    assert!(one.starts_with(&begins), "{one}");
    let path = |url: &str| url[url.find("/api").expect("a path")..].to_string();
    let (code, other) = (one.split("code=").last().expect("a code"), path(&two));
    let post = |server: &Server, path: &str| server.send("POST", path, &[], r#"{"by": "ada"}"#).code;
    // Another event, another instance, another code, none, and another method.
    assert_eq!(post(&server, &format!("/api/v1/instances/c%2F1/events/other?code={code}")), 401);
    assert_eq!(post(&server, &format!("/api/v1/instances/c%2F2/events/go%20on?code={code}")), 401);
    assert_eq!(post(&server, &format!("/api/v1/instances/c%2F3/events/go%20on?code={code}")), 401);
    assert_eq!(post(&server, &format!("/api/v1/instances/c%2F1/events/go%20on?code={code}0")), 401);
    assert_eq!(post(&server, "/api/v1/instances/c%2F1/events/go%20on?code="), 401);
    assert_eq!(post(&server, "/api/v1/instances/c%2F1/events/go%20on"), 401);
    assert_eq!(server.send("GET", &path(&one), &[], "").code, 405);
    // The code opens nothing else.
    assert_eq!(post(&server, &format!("/api/v1/instances/c%2F1/terminate?code={code}")), 401);
    // After a kill, the replayed instance has the same URL, which is still valid.
    server.kill();
    let server = Server::start(folder.path());
    assert_eq!(server.get("/api/v1/instances/c%2F1").json()["custom"], one);
    assert_eq!(post(&server, &path(&one)), 202);
    let ended = server.get("/api/v1/instances/c%2F1?wait=20").json();
    assert_eq!((&ended["status"], &ended["result"]), (&json!("completed"), &json!({"by": "ada"})));
    assert_eq!(post(&server, &path(&one)), 410);
    // A later instance of the id has another code.
    assert_eq!(server.post("/api/v1/instances/c%2F1/purge", "{}").code, 200);
    assert_eq!(post(&server, &path(&one)), 401);
    let again = begin(&server, "c/1");
    assert_ne!(again, one);
    assert_eq!(post(&server, &path(&one)), 401);
    assert_eq!(post(&server, &path(&again)), 202);
    assert_eq!(post(&server, &other), 202);
}

/// The old code of an instance opens neither its events nor others.
#[test]
fn codes_of_instances_open_no_events() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.begin("order", json!([1]), "l1");
    let code = server.keys.instance_code("l1");
    let raise = format!("/api/v1/instances/l1/events/approved?code={code}");
    assert_eq!(server.send("POST", &raise, &[], "1").code, 401);
}

/// The metrics tell what has happened, by function and by kind.
#[test]
fn metrics_count_what_has_happened() {
    let folder = folder();
    let server = Server::start(folder.path());
    let line = |metrics: &str, name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    assert_eq!(line(&server.get("/metrics").text, "durable_started_total{function=\"order\"}"), None);
    server.begin("order", json!([1]), "m1");
    // Its activity is tried twice.
    server.begin("order", json!([101]), "m2");
    server.begin("holding", json!(["ada"]), "m3");
    assert_eq!(server.get("/api/v1/instances/m2?wait=20").json()["status"], "failed");
    while server.get("/api/v1/locks").json()["items"][0]["held_by"] != "m3" {}
    server.begin("holding", json!(["ada"]), "m4");
    while server.get("/api/v1/locks").json()["items"][0]["waiting"][0]["owner"] != "m4" {}
    let metrics = server.get("/metrics").text;
    let wanted = [
        ("durable_started_total{function=\"order\"}", 2.0),
        ("durable_ended_total{function=\"order\",status=\"failed\"}", 1.0),
        ("durable_instances{function=\"order\",status=\"running\"}", 1.0),
        ("durable_step_seconds_count{kind=\"activity\"}", 3.0),
        ("durable_retries_total", 1.0),
        ("durable_lock_waiting", 1.0),
        ("durable_engine_queue", 0.0),
        ("durable_http_requests_total{route=\"/metrics\",method=\"GET\",code=\"200\"}", 1.0),
    ];
    for (name, value) in wanted {
        assert_eq!(line(&metrics, name), Some(value), "{name} in:\n{metrics}");
    }
    for name in ["commit_seconds_count", "timer_lag_seconds_count", "store_bytes", "mail_waiting"] {
        assert!(line(&metrics, &format!("durable_{name}")).is_some_and(|value| value > 0.0), "{metrics}");
    }
    assert!(line(&metrics, "durable_lock_longest_wait_seconds").is_some_and(|value| value > 0.0));
    // A purge takes nothing from what was counted.
    assert_eq!(server.post("/api/v1/instances/m2/purge", "{}").code, 200);
    let metrics = server.get("/metrics").text;
    assert_eq!(line(&metrics, "durable_started_total{function=\"order\"}"), Some(2.0));
    assert_eq!(line(&metrics, "durable_instances{function=\"order\",status=\"failed\"}"), None);
    // An instance that is read back after a restart replays.
    server.kill();
    let server = Server::start(folder.path());
    let event = server.post("/api/v1/instances/m1/events/approved", "1");
    assert_eq!(event.code, 202);
    assert_eq!(server.get("/api/v1/instances/m1?wait=20").json()["status"], "completed");
    let metrics = server.get("/metrics").text;
    assert!(line(&metrics, "durable_replay_seconds_count").is_some_and(|value| value > 0.0), "{metrics}");
}

/// A reader that shows a part of the changes gets a gap in the place of many.
#[test]
fn many_changes_at_once_are_a_gap_if_wanted() {
    let folder = folder();
    let server = Server::start(folder.path());
    let since = feed(&server, None, |events| !events.is_empty())[0].1.clone();
    let body = json!({"function": "double", "args": [1]}).to_string();
    for _ in 0..5 {
        assert_eq!(server.post("/api/v1/instances", &body).code, 202);
    }
    let poll = |most: usize| {
        let path = format!("/api/v1/changes?since={since}&most={most}");
        let token = format!("authorization: Bearer {}", server.keys.token(Scope::Read));
        server.send("GET", &path, &[&token, "accept: application/json"], "").json()
    };
    let all = poll(100);
    let items = all["items"].as_array().expect("items");
    assert_eq!((&all["gap"], items.len()), (&json!(false), 5), "{all}");
    let ids: BTreeSet<&str> = items.iter().filter_map(|item| item["data"]["id"].as_str()).collect();
    assert_eq!(ids.len(), 5, "each instance comes once: {all}");
    let few = poll(3);
    assert_eq!((&few["gap"], few["items"].as_array().map(Vec::len)), (&json!(true), Some(0)), "{few}");
}

/// The rights of each scope, of no token, and of a wrong one.
#[test]
fn scopes_permit_what_they_say() {
    let folder = folder();
    let server = Server::start(folder.path());
    let routes: &[(&str, &str, &str, Scope)] = &[
        ("GET", "/api/v1/instances", "", Scope::Read),
        ("GET", "/api/v1/instances/counts", "", Scope::Read),
        ("GET", "/api/v1/instances/x", "", Scope::Read),
        ("GET", "/api/v1/instances/x/tree", "", Scope::Read),
        ("GET", "/api/v1/instances/x/history", "", Scope::Read),
        ("GET", "/api/v1/instances/x/timeline", "", Scope::Read),
        ("GET", "/api/v1/instances/x/debug", "", Scope::Read),
        ("GET", "/api/v1/instances/x/trace.json", "", Scope::Read),
        ("GET", "/api/v1/instances/x/output", "", Scope::Read),
        ("GET", "/api/v1/instances/x/waits", "", Scope::Read),
        ("GET", "/api/v1/entities", "", Scope::Read),
        ("GET", "/api/v1/entities/Account", "", Scope::Read),
        ("GET", "/api/v1/entities/Account/x", "", Scope::Read),
        ("GET", "/api/v1/entities/Account/x/operations", "", Scope::Read),
        ("GET", "/api/v1/locks", "", Scope::Read),
        ("GET", "/api/v1/cluster", "", Scope::Read),
        ("GET", "/api/v1/programs", "", Scope::Read),
        ("GET", "/api/v1/functions", "", Scope::Read),
        ("GET", "/metrics", "", Scope::Read),
        ("GET", "/runtime/webhooks/durabletask/instances", "", Scope::Read),
        ("GET", "/runtime/webhooks/durabletask/entities", "", Scope::Read),
        ("POST", "/api/v1/instances", r#"{"function": "nothing"}"#, Scope::Operate),
        ("POST", "/api/v1/instances/x/events/e", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/suspend", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/resume", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/cancel", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/terminate", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/rewind", "", Scope::Operate),
        ("POST", "/api/v1/instances/x/upgrade", "", Scope::Admin),
        ("POST", "/api/v1/instances/x/restart", "", Scope::Operate),
        ("POST", "/api/v1/instances/batch", r#"{"ids": [], "action": "suspend"}"#, Scope::Operate),
        ("POST", "/api/v1/entities/Account/x/signal/deposit", r#"{"args": [1]}"#, Scope::Operate),
        ("POST", "/api/v1/entities/Account/x/call/deposit", r#"{"args": [1]}"#, Scope::Operate),
        ("POST", "/runtime/webhooks/durabletask/orchestrators/nothing", "", Scope::Operate),
        ("POST", "/runtime/webhooks/durabletask/instances/x/terminate", "", Scope::Operate),
        ("POST", "/runtime/webhooks/durabletask/entities/Account/x?op=deposit", "1", Scope::Operate),
        ("POST", "/api/v1/instances/x/purge", "", Scope::Admin),
        ("POST", "/api/v1/instances/batch", r#"{"ids": [], "action": "purge"}"#, Scope::Admin),
        ("POST", "/api/v1/entities/Account/x/drop-message", "", Scope::Admin),
        ("POST", "/api/v1/programs", r#"{"file": "a.df", "modules": {"a.df": ""}}"#, Scope::Admin),
        ("DELETE", "/runtime/webhooks/durabletask/instances/x", "", Scope::Admin),
        (
            "DELETE",
            "/runtime/webhooks/durabletask/instances?createdTimeFrom=2999-01-01T00:00:00Z",
            "",
            Scope::Admin,
        ),
    ];
    for (method, path, body, needed) in routes {
        assert_eq!(server.send(method, path, &[], body).code, 401, "{method} {path} without a token");
        let wrong = "authorization: Bearer 0000";
        assert_eq!(server.send(method, path, &[wrong], body).code, 401, "{method} {path} with a wrong one");
        for scope in [Scope::Read, Scope::Operate, Scope::Admin] {
            let token = format!("Authorization: bearer {}", server.keys.token(scope));
            let code = server.send(method, path, &[&token], body).code;
            assert_eq!(code == 403, scope < *needed, "{method} {path} as {scope:?}: {code}");
            assert!(code != 401 && code < 500, "{method} {path} as {scope:?}: {code}");
        }
    }
}

/// Other names, other sites, doubled headers and damaged requests are refused.
#[test]
fn foreign_requests_are_refused() {
    let folder = folder();
    let server = Server::with(folder.path(), &["--http-host", "jobs.example"]);
    let token = format!("authorization: Bearer {}", server.keys.token(Scope::Admin));
    let start = r#"{"function": "nothing"}"#;
    let post = |headers: &[&str]| {
        let headers: Vec<&str> = headers.iter().copied().chain([token.as_str()]).collect();
        server.send("POST", "/api/v1/instances", &headers, start).code
    };
    let own = format!("Host: {}", server.address);
    let origin = format!("Origin: http://{}", server.address);
    assert_eq!(post(&[&own, &origin]), 202);
    assert_eq!(post(&["Host: jobs.example", "Origin: https://jobs.example"]), 202);
    assert_eq!(post(&["Host: JOBS.example:80"]), 202);
    assert_eq!(post(&["Host: localhost"]), 202);
    assert_eq!(post(&["Host: [::1]:80"]), 202);
    for host in ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil", "[::2]", "jobs.example@evil"]
    {
        assert_eq!(post(&[&format!("Host: {host}")]), 421, "{host}");
    }
    assert_eq!(server.send("GET", "/healthz", &["Host: evil.example"], "").code, 421);
    assert_eq!(post(&[&own, "Origin: https://evil.example"]), 403);
    assert_eq!(post(&[&own, "Origin: null"]), 403);
    assert_eq!(post(&[&own, "Sec-Fetch-Site: cross-site"]), 403);
    assert_eq!(post(&[&own, "Sec-Fetch-Site: same-site"]), 403);
    assert_eq!(post(&[&own, "Sec-Fetch-Site: same-origin"]), 202);
    // No answer permits other origins to read it.
    let healthy = server.send("GET", "/healthz", &[&own, "Origin: https://evil.example"], "");
    assert!(!healthy.headers.keys().any(|name| name.starts_with("access-control")));
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"GET /%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x00\xff",
        b"POST /api/v1/instances HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(&server.address).expect("a connection");
        stream.write_all(bytes).expect("it is sent");
        stream.shutdown(Shutdown::Write).expect("it is over");
        let got = answer(stream);
        assert!(got.code == 0 || got.code >= 400, "{got:?}");
    }
    let large = "x".repeat(17 << 20);
    // The end of the connection may overtake the answer.
    let code = server.post("/api/v1/instances/x/events/e", &large).code;
    assert!(code == 413 || code == 0, "{code}");
    assert_eq!(server.get("/healthz").code, 200);
}

/// Pages have every instance once, while others begin.
#[test]
fn pages_are_the_whole_list() {
    let folder = folder();
    let server = Server::start(folder.path());
    let start = |n: usize| server.begin("double", json!([n]), &format!("p{n:03}"));
    (0..60).for_each(start);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = server.get(&format!("/api/v1/instances?order=oldest&limit=7{cursor}")).json();
        let items = page["items"].as_array().expect("items").clone();
        assert!(!items.is_empty(), "an empty page");
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap_or_default().to_string()));
        pages += 1;
        if pages == 3 {
            (60..70).for_each(start);
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (0..70).map(|n| format!("p{n:03}")).collect();
    assert_eq!(seen, wanted);
    let newest = server.get("/api/v1/instances?limit=3").json();
    assert_eq!(newest["items"][0]["id"], "p069");
    let counts = server.get("/api/v1/instances/counts?function=double").json();
    assert_eq!(counts["total"], 70);
}

/// Reads events of the feed until a condition holds. Returns the events with their positions.
fn feed(
    server: &Server,
    last: Option<&str>,
    until: impl Fn(&[(String, String, Json)]) -> bool,
) -> Vec<(String, String, Json)> {
    let mut stream = TcpStream::connect(&server.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
    let token = server.keys.token(Scope::Read);
    let head = format!(
        "GET /api/v1/changes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut events = Vec::new();
    let (mut event, mut id) = (String::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.to_string();
        } else if let Some(position) = line.strip_prefix("id: ") {
            id = position.to_string();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data = serde_json::from_str(data).expect("JSON");
            events.push((event.clone(), id.clone(), data));
            if until(&events) {
                break;
            }
        }
    }
    events
}

#[test]
fn the_feed_goes_on_where_it_was() {
    let folder = folder();
    let server = Server::start(folder.path());
    let begin = feed(&server, None, |events| !events.is_empty());
    assert_eq!(begin[0].0, "begin");
    let start = |id: &str| server.begin("double", json!([1]), id);
    start("one");
    start("two");
    let ended = |events: &[(String, String, Json)], id: &str| {
        events
            .iter()
            .any(|(event, _, data)| event == "instance" && data["id"] == id && data["status"] == "completed")
    };
    let first = feed(&server, Some(&begin[0].1), |events| ended(events, "one"));
    let position = first.last().expect("an event").1.clone();
    let rest = feed(&server, Some(&position), |events| ended(events, "two"));
    assert!(!ended(&rest, "one"), "{rest:?}");
    let positions: BTreeSet<&String> =
        first.iter().chain(&rest).filter(|(event, ..)| event != "begin").map(|(_, id, _)| id).collect();
    assert_eq!(positions.len(), first.len() + rest.len() - 2, "no event comes twice");
    // A position of another process is a gap.
    let old = feed(&server, Some("1-1"), |events| events.len() == 2);
    assert_eq!(old[1].0, "gap");
    let poll = server.send(
        "GET",
        &format!("/api/v1/changes?since={}", begin[0].1),
        &[&format!("authorization: Bearer {}", server.keys.token(Scope::Read)), "accept: application/json"],
        "",
    );
    assert_eq!(poll.json()["gap"], false);
    assert!(poll.json()["items"].as_array().is_some_and(|items| !items.is_empty()), "{}", poll.text);
}

/// Whatever the feed has shown, and every start that was answered, is there after a kill.
#[test]
fn a_kill_loses_nothing_that_was_shown() {
    let folder = folder();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for round in 0..3 {
        let server = Server::start(folder.path());
        let (address, token) = (server.address.clone(), server.keys.token(Scope::Admin).to_string());
        let starter = std::thread::spawn(move || {
            let mut done = Vec::new();
            for n in 0.. {
                let id = format!("k{round}-{n}");
                let body = json!({"function": "order", "args": [n], "id": id}).to_string();
                let Ok(mut stream) = TcpStream::connect(&address) else { break };
                let head = format!(
                    "POST /api/v1/instances HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let mut answer = String::new();
                if stream.write_all(head.as_bytes()).is_err() || stream.read_to_string(&mut answer).is_err() {
                    break;
                }
                if answer.starts_with("HTTP/1.1 202") {
                    done.push(id);
                }
            }
            done
        });
        let events = feed(&server, None, |events| events.len() > 200);
        server.kill();
        acknowledged.extend(starter.join().expect("the starter ends"));
        shown.extend(
            events
                .iter()
                .filter(|(event, ..)| event == "instance")
                .filter_map(|(_, _, data)| Some(data["id"].as_str()?.to_string())),
        );
    }
    assert!(acknowledged.len() > 20 && shown.len() > 20, "{} {}", acknowledged.len(), shown.len());
    let server = Server::start(folder.path());
    for id in acknowledged.iter().chain(&shown) {
        assert_eq!(server.get(&format!("/api/v1/instances/{id}")).code, 200, "{id} is lost");
    }
}

/// Three hundred clients at once, half of them silent: everybody is served.
#[test]
fn many_clients_are_served() {
    let folder = folder();
    let server = Server::start(folder.path());
    let silent: Vec<TcpStream> =
        (0..150).map(|_| TcpStream::connect(&server.address).expect("a connection")).collect();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..150)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    let body = json!({"function": "double", "args": [n], "id": format!("c{n}")}).to_string();
                    let code = server.post("/api/v1/instances", &body).code;
                    (code, server.get(&format!("/api/v1/instances/c{n}?wait=30")).json()["result"].clone())
                })
            })
            .collect();
        for (n, client) in clients.into_iter().enumerate() {
            assert_eq!(client.join().expect("it ends"), (202, json!(n * 2)));
        }
    });
    drop(silent);
}

/// Arguments of the server that can't be right are told.
#[test]
fn arguments_are_checked() {
    let folder = folder();
    let serve = |more: &[&str]| {
        let output = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["serve", "--store", "store"])
            .args(more)
            .output()
            .expect("durable runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = serve(&["--http", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("without TLS") && said.contains("--http-behind-proxy"), "{said}");
    let (code, said) = serve(&["--http", "127.0.0.1:0", "--http-tls", "none.pem"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = serve(&["--http", "127.0.0.1:0", "--http-tls", "none.pem,none.key"]);
    assert_eq!(code, Some(4), "{said}");
    fs::write(folder.path().join("bad"), "what is this").expect("a file");
    let (code, said) = serve(&["--http", "127.0.0.1:0", "--http-token-file", "bad"]);
    assert_eq!(code, Some(4));
    assert!(said.contains("the tokens in bad can't be used"), "{said}");
    let open = Command::new(DURABLE)
        .current_dir(folder.path())
        .args(["open", "--store", "store"])
        .output()
        .expect("durable runs");
    assert_eq!(open.status.code(), Some(4));
}

/// The verdict on an upgrade is that of the command, and another state has to be accepted.
#[test]
fn a_verdict_on_an_upgrade_is_that_of_the_command() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.begin("order", json!([7]), "o1");
    while !server.get("/api/v1/instances/o1/history").text.contains("approved") {
        std::thread::sleep(Duration::from_millis(5));
    }
    let upgrade = |from: &str, to: &str, more: Json| {
        let text = PROGRAM.replace(from, to);
        assert_ne!(text, PROGRAM, "{from}");
        fs::write(folder.path().join("new.df"), &text).expect("a program");
        let mut body = json!({"file": "new.df", "modules": {"new.df": text}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = server.post("/api/v1/instances/o1/upgrade", &body.to_string());
        assert_eq!(answer.code, 200, "{answer:?}");
        answer.json()
    };
    let dry = json!({"dry_run": true});
    for (from, to, wanted) in [
        ("let ok", "// Waits.\n  let ok", "fits"),
        ("let ok", "let receipt = receipt + \"!\"\n  let ok", "state differs"),
        ("charge(n)\n", "charge(n + 1)\n", "diverges"),
        ("orchestration order", "orchestration other", "unfit"),
    ] {
        let told = upgrade(from, to, dry.clone());
        assert_eq!(told["verdict"], wanted, "{told}");
        let output = Command::new(DURABLE)
            .current_dir(folder.path())
            .args(["upgrade", "o1", "--to", "new.df", "--dry-run", "--json", "--store", "store"])
            .output()
            .expect("durable runs");
        let said: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(said, told);
    }
    let (from, to) = ("let ok", "let receipt = receipt + \"!\"\n  let ok");
    let told = upgrade(from, to, json!({}));
    assert_eq!(told["adopted"], false);
    assert_eq!(
        told["variables"],
        json!([{"name": "receipt", "function": "order", "part": "receipt",
            "before": "\"receipt 7\"", "now": "\"receipt 7!\""}])
    );
    let told = upgrade(from, to, json!({"accept_state": true}));
    assert_eq!((&told["verdict"], &told["adopted"]), (&json!("state differs"), &json!(true)));
    server.post("/api/v1/instances/o1/events/approved", "true");
    let told = server.get("/api/v1/instances/o1?wait=20");
    assert!(told.text.contains("receipt 7!"), "{told:?}");
}

/// The description names routes that there are, with scopes that are true, and all of them.
#[test]
fn the_description_is_of_this_interface() {
    let folder = folder();
    let server = Server::start(folder.path());
    let described = server.send("GET", "/api/v1/openapi.json", &[], "").json();
    let paths = described["paths"].as_object().expect("paths");
    let token = |scope: Scope| format!("authorization: Bearer {}", server.keys.token(scope));
    for (path, methods) in paths {
        let concrete = path
            .replace("{id}", "x")
            .replace("{event}", "e")
            .replace("{name}", "Account")
            .replace("{key}", "x")
            .replace("{operation}", "deposit")
            .replace("{hash}", &"0".repeat(64))
            .replace("{module}", "0");
        for (method, operation) in methods.as_object().expect("methods") {
            if path == "/api/v1/changes" {
                continue;
            }
            let method = method.to_uppercase();
            let answer = server.send(&method, &concrete, &[&token(Scope::Admin)], "");
            let kind = answer.code >= 400 && answer.text.contains("\"kind\":\"unknown_route\"");
            assert!(!kind && answer.code != 405, "{method} {path}: {answer:?}");
            let code = answer.code.to_string();
            assert!(
                operation["responses"].get(&code).is_some(),
                "{method} {path} answers {code}: {}",
                answer.text
            );
            let words = operation["description"].as_str().unwrap_or_default();
            let needed = [Scope::Read, Scope::Operate, Scope::Admin]
                .into_iter()
                .find(|scope| words.contains(&format!("`{}`", scope.word())));
            let without = server.send(&method, &concrete, &[], "").code;
            assert_eq!(without == 401, needed.is_some(), "{method} {path}: {words}");
        }
    }
    // The sources name each route once.
    let sources = [
        "instances",
        "counts",
        "history",
        "debug",
        "entities",
        "operations",
        "programs",
        "changes",
        "openapi",
        "metrics",
        "workers",
    ];
    let mut written = BTreeSet::new();
    for source in sources {
        let text =
            fs::read_to_string(common::repository(&format!("src/http/{source}.rs"))).expect("a source");
        for part in text.split(".route(").skip(1) {
            let path = part.trim_start().trim_start_matches('"').split('"').next().unwrap_or_default();
            let prefix = if source == "metrics" { "" } else { "/api/v1" };
            written.insert(format!("{prefix}{path}"));
        }
    }
    let named: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(named, written);
}

/// The examples of `docs/server.md` do what they say.
#[test]
fn the_examples_of_the_page_work() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("left out: there is no curl");
        return;
    }
    let folder = folder();
    let server = Server::start(folder.path());
    let page = fs::read_to_string(common::repository("docs/server.md")).expect("the page");
    let examples = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("examples");
    let lines: Vec<&str> = examples.lines().collect();
    assert!(lines.len() > 10);
    for line in lines {
        let output = Command::new("sh")
            .arg("-c")
            .arg(line)
            .env("SERVER", format!("http://{}", server.address))
            .env("AUTH", format!("Authorization: Bearer {}", server.keys.token(Scope::Admin)))
            .output()
            .expect("sh runs");
        assert!(output.status.success() && !output.stdout.is_empty(), "{line}: {output:?}");
    }
}
