//! The messages that programs send.

use crate::builtins::Effect;
use crate::machine::options;
use crate::machine::{Cancellation, Canceller, Data, RequestKind, Value, format, started_id};

use super::super::evaluate::Stop;
use super::super::lives::Owner;
use super::super::message::{Asked, EntityName, Id, Message, Name, PlaceOf, Waiter};
use super::super::part::Part;
use super::super::program::Naming;
use super::super::timers::When;
use super::{Out, send};

/// Returns the messages that an activity or an operation sent, in the step with this key.
pub fn sent(naming: Naming, by: Option<&Id>, key: &Id, sends: &[Asked]) -> Result<Vec<Out>, Stop> {
    let mut outs = Vec::new();
    for request in sends {
        match &request.what {
            RequestKind::Operation { entity, operation, signal: after } => {
                let message = Message::Signal {
                    operation: operation.as_str().into(),
                    args: request.args.clone(),
                    // Nobody sees this key. Along a chain of signals it would grow without end.
                    key: match naming {
                        Naming::ByNumber => format!("{key}.{}", request.seq).into(),
                        Naming::ByPlace => Id::default(),
                    },
                    place: PlaceOf(request.place),
                };
                let after = after.clone().unwrap_or_else(Data::null);
                outs.push(signal(EntityName::from(entity.clone()), message, &after));
            }
            RequestKind::Orchestration { name, options, .. } => {
                let child = options::child(&options.decode()).unwrap_or_default();
                let (own, later) = (child.id, child.later);
                if own.is_none() && naming == Naming::ByPlace {
                    return Err(Stop::LooksAtNames);
                }
                let owner = Owner(by.filter(|_| own.is_none()).cloned());
                let id = own.unwrap_or_else(|| started_id(key, request.seq));
                let message = Message::Begin {
                    function: name.as_str().into(),
                    args: request.args.clone(),
                    if_exists: child.if_exists,
                    parent: None,
                    owner,
                    waiter: None,
                    started: None,
                    attempt: 1,
                    later,
                };
                outs.push(send(Name::Instance(id.into()), message));
            }
            RequestKind::Effect(effect) => {
                if let Some((to, message)) = told(*effect, &request.args, None) {
                    outs.push(send(Name::Instance(to.into()), message));
                }
            }
            RequestKind::Activity { .. } => {}
        }
    }
    Ok(outs)
}

/// Returns a signal to be sent now, or when it is due.
pub(super) fn signal(to: EntityName, message: Message, after: &Data) -> Out {
    let when = match after.decode() {
        Value::Duration(duration) if duration > 0 => When::After(duration),
        Value::Instant(instant) => When::At(instant),
        _ => return send(Name::Entity(to), message),
    };
    Out::Later { when, to, mail: Part::new(message) }
}

/// Returns the receiver and the message of an effect that is a message.
pub(super) fn told(effect: Effect, args: &Data, ack: Option<Waiter>) -> Option<(String, Message)> {
    let args = args.items();
    let Value::Str(target) = args.first()? else { return None };
    let data = |at: usize| Data::of(args.get(at).unwrap_or(&Value::Null));
    let message = match effect {
        Effect::Raise => Message::Event { name: format::display(args.get(1)?).into(), payload: data(2), ack },
        Effect::Terminate => Message::Terminate {
            why: data(1),
            children: options::terminate(args.get(2)?).unwrap_or(true),
            by: None,
            ack,
        },
        Effect::Cancel => {
            let grace = match args.get(2) {
                Some(Value::Duration(grace)) => *grace,
                _ => options::GRACE,
            };
            let place = args.get(3).map(format::display).unwrap_or_default();
            let what = Cancellation { by: Canceller::Program, place, reason: data(1), grace };
            Message::Cancel { what: Part::new(what), of: None, ack }
        }
        Effect::Suspend => Message::Suspend { ack },
        Effect::Resume => Message::Resume { ack },
        _ => return None,
    };
    Some((target.as_str().to_string(), message))
}

/// Whether an effect is a message that its receiver answers.
pub(super) fn is_sent(effect: Effect) -> bool {
    effect.is_message() || matches!(effect, Effect::Wait | Effect::Lock)
}
