//! Calls from outside: clients and activities that call an operation of an entity and wait for its
//! answer.
//!
//! Invariant: a client's call is written together with its message, and its answer together with
//! the end of the message and the new state of the entity. So a call happens once, and its answer
//! never changes.

use crate::machine::{Data, EntityId, ErrorData};
use crate::permissions::Permissions;

use super::address::{Address, LifeId, Waiter};
use super::calls::ClientCall;
use super::events::{Leaving, StepId};
use super::instance::Envelope;
use super::message::{Mail, Message};
use super::step::Engine;

impl Engine {
    /// Begins a client's call, whose id no kept call has. `from` is a key that no other message
    /// has.
    pub(super) fn client_calls(&mut self, id: &str, from: String, call: ClientCall) {
        self.calls.begin(id, &call);
        let ClientCall { entity, operation, args, .. } = call;
        let message = Message::Call { caller: Waiter::client(id), operation, args, within: false };
        let root = from.as_str().into();
        self.send(Address::entity(entity), from, root, None, message);
    }

    /// Begins a call of an activity. If its instance is in a critical section, the call comes from
    /// within the section, which must hold the entity.
    pub(super) fn activity_calls(
        &mut self,
        mut caller: Waiter,
        step: &StepId,
        entity: EntityId,
        operation: String,
        args: Data,
        permissions: Permissions,
    ) {
        // An operation's activities are plain calls within it, and may not call entities.
        let Address::Instance(id) = &step.owner else { return };
        let owner = LifeId { id: id.to_string(), life: step.life };
        let holds = |entity: &EntityId| self.entities.is_held_by(entity, &owner.id, owner.life);
        let (within, is_in_section) = match self.spread_section(id) {
            Some(set) => (set.contains(&entity), true),
            None => {
                let set = self.entities.owners.get(&owner);
                (holds(&entity), set.is_some_and(|set| set.iter().all(holds)))
            }
        };
        if is_in_section && !within {
            let message = format!("{entity} is called in a critical section that does not hold it");
            let result = Err(ErrorData::new("critical_section", message));
            self.emit(Leaving::Answered { caller: caller.instance, result });
            return;
        }
        let root = self.uses.root(id).unwrap_or(id).clone();
        let from = caller.instance.replace(' ', "-");
        if let Some(placement) = self.placement.as_ref().filter(|_| self.is_elsewhere(&entity)) {
            caller.pin(placement.own);
        }
        let message = Message::Call { caller, operation, args, within };
        self.send_from(Envelope { from, root, permissions }, Address::entity(entity), None, message);
    }

    /// Answers a call of an operation.
    pub(super) fn answer_call(&mut self, entity: &EntityId, mail: &Mail, result: Result<Data, ErrorData>) {
        let Message::Call { caller, operation, args, .. } = &mail.message else { return };
        if !caller.is_outside() || !self.is_here(&caller.instance) {
            return self.reply(mail, caller.clone(), result);
        }
        if let Some(id) = caller.client_id() {
            let call = ClientCall {
                entity: entity.clone(),
                operation: operation.clone(),
                args: args.clone(),
                asked: mail.time,
                answer: Some(result.clone()),
            };
            self.calls.keep(id, &call);
        }
        self.emit(Leaving::Answered { caller: caller.instance.clone(), result });
    }
}
