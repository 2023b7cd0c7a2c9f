//! Quotas: limits on the resources of one root's tree, so that no root takes everything from the
//! others.
//!
//! A root is an instance that no other instance began. The instances that it calls and starts, all
//! the way down, count for it. Only what this process has seen is counted.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::machine::{ErrorData, Value};

/// The limits of one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// The number of instances under way.
    pub instances: usize,
    /// The number of bytes of history that are written in the life of one process.
    pub bytes: u64,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas { instances: 100_000, bytes: 64 << 30 }
    }
}

/// The resources that each root uses.
#[derive(Default)]
pub(super) struct Uses {
    of: HashMap<Arc<str>, Use>,
    /// The root of each instance under way.
    roots: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Default)]
struct Use {
    instances: usize,
    bytes: u64,
}

impl Uses {
    /// Notes that an instance is under way, and returns its root.
    pub fn enter(&mut self, id: &Arc<str>, root: &str) -> Arc<str> {
        let root = match self.of.get_key_value(root) {
            Some((known, _)) => known.clone(),
            None => Arc::from(root),
        };
        if self.roots.insert(id.clone(), root.clone()).is_none() {
            self.of.entry(root.clone()).or_default().instances += 1;
        }
        root
    }

    /// Notes that an instance is no longer under way.
    pub fn leave(&mut self, id: &str) {
        let Some(root) = self.roots.remove(id) else { return };
        if let Some(known) = self.of.get_mut(&root) {
            known.instances -= 1;
            if known.instances == 0 {
                self.of.remove(&root);
            }
        }
    }

    /// Returns the root of an instance under way.
    pub fn root(&self, id: &str) -> Option<&Arc<str>> {
        self.roots.get(id)
    }

    pub fn is_under_way(&self, id: &str) -> bool {
        self.roots.contains_key(id)
    }

    /// Returns the instances under way.
    pub fn under_way(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roots.keys()
    }

    /// Returns the error if a root may begin no more instances.
    pub fn refusal(&self, root: &str, quotas: &Quotas) -> Option<ErrorData> {
        let instances = self.of.get(root)?.instances;
        (instances >= quotas.instances).then(|| {
            let message = format!(
                "`{root}` and what it began have {instances} instances under way: no more begin before some have ended"
            );
            ErrorData::with("limit", message, [("root", Value::str(root))])
        })
    }

    /// Adds to the bytes written of the histories of a root's tree, and returns whether the root is
    /// over its limit.
    pub fn writes(&mut self, root: &str, bytes: u64, quotas: &Quotas) -> bool {
        let Some(known) = self.of.get_mut(root) else { return false };
        known.bytes += bytes;
        known.bytes > quotas.bytes
    }
}
