//! The compute-storage model: compute may vanish at any moment, and only storage lasts.
//!
//! Storage keeps of each participant its state with the messages that it has not taken, a version, and the messages
//! that it has sent and that were not passed on. Compute reads one participant, evaluates, and asks storage for one
//! atomic step: the new state, the message taken, the messages sent. Storage takes the step if the version is still the one
//! that was read. Whatever compute holds may be lost at any moment; then it is done again.
//!
//! The model is general in what storage keeps of a running instance ([`Keep`]); here it is its state ([`States`]).

mod config;
mod show;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::Hash;

use crate::machine::ErrorData;

use super::entity::Entity;
use super::evaluate::{Eval, Evaluator, Stop, Turns, handle};
use super::instance::{self, Instance, Out, Trouble, Turn};
use super::map::Map;
use super::message::{EntityName, Id, Mail, Message, Name};
use super::observe::{self, Seen};
use super::orphan;
use super::part::{Part, fingerprint};
use super::program::{Mutation, Program};
use super::timers::{TimerId, Timers};
use super::{Model, Shown};

pub use config::{Config, Stored, Unrecorded};

/// What storage keeps of a running instance.
pub trait Keep: Sync + Send + Copy + 'static {
    type State: Clone + Debug + Eq + Hash + Send + Sync;

    const NAME: &'static str;

    /// **read**: the instance as it can go on.
    fn read(
        evaluator: &mut Evaluator<'_>,
        id: &Id,
        kept: &Instance<Self::State>,
    ) -> Result<Instance<Eval>, Stop>;

    /// What is kept after a turn: `before` is what was kept, none at the beginning.
    fn keep(before: Option<&Instance<Self::State>>, mail: &Mail, turn: &Turn) -> Instance<Self::State>;
}

/// Storage keeps the state.
#[derive(Clone, Copy, Debug)]
pub struct States;

impl Keep for States {
    type State = Eval;

    const NAME: &'static str = "compute-storage";

    fn read(_: &mut Evaluator<'_>, _: &Id, kept: &Instance<Eval>) -> Result<Instance<Eval>, Stop> {
        Ok(kept.clone())
    }

    fn keep(_: Option<&Instance<Eval>>, _: &Mail, turn: &Turn) -> Instance<Eval> {
        (*turn.instance).clone()
    }
}

/// What compute has read and not yet committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Work<S> {
    pub read: Read<S>,
    /// Storage has another version by now. Of versions nothing else counts, so they have no numbers here.
    pub overtaken: bool,
    /// What the step sends has left already: a mutation.
    released: bool,
}

/// A participant as compute has read it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Read<S> {
    Instance {
        id: Id,
        kept: Part<Stored<Instance<S>>>,
    },
    /// An entity takes a message from its inbox, or has its turn.
    Entity {
        id: EntityName,
        kept: Part<Stored<Entity>>,
        turn: bool,
    },
}

/// How much may go wrong in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Compute vanishes.
    pub crashes: u32,
    /// A participant is read although it is read already, or a task performed although it was.
    pub slow: u32,
    /// A message is passed on twice.
    pub duplicates: u32,
}

/// A step that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Transfer {
        from: Name,
        to: Name,
        again: bool,
    },
    Read {
        who: Name,
        /// An entity has its turn.
        turn: bool,
    },
    /// With the outcome of that number.
    Commit {
        work: u128,
        outcome: usize,
    },
    Refuse {
        work: u128,
    },
    Perform {
        instance: Id,
        seq: u64,
        outcome: usize,
    },
    Record {
        result: u128,
    },
    Elapse {
        timer: TimerId,
    },
    /// An attempt that was given up happens after all, with the outcome of that number.
    Late {
        orphan: u128,
        outcome: usize,
    },
    /// An attempt that was given up will not happen.
    Lapse {
        orphan: u128,
    },
    Crash,
}

/// The model, with how much may go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Storage<K> {
    pub faults: Faults,
    pub keep: K,
}

pub type ComputeStorage = Storage<States>;

