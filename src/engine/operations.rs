//! Entities at work: taking the next message, running an operation to its end, and handling its
//! result.
//!
//! An operation runs to its end in one go, unless it asks for an effect. It has no consequences
//! before its end. Then its state, its reply and its messages are written together, or none of
//! them.

use std::rc::Rc;

use crate::code::Entity;
use crate::machine::{
    Data, EntityId, ErrorData, Identity, Image, Machine, Progress, RequestKind, Value, find_operation, sql,
};

use super::address::Address;
use super::entity::{Deployment, Running, Slot, State};
use super::events::{Leaving, StepId};
use super::fault::{self, Fault};
use super::kept::KeptRange;
use super::message::{Mail, Message};
use super::send::Sender;
use super::step::Engine;

/// The number of messages that one turn of an entity takes at most.
const TURN: usize = 1024;
/// The fuel of one slice of an operation. A turn ends when its operations together have used that
/// much.
const SLICE: u64 = 100_000;
/// The number of bytes of arguments and states that cost one unit of fuel.
const BYTES: u64 = 16;
/// The fuel of a whole operation: some seconds of calls, repetitions and long natives.
pub const MOST_OPERATION_FUEL: u64 = 500_000_000;

/// The next action of an entity.
enum Next {
    /// The current operation continues.
    GoesOn,
    Acquire(Rc<Mail>),
    Operate(Rc<Mail>),
    /// Another instance holds the entity.
    Blocked(String),
    /// The entity's state must be read from the store.
    Fetch,
    Nothing,
}

impl Slot {
    /// Brings the state to the version of a program, before an operation of the program. Returns the
    /// fuel that this took. After an error the state is as it was.
    fn migrate(&mut self, entity: &EntityId, image: &Rc<Image>, declared: &Entity) -> Result<u64, ErrorData> {
        let newest = declared.migrations.len() as u32;
        let State::Known(Some(state)) = &self.state else {
            // A state that the operation makes has the program's version.
            self.version = newest;
            return Ok(0);
        };
        if self.version == newest {
            return Ok(0);
        }
        if self.version > newest {
            let known = self.version;
            let message = format!(
                "the state of {entity} has version {known}, and the deployed program knows versions up to {newest}: \
                 deploy the text that has migrated it"
            );
            return Err(ErrorData::new("unknown_entity", message));
        }
        let (state, data, spent) = Machine::migrate(image, declared, state.clone(), self.version)?;
        (self.state, self.version, self.unwritten) = (State::Known(Some(state)), newest, Some(Some(data)));
        Ok(spent)
    }

