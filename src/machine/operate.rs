//! Operators on values, except for the fast paths in the run loop.

use std::mem;
use std::rc::Rc;

use compact_str::CompactString;

use crate::check::closest;
use crate::code::PathStep;

use super::compare::whole;
use super::error::{Fail, fail, fail_with, type_error};
use super::format::{brief, display};
use super::value::{List, Name, Record, Text, Value, intern, memory_used};
use super::{MAX_ITEMS, MAX_MEMORY, MAX_TEXT, habits, secret, work};

/// Checks that `bytes` more bytes do not exceed the memory limit.
pub fn reserve(bytes: usize) -> Result<(), Fail> {
    if memory_used().saturating_add(bytes) > MAX_MEMORY {
        return Err(fail("limit", "out of memory: this program's values would take more than 1 GiB"));
    }
    Ok(())
}

/// Checks the memory limit after a value was made. The parts of the value are counted already, but
/// were not reserved before.
pub fn made(value: Value) -> Result<Value, Fail> {
    reserve(0)?;
    Ok(value)
}

/// Checks the limits for a string of `bytes` bytes.
pub fn reserve_text(bytes: usize) -> Result<(), Fail> {
    if bytes > MAX_TEXT {
        return Err(fail("limit", "a string of more than 256 MiB"));
    }
    if bytes > 1 << 16 { reserve(bytes) } else { Ok(()) }
}

/// Checks the limits for a list or a record of `count` elements.
pub fn reserve_items(count: usize) -> Result<(), Fail> {
    if count > MAX_ITEMS {
        return Err(fail("limit", "more than 33,554,432 elements in one list or record"));
    }
    if count > 1 << 12 { reserve(count * 16) } else { Ok(()) }
}

/// The size of a result that grows in one call. Its memory is reserved ahead, since the result is
/// not a value until the end.
#[derive(Default)]
pub struct Growing {
    size: usize,
    asked: usize,
}

impl Growing {
    /// Adds bytes to a text.
    pub fn text(&mut self, bytes: usize) -> Result<(), Fail> {
        self.size = self.size.saturating_add(bytes);
        if self.size > MAX_TEXT {
            return reserve_text(self.size);
        }
        self.ask()
    }

    /// Adds an element to a list. The element itself is counted as a value already.
    pub fn item(&mut self) -> Result<(), Fail> {
        self.size += size_of::<Value>();
        if self.size > MAX_ITEMS * size_of::<Value>() {
            return reserve_items(self.size / size_of::<Value>());
        }
        self.ask()
    }

    fn ask(&mut self) -> Result<(), Fail> {
        const FIRST: usize = 1 << 16;
        if self.size < self.asked.max(FIRST) {
            return Ok(());
        }
        work::done(self.size);
        // A reallocation needs twice the size.
        self.asked = 2 * self.size;
        reserve(self.asked)
    }
}

fn overflow(a: &Value, op: &str, b: &Value) -> Fail {
    fail("overflow", format!("{} {op} {} does not fit in 64 bits", brief(a), brief(b)))
}

fn operands(a: &Value, op: &str, b: &Value) -> Fail {
    if matches!(a, Value::Missing) || matches!(b, Value::Missing) {
        return fail("uninitialised", "a variable is used before it has its value");
    }
    let hint = match (a, b) {
        (Value::Instant(_) | Value::Duration(_), Value::Str(_)) => {
            "; a duration is written without quotes, like 5s"
        }
        (Value::Task(_), _) | (_, Value::Task(_)) => "; `await t` gives the value of a task",
        (Value::Str(_), _) if op == "%" => "; put values into strings as \"{value}\"",
        (Value::List(_), _) if op == "+" => "; an element is appended as a list: `xs + [x]`",
        (Value::Str(_), _) | (_, Value::Str(_)) if op == "+" => "; put values into strings as \"{value}\"",
        (Value::Null, _) | (_, Value::Null) => "; a value is null",
        (Value::Str(_), Value::Int(_)) if op == "*" => "; `text.repeat(n)` repeats a string",
        (Value::Instant(_) | Value::Duration(_), Value::Int(_) | Value::Float(_))
        | (Value::Int(_) | Value::Float(_), Value::Instant(_) | Value::Duration(_))
            if matches!(op, "+" | "-") =>
        {
            "; a duration is written with its unit, like 5s"
        }
        _ => "",
    };
    type_error(format!("`{op}` can't take {} and {}{hint}", a.a_kind(), b.a_kind()))
}

