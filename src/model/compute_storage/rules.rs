//! The rules of the storage models.

use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::Rc;

use super::super::entity::Entity;
use super::super::evaluate::{Evaluator, Stop, Turns, handle};
use super::super::instance::{self, Instance, Out};
use super::super::interventions::Intervention;
use super::super::lives::next_life;
use super::super::map::Map;
use super::super::message::{EntityName, Id, Mail, Message, Name};
use super::super::operator;
use super::super::orphan;
use super::super::part::Part;
use super::super::program::{Mutation, Program};
use super::super::timers::{TimerId, Timers};
use super::{Config, Keep, Read, Storage, Stored, Unrecorded, Work};

impl<K: Keep> Storage<K> {
    /// **begin**: storage has only the message that begins the main instance.
    pub(super) fn begin(&self, evaluator: &mut Evaluator<'_>) -> Config<K::State> {
        let program = evaluator.program;
        let message = instance::beginning(program);
        let main =
            Stored { inbox: VecDeque::from([(Some(Name::World), Part::new(message))]), ..Stored::default() };
        Config {
            instances: Map::from_iter([(program.main.clone(), Part::new(main))]),
            entities: Map::default(),
            outbox: Map::default(),
            tasks: Map::default(),
            timers: Timers::new(program.facts.reads_clock, program.has_the_clock()),
            orphans: Vec::new(),
            turns: program.turns(),
            begun: Map::default(),
            lives: Map::default(),
            left: program.interventions,
            work: Vec::new(),
            results: Vec::new(),
            faults: self.faults,
            trouble: Vec::new(),
        }
    }

    /// **transfer**: the next message of a sender comes to its receiver, and then leaves the
    /// sender. A crash may happen between the two; then the message comes again. A message that has
    /// come before, by its number, is dropped.
    pub(super) fn transfer(
        &self,
        evaluator: &Evaluator<'_>,
        c: &mut Config<K::State>,
        from: &Name,
        to: &Name,
        again: bool,
    ) {
        let key = (from.clone(), to.clone());
        let Some(queue) = c.outbox.get(&key) else { return };
        let mut queue = (**queue).clone();
        let Some((number, mail)) = queue.front().cloned() else { return };
        if again {
            c.faults.duplicates -= 1;
        } else {
            queue.pop_front();
        }
        // This message is the last that has come now, and the others are counted from it.
        queue.iter_mut().for_each(|(other, _)| *other = other.saturating_sub(number));
        match queue.is_empty() {
            true => c.outbox.remove(&key),
            false => c.outbox.insert(key, Part::new(queue)),
        };
        if number > 0 || evaluator.program.mutation == Mutation::NoDedupe {
            c.put_in(Some(from), to, mail);
        }
    }

    /// **read**: compute reads a participant with work from storage.
    pub(super) fn read(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        who: &Name,
        turn: bool,
    ) -> Result<(), Stop> {
        if c.work.iter().any(|work| work.read.is_of(who)) {
            c.faults.slow -= 1;
        }
        let read = match who {
            Name::Instance(id) => {
                let Some(kept) = c.instances.get(id).cloned() else { return Ok(()) };
                let newest = evaluator.program.mutation == Mutation::ReadsNewest;
                Read::Instance { id: id.clone(), kept: head(&kept, newest) }
            }
            Name::Entity(id) => {
                let Some(kept) = c.entities.get(id).cloned() else { return Ok(()) };
                Read::Entity { id: id.clone(), kept: head(&kept, false), turn }
            }
            Name::World | Name::Operator => return Ok(()),
        };
        let mut work = Work { read, overtaken: false, released: false };
        if evaluator.program.mutation == Mutation::ReleaseBeforeCommit {
            let outs = self.evaluate(evaluator, c, &work.read, 0)?.outs;
            let sends = outs.into_iter().filter(|out| matches!(out, Out::Send { .. })).collect();
            c.bring_about(evaluator.program, who, sends);
            work.released = true;
        }
        c.work.push(Part::new(work));
        c.work.sort_by_key(Part::mark);
        Ok(())
    }

