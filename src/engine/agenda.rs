//! The agenda of an instance: work that the engine has not dispatched yet.

use std::collections::{BTreeMap, HashSet};

use crate::machine::Request;

use super::fault::{self, Fault};
use super::mailbox::Mailbox;
use super::open::{Open, Requests};
use super::outbox::Line;

/// The work that an evaluation has produced since the engine last dispatched it.
///
/// Invariant: an agenda that blocks new arrivals ([`Agenda::comes_first`]) is not empty. So the
/// engine dispatches it, and then it blocks nothing.
pub(super) struct Agenda {
    /// The lines to print or log.
    pub lines: Vec<Line>,
    /// The requests of activities whose results were taken in, each list with the activity's step.
    pub outgoing: Vec<(u64, Vec<Request>)>,
    /// The open requests whose answers nobody waits for any more.
    pub dropped: Vec<(u64, Box<Open>)>,
    /// The numbers of the requests to dispatch.
    requests: Vec<u64>,
    /// The requests that this process dispatched before the instance was replayed in its place,
    /// each with its attempt.
    seen_to: BTreeMap<u64, u32>,
    /// Whether one of the requests is a message that is not sent yet. The engine sends it before
    /// the instance takes in anything else. So the messages of a turn are sent even if the next
    /// turn gives them up, and a rewind relies on that.
    is_unsent: bool,
    /// The time at which the first timer of the requests is due.
    first_due: i64,
}

impl Agenda {
    /// Returns the agenda of an instance with these requests, in order.
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

    /// Whether there is nothing to dispatch.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.seen_to.is_empty()
            && !self.has_leavings()
            && !self.is_unsent
            && self.first_due == i64::MAX
    }

    /// Whether lines, messages or cancellations must be dispatched before new requests.
    pub fn has_leavings(&self) -> bool {
        !self.lines.is_empty() || !self.outgoing.is_empty() || !self.dropped.is_empty()
    }

    /// Whether requests must be dispatched.
    pub fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Adds a request to dispatch.
    pub fn add(&mut self, seq: u64) {
        self.requests.push(seq);
    }

    /// Removes a request, which is not dispatched, or only at another place in the order.
    pub fn remove(&mut self, seq: u64) {
        self.requests.retain(|known| *known != seq);
    }

    /// Notes a new request, made now or in the past.
    pub fn asked(&mut self, open: &Open) {
        self.is_unsent |= !open.recorded && open.is_message() && !fault::is_in(Fault::GivenUpUnsent);
        self.is_due(open);
    }

    /// Notes the timer of a request.
    pub fn is_due(&mut self, open: &Open) {
        self.first_due = self.first_due.min(open.due().unwrap_or(i64::MAX));
    }

    /// Whether the agenda comes before anything that is taken in. Either a message is not sent yet,
    /// or a timer is due and must take its place among the arrivals.
    pub fn comes_first(&self, now: i64) -> bool {
        self.first_due <= now || self.is_unsent
    }

    /// Notes the requests that this process dispatched before the instance was replayed.
    pub fn was_seen_to(&mut self, open: &Requests) {
        let dispatched = open.iter().filter(|(_, open)| open.dispatched);
        self.seen_to = dispatched.map(|(seq, open)| (*seq, open.attempt)).collect();
    }

    /// Takes the requests to dispatch. Requests that this process dispatched before the instance
    /// was replayed are left out, and so are finished requests whose answers wait. `of` is the
    /// instance's life and execution.
    pub fn take_requests(&mut self, open: &mut Requests, mail: &Mailbox, of: (u64, u32)) -> Vec<u64> {
        self.first_due = i64::MAX;
        self.is_unsent = false;
        let seen_to = std::mem::take(&mut self.seen_to);
        let mut all = std::mem::take(&mut self.requests);
        if !mail.answers.is_empty() {
            // A finished request has its answer in the mailbox. The time limits of all other
            // requests count.
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
