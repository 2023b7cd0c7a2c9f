//! Steps of the high-level model, for people.

use crate::machine::What;

use super::super::Shown;
use super::super::evaluate::Evaluator;
use super::super::message::{Message, Name, Timer, describe};
use super::super::tasks::gives;
use super::{Config, Step};

pub(super) fn show(evaluator: &mut Evaluator<'_>, c: &Config, step: &Step) -> Shown {
    match step {
        Step::Deliver { from, to } => {
            let message =
                c.mail.get(&(from.clone(), to.clone())).and_then(|queue| queue.front()).map(|mail| &**mail);
            let text = message.map_or(String::new(), Message::to_string);
            let place = match (message, to) {
                (Some(Message::Call { place, .. } | Message::Signal { place, .. }), _) => Some(place.0),
                (Some(Message::Answer { seq, .. } | Message::Due { seq, .. }), Name::Instance(id)) => {
                    c.instances.get(id).and_then(|i| Some(i.open_named(*seq)?.1.asked.place))
                }
                _ => None,
            };
            let what = match from {
                Name::Clock => text,
                Name::World => format!("has its {text}"),
                from => format!("gets {text} from {from}"),
            };
            Shown { who: to.to_string(), what, place }
        }
        Step::Operate { entity, outcome } => {
            let known = c.entity(entity);
            let (text, place) = match known.next() {
                Some(message @ (Message::Call { place, .. } | Message::Signal { place, .. })) => {
                    (message.to_string(), Some(place.0))
                }
                _ => (String::new(), None),
            };
            let done = known.operations(entity, evaluator, c.now).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            Shown { who: entity.to_string(), what: format!("runs {text}{gives}"), place }
        }
        Step::Acquire { entity } => {
            let known = c.entity(entity);
            let owner = match known.next() {
                Some(Message::Lock { owner, .. }) => owner.instance.to_string(),
                _ => String::new(),
            };
            let place = owner_place(c, &owner);
            Shown { who: entity.to_string(), what: format!("is held by {owner}"), place }
        }
        Step::Perform { instance, seq, outcome } => {
            let task = c.tasks.get(&(instance.clone(), *seq));
            let text = task.map_or(String::new(), |task| describe(&task.asked));
            let done = c.outcomes(evaluator, instance, *seq).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            let place = task.map(|task| task.asked.place);
            Shown { who: instance.to_string(), what: format!("{text}{gives}"), place }
        }
        Step::Elapse { timer: (due, to, number) } => {
            let after = crate::machine::format::duration(due.saturating_sub(c.now).max(0));
            let what = match c.timers.0.get(&(*due, to.clone(), *number)).map(|mail| &**mail) {
                Some(Message::Due { seq, timer, .. }) => {
                    let place = match to {
                        Name::Instance(id) => {
                            c.instances.get(id).and_then(|i| Some(i.open_named(*seq)?.1.asked.place))
                        }
                        _ => None,
                    };
                    let of = match timer {
                        Timer::Sleep => "a sleep of",
                        Timer::Timeout => "a time limit of",
                        Timer::Retry => "a next attempt of",
                    };
                    return Shown {
                        who: "time".into(),
                        what: format!("{after} pass: {of} {to} is due"),
                        place,
                    };
                }
                Some(message) => format!("{after} pass: {message} for {to} is due"),
                None => String::new(),
            };
            Shown { who: "time".into(), what, place: None }
        }
    }
}

/// Where the section stands for which an instance asks.
fn owner_place(c: &Config, owner: &str) -> Option<crate::syntax::Place> {
    let instance = c.instances.get(owner)?;
    let lock = instance.open.values().find(|open| open.asked.what == What::Effect("lock"))?;
    Some(lock.asked.place)
}
