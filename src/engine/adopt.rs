//! The adoption of other programs: an instance that goes on with another program, one that goes
//! back first, and one that begins with a part of another one's history.
//!
//! All writes are in one batch, so a crash comes before or after all of them.

use std::sync::Arc;

use crate::code::ProgramHash;
use crate::internal::sure;
use crate::kv::Batch;
use crate::machine::{Data, Value};

use super::address::{Address, LifeId};
use super::backward::Backward;
use super::branch::Branch;
use super::entry::Entry;
use super::history::{Chunk, History, pieces};
use super::journal::Journal;
use super::keys;
use super::message::{Message, StoredMail};
use super::record::{InstanceRecord, Status};
use super::step::Engine;
use super::upgrade::{Upgrade, former};

impl Engine {
    /// Whether the program of an instance can be changed now: the instance waits, and everything
    /// that it did is dispatched and written.
    pub fn can_be_upgraded(&self, id: &str) -> bool {
        match self.residents.get(id) {
            Some(instance) => {
                instance.is_at_rest()
                    && !instance.evaluation.agenda.has_leavings()
                    && !instance.evaluation.is_ending()
                    && !self.outbox.has(id)
            }
            None => !self.wanted.has(&Address::instance(id)),
        }
    }

    /// Lets an instance go on with another program, which fits its history.
    pub(super) fn upgrade(&mut self, upgrade: Upgrade, now: i64) {
        let Upgrade { record, image, history, from, stale, back } = upgrade;
        let id: Arc<str> = record.id.as_str().into();
        let entry = Entry::Upgraded { from, time: now };
        self.programs.store(&image, &mut self.batch);
        self.programs.know(&image);
        if image.code.hash != from {
            self.batch.put(keys::former(&id, from), Vec::new());
        }
        for program in stale {
            self.batch.delete(keys::former(&id, program));
        }
        self.set_aside.remove(&id);
        if let Some(back) = back {
            return self.go_back(record, &history, back, from, now);
        }
        if let Some(known) = self.residents.get(&id) {
            let mut next =
                sure(known.extended(&image, history), "the program of an upgrade runs the instance");
            next.record.file = record.file;
            next.journal.push(entry);
            next.saving = known.saving.continued();
            return self.go_on_as(id, next, now);
        }
        let mut journal = Journal::after(&history);
        journal.push(entry);
        journal.write(&id, self.growth, false, &mut self.batch);
        self.batch.put(keys::instance(&id), record.encode());
        self.batch.delete(keys::checkpoint(&id));
        self.wanted.wait_for_writes();
        if self.goes_on {
            self.fetch(Address::Instance(id));
        }
    }

    /// Takes an instance back. What it had under way is broken off, and it is read from the store
    /// again.
    pub(super) fn go_back(
        &mut self,
        record: InstanceRecord,
        before: &History,
        back: Backward,
        from: ProgramHash,
        now: i64,
    ) {
        let Backward { mut kept, mail, resent, custom, releases, children, next, .. } = back;
        let id: Arc<str> = record.id.as_str().into();
        self.break_off(&id);
        self.residents.put_away(&id);
        let used = before.entries.iter().filter_map(Entry::greatest).max();
        kept.push(Entry::Rewound { seq: next, time: now, used });
        if record.program != from {
            kept.push(Entry::Upgraded { from, time: now });
        }
        let mut batch = Batch::default();
        for number in record.first..before.chunks {
            batch.delete(keys::chunk(&id, number));
        }
        let record = InstanceRecord { custom, rewound: resent, first: before.chunks, ..record };
        let (mut number, mut checksum) = (record.first, 0);
        for piece in pieces(kept) {
            let (bytes, next) = Chunk::encode(piece, checksum);
            batch.put(keys::chunk(&id, number), bytes);
            (number, checksum) = (number + 1, next);
        }
        batch.put(keys::instance(&id), record.encode());
        batch.put(keys::active(&id), record.root.clone().into_bytes());
        batch.delete(keys::checkpoint(&id));
        self.batch.writes.extend(batch.writes);
        let owner = record.life_id();
        if releases {
            self.release(&owner);
        }
        for child in children {
            self.end_forgotten(&record, &owner, &child, number);
        }
        for StoredMail { from, root, ack, time, message, .. } in mail {
            self.send_at(time, Address::Instance(id.clone()), from, root.into(), ack, message);
        }
        self.wanted.wait_for_writes();
        self.fetch(Address::Instance(id));
    }

    /// Ends a child that its caller has forgotten.
    fn end_forgotten(&mut self, record: &InstanceRecord, owner: &LifeId, child: &str, chunk: u64) {
        let why = Data::of(&Value::str("its caller went back"));
        let message = Message::Terminate { why, children: true, by: Some(owner.clone()) };
        let from = format!("{}.forgets-{chunk}-{child}", record.step_key(u64::MAX));
        self.send(Address::instance(child), from, record.root.as_str().into(), None, message);
    }

    /// Begins an instance with a part of the history of another one.
    pub(super) fn branch(&mut self, branch: Branch) {
        let Branch { record, image, entries, .. } = branch;
        let id: Arc<str> = record.id.as_str().into();
        self.programs.store(&image, &mut self.batch);
        for program in entries.iter().filter_map(former) {
            self.batch.put(keys::former(&id, program), Vec::new());
        }
        let mut history = History { entries: entries.clone(), ..History::default() };
        for piece in pieces(entries) {
            let (bytes, checksum) = Chunk::encode(piece, history.checksum);
            self.batch.put(keys::chunk(&id, history.chunks), bytes);
            (history.chunks, history.checksum) = (history.chunks + 1, checksum);
        }
        let record = InstanceRecord { status: Status::Running, ..record };
        self.add(record, history, image, true);
    }
}
