//! Addresses of messages: entities by name and key, instances by id.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Data;
use super::compare::whole;
use super::error::{Fail, fail, type_error};
use super::format;
use super::value::{EntityRef, Record, Value};
use super::{json, secret};

/// The limit on the length of an instance's id, in bytes.
pub const MAX_ID: usize = 200;
/// The limit on the length of an entity's key, in encoded bytes.
pub const MAX_KEY: usize = 1000;

/// The name and key of an entity. Critical sections acquire entities in this order: by name, then
/// by the bytes of the key.
///
/// The key is canonical: equal keys have the same bytes. The fields of records are sorted by name,
/// and a float that is equal to an int is that int. [`EntityId::new`] makes an `EntityId`, and
/// [`EntityId::stored`] reads one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct EntityId {
    pub name: String,
    pub key: Data,
}

/// An entity as it was stored, perhaps by a version whose keys were not canonical.
#[derive(Deserialize)]
struct Stored {
    name: String,
    key: Data,
}

impl From<Stored> for EntityId {
    fn from(Stored { name, key }: Stored) -> EntityId {
        EntityId::stored(name, key)
    }
}

impl EntityId {
    /// Makes the id of an entity. Fails if the key is not data or too long, or the name is that of
    /// secrets.
    pub fn new(name: &str, key: &Value) -> Result<EntityId, Fail> {
        if name == secret::MASK {
            return Err(secret::misused("operations"));
        }
        let written = Data::encode_named(key, "the key")?;
        let key = match is_canonical(&written) {
            true => written,
            // A canonical form is at least a ninth as long: a float of nine bytes can become a
            // short int.
            false if written.0.len() > 9 * MAX_KEY => return Err(too_long()),
            false => Data::encode(&canonical(key, 0)?)?,
        };
        if key.0.len() > MAX_KEY {
            return Err(too_long());
        }
        Ok(EntityId { name: name.into(), key })
    }

    /// Returns the id of the entity that a reference names.
    pub fn of(entity: &EntityRef) -> Result<EntityId, Fail> {
        EntityId::new(&entity.name, &entity.key)
    }

    /// Makes the id of an entity in a store. A key without a canonical form stays as it is.
    pub fn stored(name: String, key: Data) -> EntityId {
        match is_canonical(&key) {
            true => EntityId { name, key },
            false => EntityId::new(&name, &key.decode()).unwrap_or(EntityId { name, key }),
        }
    }

    /// Returns a reference to the entity.
    pub fn value(&self) -> Value {
        Value::Entity(Rc::new(EntityRef { name: self.name.as_str().into(), key: self.key.decode() }))
    }

    /// Reads the text form of an entity, such as `Account@alice`. A key that is JSON is that value,
    /// with tags for data that JSON lacks. Any other key is a string. Returns `None` if the text is
    /// not a name, `@` and a key.
    pub fn parse(text: &str) -> Option<Result<EntityId, Fail>> {
        let (name, key) = text.split_once('@')?;
        if name.is_empty() {
            return None;
        }
        let key = match json::word(key) {
            Ok(Value::Str(text)) if text.as_str() == key => Ok(Value::Str(text)),
            Ok(_) => json::to_data(key).map(|data| data.decode()),
            Err(failure) => Err(failure),
        };
        Some(key.and_then(|key| EntityId::new(name, &key)))
    }
}

fn too_long() -> Fail {
    fail("limit", format!("an entity's key has at most {MAX_KEY} bytes"))
}

/// Returns whether the data is of a kind with only one encoding.
fn is_canonical(key: &Data) -> bool {
    !key.is_container_or_float()
}

