//! The contents of the store about an instance beside its history, and the time at which a
//! checkpoint is due.

use super::active::Doing;
use super::checkpoint::{self, Checkpoints};

/// The checkpoint of an instance in the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    None,
    /// A checkpoint of an earlier execution, which is to be deleted.
    OfBefore,
    /// The last checkpoint of this execution: the number of the first chunk after it, and whether
    /// the history before it is gone.
    Own {
        at: u64,
        is_trimmed: bool,
    },
}

/// The known state of the store about an instance.
///
/// Invariant: the store has at most one checkpoint of an instance. This state is true once all
/// writes that were given are written.
pub(super) struct Saving {
    checkpoint: Known,
    /// The approximate time that a replay since the checkpoint takes, in nanoseconds.
    replay: u64,
    /// The expected size of a checkpoint in bytes. The real size is more than half of it.
    expected: usize,
    /// The entry of the instance in the index of active instances; `None` if that is not known.
    pub indexed: Option<Doing>,
}

impl Saving {
    /// Returns the state for an instance that resumes from a checkpoint, or from its beginning.
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

    /// Returns the state for the next execution, which has no history.
    pub fn continued(&self) -> Saving {
        let checkpoint = match self.checkpoint {
            Known::None => Known::None,
            Known::OfBefore | Known::Own { .. } => Known::OfBefore,
        };
        Saving { checkpoint, replay: 0, expected: 0, indexed: self.indexed }
    }

    /// Adds the fuel used to the time of a replay.
    pub fn computed(&mut self, fuel: u64) {
        self.replay += fuel * checkpoint::FUEL;
    }

    /// Adds the written entries to the time of a replay.
    pub fn wrote(&mut self, entries: usize) {
        self.replay += entries as u64 * checkpoint::ENTRY;
    }

    /// Returns the bytes that a checkpoint may take now; `None` if none is due. `writes` says
    /// whether history is written.
    pub fn due(&self, policy: &Checkpoints, writes: bool) -> Option<usize> {
        policy.due(self.replay, self.expected, writes)
    }

    /// Notes the measured size of the state; `None` if it is over the limit `most`.
    pub fn measured(&mut self, bytes: Option<usize>, most: usize) {
        // A larger state is measured again when a replay takes twice as long.
        self.expected = bytes.unwrap_or(most.saturating_mul(2));
    }

    /// Notes that a checkpoint is given to be written.
    pub fn saved(&mut self, at: u64, is_trimmed: bool) {
        (self.checkpoint, self.replay) = (Known::Own { at, is_trimmed }, 0);
    }

    /// Returns whether the store has a checkpoint of an earlier execution, and notes that it is
    /// deleted.
    pub fn forget_before(&mut self) -> bool {
        let is_there = self.checkpoint == Known::OfBefore;
        if is_there {
            self.checkpoint = Known::None;
        }
        is_there
    }

    /// Whether a checkpoint is deleted at the end of the instance. It is not needed if the whole
    /// history is kept.
    pub fn is_superfluous(&self) -> bool {
        matches!(self.checkpoint, Known::OfBefore | Known::Own { is_trimmed: false, .. })
    }

    /// Whether the history before the checkpoint is gone.
    pub fn is_trimmed(&self) -> bool {
        matches!(self.checkpoint, Known::Own { is_trimmed: true, .. })
    }

    /// Returns the first chunk in the store of an execution that began with chunk `first`.
    pub fn kept_from(&self, first: u64) -> u64 {
        match self.checkpoint {
            Known::Own { at, is_trimmed: true } => at,
            _ => first,
        }
    }
}
