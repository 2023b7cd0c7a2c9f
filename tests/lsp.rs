//! The language server, tested by a client that speaks the protocol.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::DURABLE;
use serde_json::{Value, json};

struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    asked: i64,
}

const URI: &str = "file:///work/a.df";

impl Client {
    fn new() -> Client {
        Client::within(Value::Null)
    }

    /// Starts a client whose editor works in a folder.
    fn within(root: Value) -> Client {
        let mut child = Command::new(DURABLE)
            .arg("lsp")
            .env("XDG_CACHE_HOME", std::env::temp_dir().join("durable-tests"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut client = Client { child, input, output, asked: 0 };
        let answer = client.ask("initialize", json!({"capabilities": {}, "rootUri": root}));
        assert_eq!(answer["capabilities"]["hoverProvider"], json!(true));
        client.tell("initialized", json!({}));
        client
    }

    fn send(&mut self, message: Value) {
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).expect("it reads");
        self.input.flush().expect("it reads");
    }

    /// Sends raw bytes.
    fn raw(&mut self, bytes: &str) {
        self.input.write_all(bytes.as_bytes()).expect("it reads");
        self.input.flush().expect("it reads");
    }

    /// Returns the code of the next error, which belongs to no request.
    fn complaint(&mut self) -> Value {
        let said = self.receive();
        assert!(said["id"].is_null(), "{said}");
        said["error"]["code"].clone()
    }

    /// Renames the name at a place. Returns the renamed program, or the reason for the refusal.
    fn renamed(&mut self, text: &str, at: &str, name: &str) -> Result<String, String> {
        self.write(text, true);
        let offset = text.find(at).expect("the place");
        let line = text[..offset].matches('\n').count();
        let character = offset - text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let position = json!({"line": line, "character": character});
        let params = json!({"textDocument": {"uri": URI}, "position": position, "newName": name});
        let answer = self.answer("textDocument/rename", params);
        if let Some(reason) = answer["error"]["message"].as_str() {
            return Err(reason.to_string());
        }
        let mut edits: Vec<(usize, usize, String)> = Vec::new();
        for edit in answer["result"]["changes"][URI].as_array().expect("edits") {
            let offset = |end: &str| {
                let place = &edit["range"][end];
                let line = place["line"].as_u64().expect("a number") as usize;
                let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
                start + place["character"].as_u64().expect("a number") as usize
            };
            edits.push((offset("start"), offset("end"), edit["newText"].as_str().expect("text").to_string()));
        }
        edits.sort();
        let mut out = text.to_string();
        for (from, to, new) in edits.into_iter().rev() {
            out.replace_range(from..to, &new);
        }
        Ok(out)
    }

    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).expect("it writes");
            match line.trim().strip_prefix("Content-Length: ") {
                Some(text) => length = text.parse().expect("a number"),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        let mut bytes = vec![0; length];
        self.output.read_exact(&mut bytes).expect("a message");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Sends a request, and returns the whole answer.
    fn answer(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        self.send(json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params}));
        let answer = self.receive();
        assert_eq!(answer["id"], json!(self.asked), "{answer}");
        answer
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// Opens or changes the program. Returns the diagnostics.
    fn write(&mut self, text: &str, open: bool) -> Value {
        match open {
            true => self.tell(
                "textDocument/didOpen",
                json!({"textDocument": {"uri": URI, "languageId": "durable", "version": 1, "text": text}}),
            ),
            false => self.tell(
                "textDocument/didChange",
                json!({"textDocument": {"uri": URI, "version": 2}, "contentChanges": [{"text": text}]}),
            ),
        }
        let said = self.receive();
        assert_eq!(said["method"], json!("textDocument/publishDiagnostics"));
        said["params"]["diagnostics"].clone()
    }

    /// Sends a request about a place.
    fn at(&mut self, method: &str, line: u32, character: u32) -> Value {
        let method = format!("textDocument/{method}");
        self.ask(
            &method,
            json!({"textDocument": {"uri": URI}, "position": {"line": line, "character": character}}),
        )
    }

    fn end(mut self) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        assert!(self.child.wait().expect("it ends").success());
    }
}

