//! The courier: what this partition sends to others, and what it has taken in of theirs.
//!
//! Invariant: what is sent leaves with the batch of its cause, and an arrival is consumed by the
//! batch of its effects, once. An arrival that was taken in may be seen again until that batch is
//! in the store; it is known by its receipt.

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
    last: BTreeMap<Partition, u64>,
    /// The numbers of the arrivals of clients that may be seen again.
    pub of_clients: BTreeSet<u64>,
    /// For instances that are being read, those of other partitions that were seen to wait for
    /// them.
    pub seen_to_wait: BTreeMap<Arc<str>, Waits>,
}

impl Courier {
    /// Notes that an arrival is consumed by the next writes. Returns false if it was taken in
    /// before.
    pub fn takes(&mut self, receipt: Receipt, batch: &mut Batch) -> bool {
        let is_new = match receipt.source {
            Source::Client => self.of_clients.insert(receipt.number),
            Source::Partition(partition) => {
                let last = self.last.get(&partition);
                let is_new = last.is_none_or(|last| *last < receipt.number);
                if is_new {
                    self.last.insert(partition, receipt.number);
                }
                is_new
            }
        };
        if is_new {
            batch.transit.consumed.push(receipt);
        }
        is_new
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
