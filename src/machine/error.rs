//! Errors as data, and the names of everything about errors.

use serde::{Deserialize, Serialize};

use super::data::Data;
use super::value::Value;

pub use super::format::{message, title};
pub use super::value::{Fail, Failure, Trace, TraceEntry, fail, fail_with, type_error};

/// An error as data: the form in which errors cross between instances and are kept in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorData {
    pub value: Data,
    pub trace: Trace,
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
