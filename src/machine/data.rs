//! Data as bytes: the form in which values cross between instances and are kept in the journal.
//!
//! The form is flat: each value is a tag and a payload, and a container says how many values
//! follow. So encoding and decoding need no recursion at any depth. Integers are LEB128 varints,
//! and signed ones are zigzag-coded.

use std::rc::Rc;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::internal::sure;

use super::MAX_TEXT;
use super::value::{EntityRef, Fail, List, Name, Record, Shapes, Value, fail, intern};

/// An encoded value.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Data(pub Vec<u8>);

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// Reads the bytes as one piece. One by one, they would take most of the time of reading a history.
impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Data, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Data;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Data, E> {
                Ok(Data(bytes.to_vec()))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Data, E> {
                Ok(Data(bytes))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", super::format::brief(&self.decode()))
    }
}

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const DURATION: u8 = 5;
const INSTANT: u8 = 6;
const STR: u8 = 7;
const LIST: u8 = 8;
const RECORD: u8 = 9;
const BYTES: u8 = 10;
const ENTITY: u8 = 11;

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn signed(out: &mut Vec<u8>, n: i64) {
    varint(out, ((n << 1) ^ (n >> 63)) as u64);
}

/// A container that is being written, with its remaining values.
enum Open<'a> {
    List(std::slice::Iter<'a, Value>, usize),
    Record(Box<dyn Iterator<Item = (&'a Name, &'a Value)> + 'a>, &'a Name),
    Entity,
}

impl Data {
    /// Returns the encoding of null.
    pub fn null() -> Data {
        Data(vec![NULL])
    }

    pub fn is_null(&self) -> bool {
        self.0 == [NULL]
    }

    /// Returns whether the data is a float or has parts. Such data can be equal although the bytes
    /// differ.
    pub fn is_container_or_float(&self) -> bool {
        matches!(self.0.first(), Some(&(FLOAT | LIST | RECORD | ENTITY)))
    }