    /// **evaluate**: computes the step of what was read. Only compute has the result; nothing of it
    /// lasts.
    fn evaluate(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &Config<K::State>,
        read: &Read<K::State>,
        outcome: usize,
    ) -> Result<Evaluated<K::State>, Stop> {
        let mut shown = (None, Turns::new());
        match read {
            Read::Instance { id, kept } => {
                let mut next = (**kept).clone();
                let Some((_, mail)) = next.inbox.pop_front() else {
                    return Err(Stop::Fault("nothing to take".into()));
                };
                let mut outs = Vec::new();
                let known = next.state.as_ref();
                let again = evaluator.program.mutation == Mutation::BeginsAgain
                    && matches!(*mail, Message::Begin { .. });
                let replaces = known.filter(|known| {
                    evaluator.program.mutation != Mutation::ReplaceKeeps && instance::replaces(known, &mail)
                });
                if let Some(known) = replaces {
                    return self.replace(evaluator, c, (id, known, &mail));
                }
                let turn = match (known.filter(|_| !again), &*mail) {
                    (Some(known), _) => {
                        let instance = Part::new(K::read(evaluator, id, known)?);
                        instance::take(evaluator, id, &instance, &mail)?
                    }
                    (None, Message::Begin { started, .. }) => {
                        outs.extend(started.iter().map(|waiter| instance::reply(waiter, handle(id))));
                        instance::begin(evaluator, id, c.life(id), &mail)?
                    }
                    (None, message) => {
                        let outs = instance::absent(id, message);
                        let written = Written::Instance(id.clone(), Box::new(next));
                        return Ok(Evaluated { written, outs, shown, purged: Vec::new() });
                    }
                };
                outs.extend(turn.out.iter().cloned());
                next.state = Some(K::keep(next.state.as_ref(), &mail, &turn));
                let written = Written::Instance(id.clone(), Box::new(next));
                Ok(Evaluated { written, outs, shown, purged: Vec::new() })
            }
            Read::Entity { id, kept, turn } => {
                let mut next = (**kept).clone();
                let mut entity = next.state.take().unwrap_or_default();
                let outs = match (turn, entity.next()) {
                    (false, _) => match next.inbox.pop_front() {
                        Some((_, mail)) => entity.arrive(&mail),
                        None => Vec::new(),
                    },
                    (true, Some(Message::Lock { .. })) => {
                        let outs = entity.acquire();
                        if evaluator.program.mutation == Mutation::NoHolder {
                            entity.holder = None;
                        }
                        outs
                    }
                    (true, _) => {
                        let all = entity.operations(id, evaluator, &c.moment(evaluator))?;
                        let done = all.get(outcome).ok_or_else(|| Stop::Fault("no such outcome".into()))?;
                        shown = (done.read, done.turns.clone());
                        entity.operate(id, done, evaluator)?
                    }
                };
                next.state = Some(entity);
                let written = Written::Entity(id.clone(), Box::new(next));
                Ok(Evaluated { written, outs, shown, purged: Vec::new() })
            }
        }
    }

    /// **replace**: an instance that has ended is purged with its tree, and another life of its id
    /// begins. This requires that the whole tree has ended when the step is stored.
    fn replace(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &Config<K::State>,
        (id, known, mail): (&Id, &Instance<K::State>, &Mail),
    ) -> Result<Evaluated<K::State>, Stop> {
        let mut outs = Vec::new();
        let (before, turn, purged) = match c.tree(id) {
            Ok(tree) => {
                if let Message::Begin { started: Some(started), .. } = &**mail {
                    outs.push(instance::reply(started, handle(id)));
                }
                let life = next_life(evaluator.program, known.execution.life);
                let turn = instance::begin(evaluator, id, life, mail)?;
                (None, turn, tree)
            }
            Err(running) => {
                let me = K::read(evaluator, id, known)?;
                let turn = instance::not_replaced(evaluator, id, &me, mail, &running);
                (Some(known), Rc::new(turn), Vec::new())
            }
        };
        outs.extend(turn.out.iter().cloned());
        let next = Stored { state: Some(K::keep(before, mail, &turn)), ..Stored::default() };
        let written = Written::Instance(id.clone(), Box::new(next));
        Ok(Evaluated { written, outs, shown: (None, Turns::new()), purged })
    }

