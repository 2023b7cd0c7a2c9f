//! Critical sections: how instances acquire and release entities.
//!
//! A request visits the entities of its section in a fixed order, as a message that waits in each
//! queue. An instance has one section at a time, so its id and life identify all that it holds and
//! asks for.
//!
//! In a store of several partitions, a section is *spread* if one of its entities belongs to
//! another partition than the instance. A spread section that was granted is left by a release,
//! which goes to each partition directly. A request that was not granted may be anywhere on its
//! way, so its withdrawal goes the same way from entity to entity, and can't overtake it. The
//! withdrawal names the request. A release names the life alone: whatever the instance requests
//! afterwards holds an entity only after the release has come there.

use std::rc::Rc;
use std::sync::Arc;

use crate::machine::{Data, EntityId};

use super::address::{Address, LifeId, Waiter};
use super::entity::Hold;
use super::fault::{self, Fault};
use super::message::{Mail, Message};
use super::step::Engine;

impl Engine {
    /// Requests the entities of an instance's critical section. `from` is the key of the requesting
    /// step. An empty set requests nothing.
    pub(super) fn lock(&mut self, owner: Waiter, set: Vec<EntityId>, from: String, root: Arc<str>, now: i64) {
        let Some(first) = set.first().cloned() else { return };
        self.asks(&owner, &set);
        let message = Message::Lock { owner, set, at: 0, since: now };
        self.send(Address::entity(first), from, root, None, message);
    }

    /// Notes that an instance asks for entities or holds them, if all are of this partition.
    pub(super) fn asks(&mut self, owner: &Waiter, set: &[EntityId]) {
        if self.is_here(&owner.instance) && !self.is_spread(set) {
            self.entities.owners.entry(owner.life_id()).or_insert_with(|| set.to_vec());
        }
    }

    /// Gives an entity to a critical section. The request is at the head of the entity's queue, and
    /// the entity is free.
    pub(super) fn acquire(&mut self, entity: &Rc<EntityId>, mail: &Rc<Mail>, now: i64) {
        self.taken(&Address::Entity(entity.clone()), mail);
        let Message::Lock { owner, set, at, since } = &mail.message else { return };
        self.entities.note(entity);
        let hold = Hold { owner: owner.clone(), set: set.clone(), since: now };
        self.entities.slot(entity).set_hold(Some(hold));
        let next = next(set, usize::try_from(*at).unwrap_or(usize::MAX));
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
            self.free(&entity, |hold| hold.is_of(&owner.id, owner.life));
            self.remove_request(&entity, |asker| asker.is_of(&owner.id, owner.life));
            self.entities.note(&entity);
            self.wake_entity(&entity);
        }
    }

    /// Releases an entity whose holder is the one that is meant. Returns whether there was one.
    fn free(&mut self, entity: &Rc<EntityId>, is_meant: impl Fn(&Waiter) -> bool) -> bool {
        let slot = self.entities.slot(entity);
        if !slot.hold.as_ref().is_some_and(|hold| is_meant(&hold.owner)) {
            return false;
        }
        slot.set_hold(None);
        // Calls from within the section come before later messages.
        for mail in std::mem::take(&mut slot.lane).into_iter().rev() {
            slot.queue.push_front(mail);
        }
        true
    }

    /// Removes the requests for an entity that are meant. Returns whether there was one.
    fn remove_request(&mut self, entity: &Rc<EntityId>, is_meant: impl Fn(&Waiter) -> bool) -> bool {
        let asked = |mail: &Rc<Mail>| matches!(&mail.message, Message::Lock { owner, .. } if is_meant(owner));
        let slot = self.entities.slot(entity);
        let withdrawn: Vec<Rc<Mail>> = slot.queue.iter().filter(|mail| asked(mail)).cloned().collect();
        if !withdrawn.is_empty() {
            slot.queue.retain(|mail| !asked(mail));
        }
        for mail in &withdrawn {
            self.taken(&Address::Entity(entity.clone()), mail);
        }
        !withdrawn.is_empty()
    }

    // ---- several partitions

    /// Whether a section has entities of other partitions.
    fn is_spread(&self, set: &[EntityId]) -> bool {
        self.placement.is_some() && set.iter().any(|entity| self.is_elsewhere(entity))
    }

    /// Returns the entities that an instance in memory holds, if its section is spread.
    pub(super) fn spread_section(&self, id: &str) -> Option<&[EntityId]> {
        self.placement.as_ref()?;
        let held = self.residents.get(id)?.evaluation.machine().held_entities();
        self.is_spread(held).then_some(held)
    }

    /// Withdraws the request of a critical section.
    pub(super) fn withdraw(&mut self, owner: &Waiter, set: &[EntityId]) {
        self.release(&owner.life_id());
        self.withdraw_spread(owner, set);
    }

    /// Withdraws the request of a spread section. Does nothing for any other one.
    pub(super) fn withdraw_spread(&mut self, owner: &Waiter, set: &[EntityId]) {
        if !self.is_spread(set) {
            return;
        }
        if fault::is_in(Fault::WithdrawalOvertakes) {
            self.withdraw_from(owner, &set[..1], 0);
            return self.release_entities(&owner.life_id(), set.to_vec());
        }
        self.withdraw_from(owner, set, 0);
    }

    /// Lets a withdrawal follow its request from an entity on, up to where the request is or to the
    /// next entity of another partition.
    pub(super) fn withdraw_from(&mut self, owner: &Waiter, set: &[EntityId], at: usize) {
        let mut at = at;
        while let Some(entity) = set.get(at) {
            let to = Address::entity(entity.clone());
            if let Some(partition) = self.elsewhere(&to) {
                return self.withdraw_away(partition, owner.clone(), set.to_vec(), at);
            }
            let Address::Entity(entity) = to else { return };
            let is_request = |asker: &Waiter| asker == owner;
            let waits = self.remove_request(&entity, is_request);
            let has_passed = self.free(&entity, is_request);
            self.entities.note(&entity);
            self.wake_entity(&entity);
            match next(set, at) {
                Some(next) if has_passed && !waits => at = next,
                _ => return,
            }
        }
    }

    /// Releases the entities of a spread section that was granted. Does nothing for any other one.
    pub(super) fn release_spread(&mut self, owner: &LifeId, set: Vec<EntityId>) {
        if self.is_spread(&set) {
            self.release_entities(owner, set);
        }
    }

    /// Releases the entities that a granted section holds, here and in other partitions.
    pub(super) fn release_entities(&mut self, owner: &LifeId, entities: Vec<EntityId>) {
        let (away, here): (Vec<_>, Vec<_>) =
            entities.into_iter().partition(|entity| self.is_elsewhere(entity));
        for entity in here {
            let entity = Rc::new(entity);
            self.free(&entity, |hold| hold.is_of(&owner.id, owner.life));
            self.entities.note(&entity);
            self.wake_entity(&entity);
        }
        self.release_away(owner, away);
    }
}

/// Returns the position in a section's set after `at` to which its request goes next. Different
/// entities of an earlier version may be the same entity now.
fn next(set: &[EntityId], at: usize) -> Option<usize> {
    let first = at.saturating_add(1);
    (first..set.len()).find(|next| !set[..first].contains(&set[*next]))
}
