//! Critical sections: how instances acquire and release entities.
//!
//! A request visits the entities of its section in a fixed order, as a message that waits in each
//! queue. An instance has one section at a time, so its id and life identify all that it holds and
//! asks for.

use std::rc::Rc;
use std::sync::Arc;

use crate::machine::{Data, EntityId, Value};

use super::address::{Address, LifeId, Waiter};
use super::entity::Hold;
use super::message::{Mail, Message};
use super::step::Engine;

impl Engine {
    /// Requests the entities of an instance's critical section. `from` is the key of the requesting
    /// step. An empty set requests nothing.
    pub(super) fn lock(&mut self, owner: Waiter, set: Vec<EntityId>, from: String, root: Arc<str>, now: i64) {
        let Some(first) = set.first().cloned() else { return };
        self.entities.owners.insert(owner.life_id(), set.clone());
        let message = Message::Lock { owner, set, at: 0, since: now };
        self.send(Address::entity(first), from, root, None, message);
    }

    /// Gives an entity to a critical section. The request is at the head of the entity's queue, and
    /// the entity is free.
    pub(super) fn acquire(&mut self, entity: &Rc<EntityId>, mail: &Rc<Mail>, now: i64) {
        self.taken(&Address::Entity(entity.clone()), mail);
        let Message::Lock { owner, set, at, since } = &mail.message else { return };
        self.entities.note(entity);
        let hold = Hold { owner: owner.clone(), set: set.clone(), since: now };
        self.entities.slot(entity).set_hold(Some(hold));
        // Different entities of an earlier version may be the same entity now.
        let first = usize::try_from(*at).map_or(usize::MAX, |at| at.saturating_add(1));
        let next = (first..set.len()).find(|next| !set[..first].contains(&set[*next]));
        match next.map(|next| (next, &set[next])) {
            Some((at, next)) => {
                let at = at as u64;
                let message = Message::Lock { owner: owner.clone(), set: set.clone(), at, since: *since };
                let next = Address::entity(next.clone());
                self.send(next, mail.from.clone(), mail.root.clone(), None, message);
            }
            None => self.reply(mail, owner.clone(), Ok(Data::null())),
        }
    }

    /// Releases everything that the lives of an id hold or ask for, except the life that goes on.
    pub(super) fn release_lives(&mut self, id: &str, goes_on: Option<u64>) {
        let from = LifeId { id: id.to_string(), life: 0 };
        let lives = self.entities.owners.range(from..).map(|(owner, _)| owner);
        let lives = lives.take_while(|owner| owner.id == id).filter(|owner| goes_on != Some(owner.life));
        for owner in lives.cloned().collect::<Vec<_>>() {
            self.release(&owner);
        }
    }

    /// Releases everything that an instance holds or asks for.
    pub(super) fn release(&mut self, owner: &LifeId) {
        let Some(set) = self.entities.owners.remove(owner) else { return };
        for entity in set {
            let entity = Rc::new(entity);
            let slot = self.entities.slot(&entity);
            if slot.hold.as_ref().is_some_and(|hold| hold.owner.is_of(&owner.id, owner.life)) {
                slot.set_hold(None);
                // Calls from within the section come before later messages.
                for mail in std::mem::take(&mut slot.lane).into_iter().rev() {
                    slot.queue.push_front(mail);
                }
            }
            let asked = |mail: &Rc<Mail>| matches!(&mail.message, Message::Lock { owner: asker, .. } if asker.is_of(&owner.id, owner.life));
            let withdrawn: Vec<Rc<Mail>> = slot.queue.iter().filter(|mail| asked(mail)).cloned().collect();
            if !withdrawn.is_empty() {
                slot.queue.retain(|mail| !asked(mail));
            }
            self.entities.note(&entity);
            for mail in withdrawn {
                self.taken(&Address::Entity(entity.clone()), &mail);
            }
            self.wake_entity(&entity);
        }
    }
}

/// Returns the entities of a critical section, from the arguments of its request.
pub(super) fn section(args: &Data) -> Vec<EntityId> {
    let Some(Value::List(entities)) = args.items().into_iter().next() else { return Vec::new() };
    let entity = |value: &Value| match value {
        Value::Entity(entity) => EntityId::of(entity).ok(),
        _ => None,
    };
    entities.as_slice().iter().filter_map(entity).collect()
}
