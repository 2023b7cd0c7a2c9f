//! Effects under way, by their tickets.
//!
//! Invariant: an effect that was broken off answers nobody. A line of input that was read for it is the next reader's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
use tokio::task::AbortHandle;

use super::effect_call::Owner;

/// An effect under way.
pub(super) struct Running {
    pub(super) owner: Owner,
    pub(super) abort: Option<Abort>,
    /// It reads a line of standard input.
    pub(super) reads_input: bool,
}

/// How an effect is broken off.
pub(super) enum Abort {
    Task(AbortHandle),
    /// It looks at this now and then.
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

/// Effects under way.
#[derive(Default)]
pub(super) struct RunningEffects {
    by_ticket: HashMap<u64, Running>,
    /// Reads of standard input whose line nobody waits for any more.
    stray: HashSet<u64>,
}

impl RunningEffects {
    /// An effect begins.
    pub(super) fn begin(&mut self, ticket: u64, running: Running) {
        self.by_ticket.insert(ticket, running);
    }

    /// An effect is done. Returns who waits for it, if somebody does.
    pub(super) fn done(&mut self, ticket: u64) -> Option<Owner> {
        self.by_ticket.remove(&ticket).map(|running| running.owner)
    }

    /// Whether this was a line of input that nobody waits for any more.
    pub(super) fn was_stray(&mut self, ticket: u64) -> bool {
        self.stray.remove(&ticket)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    /// Whether one of them reads a line of input.
    pub(super) fn reads_input(&self) -> bool {
        self.by_ticket.values().any(|running| running.reads_input)
    }

    /// Breaks off the effects of owners that do not wait for them any more. Returns their tickets.
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

    /// Breaks all of them off: the process goes.
    pub(super) fn abort_all(&self) {
        self.by_ticket.values().filter_map(|running| running.abort.as_ref()).for_each(Abort::abort);
    }
}
