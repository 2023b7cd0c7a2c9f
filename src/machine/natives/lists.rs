//! Natives for lists.

use std::mem;
use std::rc::Rc;

use hashbrown::HashMap;

use super::super::compare::{equal, holds_function, sorted, whole};
use super::super::error::{Fail, fail_with, type_error};
use super::super::hashing::Distinct;
use super::super::operate as op;
use super::super::value::{List, Record, Value, intern};
use super::super::{format, secret, work};
use super::{Native, int, list, options, stretch, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "list_get" => |args| {
            let (list, at) = (list(&args[0])?, int(&args[1])?);
            let at = if at < 0 { at + list.len() as i64 } else { at };
            Ok(usize::try_from(at)
                .ok()
                .and_then(|at| list.as_slice().get(at).cloned())
                .unwrap_or(Value::Null))
        },
        "list_slice" => |args| {
            let list = list(&args[0])?;
            let (from, to) = stretch(&args[1], &args[2], list.len())?;
            Ok(Value::List(List::slice(list, from, to)))
        },
        "list_take" => |args| {
            let (list, count) = (list(&args[0])?, elements("take", &args[1])?);
            Ok(Value::List(List::slice(list, 0, count.min(list.len()))))
        },
        "list_drop" => |args| {
            let (list, count) = (list(&args[0])?, elements("drop", &args[1])?);
            Ok(Value::List(List::slice(list, count.min(list.len()), list.len())))
        },
        "list_chunk" => chunk,
        // Makes an empty list with room for as many elements as another list has.
        "list_room" => |args| {
            let count = if let Value::List(list) = &args[0] { list.len() } else { 0 };
            op::reserve_items(count)?;
            Ok(Value::list(Vec::with_capacity(count)))
        },
        "list_sort" => sort,
        "list_sort_by" => sort_by,
        "list_group" => group,
        "list_reverse" => |args| {
            let mut items = take(&mut args[0])?;
            items.reverse();
            Ok(Value::list(items))
        },
        "list_contains" => |args| {
            let found = position(list(&args[0])?.as_slice(), &args[1])?;
            Ok(Value::bool(found.is_some()))
        },
        "list_index_of" => |args| {
            let found = position(list(&args[0])?.as_slice(), &args[1])?;
            Ok(found.map_or(Value::Null, |at| Value::Int(at as i64)))
        },
        "list_unique" => unique,
        "list_sum" => sum,
        "list_join" => join,
        "list_flatten" => |args| {
            let items = list(&args[0])?.as_slice();
            let len = |item: &Value| if let Value::List(inner) = item { inner.len() } else { 1 };
            let count = items.iter().map(len).fold(0, usize::saturating_add);
            op::reserve_items(count)?;
            work::done(count);
            let mut out = Vec::with_capacity(count);
            for item in items {
                match item {
                    Value::List(inner) => out.extend_from_slice(inner.as_slice()),
                    other => out.push(other.clone()),
                }
            }
            Ok(Value::list(out))
        },
        "list_insert" => |args| {
            let at = int(&args[1])?;
            let value = args[2].clone();
            let mut items = take(&mut args[0])?;
            if at < 0 || at as usize > items.len() {
                let fields = [("index", Value::Int(at)), ("len", Value::Int(items.len() as i64))];
                return Err(fail_with(
                    "index_out_of_range",
                    format!("index {at} is out of range: 0 to {} can be inserted at", items.len()),
                    fields,
                ));
            }
            if items.len() == items.capacity() {
                op::reserve_items(items.len().saturating_mul(2))?;
            }
            items.insert(at as usize, value);
            Ok(Value::list(items))
        },
        "list_remove" => |args| {
            let at = int(&args[1])?;
            let mut items = take(&mut args[0])?;
            let at = op::at(at, items.len())?;
            items.remove(at);
            Ok(Value::list(items))
        },
        _ => return None,
    })
}

/// Takes the elements out of a list, which are copied only if the list is shared.
pub fn take(value: &mut Value) -> Result<Vec<Value>, Fail> {
    match mem::take(value) {
        Value::List(list) => {
            if Rc::strong_count(&list) > 1 {
                op::reserve_items(list.len())?;
            }
            work::done(list.len());
            Ok(List::take(list))
        }
        other => Err(super::wrong("a list", &other)),
    }
}

/// Returns the place of the first element that is equal to a value. Each comparison with an int or
/// a string is a few instructions.
fn position(items: &[Value], wanted: &Value) -> Result<Option<usize>, Fail> {
    work::done(items.len());
    Ok(match wanted {
        Value::Int(wanted) => items.iter().position(|item| match item {
            Value::Int(n) => n == wanted,
            Value::Float(x) => whole(x.get()) == Some(*wanted),
            _ => false,
        }),
        Value::Str(wanted) => {
            items.iter().position(|item| matches!(item, Value::Str(text) if text.as_str() == wanted.as_str()))
        }
        wanted => {
            for (at, item) in items.iter().enumerate() {
                if equal(item, wanted)? {
                    return Ok(Some(at));
                }
            }
            None
        }
    })
}

/// Returns a number of elements to take or to drop. A negative number counts as 0.
pub fn elements(name: &str, count: &Value) -> Result<usize, Fail> {
    match count {
        Value::Int(count) => Ok(usize::try_from(*count).unwrap_or(if *count < 0 { 0 } else { usize::MAX })),
        other => {
            Err(type_error(format!("`{name}` takes a number of elements, an int, not {}", other.a_kind())))
        }
    }
}

