//! The requests of an instance that wait for events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::fault::{self, Fault};
use super::mailbox::Mailbox;
use super::message::{Came, Mail};

/// Requests by the names of the events that they wait for.
#[derive(Default)]
pub(super) struct Receives {
    names: BTreeMap<u64, String>,
    waiting: BTreeMap<String, BTreeSet<u64>>,
}

impl Receives {
    pub fn insert(&mut self, seq: u64, name: String) {
        self.waiting.entry(name.clone()).or_default().insert(seq);
        self.names.insert(seq, name);
    }

    pub fn remove(&mut self, seq: u64) {
        let Some(name) = self.names.remove(&seq) else { return };
        if let Some(waiting) = self.waiting.get_mut(&name) {
            waiting.remove(&seq);
            if waiting.is_empty() {
                self.waiting.remove(&name);
            }
        }
    }

    /// Returns the name of the event that a request waits for.
    pub fn name(&self, seq: u64) -> Option<&str> {
        self.names.get(&seq).map(String::as_str)
    }

    /// Returns the earliest event that a request waits for, and the request that gets it. If
    /// several requests wait for the same name, the first of them gets it.
    pub fn first_event(&self, mail: &Mailbox) -> Option<(Came, u64)> {
        // Each answer looks here, and most instances have no events.
        if mail.events.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let found = |queue: &VecDeque<Rc<Mail>>, waiting: &BTreeSet<u64>| {
            Some((queue.front()?.came(), *waiting.first()?))
        };
        if fault::is_in(Fault::EventsByRequest) {
            let all = mail.events.iter().filter_map(|(name, queue)| found(queue, self.waiting.get(name)?));
            return all.min_by_key(|(_, seq)| *seq);
        }
        // Either side may have many names, so the smaller one is searched.
        match mail.events.len() <= self.waiting.len() {
            true => {
                mail.events.iter().filter_map(|(name, queue)| found(queue, self.waiting.get(name)?)).min()
            }
            false => {
                self.waiting.iter().filter_map(|(name, waiting)| found(mail.events.get(name)?, waiting)).min()
            }
        }
    }
}
