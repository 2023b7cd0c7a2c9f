//! The display of values and errors in the prompt of `durable repl`.

use std::cell::RefCell;

use super::super::error::Fail;
use super::super::task::Outcome;
use super::super::value::Value;
use super::super::{Data, ErrorData, format, pretty};
use super::{Native, int, record, wrong};

/// The most fields of a record that the prompt gets to know.
const MOST_FIELDS: usize = 100;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "repl_text" => |args| {
            let width = int(&args[1])?.clamp(20, 1_000) as usize;
            Ok(Value::str(pretty::pretty(&args[0], width)))
        },
        "repl_kinds" => kinds,
        "repl_failure" => failure,
        _ => return None,
    })
}

/// Returns the kind of each field's value, and the names of the fields of records.
fn kinds(args: &mut [Value]) -> Result<Value, Fail> {
    let kinds = record(&args[0])?.iter().map(|(name, value)| {
        let fields = match value {
            Value::Record(record) => {
                record.iter().take(MOST_FIELDS).map(|(name, _)| Value::str(&**name)).collect()
            }
            _ => Vec::new(),
        };
        let known = Value::record([("kind", Value::str(value.kind())), ("fields", Value::list(fields))]);
        (&**name, known)
    });
    Ok(Value::record(kinds))
}

thread_local! {
    static LAST_FAILURE: RefCell<Option<ErrorData>> = const { RefCell::new(None) };
}

/// Returns the last failure, with its trace, that ended an entry on this thread.
pub fn take_failure() -> Option<ErrorData> {
    LAST_FAILURE.take()
}

/// Returns whether a task has failed, and keeps the failure for the prompt. The failure is not part
/// of the result: its places differ in a longer program, and a replay must give the same result.
fn failure(args: &mut [Value]) -> Result<Value, Fail> {
    let Value::Task(task) = &args[0] else { return Err(wrong("a task", &args[0])) };
    let Outcome::Failed(failure) = &*task.outcome.borrow() else { return Ok(Value::bool(false)) };
    // An error that is not data is kept as text.
    let value = Data::encode(&failure.value)
        .or_else(|_| Data::encode(&Value::str(format::display(&failure.value))))?;
    let trace = failure.trace.as_ref().map(|trace| (**trace).clone()).unwrap_or_default();
    LAST_FAILURE.set(Some(ErrorData { value, trace }));
    Ok(Value::bool(true))
}
