//! What the store has of an instance beside its history, and when a checkpoint is due.

use super::checkpoint::{self, Checkpoints};

/// The checkpoint that the store has of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    None,
    /// One of the execution before: it is to be deleted.
    OfBefore,
    /// The last one of this execution: the number of the first chunk after it, and whether the history before is gone.
    Own {
        at: u64,
        is_trimmed: bool,
    },
}

/// What is known of an instance's state in the store.
///
/// Invariant: the store has at most one checkpoint of an instance, and what is said of it here is true once all that was
/// given to be written is.
pub(super) struct Saving {
    checkpoint: Known,
    /// Nanoseconds that replay since that checkpoint takes, about.
    replay: u64,
    /// Bytes that a checkpoint takes, by what is known: more than the half of it.
    expected: usize,
    /// Whether the index of active instances has the instance; none when that is not known.
    pub indexed: Option<bool>,
}

impl Saving {
    /// That of an instance that goes on from a checkpoint, or from its beginning.
    pub fn after(checkpoint: Option<&checkpoint::Checkpoint>) -> Saving {
        let known =
            |saved: &checkpoint::Checkpoint| Known::Own { at: saved.chunks, is_trimmed: saved.trimmed };
        Saving {
            checkpoint: checkpoint.map_or(Known::None, known),
            replay: 0,
            expected: checkpoint.map_or(0, |saved| saved.size()),
            indexed: None,
        }
    }

    /// That of the execution after this one, which has no history.
    pub fn continued(&self) -> Saving {
        let checkpoint = match self.checkpoint {
            Known::None => Known::None,
            Known::OfBefore | Known::Own { .. } => Known::OfBefore,
        };
        Saving { checkpoint, replay: 0, expected: 0, indexed: self.indexed }
    }

    /// So much fuel was used.
    pub fn computed(&mut self, fuel: u64) {
        self.replay += fuel * checkpoint::FUEL;
    }

    /// So many entries are written.
    pub fn wrote(&mut self, entries: usize) {
        self.replay += entries as u64 * checkpoint::ENTRY;
    }

    /// The bytes that a checkpoint may take now; none when none is due. `writes` says whether history is written.
    pub fn due(&self, policy: &Checkpoints, writes: bool) -> Option<usize> {
        policy.due(self.replay, self.expected, writes)
    }

    /// The state was looked at: it takes so many bytes; none when it takes more than the `most` that it may.
    pub fn measured(&mut self, bytes: Option<usize>, most: usize) {
        // A state that is larger is looked at again when replay has come to take twice as long.
        self.expected = bytes.unwrap_or(most.saturating_mul(2));
    }

    /// A checkpoint is given to be written.
    pub fn saved(&mut self, at: u64, is_trimmed: bool) {
        (self.checkpoint, self.replay) = (Known::Own { at, is_trimmed }, 0);
    }

    /// Whether the store has the checkpoint of the execution before; it is deleted now.
    pub fn forget_before(&mut self) -> bool {
        let is_there = self.checkpoint == Known::OfBefore;
        if is_there {
            self.checkpoint = Known::None;
        }
        is_there
    }

    /// Whether a checkpoint is deleted when the instance has ended: with all of its history, nobody needs it.
    pub fn is_superfluous(&self) -> bool {
        matches!(self.checkpoint, Known::OfBefore | Known::Own { is_trimmed: false, .. })
    }

    /// Whether history before the checkpoint is gone.
    pub fn is_trimmed(&self) -> bool {
        matches!(self.checkpoint, Known::Own { is_trimmed: true, .. })
    }

    /// The first chunk that the store has, of an execution that began with this one.
    pub fn kept_from(&self, first: u64) -> u64 {
        match self.checkpoint {
            Known::Own { at, is_trimmed: true } => at,
            _ => first,
        }
    }
}