impl<K: Keep> Storage<K> {
    /// **begin**: storage holds nothing but the message that begins the main instance.
    fn begin(&self, evaluator: &mut Evaluator<'_>) -> Config<K::State> {
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
            work: Vec::new(),
            results: Vec::new(),
            faults: self.faults,
            trouble: Vec::new(),
        }
    }

    /// **transfer**: the next message of a sender comes to its receiver, and is then no longer the sender's. Between
    /// the two there may be a crash; then it comes again. One that has come before, by its number, is dropped.
    fn transfer(
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
        // It is the last that has come now: the others are counted from it.
        queue.iter_mut().for_each(|(other, _)| *other = other.saturating_sub(number));
        match queue.is_empty() {
            true => c.outbox.remove(&key),
            false => c.outbox.insert(key, Part::new(queue)),
        };
        if number > 0 || evaluator.program.mutation == Mutation::NoDedupe {
            c.put_in(Some(from), to, mail);
        }
    }

    /// **read**: compute takes a participant with work from storage.
    fn read(
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
            Name::World => return Ok(()),
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

    /// **evaluate**: what becomes of what was read. This is compute's alone: nothing of it lasts.
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
                let turn = match (known.filter(|_| !again), &*mail) {
                    (Some(known), _) => {
                        let instance = Part::new(K::read(evaluator, id, known)?);
                        instance::take(evaluator, id, &instance, &mail)?
                    }
                    (None, Message::Begin { started, .. }) => {
                        outs.extend(started.iter().map(|waiter| instance::reply(waiter, handle(id))));
                        instance::begin(evaluator, id, &mail)?
                    }
                    (None, message) => {
                        let outs = instance::absent(id, message);
                        return Ok(Evaluated {
                            written: Written::Instance(id.clone(), Box::new(next)),
                            outs,
                            shown,
                        });
                    }
                };
                outs.extend(turn.out.iter().cloned());
                next.state = Some(K::keep(next.state.as_ref(), &mail, &turn));
                Ok(Evaluated { written: Written::Instance(id.clone(), Box::new(next)), outs, shown })
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
                Ok(Evaluated { written: Written::Entity(id.clone(), Box::new(next)), outs, shown })
            }
        }
    }

    /// How many outcomes the step of what was read has.
    fn count(
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

    /// **commit**: the version is the one that was read: the new state, the message taken and those sent are stored
    /// together.
    fn commit(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config<K::State>,
        work: &Part<Work<K::State>>,
        outcome: usize,
    ) -> Result<(), Stop> {
        self.refuse(c, work);
        let Evaluated { written, mut outs, shown } = self.evaluate(evaluator, c, &work.read, outcome)?;
        if work.released {
            outs.retain(|out| !matches!(out, Out::Send { .. }));
        }
        let who = work.read.who();
        match written {
            Written::Instance(id, mut next) => {
                // What has come since stays.
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

    /// **refuse**: somebody else was faster: what was read is no longer what is stored.
    fn refuse(&self, c: &mut Config<K::State>, work: &Part<Work<K::State>>) {
        if let Some(at) = c.work.iter().position(|known| known == work) {
            c.work.remove(at);
        }
    }

    /// **perform**: compute does a stored task, whatever became of doing it before. Its result is compute's alone;
    /// what it does to the world is not undone.
    fn perform(
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

    /// **record**: the first result of a task is stored, as a message to who asked for it; a later one is dropped.
    fn record(&self, program: &Program, c: &mut Config<K::State>, result: u128) {
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

    /// **elapse**: what is due first of a receiver is due, now or before: its message has come.
    fn elapse(&self, program: &Program, c: &mut Config<K::State>, timer: &TimerId) {
        if program.mutation == Mutation::NoWork {
            c.timers.jump(timer);
        }
        if let Some(mail) = c.timers.take(timer) {
            c.put_in(None, &timer.0, mail);
        }
    }

    /// **late**: an attempt that was given up happens after all, and its answer goes nowhere.
    fn late(
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
    fn lapse(&self, c: &mut Config<K::State>, orphan: u128) {
        orphan::take(&mut c.orphans, orphan);
    }

    /// **crash**: compute vanishes with all that it has.
    fn crash(&self, program: &Program, c: &mut Config<K::State>) {
        c.faults.crashes -= 1;
        if program.mutation == Mutation::CrashLosesInbox {
            let all: Vec<Name> = c.instances.keys().cloned().map(Name::Instance).collect();
            all.iter().for_each(|who| c.lose(who));
        }
        c.work.clear();
        c.results.clear();
    }
}

/// What compute reads of a participant: its state, and the message that it takes.
fn head<T: Clone + Hash>(stored: &Stored<T>, newest: bool) -> Part<Stored<T>> {
    let next = if newest { stored.inbox.back() } else { stored.inbox.front() };
    Part::new(Stored { inbox: next.into_iter().cloned().collect(), ..stored.clone() })
}

/// What becomes of what was read.
struct Evaluated<S> {
    written: Written<S>,
    outs: Vec<Out>,
    /// What the clock showed, when an operation looked at it, and how far mocks in turn are.
    shown: (Option<i64>, Turns),
}

/// What compute asks storage to write.
pub enum Written<S> {
    Instance(Id, Box<Stored<Instance<S>>>),
    Entity(EntityName, Box<Stored<Entity>>),
}

impl<S> Read<S> {
    fn who(&self) -> Name {
        match self {
            Read::Instance { id, .. } => Name::Instance(id.clone()),
            Read::Entity { id, .. } => Name::Entity(id.clone()),
        }
    }

    pub(super) fn is_of(&self, who: &Name) -> bool {
        match (self, who) {
            (Read::Instance { id, .. }, Name::Instance(other)) => id == other,
            (Read::Entity { id, .. }, Name::Entity(other)) => id == other,
            _ => false,
        }
    }
}

impl<K: Keep> Model for Storage<K> {
    type Config = Config<K::State>;
    type Step = Step;

    fn name(&self) -> &'static str {
        K::NAME
    }

    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Self::Config, Stop> {
        Ok(self.begin(evaluator))
    }

    fn enabled(&self, evaluator: &mut Evaluator<'_>, c: &Self::Config) -> Result<Vec<Step>, Stop> {
        let mut steps = Vec::new();
        for work in &c.work {
            if work.overtaken && evaluator.program.mutation != Mutation::NoRefusal {
                steps.push(Step::Refuse { work: work.mark() });
                continue;
            }
            let count = self.count(evaluator, c, &work.read)?;
            steps.extend((0..count).map(|outcome| Step::Commit { work: work.mark(), outcome }));
        }
        let may_read = |who: &Name| c.faults.slow > 0 || !c.work.iter().any(|work| work.read.is_of(who));
        for (id, stored) in &c.instances {
            let who = Name::Instance(id.clone());
            if !stored.inbox.is_empty() && may_read(&who) {
                steps.push(Step::Read { who, turn: false });
            }
        }
        for (id, stored) in &c.entities {
            let who = Name::Entity(id.clone());
            if !may_read(&who) {
                continue;
            }
            if !stored.inbox.is_empty() {
                steps.push(Step::Read { who: who.clone(), turn: false });
            }
            if stored.state.as_ref().is_some_and(|entity| entity.next().is_some()) {
                steps.push(Step::Read { who, turn: true });
            }
        }
        for (from, to) in c.outbox.keys() {
            steps.push(Step::Transfer { from: from.clone(), to: to.clone(), again: false });
            if c.faults.duplicates > 0 {
                steps.push(Step::Transfer { from: from.clone(), to: to.clone(), again: true });
            }
        }
        for (instance, seq) in c.tasks.keys() {
            let performed = c.results.iter().any(|result| result.is_of(instance, *seq));
            if performed && c.faults.slow == 0 {
                continue;
            }
            let count = c.outcomes(evaluator, instance, *seq)?.len();
            let step = |outcome| Step::Perform { instance: instance.clone(), seq: *seq, outcome };
            steps.extend((0..count).map(step));
        }
        steps.extend(c.results.iter().map(|result| Step::Record { result: result.mark() }));
        if !(evaluator.program.facts.takes_the_clock && c.is_busy(evaluator.program)) {
            let in_order = evaluator.program.mutation != Mutation::NoOrderOfTimers;
            steps.extend(c.timers.next(in_order).map(|timer| Step::Elapse { timer }));
        }
        for orphan in orphan::different(&c.orphans) {
            let all = c.attempted(evaluator, &orphan.task)?;
            let mark = orphan.mark();
            steps.extend(orphan::effects(&all).map(|outcome| Step::Late { orphan: mark, outcome }));
            if evaluator.program.mutation != Mutation::NoLapse {
                steps.push(Step::Lapse { orphan: mark });
            }
        }
        if c.faults.crashes > 0 && !(c.work.is_empty() && c.results.is_empty()) {
            steps.push(Step::Crash);
        }
        Ok(steps)
    }

    fn apply(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Self::Config,
        step: &Step,
    ) -> Result<Self::Config, Stop> {
        let mut c = config.clone();
        let work = |hash: &u128| config.work.iter().find(|work| work.mark() == *hash);
        match step {
            Step::Transfer { from, to, again } => self.transfer(evaluator, &mut c, from, to, *again),
            Step::Read { who, turn } => self.read(evaluator, &mut c, who, *turn)?,
            Step::Commit { work: hash, outcome } => {
                if let Some(work) = work(hash) {
                    self.commit(evaluator, &mut c, work, *outcome)?;
                }
            }
            Step::Refuse { work: hash } => {
                if let Some(work) = work(hash) {
                    if evaluator.program.mutation == Mutation::RefusedIsLost {
                        c.lose(&work.read.who());
                    }
                    self.refuse(&mut c, work);
                }
            }
            Step::Perform { instance, seq, outcome } => {
                self.perform(evaluator, &mut c, instance, *seq, *outcome)?
            }
            Step::Record { result } => self.record(evaluator.program, &mut c, *result),
            Step::Elapse { timer } => self.elapse(evaluator.program, &mut c, timer),
            Step::Late { orphan, outcome } => self.late(evaluator, &mut c, *orphan, *outcome)?,
            Step::Lapse { orphan } => self.lapse(&mut c, *orphan),
            Step::Crash => self.crash(evaluator.program, &mut c),
        }
        if evaluator.program.mutation != Mutation::NoWork {
            c.let_time_pass(evaluator.program);
        }
        Ok(c)
    }

    fn enough(
        &self,
        _: &mut Evaluator<'_>,
        _: &Self::Config,
    ) -> Result<Option<Vec<(Step, Self::Config)>>, Stop> {
        Ok(None)
    }

    fn fingerprint(&self, config: &Self::Config) -> u128 {
        fingerprint(config)
    }

    fn seen<'c>(&self, config: &'c Self::Config) -> Seen<'c> {
        let mut seen = Seen::default();
        for (id, stored) in &config.instances {
            if let Some(instance) = &stored.state {
                seen.instances.push((id, observe::stand(instance)));
            }
        }
        for (id, stored) in &config.entities {
            if let Some(entity) = &stored.state {
                seen.entities.push((id, entity));
            }
        }
        seen
    }

    fn trouble<'c>(&self, config: &'c Self::Config) -> &'c [Trouble] {
        &config.trouble
    }

    fn visible(&self, c: &Self::Config, instances: bool) -> u128 {
        let states = c
            .entities
            .iter()
            .filter_map(|(id, stored)| Some((id, stored.state.as_ref()?.state.as_ref()?.mark())));
        match instances {
            true => fingerprint(&(states.collect::<Vec<_>>(), &c.instances)),
            false => fingerprint(&states.collect::<Vec<_>>()),
        }
    }

    fn has_ended(&self, config: &Self::Config, id: &str) -> bool {
        config
            .instances
            .get(id)
            .is_some_and(|kept| kept.state.as_ref().is_some_and(|state| state.has_ended()))
    }

    fn failure(&self, config: &Self::Config, id: &str) -> Option<ErrorData> {
        config.instances.get(id)?.state.as_ref()?.failure()
    }

    fn show(&self, evaluator: &mut Evaluator<'_>, c: &Self::Config, step: &Step) -> Shown {
        self.shown(evaluator, c, step)
    }

    fn choice(&self, c: &Self::Config, step: &Step) -> Option<u128> {
        match step {
            Step::Perform { instance, seq, outcome } => {
                let task = c.tasks.get(&(instance.clone(), *seq))?;
                Some(fingerprint(&(instance, task.asked.mark(), outcome)))
            }
            _ => None,
        }
    }

    fn agent(&self, step: &Step) -> u128 {
        match step {
            Step::Commit { work, .. } | Step::Refuse { work } => fingerprint(&("work", work)),
            Step::Perform { instance, seq, .. } => fingerprint(&("task", instance, seq)),
            Step::Elapse { timer: (to, _) } => fingerprint(&("clock", to)),
            Step::Late { orphan, .. } | Step::Lapse { orphan } => fingerprint(&("late", orphan)),
            other => fingerprint(other),
        }
    }
}
