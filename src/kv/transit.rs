//! Messages between the partitions of a store, and between clients and partitions.
//!
//! A message is sent by the batch of one partition, and consumed by a batch of another one. The
//! store keeps the message between the two, so that each message is consumed exactly once.

use std::collections::BTreeMap;

/// The number of a partition.
pub type Partition = u32;

/// The sender of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Partition(Partition),
    /// A client, which reads the answer in the store.
    Client,
}

/// The identity of an arrival at a partition.
///
/// The arrivals of one source have growing numbers. Those of a partition come in the order of its
/// commits; those of clients may be seen in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt {
    pub source: Source,
    pub number: u64,
}

/// Something that was sent to a partition, and that no batch has consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub receipt: Receipt,
    pub body: Vec<u8>,
}

/// The parts of a batch that concern other partitions and clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transit {
    /// What the batch sends, one body for each receiving partition. Bodies can be joined: a body
    /// after another one is what the two say, in this order.
    pub sends: BTreeMap<Partition, Vec<u8>>,
    /// The arrivals that the batch consumes. The store refuses a batch that consumes an arrival
    /// that is not there.
    pub consumed: Vec<Receipt>,
    /// The answers to clients, each with the number of the client's request.
    pub answers: Vec<(u64, Vec<u8>)>,
}

impl Transit {
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.consumed.is_empty() && self.answers.is_empty()
    }

    /// Whether other partitions or clients wait for the batch. Nobody waits for what it consumes.
    pub fn is_awaited(&self) -> bool {
        !self.sends.is_empty() || !self.answers.is_empty()
    }

    /// Adds the parts of a later batch, so that one batch does what both say.
    pub fn join(&mut self, later: Transit) {
        for (to, body) in later.sends {
            self.sends.entry(to).or_default().extend(body);
        }
        self.consumed.extend(later.consumed);
        self.answers.extend(later.answers);
    }

    /// Returns the size of everything that is sent in bytes.
    pub fn bytes(&self) -> usize {
        let sends = self.sends.values().map(Vec::len).sum::<usize>();
        sends + self.answers.iter().map(|(_, answer)| answer.len()).sum::<usize>()
    }
}