/// Returns `a + b`. The value of `a` is extended in place unless it is shared. An error returns `a`
/// too.
pub fn add(a: Value, b: &Value) -> Result<Value, (Value, Fail)> {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => match x.checked_add(*y) {
            Some(n) => Ok(Value::Int(n)),
            None => Err((Value::Int(x), overflow(&Value::Int(x), "+", b))),
        },
        (Value::Str(mut x), Value::Str(y)) => {
            if let Err(fail) = reserve_text(x.as_str().len() + y.as_str().len()) {
                return Err((Value::Str(x), fail));
            }
            if let Some(text) = Rc::get_mut(&mut x) {
                text.push_str(y);
                return Ok(Value::Str(x));
            }
            Ok(Value::Str(Text::joined(&x, y)))
        }
        (Value::List(mut x), Value::List(y)) => {
            if let Err(fail) = reserve_items(x.len() + y.len()) {
                return Err((Value::List(x), fail));
            }
            List::grow(&mut x, |items| items.extend_from_slice(y.as_slice()));
            Ok(Value::List(x))
        }
        (a, b) => add_others(&a, b).map_err(|fail| (a, fail)),
    }
}

fn add_others(a: &Value, b: &Value) -> Result<Value, Fail> {
    Ok(match (a, b) {
        (Value::Float(x), Value::Float(y)) => Value::float(x.get() + y.get()),
        (Value::Int(x), Value::Float(y)) => Value::float(*x as f64 + y.get()),
        (Value::Float(x), Value::Int(y)) => Value::float(x.get() + *y as f64),
        (Value::Duration(x), Value::Duration(y)) => {
            Value::Duration(x.checked_add(*y).ok_or_else(|| overflow(a, "+", b))?)
        }
        (Value::Instant(x), Value::Duration(y)) | (Value::Duration(y), Value::Instant(x)) => {
            Value::Instant(x.checked_add(*y).ok_or_else(|| overflow(a, "+", b))?)
        }
        (Value::Str(_), b) if secret::is(b) => secret::concat(&[a.clone(), b.clone()])?,
        (a, Value::Str(_)) if secret::is(a) => secret::concat(&[a.clone(), b.clone()])?,
        (a, b) if secret::is(a) && secret::is(b) => secret::concat(&[a.clone(), b.clone()])?,
        _ => return Err(operands(a, "+", b)),
    })
}

pub fn subtract(a: &Value, b: &Value) -> Result<Value, Fail> {
    let big = || overflow(a, "-", b);
    Ok(match (a, b) {
        (Value::Int(x), Value::Int(y)) => Value::Int(x.checked_sub(*y).ok_or_else(big)?),
        (Value::Float(x), Value::Float(y)) => Value::float(x.get() - y.get()),
        (Value::Int(x), Value::Float(y)) => Value::float(*x as f64 - y.get()),
        (Value::Float(x), Value::Int(y)) => Value::float(x.get() - *y as f64),
        (Value::Duration(x), Value::Duration(y)) => Value::Duration(x.checked_sub(*y).ok_or_else(big)?),
        (Value::Instant(x), Value::Duration(y)) => Value::Instant(x.checked_sub(*y).ok_or_else(big)?),
        (Value::Instant(x), Value::Instant(y)) => Value::Duration(x.checked_sub(*y).ok_or_else(big)?),
        _ => return Err(operands(a, "-", b)),
    })
}

