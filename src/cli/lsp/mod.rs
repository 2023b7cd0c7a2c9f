//! `durable lsp`: the language server, over standard input and output.

mod document;
mod everywhere;
mod names;
mod offers;
mod tokens;

use std::collections::HashMap;
use std::path::PathBuf;

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use serde_json::{Value, json};

use super::problem::Problem;
use super::repl::Assistant;
use super::{INTERNAL, STORE};

use document::{Document, path_of};
use everywhere::Everywhere;

/// Serves an editor until it says that it is done.
pub fn lsp() -> Result<u8, Problem> {
    let (connection, threads) = Connection::stdio();
    let broken = |error: &dyn std::fmt::Display| {
        Problem::new(STORE, format!("the editor can't be understood: {error}"))
    };
    let asked = connection.initialize(capabilities()).map_err(|error| broken(&error))?;
    let root = asked["workspaceFolders"][0]["uri"].as_str().or_else(|| asked["rootUri"].as_str());
    let root = root.map(path_of);
    let mut server = Server { documents: HashMap::new(), assistant: Assistant::new(false), root };
    for message in &connection.receiver {
        match message {
            Message::Request(request) => {
                if connection.handle_shutdown(&request).map_err(|error| broken(&error))? {
                    break;
                }
                if connection.sender.send(Message::Response(server.answer(request))).is_err() {
                    break;
                }
            }
            Message::Notification(notification) => {
                for out in server.notified(&notification) {
                    if connection.sender.send(Message::Notification(out)).is_err() {
                        return Ok(0);
                    }
                }
            }
            Message::Response(_) => {}
        }
    }
    drop(connection);
    threads.join().map_err(|error| Problem::new(INTERNAL, format!("the server could not end: {error}")))?;
    Ok(0)
}

/// What the server can do.
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

struct Server {
    documents: HashMap<String, Document>,
    assistant: Assistant,
    /// The folder that the editor works in.
    root: Option<PathBuf>,
}

impl Server {
    fn notified(&mut self, notification: &Notification) -> Vec<Notification> {
        let params = &notification.params;
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default().to_string();
        match notification.method.as_str() {
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str().unwrap_or_default();
                self.documents.insert(uri.clone(), Document::new(&uri, text.to_string()));
            }
            "textDocument/didChange" => {
                let changes = params["contentChanges"].as_array();
                let Some(text) = changes.and_then(|all| all.last()).and_then(|last| last["text"].as_str())
                else {
                    return Vec::new();
                };
                self.documents.insert(uri.clone(), Document::new(&uri, text.to_string()));
            }
            "textDocument/didClose" => {
                self.documents.remove(&uri);
                return vec![said(&uri, json!([]))];
            }
            _ => return Vec::new(),
        }
        let diagnostics = self.documents.get(&uri).map_or(json!([]), Document::diagnostics);
        vec![said(&uri, diagnostics)]
    }

    fn everywhere(&self) -> Everywhere<'_> {
        Everywhere { documents: &self.documents, root: self.root.as_deref() }
    }

    fn answer(&self, request: Request) -> Response {
        let params = &request.params;
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default();
        let Some(document) = self.documents.get(uri) else {
            return Response::new_ok(request.id, Value::Null);
        };
        let at = || document.offset(&params["position"]);
        let result = match request.method.as_str() {
            "textDocument/hover" => document.hover(&self.assistant, at()),
            "textDocument/definition" => document.definition(at()),
            "textDocument/references" => self.everywhere().references(document, at()),
            "textDocument/rename" => {
                let name = params["newName"].as_str().unwrap_or_default();
                match self.everywhere().rename(document, at(), name) {
                    Ok(edit) => edit,
                    Err(reason) => {
                        return Response::new_err(request.id, ErrorCode::InvalidParams as i32, reason);
                    }
                }
            }
            "textDocument/documentSymbol" => document.symbols(),
            "textDocument/formatting" => document.formatted(),
            "textDocument/completion" => document.completions(&self.assistant, at()),
            "textDocument/signatureHelp" => document.signature(&self.assistant, at()),
            "textDocument/codeAction" => document.actions(&params["range"]),
            "textDocument/semanticTokens/full" => document.semantic_tokens(),
            method => {
                let reason = format!("`{method}` is not served");
                return Response::new_err(request.id, ErrorCode::MethodNotFound as i32, reason);
            }
        };
        Response::new_ok(request.id, result)
    }
}

fn said(uri: &str, diagnostics: Value) -> Notification {
    let params = json!({"uri": uri, "diagnostics": diagnostics});
    Notification { method: "textDocument/publishDiagnostics".to_string(), params }
}
