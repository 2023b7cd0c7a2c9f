//! Steps of the high-level model, for people.

use crate::builtins::Effect;
use crate::machine::RequestKind;
use crate::syntax::Place;

use super::super::Shown;
use super::super::evaluate::{Done, Evaluator};
use super::super::message::{Asked, Id, Message, Name, Timer, describe};
use super::super::orphan::Orphan;
use super::super::part::Part;
use super::super::tasks::gives;
use super::{Config, HighLevelStep};

pub(super) fn show(evaluator: &mut Evaluator<'_>, c: &Config, step: &HighLevelStep) -> Shown {
    match step {
        HighLevelStep::Deliver { from, to } => {
            let message =
                c.mail.get(&(from.clone(), to.clone())).and_then(|queue| queue.front()).map(|mail| &**mail);
            let text = message.map_or(String::new(), Message::to_string);
            let place = match (message, to) {
                (Some(Message::Call { place, .. } | Message::Signal { place, .. }), _) => Some(place.0),
                (Some(Message::Answer { seq, .. }), Name::Instance(id)) => {
                    c.instances.get(id).and_then(|i| Some(i.open_named(*seq)?.1.asked.place))
                }
                _ => None,
            };
            let what = match from {
                Name::World => format!("has its {text}"),
                from => format!("gets {text} from {from}"),
            };
            Shown { who: to.to_string(), what, place }
        }
        HighLevelStep::Operate { entity, outcome } => {
            let known = c.entity(entity);
            let (text, place) = match known.next() {
                Some(message @ (Message::Call { place, .. } | Message::Signal { place, .. })) => {
                    (message.to_string(), Some(place.0))
                }
                _ => (String::new(), None),
            };
            let done = known.operations(entity, evaluator, &c.moment(evaluator)).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            Shown { who: entity.to_string(), what: format!("runs {text}{gives}"), place }
        }
        HighLevelStep::Acquire { entity } => {
            let known = c.entity(entity);
            let owner = match known.next() {
                Some(Message::Lock { owner, .. }) => owner.instance.to_string(),
                _ => String::new(),
            };
            let place = owner_place(c, &owner);
            Shown { who: entity.to_string(), what: format!("is held by {owner}"), place }
        }
        HighLevelStep::Perform { instance, seq, outcome } => {
            let task = c.tasks.get(&(instance.clone(), *seq));
            let text = task.map_or(String::new(), |task| describe(&task.asked));
            let done = c.outcomes(evaluator, instance, *seq).ok();
            let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
            let place = task.map(|task| task.asked.place);
            Shown { who: instance.to_string(), what: format!("{text}{gives}"), place }
        }
        HighLevelStep::Elapse { timer } => {
            let mail = c.timers.mail(timer).map(|mail| &**mail);
            let (what, place) = due(&timer.0, mail, |id, seq| {
                c.instances.get(id).and_then(|known| Some(known.open_named(seq)?.1.asked.clone()))
            });
            Shown { who: "time".into(), what, place }
        }
        HighLevelStep::Late { orphan, outcome } => {
            let known = c.orphans.iter().find(|known| known.mark() == *orphan);
            let done = known.and_then(|known| c.attempted(evaluator, &known.task).ok());
            let done = done.as_ref().and_then(|all| all.get(*outcome));
            late(known, done)
        }
        HighLevelStep::Intervene(intervention) => {
            let (who, what) = intervention.show();
            Shown { who: who.to_string(), what: what.to_string(), place: None }
        }
        HighLevelStep::Lapse { orphan } => late(c.orphans.iter().find(|known| known.mark() == *orphan), None),
    }
}

/// Describes a timer that is due, with the place of its request.
pub fn due(
    to: &Name,
    mail: Option<&Message>,
    asked: impl Fn(&Id, u64) -> Option<Asked>,
) -> (String, Option<Place>) {
    match (mail, to) {
        (Some(Message::Due { seq, timer, .. }), Name::Instance(id)) => {
            let asked = asked(id, *seq);
            let of = asked.as_ref().map_or(String::new(), |asked| describe(asked));
            let what = match timer {
                Timer::Sleep => format!("{of} of {to} is over"),
                Timer::Timeout | Timer::Within => format!("the time for {of} of {to} is up"),
                Timer::Retry => format!("the next attempt at {of} of {to} is due"),
                Timer::Grace => format!("the grace period of {to} is over"),
                Timer::Begin => format!("the beginning of {to} is due"),
            };
            (what, asked.map(|asked| asked.place))
        }
        (Some(message), _) => (format!("{message} for {to} is due"), None),
        (None, _) => (String::new(), None),
    }
}

/// Describes the fate of an attempt that was given up.
pub fn late(orphan: Option<&Part<Orphan>>, done: Option<&Done>) -> Shown {
    let Some(orphan) = orphan else { return Shown { who: String::new(), what: String::new(), place: None } };
    let asked = &orphan.task.asked;
    let what = match done {
        Some(done) => format!("{}, which was given up, is done all the same{}", describe(asked), gives(done)),
        None => format!("{}, which was given up, is not done", describe(asked)),
    };
    Shown { who: orphan.instance.to_string(), what, place: Some(asked.place) }
}

/// Returns the place of the critical section that an instance asks for.
fn owner_place(c: &Config, owner: &str) -> Option<Place> {
    let instance = c.instances.get(owner)?;
    let lock = instance.open.values().find(|open| open.asked.what == RequestKind::Effect(Effect::Lock))?;
    Some(lock.asked.place)
}
