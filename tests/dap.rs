//! A scripted client of `durable dap`. Each message of both sides is validated by the protocol's
//! schema.

mod common;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::orders::ORDERS;
use common::{DURABLE, repository};
use jsonschema::{Draft, Validator};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A client, and the adapter that it talks to.
struct Client {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    schema: Value,
    validators: HashMap<String, Validator>,
    sent: u64,
    received: u64,
    events: VecDeque<Value>,
}

impl Client {
    fn start(folder: &Path) -> Client {
        let mut child = Command::new(DURABLE)
            .current_dir(folder)
            .arg("dap")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("durable runs");
        let schema =
            fs::read_to_string(repository("tests/protocol/debugAdapterProtocol.json")).expect("the schema");
        Client {
            to: child.stdin.take().expect("stdin"),
            from: BufReader::new(child.stdout.take().expect("stdout")),
            child,
            schema: serde_json::from_str(&schema).expect("the schema is JSON"),
            validators: HashMap::new(),
            sent: 0,
            received: 0,
            events: VecDeque::new(),
        }
    }

    /// Checks a message by its definition in the schema.
    fn validate(&mut self, name: &str, message: &Value) {
        assert!(self.schema["definitions"][name].is_object(), "the protocol has no {name}");
        let schema = &self.schema;
        let validator = self.validators.entry(name.to_string()).or_insert_with(|| {
            let of = json!({"$ref": format!("#/definitions/{name}"), "definitions": schema["definitions"]});
            jsonschema::options().with_draft(Draft::Draft4).build(&of).expect("a schema")
        });
        let faults: Vec<String> = validator
            .iter_errors(message)
            .map(|fault| format!("{fault} at {}", fault.instance_path))
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:?}\n{message:#}");
    }

    fn read(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.from.read_line(&mut line).expect("a line");
            assert!(!line.is_empty(), "the adapter has ended");
            match line.trim() {
                "" => break,
                line => {
                    let length_text = line.strip_prefix("Content-Length: ").expect("a length");
                    length = length_text.parse().expect("a number");
                }
            }
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).expect("a message");
        let message: Value = serde_json::from_slice(&bytes).expect("JSON");
        self.received += 1;
        assert_eq!(message["seq"].as_u64(), Some(self.received), "messages are numbered");
        message
    }

    /// Sends a request, and returns the response. Events before it are kept.
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.sent += 1;
        let request =
            json!({"seq": self.sent, "type": "request", "command": command, "arguments": arguments});
        let name = format!("{}{}", command[..1].to_uppercase(), &command[1..]);
        self.validate(&format!("{name}Request"), &request);
        let text = request.to_string();
        write!(self.to, "Content-Length: {}\r\n\r\n{text}", text.len()).expect("the adapter reads");
        self.to.flush().expect("the adapter reads");
        loop {
            let message = self.read();
            if message["type"] != "response" {
                self.keep(message);
                continue;
            }
            assert_eq!(message["request_seq"].as_u64(), Some(self.sent));
            assert_eq!(message["command"], command);
            match message["success"] == true {
                true => self.validate(&format!("{name}Response"), &message),
                false => self.validate("ErrorResponse", &message),
            }
            return message;
        }
    }

    /// Sends a request that succeeds, and returns the body of the response.
    fn get(&mut self, command: &str, arguments: Value) -> Value {
        let response = self.ask(command, arguments);
        assert_eq!(response["success"], true, "{response:#}");
        response["body"].clone()
    }

    fn keep(&mut self, message: Value) {
        let name = match message["type"].as_str() {
            Some("event") => {
                let name = message["event"].as_str().expect("a name");
                format!("{}{}Event", name[..1].to_uppercase(), &name[1..])
            }
            _ => {
                let name = message["command"].as_str().expect("a name");
                format!("{}{}Request", name[..1].to_uppercase(), &name[1..])
            }
        };
        self.validate(&name, &message);
        self.events.push_back(message);
    }

    /// Waits for an output, which must have these words.
    #[track_caller]
    fn says(&mut self, words: &str) {
        let said = self.wait("output");
        assert!(said["body"]["output"].as_str().is_some_and(|text| text.contains(words)), "{said}");
    }

    /// Waits for an event, or for a request of the adapter.
    fn wait(&mut self, name: &str) -> Value {
        loop {
            while let Some(message) = self.events.pop_front() {
                if message["event"] == name || message["command"] == name {
                    return message;
                }
            }
            let message = self.read();
            self.keep(message);
        }
    }

    /// Begins a session as editors do. Returns the body of the first stop.
    fn launch(&mut self, arguments: Value) -> Value {
        self.get("initialize", json!({"adapterID": "durable", "supportsStartDebuggingRequest": true}));
        self.get("launch", arguments);
        self.wait("initialized");
        self.get("configurationDone", json!({}));
        self.wait("stopped")["body"].clone()
    }

    fn stack(&mut self) -> Value {
        self.get("stackTrace", json!({"threadId": 1}))["stackFrames"].clone()
    }

    /// Returns the line at which the run stands.
    fn line(&mut self) -> u64 {
        self.stack()[0]["line"].as_u64().expect("a line")
    }

    /// Returns the variables of the innermost call, by their names.
    fn locals(&mut self) -> HashMap<String, String> {
        let frame = self.stack()[0]["id"].clone();
        let scopes = self.get("scopes", json!({"frameId": frame}));
        let reference = scopes["scopes"][0]["variablesReference"].clone();
        let variables = self.get("variables", json!({"variablesReference": reference}));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let all = variables["variables"].as_array().expect("variables").iter();
        all.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
    }

    /// Goes on, and returns the body of the stop.
    fn go(&mut self, command: &str) -> Value {
        self.get(command, json!({"threadId": 1}));
        self.wait("stopped")["body"].clone()
    }

    fn end(mut self) {
        self.get("disconnect", json!({}));
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// Returns a folder with a store in which an order failed and another called two orders.
fn orders() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("orders.df"), ORDERS).expect("the program is written");
    let run = |args: &[&str]| {
        Command::new(DURABLE).current_dir(folder.path()).args(args).output().expect("durable runs");
    };
    run(&["start", "orders.df", "order", "[\"tea\", \"cake\", \"pie\"]", "--id", "failed", "--wait"]);
    run(&["start", "orders.df", "twice", "[\"tea\"]", "--id", "twice", "--wait"]);
    folder
}

