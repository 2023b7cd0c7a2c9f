//! The recipes of `examples/cookbook`, against a server on this machine, with kills in the middle.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::place::{err, out};
use common::{DURABLE, files, repository};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// A request that the server got.
#[derive(Clone, Debug)]
struct Request {
    method: String,
    /// The path with its query.
    path: String,
    key: Option<String>,
    body: Json,
}

/// A status and a body.
type Answer = (u16, String);

/// An HTTP server on this machine, which records its requests.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (answer, asked) = (Arc::new(answer), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (answer.clone(), asked.clone());
                std::thread::spawn(move || converse(stream, &*answer, &asked));
            }
        });
        Server { url, seen }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("it is not poisoned").clone()
    }

    fn count(&self) -> usize {
        self.seen.lock().expect("it is not poisoned").len()
    }
}

/// Answers one request. Returns `None` if the client went away.
fn converse(
    stream: TcpStream,
    answer: &dyn Fn(&Request) -> Answer,
    asked: &Mutex<Vec<Request>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let (mut length, mut key) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "idempotency-key" => key = Some(value.to_string()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
    let request = Request { method, path, key, body };
    asked.lock().ok()?.push(request.clone());
    let (status, text) = answer(&request);
    let mut stream = stream;
    let more = if status == 429 { "retry-after: 0\r\n" } else { "" };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
    .ok()
}

fn good(body: Json) -> Answer {
    (200, body.to_string())
}

fn recipe(folder: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(DURABLE);
    command
        .current_dir(folder)
        .args(["run", "--store", "store"])
        .arg(repository("examples/cookbook").join(name))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a recipe, and returns its output.
fn run(folder: &Path, name: &str, args: &[&str]) -> String {
    let output = recipe(folder, name, args).output().expect("durable runs");
    assert!(output.status.success(), "{name}: {}", err(&output));
    out(&output)
}

/// Runs a recipe, and kills it as soon as a condition holds.
fn kill_when(folder: &Path, name: &str, args: &[&str], is_so: impl Fn() -> bool) {
    let mut child = recipe(folder, name, args).spawn().expect("durable runs");
    while !is_so() {
        assert!(child.try_wait().expect("it can be asked").is_none(), "{name} ended before it was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// Returns whether this is one of the first `times` calls with the counter.
fn first(counter: &AtomicUsize, times: usize) -> bool {
    counter.fetch_add(1, Ordering::SeqCst) < times
}

#[test]
fn the_recipes_tests_pass_and_crashes_change_nothing() {
    let mut recipes = files("examples/cookbook");
    assert!(recipes.len() >= 30, "{}", recipes.len());
    let run = |more: &[&str], recipes: &[std::path::PathBuf]| {
        let output =
            Command::new(DURABLE).arg("test").args(more).args(recipes).output().expect("durable runs");
        let said = out(&output);
        assert!(output.status.success(), "{said}");
        said
    };
    let said = run(&[], &recipes);
    assert!(recipes.iter().all(|recipe| said.contains(&*recipe.to_string_lossy())), "each has tests: {said}");
    // Recipes that poll for days have too many commits to crash at each.
    let short = [
        "payments.df",
        "travel.df",
        "paged.df",
        "agent.df",
        "reservation.df",
        "breaker.df",
        "import_csv.df",
        "leave.df",
        "deploy.df",
        "two_phase_import.df",
        "research.df",
        "presence.df",
        "sync.df",
    ];
    recipes.retain(|path| short.iter().any(|name| path.ends_with(name)));
    run(&["--crash"], &recipes);
}

/// The page names every recipe, and no other.
#[test]
fn the_page_of_the_cookbook_is_complete() {
    let page = fs::read_to_string(repository("docs/cookbook.md")).expect("the page");
    let named: BTreeSet<String> = page
        .split("cookbook/")
        .skip(1)
        .filter_map(|rest| rest.split_once(".df"))
        .map(|(name, _)| name.to_string())
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    let there: BTreeSet<String> = files("examples/cookbook")
        .iter()
        .map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(named, there);
}

#[test]
fn poll() {
    let (asked, looked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" if first(&asked, 1) => (503, String::new()),
        "POST" => good(json!({"id": "j1"})),
        _ if first(&looked, 1) => good(json!({"state": "running"})),
        _ => good(json!({"state": "done", "result": [1, 2]})),
    });
    let folder = folder();
    assert_eq!(run(folder.path(), "poll.df", &[&server.url, "sales"]), "[1, 2]\n");
    let keys: BTreeSet<_> = server.seen().into_iter().filter_map(|request| request.key).collect();
    assert_eq!(keys.len(), 1, "both requests for the job had one key");
}

#[test]
fn thumbnails() {
    let folder = folder();
    let program = folder.path().join("shrink");
    let script =
        "#!/bin/sh\ncase $1 in *bad*) echo 'no picture' >&2; exit 1;; esac\nhead -c 3 \"$1\" > \"$4\"\n";
    fs::write(&program, script).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it can be run");
    fs::create_dir(folder.path().join("photos")).expect("a folder");
    for name in ["a.jpg", "b.png", "bad.jpeg", "notes.txt"] {
        fs::write(folder.path().join("photos").join(name), name).expect("a file");
    }
    let args = ["photos", "small", program.to_str().expect("a path")];
    assert_eq!(run(folder.path(), "thumbnails.df", &args), "{made: 2, there: 0, bad: [\"bad.jpeg\"]}\n");
    assert_eq!(fs::read_to_string(folder.path().join("small/a.jpg")).expect("it was made"), "a.j");
    assert_eq!(run(folder.path(), "thumbnails.df", &args), "{made: 0, there: 2, bad: [\"bad.jpeg\"]}\n");
}

#[test]
fn approve_by_event_and_by_file() {
    let folder = folder();
    let durable = |args: &[&str]| {
        let output = Command::new(DURABLE).current_dir(&folder).args(args).output().expect("durable runs");
        (output.status.code(), out(&output))
    };
    let file = repository("examples/cookbook/approve.df");
    let file = file.to_str().expect("a path");
    durable(&["start", file, "approved", "requests", "a chair", "--id", "chair"]);
    durable(&["start", file, "approved", "requests", "a desk", "--id", "desk"]);
    durable(&["raise", "chair", "decision", r#"{"ok": true, "by": "ada"}"#]);
    assert_eq!(
        durable(&["wait", "chair", "--json"]).1,
        "{\"id\":\"chair\",\"status\":\"completed\",\"result\":{\"what\":\"a chair\",\"by\":\"ada\"}}\n"
    );
    fs::create_dir_all(folder.path().join("requests")).expect("a folder");
    fs::write(folder.path().join("requests/desk"), "no bob\n").expect("a decision");
    let (code, said) = durable(&["wait", "desk", "--json"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("\"kind\":\"refused\""), "{said}");
}

#[test]
fn nightly_makes_up_for_missed_nights() {
    let server = Server::start(|_| good(json!(null)));
    let folder = folder();
    assert_eq!(run(folder.path(), "nightly.df", &[&server.url, "2026-02-27", "3"]), "next is 2026-03-02\n");
    let days: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(days, ["/reports/2026-02-27", "/reports/2026-02-28", "/reports/2026-03-01"]);
}

#[test]
fn scrape() {
    let busy = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.path.as_str() {
        "/robots.txt" => (200, "User-agent: *\nDisallow: /private\n".into()),
        "/" => (200, "<title>Home</title> <a href=\"/a\"> <a href=\"/private/x\"> <a href=\"/\">".into()),
        "/a" if first(&busy, 1) => (429, String::new()),
        "/a" => (200, "<title>A</title> <a href=\"/gone\">".into()),
        _ => (404, String::new()),
    });
    let folder = folder();
    assert_eq!(run(folder.path(), "scrape.df", &[&server.url, "/", "titles.json"]), "2 pages\n");
    let titles = fs::read_to_string(folder.path().join("titles.json")).expect("they were written");
    let titles: Json = serde_json::from_str(&titles).expect("JSON");
    assert_eq!(titles, json!([{"path": "/", "title": "Home"}, {"path": "/a", "title": "A"}]));
    assert!(server.seen().iter().all(|request| !request.path.contains("private")));
}

/// After two kills, each row arrives, and repeated requests for a row have the same key.
#[test]
fn import_csv() {
    let failing = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if request.path.ends_with("/13") {
            return (422, "no luck".into());
        }
        // Every tenth answer is that the server is busy.
        if failing.fetch_add(1, Ordering::SeqCst) % 10 == 9 { (503, String::new()) } else { good(json!({})) }
    });
    let folder = folder();
    let rows: String = (0..150).map(|n| format!("{n},name {n}\n")).collect();
    fs::write(folder.path().join("people.csv"), format!("id,name\n{rows}")).expect("a file");
    let args = ["people.csv", server.url.as_str()];
    kill_when(folder.path(), "import_csv.df", &args, || server.count() > 30);
    let before = server.count();
    kill_when(folder.path(), "import_csv.df", &args, || server.count() > before + 30);
    assert_eq!(run(folder.path(), "import_csv.df", &args), "149 imported, 1 refused\n");
    let refused = fs::read_to_string(folder.path().join("people.csv.refused.json")).expect("it was written");
    assert_eq!(
        serde_json::from_str::<Json>(&refused).expect("JSON"),
        json!([{"id": "13", "refused": "no luck"}])
    );
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for request in server.seen() {
        let key = request.key.expect("each has a key");
        known.insert(key.clone());
        keys.entry(request.path).or_default().insert(key);
    }
    assert_eq!((keys.len(), known.len()), (150, 150));
    assert!(keys.values().all(|keys| keys.len() == 1));
    // A kill repeats at most the requests that were in flight.
    assert!(server.count() < 150 + 150 / 8 + 2 * 8 + 10, "{} requests", server.count());
}

#[test]
fn travel_is_booked_whole_or_not_at_all() {
    let booked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let services = booked.clone();
    let server = Server::start(move |request| {
        let mut booked = services.lock().expect("it is not poisoned");
        match request.method.as_str() {
            "POST" if request.path == "/cars" && request.body["who"] == "bob" => (409, "no cars".into()),
            "POST" => {
                booked.insert(format!("{}/{}", request.path, request.body["who"].as_str().unwrap_or("")));
                good(json!({"number": request.body["who"]}))
            }
            _ => {
                booked.remove(&request.path);
                (204, String::new())
            }
        }
    });
    let folder = folder();
    assert_eq!(
        run(folder.path(), "travel.df", &[&server.url, "ada", "2026-07-01"]),
        "flights: ada\nhotels: ada\ncars: ada\n"
    );
    let output =
        recipe(folder.path(), "travel.df", &[&server.url, "bob", "2026-07-01"]).output().expect("it runs");
    assert!(err(&output).contains("refused: no cars"));
    let booked = booked.lock().expect("it is not poisoned");
    assert_eq!(booked.iter().collect::<Vec<_>>(), ["/cars/ada", "/flights/ada", "/hotels/ada"]);
}

#[test]
fn cron() {
    let folder = folder();
    let said = run(folder.path(), "cron.df", &[]);
    assert_eq!(said, "tick    Wed 09:50\nreport  Thu 09:30\nweek    Mon 08:00\ntried\n");
}

#[test]
fn check_links() {
    let server = Server::start(|request| (if request.path == "/gone" { 404 } else { 200 }, String::new()));
    let folder = folder();
    let url = &server.url;
    let list = format!("{url}/a\n{url}/gone\n{url}/a\nnot a link\nhttp://127.0.0.1:1/\n");
    fs::write(folder.path().join("links.txt"), list).expect("a list");
    let said = run(folder.path(), "check_links.df", &["links.txt", "4"]);
    assert_eq!(
        said,
        format!("{url}/gone answers 404\nhttp://127.0.0.1:1/ does not answer\n3 links, 2 broken\n")
    );
}

/// The bank makes one charge for each key. The program is killed between a request and its answer.
#[test]
fn payments_are_made_once() {
    let charged: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let bank = charged.clone();
    let server = Server::start(move |request| {
        let key = request.key.clone().expect("a charge has a key");
        let mut charged = bank.lock().expect("it is not poisoned");
        let number = charged.len() as u64 + 1;
        let receipt = *charged.entry(key).or_insert(number);
        drop(charged);
        std::thread::sleep(Duration::from_millis(30));
        good(json!({"ok": true, "receipt": receipt}))
    });
    let folder = folder();
    let args = [server.url.as_str(), "order-1", "order-2", "order-3"];
    kill_when(folder.path(), "payments.df", &args, || server.count() > 0);
    let said = run(folder.path(), "payments.df", &args);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(charged.lock().expect("it is not poisoned").len(), 3, "{:?}", server.seen());
}

/// After a kill, the model is not asked again for answers that it has given.
#[test]
fn agent() {
    let server = Server::start(|request| {
        let turns = request.body["messages"].as_array().map_or(0, Vec::len);
        match turns {
            2 => good(json!({"tool": "read_file", "arguments": {"path": "README.md"}})),
            4 => good(json!({"tool": "fly", "arguments": {}})),
            6 => {
                std::thread::sleep(Duration::from_millis(100));
                let text: Json =
                    serde_json::from_str(request.body["messages"][3]["content"].as_str().unwrap_or(""))
                        .unwrap_or_default();
                good(json!({"tool": "count_words", "arguments": {"text": text}}))
            }
            _ => good(
                json!({"answer": format!("It has {} words.", request.body["messages"][7]["content"].as_str().unwrap_or("?"))}),
            ),
        }
    });
    let folder = folder();
    fs::write(folder.path().join("README.md"), "These are five whole words.").expect("a file");
    let args = [server.url.as_str(), "How many words has README.md?"];
    kill_when(folder.path(), "agent.df", &args, || server.count() == 3);
    assert_eq!(run(folder.path(), "agent.df", &args), "It has 5 words.\n");
    let turns: Vec<_> =
        server.seen().iter().map(|request| request.body["messages"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(turns, [2, 4, 6, 6, 8]);
}

#[test]
fn escalate() {
    let server = Server::start(|_| good(json!(null)));
    let folder = folder();
    let said = run(folder.path(), "escalate.df", &[&server.url, "disk full"]);
    assert_eq!(said, "nobody has taken `disk full`\n");
    let told: Vec<_> = server
        .seen()
        .iter()
        .map(|request| (request.body["who"].clone(), request.body["text"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!("duty"), json!("disk full")),
            (json!("duty"), json!("disk full (reminder 1)")),
            (json!("deputy"), json!("disk full")),
            (json!("deputy"), json!("disk full (reminder 1)")),
        ]
    );
}

#[test]
fn rate_limit() {
    let server = Server::start(|_| good(json!(1)));
    let folder = folder();
    assert_eq!(run(folder.path(), "rate_limit.df", &[&server.url, "12"]), "12 calls\n");
}

#[test]
fn breaker() {
    let server = Server::start(|_| (500, String::new()));
    let folder = folder();
    assert_eq!(run(folder.path(), "breaker.df", &[&server.url, "10"]), "[\"open\", \"unavailable\"]\n");
    assert!(server.count() < 10, "{}", server.count());
}

#[test]
fn paged() {
    let server = Server::start(|request| {
        let cursor: usize = request.path.rsplit('=').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(5));
        let next = if cursor < 20 { json!((cursor + 1).to_string()) } else { json!(null) };
        good(json!({"items": [cursor * 2, cursor * 2 + 1], "next": next}))
    });
    let folder = folder();
    let args = [server.url.as_str(), "items.jsonl"];
    kill_when(folder.path(), "paged.df", &args, || server.count() == 7);
    kill_when(folder.path(), "paged.df", &args, || server.count() == 15);
    assert_eq!(run(folder.path(), "paged.df", &args), "42 items\n");
    let items = fs::read_to_string(folder.path().join("items.jsonl")).expect("it was written");
    assert_eq!(items, (0..42).map(|n| format!("{n}\n")).collect::<String>());
    assert!(server.count() <= 21 + 2, "{}", server.count());
}

#[test]
fn subscription() {
    let server = Server::start(|_| good(json!(null)));
    let folder = folder();
    assert_eq!(run(folder.path(), "subscription.df", &[&server.url, "ada"]), "cancelled\n");
    assert_eq!(server.seen()[0].key.as_deref(), Some("ada-1"));
}

#[test]
fn reservation() {
    let folder = folder();
    assert_eq!(run(folder.path(), "reservation.df", &[]), "a2 is not free\nada\n");
}

#[test]
fn inbox() {
    let folder = folder();
    let inbox = folder.path().join("inbox");
    fs::create_dir(&inbox).expect("a folder");
    fs::write(inbox.join("a.csv"), "name,amount\nada,1\nbob,2\nada,3\n").expect("a file");
    fs::write(inbox.join("b.csv"), "name,amount\nada,many\n").expect("a file");
    assert_eq!(run(folder.path(), "inbox.df", &["inbox", "3"]), "{ada: 4, bob: 2}\n");
    assert!(inbox.join("done/a.csv").exists() && !inbox.join("a.csv").exists());
    let reason = fs::read_to_string(inbox.join("bad/b.csv.reason")).expect("it was written");
    assert!(reason.starts_with("parse_error: "), "{reason}");
}

#[test]
fn digest() {
    let server = Server::start(|_| good(json!(null)));
    let folder = folder();
    run(folder.path(), "digest.df", &[&server.url, "ada", "one", "two", "three"]);
    let mails: Vec<_> = server.seen().iter().map(|request| request.body["text"].clone()).collect();
    assert_eq!(mails, [json!("one\ntwo\nthree")]);
}

#[test]
fn rollout_and_back() {
    let versions: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let fleet = versions.clone();
    let server = Server::start(move |request| {
        let name = request.path.trim_start_matches("/servers").trim_start_matches('/').to_string();
        match request.method.as_str() {
            "GET" if name.is_empty() => good(json!(["s0", "s1", "s2", "s3"])),
            "GET" => good(json!({"errors": if name == "s1" { 0.2 } else { 0.0 }})),
            _ => {
                let version = request.body["version"].as_str().unwrap_or("").to_string();
                fleet.lock().expect("it is not poisoned").insert(name, version);
                good(json!({}))
            }
        }
    });
    let folder = folder();
    assert_eq!(
        run(folder.path(), "rollout.df", &[&server.url, "2.0", "1.0"]),
        "2.0 is taken back: s1 after 2 of 4\n"
    );
    let versions = versions.lock().expect("it is not poisoned");
    assert!(versions.values().all(|version| version == "1.0") && versions.len() == 2, "{versions:?}");
}

#[test]
fn queue() {
    let folder = folder();
    assert_eq!(run(folder.path(), "queue.df", &[]), "19 done, [\"bad 13\"]\n");
}

#[test]
fn leave() {
    let folder = folder();
    let said = run(folder.path(), "leave.df", &["ada", "3", "bob", "carol"]);
    let question = "may ada have 3 days off?";
    assert_eq!(said, format!("to bob: {question}\nto carol: {question}\n{{ok: false, by: \"nobody\"}}\n"));
}

/// An API of forty records that is away, answers nonsense, and has lost two of them.
#[test]
fn flaky_import() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        let turn = asked.fetch_add(1, Ordering::SeqCst);
        match request.path.as_str() {
            "/ids" => good(json!((0..40).collect::<Vec<_>>())),
            "/records/7" | "/records/21" => (404, String::new()),
            _ if turn % 3 == 1 => (503, String::new()),
            _ if turn % 7 == 2 => (200, "<html>".into()),
            path => good(json!({"path": path})),
        }
    });
    let folder = folder();
    let args = [server.url.as_str()];
    kill_when(folder.path(), "flaky_import.df", &args, || server.count() > 20);
    assert_eq!(run(folder.path(), "flaky_import.df", &args), "38 records\n");
}

#[test]
fn deploy_and_undo() {
    let healthy = Arc::new(Mutex::new(true));
    let health = healthy.clone();
    let server = Server::start(move |request| match request.path.as_str() {
        "/health" if *health.lock().expect("it is not poisoned") => good(json!({"ok": true})),
        "/health" => (403, "closed".into()),
        _ => {
            // Long enough that the kill comes in the middle.
            std::thread::sleep(Duration::from_millis(30));
            good(json!(null))
        }
    });
    let folder = folder();
    let args = [server.url.as_str(), "live", "1.4.0"];
    kill_when(folder.path(), "deploy.df", &args, || server.count() >= 2);
    assert_eq!(run(folder.path(), "deploy.df", &args), "{from: \"none\", to: \"1.4.0\"}\n");
    *healthy.lock().expect("it is not poisoned") = false;
    let before = server.count();
    let said = run(folder.path(), "deploy.df", &[&server.url, "live", "1.5.0"]);
    assert_eq!(said, "undone: closed\n");
    let steps: Vec<_> = server.seen()[before..]
        .iter()
        .map(|request| format!("{} {}", request.path, request.body["version"].as_str().unwrap_or("")))
        .collect();
    let expected =
        ["/backup 1.5.0", "/migrate 1.5.0", "/switch 1.5.0", "/health ", "/switch 1.4.0", "/restore 1.4.0"];
    assert_eq!(steps, expected);
}

#[test]
fn presence() {
    let folder = folder();
    let said = run(folder.path(), "presence.df", &[]);
    let news: Vec<_> = said.lines().flat_map(|line| line["lobby: ".len()..].split(", ")).collect();
    assert_eq!(news, ["ada came", "bob came", "ada left", "bob left"]);
}

/// No row is imported from a file with mistakes. A right file is imported once, after a kill too.
#[test]
fn two_phase_import() {
    let server = Server::start(|_| {
        std::thread::sleep(Duration::from_millis(2));
        good(json!({}))
    });
    let folder = folder();
    let file = folder.path().join("orders.csv");
    let report = || {
        let text = fs::read_to_string(folder.path().join("report.json")).expect("a report");
        serde_json::from_str::<Json>(&text).expect("JSON")
    };
    let args = ["orders.csv", server.url.as_str(), "report.json"];
    fs::write(&file, "id,sku,count\n1,DO-7,2\n2,dog,x\n").expect("a file");
    assert_eq!(run(folder.path(), "two_phase_import.df", &args), "1 of 2 rows are wrong: see report.json\n");
    assert_eq!(
        report()["wrong"],
        json!([{"line": 3, "mistakes": ["`dog` is no article", "`x` is no count"]}])
    );
    assert_eq!(server.count(), 0);
    let rows: String = (0..60).map(|n| format!("{n},DO-{n},1\n")).collect();
    fs::write(&file, format!("id,sku,count\n{rows}")).expect("a file");
    kill_when(folder.path(), "two_phase_import.df", &args, || server.count() > 20);
    assert_eq!(run(folder.path(), "two_phase_import.df", &args), "{phase: \"imported\", rows: 60}\n");
    assert_eq!(report(), json!({"phase": "imported", "rows": 60}));
    let keys: BTreeSet<_> = server.seen().into_iter().filter_map(|request| request.key).collect();
    assert_eq!(keys.len(), 60);
    assert!(server.count() <= 61, "{}", server.count());
}

/// The agent is killed while two tools work. No answer of the model is paid for twice.
#[test]
fn research() {
    let server = Server::start(|request| match request.path.as_str() {
        "/search" => {
            std::thread::sleep(Duration::from_millis(50));
            good(json!(["sled"]))
        }
        "/chat" if request.body["messages"].as_array().map_or(0, Vec::len) == 1 => good(json!({
            "calls": [{"tool": "search", "argument": "a"}, {"tool": "search", "argument": "b"}],
            "used": 100,
        })),
        _ => good(json!({"answer": "done", "used": 20})),
    });
    let folder = folder();
    let args = [server.url.as_str(), "Who made sled?"];
    kill_when(folder.path(), "research.df", &args, || server.count() >= 2);
    assert_eq!(run(folder.path(), "research.df", &args), "{answer: \"done\", spent: 120}\n");
    let chats = server.seen().iter().filter(|request| request.path == "/chat").count();
    assert_eq!(chats, 2);
}

#[test]
fn calculator() {
    let folder = folder();
    assert_eq!(run(folder.path(), "calculator.df", &["2 * (3 + x)", "x=4"]), "14.0\n");
    assert_eq!(
        run(folder.path(), "calculator.df", &["2 *"]),
        "error: a number, a name or `(` is expected at 4, not the end\n"
    );
}

#[test]
fn zones() {
    let folder = folder();
    let said = run(folder.path(), "zones.df", &["Europe/Berlin", "30 2 * * *", "2026-03-28T00:00:00Z", "3"]);
    let lines = [
        "Sat 28 Mar 02:30 is 01:30 in UTC",
        "Sun 29 Mar 03:00 is 01:00 in UTC",
        "Mon 30 Mar 02:30 is 00:30 in UTC",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), lines);
}

/// Two hundred files are copied, with a kill in the middle. Then one changes and one goes.
#[test]
fn sync() {
    let folder = folder();
    let photos = folder.path().join("photos");
    let backup = folder.path().join("backup");
    for number in 0..200 {
        let month = photos.join(format!("{}", number % 7));
        fs::create_dir_all(&month).expect("a folder");
        fs::write(month.join(format!("{number}.jpg")), format!("photo {number}")).expect("a file");
    }
    kill_when(folder.path(), "sync.df", &["photos", "backup"], || backup.join("3").exists());
    assert_eq!(run(folder.path(), "sync.df", &["photos", "backup"]), "{copied: 200, removed: 0}\n");
    let read = |folder: &Path| fs::read_to_string(folder.join("5/12.jpg")).expect("a file");
    assert_eq!(read(&backup), read(&photos));
    fs::write(photos.join("5/12.jpg"), "another photo").expect("a file");
    fs::remove_file(photos.join("0/7.jpg")).expect("a file");
    let store = folder.path().join("second");
    fs::create_dir(&store).expect("a folder");
    let (from, to) = (photos.to_str().expect("a path"), backup.to_str().expect("a path"));
    assert_eq!(run(&store, "sync.df", &[from, to]), "{copied: 1, removed: 1}\n");
    assert_eq!(read(&backup), "another photo");
    assert!(!backup.join("0/7.jpg").exists());
}
