//! The engine's steps: events in; writes and outputs out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::builtins::{Kind, find};
use crate::code::ProgramHash;
use crate::machine::{Data, ErrorData, Image, Value, What};

use super::history::History;
use super::instance::{Advance, Instance, Mismatch, Open};
use super::record::InstanceRecord;
use super::timers::{Timer, Timers};
use super::{Batch, keys, program_writes};

/// Which attempt at which request of which instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StepId {
    pub instance: Arc<str>,
    pub seq: u64,
    /// From 1.
    pub attempt: u32,
}

/// What happens to the engine.
pub enum Event {
    /// An instance begins.
    Begin { record: InstanceRecord, image: Rc<Image> },
    /// An instance that the store holds goes on where its history ends.
    Load { record: InstanceRecord, history: History, image: Rc<Image> },
    /// A step that was an output has its result.
    Answer { step: StepId, result: Result<Data, ErrorData> },
    /// Time has passed: what is due is woken.
    Tick,
    /// One of the instances that can run does so, for a slice.
    Run,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Carry out an effect and answer. An external one must wait until the writes are durable.
    Effect { step: StepId, name: &'static str, args: Data, external: bool },
    /// Run an activity and answer. Its own external effects must wait until the writes are durable.
    Activity { step: StepId, program: ProgramHash, name: String, args: Data, key: String },
    /// Nobody waits for this step any more; it may be broken off.
    Abandon { step: StepId },
    /// An instance has come to its end; its outcome may be shown once the writes are durable.
    Ended { instance: Arc<str>, outcome: Outcome },
}

/// How an instance ended, or why it stopped.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed(Data),
    Failed(ErrorData),
    /// Replay asked for something other than the history holds. Nothing was done or lost.
    Stuck(Mismatch),
}

/// Fuel of one slice, in calls and repetitions.
const SLICE: u64 = 100_000;
/// Answers that one slice takes in.
const SLICE_ANSWERS: usize = 256;

/// All instances under way.
#[derive(Default)]
pub struct Engine {
    instances: HashMap<Arc<str>, Instance>,
    ready: VecDeque<Arc<str>>,
    timers: Timers,
    /// Instances with something to write.
    changed: Vec<Arc<str>>,
    stored_programs: HashSet<ProgramHash>,
    batch: Batch,
    outputs: Vec<Output>,
}

impl Engine {
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Whether an instance can run: an [`Event::Run`] would do something.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no instance is under way.
    pub fn is_idle(&self) -> bool {
        self.instances.is_empty()
    }

    /// When the next timer is due, in nanoseconds since 1970.
    pub fn next_due(&self) -> Option<i64> {
        self.timers.next()
    }

    /// What an instance waits for; none when it is not under way.
    pub fn waits_for(&self, instance: &str) -> Option<Vec<&Open>> {
        Some(self.instances.get(instance)?.open.values().collect())
    }

    /// What has been waited for longest, with how many other things are waited for.
    pub fn oldest_wait(&self) -> Option<(&Open, usize)> {
        let open = || self.instances.values().flat_map(|instance| instance.open.values());
        open().min_by_key(|open| open.time).map(|oldest| (oldest, open().count() - 1))
    }

    /// Takes in an event; `now` is in nanoseconds since 1970. What follows from it is in the next
    /// [`Engine::take_outputs`] and [`Engine::take_writes`].
    pub fn handle(&mut self, event: Event, now: i64) {
        match event {
            Event::Begin { record, image } => {
                if self.stored_programs.insert(record.program) {
                    program_writes(record.program, &image.code.sources, &mut self.batch);
                }
                self.add(record, History::default(), image, true);
            }
            Event::Load { record, history, image } => {
                self.stored_programs.insert(record.program);
                self.add(record, history, image, false);
            }
            Event::Answer { step, result } => self.answer(step, result, now),
            Event::Tick => {
                while let Some((instance, seq, timer)) = self.timers.take(now) {
                    self.due(&instance, seq, timer, now);
                }
            }
            Event::Run => self.run(now),
        }
    }

    /// What it wants done since the last call. It depends on the writes that are taken after this.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// What it wants written since the last call, to be written together.
    pub fn take_writes(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        for id in std::mem::take(&mut self.changed) {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            if let Some((number, bytes)) = instance.take_chunk() {
                batch.put(keys::chunk(&id, number), bytes);
            }
            if std::mem::take(&mut instance.record_changed) {
                batch.put(keys::instance(&id), instance.record.encode());
            }
            if instance.record.ended.is_some() {
                self.forget(&id);
            }
        }
        batch
    }

    fn add(&mut self, record: InstanceRecord, history: History, image: Rc<Image>, fresh: bool) {
        let id: Arc<str> = record.id.as_str().into();
        let mut instance = Instance::new(&image, record, history);
        instance.record_changed = fresh;
        if fresh {
            self.changed.push(id.clone());
        }
        self.instances.insert(id.clone(), instance);
        self.wake(&id);
    }

    fn forget(&mut self, id: &Arc<str>) {
        self.instances.remove(id);
    }

    fn wake(&mut self, id: &Arc<str>) {
        if let Some(instance) = self.instances.get_mut(id)
            && !std::mem::replace(&mut instance.queued, true)
        {
            self.ready.push_back(id.clone());
        }
    }

