//! Steps of a storage model, for people.

use super::super::Shown;
use super::super::evaluate::Evaluator;
use super::super::high_level::show::{due, late};
use super::super::message::{Message, Name, describe};
use super::super::tasks::gives;
use super::{Config, Keep, Storage, StorageStep};

impl<K: Keep> Storage<K> {
    pub(super) fn shown(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &Config<K::State>,
        step: &StorageStep,
    ) -> Shown {
        let shown = |who: String, what: String, place| Shown { who, what, place };
        let work = |hash: &u128| c.work.iter().find(|work| work.mark() == *hash);
        match step {
            StorageStep::Transfer { from, to, again } => {
                let message = c.outbox.get(&(from.clone(), to.clone())).and_then(|queue| queue.front());
                let text = message.map_or(String::new(), |(_, message)| message.to_string());
                let twice = if *again { ", and will come again" } else { "" };
                shown(to.to_string(), format!("is sent {text} by {from}{twice}"), None)
            }
            StorageStep::Read { who, turn } => {
                let next = match who {
                    Name::Instance(id) => {
                        c.instances.get(id).and_then(|s| s.inbox.front().map(|(_, mail)| &**mail))
                    }
                    Name::Entity(id) if *turn => c.entities.get(id).and_then(|s| s.state.as_ref()?.next()),
                    Name::Entity(id) => {
                        c.entities.get(id).and_then(|s| s.inbox.front().map(|(_, mail)| &**mail))
                    }
                    _ => None,
                };
                let text = next.map_or(String::new(), Message::to_string);
                shown(who.to_string(), format!("is read, to take {text}"), None)
            }
            StorageStep::Commit { work: hash, .. } => {
                let who = work(hash).map_or(String::new(), |work| work.read.who().to_string());
                shown(who, "is stored".to_string(), None)
            }
            StorageStep::Refuse { work: hash } => {
                let who = work(hash).map_or(String::new(), |work| work.read.who().to_string());
                shown(who, "was overtaken: its step is refused".to_string(), None)
            }
            StorageStep::Perform { instance, seq, outcome } => {
                let task = c.tasks.get(&(instance.clone(), *seq));
                let text = task.map_or(String::new(), |task| describe(&task.asked));
                let done = c.outcomes(evaluator, instance, *seq).ok();
                let gives = done.as_ref().and_then(|all| all.get(*outcome)).map(gives).unwrap_or_default();
                shown(instance.to_string(), format!("{text}{gives}"), task.map(|task| task.asked.place))
            }
            StorageStep::Record { result } => {
                let known = c.results.iter().find(|known| known.mark() == *result);
                let who = known.map_or(String::new(), |known| known.instance.to_string());
                let what = known.map_or(String::new(), |known| known.mail.to_string());
                shown(who, format!("the result is recorded: {what}"), None)
            }
            StorageStep::Elapse { timer } => {
                let mail = c.timers.mail(timer).map(|mail| &**mail);
                let (what, place) = due(&timer.0, mail, |id, seq| {
                    let instance = c.instances.get(id).and_then(|stored| stored.state.as_ref());
                    instance.and_then(|known| Some(known.open_named(seq)?.1.asked.clone()))
                });
                shown("time".to_string(), what, place)
            }
            StorageStep::Late { orphan, outcome } => {
                let known = c.orphans.iter().find(|known| known.mark() == *orphan);
                let done = known.and_then(|known| c.attempted(evaluator, &known.task).ok());
                late(known, done.as_ref().and_then(|all| all.get(*outcome)))
            }
            StorageStep::Intervene(intervention) => {
                let (who, what) = intervention.show();
                shown(who.to_string(), what.to_string(), None)
            }
            StorageStep::Lapse { orphan } => {
                late(c.orphans.iter().find(|known| known.mark() == *orphan), None)
            }
            StorageStep::Crash => shown("crash".to_string(), "compute vanishes".to_string(), None),
        }
    }
}