pub fn multiply(a: &Value, b: &Value) -> Result<Value, Fail> {
    let big = || overflow(a, "*", b);
    Ok(match (a, b) {
        (Value::Int(x), Value::Int(y)) => Value::Int(x.checked_mul(*y).ok_or_else(big)?),
        (Value::Float(x), Value::Float(y)) => Value::float(x.get() * y.get()),
        (Value::Int(x), Value::Float(y)) => Value::float(*x as f64 * y.get()),
        (Value::Float(x), Value::Int(y)) => Value::float(x.get() * *y as f64),
        (Value::Duration(x), Value::Int(y)) | (Value::Int(y), Value::Duration(x)) => {
            Value::Duration(x.checked_mul(*y).ok_or_else(big)?)
        }
        (Value::Duration(x), Value::Float(y)) | (Value::Float(y), Value::Duration(x)) => {
            match whole(y.get()) {
                Some(y) => Value::Duration(x.checked_mul(y).ok_or_else(big)?),
                None => rounded(*x as f64 * y.get()).ok_or_else(big)?,
            }
        }
        _ => return Err(operands(a, "*", b)),
    })
}

/// Rounds to the nearest duration.
fn rounded(nanos: f64) -> Option<Value> {
    whole(nanos.round()).map(Value::Duration)
}

/// Divides a duration, rounded to the nearest nanosecond, halves away from zero.
fn part_of(nanos: i64, by: i64) -> Option<Value> {
    let (nanos, by) = (i128::from(nanos), i128::from(by));
    let half = by.abs() / 2;
    let away = if nanos < 0 { nanos - half } else { nanos + half };
    i64::try_from(away / by).ok().map(Value::Duration)
}

fn by_zero(a: &Value, op: &str) -> Fail {
    fail("division_by_zero", format!("{} {op} 0", brief(a)))
}

pub fn divide(a: &Value, b: &Value) -> Result<Value, Fail> {
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Float(x) => Some(x.get()),
        _ => None,
    };
    match (a, b) {
        (Value::Duration(_), Value::Duration(0)) => Err(by_zero(a, "/")),
        (Value::Duration(x), Value::Duration(y)) => Ok(Value::float(*x as f64 / *y as f64)),
        (Value::Duration(x), b) => match (b, number(b)) {
            (_, Some(0.0)) => Err(by_zero(a, "/")),
            (Value::Int(y), _) => part_of(*x, *y).ok_or_else(|| overflow(a, "/", b)),
            (_, Some(y)) => rounded(*x as f64 / y).ok_or_else(|| overflow(a, "/", b)),
            (_, None) => Err(operands(a, "/", b)),
        },
        _ => match (number(a), number(b)) {
            (Some(_), Some(0.0)) => Err(by_zero(a, "/")),
            (Some(x), Some(y)) => Ok(Value::float(x / y)),
            _ => Err(operands(a, "/", b)),
        },
    }
}

/// Returns the floored remainder, which has the sign of the divisor.
pub fn remainder(a: &Value, b: &Value) -> Result<Value, Fail> {
    let floats = |x: f64, y: f64| {
        let r = x % y;
        if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r }
    };
    Ok(match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Duration(_), Value::Duration(0)) => {
            return Err(by_zero(a, "%"));
        }
        (Value::Int(x), Value::Int(y)) => Value::Int(floored(*x, *y)),
        (Value::Duration(x), Value::Duration(y)) => Value::Duration(floored(*x, *y)),
        (Value::Float(_), Value::Int(0)) => return Err(by_zero(a, "%")),
        (Value::Float(_) | Value::Int(_), Value::Float(y)) if y.get() == 0.0 => {
            return Err(by_zero(a, "%"));
        }
        (Value::Float(x), Value::Float(y)) => Value::float(floats(x.get(), y.get())),
        (Value::Int(x), Value::Float(y)) => Value::float(floats(*x as f64, y.get())),
        (Value::Float(x), Value::Int(y)) => Value::float(floats(x.get(), *y as f64)),
        _ => return Err(operands(a, "%", b)),
    })
}

fn floored(x: i64, y: i64) -> i64 {
    let r = x.wrapping_rem(y);
    if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
}

