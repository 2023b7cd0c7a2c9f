//! `assert` of a comparison: shows both sides, and where they differ.

use std::cmp::Ordering;

use super::super::error::{Fail, fail_with};
use super::super::value::Value;
use super::super::{compare, format};
use super::{Native, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "assert_compared" => compared,
        _ => return None,
    })
}

/// Checks a comparison. The arguments: the operator, both sides, and a message or null.
fn compared(args: &mut [Value]) -> Result<Value, Fail> {
    let operator = text(&args[0])?.as_str().to_string();
    let (left, right) = (&args[1], &args[2]);
    let holds = match operator.as_str() {
        "==" => compare::equal(left, right)?,
        "!=" => !compare::equal(left, right)?,
        "<" => compare::holds(left, right, Ordering::is_lt)?,
        "<=" => compare::holds(left, right, Ordering::is_le)?,
        ">" => compare::holds(left, right, Ordering::is_gt)?,
        _ => compare::holds(left, right, Ordering::is_ge)?,
    };
    if holds {
        return Ok(Value::Null);
    }
    let mut message = match &args[3] {
        Value::Null => String::new(),
        said => format!("{}: ", format::display(said)),
    };
    let mut more = Vec::new();
    let sides = format!("{} on the left, {} on the right", format::brief(left), format::brief(right));
    match operator.as_str() {
        "==" => {
            let (path, difference) = difference(left, right)?;
            if !path.is_empty() {
                message.push_str(&format!("the sides differ at `{path}`: {difference}"));
                more = vec![("left", shown(left)), ("right", shown(right)), ("path", Value::str(path))];
            } else {
                message.push_str(&difference);
            }
        }
        "!=" => message.push_str(&format!("both sides are {}", format::brief(left))),
        _ => message.push_str(&format!("`{operator}` does not hold: {sides}")),
    }
    Err(fail_with("assertion_failed", message, more))
}

fn shown(value: &Value) -> Value {
    Value::str(format::display(value))
}

/// Returns the path to the first difference between two unequal values, and a description of it.
fn difference(left: &Value, right: &Value) -> Result<(String, String), Fail> {
    let (mut left, mut right) = (left, right);
    let mut path = String::new();
    'deeper: loop {
        let difference = match (left, right) {
            (Value::List(a), Value::List(b)) => {
                for (at, (x, y)) in a.as_slice().iter().zip(b.as_slice()).enumerate() {
                    if !compare::equal(x, y)? {
                        path.push_str(&format!("[{at}]"));
                        (left, right) = (x, y);
                        continue 'deeper;
                    }
                }
                let (longer, side) = if a.len() > b.len() { (a, "left") } else { (b, "right") };
                let extra = &longer.as_slice()[a.len().min(b.len())];
                format!(
                    "{} on the left, {} on the right; the first that only the {side} has is {}",
                    elements(a.len()),
                    elements(b.len()),
                    format::brief(extra)
                )
            }
            (Value::Record(a), Value::Record(b)) => {
                for (name, x) in a.iter() {
                    if let Some(y) = b.get(name)
                        && !compare::equal(x, y)?
                    {
                        match format::is_word(name) {
                            true => path.push_str(&format!(".{name}")),
                            false => path.push_str(&format!("[{:?}]", &**name)),
                        }
                        (left, right) = (x, y);
                        continue 'deeper;
                    }
                }
                let only = |a: &super::super::value::Record, b: &super::super::value::Record| {
                    a.iter()
                        .find(|(name, _)| b.get(name).is_none())
                        .map(|(name, value)| (name.clone(), format::brief(value)))
                };
                match (only(a, b), only(b, a)) {
                    (Some((name, value)), _) => format!("only the left has `{name}`, which is {value}"),
                    (None, Some((name, value))) => format!("only the right has `{name}`, which is {value}"),
                    (None, None) => sides(left, right),
                }
            }
            _ => sides(left, right),
        };
        return Ok((path, difference));
    }
}

fn sides(left: &Value, right: &Value) -> String {
    let (a, b) = (format::brief(left), format::brief(right));
    match left.kind() == right.kind() {
        true => format!("{a} on the left, {b} on the right"),
        false => format!("{a} ({}) on the left, {b} ({}) on the right", left.a_kind(), right.a_kind()),
    }
}

fn elements(n: usize) -> String {
    format!("{n} element{}", if n == 1 { "" } else { "s" })
}
