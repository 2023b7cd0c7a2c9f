//! Names that say nothing of the past: what makes the states of two runs equal when only their ages differ.

use std::collections::BTreeMap;

use super::messages::Stage;
use super::{Machine, Wait};

impl Machine {
    /// Notes no requests that errors come from: their numbers would tell of the past.
    pub fn without_provenance(mut self) -> Machine {
        self.provenance.is_off = true;
        self
    }

    /// Gives each open request the number of the fiber that waits for it, of which there is one, and lets the next
    /// requests be numbered from `base`. Fibers and critical sections are numbered from the beginning again when
    /// none but the main fiber is left. Answers the new number of each request that was renamed.
    ///
    /// To be called when the machine waits, with its requests taken.
    pub fn renumber(&mut self, base: u64) -> BTreeMap<u64, u64> {
        let renamed = std::mem::take(&mut self.waiting);
        for fiber in self.fibers.values_mut() {
            if let Wait::Answer { seq } | Wait::Shielded { seq } = &mut fiber.wait
                && let Some(id) = renamed.get(seq)
            {
                *seq = *id;
            }
        }
        if let Some(section) = &mut self.section {
            if let Stage::Asked(seq) = &mut section.stage
                && let Some(id) = renamed.get(seq)
            {
                *seq = *id;
            }
            for (seq, _) in &mut section.calls {
                *seq = renamed.get(seq).copied().unwrap_or(*seq);
            }
        }
        self.waiting = renamed.values().map(|id| (*id, *id)).collect();
        self.next_request = base;
        let alone = self.fibers.len() == 1 && self.fibers.contains_key(&0);
        if alone && self.section.is_none() {
            self.next_section = 0;
        }
        if alone && self.failed.iter().all(|task| task.observed.get()) {
            self.failed.clear();
            self.next_fiber = 1;
        }
        renamed
    }

    /// How many requests were made since they were numbered from `base`, those that never left included.
    pub fn requested_since(&self, base: u64) -> u64 {
        self.next_request.saturating_sub(base)
    }
}
