//! `durable lsp`: the language server, over standard input and output.

pub(super) mod cursor;
mod document;
mod everywhere;
mod names;
mod offers;
mod renaming;
mod tokens;
pub(super) mod wire;

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::problem::Problem;
use super::repl::Assistant;
use super::{FAILED, STORE};

use document::{Document, path_of};
use everywhere::Everywhere;
use wire::{Incoming, Reader};

// The protocol's error codes.
const NO_JSON: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const UNKNOWN_METHOD: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const NOT_INITIALIZED: i32 = -32002;

type Reply = Result<Value, (i32, String)>;

/// Serves an editor until the editor ends the session.
pub fn lsp() -> Result<u8, Problem> {
    let broken = |error: std::io::Error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("the editor can't be spoken to: {reason}"))
    };
    let mut server =
        Server { documents: HashMap::new(), assistant: Assistant::new(false), root: None, stage: Stage::New };
    let mut reader = Reader::new(std::io::stdin().lock());
    loop {
        let out = match reader.next().map_err(broken)? {
            Incoming::End => return Ok(0),
            Incoming::Broken(reason) => vec![wire::answer(Value::Null, Err((NO_JSON, reason)))],
            Incoming::Message(message) if message["method"] == "exit" => {
                return Ok(if server.stage == Stage::Done { 0 } else { FAILED });
            }
            Incoming::Message(message) => server.take(&message),
        };
        for message in out {
            wire::write(std::io::stdout().lock(), &message).map_err(broken)?;
        }
    }
}

/// Returns the capabilities of the server.
fn capabilities() -> Value {
    json!({
        "textDocumentSync": 1,
        "hoverProvider": true,
        "definitionProvider": true,
        "referencesProvider": true,
        "renameProvider": true,
        "documentSymbolProvider": true,
        "documentFormattingProvider": true,
        "completionProvider": {"triggerCharacters": [".", "\""]},
        "signatureHelpProvider": {"triggerCharacters": ["(", ","]},
        "codeActionProvider": true,
        "semanticTokensProvider": {
            "legend": {"tokenTypes": tokens::TOKEN_TYPES, "tokenModifiers": []},
            "full": true
        }
    })
}

/// The stage of a session.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    New,
    Initialized,
    /// The editor has sent `shutdown`.
    Done,
}

struct Server {
    documents: HashMap<String, Document>,
    assistant: Assistant,
    /// The folder that the editor works in.
    root: Option<PathBuf>,
    stage: Stage,
}

impl Server {
    /// Returns the messages to send in response to a message.
    fn take(&mut self, message: &Value) -> Vec<Value> {
        let id = message.get("id").filter(|id| id.is_number() || id.is_string());
        let Some(method) = message["method"].as_str() else {
            // This is the response to a request. The server sends no requests.
            if message.get("result").is_some() || message.get("error").is_some() {
                return Vec::new();
            }
            let reason = "a message has a `method`".to_string();
            return vec![wire::answer(id.cloned().unwrap_or_default(), Err((INVALID_REQUEST, reason)))];
        };
        match (id, message.get("id")) {
            (Some(id), _) => vec![wire::answer(id.clone(), self.request(method, &message["params"]))],
            (None, None) if self.stage == Stage::Initialized => self.notified(method, &message["params"]),
            (None, None) => Vec::new(),
            (None, Some(_)) => {
                let reason = "the `id` of a request is a number or a string".to_string();
                vec![wire::answer(Value::Null, Err((INVALID_REQUEST, reason)))]
            }
        }
    }

    fn request(&mut self, method: &str, params: &Value) -> Reply {
        match (self.stage, method) {
            (Stage::New, "initialize") => {
                let root =
                    params["workspaceFolders"][0]["uri"].as_str().or_else(|| params["rootUri"].as_str());
                self.root = root.map(path_of);
                self.stage = Stage::Initialized;
                Ok(json!({"capabilities": capabilities()}))
            }
            (Stage::New, _) => Err((NOT_INITIALIZED, "`initialize` comes first".to_string())),
            (Stage::Initialized, "initialize") => {
                Err((INVALID_REQUEST, "`initialize` has come already".to_string()))
            }
            (Stage::Done, _) => Err((INVALID_REQUEST, "`shutdown` has come already".to_string())),
            (Stage::Initialized, "shutdown") => {
                self.stage = Stage::Done;
                Ok(Value::Null)
            }
            (Stage::Initialized, _) => self.answer(method, params),
        }
    }

    fn notified(&mut self, method: &str, params: &Value) -> Vec<Value> {
        let Some(uri) = params["textDocument"]["uri"].as_str() else { return Vec::new() };
        match method {
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str().unwrap_or_default();
                self.documents.insert(uri.to_string(), Document::new(uri, text.to_string()));
            }
            "textDocument/didChange" => {
                let mut text = self.documents.get(uri).map(|known| known.text.clone()).unwrap_or_default();
                for change in params["contentChanges"].as_array().into_iter().flatten() {
                    let Some(new) = change["text"].as_str() else { continue };
                    match change.get("range").filter(|range| range.is_object()) {
                        None => text = new.to_string(),
                        Some(range) => {
                            let at = |end: &str| document::offset_in(&text, &range[end]);
                            let (from, to) = (at("start"), at("end"));
                            text.replace_range(from.min(to)..to, new);
                        }
                    }
                }
                self.documents.insert(uri.to_string(), Document::new(uri, text));
            }
            "textDocument/didClose" => {
                self.documents.remove(uri);
                return vec![said(uri, json!([]))];
            }
            _ => return Vec::new(),
        }
        let diagnostics = self.documents.get(uri).map_or(json!([]), Document::diagnostics);
        vec![said(uri, diagnostics)]
    }

    fn everywhere(&self) -> Everywhere<'_> {
        Everywhere { documents: &self.documents, root: self.root.as_deref() }
    }

    fn answer(&self, method: &str, params: &Value) -> Reply {
        if !METHODS.contains(&method) {
            return Err((UNKNOWN_METHOD, format!("`{method}` is not served")));
        }
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default();
        let Some(document) = self.documents.get(uri) else {
            return Err((INVALID_PARAMS, format!("`{uri}` is not open")));
        };
        let at = || document.offset(&params["position"]);
        Ok(match method {
            "textDocument/hover" => document.hover(&self.assistant, at()),
            "textDocument/definition" => document.definition(at()),
            "textDocument/references" => self.everywhere().references(document, at()),
            "textDocument/rename" => {
                let name = params["newName"].as_str().unwrap_or_default();
                let edit = self.everywhere().rename(document, at(), name);
                return edit.map_err(|reason| (INVALID_PARAMS, reason));
            }
            "textDocument/documentSymbol" => document.symbols(),
            "textDocument/formatting" => document.formatted(),
            "textDocument/completion" => document.completions(&self.assistant, at()),
            "textDocument/signatureHelp" => document.signature(&self.assistant, at()),
            "textDocument/codeAction" => document.actions(&params["range"]),
            _ => document.semantic_tokens(),
        })
    }
}

/// The requests about open documents that the server answers.
const METHODS: [&str; 10] = [
    "textDocument/hover",
    "textDocument/definition",
    "textDocument/references",
    "textDocument/rename",
    "textDocument/documentSymbol",
    "textDocument/formatting",
    "textDocument/completion",
    "textDocument/signatureHelp",
    "textDocument/codeAction",
    "textDocument/semanticTokens/full",
];

fn said(uri: &str, diagnostics: Value) -> Value {
    let params = json!({"uri": uri, "diagnostics": diagnostics});
    json!({"jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params})
}