fn chunk(args: &mut [Value]) -> Result<Value, Fail> {
    let (list, size) = (list(&args[0])?, elements("chunk", &args[1])?);
    if size == 0 {
        let size = format::brief(&args[1]);
        return Err(type_error(format!("a chunk has at least one element, not {size}")));
    }
    let count = list.len().div_ceil(size);
    // A slice of a list takes as much memory as several values.
    op::reserve_items(count.saturating_mul(6))?;
    work::done(count.saturating_mul(16));
    let starts = (0..list.len()).step_by(size);
    let chunk = |from: usize| Value::List(List::slice(list, from, from.saturating_add(size).min(list.len())));
    Ok(Value::list(starts.map(chunk).collect()))
}

fn sort(args: &mut [Value]) -> Result<Value, Fail> {
    let descending = args.get(1).map_or(Ok(false), |given| options::sort(given, "`sort`"))?;
    let mut items = take(&mut args[0])?;
    work::done(items.len().saturating_mul(16));
    if items.iter().all(|item| matches!(item, Value::Int(_))) {
        items.sort_by_key(|item| if let Value::Int(n) = item { *n } else { 0 });
        if descending {
            items.reverse();
        }
        return Ok(Value::list(items));
    }
    let order = order_of(&items, descending)?;
    Ok(Value::list(order.into_iter().map(|at| mem::take(&mut items[at])).collect()))
}

/// Sorts by keys that were computed before.
fn sort_by(args: &mut [Value]) -> Result<Value, Fail> {
    let descending = args.get(2).map_or(Ok(false), |given| options::sort(given, "`sort_by`"))?;
    let mut items = take(&mut args[0])?;
    work::done(items.len().saturating_mul(16));
    let order = order_of(list(&args[1])?.as_slice(), descending)?;
    Ok(Value::list(order.into_iter().filter_map(|at| items.get_mut(at).map(mem::take)).collect()))
}

/// Returns the indexes of the keys in their order. Equal keys keep their places, also in descending
/// order: the last of them come first in what is sorted, and the result is turned round.
fn order_of(keys: &[Value], descending: bool) -> Result<Vec<usize>, Fail> {
    if !descending {
        return sorted(keys);
    }
    op::reserve_items(keys.len())?;
    let turned: Vec<Value> = keys.iter().rev().cloned().collect();
    let mut order = sorted(&turned)?;
    order.reverse();
    Ok(order.into_iter().map(|at| keys.len() - 1 - at).collect())
}

/// Groups elements by keys that were computed before, into a record of lists.
fn group(args: &mut [Value]) -> Result<Value, Fail> {
    let keys = list(&args[1])?.clone();
    let items = list(&args[0])?.clone();
    let mut places: HashMap<*const u8, usize> = HashMap::new();
    let mut by_text: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(String, Vec<Value>)> = Vec::new();
    work::done(items.len().saturating_mul(16));
    let mut growing = op::Growing::default();
    for (item, key) in items.as_slice().iter().zip(keys.as_slice()) {
        // The same string is often a key again and again, so strings are found by address first.
        let address = match key {
            Value::Str(text) => Rc::as_ptr(text).cast::<u8>(),
            _ => std::ptr::null(),
        };
        let at = match places.get(&address) {
            Some(at) if !address.is_null() => *at,
            _ => {
                if holds_function(key) {
                    return Err(type_error("a group's key is data, and not a function"));
                }
                let text = format::to_text(key)?;
                let at = *by_text.entry(text).or_insert_with_key(|text| {
                    groups.push((text.clone(), Vec::new()));
                    groups.len() - 1
                });
                if !address.is_null() {
                    places.insert(address, at);
                }
                at
            }
        };
        growing.item()?;
        groups[at].1.push(item.clone());
    }
    let mut record = Record::default();
    for (name, items) in groups {
        record.set(intern(&name), Value::list(items));
    }
    op::made(Value::Record(Rc::new(record)))
}

fn unique(args: &mut [Value]) -> Result<Value, Fail> {
    let mut distinct = Distinct::default();
    work::done(list(&args[0])?.len().saturating_mul(16));
    let mut growing = op::Growing::default();
    for item in list(&args[0])?.as_slice() {
        let before = distinct.values.len();
        distinct.add(item)?;
        if distinct.values.len() > before {
            growing.item()?;
        }
    }
    Ok(Value::list(distinct.values))
}

fn sum(args: &mut [Value]) -> Result<Value, Fail> {
    let items = list(&args[0])?.as_slice();
    let mut total = match items.first() {
        Some(Value::Duration(_)) => Value::Duration(0),
        _ => Value::Int(0),
    };
    for item in items {
        if !matches!(item, Value::Int(_) | Value::Float(_) | Value::Duration(_)) {
            return Err(type_error(format!("`sum` adds numbers, not {}", item.a_kind())));
        }
        total = op::add(total, item).map_err(|(_, fail)| fail)?;
    }
    Ok(total)
}

fn join(args: &mut [Value]) -> Result<Value, Fail> {
    let separator = text(&args[1])?;
    if list(&args[0])?.as_slice().iter().any(secret::is) {
        let mut parts = Vec::new();
        for item in list(&args[0])?.as_slice() {
            if !parts.is_empty() {
                parts.push(args[1].clone());
            }
            parts.push(item.clone());
        }
        return secret::concat(&parts);
    }
    let mut out = String::new();
    let mut growing = op::Growing::default();
    for (at, item) in list(&args[0])?.as_slice().iter().enumerate() {
        if at > 0 {
            out.push_str(separator.as_str());
        }
        let before = out.len();
        match item {
            Value::Str(text) => {
                growing.text(separator.as_str().len() + text.as_str().len())?;
                out.push_str(text.as_str());
            }
            other => {
                out.push_str(&format::to_text(other)?);
                growing.text(separator.as_str().len() + out.len() - before)?;
            }
        }
    }
    Ok(Value::str(out))
}
