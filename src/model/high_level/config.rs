//! The configurations of the high-level model.

use std::collections::VecDeque;
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
use super::super::part::{Part, Shared};
use super::super::program::Program;
use super::super::tasks::outcomes;
use super::super::timers::{Timers, When};
use super::super::view::View;

/// Messages of one sender to one receiver, in the order sent.
pub type Channel = Part<VecDeque<Mail>>;

/// A moment of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    pub instances: Shared<Map<Id, Part<Instance<Eval>>>>,
    pub entities: Shared<Map<EntityName, Part<Entity>>>,
    /// Activities and effects in flight, by their requests.
    pub tasks: Shared<Map<(Id, u64), Part<Task>>>,
    /// The messages in flight, by sender and receiver.
    pub mail: Shared<Map<(Name, Name), Channel>>,
    pub timers: Shared<Timers>,
    /// Attempts that were given up and may still happen.
    pub orphans: Vec<Part<Orphan>>,
    pub turns: Turns,
    /// The next life of each id that was used before.
    pub lives: Map<Id, Life>,
    /// The interventions that the operator may still make.
    pub left: Interventions,
    pub trouble: Vec<Anomaly>,
}

impl Config {
    pub fn entity(&self, id: &EntityName) -> Entity {
        self.entities.get(id).map(|entity| (**entity).clone()).unwrap_or_default()
    }

    pub fn put_entity(&mut self, id: &EntityName, entity: Entity) {
        match entity.is_untouched() {
            true => self.entities.edit().remove(id),
            false => self.entities.edit().insert(id.clone(), Part::new(entity)),
        };
    }

    pub(super) fn send(&mut self, from: &Name, to: Name, mail: Mail) {
        let key = (from.clone(), to);
        let mut queue = self.mail.get(&key).map(|queue| (**queue).clone()).unwrap_or_default();
        queue.push_back(mail);
        self.mail.edit().insert(key, Part::new(queue));
    }

    pub(super) fn take_mail(&mut self, from: &Name, to: &Name, newest: bool) -> Option<Mail> {
        let key = (from.clone(), to.clone());
        let mut queue = (**self.mail.get(&key)?).clone();
        let message = if newest { queue.pop_back() } else { queue.pop_front() };
        match queue.is_empty() {
            true => self.mail.edit().remove(&key),
            false => self.mail.edit().insert(key, Part::new(queue)),
        };
        message
    }

    pub(super) fn keep_mail(&mut self, from: Name, to: &Name, keep: impl Fn(&Message) -> bool) {
        let key = (from, to.clone());
        let Some(queue) = self.mail.get(&key) else { return };
        if queue.iter().all(|mail| keep(mail)) {
            return;
        }
        let queue: VecDeque<Mail> = queue.iter().filter(|mail| keep(mail)).cloned().collect();
        match queue.is_empty() {
            true => self.mail.edit().remove(&key),
            false => self.mail.edit().insert(key, Part::new(queue)),
        };
    }

    /// Applies the consequences of a participant's step.
    pub fn bring_about(&mut self, program: &Program, by: &Name, outs: Vec<Out>) {
        for out in outs {
            match (out, by) {
                (Out::Send { to, mail }, _) => self.send(by, to, mail),
                (Out::Later { when: When::At(instant), to, mail }, _) if self.timers.has_passed(instant) => {
                    self.send(by, Name::Entity(to), mail);
                }
                (Out::Later { when, to, mail }, _) => self.timers.edit().later(when, &to, mail),
                (Out::Anomaly(trouble), _) => self.trouble.push(trouble),
                (Out::Begin { seq, task }, Name::Instance(id)) => {
                    if let Some(within) = program.within(&task.asked) {
                        self.timers.edit().expect(within, id, seq);
                    }
                    self.tasks.edit().insert((id.clone(), seq), Part::new(task));
                }
                (Out::SetTimer { when, seq, timer }, Name::Instance(id)) => {
                    let execution =
                        self.instances.get(id).map(|instance| instance.execution).unwrap_or_default();
                    self.timers.edit().set(when, id, execution, seq, timer);
                }
                (Out::GiveUp { seq }, Name::Instance(id)) => self.give_up(program, id, seq, true),
                (Out::Clear { seq, all }, Name::Instance(id)) => {
                    self.give_up(program, id, seq, all);
                    let of =
                        |message: &Message| !matches!(message, Message::Answer { seq: s, .. } if *s == seq);
                    self.keep_mail(Name::World, by, of);
                }
                _ => {}
            }
        }
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
        let is_commanded = |id: &Id| self.mail.contains_key(&(Name::Operator, Name::Instance(id.clone())));
        let known = self.instances.iter().filter(|(id, _)| !is_commanded(id));
        let known = known.flat_map(|(id, instance)| commands(id, instance, self.left, all));
        possible(evaluator, self, known.collect())
    }

    /// Rewinds an instance, with those that it needs.
    pub(super) fn rewind(&mut self, evaluator: &mut Evaluator<'_>, id: &Id) -> Result<(), Stop> {
        for (id, _, turn) in rewinding(evaluator, self, id)?.into_iter().flatten() {
            self.instances.edit().insert(id.clone(), turn.instance);
            self.bring_about(evaluator.program, &Name::Instance(id), turn.out);
        }
        Ok(())
    }

