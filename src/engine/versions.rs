//! Versions of deployments in a store of several partitions.
//!
//! A partition that deploys a program notes the time. What it sends afterwards carries this
//! version, so that its receivers read the newest deployments before they act on it: whoever is
//! called by new code runs new code.
//!
//! Invariant: a partition that has used or heard of a deployment knows its version, and says so
//! with everything that it sends.

use std::collections::BTreeMap;

use crate::kv::{Batch, Partition};

use super::{keys, stored};

/// The time of the newest known deployment of each partition that has deployed anything.
pub(super) type Known = BTreeMap<Partition, i64>;

/// The versions that a partition knows.
#[derive(Default)]
pub(super) struct Versions {
    known: Known,
    /// Whether the store lacks a part of them.
    is_changed: bool,
}

impl Versions {
    /// Takes in the versions that the store has.
    pub fn recover(&mut self, known: Known) {
        self.known = known;
    }

    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Notes a deployment by this partition, and returns its version.
    pub fn deploys(&mut self, own: Partition, now: i64) -> (Partition, i64) {
        let version = self.known.entry(own).or_insert(i64::MIN);
        *version = now.max(version.saturating_add(1));
        self.is_changed = true;
        (own, *version)
    }

    /// Takes in what others know. Returns whether anything of it is new.
    pub fn learn(&mut self, more: impl IntoIterator<Item = (Partition, i64)>) -> bool {
        let mut any = false;
        for (partition, version) in more {
            let known = self.known.entry(partition).or_insert(i64::MIN);
            if *known < version {
                *known = version;
                any = true;
            }
        }
        self.is_changed |= any;
        any
    }

    pub fn has_writes(&self) -> bool {
        self.is_changed
    }

    pub fn take_writes(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.is_changed) {
            batch.put(keys::DEPLOYMENTS.to_vec(), stored::append(Vec::new(), &self.known));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_grow_and_are_learned_once() {
        let (mut one, mut other) = (Versions::default(), Versions::default());
        let first = one.deploys(1, 100);
        let second = one.deploys(1, 100);
        assert!(first < second, "each deployment has a version of its own");
        assert!(other.learn(one.known().clone()));
        assert!(!other.learn(one.known().clone()) && !other.learn([first]));
        assert_eq!(one.known(), other.known());
        other.deploys(2, 50);
        assert!(one.learn(other.known().clone()), "a version of a third partition is new");
    }
}