/// Returns the floored quotient of two ints or two durations.
pub fn div(a: &Value, b: &Value) -> Result<Value, Fail> {
    match (a, b) {
        (Value::Int(_), Value::Int(0)) => Err(fail("division_by_zero", format!("div({}, 0)", brief(a)))),
        (Value::Int(x), Value::Int(y)) => {
            let q = x.checked_div(*y).ok_or_else(|| overflow(a, "/", b))?;
            Ok(Value::Int(if x.wrapping_rem(*y) != 0 && (*x < 0) != (*y < 0) { q - 1 } else { q }))
        }
        (Value::Duration(_), Value::Duration(0)) => {
            Err(fail("division_by_zero", format!("div({}, 0s)", brief(a))))
        }
        (Value::Duration(x), Value::Duration(y)) => div(&Value::Int(*x), &Value::Int(*y)),
        _ => Err(type_error(format!(
            "`div` takes two ints or two durations, not {} and {}",
            a.a_kind(),
            b.a_kind()
        ))),
    }
}

pub fn negate(a: &Value) -> Result<Value, Fail> {
    Ok(match a {
        Value::Int(n) => Value::Int(
            n.checked_neg().ok_or_else(|| fail("overflow", format!("-({n}) does not fit in 64 bits")))?,
        ),
        Value::Float(x) => Value::float(-x.get()),
        Value::Duration(n) => {
            Value::Duration(n.checked_neg().ok_or_else(|| fail("overflow", "this duration has no opposite"))?)
        }
        _ => return Err(type_error(format!("`-` can't take {}", a.a_kind()))),
    })
}

/// Returns the error of a condition that is neither true nor false.
#[cold]
pub fn not_bool(a: &Value) -> Fail {
    if matches!(a, Value::Missing) {
        return fail("uninitialised", "a variable is used before it has its value");
    }
    let hint = match a {
        Value::Null => "; compare it: `x != null`",
        Value::Int(_) | Value::Float(_) => "; compare it: `n != 0`",
        Value::Str(_) | Value::List(_) | Value::Record(_) => "; compare it: `x.len() > 0`",
        Value::Task(_) => "; `await t` gives the value of a task",
        _ => "",
    };
    type_error(format!("a condition must be true or false, not {}{}{hint}", a.a_kind(), shown(a)))
}

fn shown(a: &Value) -> String {
    match a {
        Value::Null => String::new(),
        a => format!(" ({})", brief(a)),
    }
}

// ---- fields and elements

/// Returns the error of `value.name` when there is no such field.
#[cold]
pub fn no_field(a: &Value, name: &Name) -> Fail {
    if let Value::Record(record) = a {
        return missing_field(record, name);
    }
    let hint = match a {
        Value::Null => "; `?.` reads a field of what may be null".to_string(),
        Value::Task(_) => "; `await` it first".to_string(),
        Value::Entity(_) if secret::is(a) => String::new(),
        Value::Entity(_) => "; what it keeps is told by an operation, like `on get() => state`".to_string(),
        _ => habits::elsewhere(a.kind(), name).map_or(String::new(), |here| format!("; {here}")),
    };
    type_error(format!("{} has no field `{name}`{hint}", a.a_kind()))
}

/// Returns the error of reading a field that a record doesn't have.
pub fn missing_field(record: &Record, name: &str) -> Fail {
    let optional = match super::format::is_word(name) {
        true => format!("r?.{name}"),
        false => format!("r?[{}]", brief(&Value::str(name))),
    };
    no_such_field(record, name, &format!("; `{optional}` gives null"))
}

fn no_such_field(record: &Record, name: &str, optional: &str) -> Fail {
    let names = record.keys().names();
    let hint = match closest(name, names.iter().take(1000).map(|n| &**n)) {
        Some(near) => format!("; did you mean `{near}`?"),
        None if names.is_empty() => format!("; the record is empty{optional}"),
        None => {
            let some: Vec<String> = names.iter().take(8).map(|n| format!("`{n}`")).collect();
            let (s, more) =
                (if names.len() > 1 { "s" } else { "" }, if names.len() > 8 { ", …" } else { "" });
            format!("; the record has the field{s} {}{more}{optional}", some.join(", "))
        }
    };
    fail_with("missing_field", format!("there is no field `{name}`{hint}"), [("field", Value::str(name))])
}

pub fn optional_field(a: &Value, name: &Name) -> Result<Value, Fail> {
    match a {
        Value::Null => Ok(Value::Null),
        Value::Record(record) => Ok(record.get(name).cloned().unwrap_or(Value::Null)),
        _ => Err(type_error(format!("{} has no fields", a.a_kind()))),
    }
}

