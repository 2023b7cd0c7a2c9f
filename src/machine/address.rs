//! Names of those who are sent to: entities by name and key, instances by id.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Data;
use super::compare::whole;
use super::error::{Fail, fail, type_error};
use super::format;
use super::value::{EntityRef, Record, Value};
use super::{json, secret};

/// Instance ids are at most this long, in bytes.
pub const MAX_ID: usize = 200;
/// An entity's key is at most this long, in encoded bytes.
pub const MAX_KEY: usize = 1000;

/// An entity. The order is that in which critical sections acquire: by name, then by the bytes of the key.
///
/// Its key is canonical: keys that are equal have the same bytes. The fields of records are sorted by name, floats that are
/// equal to an int are that int. An `EntityId` is made by [`EntityId::new`], or read by [`EntityId::stored`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct EntityId {
    pub name: String,
    pub key: Data,
}

/// An entity as it was written, perhaps by a version whose keys were not canonical.
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
    /// The entity of a name with that key. A key that is not data, or too long, is an error.
    pub fn new(name: &str, key: &Value) -> Result<EntityId, Fail> {
        if name == secret::MASK {
            return Err(secret::misused("operations"));
        }
        let written = Data::encode_named(key, "the key")?;
        let key = match is_canonical(&written) {
            true => written,
            // The canonical form of a float takes a byte in place of nine, at best.
            false if written.0.len() > 9 * MAX_KEY => return Err(too_long()),
            false => Data::encode(&canonical(key, 0)?)?,
        };
        if key.0.len() > MAX_KEY {
            return Err(too_long());
        }
        Ok(EntityId { name: name.into(), key })
    }

    /// The entity of a reference.
    pub fn of(entity: &EntityRef) -> Result<EntityId, Fail> {
        EntityId::new(&entity.name, &entity.key)
    }

    /// An entity as it is in a store. A key of which there is no canonical form stays as it is.
    pub fn stored(name: String, key: Data) -> EntityId {
        match is_canonical(&key) {
            true => EntityId { name, key },
            false => EntityId::new(&name, &key.decode()).unwrap_or(EntityId { name, key }),
        }
    }

    /// The reference.
    pub fn value(&self) -> Value {
        Value::Entity(Rc::new(EntityRef { name: self.name.as_str().into(), key: self.key.decode() }))
    }

    /// Reads `Account@alice`: what is written for an entity. A key that reads as JSON is that value, with the tags of data that
    /// JSON does not have, and any other is a string. None when it is not a name, `@` and a key.
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

/// Whether data is of a kind that has only one form.
fn is_canonical(key: &Data) -> bool {
    !key.is_container_or_float()
}

/// The value in the one form that all values have which are equal to it.
fn canonical(value: &Value, depth: usize) -> Result<Value, Fail> {
    // Each level takes two bytes.
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

/// `Account@alice`: what [`EntityId::parse`] reads. A key that is a string is written as it is where that is read as the same
/// again, and else, like every other key, as JSON.
impl std::fmt::Display for EntityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key.decode() {
            Value::Str(key) if is_plain(key.as_str()) => write!(f, "{}@{}", self.name, key.as_str()),
            _ => {
                write!(f, "{}@", self.name)?;
                // They are parts of strings, where each can be written by its number.
                json::from_data(&self.key).chars().try_for_each(|c| match is_unseen(c) {
                    true => write!(f, "\\u{:04x}", c as u32),
                    false => write!(f, "{c}"),
                })
            }
        }
    }
}

/// Whether a character breaks a line, changes the direction of what follows, or can't be seen at all.
fn is_unseen(c: char) -> bool {
    let format = ['\u{ad}', '\u{200b}', '\u{200e}', '\u{200f}', '\u{feff}'];
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}') || format.contains(&c)
}

/// Whether a text can be written without quotes: it is read as itself, and can be seen.
fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key == key.trim()
        && !key.chars().any(is_unseen)
        && matches!(json::word(key), Ok(Value::Str(read)) if read.as_str() == key)
}

/// Why an id can't be one, if so: ids are 1 to 200 bytes of printable text without spaces.
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

/// The id of the instance that a handle names: a record with an `id`, or the id itself.
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

/// The id of an instance that is called or started, if it gets none by an option: that of who does it, and the number of
/// the request.
pub fn child_id(parent: &str, number: u64) -> String {
    automatic_id(parent, &number.to_string())
}

/// The id of a child of an instance that has begun anew so many times.
pub fn later_child_id(parent: &str, execution: u32, number: u64) -> String {
    automatic_id(parent, &format!("{execution}.{number}"))
}

/// The id of an instance that an activity or an operation starts: the key of its step, and the number of the start.
pub fn started_id(key: &str, number: u64) -> String {
    automatic_id(key, &format!("s{number}"))
}

/// No id that can be chosen has this form, nor has one of another request. Ids that become too long begin anew with a
/// digest of what they were.
fn automatic_id(parent: &str, last: &str) -> String {
    let id = format!("{parent}:{last}");
    if id.len() <= MAX_ID - 40 {
        return id;
    }
    let head: String = parent.chars().take(HEAD).collect();
    format!("{head}~{:016x}:{last}", xxhash_rust::xxh3::xxh3_64(parent.as_bytes()))
}

/// Automatic ids begin with so many characters of the id of who calls or starts.
pub const HEAD: usize = 40;
