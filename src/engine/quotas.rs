//! What all that one instance has begun may take together, so that none takes everything from the others.
//!
//! An instance that nobody began is a root; whatever it calls and starts, all the way down, counts for it. What is counted is
//! what this process has seen.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::machine::{ErrorData, Value};

/// What one root may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Instances under way.
    pub instances: usize,
    /// Bytes of histories that are written in the life of one process.
    pub bytes: u64,
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas { instances: 100_000, bytes: 64 << 30 }
    }
}

/// What each root has.
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
    /// An instance is under way. Answers its root.
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

    /// An instance is no longer under way.
    pub fn leave(&mut self, id: &str) {
        let Some(root) = self.roots.remove(id) else { return };
        if let Some(known) = self.of.get_mut(&root) {
            known.instances -= 1;
            if known.instances == 0 {
                self.of.remove(&root);
            }
        }
    }

    /// The root of an instance under way.
    pub fn root(&self, id: &str) -> Option<&Arc<str>> {
        self.roots.get(id)
    }

    pub fn is_under_way(&self, id: &str) -> bool {
        self.roots.contains_key(id)
    }

    /// Those that are under way.
    pub fn under_way(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roots.keys()
    }

    /// Why a root may begin no more.
    pub fn refusal(&self, root: &str, quotas: &Quotas) -> Option<ErrorData> {
        let instances = self.of.get(root)?.instances;
        (instances >= quotas.instances).then(|| {
            let message = format!(
                "`{root}` and what it began have {instances} instances under way: no more begin before some have ended"
            );
            ErrorData::with("limit", message, [("root", Value::str(root))])
        })
    }

    /// So many more bytes of the history of an instance are written; whether that is too much.
    pub fn writes(&mut self, id: &str, bytes: u64, quotas: &Quotas) -> bool {
        let Some(known) = self.roots.get(id).and_then(|root| self.of.get_mut(root)) else { return false };
        known.bytes += bytes;
        known.bytes > quotas.bytes
    }
}
