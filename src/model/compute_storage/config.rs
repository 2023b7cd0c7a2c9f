//! The configurations of a storage model.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;
use std::rc::Rc;

use crate::machine::{Data, EntityId, Value};

use super::super::entity::Entity;
use super::super::evaluate::{Done, Eval, Evaluator, Moment, Stop, Turns};
use super::super::instance::{Anomaly, Instance, Out, Task};
use super::super::interventions::{Intervention, Interventions};
use super::super::lives::{Life, Member, next_life, purged, tree};
use super::super::map::Map;
use super::super::message::{EntityName, Id, Mail, Message, Name};
use super::super::observe;
use super::super::operator::{Operated, commands, possible, rewinding};
use super::super::orphan::{self, Orphan};
use super::super::part::Part;
use super::super::program::Program;
use super::super::tasks::outcomes;
use super::super::timers::{Timers, When};
use super::super::view::View;
use super::{Faults, Keep, Work};

/// The stored part of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored<T> {
    /// The state; `None` before the first message is taken.
    pub state: Option<T>,
    /// The messages that have come and were not taken, in order, each with its sender. Messages of
    /// timers have no sender.
    pub inbox: VecDeque<(Option<Name>, Mail)>,
}

impl<T> Default for Stored<T> {
    fn default() -> Stored<T> {
        Stored { state: None, inbox: VecDeque::new() }
    }
}

/// A result that compute has and that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unrecorded {
    pub instance: Id,
    pub seq: u64,
    pub mail: Mail,
}

impl Unrecorded {
    pub(super) fn is_of(&self, instance: &Id, seq: u64) -> bool {
        self.instance == *instance && self.seq == seq
    }
}

/// The messages of a sender to a receiver that were not passed on, each with a number. The number
/// is the message's distance from the last one that has come, so 0 means that the message has come
/// already.
pub type Outbox = Part<VecDeque<(u64, Mail)>>;

/// A moment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config<S> {
    // State that lasts:
    pub instances: Map<Id, Part<Stored<Instance<S>>>>,
    pub entities: Map<EntityName, Part<Stored<Entity>>>,
    /// The messages that were sent and not passed on, by sender and receiver, each with its number.
    pub outbox: Map<(Name, Name), Outbox>,
    pub tasks: Map<(Id, u64), Part<Task>>,
    pub timers: Timers,
    /// Attempts that were given up and may still happen.
    pub orphans: Vec<Part<Orphan>>,
    /// The positions of mocks: now, and when each task was first performed. A task that is
    /// performed again has the same outcome.
    pub turns: Turns,
    pub begun: Map<(Id, u64), Turns>,
    /// The next life of each id that was used before.
    pub lives: Map<Id, Life>,
    /// The interventions that the operator may still make.
    pub left: Interventions,
    // State that does not last:
    pub work: Vec<Part<Work<S>>>,
    pub results: Vec<Part<Unrecorded>>,
    // The run itself:
    pub faults: Faults,
    pub trouble: Vec<Anomaly>,
}

impl<S: Clone + Debug + Eq + Hash> Config<S> {
    /// Marks work on a participant as overtaken, because storage now has another version.
    pub(super) fn overtake(&mut self, who: &Name) {
        for work in &mut self.work {
            if !work.overtaken && work.read.is_of(who) {
                *work = Part::new(Work { overtaken: true, ..(**work).clone() });
            }
        }
        self.work.sort_by_key(Part::mark);
    }

    /// Puts a message into its receiver's inbox.
    pub(super) fn put_in(&mut self, from: Option<&Name>, to: &Name, mail: Mail) {
        let come = (from.cloned(), mail);
        match to {
            Name::Instance(id) => {
                let mut stored = self.instances.get(id).map(|known| (**known).clone()).unwrap_or_default();
                stored.inbox.push_back(come);
                self.instances.insert(id.clone(), Part::new(stored));
            }
            Name::Entity(id) => {
                let mut stored = self.entities.get(id).map(|known| (**known).clone()).unwrap_or_default();
                stored.inbox.push_back(come);
                self.entities.insert(id.clone(), Part::new(stored));
            }
            _ => {}
        }
    }

