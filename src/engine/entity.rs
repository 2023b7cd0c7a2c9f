//! Entities: their states, their queues, and who holds them.
//!
//! An operation runs to its end in one go, unless it asks for an effect; nothing of it counts before its end. Then
//! its state, its reply and what it sent are written together, or nothing of it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::{Data, EntityId, ErrorData, Identity, Image, Machine, Progress, Value, What};

use super::message::{Address, Mail, Message, Waiter};
use super::record;
use super::run::Sender;
use super::step::{Engine, Output, StepId};
use super::{Batch, keys};

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
        record::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<Hold> {
        record::decode(bytes)
    }
}

/// What is known of an entity's state.
#[derive(Default)]
enum State {
    #[default]
    Unknown,
    /// It was asked for.
    Asked,
    /// It is this; none when the entity has no state.
    Known(Option<Value>),
}

/// An operation under way.
struct Running {
    machine: Machine,
    mail: Rc<Mail>,
}

/// One entity.
#[derive(Default)]
struct Slot {
    queue: VecDeque<Rc<Mail>>,
    /// Calls from within the critical section that holds it.
    lane: VecDeque<Rc<Mail>>,
    hold: Option<Hold>,
    /// Whether the store has a holder.
    hold_written: bool,
    state: State,
    /// A new state that is not written yet; none when it was deleted.
    unwritten: Option<Option<Data>>,
    running: Option<Running>,
    queued: bool,
    /// How many operations it has run in this process.
    operations: u32,
}

/// Messages that one turn of an entity takes.
const TURN: usize = 1024;
/// Fuel of one slice of an operation.
const SLICE: u64 = 100_000;
/// Entities at rest that are kept in memory.
const RESIDENT: usize = 16_384;

/// All entities with something to do, and some that have not.
#[derive(Default)]
pub(super) struct Entities {
    slots: HashMap<Rc<EntityId>, Slot>,
    /// Those with something to write.
    changed: BTreeSet<Rc<EntityId>>,
    /// By instance, the entities that it asked for or holds.
    owners: HashMap<Arc<str>, Vec<EntityId>>,
    /// The newest program that declares an entity.
    deployed: HashMap<String, Rc<Image>>,
    /// Those at rest, the one that has rested longest first; some may have been used since.
    resting: VecDeque<Rc<EntityId>>,
    /// How many operations are under way.
    pub busy: usize,
}

impl Entities {
    fn slot(&mut self, entity: &Rc<EntityId>) -> &mut Slot {
        self.slots.entry(entity.clone()).or_default()
    }

    /// The program is the newest that declares an entity; whether it was not before.
    pub fn deploy(&mut self, name: &str, image: &Rc<Image>) -> bool {
        let before = self.deployed.insert(name.to_string(), image.clone());
        before.is_none_or(|before| before.code.hash != image.code.hash)
    }

    /// A message joins its queue.
    pub fn arrive(&mut self, entity: &Rc<EntityId>, mail: Rc<Mail>) {
        let slot = self.slot(entity);
        match &mail.message {
            Message::Call { caller, within: true, .. }
                if slot.hold.as_ref().is_some_and(|hold| hold.owner.instance == caller.instance) =>
            {
                slot.lane.push_back(mail)
            }
            message => {
                if let Message::Lock { owner, set, .. } = message {
                    let owner: Arc<str> = owner.instance.as_str().into();
                    let set = set.clone();
                    slot.queue.push_back(mail);
                    self.owners.insert(owner, set);
                    return;
                }
                slot.queue.push_back(mail)
            }
        }
    }

    /// A holder that the store knows of.
    pub fn recover(&mut self, entity: EntityId, hold: Hold) {
        self.owners.insert(hold.owner.instance.as_str().into(), hold.set.clone());
        let slot = self.slot(&Rc::new(entity));
        slot.hold = Some(hold);
        slot.hold_written = true;
    }

    /// Marks it as ready; whether it was not.
    pub fn queue(&mut self, entity: &Rc<EntityId>) -> bool {
        let slot = self.slot(entity);
        !std::mem::replace(&mut slot.queued, true)
    }

