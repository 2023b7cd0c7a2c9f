//! Natives for TOML.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use toml::{Table, Value as Toml};

use super::super::error::{Fail, fail, fail_with, type_error};
use super::super::operate as op;
use super::super::value::{Record, Value, intern};
use super::super::{durations, format, secret, work};
use super::{Native, text};

/// The memory that a byte of text takes at most while it is read: the shortest value has two bytes.
const FOR_A_BYTE: usize = 32;
/// The largest depth of what is written. The reader accepts no more.
const MOST_LEVELS: usize = 70;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "toml_parse" => parse,
        "toml_encode" => encode,
        _ => return None,
    })
}

fn parse(args: &mut [Value]) -> Result<Value, Fail> {
    let text = text(&args[0])?.as_str();
    op::reserve(text.len().saturating_mul(FOR_A_BYTE))?;
    work::done(text.len().saturating_mul(4));
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        let message = format!("not TOML: line {line}: {message}");
        fail_with("parse_error", message, [("line", Value::Int(line as i64))])
    })?;
    op::made(value(Toml::Table(table)))
}

/// The reader limits the depth.
fn value(read: Toml) -> Value {
    match read {
        Toml::String(text) => Value::str(text),
        Toml::Integer(n) => Value::Int(n),
        Toml::Float(x) => Value::float(x),
        Toml::Boolean(flag) => Value::bool(flag),
        Toml::Datetime(time) => {
            let text = time.to_string();
            let instant = time.offset.and_then(|_| text.parse::<Timestamp>().ok());
            match instant.and_then(|instant| i64::try_from(instant.as_nanosecond()).ok()) {
                Some(nanos) => Value::Instant(nanos),
                // A date or a time without an offset is no instant.
                None => Value::str(text),
            }
        }
        Toml::Array(items) => Value::list(items.into_iter().map(value).collect()),
        Toml::Table(table) => {
            let mut record = Record::default();
            for (name, field) in table {
                record.set(intern(&name), value(field));
            }
            Value::Record(Rc::new(record))
        }
    }
}

fn encode(args: &mut [Value]) -> Result<Value, Fail> {
    let Value::Record(_) = &args[0] else { return Err(super::wrong("a record", &args[0])) };
    let mut writing = Writing { growing: op::Growing::default(), path: Vec::new() };
    let Toml::Table(table) = writing.value(&args[0])? else {
        return Err(fail("internal", "a record is no table"));
    };
    let text =
        toml::to_string(&table).map_err(|error| type_error(format!("can't be written as TOML: {error}")))?;
    op::reserve_text(text.len())?;
    work::done(text.len().saturating_mul(4));
    Ok(Value::str(text))
}

/// A value on its way to TOML.
struct Writing {
    growing: op::Growing,
    /// The names that lead to the current part.
    path: Vec<String>,
}

impl Writing {
    fn value(&mut self, value: &Value) -> Result<Toml, Fail> {
        if self.path.len() > MOST_LEVELS {
            return Err(fail("limit", format!("more than {MOST_LEVELS} levels can't be written as TOML")));
        }
        // Shared parts are written once for each place, so their number is limited.
        self.growing.text(size_of::<Toml>())?;
        Ok(match value {
            Value::Bool(flag) => Toml::Boolean(flag.get()),
            Value::Int(n) => Toml::Integer(*n),
            Value::Float(x) => Toml::Float(x.get()),
            Value::Str(text) => Toml::String(self.text(text.as_str())?),
            Value::Duration(n) => Toml::String(durations::exact(*n)),
            Value::Instant(n) => {
                let text = format::instant(*n);
                text.parse().map_or_else(|_| Toml::String(text.clone()), Toml::Datetime)
            }
            Value::Bytes(blob) => {
                self.growing.text(blob.bytes.len() / 3 * 4)?;
                Toml::String(BASE64.encode(&blob.bytes))
            }
            Value::List(list) => {
                let mut items = Vec::new();
                for (at, item) in list.as_slice().iter().enumerate() {
                    self.path.push(format!("[{at}]"));
                    items.push(self.value(item)?);
                    self.path.pop();
                }
                Toml::Array(items)
            }
            Value::Record(record) => {
                let mut table = Table::new();
                for (name, field) in record.iter() {
                    self.path.push(name.to_string());
                    let name = self.text(name)?;
                    table.insert(name, self.value(field)?);
                    self.path.pop();
                }
                Toml::Table(table)
            }
            Value::Entity(entity) if secret::is_of(entity) => {
                return Err(secret::misused("text that could be written as TOML"));
            }
            Value::Null => {
                let path = self.path.join(".").replace(".[", "[");
                return Err(type_error(format!("TOML has no null, and `{path}` is null")));
            }
            other => {
                let path = self.path.join(".").replace(".[", "[");
                let kind = other.a_kind();
                return Err(type_error(format!("{kind} can't be written as TOML: `{path}`")));
            }
        })
    }

    fn text(&mut self, text: &str) -> Result<String, Fail> {
        self.growing.text(text.len())?;
        Ok(text.to_string())
    }
}