    /// A mutation: loses the next message of a participant.
    pub(super) fn lose(&mut self, who: &Name) {
        if let Name::Instance(id) = who
            && let Some(stored) = self.instances.get(id)
        {
            let mut stored = (**stored).clone();
            stored.inbox.pop_front();
            self.instances.insert(id.clone(), Part::new(stored));
        }
    }

    pub(super) fn send(&mut self, from: &Name, to: Name, mail: Mail) {
        let key = (from.clone(), to);
        let mut queue = self.outbox.get(&key).map(|queue| (**queue).clone()).unwrap_or_default();
        let number = queue.back().map_or(0, |(number, _)| *number) + 1;
        queue.push_back((number, mail));
        self.outbox.insert(key, Part::new(queue));
    }

    /// Returns the life in which an instance with this id begins now.
    pub(super) fn life(&self, id: &Id) -> Life {
        self.lives.get(id).copied().unwrap_or_default()
    }

    /// Returns the interventions that are possible now.
    pub(super) fn interventions(&self, evaluator: &mut Evaluator<'_>) -> Result<Vec<Intervention>, Stop> {
        let all = evaluator.program.interventions;
        if all.is_none() {
            return Ok(Vec::new());
        }
        let known = self.instances.iter().filter_map(|(id, stored)| {
            let is_commanded = stored.inbox.iter().any(|(from, _)| *from == Some(Name::Operator));
            let instance = stored.state.as_ref().filter(|_| !is_commanded)?;
            Some(commands(id, instance, self.left, all))
        });
        possible(evaluator, self, known.flatten().collect())
    }

    /// Rewinds an instance, with those that it needs, in one step of storage.
    pub(super) fn rewind<K: Keep<State = S>>(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        id: &Id,
    ) -> Result<(), Stop> {
        for (id, back, turn) in rewinding(evaluator, self, id)?.into_iter().flatten() {
            let (Some(stored), Some(before)) = (self.instances.get(&id), self.ended(&id)) else { continue };
            let state = Some(K::keep_rewound(before, back, &turn));
            let stored = Stored { state, inbox: stored.inbox.clone() };
            let who = Name::Instance(id.clone());
            self.instances.insert(id, Part::new(stored));
            self.overtake(&who);
            self.bring_about(evaluator.program, &who, turn.out);
        }
        Ok(())
    }

    /// Returns the tree of an instance if all of it has ended, or as an error a member that has
    /// not.
    pub(super) fn tree(&self, root: &Id) -> Result<Vec<Id>, Id> {
        let known = self.instances.iter().filter_map(|(id, stored)| {
            let instance = stored.state.as_ref()?;
            Some(Member { id, owner: &instance.owner, has_ended: instance.has_ended() })
        });
        let sent = self.outbox.iter().flat_map(|((_, to), queue)| {
            let to_come = queue.iter().filter(|(number, _)| *number > 0);
            to_come.filter_map(move |(_, mail)| begins(to, mail))
        });
        let come = self.instances.iter().flat_map(|(id, stored)| {
            stored.inbox.iter().filter_map(move |(_, mail)| match &**mail {
                Message::Begin { owner, .. } => Some(Member { id, owner, has_ended: false }),
                _ => None,
            })
        });
        tree(root, &known.chain(sent).chain(come).collect::<Vec<_>>())
    }

    /// Removes instances. Messages that came for one of them and were not taken are for its next
    /// life.
    pub(super) fn purge(&mut self, program: &Program, tree: &[Id]) {
        for id in purged(program, tree) {
            let Some(stored) = self.instances.get(id) else { continue };
            let Some(instance) = &stored.state else { continue };
            let life = next_life(program, instance.execution.life);
            self.lives.insert(id.clone(), life);
            match stored.inbox.is_empty() {
                true => self.instances.remove(id),
                false => {
                    let left = Stored { state: None, inbox: stored.inbox.clone() };
                    self.instances.insert(id.clone(), Part::new(left))
                }
            };
            self.overtake(&Name::Instance(id.clone()));
        }
    }

