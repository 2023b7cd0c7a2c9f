//! Output commit: when writes go to the store, and what they let out.
//!
//! Invariant: the engine's writes go to the store in the order in which the engine gave them, one
//! batch at a time. The gate advances only when the store has made a batch durable, or when there
//! was nothing to write.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::engine::{Address, Engine, ranges_of};
use crate::kv::{Reader, SharedStore};
use crate::resident;

use super::Message;
use super::outgoing::Outgoing;
use super::pending::{Pending, View};
use super::reads::Reads;
use super::settings::{Durability, HostError, Settings};
use super::writer::{Writer, Written};

/// After this many changes, the engine's writes are gathered, so that the size of the pending
/// writes is known.
const MAX_CHANGES: usize = 1024;

/// The number of batches at the start of a process that are each followed by code that has not run
/// yet: the begin of an instance, its first effect, and perhaps its end.
const FIRST_BATCHES: u32 = 3;

/// The writes between the engine and the store, and the outputs that wait for them.
pub(super) struct Committer {
    writer: Writer,
    pending: Pending,
    /// The outputs that wait for writes.
    pub(super) outgoing: Outgoing,
    durability: Durability,
    /// The number of the first batches that are still to come.
    beginning: u32,
}

/// The result of [`Committer::write`].
pub(super) enum Wrote {
    /// No more writes are durable than before.
    None,
    /// Outputs may leave. `changes` says whether there was anything to write or to let out.
    Durable { changes: bool },
}

impl Committer {
    pub(super) fn new(
        store: Box<dyn SharedStore>,
        messages: Sender<Message>,
        settings: &Settings,
    ) -> Committer {
        Committer {
            writer: Writer::new(store, messages),
            pending: Pending::default(),
            outgoing: Outgoing::default(),
            durability: settings.durability,
            beginning: if settings.lean { FIRST_BATCHES } else { 0 },
        }
    }

    /// Returns the store as the last commit left it.
    pub(super) fn store(&self) -> &Reader {
        &self.writer.reader
    }

    /// Returns the store for reading on any thread.
    pub(super) fn reads(&self) -> Reads {
        self.writer.reads.clone()
    }

    /// Reads together what the engine is going to ask for, if the store is far away. A failure shows
    /// when the engine asks.
    pub(super) fn read_ahead(&mut self, wanted: &[Address]) {
        let ahead = &mut self.writer.ahead;
        let ranges: Vec<_> = wanted.iter().flat_map(ranges_of).collect();
        let _ = ahead.read(ranges);
    }

    /// Whether the store is near, so that nothing is read ahead.
    pub(super) fn is_near(&self) -> bool {
        self.writer.ahead.is_near
    }

    /// Whether something was read ahead.
    pub(super) fn has_ahead(&self, address: &Address) -> bool {
        let known = ranges_of(address).into_iter().next();
        known.is_some_and(|record| self.writer.ahead.knows(&record.start, &record.end))
    }

    /// Returns the store as it will be after the next commit.
    pub(super) fn view(&self) -> View<'_> {
        self.writer.view(&self.pending)
    }

    /// Returns the store, once the batch in flight is written.
    pub(super) fn into_store(self) -> Box<dyn SharedStore> {
        self.writer.into_store()
    }

    /// Makes sure of a commit soon when something waits for one, even while the engine is busy.
    pub(super) fn expect(&mut self, engine: &Engine) {
        if engine.has_writes() || self.outgoing.lacks_writes() {
            self.pending.expect();
        }
    }

    /// Returns the time until the pending writes are due, or `None` while a batch is in flight.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.pending.due_in().filter(|_| self.writer.is_idle())
    }

    /// Adds the engine's writes to those of the next commit.
    pub(super) fn gather(&mut self, engine: &mut Engine) {
        if self.beginning > 0 {
            self.beginning -= 1;
            resident::begin_phase();
        }
        self.pending.gather(engine.take_writes());
    }

    /// Waits for the batch in flight if the engine has run far enough ahead of it. Returns whether
    /// more writes are durable then.
    pub(super) fn make_room(&mut self, engine: &mut Engine) -> Result<bool, HostError> {
        if engine.changes() >= MAX_CHANGES {
            self.gather(engine);
        }
        match self.pending.is_full() {
            true => self.settle(),
            false => Ok(false),
        }
    }

    /// Writes what is due. If the engine has more to do or may be answered, the thread writes
    /// beside it; otherwise this call writes.
    pub(super) fn write(&mut self, engine: &mut Engine, goes_on: bool) -> Result<Wrote, HostError> {
        let durable = self.durability != Durability::None;
        // Other partitions and their clients wait for what is sent to them.
        let holds = self.outgoing.lacks_writes() || self.pending.sends() || engine.sends();
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
                // Everything that was held depends on writes that are durable already.
                self.outgoing.advance(unwritten.written());
                return Ok(Wrote::Durable { changes: true });
            }
            self.outgoing.send(&unwritten);
            self.writer.send(batch, unwritten, durable);
        }
        Ok(Wrote::None)
    }

    /// Takes the result of the thread that writes. Returns whether more writes are durable.
    pub(super) fn on_written(&mut self) -> Result<bool, HostError> {
        let written = self.writer.written();
        self.pass(written)
    }

    /// Writes all of the engine's writes after those in flight, and makes them durable if `durable`
    /// says so. Everything that is held can leave then.
    pub(super) fn commit(&mut self, engine: &mut Engine, durable: bool) -> Result<(), HostError> {
        self.settle()?;
        self.gather(engine);
        match self.pending.take() {
            Some((batch, unwritten)) if batch.is_empty() => self.outgoing.advance(unwritten.written()),
            Some((batch, unwritten)) => {
                let written = self.writer.write(&Arc::new(batch), unwritten, durable);
                self.pass(Some(written))?;
            }
            None => {}
        }
        Ok(())
    }

    /// Waits for the batch in flight. Returns whether more writes are durable then.
    fn settle(&mut self) -> Result<bool, HostError> {
        let written = self.writer.settle();
        self.pass(written)
    }

    /// Takes note of a batch that is durable.
    fn pass(&mut self, written: Option<Written>) -> Result<bool, HostError> {
        let Some(written) = written else { return Ok(false) };
        let (took, proof) = written?;
        self.pending.written(took);
        self.outgoing.advance(proof);
        Ok(true)
    }
}
