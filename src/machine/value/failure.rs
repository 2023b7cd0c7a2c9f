//! Errors that are being thrown, with their traces.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::builtins::Context;
use crate::syntax::Place;

use super::Value;

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
