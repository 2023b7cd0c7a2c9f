//! Equality and order.

use std::cmp::Ordering;
use std::rc::Rc;

use super::error::{Fail, fail, type_error};
use super::value::Value;

/// Comparisons of one `==` beyond this are an error: values that share their parts can be larger than any memory.
const MAX_STEPS: u64 = 1 << 30;

/// Structural equality. Functions can't be compared.
pub fn equal(a: &Value, b: &Value) -> Result<bool, Fail> {
    if let Some(equal) = scalars_equal(a, b)? {
        return Ok(equal);
    }
    let mut pairs: Vec<(&[Value], &[Value])> = Vec::new();
    let mut steps = 0u64;
    let mut current = Some((a, b));
    loop {
        if let Some((a, b)) = current.take() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(fail("limit", "these values are too large to compare"));
            }
            match scalars_equal(a, b)? {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => match (a, b) {
                    (Value::List(x), Value::List(y)) => {
                        if x.len() != y.len() {
                            return Ok(false);
                        }
                        pairs.push((x.as_slice(), y.as_slice()));
                    }
                    (Value::Record(x), Value::Record(y)) => {
                        if x.len() != y.len() {
                            return Ok(false);
                        }
                        if Rc::ptr_eq(x.keys(), y.keys()) || x.keys().names() == y.keys().names() {
                            pairs.push((x.values(), y.values()));
                        } else {
                            for (name, value) in x.iter() {
                                let Some(other) = y.get(name) else { return Ok(false) };
                                pairs.push((std::slice::from_ref(value), std::slice::from_ref(other)));
                            }
                        }
                    }
                    (Value::Entity(x), Value::Entity(y)) => {
                        if x.name != y.name {
                            return Ok(false);
                        }
                        pairs.push((std::slice::from_ref(&x.key), std::slice::from_ref(&y.key)));
                    }
                    _ => return Ok(false),
                },
            }
        }
        match pairs.last_mut() {
            None => return Ok(true),
            Some((x, y)) => match (x.split_first(), y.split_first()) {
                (Some((a, xs)), Some((b, ys))) => {
                    (*x, *y) = (xs, ys);
                    current = Some((a, b));
                    if xs.is_empty() {
                        pairs.pop();
                    }
                }
                _ => {
                    pairs.pop();
                }
            },
        }
    }
}

/// The answer when no containers of the same kind are compared.
fn scalars_equal(a: &Value, b: &Value) -> Result<Option<bool>, Fail> {
    Ok(Some(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => Rc::ptr_eq(a, b) || a.as_str() == b.as_str(),
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.get() == b.get(),
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == b.get(),
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Instant(a), Value::Instant(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a.bytes == b.bytes,
        (Value::Task(a), Value::Task(b)) => Rc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) if Rc::ptr_eq(a, b) => return Ok(Some(no_functions(a.as_slice()))),
        (Value::Function(_) | Value::Builtin(_), Value::Function(_) | Value::Builtin(_)) => {
            return Err(type_error("functions can't be compared"));
        }
        (Value::List(_), Value::List(_))
        | (Value::Record(_), Value::Record(_))
        | (Value::Entity(_), Value::Entity(_)) => {
            return Ok(None);
        }
        _ => false,
    }))
}

/// A list is equal to itself, unless it holds what isn't equal to itself.
fn no_functions(items: &[Value]) -> bool {
    !items.iter().any(|item| matches!(item, Value::Float(x) if x.get().is_nan()))
}

/// Whether the order of two values is as wanted. A float that is not a number is before, after and equal to none.
#[cold]
#[inline(never)]
pub fn holds(a: &Value, b: &Value, wanted: fn(Ordering) -> bool) -> Result<bool, Fail> {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(a.get().partial_cmp(&b.get()).is_some_and(wanted)),
        (a, b) => order(a, b).map(wanted),
    }
}

/// The order of two values of one kind.
pub fn order(a: &Value, b: &Value) -> Result<Ordering, Fail> {
    order_within(a, b, 0)
}

fn order_within(a: &Value, b: &Value, depth: u32) -> Result<Ordering, Fail> {
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => float_order(a.get(), b.get())?,
        (Value::Int(a), Value::Float(b)) => float_order(*a as f64, b.get())?,
        (Value::Float(a), Value::Int(b)) => float_order(a.get(), *b as f64)?,
        (Value::Str(a), Value::Str(b)) => a.as_str().cmp(b.as_str()),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Instant(a), Value::Instant(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.bytes.cmp(&b.bytes),
        (Value::List(a), Value::List(b)) if depth < 100 => {
            for (x, y) in a.as_slice().iter().zip(b.as_slice()) {
                match order_within(x, y, depth + 1)? {
                    Ordering::Equal => {}
                    other => return Ok(other),
                }
            }
            a.len().cmp(&b.len())
        }
        (Value::List(_), Value::List(_)) => {
            return Err(fail("limit", "lists nested more than 100 deep have no order"));
        }
        _ => return Err(no_order(a, b)),
    })
}

fn float_order(a: f64, b: f64) -> Result<Ordering, Fail> {
    a.partial_cmp(&b).ok_or_else(|| type_error("a float that is not a number has no order"))
}

/// The error of ordering values that have no order.
pub fn no_order(a: &Value, b: &Value) -> Fail {
    if a.kind() == b.kind() {
        return type_error(format!("{} values have no order", a.kind()));
    }
    type_error(format!("{} and {} can't be ordered", a.a_kind(), b.a_kind()))
}
