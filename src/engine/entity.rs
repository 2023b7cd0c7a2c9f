//! Entities in memory: their states, queues and holders, and their unwritten changes.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

use crate::kv::{Batch, Partition};
use crate::machine::{Data, EntityId, Image, Machine, Value};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::kept::Keeping;
use super::message::{Mail, Message};
use super::{keys, stored};

/// The holder of an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub owner: Waiter,
    /// All entities of the holder's critical section.
    pub set: Vec<EntityId>,
    /// The time since which the entity is held, in nanoseconds since 1970.
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

/// The state of an entity, as far as it is known.
#[derive(Default)]
pub(super) enum State {
    #[default]
    Unknown,
    /// The state is being fetched from the store.
    Asked,
    /// The state, or `None` if the entity has none.
    Known(Option<Value>),
}

/// The newest program that declares an entity, and the permissions of its operations.
#[derive(Clone)]
pub struct Deployment {
    pub image: Rc<Image>,
    pub permissions: Permissions,
    /// The partition that deployed the program, and the time.
    pub version: Option<(Partition, i64)>,
}

/// An operation under way.
pub(super) struct Running {
    pub(super) machine: Machine,
    pub(super) mail: Rc<Mail>,
    /// The fuel that the operation has used.
    pub(super) spent: u64,
    pub(super) permissions: Permissions,
}

/// An entity in memory.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) queue: VecDeque<Rc<Mail>>,
    /// The calls from within the critical section that holds the entity.
    pub(super) lane: VecDeque<Rc<Mail>>,
    pub(super) hold: Option<Hold>,
    /// Whether the store has a holder.
    hold_written: bool,
    /// Whether the holder in memory differs from the holder in the store.
    hold_changed: bool,
    /// Whether the entity is in [`Entities::changed`].
    changed: bool,
    pub(super) state: State,
    /// The version of the state, and the one that the store has.
    pub(super) version: u32,
    pub(super) written_version: u32,
    /// The new state that is not written yet; the inner `None` stands for a deletion.
    pub(super) unwritten: Option<Option<Data>>,
    pub(super) running: Option<Running>,
    pub(super) queued: bool,
    /// The number of operations that the entity has run in this process.
    pub(super) operations: u32,
    /// The kept operations, if operations are kept.
    pub(super) keeping: Option<Box<Keeping>>,
}

/// The number of entities at rest that are kept in memory.
const RESIDENT: usize = 16_384;

/// All entities with something to do, and some at rest.
#[derive(Default)]
pub(super) struct Entities {
    slots: HashMap<Rc<EntityId>, Slot>,
    /// The entities with unwritten changes, each once, in no order.
    changed: Vec<Rc<EntityId>>,
    /// The entities that each instance has asked for or holds, if they and the instance are all of
    /// this partition.
    pub(super) owners: BTreeMap<LifeId, Vec<EntityId>>,
    /// The newest program that declares each entity.
    pub(super) deployed: HashMap<String, Deployment>,
    /// The names of entities whose newest programs were read. In a store of several partitions,
    /// they are read again when another partition has deployed something.
    pub(super) looked_up: HashSet<String>,
    /// The entities at rest, beginning with the one that has rested longest. Some may have been
    /// used since.
    resting: VecDeque<Rc<EntityId>>,
    /// The number of operations under way.
    pub busy: usize,
    /// Whether operations are kept.
    pub keeps: bool,
}

impl Entities {
    pub(super) fn slot(&mut self, entity: &Rc<EntityId>) -> &mut Slot {
        self.slots.entry(entity.clone()).or_default()
    }

    /// Notes that an entity has unwritten changes.
    pub(super) fn note(&mut self, entity: &Rc<EntityId>) {
        if !std::mem::replace(&mut self.slot(entity).changed, true) {
            self.changed.push(entity.clone());
        }
    }

    /// Returns the newest program that declares an entity, and the entity.
    pub(super) fn deployed_and_slot(&mut self, entity: &Rc<EntityId>) -> (Option<&Deployment>, &mut Slot) {
        (self.deployed.get(&entity.name), self.slots.entry(entity.clone()).or_default())
    }