fn out_of_range(index: i64, len: usize) -> Fail {
    let message = match len {
        0 => format!("index {index} of an empty one"),
        len => {
            let hint = if index < 0 { "; `xs.last()` is the last one" } else { "" };
            format!("index {index} is out of range: the indexes are 0 to {}{hint}", len - 1)
        }
    };
    fail_with("index_out_of_range", message, [("index", Value::Int(index)), ("len", Value::Int(len as i64))])
}

pub fn at(index: i64, len: usize) -> Result<usize, Fail> {
    usize::try_from(index).ok().filter(|at| *at < len).ok_or_else(|| out_of_range(index, len))
}

/// Returns `value.name`.
pub fn field(a: &Value, name: &Name) -> Result<Value, Fail> {
    match a {
        Value::Record(record) if let Some(value) = record.get(name) => Ok(value.clone()),
        _ => Err(no_field(a, name)),
    }
}

pub fn index(a: &Value, index: &Value) -> Result<Value, Fail> {
    match (a, index) {
        (Value::List(list), Value::Int(n)) => Ok(list.as_slice()[at(*n, list.len())?].clone()),
        (Value::Record(record), Value::Str(name)) => {
            record.get_str(name.as_str()).cloned().ok_or_else(|| missing_field(record, name.as_str()))
        }
        (Value::Str(text), Value::Int(n)) => {
            let at = at(*n, text.chars())?;
            if text.is_ascii() {
                return Ok(Value::char(char::from(text.as_str().as_bytes()[at])));
            }
            Ok(text.as_str().chars().nth(at).map_or(Value::Null, Value::char))
        }
        (Value::Bytes(blob), Value::Int(n)) => {
            Ok(Value::Int(i64::from(blob.bytes[at(*n, blob.bytes.len())?])))
        }
        (Value::List(_) | Value::Str(_) | Value::Bytes(_), other) => {
            Err(type_error(format!("{} is indexed by an int, not by {}", a.a_kind(), other.a_kind())))
        }
        (Value::Record(_), other) => {
            Err(type_error(format!("a record is indexed by a string, not by {}", other.a_kind())))
        }
        _ => Err(type_error(format!("{} can't be indexed", a.a_kind()))),
    }
}

/// Sets the value at a path within `root`. An error changes nothing. Shared containers on the way
/// are copied. The index steps take their indexes from `args` in order.
pub fn set_path(
    root: &mut Value,
    path: &[PathStep],
    names: &[Name],
    args: &[Value],
    value: Value,
) -> Result<(), Fail> {
    let mut place = root;
    let mut args = args.iter();
    for (number, step) in path.iter().enumerate() {
        let last = number + 1 == path.len();
        place = match (step, place) {
            (PathStep::Field(name), Value::Record(record)) => {
                let name = &names[*name as usize];
                match record.keys().find(name) {
                    Some(at) => record_value(record, at)?,
                    None if last => return add_field(record, name.clone(), value),
                    None => return Err(no_such_field(record, name, "")),
                }
            }
            (PathStep::Index, place) => match (place, args.next().unwrap_or(&Value::Null)) {
                (Value::List(list), Value::Int(n)) => {
                    let at = at(*n, list.len())?;
                    List::element(list, at).ok_or_else(lost)?
                }
                (Value::Record(record), Value::Str(name)) => match record.keys().find_str(name.as_str()) {
                    Some(at) => record_value(record, at)?,
                    None if last => return add_field(record, intern(name.as_str()), value),
                    None => return Err(no_such_field(record, name.as_str(), "")),
                },
                (place, index) => return Err(not_assignable(place, Some(index))),
            },
            (PathStep::Field(_), place) => return Err(not_assignable(place, None)),
        };
    }
    place.put(value);
    Ok(())
}

