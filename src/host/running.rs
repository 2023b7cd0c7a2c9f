//! The running effects, by their tickets.
//!
//! Invariant: an effect that was broken off answers nobody. A line of input that was read for it
//! goes to the next reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
use tokio::task::AbortHandle;

use super::effect_call::Owner;

/// A running effect.
pub(super) struct Running {
    pub(super) owner: Owner,
    pub(super) abort: Option<Abort>,
    /// Whether the effect reads a line of standard input.
    pub(super) reads_input: bool,
}

/// The means to break off an effect.
pub(super) enum Abort {
    Task(AbortHandle),
    /// The effect looks at this flag from time to time.
    Flag(Arc<AtomicBool>),
}

impl Abort {
    fn abort(&self) {
        match self {
            Abort::Task(task) => task.abort(),
            Abort::Flag(over) => over.store(true, Ordering::Relaxed),
        }
    }
}

/// The running effects.
#[derive(Default)]
pub(super) struct RunningEffects {
    by_ticket: HashMap<u64, Running>,
    /// The tickets of reads of standard input that were broken off.
    stray: HashSet<u64>,
}

impl RunningEffects {
    /// Adds an effect that begins.
    pub(super) fn begin(&mut self, ticket: u64, running: Running) {
        self.by_ticket.insert(ticket, running);
    }

    /// Returns whether an effect is running.
    pub(super) fn has(&self, ticket: u64) -> bool {
        self.by_ticket.contains_key(&ticket)
    }

    /// Removes an effect that is done. Returns its owner, unless the effect was broken off.
    pub(super) fn done(&mut self, ticket: u64) -> Option<Owner> {
        self.by_ticket.remove(&ticket).map(|running| running.owner)
    }

    /// Returns whether this ticket is that of a read of input that was broken off.
    pub(super) fn was_stray(&mut self, ticket: u64) -> bool {
        self.stray.remove(&ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    /// Returns whether an effect reads a line of input.
    pub(super) fn reads_input(&self) -> bool {
        self.by_ticket.values().any(|running| running.reads_input)
    }

    /// Breaks off the effects whose owners no longer wait for them. Returns the tickets.
    pub(super) fn break_off(&mut self, is_gone: impl Fn(&Owner) -> bool) -> Vec<u64> {
        let gone = self.by_ticket.iter().filter(|(_, running)| is_gone(&running.owner));
        let tickets: Vec<u64> = gone.map(|(ticket, _)| *ticket).collect();
        for ticket in &tickets {
            let Some(running) = self.by_ticket.remove(ticket) else { continue };
            if running.reads_input {
                self.stray.insert(*ticket);
            }
            if let Some(abort) = running.abort {
                abort.abort();
            }
        }
        tickets
    }

    /// Breaks off all effects, at the end of the process.
    pub(super) fn abort_all(&self) {
        self.by_ticket.values().filter_map(|running| running.abort.as_ref()).for_each(Abort::abort);
    }
}
