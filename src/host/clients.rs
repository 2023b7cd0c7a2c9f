//! The parties that wait for instances: the caller of the host, clients, and purges.
//!
//! Invariant: each party that waits for the end of an instance is told once, after the end is
//! durable. A failure that no party waits for is shown to people.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::engine::Ending;

use super::Answer;

/// The parties that wait for instances.
#[derive(Default)]
pub(super) struct Clients {
    /// The instances that the caller of the host waits for, and how they ended.
    watched: HashMap<Arc<str>, Option<Ending>>,
    /// The clients that wait for the end of an instance.
    waiting: HashMap<String, Vec<Answer>>,
    /// The instances that failed while nobody waited for them, with the reasons.
    unheard: BTreeMap<String, String>,
    purges: Vec<Purging>,
    /// The clients that wait for the answers of entities, by their calls.
    calls: HashMap<String, Vec<Calling>>,
    /// The number of the next client that waits for an answer.
    next_caller: u64,
    /// The times at which clients stop waiting, with their calls and numbers.
    deadlines: BTreeSet<(i64, String, u64)>,
    /// The last number that an id got, by the part of the id before it.
    last_ids: HashMap<String, u64>,
}

/// A client that waits for the answer of an entity.
struct Calling {
    number: u64,
    deadline: Option<i64>,
    reply: Answer,
}

/// A purge that waits until its trees have ended.
pub(super) struct Purging {
    pub(super) ids: Vec<String>,
    /// The instances that were terminated and have not ended yet.
    pub(super) left: HashSet<String>,
    /// The instances that can't be ended, and are removed anyway.
    pub(super) given_up: HashSet<String>,
    pub(super) reply: Answer,
}

impl Clients {
    /// Lets the caller of the host wait for the end of an instance.
    pub(super) fn watch(&mut self, id: &str) {
        self.watched.insert(id.into(), None);
    }

    /// Returns whether the caller of the host waits for an instance.
    pub(super) fn is_watched(&self, id: &str) -> bool {
        self.watched.contains_key(id)
    }

    /// Returns how an instance ended that the caller of the host waits for.
    pub(super) fn outcome(&self, instance: &str) -> Option<&Ending> {
        self.watched.get(instance)?.as_ref()
    }

    /// Returns whether all instances have ended that the caller of the host waits for.
    pub(super) fn has_seen_all(&self) -> bool {
        self.watched.values().all(Option::is_some)
    }

    /// Lets a client wait for the end of an instance.
    pub(super) fn wait(&mut self, id: String, to: Answer) {
        self.waiting.entry(id).or_default().push(to);
    }

    /// Removes and returns the clients that wait for an instance, which has ended.
    pub(super) fn take_waiting(&mut self, instance: &str) -> Vec<Answer> {
        self.waiting.remove(instance).unwrap_or_default()
    }

    /// Takes note of the end of an instance. Returns why the instance failed if nobody waits for it
    /// and the process stays, so that people are to be told now. `told` says that other instances
    /// know.
    pub(super) fn ended(
        &mut self,
        instance: &Arc<str>,
        outcome: Ending,
        told: bool,
        stays: bool,
    ) -> Option<String> {
        if let Some(watched) = self.watched.get_mut(instance) {
            *watched = Some(outcome);
            return None;
        }
        let why = match outcome {
            Ending::Failed(_) if told => return None,
            Ending::Failed(error) => error.title(),
            Ending::Nondeterminism(_) => "nondeterminism: it does not do what its history holds".to_string(),
            Ending::Incompatible(reason) => reason,
            Ending::Completed(_) | Ending::Terminated(_) => return None,
        };
        if stays {
            return Some(why);
        }
        // A client may still ask for the instance before the process ends.
        self.unheard.insert(instance.to_string(), why);
        None
    }

    /// Drops the failure of an instance, since a party was told of it or the instance goes on.
    pub(super) fn heard(&mut self, instance: &str) {
        self.unheard.remove(instance);
    }

    /// Removes and returns the failures that no party was told of, with the reasons.
    pub(super) fn take_unheard(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.unheard)
    }

    /// Lets a client wait for the answer to a call.
    pub(super) fn await_answer(&mut self, call: String, deadline: Option<i64>, reply: Answer) {
        let number = self.next_caller;
        self.next_caller += 1;
        self.deadlines.extend(deadline.map(|due| (due, call.clone(), number)));
        self.calls.entry(call).or_default().push(Calling { number, deadline, reply });
    }

    /// Removes and returns the clients that wait for the answer of a call.
    pub(super) fn take_callers(&mut self, call: &str) -> Vec<Answer> {
        let calling = self.calls.remove(call).unwrap_or_default();
        for Calling { number, deadline, .. } in &calling {
            if let Some(due) = deadline {
                self.deadlines.remove(&(*due, call.to_string(), *number));
            }
        }
        calling.into_iter().map(|one| one.reply).collect()
    }

    /// Returns the time at which the next client stops waiting for an answer.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.deadlines.first().map(|(due, ..)| *due)
    }

    /// Removes and returns the clients whose time is up.
    pub(super) fn expire(&mut self, now: i64) -> Vec<Answer> {
        let mut expired = Vec::new();
        while let Some((due, ..)) = self.deadlines.first()
            && *due <= now
            && let Some((_, call, number)) = self.deadlines.pop_first()
        {
            let Some(waiting) = self.calls.get_mut(&call) else { continue };
            expired.extend(waiting.extract_if(.., |one| one.number == number).map(|one| one.reply));
            if waiting.is_empty() {
                self.calls.remove(&call);
            }
        }
        expired
    }

    /// Removes and returns all clients that wait for answers.
    pub(super) fn give_up_calls(&mut self) -> Vec<Answer> {
        self.deadlines.clear();
        self.calls.drain().flat_map(|(_, waiting)| waiting).map(|one| one.reply).collect()
    }

    /// Adds a purge that has to wait for the ends of instances.
    pub(super) fn purge_later(&mut self, purging: Purging) {
        self.purges.push(purging);
    }

    /// Takes note that an instance has ended or can't go on. Removes and returns the purges that
    /// wait for nothing more.
    pub(super) fn purges_after(&mut self, id: &str, can_go_on: bool) -> Vec<Purging> {
        self.purges.extract_if(.., |purging| purging.goes_on_after(id, can_go_on)).collect()
    }

    /// Returns the last number that an id with this beginning got from this process.
    pub(super) fn last_id(&self, prefix: &str) -> Option<u64> {
        self.last_ids.get(prefix).copied()
    }

    /// Takes note of the number that an id with this beginning got.
    pub(super) fn give_id(&mut self, prefix: String, number: u64) {
        self.last_ids.insert(prefix, number);
    }
}

impl Purging {
    /// Takes note that an instance has ended or can't go on. Returns whether the purge waited for
    /// it last.
    fn goes_on_after(&mut self, id: &str, can_go_on: bool) -> bool {
        let was_left = self.left.remove(id);
        if was_left && !can_go_on {
            self.given_up.insert(id.to_string());
        }
        was_left && self.left.is_empty()
    }
}
