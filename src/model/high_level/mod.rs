//! The high-level model: the meaning of programs, without crashes and without storage.
//!
//! A configuration is ⟨instances; entities; tasks in flight; messages in flight; timers; attempts
//! that were given up⟩. Each rule is a function with its name, and [`HighLevel::enabled`] lists the
//! steps that the rules allow.

mod config;
mod reduce;
pub(super) mod show;

use crate::machine::ErrorData;

use super::evaluate::{Evaluator, Stop};
use super::instance::{self, Anomaly, Out, Task};
use super::interventions::Intervention;
use super::lives::Life;
use super::message::{EntityName, Id, Mail, Message, Name};
use super::observe::{self, Seen};
use super::operator;
use super::orphan;
use super::part::{Part, fingerprint};
use super::program::{Mutation, Program};
use super::timers::{TimerId, Timers};
use super::{Model, Shown};

pub use config::{Channel, Config};

/// A step that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HighLevelStep {
    Deliver {
        from: Name,
        to: Name,
    },
    /// An entity runs an operation, with the outcome of this number.
    Operate {
        entity: EntityName,
        outcome: usize,
    },
    Acquire {
        entity: EntityName,
    },
    Perform {
        instance: Id,
        seq: u64,
        outcome: usize,
    },
    Elapse {
        timer: TimerId,
    },
    /// An attempt that was given up happens after all, with the outcome of this number.
    Late {
        orphan: u128,
        outcome: usize,
    },
    /// An attempt that was given up will not happen.
    Lapse {
        orphan: u128,
    },
    /// The operator intervenes.
    Intervene(Intervention),
}

/// The high-level model of a program.
pub struct HighLevel;

impl HighLevel {
    /// **begin**: the main instance is evaluated up to its first requests.
    fn begin(&self, evaluator: &mut Evaluator<'_>) -> Result<Config, Stop> {
        let program = evaluator.program;
        let id: Id = program.main.clone();
        let mut config = Config::default();
        *config.timers.edit() = Timers::new(program.facts.reads_clock, program.has_the_clock());
        config.turns = program.turns();
        config.left = program.interventions;
        let turn = instance::begin(evaluator, &id, Life::default(), &instance::beginning(program))?;
        config.instances.edit().insert(id.clone(), turn.instance.clone());
        config.bring_about(program, &Name::Instance(id), turn.out.clone());
        if program.mutation != Mutation::NoWork {
            config.let_time_pass(program);
        }
        Ok(config)
    }

    /// **deliver**: the first message of a sender to a receiver arrives. An instance takes the
    /// message and evaluates, up to its next requests or its end. An entity keeps the message until
    /// its turn.
    fn deliver(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        from: &Name,
        to: &Name,
    ) -> Result<(), Stop> {
        match c.take_mail(from, to, evaluator.program.mutation == Mutation::NewestFirst) {
            Some(mail) => self.arrive(evaluator, c, to, &mail),
            None => Ok(()),
        }
    }

    fn arrive(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        to: &Name,
        mail: &Mail,
    ) -> Result<(), Stop> {
        match to {
            Name::Instance(id) => {
                if let Some(outs) = self.replace(evaluator, c, id, mail) {
                    c.bring_about(evaluator.program, to, outs);
                    return Ok(());
                }
                let known = c.instances.get(id).filter(|_| !begins_again(evaluator.program, mail));
                let outs = match (known, &**mail) {
                    (Some(known), _) => {
                        let turn = instance::take(evaluator, id, known, mail)?;
                        c.instances.edit().insert(id.clone(), turn.instance.clone());
                        turn.out.clone()
                    }
                    (None, Message::Begin { started, .. }) => {
                        let turn = instance::begin(evaluator, id, c.life(id), mail)?;
                        c.instances.edit().insert(id.clone(), turn.instance.clone());
                        let started =
                            started.iter().map(|waiter| instance::reply(waiter, super::evaluate::handle(id)));
                        started.chain(turn.out.iter().cloned()).collect()
                    }
                    (None, message) => instance::absent(id, message),
                };
                c.bring_about(evaluator.program, to, outs);
            }
            Name::Entity(id) => {
                let mut entity = c.entity(id);
                let outs = entity.arrive(mail);
                c.put_entity(id, entity);
                c.bring_about(evaluator.program, to, outs);
            }
            Name::World | Name::Operator => return Err(Stop::Fault(format!("{to} was sent {}", **mail))),
        }
        Ok(())
    }

