//! Entities at work, as the operations that are kept see them: what begins, is asked and answered,
//! and ends.
//!
//! Invariant: nothing here changes what an operation does. Without operations to keep, nothing here
//! costs more than a look.

use std::rc::Rc;

use crate::code::ProgramHash;
use crate::kv::Batch;
use crate::machine::{Data, EntityId, ErrorData, Request};

use super::entity::{Entities, Slot, State};
use super::entry::Entry;
use super::kept::{Keeping, KeptOperation, KeptRange, UnderWay};
use super::keys;
use super::message::{Mail, Message};

impl Slot {
    /// Returns the state as data.
    fn state_data(&self) -> Option<Data> {
        match &self.state {
            State::Known(Some(state)) => Data::encode(state).ok(),
            _ => None,
        }
    }

    /// Notes the operations that the store keeps, as the state is fetched.
    pub(super) fn keeps(&mut self, range: Option<KeptRange>, state: Option<&Data>) {
        self.keeping.get_or_insert_with(|| Box::new(Keeping::new(range.unwrap_or_default(), state)));
    }

    /// Notes that an operation begins.
    fn keep_begin(&mut self, program: Option<ProgramHash>, now: i64) {
        let begins = self.keeping.as_ref().is_some_and(|kept| kept.begins_part());
        let before = begins.then(|| self.state_data());
        if let Some(kept) = &mut self.keeping {
            let entries = Vec::new();
            kept.under_way = Some(UnderWay { program, begun: now, before, after: None, entries });
        }
    }

    /// Notes that the state was migrated before the operation that begins.
    pub(super) fn keep_migrated(&mut self) {
        let state = self.keeping.is_some().then(|| self.state_data());
        if let Some(kept) = &mut self.keeping
            && let Some(under_way) = &mut kept.under_way
        {
            under_way.before = state;
        }
    }

    fn keep_entry(&mut self, entry: impl FnOnce() -> Entry) {
        if let Some(under_way) = self.keeping.as_mut().and_then(|kept| kept.under_way.as_mut()) {
            under_way.entries.push(entry());
        }
    }

    /// Notes a request of the operation.
    pub(super) fn keep_request(&mut self, request: &Request, now: i64) {
        self.keep_entry(|| Entry::requested(request, now));
    }

    /// Notes an answer.
    pub(super) fn keep_answer(&mut self, seq: u64, result: &Result<Data, ErrorData>, now: i64) {
        self.keep_entry(|| Entry::Answered { seq, result: result.clone(), time: now, came: None });
    }

    /// Notes that the operation has come to its end.
    pub(super) fn keep_end(&mut self, now: i64) {
        self.keep_entry(|| Entry::Ended { time: now });
    }

    /// Notes the new state.
    pub(super) fn keep_state(&mut self, state: Option<&Data>) {
        if let Some(under_way) = self.keeping.as_mut().and_then(|kept| kept.under_way.as_mut()) {
            under_way.after = Some(state.cloned());
        }
    }

    /// Keeps the operation of a message, with its result.
    fn keep_done(&mut self, mail: &Mail, result: &Result<Data, ErrorData>, now: i64) {
        let (operation, args, caller) = match &mail.message {
            Message::Call { operation, args, caller, .. } => (operation, args, Some(caller.clone())),
            Message::Signal { operation, args, .. } => (operation, args, None),
            _ => return,
        };
        let Some(kept) = &mut self.keeping else { return };
        let Some(UnderWay { program, begun, before, after, entries }) = kept.under_way.take() else { return };
        let from = mail.from.clone();
        let (operation, args, result) = (operation.clone(), args.clone(), result.clone());
        let done = KeptOperation {
            operation,
            args,
            caller,
            from,
            program,
            begun,
            ended: now,
            before,
            after,
            entries,
            result,
        };
        kept.keep(&done);
    }
}

impl Entities {
    /// Notes that the operation of a message begins.
    pub(super) fn keep_begin(&mut self, entity: &Rc<EntityId>, now: i64) {
        let (deployed, slot) = self.deployed_and_slot(entity);
        let program = deployed.map(|deployed| deployed.image.code.hash);
        slot.keep_begin(program, now);
    }

    /// Keeps the operation of a message. One that was removed before it began is kept, too.
    pub(super) fn keep_done(
        &mut self,
        entity: &Rc<EntityId>,
        mail: &Mail,
        result: &Result<Data, ErrorData>,
        now: i64,
    ) {
        if self.slot(entity).keeping.as_ref().is_some_and(|kept| kept.under_way.is_none()) {
            self.keep_begin(entity, now);
        }
        self.slot(entity).keep_done(mail, result, now);
    }

    /// Forgets the kept operations of an entity, of which the store has `range`.
    pub(super) fn forget_kept(&mut self, entity: &Rc<EntityId>, range: KeptRange, batch: &mut Batch) {
        if !self.keeps {
            for number in range.first()..range.next() {
                batch.delete(keys::operation(entity, number));
            }
            return batch.delete(keys::kept(entity));
        }
        let slot = self.slot(entity);
        let state = slot.state_data();
        // An entity that is being fetched comes with what is forgotten here.
        slot.keeping.get_or_insert_with(|| Box::new(Keeping::new(range, None))).forget(state);
        self.note(entity);
    }
}
