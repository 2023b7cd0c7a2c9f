//! What can be seen of an engine from outside: for people, simulations and the explorer.

use std::sync::Arc;

use crate::machine::EntityId;

use super::address::Address;
use super::entity::Hold;
use super::mailbox::Mailbox;
use super::message::Mail;
use super::open::Open;
use super::step::Engine;

impl Engine {
    /// When each timer is due, in order.
    pub fn dues(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.timers.all().chain(self.delayed.all()).collect();
        all.sort_unstable();
        all
    }

    /// What an instance waits for; none when it is not in memory.
    pub fn waits_for(&self, instance: &str) -> Option<Vec<&Open>> {
        Some(self.instances.get(instance)?.open.values().map(|open| &**open).collect())
    }

    /// What has been waited for longest, with how many other things are waited for.
    pub fn oldest_wait(&self) -> Option<(&Open, usize)> {
        let open = || self.instances.values().flat_map(|instance| instance.open.values().map(|open| &**open));
        open().min_by_key(|open| open.time).map(|oldest| (oldest, open().count() - 1))
    }

    /// All that is under way, for people: who waits for what, who holds what, and what waits for whom.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        let mut ids: Vec<&Arc<str>> = self.uses.under_way().chain(self.mailboxes.keys()).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let waits = match self.instances.get(id) {
                Some(instance) => {
                    instance.open.values().map(|open| open.describe()).collect::<Vec<_>>().join("; ")
                }
                None => "not in memory".to_string(),
            };
            out.push_str(&format!("{id}: {waits}\n"));
            for mail in self.mail(&Address::Instance(id.clone())) {
                out.push_str(&format!("    {:?}\n", mail.message));
            }
        }
        out.push_str(&self.entities.describe());
        for address in &self.fetching {
            out.push_str(&format!("{address} is being read\n"));
        }
        out
    }

    /// Who holds an entity.
    pub fn holds(&self) -> impl Iterator<Item = (&EntityId, &Hold)> {
        self.entities.holds()
    }

    /// The messages that wait for an entity, or for an instance.
    pub fn mail(&self, to: &Address) -> Vec<&Mail> {
        match to {
            Address::Entity(entity) => self.entities.mail(entity).collect(),
            Address::Instance(id) => {
                let mail = self.instances.get(id).map(|i| &i.mail).or_else(|| self.mailboxes.get(id));
                mail.into_iter().flat_map(Mailbox::iter).map(|mail| &**mail).collect()
            }
        }
    }
}
