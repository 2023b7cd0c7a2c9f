//! Errands: requests that other instances and entities answer, as messages with their receivers.

use crate::builtins::Effect;
use crate::machine::options::{self, Child};
use crate::machine::{Cancellation, Canceller, Data, IfExists, RequestKind, Value, format};
use crate::syntax::tree::SCHEDULES;

use super::address::{Address, Waiter};
use super::arrivals::first_text;
use super::entity::Entities;
use super::message::Message;
use super::open::Open;
use super::placement::Placement;
use super::record::InstanceRecord;

/// The way in which a request that others answer is dispatched.
pub(super) enum Errand {
    /// The message is sent. `ack` is the request that learns whether the receiver exists.
    Send { to: Address, ack: Option<Waiter>, message: Message },
    /// The message was sent when the request was recorded, and this address answers it.
    Sent(Address),
    /// The instance would wait for its own end. That is an error, as a part of the same turn.
    ForItself,
    /// Nothing needs to be done.
    Nothing,
}

/// Returns the errand of an open request that others answer.
pub(super) fn errand(
    asker: &InstanceRecord,
    open: &Open,
    entities: &Entities,
    placement: Option<&Placement>,
    now: i64,
) -> Errand {
    let seq = open.request.seq;
    let args = &open.request.args;
    match &open.request.what {
        RequestKind::Effect(Effect::Wait) => {
            let target = first_text(args);
            let to = Address::instance(&target);
            match open.recorded {
                _ if target == asker.id => Errand::ForItself,
                true => Errand::Sent(to),
                false => Errand::Send { to, ack: None, message: Message::Wait(asker.waiter(seq)) },
            }
        }
        RequestKind::Effect(_) if open.recorded => Errand::Sent(Address::instance(&first_text(args))),
        RequestKind::Effect(effect) => match message(*effect, args) {
            Some((target, message)) => {
                Errand::Send { to: Address::instance(&target), ack: Some(asker.waiter(seq)), message }
            }
            None => Errand::Nothing,
        },
        RequestKind::Orchestration { name, options, start } => {
            let child = options::recorded_child(options);
            if !start && child.id.as_ref() == Some(&asker.id) && child.if_exists == IfExists::Join {
                return Errand::ForItself;
            }
            if open.recorded {
                let id = child.id.unwrap_or_else(|| asker.child_id(seq));
                return Errand::Sent(Address::instance(&id));
            }
            begin(asker, seq, name, args.clone(), child, *start, now)
        }
        RequestKind::Operation { entity, signal: None, .. } if open.recorded => {
            Errand::Sent(Address::entity(entity.clone()))
        }
        RequestKind::Operation { entity, operation, signal: None } => {
            let (caller, operation) = (asker.waiter(seq), operation.clone());
            let to = Address::entity(entity.clone());
            // Only the partition of the entity knows the holder.
            let is_elsewhere = placement.is_some_and(|placement| !placement.has(&to));
            let within = is_elsewhere || entities.is_held_by(entity, &asker.id, asker.life);
            let message = Message::Call { caller, operation, args: args.clone(), within };
            Errand::Send { to, ack: None, message }
        }
        RequestKind::Operation { .. } if open.recorded => Errand::Nothing,
        RequestKind::Operation { entity, operation, signal: Some(after) } => {
            let (operation, due) = (operation.clone(), signal_due(after, now));
            let message = Message::Signal { operation, args: args.clone(), due };
            Errand::Send { to: Address::entity(entity.clone()), ack: None, message }
        }
        RequestKind::Activity { .. } => Errand::Nothing,
    }
}

/// Returns the errand that begins another instance, either as a called child or on its own.
fn begin(
    asker: &InstanceRecord,
    seq: u64,
    name: &str,
    args: Data,
    child: Child,
    start: bool,
    now: i64,
) -> Errand {
    let InstanceRecord { program, file, root, permissions, .. } = asker;
    let owner = asker.life_id();
    let is_automatic = child.id.is_none() || child.attempt > 1;
    let id = child.id.unwrap_or_else(|| asker.child_id(seq));
    let mut record = InstanceRecord::new(&id, *program, file, name, args, now);
    // Each run of a schedule is a root, since a schedule goes on for ever.
    record.root = match asker.function.starts_with(SCHEDULES) {
        true => id.clone(),
        false => root.clone(),
    };
    record.permissions = permissions.clone();
    record.attempt = child.attempt.max(1);
    record.owner = is_automatic.then(|| owner.clone());
    record.begins_later(child.later.and_then(|later| later.due(now)));
    let waiter = asker.waiter(seq);
    let mut ack = None;
    match start {
        true => ack = Some(waiter),
        false => {
            record.parent = Some(owner);
            record.waiters.push(waiter);
        }
    }
    let message = Message::Begin(Box::new(record), child.if_exists);
    Errand::Send { to: Address::instance(&id), ack, message }
}

/// Returns the receiver and the message of an effect, or `None` if the effect is no message.
pub(super) fn message(effect: Effect, args: &Data) -> Option<(String, Message)> {
    let args = args.items();
    let Value::Str(target) = args.first()? else { return None };
    let data = |at: usize| Data::of(args.get(at).unwrap_or(&Value::Null));
    let message = match effect {
        Effect::Raise => Message::Event { name: format::display(args.get(1)?), payload: data(2) },
        Effect::Terminate => Message::Terminate {
            why: data(1),
            children: options::terminate(args.get(2)?).unwrap_or(true),
            by: None,
        },
        Effect::Cancel => {
            let grace = match args.get(2) {
                Some(Value::Duration(grace)) => *grace,
                _ => options::GRACE,
            };
            let place = args.get(3).map(format::display).unwrap_or_default();
            let what = Cancellation { by: Canceller::Program, place, reason: data(1), grace };
            Message::Cancel { what: Box::new(what), of: None }
        }
        Effect::Suspend => Message::Suspend,
        Effect::Resume => Message::Resume,
        // Other effects that are messages have request kinds of their own.
        _ => return None,
    };
    Some((target.as_str().to_string(), message))
}

/// Returns the time at which a signal is due, or 0 if it is due at once or its time has passed.
pub(super) fn signal_due(after: &Data, now: i64) -> i64 {
    let due = match after.decode() {
        Value::Duration(duration) => now.saturating_add(duration),
        Value::Instant(instant) => instant,
        _ => 0,
    };
    if due > now { due } else { 0 }
}
