//! A moment of a run of a storage model.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::rc::Rc;

use crate::machine::{Data, EntityId, Value};

use super::super::entity::Entity;
use super::super::evaluate::{Done, Evaluator, Stop, View};
use super::super::instance::{Instance, Out, Task, Trouble};
use super::super::map::Map;
use super::super::message::{EntityName, Id, Mail, Message, Name};
use super::super::observe;
use super::super::part::Part;
use super::super::tasks::outcomes;
use super::super::timers::Timers;
use super::{Faults, Read, Work};

/// What storage has of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored<T> {
    /// None before it has taken its first message.
    pub state: Option<T>,
    pub version: u64,
    /// Messages that have come and were not taken, in order.
    pub inbox: VecDeque<Mail>,
}

impl<T> Default for Stored<T> {
    fn default() -> Stored<T> {
        Stored { state: None, version: 0, inbox: VecDeque::new() }
    }
}

/// A result that compute has and storage has not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unrecorded {
    pub instance: Id,
    pub seq: u64,
    pub mail: Mail,
}

/// The messages of a sender to a receiver that were not passed on, each with its number.
pub type Outbox = Part<VecDeque<(u64, Mail)>>;

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config<S> {
    // What lasts.
    pub instances: Map<Id, Part<Stored<Instance<S>>>>,
    pub entities: Map<EntityName, Part<Stored<Entity>>>,
    /// Sent and not passed on, by sender and receiver, each with its number.
    pub outbox: Map<(Name, Name), Outbox>,
    /// How many messages a sender has sent to a receiver, and the number of the last that has come.
    pub sent: Map<(Name, Name), u64>,
    pub come: Map<(Name, Name), u64>,
    pub tasks: Map<(Id, u64), Part<Task>>,
    pub timers: Timers,
    pub now: i64,
    // What does not.
    pub work: Vec<Part<Work<S>>>,
    pub results: Vec<Part<Unrecorded>>,
    // The run itself.
    pub faults: Faults,
    pub trouble: Vec<Trouble>,
}

impl<S: Clone + Debug + Eq + Hash> Config<S> {
    /// The version that storage has of what was read.
    pub(super) fn version(&self, read: &Read<S>) -> u64 {
        match read {
            Read::Instance { id, .. } => self.instances.get(id).map_or(0, |stored| stored.version),
            Read::Entity { id, .. } => self.entities.get(id).map_or(0, |stored| stored.version),
        }
    }

    /// A message comes to its receiver's inbox.
    pub(super) fn put_in(&mut self, to: &Name, mail: Mail) {
        match to {
            Name::Instance(id) => {
                let mut stored = self.instances.get(id).map(|known| (**known).clone()).unwrap_or_default();
                stored.inbox.push_back(mail);
                self.instances.insert(id.clone(), Part::new(stored));
            }
            Name::Entity(id) => {
                let mut stored = self.entities.get(id).map(|known| (**known).clone()).unwrap_or_default();
                stored.inbox.push_back(mail);
                self.entities.insert(id.clone(), Part::new(stored));
            }
            _ => {}
        }
    }

    pub(super) fn send(&mut self, from: &Name, to: Name, mail: Mail) {
        let key = (from.clone(), to);
        let number = self.sent.get(&key).copied().unwrap_or(0) + 1;
        self.sent.insert(key.clone(), number);
        let mut queue = self.outbox.get(&key).map(|queue| (**queue).clone()).unwrap_or_default();
        queue.push_back((number, mail));
        self.outbox.insert(key, Part::new(queue));
    }

    /// Stores what a participant's step brings about.
    pub(super) fn bring_about(&mut self, by: &Name, outs: Vec<Out>) {
        for out in outs {
            match (out, by) {
                (Out::Send { to, mail }, _) => self.send(by, to, mail),
                (Out::Later { due, to, mail }, _) => self.timers.later(due, &to, mail),
                (Out::Trouble(trouble), _) => self.trouble.push(trouble),
                (Out::Begin { seq, task }, Name::Instance(id)) => {
                    self.tasks.insert((id.clone(), seq), Part::new(task));
                }
                (Out::SetTimer { due, seq, timer }, Name::Instance(id)) => {
                    let execution =
                        self.instances.get(id).and_then(|stored| Some(stored.state.as_ref()?.execution));
                    self.timers.set(due, id, execution.unwrap_or(0), seq, timer);
                }
                (Out::Clear { seq }, Name::Instance(id)) => {
                    self.tasks.remove(&(id.clone(), seq));
                    self.timers.clear(id, seq);
                    self.forget_due(id, seq);
                }
                _ => {}
            }
        }
    }

    /// What was due of a request is no more.
    pub(super) fn forget_due(&mut self, id: &Id, seq: u64) {
        let of = |mail: &Mail| matches!(&**mail, Message::Due { seq: s, .. } if *s == seq);
        if let Some(stored) = self.instances.get(id)
            && stored.inbox.iter().any(&of)
        {
            let mut stored = (**stored).clone();
            stored.inbox.retain(|mail| !of(mail));
            self.instances.insert(id.clone(), Part::new(stored));
        }
        let key = (Name::Clock, Name::Instance(id.clone()));
        if let Some(queue) = self.outbox.get(&key) {
            let queue: VecDeque<_> = queue.iter().filter(|(_, mail)| !of(mail)).cloned().collect();
            match queue.is_empty() {
                true => self.outbox.remove(&key),
                false => self.outbox.insert(key, Part::new(queue)),
            };
        }
    }

    pub(super) fn outcomes(
        &self,
        evaluator: &mut Evaluator<'_>,
        instance: &Id,
        seq: u64,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let Some(task) = self.tasks.get(&(instance.clone(), seq)) else { return Ok(Rc::default()) };
        let state =
            |id: &EntityId| self.entities.get(id).and_then(|stored| stored.state.as_ref()?.state.clone());
        outcomes(evaluator, task, self.now, self, &state)
    }
}

impl<S: Clone + Debug + Eq + Hash> View for Config<S> {
    fn state(&self, entity: &EntityId) -> Option<Data> {
        let known = self.entities.get(entity).and_then(|stored| stored.state.as_ref()?.state.as_ref());
        known.map(|state| (**state).clone())
    }

    fn states(&self, kind: &str) -> Vec<(Data, Data)> {
        let of = self.entities.iter().filter(|(id, _)| id.name == kind);
        of.filter_map(|(id, stored)| {
            Some((id.key.clone(), (**stored.state.as_ref()?.state.as_ref()?).clone()))
        })
        .collect()
    }

    fn outcome(&self, id: &str) -> Value {
        let known = self.instances.get(id).and_then(|stored| stored.state.as_ref());
        known.map_or(Value::Null, |instance| observe::outcome(id, instance))
    }
}
