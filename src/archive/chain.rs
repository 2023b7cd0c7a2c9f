//! The checksums that chain the chunks of histories, while an archive is written or read.

use std::collections::{BTreeSet, HashMap};

use crate::engine::Checkpoint;

/// The checksum of the chunk before, of the history whose chunks are read or written.
#[derive(Default)]
pub(super) struct Chain {
    id: String,
    /// The number of the chunk before.
    number: u64,
    checksum: u64,
    /// Whether chunks that don't fit those before are taken all the same.
    salvages: bool,
    /// The histories with such chunks.
    pub gaps: BTreeSet<String>,
    /// For each history that isn't kept from its beginning: the checksum before its first chunk.
    seeds: HashMap<String, u64>,
}

impl Chain {
    /// A chain that takes chunks which don't fit those before.
    pub fn salvaging() -> Chain {
        Chain { salvages: true, ..Chain::default() }
    }

    pub fn salvages(&self) -> bool {
        self.salvages
    }

    /// Notes where a history begins.
    pub fn begin(&mut self, id: &str, checkpoint: &Checkpoint) {
        if checkpoint.trimmed {
            self.seeds.insert(id.to_string(), checkpoint.checksum);
        }
    }

    /// Returns the checksum before the next chunk of a history, to be replaced by that chunk's.
    pub fn of(&mut self, id: &str, number: u64) -> &mut u64 {
        // A file may have a history twice.
        let begins = self.id != id || number <= self.number;
        self.number = number;
        if begins {
            self.id = id.to_string();
            self.checksum = self.seeds.get(id).copied().unwrap_or(0);
        }
        &mut self.checksum
    }
}