#[test]
fn a_session_begins_where_the_instance_failed() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    let stop = client.launch(json!({"id": "failed"}));
    assert_eq!(stop["reason"], "exception");
    assert_eq!(client.line(), 12);
    let locals = client.locals();
    assert_eq!((locals["sum"].as_str(), locals["item"].as_str()), ("8", "\"pie\""));
    let info = client.get("exceptionInfo", json!({"threadId": 1}));
    assert_eq!((&info["exceptionId"], &info["breakMode"]), (&json!("unknown_item"), &json!("unhandled")));
    let threads = client.get("threads", Value::Null);
    assert_eq!(threads["threads"].as_array().map(Vec::len), Some(1));
    client.end();
}

#[test]
fn steps_go_in_both_directions() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "failed", "stopOnEntry": true}));
    client.go("stepIn");
    assert_eq!(client.line(), 20);
    client.go("stepIn");
    assert_eq!(client.line(), 10);
    let lines: Vec<u64> = (0..6)
        .map(|_| {
            client.go("next");
            client.line()
        })
        .collect();
    assert_eq!(lines, [11, 12, 13, 14, 12, 13]);
    let lines: Vec<u64> = (0..6)
        .map(|_| {
            client.go("stepBack");
            client.line()
        })
        .collect();
    assert_eq!(lines, [12, 14, 13, 12, 11, 10]);
    client.go("stepBack");
    assert_eq!(client.line(), 20);
    let frame = {
        client.go("stepIn");
        client.go("next");
        client.go("next");
        client.stack()[0]["id"].clone()
    };
    client.get("restartFrame", json!({"frameId": frame}));
    client.wait("stopped");
    assert_eq!(client.line(), 10);
    client.go("stepOut");
    client.end();
}

