//! The exchange with other partitions: what is sent to them, and what they have sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kv::{Partition, Receipt};
use crate::machine::{Data, EntityId, ErrorData};

use super::address::{Address, LifeId, Waiter};
use super::events::Leaving;
use super::message::{Mail, Message, StoredMail};
use super::placement::Placement;
use super::step::Engine;
use super::transit::{self, Incoming, Item};
use super::waits::{self, Waits};

impl Engine {
    /// Returns the partition of an address, if it is another one.
    pub(super) fn elsewhere(&self, to: &Address) -> Option<Partition> {
        let placement = self.placement.as_ref()?;
        let partition = placement.partition_of(to);
        (partition != placement.own).then_some(partition)
    }

    /// Whether an entity belongs to another partition.
    pub(super) fn is_elsewhere(&self, entity: &EntityId) -> bool {
        let is_away = |placement: &Placement| placement.partition_of_entity(entity) != placement.own;
        self.placement.as_ref().is_some_and(is_away)
    }

    // ---- sending

    /// Returns the body for a partition in the next writes, which tells of all known deployments.
    fn body(&mut self, to: Partition) -> &mut Vec<u8> {
        let body = self.batch.transit.sends.entry(to).or_default();
        if self.courier.told.insert(to) && !self.versions.known().is_empty() {
            transit::append_item(body, &Item::Versions(self.versions.known().clone()));
        }
        body
    }

    /// Adds a message to another partition to the next writes.
    pub(super) fn send_away(&mut self, partition: Partition, to: &Address, mail: &Mail) {
        if let Some(bytes) = mail.write() {
            transit::append_mail(self.body(partition), to, &bytes);
        }
    }

    /// Tells other partitions that a critical section was left that holds these entities of theirs.
    pub(super) fn release_away(&mut self, owner: &LifeId, entities: Vec<EntityId>) {
        let Some(placement) = &self.placement else { return };
        let mut by_partition: BTreeMap<Partition, Vec<EntityId>> = BTreeMap::new();
        for entity in entities {
            by_partition.entry(placement.partition_of_entity(&entity)).or_default().push(entity);
        }
        for (partition, entities) in by_partition {
            let item = Item::Release { owner: owner.clone(), entities };
            transit::append_item(self.body(partition), &item);
        }
    }

    /// Sends the withdrawal of a critical section's request to the partition of its next entity.
    pub(super) fn withdraw_away(&mut self, to: Partition, owner: Waiter, set: Vec<EntityId>, at: usize) {
        let item = Item::Withdraw { owner, set, at: at as u64 };
        transit::append_item(self.body(to), &item);
    }

    /// Tells the partition of an instance who waits for it.
    pub(super) fn ask_who_waits(&mut self, waits: &Waits, id: &Arc<str>) {
        if let Some(partition) = self.elsewhere(&Address::Instance(id.clone())) {
            let item = Item::Waits { waits: waits::sent(waits), id: id.to_string() };
            transit::append_item(self.body(partition), &item);
        }
    }

    // ---- arrivals

    /// Consumes something that nobody waits for an answer to, by the next writes.
    pub fn consumes(&mut self, request: Receipt) {
        self.batch.transit.consumed.push(request);
    }

    /// Answers a client's request by the next writes, which consume the request, too. Whoever
    /// passes requests on passes each on once.
    pub fn answers(&mut self, request: Receipt, answer: Vec<u8>) {
        self.batch.transit.consumed.push(request);
        self.batch.transit.answers.push((request.number, answer));
    }

    /// Takes in what another partition has sent.
    pub(super) fn take_in(&mut self, incoming: Incoming) {
        if !self.courier.takes(incoming.receipt, &mut self.batch) {
            return;
        }
        for item in incoming.items {
            match item {
                Item::Versions(known) => self.learn(known),
                Item::Mail(to, mail) => self.hand_in(to, mail),
                Item::Release { owner, entities } => self.release_entities(&owner, entities),
                Item::Waits { waits, id } => {
                    if self.goes_on {
                        self.look_for_circle(waits::received(waits), &id.into());
                    }
                }
                Item::Withdraw { owner, set, at } => {
                    let at = usize::try_from(at).unwrap_or(usize::MAX);
                    self.withdraw_from(&owner, &set, at);
                }
            }
        }
    }

    /// Learns of deployments. If one of them is new, all are read again when they are needed.
    pub(super) fn learn(&mut self, versions: impl IntoIterator<Item = (Partition, i64)>) {
        if self.versions.learn(versions) {
            self.courier.has_news();
            self.entities.forget_deployments();
        }
    }

    /// Notes that this partition deploys something, and returns the version.
    pub(super) fn new_version(&mut self) -> Option<(Partition, i64)> {
        let own = self.placement.as_ref()?.own;
        self.courier.has_news();
        Some(self.versions.deploys(own, self.scheduler.now))
    }

    /// Takes in a message. It comes after its cause, so this partition reaches that time. It gets a
    /// number of this partition, and the time at which it has come.
    fn hand_in(&mut self, to: Address, stored: StoredMail) {
        let now = self.scheduler.reach(stored.time);
        self.fire(now);
        let StoredMail { from, root, ack, mut message, permissions, .. } = stored;
        if let Address::Instance(id) = &to
            && Waiter::is_id_outside(id)
            && self.elsewhere(&to).is_none()
        {
            if let Message::Answer { result, .. } = message {
                self.answer_outside(id, result);
            }
            return;
        }
        if let (Address::Entity(entity), Message::Call { caller, within, .. }) = (&to, &mut message)
            && !caller.is_outside()
        {
            // Only here it is known whether the caller's critical section holds the entity.
            *within &= self.entities.is_held_by(entity, &caller.instance, caller.life);
        }
        let number = self.post.number();
        let mail = Mail::fresh(number, from, root.into(), ack, now, message, permissions);
        self.post(to, mail);
    }

    /// Passes the answer of a call of an activity on to the activity.
    fn answer_outside(&mut self, caller: &str, result: Result<Data, ErrorData>) {
        let caller = Waiter::unpinned(caller).to_string();
        self.emit(Leaving::Answered { caller, result });
    }
}
