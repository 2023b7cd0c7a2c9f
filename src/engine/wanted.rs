//! What is needed from the store, and when it is asked for.

use std::sync::Arc;

use hashbrown::HashSet;

use super::address::Address;
use super::fault::{self, Fault};
use super::turns::Turns;

/// As long as this many can run, little more is read from the store: who is there comes first, and may have ended when
/// the next one comes, so that many that begin together are neither in memory together nor written half done. One is read
/// in so many turns all the same, since those who can run may never end.
const READ_AHEAD: usize = 64;

/// Instances and entities that are needed.
///
/// Invariant: each is asked for once, until it has come. Roots take turns.
#[derive(Default)]
pub(super) struct Wanted {
    all: HashSet<Address>,
    /// Those of them that were not asked for yet.
    unasked: Turns<Address>,
    /// How many had a turn since something was last asked for.
    turns: usize,
    /// Nothing is asked for before the writes are taken: they change what is read.
    waits: bool,
}

impl Wanted {
    /// Something is needed; whether it was not yet. Then it is to be queued.
    pub fn want(&mut self, address: &Address) -> bool {
        self.all.insert(address.clone())
    }

    /// What is needed is asked for when it is its root's turn.
    pub fn queue(&mut self, root: &Arc<str>, address: Address) {
        self.unasked.push(root, address);
    }

    /// What was needed has come.
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

    /// Somebody had a turn.
    pub fn had_a_turn(&mut self) {
        self.turns += 1;
    }

    /// Nothing is asked for before the writes are taken.
    pub fn wait_for_writes(&mut self) {
        self.waits = true;
    }

    /// The writes are taken.
    pub fn writes_are_taken(&mut self) {
        self.waits = false;
    }

    /// What is asked for next, when there is room for it beside so many that can run.
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