    /// Makes a program the newest that declares an entity. Returns whether the program or its
    /// permissions changed.
    pub fn deploy(&mut self, name: &str, image: &Rc<Image>, permissions: &Permissions) -> bool {
        let deployment = Deployment { image: image.clone(), permissions: permissions.clone(), version: None };
        self.looked_up.insert(name.to_string());
        let before = self.deployed.insert(name.to_string(), deployment);
        before.is_none_or(|before| {
            before.image.code.hash != image.code.hash || before.permissions != *permissions
        })
    }

    /// Forgets the newest programs of all entities. They are read again when they are needed.
    pub fn forget_deployments(&mut self) {
        self.deployed.clear();
        self.looked_up.clear();
    }

    /// Whether the next message of an entity needs the newest program of the entity, which was not
    /// read since another partition has deployed something.
    pub fn lacks_program(&mut self, entity: &Rc<EntityId>) -> bool {
        if self.looked_up.contains(&entity.name) {
            return false;
        }
        let slot = self.slot(entity);
        let next = match slot.hold {
            _ if slot.running.is_some() => None,
            Some(_) => slot.lane.front(),
            None => slot.queue.front(),
        };
        next.is_some_and(|mail| !matches!(mail.message, Message::Lock { .. }))
    }

    /// Adds a message to the entity's queue.
    pub fn arrive(&mut self, entity: &Rc<EntityId>, mail: Rc<Mail>) {
        let slot = self.slot(entity);
        // A call of the holder's activity comes from within, too. The engine has checked the holder
        // when the activity made it, and the holder stays until the call is answered or given up.
        let is_holder = |caller: &Waiter| {
            let is_of = |hold: &Hold| hold.owner.is_of(&caller.instance, caller.life);
            slot.hold.as_ref().is_some_and(|hold| caller.is_outside() || is_of(hold))
        };
        match &mail.message {
            Message::Call { caller, within: true, .. } if is_holder(caller) => slot.lane.push_back(mail),
            _ => slot.queue.push_back(mail),
        }
    }

    /// Adds a holder that the store has.
    pub fn recover(&mut self, entity: EntityId, hold: Hold) {
        let slot = self.slot(&Rc::new(entity));
        slot.hold = Some(hold);
        slot.hold_written = true;
    }

    /// Returns the root of the message that the entity works on, or of the next one.
    pub fn root(&mut self, entity: &Rc<EntityId>) -> Arc<str> {
        let slot = self.slot(entity);
        let running = slot.running.as_ref().map(|running| &running.mail);
        let mail = running.or(slot.lane.front()).or(slot.queue.front());
        mail.map_or_else(|| Arc::from(""), |mail| mail.root.clone())
    }

    /// Marks an entity as ready. Returns whether it was not ready before.
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

    /// Describes the entities with a holder or messages, for people.
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

    /// Writes the changed states and holders to a batch.
    pub fn take_writes(&mut self, batch: &mut Batch) {
        let mut changed = std::mem::take(&mut self.changed);
        // The order makes batches the same in each run.
        changed.sort_unstable();
        for entity in changed {
            let Some(slot) = self.slots.get_mut(&entity) else { continue };
            slot.changed = false;
            match slot.unwritten.take() {
                Some(Some(state)) => {
                    batch.put(keys::entity(&entity), state.0);
                    if slot.version != slot.written_version {
                        batch.put(keys::version(&entity), slot.version.to_be_bytes().to_vec());
                        slot.written_version = slot.version;
                    }
                }
                Some(None) => {
                    batch.delete(keys::entity(&entity));
                    if std::mem::take(&mut slot.written_version) > 0 {
                        batch.delete(keys::version(&entity));
                    }
                }
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
            if let Some(keeping) = &mut slot.keeping {
                keeping.take_writes(&entity, batch);
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
    /// Sets or removes the holder.
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
            && self.keeping.as_ref().is_none_or(|keeping| !keeping.has_writes())
            && !self.queued
            && !matches!(self.state, State::Asked)
    }
}