/// Adds to the value at a path within `root`, as if the value were read, added to and set. The
/// value grows in place if neither it nor any container on the way is shared.
pub fn add_path(
    root: &mut Value,
    path: &[PathStep],
    names: &[Name],
    args: &[Value],
    more: Value,
) -> Result<(), Fail> {
    if let Some(place) = own_part(root, path, names, args) {
        let (sum, result) = match add(mem::take(place), &more) {
            Ok(sum) => (sum, Ok(())),
            Err((left, failure)) => (left, Err(failure)),
        };
        place.put(sum);
        return result;
    }
    let left = read_path(root, path, names, args)?;
    let sum = add(left, &more).map_err(|(_, failure)| failure)?;
    set_path(root, path, names, args, sum)
}

/// Takes the value at a path out of `root`, or copies it if a container on the way is shared.
pub fn take_path(root: &mut Value, path: &[PathStep], names: &[Name], args: &[Value]) -> Result<Value, Fail> {
    match own_part(root, path, names, args) {
        Some(place) => Ok(mem::take(place)),
        None => read_path(root, path, names, args),
    }
}

fn read_path(root: &Value, path: &[PathStep], names: &[Name], args: &[Value]) -> Result<Value, Fail> {
    let mut found = root.clone();
    let mut args = args.iter();
    for step in path {
        found = match step {
            PathStep::Field(name) => field(&found, &names[*name as usize])?,
            PathStep::Index => index(&found, args.next().unwrap_or(&Value::Null))?,
        };
    }
    Ok(found)
}

/// Checks that there is a value at a path. The error is that of reading the value.
pub fn check_path(root: &Value, path: &[PathStep], names: &[Name], args: &[Value]) -> Result<(), Fail> {
    match part(root, path, names, args) {
        Some(_) => Ok(()),
        None => read_path(root, path, names, args).map(drop),
    }
}

/// As `add_path`, for an entry of a record. `other` takes the place of a missing or null entry.
pub fn add_entry(
    root: &mut Value,
    path: &[PathStep],
    names: &[Name],
    args: &[Value],
    other: Value,
    more: Value,
) -> Result<(), Fail> {
    if part(root, path, names, args).is_some_and(|entry| !matches!(entry, Value::Null)) {
        return add_path(root, path, names, args, more);
    }
    let sum = add(other, &more).map_err(|(_, failure)| failure)?;
    set_path(root, path, names, args, sum)
}

/// Returns the value at a path, if there is one.
pub fn part<'a>(root: &'a Value, path: &[PathStep], names: &[Name], args: &'a [Value]) -> Option<&'a Value> {
    let mut place = root;
    let mut args = args.iter();
    for step in path {
        place = match (step, place) {
            (PathStep::Field(name), Value::Record(record)) => record.get(&names[*name as usize])?,
            (PathStep::Index, Value::List(list)) => list.as_slice().get(args.next()?.as_index())?,
            (PathStep::Index, Value::Record(record)) => match args.next()? {
                Value::Str(name) => record.get_str(name.as_str())?,
                _ => return None,
            },
            _ => return None,
        };
    }
    Some(place)
}

/// Returns the value at a path, if no container on the way is shared.
fn own_part<'a>(
    root: &'a mut Value,
    path: &[PathStep],
    names: &[Name],
    args: &[Value],
) -> Option<&'a mut Value> {
    let mut place = root;
    let mut args = args.iter();
    for step in path {
        place = match (step, place) {
            (PathStep::Field(name), Value::Record(record)) => {
                let record = Rc::get_mut(record)?;
                let at = record.keys().find(&names[*name as usize])?;
                record.value_mut(at)?
            }
            (PathStep::Index, Value::List(list)) => List::own(list, args.next()?.as_index())?,
            (PathStep::Index, Value::Record(record)) => {
                let Value::Str(name) = args.next()? else { return None };
                let record = Rc::get_mut(record)?;
                let at = record.keys().find_str(name.as_str())?;
                record.value_mut(at)?
            }
            _ => return None,
        };
    }
    Some(place)
}

fn record_value(record: &mut Rc<Record>, at: usize) -> Result<&mut Value, Fail> {
    Record::make_mut(record).and_then(|record| record.value_mut(at)).ok_or_else(lost)
}

fn add_field(record: &mut Rc<Record>, name: Name, value: Value) -> Result<(), Fail> {
    reserve_items(record.len() + 1)?;
    Record::make_mut(record).ok_or_else(lost)?.add(name, value);
    Ok(())
}

