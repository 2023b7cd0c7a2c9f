//! Numbers that do not depend on the past: they make the states of two runs equal that differ only
//! in age.

use std::collections::BTreeMap;

use super::messages::Stage;
use super::{Machine, Wait};

impl Machine {
    /// Turns off provenance, since the numbers of requests depend on the past.
    pub fn without_provenance(mut self) -> Machine {
        self.provenance.is_off = true;
        self
    }

    /// Gives each open request the number of the only fiber that waits for it, and numbers the next
    /// requests from `base`. When only the main fiber is left, fibers and critical sections are
    /// numbered from the beginning again. Returns the new number of each renamed request.
    ///
    /// The machine must be waiting, and its requests must have been taken.
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

    /// Returns the number of requests made since they were numbered from `base`, including those
    /// that never left.
    pub fn requested_since(&self, base: u64) -> u64 {
        self.next_request.saturating_sub(base)
    }
}
