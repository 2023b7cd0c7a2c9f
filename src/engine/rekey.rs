//! The move of entities to canonical keys. In earlier versions `E(1)` and `E(1.0)` were two
//! entities, though their keys are equal.
//!
//! In a store of such a version, entities lie under keys that are never read. They are moved once,
//! when the store is opened.

use std::collections::{BTreeMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::kv::{Batch, Read, StoreError, Visit, first_of, overlay};
use crate::machine::{Data, EntityId, Value, format};

use super::keys;
use super::read_error::ReadError;

/// Returns the writes that move all contents of entities to canonical keys and note that this is
/// done. `None` if it was done before, or if there are no entities.
pub(super) fn rekeying(store: &dyn Read) -> Result<Option<Batch>, ReadError> {
    if store.get(keys::CANONICAL)?.is_some() {
        return Ok(None);
    }
    let states = store.all(keys::ENTITIES)?;
    let mut others = store.all(keys::LOCKS)?;
    others.extend(store.all(keys::ENTITY_MAIL)?);
    if states.is_empty() && others.is_empty() {
        return Ok(None);
    }
    let mut batch = Batch::default();
    let mut taken: HashSet<Vec<u8>> = HashSet::new();
    let mut moved = Vec::new();
    for (key, value) in states.into_iter().chain(others) {
        match now(&key) {
            Some(to) if to != key => moved.push((key, to, value)),
            _ => {
                taken.insert(key);
            }
        }
    }
    for (from, to, value) in moved {
        // If two states belong to one entity now, the second one stays under a name of its own.
        let to = match keys::parse_entity_key(&to) {
            Some(entity) if taken.contains(&to) && from.starts_with(keys::ENTITIES) => {
                keys::entity(&set_aside(&entity, &from))
            }
            _ => to,
        };
        if taken.insert(to.clone()) {
            batch.put(to, value);
        }
        batch.delete(from);
    }
    batch.put(keys::CANONICAL.to_vec(), vec![1]);
    Ok(Some(batch))
}

/// A store as it will be after the move.
pub(super) struct Moved<'a> {
    store: &'a dyn Read,
    moves: BTreeMap<&'a [u8], Option<&'a [u8]>>,
}

impl<'a> Moved<'a> {
    pub fn new(store: &'a dyn Read, moves: &'a Batch) -> Moved<'a> {
        let moves = moves.writes.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        Moved { store, moves: moves.collect() }
    }
}

impl Read for Moved<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.moves.get(key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.store.get(key),
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let above = self.moves.range(first_of(prefix, from)..).map(|(key, value)| (*key, *value));
        let above = above.take_while(|(key, _)| key.starts_with(prefix));
        overlay(above, |visit| self.store.scan_from(prefix, from, visit), visit)
    }
}

/// Returns the canonical key for the contents of a key.
fn now(key: &[u8]) -> Option<Vec<u8>> {
    if key.starts_with(keys::ENTITY_MAIL) {
        let (to, number) = keys::parse_mail(key)?;
        return Some(keys::mail(&to, number));
    }
    let entity = keys::parse_entity_key(key)?;
    match key.starts_with(keys::LOCKS) {
        true => Some(keys::lock(&entity)),
        false => Some(keys::entity(&entity)),
    }
}

/// Returns the entity under which a second state is kept. Its key holds the canonical key and the
/// original spelling, or a hash if these take too much room.
fn set_aside(entity: &EntityId, from: &[u8]) -> EntityId {
    let from = &from[keys::entities(&entity.name).len()..];
    let own = Data(from.to_vec()).decode();
    let written = format::write(&own, 500).0;
    let name = |of: Value, written: String| {
        EntityId::new(&entity.name, &Value::record([("equals", of), ("written", Value::str(written))]))
    };
    let short = || name(Value::Null, format!("{:016x}", xxh3_64(from)));
    name(entity.key.decode(), written).or_else(|_| short()).unwrap_or_else(|_| entity.clone())
}