const TEXT: &str = "/// Charges a card.\n///     charge(1) == 1\nactivity charge(amount) => amount\n\
                    let é𝄞 = \"💡\"; let paid = charge(5)\nprint([paid, é𝄞].map(fn x => x))\n\
                    entity Account { state 0; on deposit(n) { state += n } }\nAccount(\"a\").deposit(paid)\n";
// Returns the program with a valid name in the place of the invalid one.
fn program() -> String {
    TEXT.replace("é𝄞", "note")
}

#[test]
fn diagnostics_come_as_one_types_and_have_their_fixes() {
    let mut client = Client::new();
    assert_eq!(client.write(&program(), true), json!([]));
    let said = client.write("let total = 1\nlen(\"💡\", totl)\n", false);
    let wrong =
        said.as_array().expect("a list").iter().find(|d| d["severity"] == 1).expect("a mistake").clone();
    assert!(wrong["message"].as_str().expect("text").contains("takes 1 argument"), "{said}");
    let said = client.write("let total = 1\nprint([\"💡\", totl])\n", false);
    let wrong =
        said.as_array().expect("a list").iter().find(|d| d["severity"] == 1).expect("a mistake").clone();
    assert!(wrong["message"].as_str().expect("text").starts_with("unknown name `totl`"), "{said}");
    // Columns count UTF-16 units, and the lamp takes two.
    assert_eq!(wrong["range"]["start"], json!({"line": 1, "character": 13}));
    let actions = client.ask(
        "textDocument/codeAction",
        json!({"textDocument": {"uri": URI}, "range": wrong["range"], "context": {"diagnostics": []}}),
    );
    assert_eq!(actions[0]["title"], json!("Replace with `total`"));
    assert_eq!(actions[0]["edit"]["changes"][URI][0]["newText"], json!("total"));
    client.end();
}

#[test]
fn names_are_explained_found_and_renamed() {
    let mut client = Client::new();
    client.write(&program(), true);
    let hover = client.at("hover", 3, 30);
    let text = hover["contents"]["value"].as_str().expect("text");
    assert!(text.contains("activity charge(amount)") && text.contains("Charges a card."), "{text}");
    let hover = client.at("hover", 4, 20);
    assert!(hover["contents"]["value"].as_str().expect("text").contains("fn map(xs, f)"), "{hover}");
    let found = client.at("definition", 3, 31);
    assert_eq!(found["range"]["start"], json!({"line": 2, "character": 9}));
    let all = client.at("references", 3, 23);
    let lines: Vec<_> =
        all.as_array().expect("a list").iter().map(|r| r["range"]["start"]["line"].clone()).collect();
    assert_eq!(lines, [json!(3), json!(4), json!(6)]);
    let params =
        json!({"textDocument": {"uri": URI}, "position": {"line": 3, "character": 23}, "newName": "done"});
    let edit = client.ask("textDocument/rename", params.clone());
    assert_eq!(edit["changes"][URI].as_array().expect("edits").len(), 3);
    let mut params = params;
    params["newName"] = json!("let");
    let refused = client.answer("textDocument/rename", params);
    assert!(refused["error"]["message"].as_str().expect("a reason").contains("can't be a name"), "{refused}");
    client.write("let a = 1\nlet r = {a}\nprint(r)\n", false);
    let params =
        json!({"textDocument": {"uri": URI}, "position": {"line": 0, "character": 4}, "newName": "b"});
    let edit = client.ask("textDocument/rename", params);
    let texts: Vec<_> =
        edit["changes"][URI].as_array().expect("edits").iter().map(|e| e["newText"].clone()).collect();
    assert_eq!(texts, [json!("b"), json!("a: b")]);
    client.end();
}

#[test]
fn what_can_be_written_is_offered() {
    let mut client = Client::new();
    client.write(&format!("{}pai", program()), true);
    let labels = |items: Value| -> Vec<String> {
        items
            .as_array()
            .expect("a list")
            .iter()
            .map(|i| i["label"].as_str().expect("text").to_string())
            .collect()
    };
    assert!(labels(client.at("completion", 7, 3)).contains(&"paid".to_string()));
    client.write("json.pre", false);
    assert_eq!(labels(client.at("completion", 0, 8)), ["pretty"]);
    client.write(&format!("{}Account(1).dep", program()), false);
    assert!(labels(client.at("completion", 7, 14)).contains(&"deposit".to_string()));
    client.write(&format!("{}charge(", program()), false);
    let help = client.at("signatureHelp", 7, 7);
    assert_eq!(help["signatures"][0]["label"], json!("activity charge(amount)"));
    client.write("range(1, ", false);
    let help = client.at("signatureHelp", 0, 9);
    assert_eq!(help["signatures"][0]["label"], json!("range(low, high, step = 1)"));
    assert_eq!(help["activeParameter"], json!(1));
    client.end();
}

