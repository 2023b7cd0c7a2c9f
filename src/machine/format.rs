//! Values as text: in the form of `print`, and in the form of programs.

use jiff::Timestamp;

pub use super::durations::{about, duration};
use super::value::{Fail, Name, Value, fail};
use super::{MAX_TEXT, value};

/// Returns a string as it is, and any other value as it is written in programs. Fails if the text
/// would be too long.
pub fn to_text(value: &Value) -> Result<String, Fail> {
    if let Value::Str(text) = value {
        return Ok(text.as_str().to_string());
    }
    match write(value, MAX_TEXT) {
        (text, true) => Ok(text),
        _ => Err(fail("limit", "a text of more than 256 MiB")),
    }
}

/// As `to_text`, for messages: a long text is cut off.
pub fn display(value: &Value) -> String {
    match value {
        Value::Str(text) => text.as_str().to_string(),
        value => write(value, 2_000).0,
    }
}

/// Returns the form of a value in programs, for messages: cut off early.
pub fn brief(value: &Value) -> String {
    let (mut text, complete) = write(value, 60);
    if !complete {
        while text.len() > 57 {
            text.pop();
        }
        text.push('…');
    }
    text
}

/// Returns the message of an error value, without its kind.
pub fn message(value: &Value) -> String {
    match value {
        Value::Record(record) => record.get_str("message").map_or_else(|| title(value), display),
        _ => title(value),
    }
}

/// Returns an error value in one line.
pub fn title(value: &Value) -> String {
    if let Value::Record(record) = value
        && let Some(kind) = record.get_str("kind")
    {
        return match record.get_str("message") {
            Some(message) => format!("{}: {}", display(kind), display(message)),
            None => display(value),
        };
    }
    display(value)
}

enum Open<'a> {
    List(std::slice::Iter<'a, Value>, bool),
    Record(Box<dyn Iterator<Item = (&'a Name, &'a Value)> + 'a>, bool),
    Close(&'static str),
}

/// Writes a value as in programs, up to about `limit` bytes. The flag tells whether the text is
/// complete.
pub fn write(value: &Value, limit: usize) -> (String, bool) {
    let mut out = String::new();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut next = Some(value);
    loop {
        if out.len() > limit {
            return (out, false);
        }
        if let Some(value) = next.take() {
            match value {
                Value::List(list) => {
                    out.push('[');
                    open.push(Open::List(list.as_slice().iter(), true));
                }
                Value::Record(record) => {
                    out.push('{');
                    open.push(Open::Record(Box::new(record.iter()), true));
                }
                Value::Entity(entity) if entity.is_secret() => out.push_str(&entity.shown_secret()),
                Value::Entity(entity) => {
                    out.push_str(&entity.name);
                    out.push('(');
                    open.push(Open::Close(")"));
                    next = Some(&entity.key);
                    continue;
                }
                Value::Str(text) => quote(&mut out, text.as_str(), limit),
                scalar => out.push_str(&scalar_text(scalar)),
            }
        }
        match open.last_mut() {
            None => return (out, true),
            Some(Open::Close(text)) => {
                out.push_str(text);
                open.pop();
            }
            Some(Open::List(items, first)) => match items.next() {
                Some(item) => {
                    if !std::mem::replace(first, false) {
                        out.push_str(", ");
                    }
                    next = Some(item);
                }
                None => {
                    out.push(']');
                    open.pop();
                }
            },
            Some(Open::Record(fields, first)) => match fields.next() {
                Some((name, value)) => {
                    if !std::mem::replace(first, false) {
                        out.push_str(", ");
                    }
                    if is_word(name) {
                        out.push_str(name);
                    } else {
                        quote(&mut out, name, limit);
                    }
                    out.push_str(": ");
                    next = Some(value);
                }
                None => {
                    out.push('}');
                    open.pop();
                }
            },
        }
    }
}

/// Returns whether a name can be written without quotes.
pub fn is_word(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn quote(out: &mut String, text: &str, limit: usize) {
    out.push('"');
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
        if out.len() > limit {
            return;
        }
    }
    out.push('"');
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.get().to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(x) => float(x.get()),
        Value::Duration(n) => duration(*n),
        Value::Instant(n) => instant(*n),
        Value::Bytes(blob) => {
            let hex = hex::encode(&blob.bytes[..blob.bytes.len().min(16)]);
            let more = if blob.bytes.len() > 16 { "…" } else { "" };
            format!("<{} bytes {hex}{more}>", blob.bytes.len())
        }
        Value::Function(_) | Value::Builtin(_) => "<function>".into(),
        Value::Task(_) => "<task>".into(),
        value::Value::Missing | Value::Cell(_) | Value::Env(_) | Value::Trace(_) => "<nothing>".into(),
        Value::Str(_) | Value::List(_) | Value::Record(_) | Value::Entity(_) => String::new(),
    }
}

/// Returns the shortest text that reads back as the same float, always with a point or an exponent.
pub fn float(x: f64) -> String {
    format!("{x:?}")
}

/// Returns an instant in RFC 3339, in UTC.
pub fn instant(nanos: i64) -> String {
    match Timestamp::from_nanosecond(nanos as i128) {
        Ok(timestamp) => timestamp.to_string(),
        Err(_) => format!("{nanos}ns since 1970"),
    }
}