#[test]
fn breakpoints_of_all_kinds_stop_in_both_directions() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "failed", "stopOnEntry": true}));
    let source = json!({"path": folder.path().join("orders.df").display().to_string()});
    let set = |client: &mut Client, points: Value| {
        let body = client.get("setBreakpoints", json!({"source": source, "breakpoints": points}));
        body["breakpoints"].clone()
    };
    let set_points = set(&mut client, json!([{"line": 13, "condition": "one > 3"}, {"line": 900}]));
    assert_eq!((&set_points[0]["verified"], &set_points[1]["verified"]), (&json!(true), &json!(false)));
    let stop = client.go("continue");
    assert_eq!((&stop["reason"], &stop["hitBreakpointIds"][0]), (&json!("breakpoint"), &set_points[0]["id"]));
    assert_eq!(client.locals()["item"], "\"cake\"");
    // The second time that a line is executed.
    set(&mut client, json!([{"line": 12, "hitCondition": "2"}]));
    client.go("reverseContinue");
    assert_eq!((client.line(), client.locals()["item"].clone()), (12, "\"cake\"".to_string()));
    // A text in the place of a stop.
    set(&mut client, json!([{"line": 14, "logMessage": "{item} costs {one}"}]));
    client.get("restart", json!({}));
    client.wait("stopped");
    client.get("continue", json!({"threadId": 1}));
    let said = client.wait("output");
    assert_eq!(said["body"]["output"], "tea costs 3\n");
    client.wait("stopped");
    set(&mut client, json!([]));
    // Functions and errors.
    client.get("setFunctionBreakpoints", json!({"breakpoints": [{"name": "total"}]}));
    client.get("restart", json!({}));
    client.wait("stopped");
    assert_eq!(client.go("continue")["reason"], "function breakpoint");
    assert_eq!(client.line(), 10);
    client.get("setFunctionBreakpoints", json!({"breakpoints": []}));
    client.get(
        "setExceptionBreakpoints",
        json!({"filters": [], "filterOptions": [{"filterId": "thrown", "condition": "unknown_item"}]}),
    );
    let stop = client.go("continue");
    assert_eq!((&stop["reason"], client.line()), (&json!("exception"), 12));
    client.get("setExceptionBreakpoints", json!({"filters": []}));
    // A variable that changes.
    let frame = client.stack()[0]["id"].clone();
    let info = client.get("dataBreakpointInfo", json!({"frameId": frame, "name": "sum"}));
    client.get("setDataBreakpoints", json!({"breakpoints": [{"dataId": info["dataId"]}]}));
    let stop = client.go("reverseContinue");
    assert_eq!(
        (&stop["reason"], client.locals()["sum"].clone()),
        (&json!("data breakpoint"), "8".to_string())
    );
    client.go("reverseContinue");
    assert_eq!(client.locals()["sum"], "3");
    client.end();
}

#[test]
fn values_are_evaluated_completed_and_opened() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "failed"}));
    let frame = client.stack()[0]["id"].clone();
    let value = client.get("evaluate", json!({"expression": "items", "frameId": frame, "context": "hover"}));
    assert_eq!((&value["type"], &value["indexedVariables"]), (&json!("list"), &json!(3)));
    let parts = client
        .get("variables", json!({"variablesReference": value["variablesReference"], "start": 1, "count": 1}));
    assert_eq!(parts["variables"][0]["value"], "\"cake\"");
    assert_eq!(parts["variables"][0]["evaluateName"], "items[1]");
    let value = client.get("evaluate", json!({"expression": "sum * 100 + items.len()", "frameId": frame}));
    assert_eq!(value["result"], "803");
    let refused = client.ask("evaluate", json!({"expression": "print(sum)", "frameId": frame}));
    assert_eq!(refused["success"], false);
    let offered = client.get("completions", json!({"frameId": frame, "text": "su", "column": 3}));
    assert_eq!(offered["targets"][0]["label"], "sum");
    let targets = client.get("gotoTargets", json!({"source": client_source(folder.path()), "line": 13}));
    assert_eq!(targets["targets"].as_array().map(Vec::len), Some(2));
    client.get("goto", json!({"threadId": 1, "targetId": targets["targets"][0]["id"]}));
    client.wait("stopped");
    assert_eq!((client.line(), client.locals()["one"].clone()), (13, "3".to_string()));
    client.end();
}

fn client_source(folder: &Path) -> Value {
    json!({"path": folder.join("orders.df").display().to_string()})
}