#[cold]
fn lost() -> Fail {
    fail("internal", "a container that was there is there no more")
}

/// Returns the error of assigning a part of a value that has no such parts.
#[cold]
fn not_assignable(container: &Value, index: Option<&Value>) -> Fail {
    match (container, index) {
        (Value::List(_), index) => type_error(format!(
            "a list is indexed by an int, not by {}",
            index.map_or_else(|| "a string".to_string(), Value::a_kind)
        )),
        (Value::Record(_), Some(index)) => {
            type_error(format!("a record is indexed by a string, not by {}", index.a_kind()))
        }
        (other, _) => type_error(format!("a part of {} can't be assigned", other.a_kind())),
    }
}

/// Adds an element to a list, in place if the list is not shared.
#[inline(always)]
pub fn push(list: &mut Rc<List>, value: Value) -> Result<(), Fail> {
    match List::push_within(list, value) {
        Ok(()) => Ok(()),
        Err(value) => push_slowly(list, value),
    }
}

#[cold]
#[inline(never)]
fn push_slowly(list: &mut Rc<List>, value: Value) -> Result<(), Fail> {
    reserve_items(list.len() + 1)?;
    List::grow(list, |items| items.push(value));
    Ok(())
}

/// The length from which a text grows in place instead of being written anew, in bytes.
const LONG_TEXT: usize = 256;

/// Joins the texts of values.
pub fn concat(parts: &mut [Value]) -> Result<Value, Fail> {
    if parts.iter().any(secret::is) {
        return secret::concat(parts);
    }
    // A long text that is not shared grows in place.
    if let [first @ Value::Str(_), rest @ ..] = parts
        && let Value::Str(text) = &mut *first
        && text.as_str().len() >= LONG_TEXT
        && let Some(text) = Rc::get_mut(text)
    {
        let more = Text::new(written(rest)?);
        reserve_text(text.as_str().len() + more.as_str().len())?;
        text.push_str(&more);
        return Ok(mem::take(first));
    }
    Ok(Value::Str(Text::new(written(parts)?)))
}

/// Returns the joined texts of values, as they are within a text.
fn written(parts: &[Value]) -> Result<CompactString, Fail> {
    let mut out = CompactString::default();
    for part in parts {
        match part {
            Value::Str(text) => out.push_str(text.as_str()),
            Value::Int(n) => out.push_str(itoa::Buffer::new().format(*n)),
            Value::Missing => {
                return Err(fail("uninitialised", "a variable is used before it has its value"));
            }
            other => out.push_str(&super::format::to_text(other)?),
        }
        reserve_text(out.len())?;
    }
    Ok(out)
}

/// Returns a range as a list of ints.
pub fn range(low: &Value, high: &Value, step: i64, inclusive: bool) -> Result<Value, Fail> {
    let (low, high) = range_ends(low, high, inclusive)?;
    let way = if step > 0 { high - low } else { low - high }.max(0) as u128;
    let count = usize::try_from(way.div_ceil(step.unsigned_abs().into())).unwrap_or(usize::MAX);
    reserve_items(count)?;
    let mut out = Vec::with_capacity(count);
    // All ints are between the ends, which fit in an int.
    out.extend((0..count as i64).map(|at| Value::Int((low as i64).wrapping_add(at.wrapping_mul(step)))));
    Ok(Value::list(out))
}

/// Returns the ends of a range. The second is the first int after the range.
pub fn range_ends(low: &Value, high: &Value, inclusive: bool) -> Result<(i128, i128), Fail> {
    match (low, high) {
        (Value::Int(low), Value::Int(high)) => Ok((*low as i128, *high as i128 + i128::from(inclusive))),
        _ => Err(type_error(format!(
            "a range goes from int to int, not from {} to {}",
            low.a_kind(),
            high.a_kind()
        ))),
    }
}

/// Returns a string's characters as a list of strings.
pub fn characters(text: &Text) -> Value {
    let mut all = Vec::with_capacity(text.chars());
    all.extend(text.as_str().chars().map(Value::char));
    Value::list(all)
}