    /// Removes an ended instance with its tree. An error is a member that has not ended.
    pub(super) fn purge(&mut self, program: &Program, root: &Id) -> Result<(), Id> {
        let members = self.tree(root)?;
        for id in purged(program, &members) {
            if let Some(instance) = self.instances.edit().remove(id) {
                self.lives.insert(id.clone(), next_life(program, instance.execution.life));
            }
        }
        Ok(())
    }

    /// Returns the tree of an instance if all of it has ended, or as an error a member that has
    /// not.
    fn tree(&self, root: &Id) -> Result<Vec<Id>, Id> {
        let known = self.instances.iter().map(|(id, instance)| {
            let (owner, has_ended) = (&instance.owner, instance.has_ended());
            Member { id, owner, has_ended }
        });
        let begins = self.mail.iter().flat_map(|((_, to), queue)| {
            queue.iter().filter_map(move |mail| match (to, &**mail) {
                (Name::Instance(id), Message::Begin { owner, .. }) => {
                    Some(Member { id, owner, has_ended: false })
                }
                _ => None,
            })
        });
        tree(root, &known.chain(begins).collect::<Vec<_>>())
    }

    /// Gives up the task of a request and clears its timers. Without `all`, the limit of all
    /// attempts stays.
    fn give_up(&mut self, program: &Program, id: &Id, seq: u64, all: bool) {
        if self.tasks.contains_key(&(id.clone(), seq))
            && let Some(task) = self.tasks.edit().remove(&(id.clone(), seq))
        {
            orphan::keep(&mut self.orphans, program, id, task);
        }
        if !self.timers.is_empty() {
            self.timers.edit().clear(id, seq, all);
        }
    }

    /// Returns the possible outcomes of a task in flight.
    pub fn outcomes(
        &self,
        evaluator: &mut Evaluator<'_>,
        instance: &Id,
        seq: u64,
    ) -> Result<Rc<Vec<Done>>, Stop> {
        let Some(task) = self.tasks.get(&(instance.clone(), seq)) else { return Ok(Rc::default()) };
        self.attempted(evaluator, task)
    }

    /// Returns the possible outcomes of an attempt.
    pub fn attempted(&self, evaluator: &mut Evaluator<'_>, task: &Task) -> Result<Rc<Vec<Done>>, Stop> {
        let now = self.moment(evaluator);
        outcomes(evaluator, task, &now, self, &|id| self.entities.get(id).and_then(|e| e.state.clone()))
    }

    /// Returns the circumstances of an attempt that happens now.
    pub fn moment(&self, evaluator: &Evaluator<'_>) -> Moment {
        Moment { clock: self.timers.clock(&evaluator.program.facts.later), turns: self.turns.clone() }
    }

    /// Applies the effect of an attempt to the entity that stands for the world.
    pub(super) fn change_the_world(&mut self, done: &Done) {
        if let (Some((entity, _)), Some(state)) = (&done.world, &done.state) {
            let changed = Entity { state: state.clone(), ..self.entity(entity) };
            self.put_entity(entity, changed);
        }
    }

    /// Records the instant that a clock showed, and the positions of mocks.
    pub(super) fn read(&mut self, done: &Done) {
        if !done.turns.is_empty() {
            self.turns.clone_from(&done.turns);
        }
        if let Some(instant) = done.read {
            self.timers.edit().read(instant);
        }
    }

    /// Records that a request will have no answer.
    pub(super) fn expects_nothing(&mut self, id: &Id, seq: u64) {
        if !self.timers.is_empty() {
            self.timers.edit().expects_nothing(id, seq);
        }
    }

    /// Whether something can happen before any time passes, in a test that controls the clock.
    pub(super) fn is_busy(&self, program: &Program) -> bool {
        !self.mail.is_empty()
            || self.entities.values().any(|entity| entity.next().is_some())
            || self.tasks.values().any(|task| program.is_prompt(&task.asked))
    }

    /// Lets any amount of time pass.
    pub(super) fn let_time_pass(&mut self, program: &Program) {
        if program.facts.takes_the_clock && self.is_busy(program) {
            return;
        }
        let mut timers = (*self.timers).clone();
        timers.pass(|id| self.instances.get(id).is_some_and(|instance| instance.sets_one_timer()));
        if timers != *self.timers {
            *self.timers.edit() = timers;
        }
    }
}

impl Operated for Config {
    fn tree(&self, root: &Id) -> Result<Vec<Id>, Id> {
        Config::tree(self, root)
    }

    fn ended(&self, id: &Id) -> Option<Instance<Eval>> {
        self.instances.get(id).filter(|known| known.has_ended()).map(|known| (**known).clone())
    }

    fn is_under_way(&self, from: &Name, to: &Id) -> bool {
        self.mail.contains_key(&(from.clone(), Name::Instance(to.clone())))
    }
}

impl View for Config {
    fn state(&self, entity: &EntityId) -> Option<Data> {
        let known = self.entities.get(entity).and_then(|entity| entity.state.as_ref());
        known.map(|state| (**state).clone())
    }

    fn states(&self, kind: &str) -> Vec<(Data, Data)> {
        let of = self.entities.iter().filter(|(id, _)| id.name == kind);
        of.filter_map(|(id, entity)| Some((id.key.clone(), (**entity.state.as_ref()?).clone()))).collect()
    }

    fn outcome(&self, id: &str) -> Value {
        self.instances.get(id).map_or(Value::Null, |instance| observe::outcome(id, instance))
    }
}
