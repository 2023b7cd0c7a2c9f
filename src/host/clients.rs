//! The parties that wait for instances: the caller of the host, clients, and purges.
//!
//! Invariant: each party that waits for the end of an instance is told once, after the end is
//! durable. A failure that no party waits for is shown to people.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::engine::Ending;

use super::Answer;
use super::command::Reply;

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
    /// The last number that an id got, by the part of the id before it.
    last_ids: HashMap<String, u64>,
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

    /// Tells the waiting clients that an instance has ended.
    pub(super) fn tell(&mut self, instance: &str) {
        for client in self.waiting.remove(instance).unwrap_or_default() {
            let _ = client.send(Reply::Ended);
        }
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