    pub fn is_held_by(&self, entity: &EntityId, instance: &str) -> bool {
        let hold = self.slots.get(entity).and_then(|slot| slot.hold.as_ref());
        hold.is_some_and(|hold| hold.owner.instance == instance)
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
        for entity in std::mem::take(&mut self.changed) {
            let Some(slot) = self.slots.get_mut(&entity) else { continue };
            match slot.unwritten.take() {
                Some(Some(state)) => batch.put(keys::entity(&entity), state.0),
                Some(None) => batch.delete(keys::entity(&entity)),
                None => {}
            }
            match &slot.hold {
                Some(hold) => batch.put(keys::lock(&entity), hold.encode()),
                None if slot.hold_written => batch.delete(keys::lock(&entity)),
                None => {}
            }
            slot.hold_written = slot.hold.is_some();
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

/// What an entity does next.
enum Next {
    Acquire(Rc<Mail>),
    Operate(Rc<Mail>),
    /// Somebody else holds it.
    Blocked(String),
    Fetch,
    Nothing,
}

impl Engine {
    pub(super) fn entity_fetched(&mut self, entity: EntityId, state: Option<Data>, image: Option<Rc<Image>>) {
        let entity = Rc::new(entity);
        if let Some(image) = image {
            self.entities.deployed.entry(entity.name.clone()).or_insert(image);
        }
        let slot = self.entities.slot(&entity);
        if !matches!(slot.state, State::Known(_)) {
            slot.state = State::Known(state.map(|state| state.decode()));
        }
        self.wake_entity(&entity);
    }

    pub(super) fn run_entity(&mut self, entity: &Rc<EntityId>, now: i64) {
        self.entities.slot(entity).queued = false;
        for _ in 0..TURN {
            if self.entities.slot(entity).running.is_some() {
                if !self.operate(entity, now) {
                    return;
                }
                continue;
            }
            match self.next_for(entity) {
                Next::Acquire(mail) => self.acquire(entity, &mail, now),
                Next::Operate(mail) => self.begin_operation(entity, mail, now),
                Next::Blocked(owner) => {
                    // Whoever is waited for goes on too.
                    if self.goes_on && !self.is_under_way(&owner) {
                        self.fetch(Address::instance(&owner));
                    }
                    return;
                }
                Next::Fetch => {
                    self.entities.slot(entity).state = State::Asked;
                    self.fetch(Address::Entity(entity.clone()));
                    return;
                }
                Next::Nothing => {
                    // It may rest; if it has something to write, that is seen when it is written.
                    self.entities.changed.insert(entity.clone());
                    return;
                }
            }
        }
        self.wake_entity(entity);
    }

    fn next_for(&mut self, entity: &Rc<EntityId>) -> Next {
        let slot = self.entities.slot(entity);
        let queue = match &slot.hold {
            Some(hold) if slot.lane.is_empty() => {
                return match slot.queue.is_empty() {
                    true => Next::Nothing,
                    false => Next::Blocked(hold.owner.instance.clone()),
                };
            }
            Some(_) => &mut slot.lane,
            None => &mut slot.queue,
        };
        let Some(mail) = queue.front() else { return Next::Nothing };
        if !matches!(mail.message, Message::Lock { .. }) {
            match slot.state {
                State::Unknown => return Next::Fetch,
                State::Asked => return Next::Nothing,
                State::Known(_) => {}
            }
        }
        match queue.pop_front() {
            Some(mail) if matches!(mail.message, Message::Lock { .. }) => Next::Acquire(mail),
            Some(mail) => Next::Operate(mail),
            None => Next::Nothing,
        }
    }

    // ---- operations

    fn begin_operation(&mut self, entity: &Rc<EntityId>, mail: Rc<Mail>, now: i64) {
        match self.operation(entity, &mail) {
            Ok(machine) => {
                let slot = self.entities.slot(entity);
                slot.operations = slot.operations.wrapping_add(1);
                slot.running = Some(Running { machine, mail });
                self.entities.busy += 1;
            }
            Err(error) => self.operation_done(entity, &mail, Err(error), now),
        }
    }

    fn operation(&mut self, entity: &Rc<EntityId>, mail: &Mail) -> Result<Machine, ErrorData> {
        let (Message::Call { operation, args, .. } | Message::Signal { operation, args, .. }) = &mail.message
        else {
            return Err(ErrorData::new("internal", "not an operation"));
        };
        let name = &entity.name;
        let unknown =
            || ErrorData::new("unknown_entity", format!("no program here declares entity `{name}`"));
        let image = self.entities.deployed.get(name).cloned().ok_or_else(unknown)?;
        let declared = image.code.find_entity(name).ok_or_else(unknown)?;
        let Some(found) = declared.operations.iter().find(|known| known.name == *operation) else {
            let near = crate::check::closest(operation, declared.operations.iter().map(|o| o.name.as_str()));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("entity `{name}` has no operation `{operation}`{hint}");
            return Err(ErrorData::new("unknown_operation", message));
        };
        let args = match args.decode() {
            Value::List(args) => args.as_slice().to_vec(),
            _ => Vec::new(),
        };
        let state = match &self.entities.slot(entity).state {
            State::Known(state) => state.clone(),
            _ => None,
        };
        let identity =
            Identity { id: entity.to_string(), key: mail.from.clone(), entity: Some((**entity).clone()) };
        Machine::operation(image.clone(), declared, found, args, state, identity)
    }

    /// Runs the operation that is under way for a slice; whether the entity can go on at once.
    fn operate(&mut self, entity: &Rc<EntityId>, now: i64) -> bool {
        let slot = self.entities.slot(entity);
        let attempt = slot.operations;
        let Some(running) = &mut slot.running else { return true };
        match running.machine.run(SLICE) {
            Progress::OutOfFuel => {
                self.wake_entity(entity);
                false
            }
            Progress::Waiting => {
                for request in running.machine.take_requests() {
                    let owner = Address::Entity(entity.clone());
                    let step = StepId { owner, execution: 0, seq: request.seq, attempt };
                    if let What::Effect(name) = request.what {
                        let external = crate::builtins::find(name).is_some_and(|id| {
                            id.get().kind == crate::builtins::Kind::Effect { external: true }
                        });
                        self.outputs.push(Output::Effect { step, name, args: request.args, external });
                    }
                }
                false
            }
            Progress::Done(result) => {
                let Some(Running { mut machine, mail }) = slot.running.take() else { return true };
                self.entities.busy -= 1;
                let result = result.and_then(|value| {
                    let state = machine.take_state()?;
                    let slot = self.entities.slot(entity);
                    if let Some(state) = state {
                        let (value, data) = state.unzip();
                        slot.state = State::Known(value);
                        slot.unwritten = Some(data);
                    }
                    Ok(value)
                });
                if result.is_ok() {
                    let sender = Sender {
                        from: mail.from.clone(),
                        root: mail.root.clone(),
                        image: machine.image.clone(),
                        file: machine.image.code.sources.files[0].name.clone(),
                    };
                    let sends = machine.take_sends();
                    self.send_all(&sender, sends, now);
                }
                self.operation_done(entity, &mail, result, now);
                true
            }
        }
    }

    fn operation_done(
        &mut self,
        entity: &Rc<EntityId>,
        mail: &Rc<Mail>,
        result: Result<Data, ErrorData>,
        _now: i64,
    ) {
        self.entities.changed.insert(entity.clone());
        self.taken(&Address::Entity(entity.clone()), mail);
        match (&mail.message, result) {
            (Message::Call { caller, .. }, result) => self.reply(mail, caller.clone(), result),
            (Message::Signal { operation, .. }, Err(error)) => {
                let what = format!("signal {entity}.{operation}");
                self.outputs.push(Output::Lost { what, error });
            }
            _ => {}
        }
    }

    /// An effect of an operation has its result.
    pub(super) fn entity_answer(
        &mut self,
        entity: &Rc<EntityId>,
        step: &StepId,
        result: Result<Data, ErrorData>,
    ) {
        let slot = self.entities.slot(entity);
        if slot.operations != step.attempt {
            return;
        }
        let Some(running) = &mut slot.running else { return };
        running.machine.answer(step.seq, result);
        self.wake_entity(entity);
    }

    // ---- critical sections

    /// An instance asks for the entities of its critical section.
    pub(super) fn lock(&mut self, id: &Arc<str>, seq: u64, args: &Data, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let mut set = Vec::new();
        if let Value::List(args) = args.decode()
            && let Some(Value::List(entities)) = args.as_slice().first()
        {
            for entity in entities.as_slice() {
                if let Value::Entity(entity) = entity
                    && let Ok(entity) = EntityId::of(entity)
                {
                    set.push(entity);
                }
            }
        }
        let owner = instance.waiter(seq);
        let Some(first) = set.first().cloned() else {
            instance.deliver(seq, Ok(Data::null()));
            return;
        };
        let (from, root) = (instance.step_key(seq), instance.record.root.as_str().into());
        self.entities.owners.insert(id.clone(), set.clone());
        let message = Message::Lock { owner, set, at: 0, since: now };
        self.send(Address::entity(first), from, root, None, message);
    }

    /// The request of a critical section is at the head of the queue of an entity that is free.
    fn acquire(&mut self, entity: &Rc<EntityId>, mail: &Rc<Mail>, now: i64) {
        self.taken(&Address::Entity(entity.clone()), mail);
        let Message::Lock { owner, set, at, since } = &mail.message else { return };
        self.entities.changed.insert(entity.clone());
        self.entities.slot(entity).hold = Some(Hold { owner: owner.clone(), set: set.clone(), since: now });
        match set.get(*at as usize + 1) {
            Some(next) => {
                let message =
                    Message::Lock { owner: owner.clone(), set: set.clone(), at: at + 1, since: *since };
                let next = Address::entity(next.clone());
                self.send(next, mail.from.clone(), mail.root.clone(), None, message);
            }
            None => self.reply(mail, owner.clone(), Ok(Data::null())),
        }
    }

    /// An instance holds nothing any more, and asks for nothing.
    pub(super) fn release(&mut self, owner: &str) {
        let Some(set) = self.entities.owners.remove(owner) else { return };
        for entity in set {
            let entity = Rc::new(entity);
            let slot = self.entities.slot(&entity);
            if slot.hold.as_ref().is_some_and(|hold| hold.owner.instance == owner) {
                slot.hold = None;
                // What it sent while it held it comes before what was sent after.
                for mail in std::mem::take(&mut slot.lane).into_iter().rev() {
                    slot.queue.push_front(mail);
                }
            }
            let asked = |mail: &Rc<Mail>| matches!(&mail.message, Message::Lock { owner: asker, .. } if asker.instance == owner);
            let withdrawn: Vec<Rc<Mail>> = slot.queue.iter().filter(|mail| asked(mail)).cloned().collect();
            if !withdrawn.is_empty() {
                slot.queue.retain(|mail| !asked(mail));
            }
            self.entities.changed.insert(entity.clone());
            for mail in withdrawn {
                self.taken(&Address::Entity(entity.clone()), &mail);
            }
            self.wake_entity(&entity);
        }
    }
}
