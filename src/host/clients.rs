//! Those who wait for instances here: whoever runs the host, clients that ask, and purges.
//!
//! Invariant: everybody who waits for the end of an instance is told of it once, and only when that end is durable. A failure
//! that nobody waits for is told to people.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::engine::Outcome as Ending;

use super::Answer;
use super::command::Reply;

/// Those who wait for instances.
#[derive(Default)]
pub(super) struct Clients {
    /// Instances whose end is waited for by whoever runs the host, and how they ended.
    watched: HashMap<Arc<str>, Option<Ending>>,
    /// Clients that wait for an instance's end.
    waiting: HashMap<String, Vec<Answer>>,
    /// Instances that failed, and why, without anybody who waits for them.
    unheard: BTreeMap<String, String>,
    purges: Vec<Purging>,
    /// The last number that was given to an id, by what is before it.
    last_ids: HashMap<String, u64>,
}

/// Instances that are to be removed once all of their trees have ended, and who is told when it is done.
pub(super) struct Purging {
    pub(super) ids: Vec<String>,
    /// Those that were terminated and have not ended.
    pub(super) left: HashSet<String>,
    /// Those that can't be ended, and are removed all the same.
    pub(super) given_up: HashSet<String>,
    pub(super) reply: Answer,
}

impl Clients {
    /// Whoever runs the host waits for the end of an instance.
    pub(super) fn watch(&mut self, id: &str) {
        self.watched.insert(id.into(), None);
    }

    /// How a watched instance ended.
    pub(super) fn outcome(&self, instance: &str) -> Option<&Ending> {
        self.watched.get(instance)?.as_ref()
    }

    /// Whether all that are watched have ended.
    pub(super) fn has_seen_all(&self) -> bool {
        self.watched.values().all(Option::is_some)
    }

    /// A client waits for the end of an instance.
    pub(super) fn wait(&mut self, id: String, to: Answer) {
        self.waiting.entry(id).or_default().push(to);
    }

    /// Tells the clients that wait for an instance that it has ended.
    pub(super) fn tell(&mut self, instance: &str) {
        for client in self.waiting.remove(instance).unwrap_or_default() {
            let _ = client.send(Reply::Ended);
        }
    }

    /// Takes note of how an instance ended. Returns why it failed, if that is to be told to people now: nobody waits for it,
    /// and the process stays. `told` says that other instances were told.
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
        // Somebody may ask for it before the end.
        self.unheard.insert(instance.to_string(), why);
        None
    }

    /// Somebody was told how an instance ended, or it goes on.
    pub(super) fn heard(&mut self, instance: &str) {
        self.unheard.remove(instance);
    }

    /// Takes the failures that nobody has heard of: instances, and why.
    pub(super) fn take_unheard(&mut self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.unheard)
    }

    /// A purge waits for the ends of instances.
    pub(super) fn purge_later(&mut self, purging: Purging) {
        self.purges.push(purging);
    }

    /// An instance has ended, or can't go on. Returns the purges that wait for nothing more.
    pub(super) fn purges_after(&mut self, id: &str, can_go_on: bool) -> Vec<Purging> {
        self.purges.extract_if(.., |purging| purging.goes_on_after(id, can_go_on)).collect()
    }

    /// The last number of ids that begin so, if one was given here.
    pub(super) fn last_id(&self, prefix: &str) -> Option<u64> {
        self.last_ids.get(prefix).copied()
    }

    /// A number was given to an id that begins so.
    pub(super) fn give_id(&mut self, prefix: String, number: u64) {
        self.last_ids.insert(prefix, number);
    }
}

impl Purging {
    /// An instance has ended, or can't go on; whether it was the last one that was waited for.
    fn goes_on_after(&mut self, id: &str, can_go_on: bool) -> bool {
        let was_left = self.left.remove(id);
        if was_left && !can_go_on {
            self.given_up.insert(id.to_string());
        }
        was_left && self.left.is_empty()
    }
}