    /// **replace**: purges an ended instance with its tree, if a message is to begin another in its
    /// place. If a member of the tree has not ended, the instance stays, and the consequences of
    /// this are returned.
    fn replace(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        id: &Id,
        mail: &Mail,
    ) -> Option<Vec<Out>> {
        let known = c.instances.get(id).filter(|known| instance::replaces(known, mail))?.clone();
        if evaluator.program.mutation == Mutation::ReplaceKeeps {
            return None;
        }
        let running = c.purge(evaluator.program, id).err()?;
        let turn = instance::not_replaced(evaluator, id, &known, mail, &running);
        c.instances.edit().insert(id.clone(), turn.instance);
        Some(turn.out)
    }

    /// **operate**: an entity takes the message whose turn it is, and runs the operation to its
    /// end, atomically.
    fn operate(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        id: &EntityName,
        outcome: usize,
    ) -> Result<(), Stop> {
        let mut entity = c.entity(id);
        let all = entity.operations(id, evaluator, &c.moment(evaluator))?;
        let done = all.get(outcome).ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        let outs = entity.operate(id, done, evaluator)?;
        c.put_entity(id, entity);
        c.read(done);
        c.bring_about(evaluator.program, &Name::Entity(id.clone()), outs);
        Ok(())
    }

    /// **acquire**: the request of a critical section has its turn at a free entity. The entity
    /// records the holder, and the request goes on to the next entity, or is granted.
    fn acquire(&self, program: &Program, c: &mut Config, id: &EntityName) {
        let mut entity = c.entity(id);
        let outs = entity.acquire();
        if program.mutation == Mutation::NoHolder {
            entity.holder = None;
        }
        c.put_entity(id, entity);
        c.bring_about(program, &Name::Entity(id.clone()), outs);
    }

    /// **perform**: a task in flight gets a result, by the environment's choice, or will never have
    /// one.
    fn perform(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        instance: &Id,
        seq: u64,
        outcome: usize,
    ) -> Result<(), Stop> {
        let done = c.outcomes(evaluator, instance, seq)?;
        let done = done.get(outcome).cloned().ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        let Some(task) = c.tasks.edit().remove(&(instance.clone(), seq)) else { return Ok(()) };
        if evaluator.program.mutation == Mutation::TaskStays && task.attempt == 1 {
            let again = Task { attempt: 2, ..(*task).clone() };
            c.tasks.edit().insert((instance.clone(), seq), Part::new(again));
        }
        c.change_the_world(&done);
        c.read(&done);
        match done.result {
            Some(result) => {
                let message = Message::Answer { execution: task.execution, seq, result, sends: done.sends };
                c.send(&Name::World, Name::Instance(instance.clone()), Part::new(message));
            }
            None => c.expects_nothing(instance, seq),
        }
        Ok(())
    }

    /// **elapse**: the first timer of a receiver fires, when it is due or later, and the receiver
    /// is told.
    fn elapse(&self, evaluator: &mut Evaluator<'_>, c: &mut Config, timer: &TimerId) -> Result<(), Stop> {
        if evaluator.program.mutation == Mutation::NoWork {
            c.timers.edit().jump(timer);
        }
        match c.timers.edit().take(timer) {
            Some(mail) => self.arrive(evaluator, c, &timer.0, &mail),
            None => Ok(()),
        }
    }

    /// **late**: an attempt that was given up happens after all, and its answer goes nowhere.
    fn late(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        orphan: u128,
        outcome: usize,
    ) -> Result<(), Stop> {
        let Some(orphan) = orphan::take(&mut c.orphans, orphan) else { return Ok(()) };
        let done = c.attempted(evaluator, &orphan.task)?;
        let done = done.get(outcome).ok_or_else(|| Stop::Fault("no such outcome".into()))?;
        c.change_the_world(done);
        c.read(done);
        Ok(())
    }

