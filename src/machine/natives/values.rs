//! Natives for values of any kind.

use super::super::compare::order;
use super::super::error::{Fail, Failure, fail, type_error};
use super::super::operate as op;
use super::super::value::Value;
use super::super::{compare, format, work};
use super::{Native, int, list, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "kind_of" => |args| Ok(Value::str(args[0].kind())),
        "to_string" => |args| {
            let text = format::to_text(&args[0])?;
            work::done(text.len());
            op::reserve_text(text.len())?;
            Ok(Value::str(text))
        },
        "show" => |args| match format::write(&args[0], super::super::MAX_TEXT) {
            (text, true) => Ok(Value::str(text)),
            _ => Err(fail("limit", "a text of more than 256 MiB")),
        },
        "len" => len,
        "min" => |args| extreme(args, std::cmp::Ordering::Less),
        "max" => |args| extreme(args, std::cmp::Ordering::Greater),
        "div" => |args| op::div(&args[0], &args[1]),
        "range" => |args| {
            let step = int(&args[2])?;
            if step == 0 {
                return Err(type_error("the step of a range can't be 0"));
            }
            op::range(&args[0], &args[1], step, false)
        },
        "fail" => |args| {
            let kind = text(&args[0])?.as_str().to_string();
            let value = fail(&kind, format::to_text(&args[1])?).value;
            Err(Box::new(Failure { value, trace: None }))
        },
        // `value?[index]`: null if the value is null, or has no such element or entry.
        "optional_index" => |args| match (&args[0], &args[1]) {
            (Value::Null, _) => Ok(Value::Null),
            (Value::List(list), Value::Int(n)) if op::at(*n, list.len()).is_err() => Ok(Value::Null),
            (Value::Str(text), Value::Int(n)) if op::at(*n, text.chars()).is_err() => Ok(Value::Null),
            (Value::Bytes(blob), Value::Int(n)) if op::at(*n, blob.bytes.len()).is_err() => Ok(Value::Null),
            (Value::Record(record), Value::Str(name)) => {
                Ok(record.get_str(name.as_str()).cloned().unwrap_or(Value::Null))
            }
            (value, index) => op::index(value, index),
        },
        "string_format" => formatted,
        "compare" => |args| {
            order(&args[0], &args[1]).map(|order| {
                Value::Int(match order {
                    std::cmp::Ordering::Less => -1,
                    std::cmp::Ordering::Equal => 0,
                    std::cmp::Ordering::Greater => 1,
                })
            })
        },
        _ => return None,
    })
}

/// Returns a value in a format.
fn formatted(args: &mut [Value]) -> Result<Value, Fail> {
    let text = super::super::formatted::formatted(&args[0], text(&args[1])?.as_str())?;
    work::done(text.len());
    op::reserve_text(text.len())?;
    Ok(Value::str(text))
}

fn len(args: &mut [Value]) -> Result<Value, Fail> {
    let len = match &args[0] {
        Value::Str(text) => text.chars(),
        Value::List(list) => list.len(),
        Value::Record(record) => record.len(),
        Value::Bytes(blob) => blob.bytes.len(),
        other => return Err(type_error(format!("{} has no length", other.a_kind()))),
    };
    Ok(Value::Int(len as i64))
}

/// Returns the least or greatest element of a list, or of several arguments.
fn extreme(args: &mut [Value], wanted: std::cmp::Ordering) -> Result<Value, Fail> {
    let items = match args {
        [Value::List(_)] => list(&args[0])?.as_slice(),
        [_] => return Err(super::wrong("a list, or at least two values", &args[0])),
        items => items,
    };
    let Some(mut best) = items.first() else {
        return Err(fail("empty", "an empty list has no least or greatest element"));
    };
    for item in &items[1..] {
        if compare::order(item, best)? == wanted {
            best = item;
        }
    }
    Ok(best.clone())
}
