//! The instances in memory, and the mail of the others.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::instance::Instance;
use super::mailbox::Mailbox;
use super::residency::Residency;

/// The waiting instances, the longest waiting first.
///
/// Invariant: each parked instance is in the queue, under the number under which it was last
/// parked. The queue may also have entries of instances that have gone on since.
#[derive(Default)]
pub(super) struct Parked {
    queue: VecDeque<(u64, Arc<str>)>,
    /// The number of times that an instance was parked.
    last: u64,
}

/// Instances by their ids.
#[derive(Default)]
pub(super) struct Residents {
    pub instances: HashMap<Arc<str>, Box<Instance>>,
    /// Mail for instances that are not in memory.
    pub mailboxes: HashMap<Arc<str>, Mailbox>,
    pub parked: Parked,
}

impl Parked {
    /// Parks an instance, which may then be dropped from memory to make room.
    pub fn push(&mut self, id: &Arc<str>, residency: &mut Residency) {
        self.last += 1;
        residency.park(self.last);
        self.queue.push_back((self.last, id.clone()));
    }
}

impl Residents {
    pub fn get(&self, id: &str) -> Option<&Instance> {
        self.instances.get(id).map(|instance| &**instance)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.instances.get_mut(id).map(|instance| &mut **instance)
    }

    pub fn contains(&self, id: &str) -> bool {
        self.instances.contains_key(id)
    }

    /// Returns the mailbox of an instance that is not in memory, or is about to leave it.
    pub fn mailbox(&mut self, id: &Arc<str>) -> &mut Mailbox {
        self.mailboxes.entry(id.clone()).or_default()
    }

    /// Returns the mail of an instance, in memory or not.
    pub fn mail(&self, id: &str) -> Option<&Mailbox> {
        self.get(id).map(|instance| &instance.arrivals.mail).or_else(|| self.mailboxes.get(id))
    }

    /// Returns the same as `mail`, mutably.
    pub fn mail_mut(&mut self, id: &str) -> Option<&mut Mailbox> {
        match self.instances.get_mut(id) {
            Some(instance) => Some(&mut instance.arrivals.mail),
            None => self.mailboxes.get_mut(id),
        }
    }

    /// Drops an instance from memory, and keeps its mail.
    pub fn put_away(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.instances.remove(id)
            && !instance.arrivals.mail.is_empty()
        {
            self.mailboxes.insert(id.clone(), instance.arrivals.mail);
        }
    }

    /// Drops the instances that have waited longest, as long as more than `most` are in memory.
    pub fn drop_parked(&mut self, most: usize) {
        let waits = |instances: &HashMap<Arc<str>, Box<Instance>>, since: u64, id: &Arc<str>| {
            instances.get(id).is_some_and(|instance| instance.residency == Residency::Parked(since))
        };
        while self.instances.len() > most
            && let Some((since, id)) = self.parked.queue.pop_front()
        {
            let known = self.get(&id).filter(|instance| instance.residency == Residency::Parked(since));
            if known.is_some_and(Instance::can_be_dropped) {
                self.put_away(&id);
            }
        }
        // Instances that have gone on since are in the queue more than once.
        if self.parked.queue.len() > 64 + 2 * self.instances.len() {
            let Residents { instances, parked, .. } = self;
            parked.queue.retain(|(since, id)| waits(instances, *since, id));
        }
    }
}
