//! Natives for records.

use std::mem;
use std::rc::Rc;

use super::super::error::{Fail, type_error};
use super::super::operate as op;
use super::super::value::{Record, Value, intern};
use super::super::{canonical, work};
use super::{Native, list, record, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "record_keys" => |args| {
            // A long name is copied.
            op::reserve_items(record(&args[0])?.len().saturating_mul(4))?;
            work::done(record(&args[0])?.len().saturating_mul(16));
            Ok(Value::list(record(&args[0])?.keys().names().iter().map(|name| Value::str(&**name)).collect()))
        },
        "record_values" => |args| {
            let values = record(&args[0])?.values();
            op::reserve_items(values.len())?;
            work::done(values.len());
            Ok(Value::list(values.to_vec()))
        },
        "record_get" => |args| {
            let value = record(&args[0])?.get_str(text(&args[1])?.as_str()).or(args.get(2));
            Ok(value.cloned().unwrap_or(Value::Null))
        },
        "record_set" => |args| {
            let name = intern(text(&args[1])?.as_str());
            let value = args[2].clone();
            let mut record = take(&mut args[0])?;
            op::reserve_items(record.len() + 1)?;
            if let Some(record) = Record::make_mut(&mut record) {
                record.set(name, value);
            }
            Ok(Value::Record(record))
        },
        "record_remove" => |args| {
            let name = text(&args[1])?.clone();
            let mut record = take(&mut args[0])?;
            if let Some(record) = Record::make_mut(&mut record) {
                record.remove(name.as_str());
            }
            Ok(Value::Record(record))
        },
        "record_has" => |args| Ok(Value::bool(record(&args[0])?.get_str(text(&args[1])?.as_str()).is_some())),
        "record_merge" => |args| {
            let other = record(&args[1])?.clone();
            let mut record = take(&mut args[0])?;
            if let Some(record) = Record::make_mut(&mut record) {
                for (name, value) in other.iter() {
                    record.set(name.clone(), value.clone());
                }
            }
            Ok(Value::Record(record))
        },
        "key" => |args| canonical::key(&args[0]),
        "record_from_entries" => |args| {
            let mut out = Record::default();
            work::done(list(&args[0])?.len().saturating_mul(16));
            for entry in list(&args[0])?.as_slice() {
                let (key, value) = match entry {
                    Value::Record(entry) => (entry.get_str("key"), entry.get_str("value")),
                    Value::List(pair) if pair.len() == 2 => (pair.as_slice().first(), pair.as_slice().get(1)),
                    _ => (None, None),
                };
                let (Some(key), Some(value)) = (key, value) else {
                    return Err(type_error("an entry is {key, value} or [key, value]"));
                };
                out.set(intern(text(key)?.as_str()), value.clone());
            }
            op::made(Value::Record(Rc::new(out)))
        },
        _ => return None,
    })
}

fn take(value: &mut Value) -> Result<Rc<Record>, Fail> {
    match mem::take(value) {
        Value::Record(record) => {
            if Rc::strong_count(&record) > 1 {
                // The names are copied as well, and a new field can double both.
                op::reserve_items(record.len().saturating_mul(6))?;
                work::done(record.len());
            }
            Ok(record)
        }
        other => Err(super::wrong("a record", &other)),
    }
}