    /// Stores the consequences of a participant's step.
    pub(super) fn bring_about(&mut self, program: &Program, by: &Name, outs: Vec<Out>) {
        for out in outs {
            match (out, by) {
                (Out::Send { to, mail }, _) => self.send(by, to, mail),
                (Out::Later { when: When::At(instant), to, mail }, _) if self.timers.has_passed(instant) => {
                    self.send(by, Name::Entity(to), mail);
                }
                (Out::Later { when, to, mail }, _) => self.timers.later(when, &to, mail),
                (Out::Anomaly(trouble), _) => self.trouble.push(trouble),
                (Out::Begin { seq, task }, Name::Instance(id)) => {
                    if let Some(within) = program.within(&task.asked) {
                        self.timers.expect(within, id, seq);
                    }
                    self.begun.remove(&(id.clone(), seq));
                    self.tasks.insert((id.clone(), seq), Part::new(task));
                }
                (Out::SetTimer { when, seq, timer }, Name::Instance(id)) => {
                    let execution =
                        self.instances.get(id).and_then(|stored| Some(stored.state.as_ref()?.execution));
                    self.timers.set(when, id, execution.unwrap_or_default(), seq, timer);
                }
                (Out::GiveUp { seq }, Name::Instance(id)) => {
                    self.give_up(program, id, seq);
                    self.timers.clear(id, seq, true);
                    self.forget(
                        id,
                        |_, mail| matches!(mail, Message::Due { seq: known, .. } if *known == seq),
                    );
                }
                (Out::Clear { seq, all }, Name::Instance(id)) => {
                    self.give_up(program, id, seq);
                    self.timers.clear(id, seq, all);
                    self.forget_answers(id, seq);
                }
                _ => {}
            }
        }
    }

    /// Gives up a task that nobody waits for any more. A result that compute has goes nowhere.
    /// Without a result, the task may still happen.
    fn give_up(&mut self, program: &Program, id: &Id, seq: u64) {
        let Some(task) = self.tasks.remove(&(id.clone(), seq)) else { return };
        self.begun.remove(&(id.clone(), seq));
        let before = self.results.len();
        self.results.retain(|result| !result.is_of(id, seq));
        if self.results.len() == before {
            orphan::keep(&mut self.orphans, program, id, task);
        }
    }

    /// Removes the messages that have come for a request and were not taken: those of timers, and
    /// results of tasks. Other answers are still taken, because the names of their requests wait
    /// for them.
    fn forget_answers(&mut self, id: &Id, seq: u64) {
        self.forget(id, |from, mail| match mail {
            Message::Due { seq: known, .. } => *known == seq,
            Message::Answer { seq: known, .. } => *known == seq && *from == Some(Name::World),
            _ => false,
        });
    }

    /// Removes messages that have come for an instance and were not taken.
    fn forget(&mut self, id: &Id, of: impl Fn(&Option<Name>, &Message) -> bool) {
        let Some(stored) = self.instances.get(id) else { return };
        if stored.inbox.iter().any(|(from, mail)| of(from, mail)) {
            let mut stored = (**stored).clone();
            stored.inbox.retain(|(from, mail)| !of(from, mail));
            self.instances.insert(id.clone(), Part::new(stored));
        }
    }

    /// Applies the effect of an attempt to the entity that stands for the world.
    pub(super) fn change_the_world(&mut self, done: &Done) {
        let (Some((entity, _)), Some(state)) = (&done.world, &done.state) else { return };
        let mut stored = self.entities.get(entity).map(|known| (**known).clone()).unwrap_or_default();
        stored.state = Some(Entity { state: state.clone(), ..stored.state.unwrap_or_default() });
        self.entities.insert(entity.clone(), Part::new(stored));
        self.overtake(&Name::Entity(entity.clone()));
    }

    /// Lets any amount of time pass.
    pub(super) fn let_time_pass(&mut self, program: &Program) {
        if program.facts.takes_the_clock && self.is_busy(program) {
            return;
        }
        let instances = &self.instances;
        self.timers.pass(|id| {
            let state = instances.get(id).and_then(|stored| stored.state.as_ref());
            state.is_some_and(|instance| instance.sets_one_timer())
        });
    }

