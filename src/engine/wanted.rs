//! Reads from the store: the instances and entities that are needed, and when they are requested.

use std::sync::Arc;

use hashbrown::HashSet;

use super::address::Address;
use super::fault::{self, Fault};
use super::turns::Turns;

/// The number of ready or requested instances and entities beyond which reads from the store are
/// held back. Those in memory may end before the next one comes. So many that begin together are
/// neither in memory together nor written half done. One is still read in this many turns, since
/// the ready ones may never end.
const READ_AHEAD: usize = 64;

/// The instances and entities that are needed.
///
/// Invariant: each is requested once, until it has come. Roots take turns.
#[derive(Default)]
pub(super) struct Wanted {
    all: HashSet<Address>,
    /// The needed ones that are not requested yet.
    unasked: Turns<Address>,
    /// The number of turns since the last request.
    turns: usize,
    /// Whether requests wait until the writes are taken, because the writes change what would be
    /// read.
    waits: bool,
}

impl Wanted {
    /// Notes that something is needed. Returns whether that is new, in which case it must be
    /// queued.
    pub fn want(&mut self, address: &Address) -> bool {
        self.all.insert(address.clone())
    }

    /// Queues something that is needed, to be requested when its root has a turn.
    pub fn queue(&mut self, root: &Arc<str>, address: Address) {
        self.unasked.push(root, address);
    }

    /// Notes that something has come from the store.
    pub fn came(&mut self, address: &Address) {
        self.all.remove(address);
    }

    pub fn has(&self, address: &Address) -> bool {
        self.all.contains(address)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Address> {
        self.all.iter()
    }

    /// Notes that an instance or entity had a turn.
    pub fn had_a_turn(&mut self) {
        self.turns += 1;
    }

    /// Stops all requests until the writes are taken.
    pub fn wait_for_writes(&mut self) {
        self.waits = true;
    }

    /// Notes that the writes are taken.
    pub fn writes_are_taken(&mut self) {
        self.waits = false;
    }

    /// Returns those that will be requested, in their order.
    pub fn upcoming(&self) -> impl Iterator<Item = &Address> {
        self.unasked.iter()
    }

    /// Takes the next one to request, if there is room for it beside `ready` that can run.
    pub fn next(&mut self, ready: usize) -> Option<Address> {
        let starves = self.turns >= READ_AHEAD && !fault::is_in(Fault::ReadsStarve);
        let has_room = starves || ready + self.all.len() - self.unasked.len() < READ_AHEAD;
        if self.waits || !has_room {
            return None;
        }
        let address = self.unasked.pop()?;
        self.turns = 0;
        Some(address)
    }
}