    /// Returns the number of possible outcomes of the step.
    pub(super) fn count(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &Config<K::State>,
        read: &Read<K::State>,
    ) -> Result<usize, Stop> {
        let Read::Entity { id, kept, turn: true } = read else { return Ok(1) };
        match &kept.state {
            Some(entity) if !matches!(entity.next(), Some(Message::Lock { .. })) => {
                Ok(entity.operations(id, evaluator, &c.moment(evaluator))?.len())
            }
            _ => Ok(1),
        }
    }

    /// **commit**: if the version is still the one that was read, storage takes the new state, the
    /// message taken and the messages sent together.
    pub(super) fn commit(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        work: &Part<Work<K::State>>,
        outcome: usize,
    ) -> Result<(), Stop> {
        self.refuse(c, work);
        let Evaluated { written, mut outs, shown, purged } =
            self.evaluate(evaluator, c, &work.read, outcome)?;
        if work.released {
            outs.retain(|out| !matches!(out, Out::Send { .. }));
        }
        let who = work.read.who();
        c.purge(evaluator.program, &purged);
        match written {
            Written::Instance(id, mut next) => {
                // Messages that have come since then stay.
                if let Some(now) = c.instances.get(&id) {
                    let stays = evaluator.program.mutation == Mutation::MessageStays && now.state.is_some();
                    let taken = usize::from(!stays);
                    next.inbox = now.inbox.iter().skip(taken).cloned().collect();
                }
                c.instances.insert(id, Part::new(*next));
            }
            Written::Entity(id, mut next) => {
                let taken = usize::from(!matches!(work.read, Read::Entity { turn: true, .. }));
                if let Some(now) = c.entities.get(&id) {
                    next.inbox = now.inbox.iter().skip(taken).cloned().collect();
                }
                c.entities.insert(id, Part::new(*next));
            }
        }
        c.overtake(&who);
        c.read(shown.0, shown.1);
        c.bring_about(evaluator.program, &who, outs);
        Ok(())
    }

    /// **refuse**: another step was faster, so the version that was read is outdated.
    pub(super) fn refuse(&self, c: &mut Config<K::State>, work: &Part<Work<K::State>>) {
        if let Some(at) = c.work.iter().position(|known| known == work) {
            c.work.remove(at);
        }
    }

    /// **perform**: compute performs a stored task, whatever became of earlier executions. Only
    /// compute has the result. The effect on the world is not undone.
    pub(super) fn perform(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        instance: &Id,
        seq: u64,
        outcome: usize,
    ) -> Result<(), Stop> {
        let done = c.outcomes(evaluator, instance, seq)?;
        let done = done.get(outcome).cloned().ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        if c.results.iter().any(|result| result.is_of(instance, seq)) {
            c.faults.slow -= 1;
        }
        let Some(task) = c.tasks.get(&(instance.clone(), seq)).cloned() else { return Ok(()) };
        c.change_the_world(&done);
        c.performed(instance, seq, &done);
        if evaluator.program.mutation == Mutation::RemovedBeforeRecord {
            c.tasks.remove(&(instance.clone(), seq));
        }
        match done.result {
            Some(result) => {
                let message = Message::Answer { execution: task.execution, seq, result, sends: done.sends };
                let mail = Part::new(message);
                c.results.push(Part::new(Unrecorded { instance: instance.clone(), seq, mail }));
                c.results.sort_by_key(Part::mark);
            }
            None => {
                c.begun.remove(&(instance.clone(), seq));
                c.tasks.remove(&(instance.clone(), seq));
                c.timers.expects_nothing(instance, seq);
            }
        }
        Ok(())
    }

    /// **record**: stores the first result of a task, as a message to the instance that asked for
    /// it. Later results are dropped.
    pub(super) fn record(&self, program: &Program, c: &mut Config<K::State>, result: u128) {
        let Some(at) = c.results.iter().position(|known| known.mark() == result) else { return };
        let result = c.results.remove(at);
        let task = c.tasks.get(&(result.instance.clone(), result.seq));
        let fits = task.is_some_and(
            |task| matches!(*result.mail, Message::Answer { execution, .. } if execution == task.execution),
        );
        let removed = program.mutation == Mutation::RemovedBeforeRecord;
        if fits || removed {
            c.begun.remove(&(result.instance.clone(), result.seq));
            if program.mutation != Mutation::RecordsAgain {
                c.tasks.remove(&(result.instance.clone(), result.seq));
            }
            c.results.retain(|other| !other.is_of(&result.instance, result.seq));
            c.put_in(Some(&Name::World), &Name::Instance(result.instance.clone()), result.mail.clone());
        }
    }

