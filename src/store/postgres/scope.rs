//! The parts of the queue that a reader shows.

use std::ops::Range;

/// The number of slots of the range that partitions share. The slots after it are each a
/// partition's own.
pub const SLOTS: u32 = 4096;

/// The key that stays of a private partition that was removed, for the time when it comes back.
pub(super) const LIFE: &[u8] = b"s/life";

/// A partition's slots, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything in the cluster.
    Cluster,
    Partition(Slots),
}

/// The slots of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    pub range: Range<u32>,
    /// The slot of the keys that are the partition's own.
    pub own: u32,
}

impl Slots {
    /// Returns the slots of a partition with a range of its own.
    pub fn of(partition: u32, range: Range<u32>) -> Slots {
        Slots { range, own: own_slot(partition) }
    }

    pub fn contains(&self, slot: u32) -> bool {
        self.range.contains(&slot) || slot == self.own
    }
}

/// Returns the slot of the keys that are a partition's own.
pub fn own_slot(partition: u32) -> u32 {
    SLOTS + partition
}
