//! JSON: the program's own, as `json.encode` writes it, and the lossless form of data that tools print and read.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::data::Data;
use super::error::{Fail, fail, type_error};
use super::value::{EntityRef, Name, Record, Shapes, Value, intern};
use super::{MAX_TEXT, format};

/// How values without a JSON form are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    /// For other programs: durations and instants as strings, bytes as base64.
    Plain,
    /// Lossless: `{"$duration": "5s"}` and the like.
    Tagged,
}

enum Open<'a> {
    List(std::slice::Iter<'a, Value>, bool),
    Record(Box<dyn Iterator<Item = (&'a Name, &'a Value)> + 'a>, bool),
    Close(&'static str),
}

/// Writes JSON; with an indentation, over several lines.
pub fn encode(value: &Value, style: Style, indent: Option<usize>) -> Result<String, Fail> {
    let mut out = String::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut next = Some(value);
    let line = |out: &mut String, depth: usize| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth.min(200)));
        }
    };
    loop {
        if out.len() > MAX_TEXT {
            return Err(fail("limit", "JSON of more than 256 MiB"));
        }
        if let Some(value) = next.take() {
            let tagged = style == Style::Tagged;
            match value {
                Value::Null => out.push_str("null"),
                Value::Bool(b) => out.push_str(if b.get() { "true" } else { "false" }),
                Value::Int(n) => out.push_str(&n.to_string()),
                Value::Float(x) if x.get().is_finite() => out.push_str(&format::float(x.get())),
                Value::Float(x) if tagged => {
                    out.push_str(&format!("{{\"$float\":\"{}\"}}", x.get()));
                }
                Value::Float(_) => return Err(type_error("JSON has no infinity and no not-a-number")),
                Value::Duration(n) if tagged => {
                    out.push_str(&format!("{{\"$duration\":\"{}\"}}", format::duration(*n)))
                }
                Value::Duration(n) => out.push_str(&format!("\"{}\"", format::duration(*n))),
                Value::Instant(n) if tagged => {
                    out.push_str(&format!("{{\"$instant\":\"{}\"}}", format::instant(*n)))
                }
                Value::Instant(n) => out.push_str(&format!("\"{}\"", format::instant(*n))),
                Value::Str(text) => string(&mut out, text.as_str()),
                Value::Bytes(blob) if tagged => {
                    out.push_str(&format!("{{\"$bytes\":\"{}\"}}", BASE64.encode(&blob.bytes)));
                }
                Value::Bytes(blob) => out.push_str(&format!("\"{}\"", BASE64.encode(&blob.bytes))),
                Value::List(list) => {
                    out.push('[');
                    open.push(Open::List(list.as_slice().iter(), true));
                }
                Value::Record(record) => {
                    out.push('{');
                    // A record that looks like a tag is one within a tag.
                    let looks_tagged = record.len() == 1 && record.keys().names()[0].starts_with('$');
                    if tagged && looks_tagged {
                        out.push_str("\"$record\":{");
                        open.push(Open::Close("}"));
                    }
                    open.push(Open::Record(Box::new(record.iter()), true));
                }
                Value::Entity(entity) => {
                    out.push_str("{\"$entity\":");
                    string(&mut out, &entity.name);
                    out.push_str(",\"key\":");
                    open.push(Open::Close("}"));
                    next = Some(&entity.key);
                    continue;
                }
                other => return Err(type_error(format!("{} can't be written as JSON", other.a_kind()))),
            }
        }
        let depth = open.len();
        match open.last_mut() {
            None => return Ok(out),
            Some(Open::Close(text)) => {
                out.push_str(text);
                open.pop();
            }
            Some(Open::List(items, first)) => match items.next() {
                Some(item) => {
                    if !std::mem::replace(first, false) {
                        out.push(',');
                    }
                    line(&mut out, depth);
                    next = Some(item);
                }
                None => {
                    if !*first {
                        line(&mut out, depth - 1);
                    }
                    out.push(']');
                    open.pop();
                }
            },
            Some(Open::Record(fields, first)) => match fields.next() {
                Some((name, value)) => {
                    if !std::mem::replace(first, false) {
                        out.push(',');
                    }
                    line(&mut out, depth);
                    string(&mut out, name);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    next = Some(value);
                }
                None => {
                    if !*first {
                        line(&mut out, depth - 1);
                    }
                    out.push('}');
                    open.pop();
                }
            },
        }
    }
}