    fn answer(&mut self, step: StepId, result: Result<Data, ErrorData>, now: i64) {
        let id = step.instance;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        // An answer to an attempt that was given up, or a second answer to the same step, is dropped.
        let Some(open) =
            instance.open.get_mut(&step.seq).filter(|open| open.attempt == step.attempt && open.dispatched)
        else {
            return;
        };
        self.timers.clear(&id, step.seq);
        open.dispatched = false;
        match result {
            Err(error)
                if matches!(open.request.what, What::Activity { .. }) && open.attempt < open.policy.times =>
            {
                let again = now.saturating_add(open.policy.pause(open.attempt));
                instance.retry(step.seq, error, again, now);
                self.changed.push(id.clone());
                self.dispatch(&id, now);
            }
            result => {
                instance.deliver(step.seq, result);
                self.wake(&id);
            }
        }
    }

    fn due(&mut self, id: &str, seq: u64, timer: Timer, now: i64) {
        let Some((id, instance)) = self.instances.get_key_value(id) else { return };
        let Some(open) = instance.open.get(&seq) else { return };
        let step = StepId { instance: id.clone(), seq, attempt: open.attempt };
        match timer {
            Timer::Sleep => self.answer(step, Ok(Data::null()), now),
            Timer::Timeout => {
                self.outputs.push(Output::Abandon { step: step.clone() });
                let after = crate::machine::format::duration(open.policy.timeout.unwrap_or(0));
                let name = match &open.request.what {
                    What::Activity { name, .. } => name.clone(),
                    What::Effect(name) => name.to_string(),
                };
                let more = [("activity", Value::str(name.as_str()))];
                let error = ErrorData::with("timeout", format!("`{name}` was not done within {after}"), more);
                self.answer(step, Err(error), now);
            }
            Timer::Retry => {
                let id = id.clone();
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.undispatched.push(seq);
                }
                self.dispatch(&id, now);
            }
        }
    }

    fn run(&mut self, now: i64) {
        let Some(id) = self.ready.pop_front() else { return };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.queued = false;
        let mut again = true;
        for _ in 0..SLICE_ANSWERS {
            match instance.advance(SLICE, now, &mut |_, _| ()) {
                Advance::More => continue,
                Advance::OutOfFuel => {}
                Advance::Waiting => again = false,
                Advance::Ended => {
                    let outcome = match instance.record.status.clone() {
                        super::Status::Failed(error) => Outcome::Failed(error),
                        super::Status::Completed(value) => Outcome::Completed(value),
                        super::Status::Running => Outcome::Completed(Data::null()),
                    };
                    self.outputs.push(Output::Ended { instance: id.clone(), outcome });
                    self.changed.push(id.clone());
                    return;
                }
                Advance::Stuck(mismatch) => {
                    self.outputs
                        .push(Output::Ended { instance: id.clone(), outcome: Outcome::Stuck(mismatch) });
                    self.forget(&id);
                    return;
                }
            }
            break;
        }
        if instance.is_live() {
            self.changed.push(id.clone());
            self.dispatch(&id, now);
        }
        if again {
            self.wake(&id);
        }
    }

    /// Hands what an instance newly asks for to the host, or to the timers.
    fn dispatch(&mut self, id: &Arc<str>, now: i64) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        for (seq, open) in std::mem::take(&mut instance.dropped) {
            self.timers.clear(id, seq);
            if open.dispatched {
                let step = StepId { instance: id.clone(), seq, attempt: open.attempt };
                self.outputs.push(Output::Abandon { step });
            }
        }
        for seq in std::mem::take(&mut instance.undispatched) {
            let key = instance.step_key(seq);
            let Some(open) = instance.open.get_mut(&seq).filter(|open| !open.dispatched) else { continue };
            let step = StepId { instance: id.clone(), seq, attempt: open.attempt };
            match &open.request.what {
                What::Effect(name @ ("sleep" | "sleep_until")) => {
                    open.dispatched = true;
                    let due = due_time(name, &open.request.args, open.time);
                    self.timers.set(due, id, seq, Timer::Sleep);
                }
                What::Effect(name) => {
                    open.dispatched = true;
                    let external =
                        find(name).is_some_and(|id| id.get().kind == Kind::Effect { external: true });
                    self.outputs.push(Output::Effect {
                        step,
                        name,
                        args: open.request.args.clone(),
                        external,
                    });
                }
                What::Activity { .. } if open.begins > now => {
                    self.timers.set(open.begins, id, seq, Timer::Retry)
                }
                What::Activity { name, .. } => {
                    open.dispatched = true;
                    if let Some(timeout) = open.policy.timeout {
                        self.timers.set(open.begins.saturating_add(timeout), id, seq, Timer::Timeout);
                    }
                    let (name, args) = (name.clone(), open.request.args.clone());
                    self.outputs.push(Output::Activity {
                        step,
                        program: instance.record.program,
                        name,
                        args,
                        key,
                    });
                }
            }
        }
    }
}

/// When a sleep that was asked for at `time` ends.
fn due_time(name: &str, args: &Data, time: i64) -> i64 {
    let first = match args.decode() {
        Value::List(args) => args.as_slice().first().cloned().unwrap_or_default(),
        _ => Value::Null,
    };
    match (name, first) {
        (_, Value::Duration(duration)) => time.saturating_add(duration),
        (_, Value::Instant(instant)) => instant,
        _ => time,
    }
}