/// Returns the canonical form of a value, which is the same for all equal values.
fn canonical(value: &Value, depth: usize) -> Result<Value, Fail> {
    // Each level of nesting takes two bytes.
    if depth > MAX_KEY / 2 {
        return Err(too_long());
    }
    Ok(match value {
        Value::Float(x) if x.get().is_nan() => {
            return Err(type_error("a float that is not a number can't be in a key: it is equal to nothing"));
        }
        Value::Float(x) => whole(x.get()).map_or(value.clone(), Value::Int),
        Value::List(list) => {
            let items = list.as_slice().iter().map(|item| canonical(item, depth + 1));
            Value::list(items.collect::<Result<_, _>>()?)
        }
        Value::Record(record) => {
            let mut fields: Vec<_> = record.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            let mut sorted = Record::default();
            for (name, value) in fields {
                sorted.add(name.clone(), canonical(value, depth + 1)?);
            }
            Value::Record(Rc::new(sorted))
        }
        Value::Entity(entity) => {
            let key = canonical(&entity.key, depth + 1)?;
            Value::Entity(Rc::new(EntityRef { name: entity.name.clone(), key }))
        }
        other => other.clone(),
    })
}

/// `Account@alice`: the form that [`EntityId::parse`] reads. A string key is written as it is if it
/// reads back as the same string. Any other key is written as JSON.
impl std::fmt::Display for EntityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key.decode() {
            Value::Str(key) if is_plain(key.as_str()) => write!(f, "{}@{}", self.name, key.as_str()),
            _ => {
                write!(f, "{}@", self.name)?;
                // Such characters occur only within strings, where JSON allows escapes.
                json::from_data(&self.key).chars().try_for_each(|c| match is_unseen(c) {
                    true => write!(f, "\\u{:04x}", c as u32),
                    false => write!(f, "{c}"),
                })
            }
        }
    }
}

/// Returns whether a character breaks a line, changes the direction of text, or is invisible.
fn is_unseen(c: char) -> bool {
    let format = ['\u{ad}', '\u{200b}', '\u{200e}', '\u{200f}', '\u{feff}'];
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}') || format.contains(&c)
}

/// Returns whether a text can be written without quotes: it is visible, and reads back as itself.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key == key.trim()
        && !key.chars().any(is_unseen)
        && matches!(json::word(key), Ok(Value::Str(read)) if read.as_str() == key)
}

/// Returns the reason why a text can't be an id, if there is one. An id is 1 to 200 bytes of
/// printable text without spaces.
pub fn bad_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("an id has at least one character")
    } else if id.len() > MAX_ID {
        Some("an id has at most 200 bytes")
    } else if id.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("an id has no spaces and no control characters")
    } else {
        None
    }
}

/// Returns the id of the instance that a handle names. A handle is a record with an `id`, or the id
/// itself.
pub(super) fn handle(value: &Value, of: &str) -> Result<String, Fail> {
    let id = match value {
        Value::Str(id) => Some(id.clone()),
        Value::Record(record) => match record.get_str("id") {
            Some(Value::Str(id)) => Some(id.clone()),
            _ => None,
        },
        _ => None,
    };
    match id {
        Some(id) if bad_id(id.as_str()).is_none() => Ok(id.as_str().to_string()),
        _ => Err(fail(
            "type_error",
            format!("`{of}` takes the handle of an instance or its id, not {}", format::brief(value)),
        )),
    }
}

/// Returns the automatic id of an instance that is called or started without an `id` option. The id
/// consists of the caller's id and the number of the request.
pub fn child_id(parent: &str, number: u64) -> String {
    automatic_id(parent, &number.to_string())
}

/// Returns the automatic id of a child of an instance that has continued as new `execution` times.
pub fn later_child_id(parent: &str, execution: u32, number: u64) -> String {
    automatic_id(parent, &format!("{execution}.{number}"))
}

/// Returns the automatic id of an instance that an activity or an operation starts. The id consists
/// of the idempotency key of the activity or operation, and the number of the start.
pub fn started_id(key: &str, number: u64) -> String {
    automatic_id(key, &format!("s{number}"))
}

/// Returns an automatic id. No chosen id has this form, and no two requests get the same one. In an
/// id that would be too long, a digest takes the place of most of `parent`.
fn automatic_id(parent: &str, last: &str) -> String {
    let id = format!("{parent}:{last}");
    if id.len() <= MAX_ID - 40 {
        return id;
    }
    let head: String = parent.chars().take(HEAD).collect();
    format!("{head}~{:016x}:{last}", xxhash_rust::xxh3::xxh3_64(parent.as_bytes()))
}

/// The number of characters of the id of the calling or starting instance with which every
/// automatic id begins.
pub const HEAD: usize = 40;
