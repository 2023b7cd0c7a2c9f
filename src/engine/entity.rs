//! Entities as they are kept in memory: states, queues and holders, and what of them is to be written.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::kv::Batch;
use crate::machine::{Data, EntityId, Image, Machine, Value};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::message::{Mail, Message};
use super::{keys, stored};

/// Who holds an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub owner: Waiter,
    /// All entities of the critical section.
    pub set: Vec<EntityId>,
    /// Since when, in nanoseconds since 1970.
    pub since: i64,
}

impl Hold {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<Hold> {
        stored::decode(bytes)
    }
}

/// What is known of an entity's state.
#[derive(Default)]
pub(super) enum State {
    #[default]
    Unknown,
    /// It was asked for.
    Asked,
    /// It is this; none when the entity has no state.
    Known(Option<Value>),
}

/// The newest program that declares an entity, and what its operations may do outside.
#[derive(Clone)]
pub struct Deployment {
    pub image: Rc<Image>,
    pub permissions: Permissions,
}

/// An operation under way.
pub(super) struct Running {
    pub(super) machine: Machine,
    pub(super) mail: Rc<Mail>,
    /// The fuel that it has used.
    pub(super) spent: u64,
    pub(super) permissions: Permissions,
}

/// One entity.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) queue: VecDeque<Rc<Mail>>,
    /// Calls from within the critical section that holds it.
    pub(super) lane: VecDeque<Rc<Mail>>,
    pub(super) hold: Option<Hold>,
    /// Whether the store has a holder, and another one than this.
    hold_written: bool,
    hold_changed: bool,
    /// Whether it is among those with something to write.
    changed: bool,
    pub(super) state: State,
    /// A new state that is not written yet; none when it was deleted.
    pub(super) unwritten: Option<Option<Data>>,
    pub(super) running: Option<Running>,
    pub(super) queued: bool,
    /// How many operations it has run in this process.
    pub(super) operations: u32,
}

/// Entities at rest that are kept in memory.
const RESIDENT: usize = 16_384;

/// All entities with something to do, and some that have not.
#[derive(Default)]
pub(super) struct Entities {
    slots: HashMap<Rc<EntityId>, Slot>,
    /// Those with something to write, each once, in no order.
    changed: Vec<Rc<EntityId>>,
    /// By instance, the entities that it asked for or holds.
    pub(super) owners: BTreeMap<LifeId, Vec<EntityId>>,
    /// The newest program that declares an entity.
    pub(super) deployed: HashMap<String, Deployment>,
    /// Those at rest, the one that has rested longest first; some may have been used since.
    resting: VecDeque<Rc<EntityId>>,
    /// How many operations are under way.
    pub busy: usize,
}

impl Entities {
    pub(super) fn slot(&mut self, entity: &Rc<EntityId>) -> &mut Slot {
        self.slots.entry(entity.clone()).or_default()
    }

    /// Notes that an entity has something to write.
    pub(super) fn note(&mut self, entity: &Rc<EntityId>) {
        if !std::mem::replace(&mut self.slot(entity).changed, true) {
            self.changed.push(entity.clone());
        }
    }

    /// The newest program that declares an entity, and the entity.
    pub(super) fn deployed_and_slot(&mut self, entity: &Rc<EntityId>) -> (Option<&Deployment>, &mut Slot) {
        (self.deployed.get(&entity.name), self.slots.entry(entity.clone()).or_default())
    }

    /// The program is the newest that declares an entity; whether it was not before, or with other permissions.
    pub fn deploy(&mut self, name: &str, image: &Rc<Image>, permissions: &Permissions) -> bool {
        let deployment = Deployment { image: image.clone(), permissions: permissions.clone() };
        let before = self.deployed.insert(name.to_string(), deployment);
        before.is_none_or(|before| {
            before.image.code.hash != image.code.hash || before.permissions != *permissions
        })
    }

