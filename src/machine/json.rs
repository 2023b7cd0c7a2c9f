//! JSON: the program's own, as `json.encode` writes it, and the lossless form of data for tools.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::data::Data;
use super::error::{Fail, fail, type_error};
use super::json_text::{self, Big};
use super::operate::reserve_text;
use super::value::{EntityRef, Name, Record, Shapes, Value, intern};
use super::{MAX_TEXT, duration_text, durations, format, secret};

/// The treatment of values without a JSON form.
#[derive(Clone, Copy, PartialEq)]
pub enum Style {
    /// For other programs: durations and instants are strings, bytes are base64.
    Plain,
    /// Lossless: `{"$duration": "5s"}` and the like.
    Tagged,
}

enum Open<'a> {
    List(std::slice::Iter<'a, Value>, bool),
    Record(Box<dyn Iterator<Item = (&'a Name, &'a Value)> + 'a>, bool),
    Close(&'static str),
}

/// Writes JSON, over several lines if `indent` is given.
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
            return Err(too_long());
        }
        if let Some(value) = next.take() {
            let tagged = style == Style::Tagged;
            match value {
                Value::Null => out.push_str("null"),
                Value::Bool(b) => out.push_str(if b.get() { "true" } else { "false" }),
                Value::Int(n) => out.push_str(&n.to_string()),
                Value::Float(x) if x.get().is_finite() => out.push_str(&format::float(x.get())),
                Value::Float(x) if tagged => {
                    out.push_str(&format!("{{\"$float\":\"{}\"}}", tagged_float(x.get())));
                }
                Value::Float(_) => return Err(type_error("JSON has no infinity and no not-a-number")),
                Value::Duration(n) if tagged => {
                    out.push_str(&format!("{{\"$duration\":\"{}\"}}", durations::exact(*n)))
                }
                Value::Duration(n) => out.push_str(&format!("\"{}\"", durations::exact(*n))),
                Value::Instant(n) if tagged => {
                    out.push_str(&format!("{{\"$instant\":\"{}\"}}", format::instant(*n)))
                }
                Value::Instant(n) => out.push_str(&format!("\"{}\"", format::instant(*n))),
                Value::Str(text) => string(&mut out, text.as_str())?,
                Value::Bytes(blob) if tagged => {
                    reserve_text(blob.bytes.len() / 3 * 4)?;
                    out.push_str(&format!("{{\"$bytes\":\"{}\"}}", BASE64.encode(&blob.bytes)));
                }
                Value::Bytes(blob) => {
                    reserve_text(blob.bytes.len() / 3 * 4)?;
                    out.push_str(&format!("\"{}\"", BASE64.encode(&blob.bytes)));
                }
                Value::List(list) => {
                    out.push('[');
                    open.push(Open::List(list.as_slice().iter(), true));
                }
                Value::Record(record) => {
                    out.push('{');
                    // A record that looks like a tag is wrapped in a tag.
                    let looks_tagged = record.len() == 1 && record.keys().names()[0].starts_with('$')
                        || record.get_str("$entity").is_some() && record.get_str("key").is_some();
                    if tagged && looks_tagged {
                        out.push_str("\"$record\":{");
                        open.push(Open::Close("}"));
                    }
                    open.push(Open::Record(Box::new(record.iter()), true));
                }
                Value::Entity(entity) if !tagged && secret::is_of(entity) => {
                    return Err(secret::misused("text that could be written as JSON"));
                }
                Value::Entity(entity) => {
                    out.push_str("{\"$entity\":");
                    string(&mut out, &entity.name)?;
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
                    string(&mut out, name)?;
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

/// Writes a string piece by piece, since a character can take six bytes.
fn string(out: &mut String, text: &str) -> Result<(), Fail> {
    const PIECE: usize = 1 << 16;
    out.push('"');
    let mut rest = text;
    while !rest.is_empty() {
        let at = (PIECE.min(rest.len())..=rest.len()).find(|at| rest.is_char_boundary(*at));
        let (piece, more) = rest.split_at(at.unwrap_or(rest.len()));
        let quoted =
            serde_json::to_string(piece).map_err(|_| fail("internal", "a string without a JSON form"))?;
        out.push_str(&quoted[1..quoted.len() - 1]);
        if out.len() > MAX_TEXT {
            return Err(too_long());
        }
        rest = more;
    }
    out.push('"');
    Ok(())
}

fn too_long() -> Fail {
    fail("limit", "JSON of more than 256 MiB")
}

/// Reads JSON at any depth. An int that does not fit in 64 bits is an error.
pub fn parse(text: &str) -> Result<Value, Fail> {
    json_text::read(text, Big::Error)
}

/// Reads a word of a command line as JSON, or else as text. A word that begins like JSON and is not
/// JSON is an error, and so is an int that does not fit in 64 bits.
pub fn word(text: &str) -> Result<Value, Fail> {
    let digits = text.trim();
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let is_int = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match to_value(text) {
        Err(failure) if text.trim_start().starts_with(['{', '[', '"']) => Err(failure),
        // `007` is text.
        Err(failure) if is_int && !digits.starts_with('0') => Err(failure),
        Err(_) => Ok(Value::str(text)),
        value => value,
    }
}

/// Reads a value from any self-describing deserializer.
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

    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Value, E> {
        i64::try_from(n)
            .map(Value::Int)
            .map_err(|_| E::custom(format!("{n} does not fit in 64 bits with a sign")))
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

/// The deepest nesting of lossless JSON that is written. Many programs read 128 levels, some of
/// which the JSON around the data takes.
const MAX_WRITTEN: u32 = 100;

/// Returns data as lossless JSON. Data that is too deeply nested for other programs is base64.
pub fn from_data(data: &Data) -> String {
    let value = data.decode();
    match encode(&value, Style::Tagged, None) {
        Ok(text) if depth(&text) <= MAX_WRITTEN => text,
        _ => format!("{{\"$data\":\"{}\"}}", BASE64.encode(&data.0)),
    }
}

/// Reads data from lossless JSON that somebody outside wrote. A secret in it is refused.
pub fn to_data(text: &str) -> Result<Data, Fail> {
    let data = stored_data(text)?;
    without_secrets(data.decode())?;
    Ok(data)
}

/// Reads data from the lossless JSON of an export, which may name secrets.
pub fn stored_data(text: &str) -> Result<Data, Fail> {
    let value = parse(text)?;
    match whole(&value)? {
        Some(data) => Ok(data),
        None => Data::encode(&untag(&value, 0)?),
    }
}

/// Reads a value from lossless JSON that somebody outside wrote: `{"$duration": "5s"}` is a
/// duration. JSON without tags may have any depth. A secret in it is refused.
pub fn to_value(text: &str) -> Result<Value, Fail> {
    let value = parse(text)?;
    match text.contains("\"$") {
        false => Ok(value),
        true => match whole(&value)? {
            Some(data) => without_secrets(data.decode()),
            None => without_secrets(untag(&value, 0)?),
        },
    }
}

/// Returns the data of JSON that has it as one text.
fn whole(value: &Value) -> Result<Option<Data>, Fail> {
    let Value::Record(record) = value else { return Ok(None) };
    let (1, Some(Value::Str(base64))) = (record.len(), record.get_str("$data")) else { return Ok(None) };
    let bad = || type_error("`$data` is not base64 of data");
    let data = BASE64.decode(base64.as_str()).map(Data).map_err(|_| bad())?;
    match data.try_decode() {
        Some(_) => Ok(Some(data)),
        None => Err(bad()),
    }
}

/// Reads tagged JSON from anywhere. A secret in it is refused.
pub fn parse_tagged(text: &str, big: Big) -> Result<Value, Fail> {
    without_secrets(untag(&json_text::read(text, big)?, 0)?)
}

/// Returns a value that a text from outside has, unless it names a secret: whoever wrote the text
/// would choose whose value leaves the process.
fn without_secrets(value: Value) -> Result<Value, Fail> {
    match names_a_secret(&value) {
        true => Err(type_error("tagged JSON can't name a secret")),
        false => Ok(value),
    }
}

/// Writes tagged JSON, which [`parse_tagged`] reads.
pub fn encode_tagged(value: &Value) -> Result<String, Fail> {
    // The limit on the text bounds the search, since a value may share its parts.
    let text = encode(value, Style::Tagged, None)?;
    if names_a_secret(value) {
        return Err(secret::misused("text that could be written as JSON"));
    }
    match depth(&text) > MAX_TAGGED {
        true => Err(fail("limit", "tagged JSON is nested at most 200 deep")),
        false => Ok(text),
    }
}

/// Returns whether a value is or contains a secret, also in the key of an entity.
fn names_a_secret(value: &Value) -> bool {
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match value {
            Value::Entity(entity) if secret::is_of(entity) => return true,
            Value::Entity(entity) => open.push(&entity.key),
            Value::List(list) => open.extend(list.as_slice()),
            Value::Record(record) => open.extend(record.values()),
            _ => {}
        }
    }
    false
}

/// Returns the depth of the brackets of a JSON text.
fn depth(text: &str) -> u32 {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_u32, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The deepest nesting of tagged JSON that is read. Deeper data is read from `$data`.
const MAX_TAGGED: u32 = 200;

/// Returns the value of tagged JSON.
fn untag(value: &Value, depth: u32) -> Result<Value, Fail> {
    if depth > MAX_TAGGED {
        return Err(type_error("data is nested too deeply to be read as JSON"));
    }
    let inner = |value: &Value| untag(value, depth + 1);
    let record = match value {
        Value::List(list) => {
            return Ok(Value::list(list.as_slice().iter().map(inner).collect::<Result<_, _>>()?));
        }
        Value::Record(record) => record,
        other => return Ok(other.clone()),
    };
    let fields = |record: &Record| {
        let mut out = Record::default();
        for (name, value) in record.iter() {
            out.set(name.clone(), inner(value)?);
        }
        Ok(Value::Record(Rc::new(out)))
    };
    if let (Some(Value::Str(name)), Some(key)) = (record.get_str("$entity"), record.get_str("key")) {
        return Ok(Value::Entity(Rc::new(EntityRef { name: name.as_str().into(), key: inner(key)? })));
    }
    match (record.keys().names(), record.values()) {
        ([tag], [Value::Record(inner)]) if &**tag == "$record" => fields(inner),
        ([tag], [tagged]) if tag.starts_with('$') => match scalar(tag, tagged)? {
            Some(scalar) => Ok(scalar),
            None => fields(record),
        },
        _ => fields(record),
    }
}

/// Returns the value of a tag with a text, or `None` if it is not a tag.
fn scalar(tag: &str, tagged: &Value) -> Result<Option<Value>, Fail> {
    let bad = || type_error(format!("`{tag}` has no such value"));
    let text = match tagged {
        Value::Str(text) => text.as_str(),
        _ => "",
    };
    Ok(Some(match tag {
        "$duration" => Value::Duration(duration_text::parse(text).ok_or_else(bad)?),
        "$instant" => {
            let instant: jiff::Timestamp = text.parse().map_err(|_| bad())?;
            Value::Instant(i64::try_from(instant.as_nanosecond()).map_err(|_| bad())?)
        }
        "$float" => Value::float(float_of(text).ok_or_else(bad)?),
        "$bytes" => Value::bytes(BASE64.decode(text).map_err(|_| bad())?),
        "$record" => return Err(bad()),
        _ => return Ok(None),
    }))
}

/// Returns the text of a float without a JSON form. NaNs keep their bits, since histories are
/// compared by their bytes.
fn tagged_float(x: f64) -> String {
    let bits = x.to_bits();
    if !x.is_nan() || bits == f64::NAN.to_bits() {
        x.to_string()
    } else if bits == (-f64::NAN).to_bits() {
        "-NaN".into()
    } else {
        format!("NaN:{bits:016x}")
    }
}

/// Returns the float of such a text.
fn float_of(text: &str) -> Option<f64> {
    if text == "-NaN" {
        return Some(-f64::NAN);
    }
    match text.strip_prefix("NaN:") {
        Some(bits) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits).filter(|x| x.is_nan()),
        None => text.parse().ok(),
    }
}
