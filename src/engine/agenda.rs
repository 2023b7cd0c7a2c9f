//! What an instance wants done, and the engine has not seen to yet.

use std::collections::{BTreeMap, HashSet};

use crate::machine::Request;

use super::fault::{self, Fault};
use super::mailbox::Mailbox;
use super::open::{Open, Requests};
use super::outbox::Line;

/// What an evaluation has come to since the engine last saw to it.
///
/// Invariant: an agenda that holds back what has come ([`Agenda::comes_first`]) is not empty. So it is seen to, and then
/// holds back nothing.
pub(super) struct Agenda {
    /// Lines that are to leave.
    pub lines: Vec<Line>,
    /// What activities sent whose results were taken in, each with its step.
    pub outgoing: Vec<(u64, Vec<Request>)>,
    /// Requests that nobody waits for any more.
    pub dropped: Vec<(u64, Box<Open>)>,
    /// Requests that are to be seen to.
    requests: Vec<u64>,
    /// Those that this process has seen to already, each with its attempt, when the instance is replayed in its place.
    seen_to: BTreeMap<u64, u32>,
    /// One of the requests is a message that is not sent yet. It is sent before anything else is taken in: what a turn
    /// asked of others happens, though the next turn may give it up, and a rewinding relies on it.
    is_unsent: bool,
    /// When the first of their timers is due.
    first_due: i64,
}

impl Agenda {
    /// The agenda of an instance with these requests, in order.
    pub fn of(requests: Vec<u64>, first_due: i64, is_unsent: bool) -> Agenda {
        Agenda {
            lines: Vec::new(),
            outgoing: Vec::new(),
            dropped: Vec::new(),
            requests,
            seen_to: BTreeMap::new(),
            is_unsent,
            first_due,
        }
    }

    /// Whether there is nothing to be seen to.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.seen_to.is_empty()
            && !self.has_leavings()
            && !self.is_unsent
            && self.first_due == i64::MAX
    }

    /// Whether something leaves, or is given up, before new requests are seen to.
    pub fn has_leavings(&self) -> bool {
        !self.lines.is_empty() || !self.outgoing.is_empty() || !self.dropped.is_empty()
    }

    /// A request is to be seen to.
    pub fn add(&mut self, seq: u64) {
        self.requests.push(seq);
    }

    /// A request is not seen to, or only at another place.
    pub fn remove(&mut self, seq: u64) {
        self.requests.retain(|known| *known != seq);
    }

    /// Something was asked for, now or in the past.
    pub fn asked(&mut self, open: &Open) {
        self.is_unsent |= !open.recorded && open.is_message() && !fault::is_in(Fault::GivenUpUnsent);
        self.is_due(open);
    }

    /// The timer of a request counts.
    pub fn is_due(&mut self, open: &Open) {
        self.first_due = self.first_due.min(open.due().unwrap_or(i64::MAX));
    }

    /// Whether what was asked for comes before anything that is taken in: a message is not sent, or a timer was due before
    /// now and takes its place among what has come.
    pub fn comes_first(&self, now: i64) -> bool {
        self.first_due <= now || self.is_unsent
    }

    /// This process has seen to some of the requests before the instance was replayed.
    pub fn was_seen_to(&mut self, open: &Requests) {
        let dispatched = open.iter().filter(|(_, open)| open.dispatched);
        self.seen_to = dispatched.map(|(seq, open)| (*seq, open.attempt)).collect();
    }

    /// The requests that are to be seen to: not those that this process has seen to before the instance was replayed, nor
    /// those that are done and whose answers wait. `of` is the instance's life and execution.
    pub fn take_requests(&mut self, open: &mut Requests, mail: &Mailbox, of: (u64, u32)) -> Vec<u64> {
        self.first_due = i64::MAX;
        self.is_unsent = false;
        let seen_to = std::mem::take(&mut self.seen_to);
        let mut all = std::mem::take(&mut self.requests);
        if !mail.answers.is_empty() {
            // What is done has its answer there, which waits to be taken in. Time limits of all else count.
            let answered: HashSet<u64> = mail.answered(of).collect();
            let is_done =
                |seq: &u64| answered.contains(seq) && open.get(seq).is_some_and(|open| open.is_broken_off());
            all.retain(|seq| !is_done(seq));
        }
        all.retain(|seq| match (open.get_mut(*seq), seen_to.get(seq)) {
            (Some(open), Some(attempt)) if open.attempt == *attempt => {
                open.dispatched = true;
                false
            }
            _ => true,
        });
        all
    }
}
