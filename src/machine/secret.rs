//! Secrets: texts with parts that are known by name only. Effects read these parts from the
//! environment.
//!
//! A secret is a reference to an entity that no program can declare. So a secret is data with the
//! usual stored form, and the journal holds only its name.

use std::rc::Rc;

use super::error::{ErrorData, Fail, type_error};
use super::value::{EntityRef, Record, Value};

pub use super::value::MASK;

/// The limit on the nesting of lists and records around a secret.
const MOST_LEVELS: usize = 200;

/// A function that returns the value of a variable, or the reason why it may not be read.
pub type Reader<'a> = &'a mut dyn FnMut(&str) -> Result<String, ErrorData>;

/// Returns the secret of a name.
pub fn named(name: &str) -> Value {
    of_parts(vec![String::new(), name.to_string(), String::new()])
}

/// Returns whether a value is a secret.
pub fn is(value: &Value) -> bool {
    matches!(value, Value::Entity(entity) if is_of(entity))
}

/// Returns whether a reference is that of a secret.
pub fn is_of(entity: &EntityRef) -> bool {
    entity.is_secret()
}

/// Makes a secret of texts and names in turn, with texts at both ends.
fn of_parts(parts: Vec<String>) -> Value {
    let key = Value::list(parts.into_iter().map(Value::str).collect());
    Value::Entity(Rc::new(EntityRef { name: MASK.into(), key }))
}

/// Joins the texts of values and secrets into a secret.
pub fn concat(values: &[Value]) -> Result<Value, Fail> {
    let mut joined = vec![String::new()];
    for value in values {
        let more = match value {
            Value::Entity(entity) if is_of(entity) => entity.secret_parts(),
            other => vec![super::format::to_text(other)?],
        };
        let mut more = more.into_iter();
        if let (Some(last), Some(first)) = (joined.last_mut(), more.next()) {
            last.push_str(&first);
        }
        joined.extend(more);
    }
    Ok(of_parts(joined))
}

/// Returns a value with text in place of its secrets. `read` returns the value of each variable.
pub fn revealed(value: &Value, read: Reader<'_>) -> Result<Value, ErrorData> {
    revealed_at(value, read, 0)
}

fn revealed_at(value: &Value, read: Reader<'_>, depth: usize) -> Result<Value, ErrorData> {
    if depth > MOST_LEVELS {
        return Err(ErrorData::new("limit", "a secret is nested too deeply"));
    }
    Ok(match value {
        Value::Entity(entity) if is_of(entity) => {
            let mut out = String::new();
            for (at, part) in entity.secret_parts().iter().enumerate() {
                match at % 2 {
                    0 => out.push_str(part),
                    _ => out.push_str(&read(part)?),
                }
            }
            Value::str(out)
        }
        Value::List(list) if list.as_slice().iter().any(holds) => {
            let items = list.as_slice().iter().map(|item| revealed_at(item, read, depth + 1));
            Value::list(items.collect::<Result<_, _>>()?)
        }
        Value::Record(record) if record.values().iter().any(holds) => {
            let mut out = Record::default();
            for (name, value) in record.iter() {
                let value = revealed_at(value, read, depth + 1)?;
                out.set(name.clone(), value);
            }
            Value::Record(Rc::new(out))
        }
        other => other.clone(),
    })
}

/// Returns values with masks in place of their secrets.
pub fn masked(values: &[Value]) -> Vec<Value> {
    let mut read = |_: &str| Ok(MASK.to_string());
    values.iter().map(|value| revealed(value, &mut read).unwrap_or_default()).collect()
}

/// Returns whether a value is or contains a secret.
pub fn holds(value: &Value) -> bool {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Entity(entity) if is_of(entity) => return true,
            Value::List(list) => open.extend(list.as_slice()),
            Value::Record(record) => open.extend(record.values()),
            _ => {}
        }
    }
    false
}

/// Returns the error of a use that secrets do not allow.
pub fn misused(what: &str) -> Fail {
    type_error(format!(
        "a secret has no {what}: it can be joined with text, and handed to an effect, which finds its value"
    ))
}
