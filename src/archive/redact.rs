//! Redaction: histories and exports without secrets.
//!
//! Secret texts are the results of `env`, the values of request headers, of secret response
//! headers, of environment variables for programs, and the passwords of databases. Each of these texts is replaced wherever it
//! stands.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value as Json;

use crate::builtins::{Effect, databases};
use crate::engine::{Args, Checkpoint, Entry, History, RecordedRequest};
use crate::machine::secret::MASK;
use crate::machine::{Data, ErrorData, Value, sql};

/// The length below which a text is replaced only as a whole value, and not within other texts.
const SHORTEST: usize = 4;
/// The depth up to which values are redacted. Deeper values are left out.
const MOST_LEVELS: usize = 100;
/// The request headers that identify nobody.
const OPEN: [&str; 6] =
    ["accept", "accept-language", "content-type", "content-encoding", "content-length", "user-agent"];
/// The texts that make a response header secret, if its name contains one of them.
const SECRET: [&str; 5] = ["cookie", "auth", "token", "key", "secret"];

/// Removes the secrets from a history. With `with_open`, the requests that were open at its
/// checkpoint become entries.
pub fn redact_history(id: &str, history: &mut History, with_open: bool) {
    let before = history.after.take().as_ref().map(Checkpoint::open_entries).unwrap_or_default();
    let mut redaction = Redaction::default();
    redaction.note(id, &before);
    redaction.note(id, &history.entries);
    let shown = before.iter().filter(|_| with_open).chain(&history.entries);
    history.entries = shown.map(|entry| redaction.entry(id, entry)).collect();
}

/// The texts that are left out.
#[derive(Default)]
pub(super) struct Redaction {
    texts: BTreeSet<String>,
    /// The requests for environment variables, by instance and number.
    variables: HashSet<(String, u64)>,
    /// The HTTP requests.
    requests: HashSet<(String, u64)>,
}