/// Returns the items of a `for` loop as a list.
pub fn elements(value: &Value) -> Result<Value, Fail> {
    match value {
        Value::List(_) => Ok(value.clone()),
        Value::Record(record) => {
            let keys = Rc::new(super::value::Keys::new(vec![intern("key"), intern("value")]));
            let entry = |(name, value): (&Name, &Value)| {
                Value::Record(Rc::new(Record::new(keys.clone(), vec![Value::str(&**name), value.clone()])))
            };
            Ok(Value::list(record.iter().map(entry).collect()))
        }
        Value::Str(text) => Ok(characters(text)),
        Value::Bytes(blob) => Ok(Value::list(blob.bytes.iter().map(|b| Value::Int(i64::from(*b))).collect())),
        other => {
            let hint = match other {
                Value::Int(n) => format!("; `for i in 0..{n}` counts"),
                Value::Task(_) => "; `await t` gives the value of a task".to_string(),
                _ => String::new(),
            };
            Err(type_error(format!("`for` can't go through {}{}{hint}", other.a_kind(), shown(other))))
        }
    }
}

/// Returns the error of calling a value that is not a function.
pub fn not_a_function(value: &Value) -> Fail {
    type_error(format!("{} can't be called{}", value.a_kind(), shown(value)))
}

/// Returns the error of a wrong number of arguments.
pub fn arity(name: &str, min: usize, max: usize, given: usize) -> Fail {
    let takes = match (min, max) {
        (1, 1) => "1 argument".to_string(),
        (a, b) if a == b => format!("{a} arguments"),
        (a, b) if b >= 250 => format!("at least {a}"),
        (a, b) => format!("{a} to {b} arguments"),
    };
    let name = if name == "fn" { "this function".to_string() } else { format!("`{name}`") };
    fail("arity", format!("{name} takes {takes}, {given} {} given", if given == 1 { "is" } else { "are" }))
}

/// Returns the error of a method that a value doesn't have. `known` are the methods that it has.
pub fn no_method(value: &Value, name: &str, known: impl Iterator<Item = String>) -> Fail {
    let known: Vec<String> = known.collect();
    let near = closest(name, known.iter().map(String::as_str));
    let hint = match (value, habits::elsewhere(value.kind(), name), near) {
        (Value::Function(_), ..) => "; an entity is named with its key, as in `Account(\"ada\")`".into(),
        (Value::Task(_), ..) => "; `await` it first".into(),
        (Value::Null, ..) => "; `?.` calls a method of what may be null".into(),
        (_, Some(here), _) => format!("; {here}"),
        (_, None, Some(near)) => format!("; did you mean `{near}`?"),
        (_, None, None) => String::new(),
    };
    fail("missing_method", format!("{} has no method `{name}`{hint}", value.a_kind()))
}

/// Returns the error of a value that no pattern matches.
pub fn no_match(value: &Value, arms: bool) -> Fail {
    let shown = brief(value);
    let message =
        if arms { format!("no arm matches {shown}") } else { format!("the pattern doesn't match {shown}") };
    let value = match value {
        Value::Missing => Value::Null,
        // An error must be able to leave the instance, so its value must be data.
        other if super::Data::encode(other).is_err() => Value::str(display(other)),
        other => other.clone(),
    };
    fail_with("no_match", message, [("value", value)])
}

/// Returns the error of a wrong number of arguments of a function value.
#[cold]
pub fn wrong_count(f: &crate::code::Function, given: usize) -> Fail {
    arity(&f.name, f.required as usize, (f.params - f.hidden) as usize, given)
}

/// Checks the number of arguments of a method, without the receiver.
pub fn fits_method(f: &crate::code::Function, given: usize) -> Result<(), Fail> {
    let (min, max) = (f.required as usize, f.params as usize);
    if given + 1 < min || given + 1 > max {
        return Err(arity(&f.name, min.saturating_sub(1), max.saturating_sub(1), given));
    }
    Ok(())
}

/// Checks the number of arguments of a function without hidden parameters.
pub fn fits(f: &crate::code::Function, given: usize) -> Result<(), Fail> {
    let (min, max) = (f.required as usize, f.params as usize);
    if given < min || given > max {
        return Err(arity(&f.name, min, max, given));
    }
    Ok(())
}
