//! The instances that are in memory, and the mail of those that are not.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::instance::Instance;
use super::mailbox::Mailbox;
use super::residency::Residency;

/// Those who wait, the one that has waited longest first.
///
/// Invariant: an instance that is parked is in it, under the number that it was parked under last. Those that have gone on
/// since may be in it too.
#[derive(Default)]
pub(super) struct Parked {
    queue: VecDeque<(u64, Arc<str>)>,
    /// How often one was parked.
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
    /// An instance waits, and may be dropped from memory for others.
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

    /// The mailbox of an instance that is not in memory, or is about to leave it.
    pub fn mailbox(&mut self, id: &Arc<str>) -> &mut Mailbox {
        self.mailboxes.entry(id.clone()).or_default()
    }

    /// What waits for an instance, in memory or not.
    pub fn mail(&self, id: &str) -> Option<&Mailbox> {
        self.get(id).map(|instance| &instance.arrivals.mail).or_else(|| self.mailboxes.get(id))
    }

    /// As `mail`, to be changed.
    pub fn mail_mut(&mut self, id: &str) -> Option<&mut Mailbox> {
        match self.instances.get_mut(id) {
            Some(instance) => Some(&mut instance.arrivals.mail),
            None => self.mailboxes.get_mut(id),
        }
    }

    /// An instance leaves memory; its mail waits for it.
    pub fn put_away(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.instances.remove(id)
            && !instance.arrivals.mail.is_empty()
        {
            self.mailboxes.insert(id.clone(), instance.arrivals.mail);
        }
    }

    /// Drops those that have waited longest, as long as there are more than `most`.
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
        // Those that have gone on since are in the queue more than once.
        if self.parked.queue.len() > 64 + 2 * self.instances.len() {
            let Residents { instances, parked, .. } = self;
            parked.queue.retain(|(since, id)| waits(instances, *since, id));
        }
    }
}