impl Redaction {
    /// Notes the secrets in a part of an instance's history. Everything is noted before anything is
    /// redacted.
    pub fn note(&mut self, id: &str, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Requested { seq, what: what @ RecordedRequest::Effect(_), args, .. } => {
                    let args = match args {
                        Args::Whole(args) => args.items(),
                        Args::Large { .. } => Vec::new(),
                    };
                    let options = |at: usize, name: &str| match args.get(at) {
                        Some(Value::Record(options)) => options.get_str(name).cloned(),
                        _ => None,
                    };
                    match what.effect() {
                        // Whoever has the URL may raise the event.
                        Some(Effect::Env | Effect::CallbackUrl) => {
                            self.variables.insert((id.to_string(), *seq));
                        }
                        Some(Effect::Http) => {
                            self.requests.insert((id.to_string(), *seq));
                            self.note_fields(options(3, "headers"), |name| !OPEN.contains(&name));
                        }
                        Some(Effect::HttpDownload) => {
                            self.requests.insert((id.to_string(), *seq));
                            self.note_fields(options(2, "headers"), |name| !OPEN.contains(&name));
                        }
                        Some(Effect::Exec | Effect::ExecStart) => {
                            self.note_fields(options(2, "env"), |_| true)
                        }
                        Some(databases!()) => self.note_database(args.first()),
                        _ => {}
                    }
                }
                Entry::Answered { seq, result: Ok(value), .. } => {
                    let key = (id.to_string(), *seq);
                    match value.decode() {
                        Value::Str(text) if self.variables.contains(&key) => self.add(text.as_str()),
                        Value::Record(response) if self.requests.contains(&key) => {
                            let headers = response.get_str("headers").cloned();
                            self.note_fields(headers, |name| SECRET.iter().any(|part| name.contains(part)));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }

    fn note_fields(&mut self, fields: Option<Value>, is_secret: impl Fn(&str) -> bool) {
        let Some(Value::Record(fields)) = fields else { return };
        for (_, value) in fields.iter().filter(|(name, _)| is_secret(&name.to_ascii_lowercase())) {
            // A header that is there several times is a list.
            let texts = match value {
                Value::List(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            for text in texts {
                let Value::Str(text) = text else { continue };
                self.add(text.as_str());
                // In `Bearer TOKEN`, the token alone is secret too.
                text.as_str().split_whitespace().skip(1).for_each(|word| self.add(word));
            }
        }
    }

    /// Notes the password of a database.
    fn note_database(&mut self, handle: Option<&Value>) {
        let Some(Value::Record(handle)) = handle else { return };
        if let Some(Value::Str(password)) = handle.get_str("password") {
            self.add(password.as_str());
        }
        let Some(Value::Str(url)) = handle.get_str("url") else { return };
        let Ok(url) = sql::server_url(url.as_str()) else { return };
        let named = url.query_pairs().find(|(name, _)| name == "password");
        if let Some((_, password)) = named {
            self.add(&password);
        }
        if let Some(password) = url.password() {
            self.add(password);
            self.add(&percent_encoding::percent_decode_str(password).decode_utf8_lossy());
        }
    }

    fn add(&mut self, text: &str) {
        if !text.is_empty() {
            self.texts.insert(text.to_string());
        }
    }

    /// Returns a text without secrets.
    pub fn text(&self, text: &str) -> String {
        if self.texts.contains(text) {
            return MASK.into();
        }
        // The longest first, since one may be a part of another.
        let mut known: Vec<&String> = self.texts.iter().filter(|text| text.len() >= SHORTEST).collect();
        known.sort_by_key(|text| std::cmp::Reverse(text.len()));
        known.into_iter().fold(text.to_string(), |text, hidden| text.replace(hidden.as_str(), MASK))
    }

    /// Returns an entry without secrets.
    pub fn entry(&self, id: &str, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        match &mut entry {
            Entry::Requested { args: Args::Whole(args), .. } => *args = self.data(args),
            Entry::Answered { seq, result: Ok(value), .. } => {
                *value = match self.variables.contains(&(id.to_string(), *seq)) {
                    true => Data::encode(&Value::str(MASK)).unwrap_or_default(),
                    false => self.data(value),
                };
            }
            Entry::Answered { result: Err(error), .. } | Entry::Retried { error, .. } => {
                let ErrorData { value, .. } = error;
                *value = self.data(value);
            }
            Entry::Cancelling { what, .. } => what.reason = self.data(&what.reason),
            _ => {}
        }
        entry
    }

    fn data(&self, data: &Data) -> Data {
        Data::encode(&self.value(&data.decode(), 0)).unwrap_or_default()
    }

    fn value(&self, value: &Value, depth: usize) -> Value {
        match value {
            Value::Str(text) => Value::str(self.text(text.as_str())),
            Value::List(_) | Value::Record(_) if depth > MOST_LEVELS => Value::str(MASK),
            Value::List(list) => {
                Value::list(list.as_slice().iter().map(|item| self.value(item, depth + 1)).collect())
            }
            Value::Record(record) => {
                Value::record(record.iter().map(|(name, value)| (&**name, self.value(value, depth + 1))))
            }
            Value::Bytes(blob) if self.texts.iter().any(|text| holds(&blob.bytes, text)) => Value::str(MASK),
            other => other.clone(),
        }
    }

    /// Removes the secrets from a line of an export, and every value in its stored form.
    pub fn line(&self, json: &mut Json) {
        match json {
            Json::String(text) => *text = self.text(text),
            Json::Array(items) => items.iter_mut().for_each(|item| self.line(item)),
            Json::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    match name.as_str() {
                        "stored" | "$bytes" | "$data" => *value = Json::String(MASK.into()),
                        // The type and the identity of a line stay.
                        "type" | "kind" | "hash" | "program" | "checksum" => {}
                        _ => self.line(value),
                    }
                }
            }
            _ => {}
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