    /// Returns the elements of a list, such as the arguments of a request. Other data has none.
    pub fn items(&self) -> Vec<Value> {
        match self.decode() {
            Value::List(list) => list.as_slice().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Encodes a value. A function or a task in it is an error, which names the path to it.
    pub fn encode(value: &Value) -> Result<Data, Fail> {
        Data::encode_named(value, "value")
    }

    /// Encodes a small value without functions, which can't fail.
    pub fn of(value: &Value) -> Data {
        sure(Data::encode(value).map_err(|fail| super::format::title(&fail.value)), "a small value is data")
    }

    /// As `encode`. `name` is the name of the value in errors.
    pub fn encode_named(value: &Value, name: &str) -> Result<Data, Fail> {
        let mut out = Vec::new();
        let mut open: Vec<Open<'_>> = Vec::new();
        let mut next = Some(value);
        loop {
            if let Some(value) = next.take() {
                if out.len() > MAX_TEXT {
                    return Err(fail("limit", "data larger than 256 MiB can't be sent or stored"));
                }
                match value {
                    Value::Null => out.push(NULL),
                    Value::Bool(b) => out.push(if b.get() { TRUE } else { FALSE }),
                    Value::Int(n) => {
                        out.push(INT);
                        signed(&mut out, *n);
                    }
                    Value::Float(x) => {
                        out.push(FLOAT);
                        out.extend(x.get().to_bits().to_le_bytes());
                    }
                    Value::Duration(n) => {
                        out.push(DURATION);
                        signed(&mut out, *n);
                    }
                    Value::Instant(n) => {
                        out.push(INSTANT);
                        signed(&mut out, *n);
                    }
                    Value::Str(text) => {
                        out.push(STR);
                        varint(&mut out, text.as_str().len() as u64);
                        out.extend(text.as_str().as_bytes());
                    }
                    Value::Bytes(blob) => {
                        out.push(BYTES);
                        varint(&mut out, blob.bytes.len() as u64);
                        out.extend(&blob.bytes);
                    }
                    Value::List(list) => {
                        out.push(LIST);
                        varint(&mut out, list.len() as u64);
                        open.push(Open::List(list.as_slice().iter(), 0));
                    }
                    Value::Record(record) => {
                        out.push(RECORD);
                        varint(&mut out, record.len() as u64);
                        if let Some(first) = record.keys().names().first() {
                            open.push(Open::Record(Box::new(record.iter()), first));
                        }
                    }
                    Value::Entity(entity) => {
                        out.push(ENTITY);
                        varint(&mut out, entity.name.len() as u64);
                        out.extend(entity.name.as_bytes());
                        open.push(Open::Entity);
                        next = Some(&entity.key);
                        continue;
                    }
                    other => {
                        let path = path(name, &open);
                        return Err(fail(
                            "type_error",
                            format!("{path} is {}: only data can be sent or stored", other.a_kind()),
                        ));
                    }
                }
            }
            match open.last_mut() {
                None => return Ok(Data(out)),
                Some(Open::Entity) => {
                    open.pop();
                }
                Some(Open::List(items, index)) => match items.next() {
                    Some(item) => {
                        *index += 1;
                        next = Some(item);
                    }
                    None => {
                        open.pop();
                    }
                },
                Some(Open::Record(fields, current)) => match fields.next() {
                    Some((name, value)) => {
                        *current = name;
                        varint(&mut out, name.len() as u64);
                        out.extend(name.as_bytes());
                        next = Some(value);
                    }
                    None => {
                        open.pop();
                    }
                },
            }
        }
    }

    /// Returns the value, or null if the bytes are not an encoding.
    pub fn decode(&self) -> Value {
        self.try_decode().unwrap_or(Value::Null)
    }

    /// Returns the value, or `None` if the bytes are not an encoding.
    pub fn try_decode(&self) -> Option<Value> {
        let mut reader = Reader { bytes: &self.0 };
        let mut open: Vec<Building> = Vec::new();
        let mut shapes = Shapes::default();
        loop {
            let mut done = match reader.byte()? {
                NULL => Value::Null,
                FALSE => Value::bool(false),
                TRUE => Value::bool(true),
                INT => Value::Int(reader.signed()?),
                FLOAT => Value::float(f64::from_bits(u64::from_le_bytes(reader.take(8)?.try_into().ok()?))),
                DURATION => Value::Duration(reader.signed()?),
                INSTANT => Value::Instant(reader.signed()?),
                STR => Value::text(reader.text()?),
                BYTES => {
                    let len = reader.len()?;
                    Value::bytes(reader.take(len)?.to_vec())
                }
                LIST => match reader.len()? {
                    0 => Value::list(Vec::new()),
                    len => {
                        // Nested lists can each claim all remaining bytes, so deeper ones reserve a
                        // smaller part at first.
                        let most = reader.bytes.len() / (open.len() + 1);
                        open.push(Building::List(Vec::with_capacity(len.min(most)), len));
                        continue;
                    }
                },
                RECORD => match reader.len()? {
                    0 => Value::Record(Rc::new(Record::default())),
                    len => {
                        let name = intern(reader.text()?);
                        open.push(Building::Record(name, shapes.begin(), len));
                        continue;
                    }
                },
                ENTITY => {
                    open.push(Building::Entity(reader.text()?.into()));
                    continue;
                }
                _ => return None,
            };
            // A finished value goes into the innermost open container, which can be finished by it.
            loop {
                match open.pop() {
                    None => return reader.bytes.is_empty().then_some(done),
                    Some(Building::Entity(name)) => {
                        done = Value::Entity(Rc::new(EntityRef { name, key: done }))
                    }
                    Some(Building::List(mut items, len)) => {
                        items.push(done);
                        if items.len() < len {
                            open.push(Building::List(items, len));
                            break;
                        }
                        done = Value::List(List::new(items));
                    }
                    Some(Building::Record(name, from, missing)) => {
                        shapes.field(name, done);
                        if missing > 1 {
                            let name = intern(reader.text()?);
                            open.push(Building::Record(name, from, missing - 1));
                            break;
                        }
                        done = Value::Record(Rc::new(shapes.end(from)));
                    }
                }
            }
        }
    }
}

enum Building {
    List(Vec<Value>, usize),
    /// The name of the value that is being read, the place of the record's first field, and the
    /// number of missing fields.
    Record(Name, usize, usize),
    Entity(Rc<str>),
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift > 63 || (shift == 63 && byte > 1) {
                return None;
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n);
            }
            shift += 7;
        }
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let n = self.varint()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = self.len()?;
        std::str::from_utf8(self.take(len)?).ok()
    }
}

/// Returns the path to the value that is being written, such as `args[0].on_done`.
fn path(name: &str, open: &[Open<'_>]) -> String {
    let mut path = name.to_string();
    for (depth, step) in open.iter().enumerate() {
        if depth >= 20 {
            path.push('…');
            break;
        }
        match step {
            Open::List(_, index) => path.push_str(&format!("[{}]", index - 1)),
            Open::Record(_, name) => path.push_str(&format!(".{name}")),
            Open::Entity => path.push_str(".key"),
        }
    }
    path
}