    pub(super) fn outcomes(
        &self,
        evaluator: &mut Evaluator<'_>,
        instance: &Id,
        seq: u64,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let key = (instance.clone(), seq);
        let Some(task) = self.tasks.get(&key) else { return Ok(Rc::default()) };
        let mut now = self.moment(evaluator);
        if let Some(turns) = self.begun.get(&key) {
            now.turns.clone_from(turns);
        }
        self.attempted_at(evaluator, task, &now)
    }

    /// Returns the possible outcomes of an attempt.
    pub(super) fn attempted(
        &self,
        evaluator: &mut Evaluator<'_>,
        task: &Task,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        self.attempted_at(evaluator, task, &self.moment(evaluator))
    }

    fn attempted_at(
        &self,
        evaluator: &mut Evaluator<'_>,
        task: &Task,
        now: &Moment,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let state =
            |id: &EntityId| self.entities.get(id).and_then(|stored| stored.state.as_ref()?.state.clone());
        outcomes(evaluator, task, now, self, &state)
    }

    /// Returns the circumstances of an attempt that happens now.
    pub(super) fn moment(&self, evaluator: &Evaluator<'_>) -> Moment {
        Moment { clock: self.timers.clock(&evaluator.program.facts.later), turns: self.turns.clone() }
    }

    /// Records the instant that a clock showed, and the positions of mocks.
    pub(super) fn read(&mut self, instant: Option<i64>, turns: Turns) {
        if !turns.is_empty() {
            self.turns = turns;
        }
        if let Some(instant) = instant {
            self.timers.read(instant);
        }
    }

    /// Records that a task is performed. This moves mocks to their next outcome, unless the task
    /// was performed before.
    pub(super) fn performed(&mut self, instance: &Id, seq: u64, done: &Done) {
        let key = (instance.clone(), seq);
        let again = self.begun.get(&key).is_some();
        if !again && !self.turns.is_empty() {
            self.begun.insert(key, self.turns.clone());
        }
        self.read(done.read, if again { Turns::new() } else { done.turns.clone() });
    }

    /// Whether something can happen before any time passes, in a test that controls the clock.
    pub(super) fn is_busy(&self, program: &Program) -> bool {
        let turn =
            |stored: &Stored<Entity>| stored.state.as_ref().is_some_and(|entity| entity.next().is_some());
        !(self.outbox.is_empty() && self.work.is_empty() && self.results.is_empty())
            || self.instances.values().any(|stored| !stored.inbox.is_empty())
            || self.entities.values().any(|stored| !stored.inbox.is_empty() || turn(stored))
            || self.tasks.values().any(|task| program.is_prompt(&task.asked))
    }
}

impl<S: Clone + Debug + Eq + Hash> Operated for Config<S> {
    fn tree(&self, root: &Id) -> Result<Vec<Id>, Id> {
        Config::tree(self, root)
    }

    fn ended(&self, id: &Id) -> Option<Instance<Eval>> {
        let known = self.instances.get(id).and_then(|stored| stored.state.as_ref());
        // An ended instance has no evaluation to resume.
        known.filter(|known| known.has_ended()).map(|known| known.clone().with(|_| Part::new(Vec::new())))
    }

    fn is_under_way(&self, from: &Name, to: &Id) -> bool {
        let is_sent = |queue: &Outbox| queue.iter().any(|(number, _)| *number > 0);
        let sent = self.outbox.get(&(from.clone(), Name::Instance(to.clone())));
        let stored = self.instances.get(to);
        let has_come = |stored: &Part<Stored<Instance<S>>>| {
            stored.inbox.iter().any(|(sender, _)| sender.as_ref() == Some(from))
        };
        sent.is_some_and(is_sent) || stored.is_some_and(has_come)
    }
}

/// Returns the instance that a message is to begin, if there is one.
fn begins<'c>(to: &'c Name, mail: &'c Message) -> Option<Member<'c>> {
    match (to, mail) {
        (Name::Instance(id), Message::Begin { owner, .. }) => Some(Member { id, owner, has_ended: false }),
        _ => None,
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
