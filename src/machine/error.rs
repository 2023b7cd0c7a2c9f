//! Errors as values, with their traces.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::Context;
use crate::syntax::Place;

use super::data::Data;
use super::format::display;
use super::value::Value;

/// An error that is being thrown.
#[derive(Debug, Clone)]
pub struct Failure {
    pub value: Value,
    /// The trace, which is known once the machine has unwound.
    pub trace: Option<Rc<Trace>>,
}

pub type Fail = Box<Failure>;

/// The calls that led to an error, innermost first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub entries: Vec<TraceEntry>,
    /// The number of calls that were left out between the innermost and the outermost ones.
    pub omitted: u64,
    /// Other places that the error concerns, each with a description.
    pub also: Vec<(Place, String)>,
    /// The first bytes of the hash of the program that the places refer to, or 0 for the running
    /// program.
    pub program: u64,
    /// The requests whose answers the error is. They are known only within a machine.
    #[serde(skip)]
    pub requests: Vec<u64>,
}

/// A function and a place in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceEntry {
    pub function: String,
    pub place: Place,
    /// For the last call of an activity, an operation or an instance: the context of that call. The
    /// next entry belongs to the caller.
    pub boundary: Option<Context>,
}

/// An error as data: the form in which errors cross between instances and are kept in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorData {
    pub value: Data,
    pub trace: Trace,
}

/// Makes an error of the interpreter.
pub fn fail(kind: &str, message: impl Into<String>) -> Fail {
    fail_with(kind, message, [])
}

/// Makes an error of the interpreter with further fields.
pub fn fail_with<'a>(
    kind: &str,
    message: impl Into<String>,
    more: impl IntoIterator<Item = (&'a str, Value)>,
) -> Fail {
    let fields = [("kind", Value::str(kind)), ("message", Value::str(message.into()))];
    Box::new(Failure { value: Value::record(fields.into_iter().chain(more)), trace: None })
}

/// Makes the error of an operand of the wrong kind.
pub fn type_error(message: impl Into<String>) -> Fail {
    fail("type_error", message)
}

impl From<Fail> for ErrorData {
    fn from(fail: Fail) -> ErrorData {
        ErrorData { value: error_value(&fail.value), trace: Trace::default() }
    }
}

/// Returns an error's fields as data. If they can't be encoded, the result is the error that says
/// so.
fn error_value(fields: &Value) -> Data {
    Data::encode(fields).unwrap_or_else(|fail| Data::of(&fail.value))
}

impl ErrorData {
    /// Makes an error without a place.
    pub fn new(kind: &str, message: impl Into<String>) -> ErrorData {
        let fields = Value::record([("kind", Value::str(kind)), ("message", Value::str(message.into()))]);
        ErrorData { value: error_value(&fields), trace: Trace::default() }
    }

    /// Makes an error without a place, with further fields.
    pub fn with<'a>(
        kind: &str,
        message: impl Into<String>,
        more: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> ErrorData {
        let fail = fail_with(kind, message, more);
        ErrorData { value: error_value(&fail.value), trace: Trace::default() }
    }

    /// Returns the error's kind, if the error is a record that has one.
    pub fn kind(&self) -> Option<String> {
        match self.value.decode() {
            Value::Record(record) => match record.get_str("kind") {
                Some(Value::Str(kind)) => Some(kind.as_str().to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the error in one line.
    pub fn title(&self) -> String {
        title(&self.value.decode())
    }
}

/// Returns the message of an error value, without its kind.
pub fn message(value: &Value) -> String {
    match value {
        Value::Record(record) => record.get_str("message").map_or_else(|| title(value), display),
        _ => title(value),
    }
}

/// Returns an error value in one line.
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