    /// **suspend**, **resume**, **cancel**, **purge**, **rewind** and **leave**: the operator sends a command,
    /// or removes or rewinds instances that have ended. The main instance begins again after its
    /// purge.
    fn intervene(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &mut Config,
        intervention: &Intervention,
    ) -> Result<(), Stop> {
        let program = evaluator.program;
        c.left.make(intervention);
        let (id, message) = match intervention {
            Intervention::Suspend(id) => (id, Message::Suspend { ack: None }),
            Intervention::Resume(id) => (id, Message::Resume { ack: None }),
            Intervention::Cancel(id) => (id, operator::cancellation()),
            Intervention::Leave => return Ok(()),
            Intervention::Rewind(id) => return c.rewind(evaluator, id),
            Intervention::Purge(id) => {
                if c.purge(program, id).is_err() || *id != program.main {
                    return Ok(());
                }
                (id, instance::beginning(program))
            }
        };
        c.send(&Name::Operator, Name::Instance(id.clone()), Part::new(message));
        Ok(())
    }

    /// **lapse**: an attempt that was given up will not happen.
    fn lapse(&self, c: &mut Config, orphan: u128) {
        orphan::take(&mut c.orphans, orphan);
    }
}

/// A mutation: an existing instance begins once more.
fn begins_again(program: &Program, mail: &Mail) -> bool {
    program.mutation == Mutation::BeginsAgain && matches!(**mail, Message::Begin { .. })
}

impl Model for HighLevel {
    type Config = Config;
    type Step = HighLevelStep;

