//! The courier: what this partition sends to others, and what it has taken in of theirs.
//!
//! Invariant: what is sent leaves with the batch of its cause, and an arrival is consumed by the
//! batch of its effects, once. An arrival of another partition may be seen again until that batch
//! is in the store; it is known by its receipt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kv::{Batch, Partition, Receipt, Source};

use super::waits::Waits;

/// What is known of other partitions.
#[derive(Default)]
pub(super) struct Courier {
    /// The partitions that are told of all known deployments by the next writes.
    pub told: BTreeSet<Partition>,
    /// The number of the last arrival of each partition. Those of one partition come in order.
    last: BTreeMap<Source, u64>,
    /// For instances that are being read, those that were seen to wait for them. It is empty if
    /// there is only one partition.
    pub seen_to_wait: BTreeMap<Arc<str>, Waits>,
}

impl Courier {
    /// Notes that an arrival of another partition is consumed by the next writes. Returns false if
    /// it was taken in before.
    pub fn takes(&mut self, receipt: Receipt, batch: &mut Batch) -> bool {
        if self.last.get(&receipt.source).is_some_and(|last| *last >= receipt.number) {
            return false;
        }
        self.last.insert(receipt.source, receipt.number);
        batch.transit.consumed.push(receipt);
        true
    }

    /// Notes that the next writes are taken.
    pub fn writes_are_taken(&mut self) {
        self.told.clear();
    }

    /// Notes that deployments are known that nobody was told of.
    pub fn has_news(&mut self) {
        self.told.clear();
    }
}