    /// Decides on the next action, and takes its message.
    fn next(&mut self) -> Next {
        if self.running.is_some() {
            return Next::GoesOn;
        }
        let queue = match &self.hold {
            Some(hold) if self.lane.is_empty() => {
                return match self.queue.is_empty() {
                    true => Next::Nothing,
                    false => Next::Blocked(hold.owner.instance.clone()),
                };
            }
            Some(_) => &mut self.lane,
            None => &mut self.queue,
        };
        let Some(mail) = queue.front() else { return Next::Nothing };
        if !matches!(mail.message, Message::Lock { .. }) {
            match self.state {
                State::Unknown => {
                    self.state = State::Asked;
                    return Next::Fetch;
                }
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
}

impl Engine {
    pub(super) fn entity_fetched(
        &mut self,
        entity: EntityId,
        (state, version): (Option<Data>, u32),
        deployed: Option<Deployment>,
        kept: Option<KeptRange>,
    ) {
        let entity = Rc::new(entity);
        self.learn(deployed.as_ref().and_then(|deployed| deployed.version));
        if let Some(deployed) = deployed {
            self.entities.deployed.entry(entity.name.clone()).or_insert(deployed);
        }
        if self.placement.is_some() {
            self.entities.looked_up.insert(entity.name.clone());
        }
        let keeps = self.entities.keeps;
        let slot = self.entities.slot(&entity);
        if !matches!(slot.state, State::Known(_)) {
            if keeps {
                slot.keeps(kept, state.as_ref());
            }
            slot.state = State::Known(state.map(|state| state.decode()));
            (slot.version, slot.written_version) = (version, version);
        }
        self.wake_entity(&entity);
    }

    pub(super) fn run_entity(&mut self, entity: &Rc<EntityId>, now: i64) {
        self.entities.slot(entity).queued = false;
        if self.is_held_back(entity) {
            return;
        }
        let before = self.scheduler.fuel;
        for _ in 0..TURN {
            if self.scheduler.fuel - before >= SLICE && !fault::is_in(Fault::TurnsOfManySlices) {
                break;
            }
            if self.placement.is_some() && self.entities.lacks_program(entity) {
                self.fetch(Address::Entity(entity.clone()));
                return;
            }
            match self.entities.slot(entity).next() {
                Next::GoesOn => {
                    if !self.operate(entity, now) {
                        return;
                    }
                }
                Next::Acquire(mail) => self.acquire(entity, &mail, now),
                Next::Operate(mail) => self.begin_operation(entity, &mail, now),
                Next::Blocked(owner) => {
                    // The holder is loaded too, so that it can release the entity.
                    if self.goes_on && !self.is_under_way(&owner) {
                        self.fetch(Address::instance(&owner));
                    }
                    return;
                }
                Next::Fetch => {
                    self.fetch(Address::Entity(entity.clone()));
                    return;
                }
                Next::Nothing => {
                    // The entity may leave memory; anything left to write shows when writes are
                    // taken.
                    self.entities.note(entity);
                    return;
                }
            }
        }
        self.wake_entity(entity);
    }

    // ---- operations

    fn begin_operation(&mut self, entity: &Rc<EntityId>, mail: &Rc<Mail>, now: i64) {
        if self.entities.keeps {
            self.entities.keep_begin(entity, now);
        }
        if let Err(error) = self.operation(entity, mail) {
            self.operation_done(entity, mail, Err(error));
        }
    }

    /// Begins an operation. Both the deployed program's permissions and the sender's limit it.
    fn operation(&mut self, entity: &Rc<EntityId>, mail: &Rc<Mail>) -> Result<(), ErrorData> {
        let (Message::Call { operation, args, .. } | Message::Signal { operation, args, .. }) = &mail.message
        else {
            return Err(ErrorData::new("internal", "not an operation"));
        };
        let name = &entity.name;
        let unknown =
            || ErrorData::new("unknown_entity", format!("no program here declares entity `{name}`"));
        let (deployed, slot) = self.entities.deployed_and_slot(entity);
        let Deployment { image, permissions, .. } = deployed.ok_or_else(unknown)?;
        let declared = image.code.find_entity(name).ok_or_else(unknown)?;
        let found = find_operation(declared, name, operation)?;
        self.scheduler.spend(args.0.len() as u64 / BYTES);
        let version = slot.version;
        self.scheduler.spend(slot.migrate(entity, image, declared)?);
        if slot.version != version {
            slot.keep_migrated();
        }
        let args = args.items();
        let state = match &slot.state {
            State::Known(state) => state.clone(),
            _ => None,
        };
        let identity = Identity {
            id: String::new(),
            key: mail.from.clone(),
            entity: Some((**entity).clone()),
            attempt: 1,
        };
        let machine = Machine::operation(image.clone(), declared, found, args, state, identity)?;
        let permissions = permissions.and(&mail.permissions);
        slot.operations = slot.operations.wrapping_add(1);
        slot.running = Some(Running { machine, mail: mail.clone(), permissions, spent: 0 });
        self.entities.busy += 1;
        Ok(())
    }

    /// Runs the current operation for one slice. Returns whether the entity can go on at once.
    fn operate(&mut self, entity: &Rc<EntityId>, now: i64) -> bool {
        let slot = self.entities.slot(entity);
        let attempt = slot.operations;
        let Some(running) = &mut slot.running else { return true };
        let progress = running.machine.run(SLICE);
        let spent = running.machine.take_spent();
        self.scheduler.spend(spent);
        running.spent = running.spent.saturating_add(spent);
        match progress {
            Progress::OutOfFuel if running.spent > MOST_OPERATION_FUEL => {
                let mail = running.mail.clone();
                slot.running = None;
                self.entities.busy -= 1;
                self.operation_done(entity, &mail, Err(endless(entity, &mail)));
                true
            }
            Progress::OutOfFuel => {
                self.wake_entity(entity);
                false
            }
            Progress::Waiting => {
                let (permissions, from) = (running.permissions.clone(), running.mail.from.clone());
                let requests = running.machine.take_requests();
                for request in &requests {
                    slot.keep_request(request, now);
                }
                for request in requests {
                    let owner = Address::Entity(entity.clone());
                    let step = StepId { owner, life: 0, execution: 0, seq: request.seq, round: 0, attempt };
                    if let RequestKind::Effect(effect) = request.what {
                        let key = || format!("{from}-{}", request.seq);
                        let args = sql::keyed(effect, request.args, key);
                        self.ask_effect(step, effect, args, permissions.clone());
                    }
                }
                false
            }
            Progress::Done(result) => {
                let Some(Running { mut machine, mail, permissions, .. }) = slot.running.take() else {
                    return true;
                };
                slot.keep_end(now);
                let result = result.and_then(|value| {
                    if let Some(state) = machine.take_state()? {
                        let (value, data) = state.unzip();
                        let bytes = data.as_ref().map_or(0, |data| data.0.len() as u64);
                        self.scheduler.spend(bytes / BYTES);
                        slot.keep_state(data.as_ref());
                        slot.state = State::Known(value);
                        slot.unwritten = Some(data).filter(|_| !fault::is_in(Fault::StatesForgotten));
                    }
                    Ok(value)
                });
                self.entities.busy -= 1;
                if result.is_ok() {
                    let sender = Sender {
                        from: mail.from.clone(),
                        root: mail.root.clone(),
                        image: machine.image.clone(),
                        file: machine.image.code.sources.files[0].name.clone(),
                        owner: None,
                        permissions,
                    };
                    let sends = machine.take_sends();
                    self.send_all(&sender, sends, now);
                }
                self.operation_done(entity, &mail, result);
                true
            }
        }
    }

    pub(super) fn operation_done(
        &mut self,
        entity: &Rc<EntityId>,
        mail: &Rc<Mail>,
        result: Result<Data, ErrorData>,
    ) {
        self.entities.note(entity);
        if self.entities.keeps {
            self.entities.keep_done(entity, mail, &result, self.scheduler.now);
        }
        if !fault::is_in(Fault::OperationsTwice) {
            self.taken(&Address::Entity(entity.clone()), mail);
        }
        match (&mail.message, result) {
            (Message::Call { .. }, result) => self.answer_call(entity, mail, result),
            (Message::Signal { operation, .. }, Err(error)) => {
                let what = format!("signal {entity}.{operation}");
                self.emit(Leaving::Lost { what, error });
            }
            _ => {}
        }
    }

    /// Passes the result of an effect to the operation that asked for it.
    pub(super) fn entity_answer(
        &mut self,
        entity: &Rc<EntityId>,
        step: &StepId,
        result: Result<Data, ErrorData>,
    ) {
        let slot = self.entities.slot(entity);
        if slot.operations != step.attempt || slot.running.is_none() {
            return;
        }
        slot.keep_answer(step.seq, &result, self.scheduler.now);
        let Some(running) = &mut slot.running else { return };
        running.machine.answer(step.seq, result);
        self.wake_entity(entity);
    }
}

/// Returns the error of an operation that takes too long. Nothing else happens to an entity during
/// an operation.
fn endless(entity: &EntityId, mail: &Mail) -> ErrorData {
    let (Message::Call { operation, .. } | Message::Signal { operation, .. }) = &mail.message else {
        return ErrorData::new("internal", "not an operation");
    };
    let message = format!(
        "`{entity}.{operation}` was not done after {MOST_OPERATION_FUEL} calls and repetitions, and its changes are not kept; \
         an activity may compute for as long as it likes"
    );
    ErrorData::with("limit", message, [("operation", Value::str(operation.as_str()))])
}
