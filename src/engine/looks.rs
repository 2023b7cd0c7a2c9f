//! The view of an engine from outside: for people, simulations and the explorer.

use std::sync::Arc;

use crate::machine::EntityId;

use super::address::Address;
use super::entity::Hold;
use super::mailbox::Mailbox;
use super::message::Mail;
use super::open::Open;
use super::step::Engine;

impl Engine {
    /// Whether an instance belongs to the partition of this engine.
    pub fn is_here(&self, id: &str) -> bool {
        self.placement.as_ref().is_none_or(|placement| placement.partition_of_id(id) == placement.own)
    }

    /// Returns the time at which each timer is due, in order.
    pub fn dues(&self) -> Vec<i64> {
        self.scheduler.dues()
    }

    /// Returns the open requests of an instance, or `None` if it is not in memory.
    pub fn waits_for(&self, instance: &str) -> Option<Vec<&Open>> {
        Some(self.residents.get(instance)?.evaluation.open.values().map(|open| &**open).collect())
    }

    /// Returns the oldest open request, and the number of other open requests.
    pub fn oldest_wait(&self) -> Option<(&Open, usize)> {
        let instances = || self.residents.instances.values();
        let open = || instances().flat_map(|instance| instance.evaluation.open.values().map(|open| &**open));
        open().min_by_key(|open| open.time).map(|oldest| (oldest, open().count() - 1))
    }

    /// Describes everything under way, for people: open requests, holders and waiting messages.
    pub fn describe(&self) -> String {
        let mut out = String::new();
        let mut ids: Vec<&Arc<str>> = self.uses.under_way().chain(self.residents.mailboxes.keys()).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            let waits = match self.residents.get(id) {
                Some(instance) => {
                    let open = instance.evaluation.open.values().map(|open| open.describe());
                    open.collect::<Vec<_>>().join("; ")
                }
                None => "not in memory".to_string(),
            };
            out.push_str(&format!("{id}: {waits}\n"));
            for mail in self.mail(&Address::Instance(id.clone())) {
                out.push_str(&format!("    {:?}\n", mail.message));
            }
        }
        out.push_str(&self.entities.describe());
        for address in self.wanted.iter() {
            out.push_str(&format!("{address} is being read\n"));
        }
        out
    }

    /// Returns the held entities and their holders.
    pub fn holds(&self) -> impl Iterator<Item = (&EntityId, &Hold)> {
        self.entities.holds()
    }

    /// Returns the messages that wait for an entity or an instance.
    pub fn mail(&self, to: &Address) -> Vec<&Mail> {
        match to {
            Address::Entity(entity) => self.entities.mail(entity).collect(),
            Address::Instance(id) => {
                self.residents.mail(id).into_iter().flat_map(Mailbox::iter).map(|mail| &**mail).collect()
            }
        }
    }
}