    /// **elapse**: the first timer of a receiver is due, now or earlier, and its message comes.
    pub(super) fn elapse(&self, program: &Program, c: &mut Config<K::State>, timer: &TimerId) {
        if program.mutation == Mutation::NoWork {
            c.timers.jump(timer);
        }
        if let Some(mail) = c.timers.take(timer) {
            c.put_in(None, &timer.0, mail);
        }
    }

    /// **late**: an attempt that was given up happens after all, and its answer goes nowhere.
    pub(super) fn late(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        orphan: u128,
        outcome: usize,
    ) -> Result<(), Stop> {
        let Some(orphan) = orphan::take(&mut c.orphans, orphan) else { return Ok(()) };
        let done = c.attempted(evaluator, &orphan.task)?;
        let done = done.get(outcome).ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        c.change_the_world(done);
        c.read(done.read, done.turns.clone());
        Ok(())
    }

    /// **lapse**: an attempt that was given up will not happen.
    pub(super) fn lapse(&self, c: &mut Config<K::State>, orphan: u128) {
        orphan::take(&mut c.orphans, orphan);
    }

    /// **suspend**, **resume**, **cancel**, **purge**, **rewind** and **leave**: a command comes, or ended
    /// instances are removed or rewound in one step of storage. The main instance begins again
    /// after its purge.
    pub(super) fn intervene(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        intervention: &Intervention,
    ) -> Result<(), Stop> {
        let program = evaluator.program;
        c.left.make(intervention);
        let (id, message) = match intervention {
            Intervention::Suspend(id) => (id, Message::Suspend { ack: None }),
            Intervention::Resume(id) => (id, Message::Resume { ack: None }),
            Intervention::Cancel(id) => (id, operator::cancellation()),
            Intervention::Leave => return Ok(()),
            Intervention::Rewind(id) => return c.rewind::<K>(evaluator, id),
            Intervention::Purge(id) => {
                let Ok(tree) = c.tree(id) else { return Ok(()) };
                c.purge(program, &tree);
                if *id != program.main {
                    return Ok(());
                }
                (id, instance::beginning(program))
            }
        };
        c.put_in(Some(&Name::Operator), &Name::Instance(id.clone()), Part::new(message));
        Ok(())
    }

    /// **crash**: compute vanishes with everything that it has.
    pub(super) fn crash(&self, program: &Program, c: &mut Config<K::State>) {
        c.faults.crashes -= 1;
        let loses = |stored: &Stored<Instance<K::State>>| match program.mutation {
            Mutation::CrashLosesInbox => true,
            Mutation::SuspensionForgets => stored.state.as_ref().is_some_and(|known| known.suspended),
            _ => false,
        };
        let all = c.instances.iter().filter(|(_, stored)| loses(stored));
        let all: Vec<Name> = all.map(|(id, _)| Name::Instance(id.clone())).collect();
        all.iter().for_each(|who| c.lose(who));
        c.work.clear();
        c.results.clear();
    }
}

/// Returns what compute reads of a participant: its state, and the message that it takes.
fn head<T: Clone + Hash>(stored: &Stored<T>, newest: bool) -> Part<Stored<T>> {
    let next = if newest { stored.inbox.back() } else { stored.inbox.front() };
    Part::new(Stored { inbox: next.into_iter().cloned().collect(), ..stored.clone() })
}

/// The evaluated step of what was read.
struct Evaluated<S> {
    written: Written<S>,
    outs: Vec<Out>,
    /// The instant that the clock showed, if an operation read it, and the positions of mocks.
    shown: (Option<i64>, Turns),
    /// The instances that are removed in the same step.
    purged: Vec<Id>,
}

/// The write that compute asks storage for.
pub enum Written<S> {
    Instance(Id, Box<Stored<Instance<S>>>),
    Entity(EntityName, Box<Stored<Entity>>),
}
