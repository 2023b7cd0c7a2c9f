//! Names of those who are sent to: entities by name and key, instances by id.

use serde::{Deserialize, Serialize};

use super::Data;
use super::error::{Fail, fail};
use super::format;
use super::json;
use super::value::{EntityRef, Value};

/// Instance ids are at most this long, in bytes.
pub const MAX_ID: usize = 200;
/// An entity's key is at most this long, in encoded bytes.
pub const MAX_KEY: usize = 1000;

/// An entity. The order is that in which critical sections acquire: by name, then by the bytes of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityId {
    pub name: String,
    pub key: Data,
}

impl EntityId {
    /// Of a reference. A key that is not data, or too long, is an error.
    pub fn of(entity: &EntityRef) -> Result<EntityId, Fail> {
        let key = Data::encode_named(&entity.key, "the key")?;
        if key.0.len() > MAX_KEY {
            return Err(fail("limit", format!("an entity's key has at most {MAX_KEY} bytes")));
        }
        Ok(EntityId { name: entity.name.to_string(), key })
    }

    /// The reference.
    pub fn value(&self) -> Value {
        Value::Entity(std::rc::Rc::new(EntityRef { name: self.name.as_str().into(), key: self.key.decode() }))
    }

    /// Reads `Account@alice`. A key that reads as JSON is that value, any other is a string.
    pub fn parse(text: &str) -> Option<EntityId> {
        let (name, key) = text.split_once('@')?;
        if name.is_empty() {
            return None;
        }
        let value = json::parse(key).unwrap_or_else(|_| Value::str(key));
        let key = Data::encode(&value).ok().filter(|key| key.0.len() <= MAX_KEY)?;
        Some(EntityId { name: name.into(), key })
    }
}

/// `Account@alice`: what [`EntityId::parse`] reads.
impl std::fmt::Display for EntityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key.decode() {
            Value::Str(key) if json::parse(key.as_str()).is_err() => {
                write!(f, "{}@{}", self.name, key.as_str())
            }
            _ => write!(f, "{}@{}", self.name, json::from_data(&self.key)),
        }
    }
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

/// The id of an instance that is started, if it gets none by an option: what starts it and the number of the start.
/// Ids that become too long begin anew with a digest of what they were.
pub fn child_id(parent: &str, number: u64) -> String {
    let id = format!("{parent}:{number}");
    if id.len() <= MAX_ID - 40 {
        return id;
    }
    let head: String = parent.chars().take(40).collect();
    format!("{head}~{:016x}:{number}", xxhash_rust::xxh3::xxh3_64(parent.as_bytes()))
}
