//! The errors of the runtime, and the errors of activities.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::api::QueryError;
use crate::engine::ReadError;
use crate::host::HostError;
use crate::kv::{Cause, StoreError};
use crate::machine::ErrorData;

use super::values;

/// An error of a call of the runtime.
#[derive(Clone, Debug)]
pub enum Error {
    /// The program has mistakes, or the call does not fit the program. Mistakes are shown with
    /// their places.
    Invalid(String),
    /// The store can't be opened, read or written.
    Store(StoreError),
    /// Something in the store can't be used: it is damaged, or of another version.
    Unreadable(ReadError),
    /// There is no such instance, or no entity of that name.
    Unknown(String),
    /// The instance has ended already.
    Ended(String),
    /// The id belongs to an instance of the orchestration `function`; the message names its
    /// arguments.
    IdTaken { id: String, function: String, message: String },
    /// The instance failed with this error.
    Failed(Failure),
    /// Somebody terminated the instance, for the reason `why`.
    Terminated { id: String, why: Json },
    /// A value does not fit the type on the other side.
    Conversion(String),
    /// The call can't be carried out, for this reason.
    Refused(String),
    /// The runtime has stopped.
    Stopped { source: Cause },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(text) | Error::Refused(text) => f.write_str(text.trim_end()),
            Error::Store(error) => write!(f, "the store: {error}"),
            Error::Unreadable(error) => write!(f, "the store: {error}"),
            Error::Unknown(what) => write!(f, "there is no `{what}` in the store"),
            Error::Ended(id) => write!(f, "{id} has ended already"),
            Error::IdTaken { message, .. } => f.write_str(message),
            Error::Failed(failure) => write!(f, "{failure}"),
            Error::Terminated { id, why: Json::Null } => write!(f, "{id} was terminated"),
            Error::Terminated { id, why } => write!(f, "{id} was terminated: {why}"),
            Error::Conversion(reason) => f.write_str(reason),
            Error::Stopped { source } => write!(f, "the runtime has stopped: {}", source.words()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store(error) => Some(error),
            Error::Unreadable(error) => Some(error),
            Error::Stopped { source } => Some(source.error()),
            _ => None,
        }
    }
}

impl Error {
    /// Returns the error of a runtime that has stopped for a reason.
    pub(super) fn stopped(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Stopped { source: Cause::new(reason) }
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Error {
        match error {
            QueryError::Unreadable(error) => error.into(),
            QueryError::Lost { source } => Error::Stopped { source },
            QueryError::Unexpected => Error::stopped(error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Store(error)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Error {
        match error {
            ReadError::Store(error) => Error::Store(error),
            error => Error::Unreadable(error),
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Error {
        match error {
            HostError::Store(error) => error.into(),
            HostError::Unreadable(error) => error.into(),
            HostError::Output(_) => Error::stopped(error),
            HostError::NotProvided(name) => Error::Refused(format!("`{name}` is not provided")),
            HostError::Interrupted => Error::stopped("it was closed"),
        }
    }
}

/// An error value of the language: the error of an activity in Rust, the value that a program can
/// `catch`, and the reason why an instance failed. `?` converts any Rust error into a failure of
/// kind `extern_error`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    value: Json,
    report: String,
}

impl Failure {
    /// Returns an error of a kind, by which programs tell errors apart, with a message for people.
    pub fn new(kind: &str, message: impl fmt::Display) -> Failure {
        Failure { value: json!({"kind": kind, "message": message.to_string()}), report: String::new() }
    }

    /// Returns the same error with a further field. A value that can't be JSON becomes null.
    pub fn with(mut self, field: &str, value: impl Serialize) -> Failure {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.value.as_object_mut().unwrap_or(&mut Map::new()).insert(field.to_string(), value);
        self
    }

    /// Returns the kind; empty for a value that was thrown without a kind.
    pub fn kind(&self) -> &str {
        self.get("kind").and_then(Json::as_str).unwrap_or("")
    }

    /// Returns the message, or the thrown value as text if it has no message.
    pub fn message(&self) -> String {
        match self.get("message") {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => self.value.as_str().map_or_else(|| self.value.to_string(), str::to_string),
        }
    }

    /// Returns a field of the error.
    pub fn get(&self, field: &str) -> Option<&Json> {
        self.value.get(field)
    }

    /// Returns the value that was thrown.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// Returns the error of a failed instance as text, with its place in the source and the calls
    /// that led to it. The text is empty for other failures.
    pub fn report(&self) -> &str {
        &self.report
    }

    /// Returns the failure for the error of an instance.
    pub(super) fn of(error: &ErrorData, report: String) -> Failure {
        let value = values::from_data(&error.value).unwrap_or_else(|_| Json::String(error.title()));
        Failure { value, report }
    }

    pub(super) fn into_data(self) -> ErrorData {
        match values::to_data(&self.value) {
            Ok(value) => ErrorData { value, trace: Default::default() },
            Err(error) => ErrorData::new("limit", error.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            "" => f.write_str(&self.message()),
            kind => write!(f, "{kind}: {}", self.message()),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new("extern_error", error)
    }
}