#[test]
fn the_document_has_symbols_tokens_and_a_style() {
    let mut client = Client::new();
    client.write(&program(), true);
    let place = json!({"textDocument": {"uri": URI}});
    let symbols = client.ask("textDocument/documentSymbol", place.clone());
    let names: Vec<_> = symbols.as_array().expect("a list").iter().map(|s| s["name"].clone()).collect();
    assert_eq!(names, [json!("charge"), json!("Account")]);
    let tokens = client.ask("textDocument/semanticTokens/full", place.clone());
    let data = tokens["data"].as_array().expect("numbers");
    assert_eq!(data[..5], [json!(0), json!(0), json!(19), json!(3), json!(0)]);
    assert_eq!(data.len() % 5, 0);
    client.write("let a=1;print( a )", false);
    let edits = client.ask("textDocument/formatting", place.clone());
    assert_eq!(edits[0]["newText"], json!("let a = 1\nprint(a)\n"));
    client.write("let a = \"🙂\nb", false);
    assert_eq!(client.ask("textDocument/formatting", place), json!([]));
    assert!(
        client.answer("textDocument/unknown", json!({"textDocument": {"uri": URI}}))["error"].is_object()
    );
    client.end();
}

#[test]
fn the_editors_grammar_has_the_words_of_the_language() {
    let read = |path: &str| -> Value {
        let text = std::fs::read_to_string(common::repository(path)).expect("a file");
        serde_json::from_str(&text).expect("JSON")
    };
    let grammar = read("editors/vscode/syntaxes/durable.tmLanguage.json");
    let package = read("editors/vscode/package.json");
    assert_eq!(package["contributes"]["grammars"][0]["scopeName"], grammar["scopeName"]);
    read("editors/vscode/language-configuration.json");
    let mut words: Vec<String> = Vec::new();
    for pattern in grammar["repository"]["words"]["patterns"].as_array().expect("patterns") {
        let text = pattern["match"].as_str().expect("text");
        let list = &text[text.find("\\b(").expect("a list") + 3..];
        words.extend(list[..list.find(')').expect("its end")].split('|').map(str::to_string));
    }
    let known =
        |word: &String| durable::syntax::token::Token::fixed(word).is_some_and(|token| token.is_word());
    assert!(words.iter().all(known), "{words:?}");
    let language = std::fs::read_to_string(common::repository("docs/language.md")).expect("the reference");
    let reserved =
        language.split("Reserved words: `").nth(1).and_then(|rest| rest.split('`').next()).expect("a list");
    for word in reserved.split_whitespace() {
        assert!(words.iter().any(|known| known == word), "`{word}` is not in the grammar");
    }
}