    fn name(&self) -> &'static str {
        "high-level"
    }

    fn initial(&self, evaluator: &mut Evaluator<'_>) -> Result<Config, Stop> {
        self.begin(evaluator)
    }

    fn enabled(&self, evaluator: &mut Evaluator<'_>, c: &Config) -> Result<Vec<HighLevelStep>, Stop> {
        let mut steps = Vec::new();
        for (from, to) in c.mail.keys() {
            steps.push(HighLevelStep::Deliver { from: from.clone(), to: to.clone() });
        }
        for (id, entity) in c.entities.iter() {
            match entity.next() {
                None => {}
                Some(Message::Lock { .. }) => steps.push(HighLevelStep::Acquire { entity: id.clone() }),
                Some(_) => {
                    let count = entity.operations(id, evaluator, &c.moment(evaluator))?.len();
                    steps.extend(
                        (0..count).map(|outcome| HighLevelStep::Operate { entity: id.clone(), outcome }),
                    );
                }
            }
        }
        for (instance, seq) in c.tasks.keys() {
            let count = c.outcomes(evaluator, instance, *seq)?.len();
            let step = |outcome| HighLevelStep::Perform { instance: instance.clone(), seq: *seq, outcome };
            steps.extend((0..count).map(step));
        }
        if !(evaluator.program.facts.takes_the_clock && c.is_busy(evaluator.program)) {
            let in_order = evaluator.program.mutation != Mutation::NoOrderOfTimers;
            steps.extend(c.timers.next(in_order).map(|timer| HighLevelStep::Elapse { timer }));
        }
        for orphan in orphan::different(&c.orphans) {
            let all = c.attempted(evaluator, &orphan.task)?;
            let mark = orphan.mark();
            steps.extend(orphan::effects(&all).map(|outcome| HighLevelStep::Late { orphan: mark, outcome }));
            if evaluator.program.mutation != Mutation::NoLapse {
                steps.push(HighLevelStep::Lapse { orphan: mark });
            }
        }
        let interventions = c.interventions(evaluator)?.into_iter().map(HighLevelStep::Intervene);
        // The operator need not intervene. That is settled when nothing else can happen.
        let leaves = steps.is_empty() && !c.left.is_none();
        steps.extend(interventions.chain(leaves.then_some(HighLevelStep::Intervene(Intervention::Leave))));
        Ok(steps)
    }

    fn apply(
        &self,
        evaluator: &mut Evaluator<'_>,
        config: &Config,
        step: &HighLevelStep,
    ) -> Result<Config, Stop> {
        let mut c = config.clone();
        match step {
            HighLevelStep::Deliver { from, to } => self.deliver(evaluator, &mut c, from, to)?,
            HighLevelStep::Operate { entity, outcome } => {
                self.operate(evaluator, &mut c, entity, *outcome)?
            }
            HighLevelStep::Acquire { entity } => self.acquire(evaluator.program, &mut c, entity),
            HighLevelStep::Perform { instance, seq, outcome } => {
                self.perform(evaluator, &mut c, instance, *seq, *outcome)?
            }
            HighLevelStep::Elapse { timer } => self.elapse(evaluator, &mut c, timer)?,
            HighLevelStep::Late { orphan, outcome } => self.late(evaluator, &mut c, *orphan, *outcome)?,
            HighLevelStep::Lapse { orphan } => self.lapse(&mut c, *orphan),
            HighLevelStep::Intervene(intervention) => self.intervene(evaluator, &mut c, intervention)?,
        }
        let passes = evaluator.program.mutation != Mutation::NoWork;
        if passes && (!c.timers.is_empty() || !c.timers.is(&config.timers)) {
            c.let_time_pass(evaluator.program);
        }
        Ok(c)
    }

    fn ample_set(
        &self,
        evaluator: &mut Evaluator<'_>,
        c: &Config,
    ) -> Result<Option<Vec<(HighLevelStep, Config)>>, Stop> {
        match evaluator.program.interventions.is_none() {
            true => reduce::ample_set(evaluator, c),
            false => Ok(None),
        }
    }

    fn fingerprint(&self, c: &Config) -> u128 {
        let marks = [c.instances.mark(), c.entities.mark(), c.tasks.mark(), c.mail.mark(), c.timers.mark()];
        fingerprint(&(marks, &c.orphans, &c.turns, &c.lives, &c.left, &c.trouble))
    }

    fn seen<'c>(&self, config: &'c Config) -> Seen<'c> {
        let mut seen = Seen::default();
        for (id, instance) in config.instances.iter() {
            seen.instances.push((id, observe::stand(instance)));
        }
        for (id, entity) in config.entities.iter() {
            seen.entities.push((id, entity));
        }
        seen
    }

    fn trouble<'c>(&self, config: &'c Config) -> &'c [Anomaly] {
        &config.trouble
    }

    fn visible(&self, config: &Config, instances: bool) -> u128 {
        let states =
            config.entities.iter().filter_map(|(id, entity)| Some((id, entity.state.as_ref()?.mark())));
        match instances {
            true => fingerprint(&(states.collect::<Vec<_>>(), config.instances.mark())),
            false => fingerprint(&states.collect::<Vec<_>>()),
        }
    }

    fn has_ended(&self, config: &Config, id: &str) -> bool {
        config.instances.get(id).is_some_and(|instance| instance.has_ended())
    }

    fn failure(&self, config: &Config, id: &str) -> Option<ErrorData> {
        config.instances.get(id)?.failure()
    }

    fn show(&self, evaluator: &mut Evaluator<'_>, c: &Config, step: &HighLevelStep) -> Shown {
        show::show(evaluator, c, step)
    }

    fn choice(&self, c: &Config, step: &HighLevelStep) -> Option<u128> {
        match step {
            HighLevelStep::Perform { instance, seq, outcome } => {
                let task = c.tasks.get(&(instance.clone(), *seq))?;
                Some(fingerprint(&(instance, task.asked.mark(), outcome)))
            }
            HighLevelStep::Operate { entity, outcome } => {
                Some(fingerprint(&(entity, c.entities.get(entity)?.next(), outcome)))
            }
            _ => None,
        }
    }

    fn agent(&self, step: &HighLevelStep) -> u128 {
        match step {
            HighLevelStep::Deliver { from, to } => fingerprint(&("deliver", from, to)),
            HighLevelStep::Operate { entity, .. } | HighLevelStep::Acquire { entity } => {
                fingerprint(&("entity", entity))
            }
            HighLevelStep::Perform { instance, seq, .. } => fingerprint(&("task", instance, seq)),
            HighLevelStep::Elapse { timer: (to, _) } => fingerprint(&("clock", to)),
            HighLevelStep::Late { orphan, .. } | HighLevelStep::Lapse { orphan } => {
                fingerprint(&("late", orphan))
            }
            HighLevelStep::Intervene(intervention) => fingerprint(&("operator", intervention)),
        }
    }
}