    /// A message joins its queue.
    pub fn arrive(&mut self, entity: &Rc<EntityId>, mail: Rc<Mail>) {
        if let Message::Lock { owner, set, .. } = &mail.message {
            self.owners.entry(owner.life_id()).or_insert_with(|| set.clone());
        }
        let slot = self.slot(entity);
        let is_holder = |caller: &Waiter| {
            slot.hold.as_ref().is_some_and(|hold| hold.owner.is_of(&caller.instance, caller.life))
        };
        match &mail.message {
            Message::Call { caller, within: true, .. } if is_holder(caller) => slot.lane.push_back(mail),
            _ => slot.queue.push_back(mail),
        }
    }

    /// A holder that the store knows of.
    pub fn recover(&mut self, entity: EntityId, hold: Hold) {
        self.owners.insert(hold.owner.life_id(), hold.set.clone());
        let slot = self.slot(&Rc::new(entity));
        slot.hold = Some(hold);
        slot.hold_written = true;
    }

    /// The root of the message that it is at, or of the next one.
    pub fn root(&mut self, entity: &Rc<EntityId>) -> Arc<str> {
        let slot = self.slot(entity);
        let running = slot.running.as_ref().map(|running| &running.mail);
        let mail = running.or(slot.lane.front()).or(slot.queue.front());
        mail.map_or_else(|| Arc::from(""), |mail| mail.root.clone())
    }

    /// Marks it as ready; whether it was not.
    pub fn queue(&mut self, entity: &Rc<EntityId>) -> bool {
        let slot = self.slot(entity);
        !std::mem::replace(&mut slot.queued, true)
    }

    pub fn is_held_by(&self, entity: &EntityId, instance: &str, life: u64) -> bool {
        let hold = self.slots.get(entity).and_then(|slot| slot.hold.as_ref());
        hold.is_some_and(|hold| hold.owner.is_of(instance, life))
    }

    pub fn holds(&self) -> impl Iterator<Item = (&EntityId, &Hold)> {
        self.slots.iter().filter_map(|(entity, slot)| Some((&**entity, slot.hold.as_ref()?)))
    }

    pub fn mail(&self, entity: &EntityId) -> impl Iterator<Item = &Mail> {
        let slot = self.slots.get(entity);
        slot.into_iter().flat_map(|slot| slot.lane.iter().chain(&slot.queue)).map(|mail| &**mail)
    }

    /// Those with a holder or messages, for people.
    pub fn describe(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for (entity, slot) in &self.slots {
            if let Some(hold) = &slot.hold {
                lines.push(format!("{entity} is held by {}\n", hold.owner.instance));
            }
            lines.extend(self.mail(entity).map(|mail| format!("{entity}: {:?}\n", mail.message)));
        }
        lines.sort();
        lines.concat()
    }

    pub fn has_writes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// States and holders that have changed.
    pub fn take_writes(&mut self, batch: &mut Batch) {
        let mut changed = std::mem::take(&mut self.changed);
        // Batches are the same in each run.
        changed.sort_unstable();
        for entity in changed {
            let Some(slot) = self.slots.get_mut(&entity) else { continue };
            slot.changed = false;
            match slot.unwritten.take() {
                Some(Some(state)) => batch.put(keys::entity(&entity), state.0),
                Some(None) => batch.delete(keys::entity(&entity)),
                None => {}
            }
            if std::mem::take(&mut slot.hold_changed) {
                match &slot.hold {
                    Some(hold) => batch.put(keys::lock(&entity), hold.encode()),
                    None if slot.hold_written => batch.delete(keys::lock(&entity)),
                    None => {}
                }
                slot.hold_written = slot.hold.is_some();
            }
            if slot.is_at_rest() {
                self.resting.push_back(entity);
            }
        }
        while self.resting.len() > RESIDENT
            && let Some(entity) = self.resting.pop_front()
        {
            if self.slots.get(&entity).is_some_and(Slot::is_at_rest) {
                self.slots.remove(&entity);
            }
        }
    }
}

impl Slot {
    /// Another holds it, or nobody any more.
    pub(super) fn set_hold(&mut self, hold: Option<Hold>) {
        self.hold = hold;
        self.hold_changed = true;
    }

    fn is_at_rest(&self) -> bool {
        self.queue.is_empty()
            && self.lane.is_empty()
            && self.hold.is_none()
            && self.unwritten.is_none()
            && self.running.is_none()
            && !self.queued
            && !matches!(self.state, State::Asked)
    }
}