#[test]
fn a_changed_file_is_told_from_the_stored_text() {
    let folder = orders();
    let file = folder.path().join("orders.df");
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "failed"}));
    let source = client.stack()[0]["source"].clone();
    assert!(source["sourceReference"].is_null(), "{source}");
    assert_eq!(source["checksums"][0]["algorithm"], "SHA256");
    client.end();
    fs::write(&file, format!("// changed\n{ORDERS}")).expect("the file is written");
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "failed"}));
    let source = client.stack()[0]["source"].clone();
    let reference = source["sourceReference"].as_u64().expect("a reference");
    let text = client.get("source", json!({"sourceReference": reference, "source": source}));
    assert_eq!(text["content"], ORDERS);
    let all = client.get("loadedSources", json!({}));
    assert!(all["sources"].as_array().expect("sources").iter().any(|source| source["name"] == "orders.df"));
    client.end();
}

#[test]
fn a_child_is_a_session_of_its_own() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    client.launch(json!({"id": "twice", "stopOnEntry": true}));
    client.go("stepIn");
    assert_eq!(client.line(), 25);
    client.get("stepIn", json!({"threadId": 1}));
    let asked = client.wait("startDebugging");
    let configuration = &asked["arguments"]["configuration"];
    assert_eq!((&configuration["id"], &configuration["at"]), (&json!("twice:0"), &json!("0.0")));
    let mut child = Client::start(folder.path());
    child.launch(configuration.clone());
    child.go("stepIn");
    assert_eq!(child.line(), 20);
    child.end();
    client.end();
}

/// A program that calls an activity and an entity, on lines 7 and 8.
const BANK: &str = "\
activity fee(n) => 5
entity Account {
  state 0
  on add(n) { state += n; state }
}
orchestration pay(n) {
  let cost = fee(n)
  let sum = Account(\"ada\").add(n - cost)
  sum
}
pay(50)
";

#[test]
fn a_kept_operation_is_a_session_of_its_own_and_an_activity_is_not() {
    for keeps in [true, false] {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("bank.df"), BANK).expect("the program is written");
        let mut run = Command::new(DURABLE);
        run.current_dir(folder.path()).args(["run", "bank.df", "--id", "x"]);
        if keeps {
            run.arg("--journal-entities");
        }
        assert!(run.status().expect("durable runs").success());
        let mut client = Client::start(folder.path());
        client.launch(json!({"id": "x:0", "stopOnEntry": true}));
        client.go("stepIn");
        assert_eq!(client.line(), 7);
        client.get("stepIn", json!({"threadId": 1}));
        client.says("stepped over fee");
        client.wait("stopped");
        assert_eq!(client.line(), 8);
        client.get("stepIn", json!({"threadId": 1}));
        if !keeps {
            client.says("no operations are kept");
            client.wait("stopped");
            assert_eq!(client.line(), 9);
            client.end();
            continue;
        }
        let asked = client.wait("startDebugging");
        let configuration = asked["arguments"]["configuration"].clone();
        assert_eq!((&configuration["id"], &configuration["operation"]), (&json!("Account@ada"), &json!(1)));
        let mut operation = Client::start(folder.path());
        operation.launch(configuration);
        operation.go("stepIn");
        assert_eq!(operation.line(), 4);
        let locals = operation.locals();
        assert_eq!((locals["n"].as_str(), locals["state"].as_str()), ("45", "0"));
        operation.end();
        client.end();
    }
}

#[test]
fn a_broken_request_has_an_error_and_the_session_goes_on() {
    let folder = orders();
    let mut client = Client::start(folder.path());
    client.get("initialize", json!({"adapterID": "durable"}));
    assert_eq!(client.ask("threads", Value::Null)["success"], false);
    assert_eq!(client.ask("launch", json!({"id": "nobody"}))["success"], false);
    client.get("launch", json!({"id": "failed"}));
    client.wait("initialized");
    assert_eq!(client.ask("scopes", json!({"frameId": 77}))["success"], false);
    assert_eq!(client.ask("modules", json!({}))["success"], false);
    client.get("configurationDone", json!({}));
    client.wait("stopped");
    client.end();
}