#[test]
fn names_are_renamed_in_all_files_and_the_library_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("a path");
    let uri = |name: &str| format!("file://{}/{name}", root.display());
    let files = [
        ("lib/mail.df", "fn send(to) => \"to {to}\"\nfn twice(to) => [send(to), send(to)]\n"),
        ("a.df", "import \"lib/mail.df\" as mail\nprint(mail.send(1))\n"),
        ("sub/b.df", "import \"../lib/mail.df\" as post\nlet f = {send: post.send}\npost.send(f.send(2))\n"),
        ("c.df", "fn send(x) => x\nsend(1)\n"),
    ];
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let mut client = Client::within(json!(format!("file://{}", root.display())));
    // The open document differs from the file on the disk.
    let open = "// One line more.\nimport \"lib/mail.df\" as mail\nprint(mail.send(1))\n";
    client.tell(
        "textDocument/didOpen",
        json!({"textDocument": {"uri": uri("a.df"), "languageId": "durable", "version": 1, "text": open}}),
    );
    client.receive();
    let at = |line: u32, character: u32| json!({"textDocument": {"uri": uri("a.df")}, "position": {"line": line, "character": character}});
    let mut asked = at(2, 12);
    let found = client.ask("textDocument/references", asked.clone());
    assert_eq!(found.as_array().map(Vec::len), Some(6), "{found}");
    asked["newName"] = json!("deliver");
    let changes = client.ask("textDocument/rename", asked)["changes"].clone();
    let edits = |name: &str| {
        let edits = changes[uri(name)].as_array().cloned().unwrap_or_default();
        let place = |edit: &Value| {
            let start = &edit["range"]["start"];
            format!("{}:{} {}", start["line"], start["character"], edit["newText"].as_str().unwrap_or(""))
        };
        edits.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(edits("lib/mail.df"), ["0:3 deliver", "1:17 deliver", "1:27 deliver"]);
    assert_eq!(edits("a.df"), ["2:11 deliver"]);
    assert_eq!(edits("sub/b.df"), ["1:20 deliver", "2:5 deliver"]);
    assert_eq!(edits("c.df"), [""; 0]);
    // The path of an import is completed from the files. Then `print` is looked up: its definition
    // is shown as a file of the library, and can't be renamed.
    let open = "import \"lib/m";
    client.tell(
        "textDocument/didChange",
        json!({"textDocument": {"uri": uri("a.df")}, "contentChanges": [{"text": open}]}),
    );
    client.receive();
    let offered = client.ask("textDocument/completion", at(0, 13));
    assert_eq!((offered[0]["label"].as_str(), offered[1].is_null()), (Some("mail.df"), true), "{offered}");
    let open = "// One line more.\nimport \"lib/mail.df\" as mail\nprint(mail.send(1))\n";
    client.tell(
        "textDocument/didChange",
        json!({"textDocument": {"uri": uri("a.df")}, "contentChanges": [{"text": open}]}),
    );
    client.receive();
    let definition = client.ask("textDocument/definition", at(2, 2));
    let shown = definition["uri"].as_str().expect("a file").trim_start_matches("file://").to_string();
    let text = std::fs::read_to_string(shown).expect("it was written down");
    let line = definition["range"]["start"]["line"].as_u64().expect("a number") as usize;
    assert!(text.lines().nth(line).expect("a line").starts_with("const print"), "{definition}");
    let mut asked = at(2, 2);
    asked["newName"] = json!("show");
    assert!(client.answer("textDocument/rename", asked)["error"]["message"].is_string());
    client.end();
}

/// The extension for VS Code starts the server and shows its diagnostics, in a simulated editor.
#[test]
fn the_extension_speaks_to_the_server() {
    let folder = common::repository("editors/vscode");
    let node = Command::new("node")
        .arg(common::repository("tests/common/vscode.js"))
        .arg(folder)
        .arg(DURABLE)
        .output();
    // The test is skipped without node.
    let Ok(output) = node else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().last(), Some("all is well"), "{said}");
}

#[test]
fn the_server_survives_what_is_no_message() {
    let mut client = Client::new();
    client.write("let a = 1\nprint(a)\n", true);
    let alive = |client: &mut Client| assert!(client.at("hover", 1, 6)["contents"].is_object());
    let body = json!({"jsonrpc": "2.0", "id": "lost", "method": "textDocument/unknown"}).to_string();
    let broken = [
        "Content-Length: 5\r\n\r\n{oops".to_string(),
        "Content-Length: 2\r\n\r\n\u{e9}".to_string(),
        "Content-Length: many\r\n\r\n".to_string(),
        "Content-Length: -1\r\n\r\n{}".to_string(),
        "Content-Length: 99999999999999\r\n\r\n{}".to_string(),
        format!("Content-Length: {}\r\n\r\n{body}", body.len() - 7),
        format!("Content-Length: {}\r\n\r\n{body}", body.len() + 17),
        format!("Content-Type: none\r\n\r\n{body}"),
        "what is this?\r\n".to_string(),
        format!("{}\n", "long ".repeat(2_000)),
    ];
    for bytes in broken {
        client.raw(&bytes);
        client.tell("initialized", json!({}));
        assert_eq!(client.complaint(), json!(-32700), "{bytes}");
        alive(&mut client);
    }
    for message in [json!([]), json!(5), json!({}), json!({"method": 5}), json!({"method": "a", "id": {}})] {
        client.send(message.clone());
        assert_eq!(client.complaint(), json!(-32600), "{message}");
        alive(&mut client);
    }
    let code = |answer: Value| answer["error"]["code"].clone();
    assert_eq!(code(client.answer("textDocument/unknown", json!([]))), json!(-32601));
    assert_eq!(code(client.answer("initialize", json!({}))), json!(-32600));
    for method in ["hover", "rename", "completion", "formatting", "semanticTokens/full"] {
        let params = json!({"textDocument": {"uri": "file:///work/unknown.df"}, "position": "nowhere"});
        assert_eq!(code(client.answer(&format!("textDocument/{method}"), params)), json!(-32602), "{method}");
        assert_eq!(
            code(client.answer(&format!("textDocument/{method}"), Value::Null)),
            json!(-32602),
            "{method}"
        );
    }
    client.tell("textDocument/didChange", json!({"textDocument": {}}));
    client.tell("$/unknown", Value::Null);
    alive(&mut client);
    client.end();
}