fn string(out: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => out.push_str(&quoted),
        Err(_) => out.push_str("\"\""),
    }
}

/// Reads JSON. Nested more than 128 deep it is an error.
pub fn parse(text: &str) -> Result<Value, Fail> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = from_serde(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let fields =
            [("line", Value::Int(error.line() as i64)), ("column", Value::Int(error.column() as i64))];
        super::error::fail_with("parse_error", format!("not JSON: {error}"), fields)
    })
}

/// A value from whatever serde reads by itself.
pub fn from_serde<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Seed(&mut Shapes::default()).deserialize(deserializer)
}

struct Seed<'s>(&'s mut Shapes);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::bool(b))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::float(n as f64), Value::Int))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::float(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Seed(self.0))? {
            if out.len() >= super::MAX_ITEMS {
                return Err(A::Error::custom("too many elements"));
            }
            out.push(item);
        }
        out.shrink_to_fit();
        Ok(Value::list(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let from = self.0.begin();
        while let Some(name) = fields.next_key::<std::borrow::Cow<'de, str>>()? {
            let value = fields.next_value_seed(Seed(self.0))?;
            self.0.field(intern(&name), value);
        }
        Ok(Value::Record(Rc::new(self.0.end(from))))
    }
}

/// Data as lossless JSON. What can't be shown so, because it is nested too deeply to be read back, is base64.
pub fn from_data(data: &Data) -> String {
    let value = data.decode();
    match encode(&value, Style::Tagged, None) {
        Ok(text) if parse(&text).is_ok() => text,
        _ => format!("{{\"$data\":\"{}\"}}", BASE64.encode(&data.0)),
    }
}

/// Data from lossless JSON.
pub fn to_data(text: &str) -> Result<Data, Fail> {
    let value = parse(text)?;
    if let Value::Record(record) = &value
        && let Some(Value::Str(base64)) = record.get_str("$data")
    {
        let bytes = BASE64.decode(base64.as_str()).map_err(|_| type_error("`$data` is not base64"))?;
        return Ok(Data(bytes));
    }
    Data::encode(&untag(&value)?)
}

/// Reads tags back into values. JSON that was parsed is at most 128 deep.
pub fn untag(value: &Value) -> Result<Value, Fail> {
    let bad = |tag: &str| type_error(format!("`{tag}` has no such value"));
    match value {
        Value::List(list) => Ok(Value::list(list.as_slice().iter().map(untag).collect::<Result<_, _>>()?)),
        Value::Record(record) => {
            if let (Some(Value::Str(name)), Some(key)) = (record.get_str("$entity"), record.get_str("key")) {
                return Ok(Value::Entity(Rc::new(EntityRef {
                    name: name.as_str().into(),
                    key: untag(key)?,
                })));
            }
            let only = (record.len() == 1).then(|| record.iter().next()).flatten();
            if let Some((tag, inner)) = only
                && tag.starts_with('$')
            {
                let text = match inner {
                    Value::Str(text) => text.as_str(),
                    _ => "",
                };
                return match &**tag {
                    "$duration" => {
                        let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
                        let nanos = crate::syntax::lexer::parse_duration(text).ok_or_else(|| bad(tag))?;
                        Ok(Value::Duration(sign * nanos))
                    }
                    "$instant" => {
                        let instant: jiff::Timestamp = text.parse().map_err(|_| bad(tag))?;
                        Ok(Value::Instant(i64::try_from(instant.as_nanosecond()).map_err(|_| bad(tag))?))
                    }
                    "$float" => Ok(Value::float(text.parse().map_err(|_| bad(tag))?)),
                    "$bytes" => Ok(Value::bytes(BASE64.decode(text).map_err(|_| bad(tag))?)),
                    "$record" => match inner {
                        Value::Record(record) => untag_fields(record),
                        _ => Err(bad(tag)),
                    },
                    _ => untag_fields(record),
                };
            }
            untag_fields(record)
        }
        other => Ok(other.clone()),
    }
}

fn untag_fields(record: &Record) -> Result<Value, Fail> {
    let mut out = Record::default();
    for (name, value) in record.iter() {
        out.set(name.clone(), untag(value)?);
    }
    Ok(Value::Record(Rc::new(out)))
}
