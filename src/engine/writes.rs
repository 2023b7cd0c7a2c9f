//! The writes of the engine: the history, checkpoint and record of each changed instance, and
//! everything that was sent, printed and deployed.

use std::sync::Arc;

use crate::kv::Batch;

use super::active::{Active, Doing};
use super::address::Address;
use super::checkpoint::{Checkpoint, Checkpoints, Retention};
use super::gate::Writes;
use super::instance::Instance;
use super::keys;
use super::step::Engine;

/// The number of concurrent writers up to which history chunks grow in place.
const FEW: usize = 16;

impl Engine {
    /// Whether [`Engine::take_writes`] would return any writes.
    pub fn has_writes(&self) -> bool {
        !self.batch.is_empty()
            || !self.changed.is_empty()
            || self.post.len() > 0
            || self.programs.has_writes()
            || self.versions.has_writes()
            || self.outbox.has_writes()
            || self.calls.has_writes()
            || self.entities.has_writes()
            || !self.ending.is_empty()
    }

    /// Whether other partitions or clients wait for the next writes.
    pub fn sends(&self) -> bool {
        self.batch.transit.is_awaited()
    }

    /// Returns the approximate number of changes in the next writes.
    pub fn changes(&self) -> usize {
        self.changed.len() + self.post.len() + self.outbox.changes()
    }

    /// Takes the writes since the last call, as one batch.
    pub fn take_writes(&mut self) -> Writes {
        self.writes_taken += 1;
        self.wanted.writes_are_taken();
        let number = self.writes_taken;
        let mut batch = std::mem::take(&mut self.batch);
        batch.writes.reserve(2 * self.changed.len());
        self.programs.take_writes(&mut batch);
        self.post.take_writes(&mut batch);
        let over = self.take_instances(&mut batch);
        self.entities.take_writes(&mut batch);
        self.outbox.take_writes(&mut batch);
        self.calls.take_writes(&mut batch);
        self.versions.take_writes(&mut batch);
        self.courier.writes_are_taken();
        self.scheduler.take_writes(&mut batch);
        if !self.purged.is_empty() {
            // A key may be deleted and written again.
            self.purged.clear();
            batch.settle();
        }
        self.residents.drop_parked(self.resident);
        for id in over {
            self.has_too_much(&id);
        }
        for id in std::mem::take(&mut self.ending) {
            self.fetch(Address::Instance(id));
        }
        Writes::new(batch, number)
    }

    /// Takes the writes of instances, and drops ended instances from memory. Returns the instances
    /// whose roots have written more than they may.
    fn take_instances(&mut self, batch: &mut Batch) -> Vec<Arc<str>> {
        // Few instances write little. In a large batch, a chunk that grows would be written again
        // as a whole.
        let growth = if self.changed.len() <= FEW { self.growth } else { 0 };
        let mut over = Vec::new();
        for id in std::mem::take(&mut self.changed) {
            let Some(instance) = self.residents.get_mut(&id) else { continue };
            let bytes = instance.take_writes(&id, growth, &self.checkpoints, self.scheduler.now, batch);
            let has_ended = instance.has_ended();
            // Many instances are named more than once, and have nothing left to write.
            if bytes > 0 && self.uses.writes(&instance.root, bytes as u64, &self.quotas) && !has_ended {
                over.push(id.clone());
            }
            if has_ended {
                self.residents.instances.remove(&id);
            }
        }
        over
    }
}

impl Instance {
    /// Takes the writes of an instance, and returns the number of bytes added to its history.
    fn take_writes(
        &mut self,
        id: &str,
        growth: usize,
        policy: &Checkpoints,
        now: i64,
        batch: &mut Batch,
    ) -> usize {
        let mark = batch.writes.len();
        let before = self.take_chunks(growth, batch);
        let bytes = batch.writes[mark..].iter().filter_map(|(_, value)| Some(value.as_ref()?.len())).sum();
        let ended = self.has_ended();
        match ended {
            false => self.take_checkpoint(policy, mark, before, batch),
            true if self.saving.is_superfluous() => batch.delete(keys::checkpoint(id)),
            true => {}
        }
        if std::mem::take(&mut self.record_changed) {
            batch.put(keys::instance(id), self.record.encode());
        }
        let doing = if ended { Doing::Nothing } else { self.doing() };
        if !self.saving.indexed.is_some_and(|entry| doing.is_served_by(entry, now)) {
            self.saving.indexed = Some(doing);
            let active = |due| Active { root: self.record.root.clone(), due }.encode();
            match doing {
                Doing::Nothing => batch.delete(keys::active(id)),
                Doing::Something => batch.put(keys::active(id), active(None)),
                Doing::Waiting(due) => batch.put(keys::active(id), active(Some(due))),
            }
        }
        bytes
    }

    /// Takes the writes of the history: chunks with their numbers. Short entries are added to the last
    /// chunk while that is no longer than `growth`. Returns the number of chunks before, if there is
    /// something to write.
    fn take_chunks(&mut self, growth: usize, batch: &mut Batch) -> Option<u64> {
        if self.journal.is_written() {
            return None;
        }
        self.saving.wrote(self.journal.waiting());
        let ends = self.has_ended();
        let before = self.journal.write(&self.record.id, growth, ends, batch);
        if ends {
            self.record.chunks = self.journal.chunks();
        }
        Some(before)
    }

    /// Takes the writes of a checkpoint, if one is due. `mark` is the position of the new chunks in
    /// the batch. `before` is the number of chunks before them, if there are any.
    fn take_checkpoint(&mut self, policy: &Checkpoints, mark: usize, before: Option<u64>, batch: &mut Batch) {
        if let Some(machine) = self.due_state(policy, before.is_some()) {
            let trims = policy.retention == Retention::Latest || self.saving.is_trimmed();
            if trims {
                // The checkpoint contains these entries, so they are not written.
                batch.writes.truncate(mark);
                for number in self.kept_from()..before.unwrap_or(self.journal.chunks()) {
                    batch.delete(keys::chunk(&self.record.id, number));
                }
            }
            let open = self.evaluation.open.values().map(|open| open.saved()).collect();
            let at = self.journal.sealed();
            let requests = (open, self.evaluation.given_up());
            let of = self.execution();
            let checkpoint = Checkpoint::new(&self.image.code, of, at, trims, requests, machine);
            batch.put(keys::checkpoint(&self.record.id), checkpoint.encode());
            self.saving.saved(at.0, trims);
        } else if self.saving.forget_before() {
            batch.delete(keys::checkpoint(&self.record.id));
        }
    }

    /// Returns the machine's state, if a checkpoint is due and possible now.
    fn due_state(&mut self, policy: &Checkpoints, writes: bool) -> Option<Vec<u8>> {
        let most = self.saving.due(policy, writes)?;
        let agenda = &self.evaluation.agenda;
        let is_clean = self.journal.is_written() && agenda.dropped.is_empty() && agenda.outgoing.is_empty();
        if !self.is_live() || !is_clean || !self.evaluation.has_run() || self.has_ended() {
            return None;
        }
        let machine = self.evaluation.machine().snapshot_within(most);
        self.saving.measured(machine.as_ref().map(Vec::len), most);
        machine
    }
}
