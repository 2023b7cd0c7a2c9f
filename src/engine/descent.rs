//! Trees of instances, in pages: an instance with everything that it called or started under
//! automatic ids.
//!
//! A purge reads a whole [`Tree`](super::Tree) from the root down. A page has only a part of the
//! instances, so this module follows each instance up to the root, by the same rule.

use std::collections::HashMap;

use crate::kv::Read;
use crate::machine::HEAD;

use super::address::LifeId;
use super::keys;
use super::page::{Cursor, PAGE_BYTES, Page, Paging, SCANNED};
use super::purge::{candidates, is_earlier_child};
use super::read_error::ReadError;
use super::reads::{decode_record, read_record};
use super::record::InstanceRecord;

/// Returns the tree of an instance, in the order of the ids; `None` if there is no such instance.
pub fn tree(store: &dyn Read, id: &str, paging: &Paging) -> Result<Option<Page<InstanceRecord>>, ReadError> {
    let Some(root) = read_record(store, id)? else { return Ok(None) };
    // Automatic ids begin with the first characters of the root's id.
    let head: String = id.chars().take(HEAD).collect();
    let prefix = keys::instance(&head);
    let mut page = Page { items: Vec::new(), next: None };
    let (mut scanned, mut bytes, mut result) = (0, 0, Ok(()));
    store.scan_from(&prefix, paging.begin(&prefix), &mut |key, value| {
        if page.items.len() == paging.limit() || scanned == SCANNED || bytes > PAGE_BYTES {
            page.next = Some(Cursor(key.to_vec()));
            return false;
        }
        scanned += 1;
        let own = String::from_utf8_lossy(&key[keys::INSTANCES.len()..]);
        // A chosen id has no `:`.
        if own == id || own.contains(':') {
            match decode_record(value, &own) {
                Ok(record) => {
                    bytes += value.len();
                    page.items.push(record);
                }
                Err(error) => result = Err(error),
            }
        }
        result.is_ok()
    })?;
    result?;
    let mut descent = Descent { store, root: &root, known: HashMap::new(), earlier: None };
    let mut items = Vec::new();
    for mut record in std::mem::take(&mut page.items) {
        if descent.has(&record)? {
            record.owner = descent.owner_of(&record)?;
            items.push(record);
        }
    }
    page.items = items;
    Ok(Some(page))
}

/// The instances of a tree, as far as they are known.
struct Descent<'a> {
    store: &'a dyn Read,
    root: &'a InstanceRecord,
    /// Whether an instance is in the tree.
    known: HashMap<LifeId, bool>,
    /// The instances from before lives were counted that may be in the tree.
    earlier: Option<Vec<InstanceRecord>>,
}

impl Descent<'_> {
    /// Whether an instance is in the tree.
    fn has(&mut self, record: &InstanceRecord) -> Result<bool, ReadError> {
        let mut path: Vec<LifeId> = Vec::new();
        let mut at = Some(record.clone());
        let mut is_in = false;
        while let Some(record) = at {
            let of = record.life_id();
            if of == self.root.life_id() {
                is_in = true;
                break;
            }
            if let Some(known) = self.known.get(&of) {
                is_in = *known;
                break;
            }
            // In a damaged store an instance may own itself.
            if path.contains(&of) {
                break;
            }
            path.push(of);
            at = self.owner(&record)?;
        }
        self.known.extend(path.into_iter().map(|of| (of, is_in)));
        Ok(is_in)
    }

    /// Returns the instance that called or started another under its automatic id, if it is still
    /// there.
    fn owner(&mut self, record: &InstanceRecord) -> Result<Option<InstanceRecord>, ReadError> {
        let Some(owner) = self.owner_of(record)? else { return Ok(None) };
        Ok(read_record(self.store, &owner.id)?.filter(|found| found.life == owner.life))
    }

    /// Returns the id and the life of that instance. Instances from before owners were noted are
    /// known by the form of their ids.
    fn owner_of(&mut self, record: &InstanceRecord) -> Result<Option<LifeId>, ReadError> {
        if record.owner.is_some() || record.life > 0 || !record.id.contains(':') {
            return Ok(record.owner.clone());
        }
        if self.earlier.is_none() {
            let mut earlier = candidates(self.store, &self.root.id)?;
            earlier.push(self.root.clone());
            earlier.retain(|record| record.life == 0);
            self.earlier = Some(earlier);
        }
        let mut earlier = self.earlier.iter().flatten();
        let owner = earlier.find(|owner| owner.root == record.root && is_earlier_child(&record.id, owner));
        Ok(owner.map(InstanceRecord::life_id))
    }
}