#[test]
fn a_change_may_be_one_of_a_part() {
    let mut client = Client::new();
    client.write("let a = 1\nprint(a)\n", true);
    let place = |line: u32, character: u32| json!({"line": line, "character": character});
    let range = json!({"start": place(0, 4), "end": place(0, 5)});
    let changes = json!([{"range": range, "text": "sum"}, {"range": {"start": place(1, 6), "end": place(1, 7)}, "text": "sum"}]);
    client.tell("textDocument/didChange", json!({"textDocument": {"uri": URI}, "contentChanges": changes}));
    assert_eq!(client.receive()["params"]["diagnostics"], json!([]));
    assert!(client.at("hover", 1, 7)["contents"].is_object());
    client.end();
}

#[test]
fn a_name_is_renamed_wherever_it_is_meant_and_nowhere_else() {
    let mut client = Client::new();
    let cases = [
        (
            "fn f(r) => match r { {a: x} | {b: x} => x; _ => 0 }\nf(1)\n",
            "x}",
            "y",
            "fn f(r) => match r { {a: y} | {b: y} => y; _ => 0 }\nf(1)\n",
        ),
        (
            "fn f(r) => match r { {a: x} | {b: x} => x; _ => 0 }\nf(1)\n",
            "x} =>",
            "y",
            "fn f(r) => match r { {a: y} | {b: y} => y; _ => 0 }\nf(1)\n",
        ),
        (
            "fn f(r) => match r { {a} | [a] => a; _ => 0 }\nf(1)\n",
            "a]",
            "b",
            "fn f(r) => match r { {a: b} | [b] => b; _ => 0 }\nf(1)\n",
        ),
        (
            "fn f(name) => {name, old: \"{name} {{name}}\"}\nf(1)\n",
            "name)",
            "new",
            "fn f(new) => {name: new, old: \"{new} {{name: new}}\"}\nf(1)\n",
        ),
        (
            "let a = 1\nlet f = fn a => a + 1\nprint([a, f(a)])\n",
            "a, f",
            "b",
            "let b = 1\nlet f = fn a => a + 1\nprint([b, f(b)])\n",
        ),
        (
            "let a = 1\nlet f = fn a => a + 1\nprint([a, f(a)])\n",
            "a + 1",
            "b",
            "let a = 1\nlet f = fn b => b + 1\nprint([a, f(a)])\n",
        ),
        (
            "var n = 0\nlet add = fn () { n += 1 }\nadd()\nprint(\"{n}\")\n",
            "n = 0",
            "count",
            "var count = 0\nlet add = fn () { count += 1 }\nadd()\nprint(\"{count}\")\n",
        ),
        (
            "let a = 1\nlet b = {a: 2, c: a}.a\nprint(b + a)\n",
            "a = 1",
            "d",
            "let d = 1\nlet b = {a: 2, c: d}.a\nprint(b + d)\n",
        ),
        (
            "fn f({a, ..rest}) => [a, rest]\nf({a: 1})\n",
            "a, ..",
            "b",
            "fn f({a: b, ..rest}) => [b, rest]\nf({a: 1})\n",
        ),
        ("// a\nlet a = \"a\" /* a */\nprint(a)\n", "a = ", "b", "// a\nlet b = \"a\" /* a */\nprint(b)\n"),
        (
            "let a = try { 1 } catch {kind: k} { k }\nprint(a)\n",
            "k }",
            "kind",
            "let a = try { 1 } catch {kind: kind} { kind }\nprint(a)\n",
        ),
    ];
    for (text, at, name, expected) in cases {
        assert_eq!(client.renamed(text, at, name).as_deref(), Ok(expected), "{text}");
    }
    client.end();
}

