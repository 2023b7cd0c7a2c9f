//! Hashes of values: equal values have the same hash.

use std::rc::Rc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::compare::{equal, holds_function, whole};
use super::error::Fail;
use super::value::Value;

/// The limits on the number and the depth of the parts that enter a hash.
const PARTS: usize = 1 << 16;
const DEPTH: u32 = 64;

/// Returns the hash of a value.
pub fn hash(value: &Value) -> u64 {
    hash_of(value, PARTS, DEPTH)
}

fn hash_of(value: &Value, parts: usize, depth: u32) -> u64 {
    match value {
        Value::Int(n) => mixed(1, *n as u64),
        // 1 and 1.0 are equal, so they have the same hash.
        Value::Float(x) => match whole(x.get()) {
            Some(n) => mixed(1, n as u64),
            None => mixed(2, x.get().to_bits()),
        },
        Value::Str(text) => mixed(3, xxh3_64(text.as_str().as_bytes())),
        Value::Null => mixed(4, 0),
        Value::Bool(b) => mixed(5, u64::from(b.get())),
        Value::Duration(n) => mixed(6, *n as u64),
        Value::Instant(n) => mixed(7, *n as u64),
        Value::Bytes(blob) => mixed(8, xxh3_64(&blob.bytes)),
        Value::Task(task) => mixed(9, Rc::as_ptr(task) as usize as u64),
        Value::Entity(entity) => {
            let name = xxh3_64(entity.name.as_bytes());
            mixed(name, within(&entity.key, 1, parts, depth))
        }
        Value::List(list) => {
            let items = list.as_slice().iter().take(parts);
            let each = |hash, item| mixed(hash, within(item, list.len(), parts, depth));
            items.fold(mixed(10, list.len() as u64), each)
        }
        // The sum makes the hash independent of the order of fields.
        Value::Record(record) => {
            let field = |(name, value): (&Rc<str>, &Value)| {
                mixed(xxh3_64(name.as_bytes()), within(value, record.len(), parts, depth))
            };
            let sum = match record.len() <= parts {
                true => record.iter().map(field).fold(0, u64::wrapping_add),
                false => 0,
            };
            mixed(mixed(11, record.len() as u64), sum)
        }
        _ => mixed(12, 0),
    }
}

/// Returns the hash of one of `count` parts, which divide the budget of `parts` among them.
fn within(part: &Value, count: usize, parts: usize, depth: u32) -> u64 {
    match depth {
        0 => 0,
        _ => hash_of(part, parts / count.max(1), depth - 1),
    }
}

fn mixed(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    (product >> 64) as u64 ^ product as u64 ^ b.rotate_left(32)
}

/// A set of values that differ by `==`.
#[derive(Default)]
pub struct Distinct {
    /// The values in the order in which they were added.
    pub values: Vec<Value>,
    places: HashTable<(u64, usize)>,
    /// The places of values that contain functions. They are compared one by one, since a
    /// comparison with them can be an error.
    with_functions: Vec<usize>,
}

impl Distinct {
    /// Adds a value unless the set has an equal one.
    pub fn add(&mut self, value: &Value) -> Result<(), Fail> {
        let at = self.values.len();
        if holds_function(value) {
            for at in &self.with_functions {
                if equal(&self.values[*at], value)? {
                    return Ok(());
                }
            }
            self.with_functions.push(at);
            self.values.push(value.clone());
            return Ok(());
        }
        let hash = hash(value);
        let values = &self.values;
        let mut failure = None;
        let same = |(known, at): &(u64, usize)| {
            *known == hash
                && equal(&values[*at], value).unwrap_or_else(|error| {
                    failure.get_or_insert(error);
                    true
                })
        };
        let known = self.places.find(hash, same).is_some();
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !known {
            self.places.insert_unique(hash, (hash, at), |(hash, _)| *hash);
            self.values.push(value.clone());
        }
        Ok(())
    }
}
