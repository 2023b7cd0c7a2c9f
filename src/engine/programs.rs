//! The programs that the engine knows: those that are ready to run, and those in the store.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::code::ProgramHash;
use crate::kv::Batch;
use crate::machine::Image;

use super::keys;
use super::program::program_writes;
use super::reads::Deployed;

/// Programs by their hashes.
///
/// Invariant: a program that is `stored` is in the store, or in the writes that are taken next.
#[derive(Default)]
pub(super) struct Programs {
    images: HashMap<ProgramHash, Rc<Image>>,
    stored: HashSet<ProgramHash>,
    /// The instances that begin once their program is loaded.
    unbegun: HashMap<ProgramHash, Vec<String>>,
    /// The newest programs of entities, to be written.
    deployments: BTreeMap<String, Deployed>,
}

impl Programs {
    pub fn get(&self, hash: ProgramHash) -> Option<&Rc<Image>> {
        self.images.get(&hash)
    }

    /// Adds a program that is ready to run.
    pub fn know(&mut self, image: &Rc<Image>) {
        self.images.entry(image.code.hash).or_insert_with(|| image.clone());
    }

    /// Adds a program as `know` does, but replaces a known one.
    pub fn replace(&mut self, image: &Rc<Image>) {
        self.images.insert(image.code.hash, image.clone());
    }

    /// Notes that the store has a program.
    pub fn is_stored(&mut self, hash: ProgramHash) {
        self.stored.insert(hash);
    }

    /// Writes a program, unless the store has it.
    pub fn store(&mut self, image: &Image, batch: &mut Batch) {
        let hash = image.code.hash;
        if self.stored.insert(hash) {
            program_writes(hash, &image.code.sources, batch);
        }
    }

    /// Removes programs from the store by the writes in `unused`. They are written again when they
    /// are needed.
    pub fn collect(&mut self, unused: Batch, batch: &mut Batch) {
        self.stored.retain(|hash| {
            let key = keys::program(&hash.0);
            !unused.writes.iter().any(|(deleted, _)| *deleted == key)
        });
        batch.writes.extend(unused.writes);
    }

    /// Notes that an entity has a newer program.
    pub fn deploy(&mut self, entity: &str, deployed: Deployed) {
        self.deployments.insert(entity.to_string(), deployed);
    }

    /// Notes that an instance waits for its program.
    pub fn wait_for(&mut self, hash: ProgramHash, id: &Arc<str>) {
        self.unbegun.entry(hash).or_default().push(id.to_string());
    }

    /// Takes the instances that wait for a program, now that it is loaded.
    pub fn take_unbegun(&mut self, hash: ProgramHash) -> Vec<String> {
        self.unbegun.remove(&hash).unwrap_or_default()
    }

    /// Notes that an instance does not wait for its program any more.
    pub fn drop_unbegun(&mut self, id: &str) {
        for unbegun in self.unbegun.values_mut() {
            unbegun.retain(|waiting| *waiting != id);
        }
    }

    /// Whether any instance waits for its program.
    pub fn are_awaited(&self) -> bool {
        !self.unbegun.is_empty()
    }

    pub fn has_writes(&self) -> bool {
        !self.deployments.is_empty()
    }

    pub fn take_writes(&mut self, batch: &mut Batch) {
        for (name, deployed) in std::mem::take(&mut self.deployments) {
            batch.put(keys::deployed(&name), deployed.encode());
        }
    }
}