#[test]
fn a_renaming_that_would_change_a_meaning_is_refused() {
    let mut client = Client::new();
    let cases = [
        // The new name would be captured, or would capture.
        ("let a = 1\nlet f = fn b => a + b\nprint(f(a))\n", "a = 1", "b"),
        ("let a = 1\nlet f = fn b => a + b\nprint(f(a))\n", "b =>", "a"),
        ("let a = 1\nlet b = 2\nprint(a + b)\n", "b = 2", "a"),
        ("let a = 1\nlet b = 2\nprint(a + b)\n", "a = 1", "b"),
        ("fn f(a) { let b = 1; a + b }\nf(1)\n", "a)", "b"),
        ("fn f(a, b) => a + b\nf(1, 2)\n", "a,", "b"),
        ("let [a, b] = [1, 2]\nprint(a + b)\n", "a,", "b"),
        ("fn f() => 1\nfn g() => f()\nprint(g())\n", "f() => 1", "g"),
        ("fn shout(text) => print(text)\nshout(1)\n", "shout(text)", "print"),
        ("fn f(xs) => json.parse(xs)\nf(\"1\")\n", "xs)", "json"),
        ("fn f(a) => \"{[1].map(fn b => a + b)}\"\nf(1)\n", "a)", "b"),
        ("let a = 1\nlet r = {x: fn b => {a, b}}\nprint(r)\n", "a = 1", "b"),
        ("fn f(a) => match a { {b} => a; _ => a }\nf(1)\n", "a)", "b"),
        // The new name is not a name, or the place has none.
        ("let a = 1\nprint(a)\n", "a = 1", "two words"),
        ("let a = 1\nprint(a)\n", "a = 1", "fn"),
        ("let a = 1\nprint({a: 1}.a)\nprint(a)\n", "a: 1", "b"),
        ("// about a\nlet a = 1\nprint(a)\n", "a\nlet", "b"),
    ];
    for (text, at, name) in cases {
        let refused = client.renamed(text, at, name);
        assert!(refused.is_err(), "{text}: {refused:?}");
    }
    let why = client.renamed(cases[0].0, cases[0].1, cases[0].2).expect_err("a reason");
    assert!(why.contains("`a` in line 2 of a.df would mean something else"), "{why}");
    client.end();
}

#[test]
fn nothing_is_offered_in_comments_and_text() {
    let mut client = Client::new();
    let program = "let paid = 1\nprint(paid)\n";
    let mut offers = |line: &str| -> Vec<String> {
        client.write(&format!("{program}{line}"), true);
        let items = client.at("completion", 2, line.encode_utf16().count() as u32);
        let labels = items.as_array().expect("a list").iter();
        labels.map(|item| item["label"].as_str().expect("text").to_string()).collect()
    };
    for line in [
        "// pai",
        "let a = 1 // pai",
        "/* pai",
        "/* /* a */ pai",
        "\"pai",
        "\"a {paid} pai",
        "\"\\{pai",
        "\"\"\"pai",
        "\"// pai",
        "\"json.",
        "// json.",
    ] {
        assert_eq!(offers(line), [""; 0], "{line}");
    }
    for line in [
        "pai",
        "\"{pai",
        "\"a {paid} {pai",
        "\"\"\"{pai",
        "\"{f(\"a\", pai",
        "/* a */ pai",
        "\"a\" + pai",
        "\"{f(\"{pai",
    ] {
        assert!(offers(line).contains(&"paid".to_string()), "{line}");
    }
    assert_eq!(offers("\"{json.pre"), ["pretty"]);
    client.end();
}
