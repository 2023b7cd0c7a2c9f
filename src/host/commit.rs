//! Output commit: what is written, when, and what may leave once it is durable.
//!
//! Invariant: the engine's writes go to the store in the order in which the engine gave them, one batch at a time. The gate
//! learns that they are durable from the store's proof alone, or because there was nothing to write.

use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::engine::Engine;
use crate::kv::{Batch, StoreError};
use crate::resident;
use crate::store::{DiskStore, Reader};

use super::Message;
use super::outgoing::Outgoing;
use super::pending::{Pending, View};
use super::reads::Reads;
use super::settings::{Durability, HostError, Settings};
use super::writer::{Writer, Written};

/// When the engine has changed so much it is asked for what it wants written, so that what is counted as waiting is what does.
const MAX_CHANGES: usize = 1024;

/// Each of so many batches at the beginning is followed by code that was not executed before: an instance's begin, its first
/// effect, and perhaps its end.
const FIRST_BATCHES: u32 = 3;

/// The way of writes from the engine to the store, and what waits for them.
pub(super) struct Committer {
    writer: Writer,
    pending: Pending,
    /// What is to leave the process.
    pub(super) outgoing: Outgoing,
    durability: Durability,
    /// How many batches will each be followed by code that is new: those of a process's beginning.
    beginning: u32,
}

/// What a round of writing came to.
pub(super) enum Wrote {
    /// Nothing more is durable.
    None,
    /// What was held may be let go. `changes` says whether there was something to write or to let go.
    Durable { changes: bool },
}

impl Committer {
    pub(super) fn new(store: DiskStore, messages: Sender<Message>, settings: &Settings) -> Committer {
        Committer {
            writer: Writer::new(store, messages),
            pending: Pending::default(),
            outgoing: Outgoing::default(),
            durability: settings.durability,
            beginning: if settings.lean { FIRST_BATCHES } else { 0 },
        }
    }

    /// The store, as it was left by the last commit.
    pub(super) fn store(&self) -> &Reader {
        &self.writer.reader
    }

    /// The store for reading, from any thread.
    pub(super) fn reads(&self) -> Reads {
        self.writer.reads.clone()
    }

    /// The store as it will be after the next commit.
    pub(super) fn view(&self) -> View<'_> {
        self.writer.view(&self.pending)
    }

    /// The store, once all that is under way is written.
    pub(super) fn into_store(self) -> DiskStore {
        self.writer.into_store()
    }

    /// Writes what is not the engine's, before that does anything.
    pub(super) fn prepare(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.writer.prepare(batch)
    }

    /// What waits leaves soon, though nothing is to be written and the engine is busy.
    pub(super) fn expect(&mut self, engine: &Engine) {
        if engine.has_writes() || self.outgoing.lacks_writes() {
            self.pending.expect();
        }
    }

    /// How long until what waits is written; none while a batch is under way.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.pending.due_in().filter(|_| self.writer.is_idle())
    }

    /// Takes what the engine wants written, to be written with the next commit.
    pub(super) fn gather(&mut self, engine: &mut Engine) {
        if self.beginning > 0 {
            self.beginning -= 1;
            resident::begin_phase();
        }
        self.pending.gather(engine.take_writes());
    }

    /// Waits for what is under way when the engine has run far enough ahead. Whether more is durable then.
    pub(super) fn make_room(&mut self, engine: &mut Engine) -> Result<bool, HostError> {
        if engine.changes() >= MAX_CHANGES {
            self.gather(engine);
        }
        match self.pending.is_full() {
            true => self.settle(),
            false => Ok(false),
        }
    }

    /// Writes what is to be written now: beside the engine, when that goes on or answers may come to it, else at once.
    pub(super) fn write(&mut self, engine: &mut Engine, goes_on: bool) -> Result<Wrote, HostError> {
        let durable = self.durability != Durability::None;
        let holds = self.outgoing.lacks_writes();
        let wanted = self.pending.is_due(holds) || (holds && !engine.is_ready());
        let each = self.durability == Durability::Each;
        if each || (wanted && !goes_on && self.writer.is_idle()) {
            let changes = !self.pending.is_empty() || holds;
            self.commit(engine, durable)?;
            return Ok(Wrote::Durable { changes });
        }
        if wanted && self.writer.is_idle() {
            self.gather(engine);
            let Some((batch, unwritten)) = self.pending.take() else { return Ok(Wrote::None) };
            if batch.is_empty() {
                // All that it depends on is durable.
                self.outgoing.advance(unwritten.written());
                return Ok(Wrote::Durable { changes: true });
            }
            self.outgoing.send(&unwritten);
            self.writer.send(batch, unwritten, durable);
        }
        Ok(Wrote::None)
    }

    /// The thread that writes has something to say. Whether more is durable.
    pub(super) fn on_written(&mut self) -> Result<bool, HostError> {
        let written = self.writer.written();
        self.pass(written)
    }

    /// Writes what the engine wants written, after what is under way, and makes it durable if so asked. All that is held
    /// can then be let go.
    pub(super) fn commit(&mut self, engine: &mut Engine, durable: bool) -> Result<(), HostError> {
        self.settle()?;
        self.gather(engine);
        match self.pending.take() {
            Some((batch, unwritten)) if batch.is_empty() => self.outgoing.advance(unwritten.written()),
            Some((batch, unwritten)) => {
                let written = self.writer.write(&batch, unwritten, durable);
                self.pass(Some(written))?;
            }
            None => {}
        }
        Ok(())
    }

    /// Waits for what is under way. Whether more is durable then.
    fn settle(&mut self) -> Result<bool, HostError> {
        let written = self.writer.settle();
        self.pass(written)
    }

    /// Takes note of what is durable now.
    fn pass(&mut self, written: Option<Written>) -> Result<bool, HostError> {
        let Some(written) = written else { return Ok(false) };
        let (took, proof) = written?;
        self.pending.written(took);
        self.outgoing.advance(proof);
        Ok(true)
    }
}
