//! Errors as values, with where they came from.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::Context;
use crate::syntax::Place;

use super::data::Data;
use super::format::display;
use super::value::Value;

/// An error under way.
#[derive(Debug, Clone)]
pub struct Failure {
    pub value: Value,
    /// Where it came from; known once the machine has unwound.
    pub trace: Option<Rc<Trace>>,
}

pub type Fail = Box<Failure>;

/// The calls that led to an error, innermost first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub entries: Vec<TraceEntry>,
    /// Calls left out between the innermost and the outermost.
    pub omitted: u64,
    /// Other places that the error is about, and what they are.
    pub also: Vec<(Place, String)>,
    /// The beginning of the hash of the program that the places are of; 0 while it is the one that runs.
    pub program: u64,
    /// The requests whose answers the error is; only within a machine.
    #[serde(skip)]
    pub requests: Vec<u64>,
}

/// A function and where in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceEntry {
    pub function: String,
    pub place: Place,
    /// For the last call of an activity, operation or instance: what it ran in. The next entry is its caller's.
    pub boundary: Option<Context>,
}

/// An error as data: what crosses between instances, and what the journal keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorData {
    pub value: Data,
    pub trace: Trace,
}

/// An error of the interpreter.
pub fn fail(kind: &str, message: impl Into<String>) -> Fail {
    fail_with(kind, message, [])
}

/// An error of the interpreter, with further fields.
pub fn fail_with<'a>(
    kind: &str,
    message: impl Into<String>,
    more: impl IntoIterator<Item = (&'a str, Value)>,
) -> Fail {
    let fields = [("kind", Value::str(kind)), ("message", Value::str(message.into()))];
    Box::new(Failure { value: Value::record(fields.into_iter().chain(more)), trace: None })
}

/// An operand of the wrong kind.
pub fn type_error(message: impl Into<String>) -> Fail {
    fail("type_error", message)
}

/// An error's fields as data; of fields that are too much, the error that says so.
fn error_value(fields: &Value) -> Data {
    Data::encode(fields).unwrap_or_else(|fail| Data::of(&fail.value))
}

impl ErrorData {
    /// An error without a place.
    pub fn new(kind: &str, message: impl Into<String>) -> ErrorData {
        let fields = Value::record([("kind", Value::str(kind)), ("message", Value::str(message.into()))]);
        ErrorData { value: error_value(&fields), trace: Trace::default() }
    }

    /// An error with further fields.
    pub fn with<'a>(
        kind: &str,
        message: impl Into<String>,
        more: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> ErrorData {
        let fail = fail_with(kind, message, more);
        ErrorData { value: error_value(&fail.value), trace: Trace::default() }
    }

    /// The error's kind, if it is a record that has one.
    pub fn kind(&self) -> Option<String> {
        match self.value.decode() {
            Value::Record(record) => match record.get_str("kind") {
                Some(Value::Str(kind)) => Some(kind.as_str().to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    /// One line that says what it is.
    pub fn title(&self) -> String {
        title(&self.value.decode())
    }
}

/// What an error value says, without its kind.
pub fn message(value: &Value) -> String {
    match value {
        Value::Record(record) => record.get_str("message").map_or_else(|| title(value), display),
        _ => title(value),
    }
}

/// One line that says what an error value is.
pub fn title(value: &Value) -> String {
    if let Value::Record(record) = value
        && let Some(kind) = record.get_str("kind")
    {
        return match record.get_str("message") {
            Some(message) => format!("{}: {}", display(kind), display(message)),
            None => display(value),
        };
    }
    display(value)
}
