//! Where keys are in the database.

use std::ops::Range;

use crate::kv::after_prefix;

/// The places of keys, which the store's user decides: a store does not know what its keys mean.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The prefixes of the keys that a partition reads when it is taken over. All others are the
    /// whole cluster's.
    pub queue: &'static [&'static [u8]],
    /// Returns the slot of such a key, or `None` if the key is the partition's own: each partition
    /// has a value of its own.
    pub slot_of: fn(&[u8]) -> Option<u32>,
    /// The prefixes of the partition's own keys that are a prefix and a number of eight bytes. A
    /// reader of the whole cluster numbers them anew. Of other own keys, it shows the highest value.
    pub numbered: &'static [&'static [u8]],
}

/// The tables with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tables {
    Kv,
    Queue,
    Both,
}

impl Layout {
    /// Returns the tables that may have keys of a prefix.
    pub(super) fn tables(&self, prefix: &[u8]) -> Tables {
        if self.is_queued(prefix) {
            Tables::Queue
        } else if self.queue.iter().any(|queued| queued.starts_with(prefix)) {
            Tables::Both
        } else {
            Tables::Kv
        }
    }

    /// Returns the slot of a key of the queue, or `None` if the key is the partition's own.
    pub(super) fn slot(&self, key: &[u8]) -> Option<u32> {
        (self.slot_of)(key)
    }

    /// Whether a key is in the table `queue`.
    pub(super) fn is_queued(&self, key: &[u8]) -> bool {
        self.queue.iter().any(|queued| key.starts_with(queued))
    }

    /// Whether keys of the queue may be within a range.
    pub(super) fn has_queued(&self, range: &Range<Vec<u8>>) -> bool {
        let within = |queued: &&[u8]| {
            after_prefix(queued).is_none_or(|after| range.start < after) && *queued < range.end.as_slice()
        };
        self.queue.iter().any(within)
    }

    /// Whether a key of the queue is the partition's own, and one of a sequence. Returns the prefix
    /// of the sequence.
    pub(super) fn sequence_of<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let prefix = self.numbered.iter().find(|prefix| key.starts_with(prefix))?;
        (key.len() == prefix.len() + 8).then_some(&key[..prefix.len()])
    }
}
