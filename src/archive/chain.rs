//! The checksums that chain the chunks of histories, as an archive is written or read.

use std::collections::{BTreeSet, HashMap};

use crate::engine::Checkpoint;

/// The chain of the history whose chunks are written or read: the checksum of the chunk before.
#[derive(Default)]
pub(super) struct Chain {
    id: String,
    /// The number of the chunk before.
    number: u64,
    checksum: u64,
    /// Whether a chunk is kept that does not fit the chunk before.
    salvages: bool,
    /// The instances whose histories have such chunks.
    pub gaps: BTreeSet<String>,
    /// The checksums before the first chunks of trimmed histories.
    seeds: HashMap<String, u64>,
}

impl Chain {
    /// Returns a chain for a damaged store, whose chunks are kept also after a gap.
    pub fn salvaging() -> Chain {
        Chain { salvages: true, ..Chain::default() }
    }

    /// Whether a chunk is kept that does not fit the chunk before.
    pub fn salvages(&self) -> bool {
        self.salvages
    }

    /// Notes where a history begins.
    pub fn begin(&mut self, id: &str, checkpoint: &Checkpoint) {
        if checkpoint.trimmed {
            self.seeds.insert(id.to_string(), checkpoint.checksum);
        }
    }

    /// Returns the checksum before the next chunk of a history. The caller replaces it by the
    /// checksum of that chunk.
    pub fn of(&mut self, id: &str, number: u64) -> &mut u64 {
        // A file may have the same history twice.
        let begins = self.id != id || number <= self.number;
        self.number = number;
        if begins {
            self.id = id.to_string();
            self.checksum = self.seeds.get(id).copied().unwrap_or(0);
        }
        &mut self.checksum
    }
}
