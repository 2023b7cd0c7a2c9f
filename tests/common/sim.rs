//! A simulated world for the engine, from one seed: its own clock, activities and effects whose
//! answers come in any order or twice, and crashes. The world checks the invariants after every
//! step.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use durable::builtins::Effect;
use durable::engine::{
    Address, Args, Checkpoint, Checkpoints, Ending, Engine, Entry, Event, InstanceRecord, Leaving, Line,
    Message, Output, RecordedRequest, SCRIPT, Status, StepId, StoredLines, Writes, keys, read_call,
    read_history, read_record,
};
use durable::kv::{Batch, MemoryTree};
use durable::machine::{Data, ErrorData, Image, Request, Value, format};

use super::Random;
use super::driver::Driver;
use super::{outside, promises};

/// The time of a crash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crash {
    Never,
    /// At each crash point with a chance of one in this number.
    OneIn(u64),
    /// Once, at this crash point. Points are numbered from 1. They lie before and after every
    /// commit, between an effect and its answer, and after a line.
    At(u64),
    /// At these two crash points.
    Twice(u64, u64),
}

/// A fault of an engine or a store that is put in to check that the world finds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bug {
    /// Effects leave before the writes are durable.
    OutputBeforeCommit,
    /// Messages are durable before the rest of what is written with them.
    MessageBeforeCommit,
    /// A consumed message is not removed.
    DoubleDelivery,
    /// A message is removed before it is consumed.
    LostMessage,
    /// A lock is not released when its holder ends.
    LockNotReleased,
    /// The store does not note that an instance does more than wait for others.
    LostWake,
    /// Lines that are not out yet are lost.
    LostLines,
}

/// An effect or an activity under way.
#[derive(Clone)]
struct UnderWay {
    step: StepId,
    output: Output,
    /// The earliest time of its answer, since work takes time.
    until: i64,
}

/// What a partition has under way while another one is the present one.
#[derive(Default)]
struct Desk {
    held: Vec<Output>,
    under_way: Vec<UnderWay>,
    came: Vec<StepId>,
}

/// The end of a life of the process.
enum Life {
    Ended,
    Crashed,
}

/// The action of an operator.
pub enum Acted {
    Nothing,
    Something,
    /// The process ends, in good order or killed, and begins again after this number of
    /// nanoseconds.
    Restarted {
        in_order: bool,
        after: i64,
    },
}

/// An operator, who starts instances and intervenes.
pub trait Outside {
    /// Takes one action, if it is time for one. `rests` says that nothing goes on by itself before
    /// time passes.
    fn act(&mut self, world: &mut World, rests: bool) -> Result<Acted, String>;

    /// Acts as a command does that finds the process down, before anything else happens.
    fn arrive(&mut self, world: &mut World) -> Result<(), String>;

    /// Learns that the present partition crashed alone, and has begun again.
    fn sees_crash(&mut self, _world: &World) {}

    /// Whether the operator has nothing more to do.
    fn is_done(&self) -> bool;
}

/// The state of a simulation: the process, the durable store, and the outputs so far.
pub struct World {
    pub random: Random,
    /// The engine of the current process, and all writes, durable or not.
    pub driver: Driver,
    /// The store that a crash leaves.
    pub durable: MemoryTree,
    image: Rc<Image>,
    args: Data,
    /// Whether answers come at once, in the order of their requests. Otherwise they come in any
    /// order, with delays.
    pub orderly: bool,
    /// Whether the world goes on after the end of its first instance, until nothing is left to do.
    pub to_rest: bool,
    /// Whether clients suspend and resume instances.
    pub meddling: bool,
    suspended: Vec<String>,
    /// Whether every step of the engine is a commit of its own.
    pub fine: bool,
    /// Whether attempts at activities fail now and then.
    pub flaky: bool,
    /// The number of waiting instances that are kept in memory.
    pub resident: Option<usize>,
    /// The policy for checkpoints.
    pub checkpoints: Checkpoints,
    /// Whether operations of entities are kept.
    pub keep_operations: Option<bool>,
    /// All checkpoints that were written, with the ids of their instances.
    pub written: Vec<(String, Checkpoint)>,
    pub crash: Crash,
    pub bug: Option<Bug>,
    /// The number of crash points so far.
    pub points: u64,
    pub crashes: u32,
    pub steps: u64,
    /// The number of steps after which the world stops where it is.
    pub most_steps: u64,
    input: Vec<String>,
    /// The lines that each instance has written, as recorded, and the durable ones among them.
    pub(super) recorded: BTreeMap<String, Vec<Line>>,
    pub(super) durable_lines: BTreeMap<String, Vec<Line>>,
    /// The number of these lines that are out, and the number that left since the last repeated
    /// one.
    pub(super) out: BTreeMap<String, (usize, usize)>,
    pub trace: Vec<String>,
    outside: Option<Box<dyn Outside>>,
    /// What the other partitions have under way.
    desks: Vec<Desk>,
    /// The number of times that one partition alone crashed.
    pub alone: u32,
    /// The steps whose results the engine has consumed, and those of them whose writes are durable.
    came: Vec<StepId>,
    pub(super) answered: HashSet<StepId>,
    /// The arguments with which the activity `fragile` fails, and `hasty` takes too long.
    pub broken: HashSet<i64>,
}

pub const ID: &str = "sim";

/// The number of steps after which a run counts as endless.
const MOST_STEPS: u64 = 60_000;

impl World {
    pub fn new(image: Rc<Image>, seed: u64) -> World {
        World {
            random: Random::new(seed),
            driver: Driver::new(&image, 1_700_000_000_000_000_000),
            durable: MemoryTree::default(),
            image,
            args: Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data"),
            orderly: false,
            to_rest: false,
            meddling: false,
            suspended: Vec::new(),
            fine: false,
            flaky: false,
            resident: None,
            checkpoints: Checkpoints::default(),
            keep_operations: None,
            written: Vec::new(),
            crash: Crash::Never,
            bug: None,
            points: 0,
            crashes: 0,
            steps: 0,
            most_steps: MOST_STEPS,
            input: Vec::new(),
            recorded: BTreeMap::new(),
            durable_lines: BTreeMap::new(),
            out: BTreeMap::new(),
            trace: Vec::new(),
            outside: None,
            desks: Vec::new(),
            alone: 0,
            came: Vec::new(),
            answered: HashSet::new(),
            broken: HashSet::new(),
        }
    }

    /// Lets an operator start the instances, in place of the script.
    pub fn is_operated_by(&mut self, outside: Box<dyn Outside>) {
        self.outside = Some(outside);
    }

    /// Sets the `args` of the script, and its input.
    pub fn with(&mut self, args: &[String], input: &str) {
        let args = Value::list(args.iter().map(|arg| Value::str(arg.as_str())).collect());
        self.args = Data::encode(&Value::list(vec![args])).expect("data");
        self.input = input.lines().map(str::to_string).collect();
    }

    /// Returns the record of the script's instance.
    pub fn record(&self) -> Option<InstanceRecord> {
        read_record(&self.driver.store, ID).expect("memory can be read")
    }

    /// Whether the script's instance has ended.
    fn has_ended(&self) -> bool {
        self.record().is_some_and(|record| record.status.is_ended())
    }

    /// Returns all instances.
    pub fn records(&self) -> Vec<InstanceRecord> {
        promises::all_records(&self.driver.store)
    }

    /// Returns the states of all entities.
    pub fn entities(&self) -> BTreeMap<String, String> {
        promises::all_entities(&self.driver.store)
    }

    /// Returns the observable results of the run: the end and the printed lines of each instance,
    /// and the states of entities.
    pub fn observed(&self) -> BTreeMap<String, String> {
        let mut observed = self.entities();
        for record in self.records() {
            let outcome = match &record.status {
                Status::Completed(value) => format!("completed {}", format::display(&value.decode())),
                Status::Failed(error) => format!("failed {}", error.title()),
                Status::Terminated(why) => format!("terminated {}", format::display(&why.decode())),
                other => other.word().to_string(),
            };
            let history = read_history(&self.driver.store, &record).expect("a whole history");
            let printed =
                history.entries.iter().filter_map(|entry| match entry {
                    Entry::Requested {
                        what: RecordedRequest::Effect(name), args: Args::Whole(args), ..
                    } if name == "print" => Some(format::display(&args.decode())),
                    _ => None,
                });
            let printed: Vec<String> = printed.collect();
            observed.insert(record.id.clone(), format!("{outcome}; printed {}", printed.join(", ")));
        }
        observed
    }

    /// Runs until nothing can run any more, through crashes. An error says what went wrong.
    pub fn run(&mut self) -> Result<InstanceRecord, String> {
        self.run_to_the_end()?;
        self.record().ok_or_else(|| "there is no instance".into())
    }

    /// Runs as [`World::run`] does, in a world whose instances an operator began.
    pub fn run_to_the_end(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            match self.life()? {
                Life::Ended => return self.check_end(),
                Life::Crashed => {
                    self.crashes += 1;
                    if !self.orderly {
                        // A clock that is set goes back now and then. An operator sets the length
                        // of a downtime.
                        match self.random.one_in(4) {
                            true => self.driver.now -= self.random.below(3_600_000_000_000) as i64,
                            false if self.outside.is_some() => {}
                            false => self.driver.now += self.random.below(5_000_000_000) as i64,
                        }
                    }
                    // Writes that were not durable are lost.
                    self.driver.store = self.durable.clone();
                    self.came.clear();
                    self.recorded = self.durable_lines.clone();
                    self.say(|| "crash".into());
                }
            }
        }
        Err("it does not come to an end".into())
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() < 5_000 {
            let seconds = (self.driver.now - 1_700_000_000_000_000_000) as f64 / 1e9;
            self.trace.push(format!("{seconds:10.3}s {}", text()));
        }
    }

    /// Passes a crash point, and returns whether the world crashes there.
    fn crashes(&mut self) -> bool {
        self.points += 1;
        match self.crash {
            Crash::Never => false,
            Crash::At(point) => self.points == point,
            Crash::Twice(first, second) => self.points == first || self.points == second,
            Crash::OneIn(n) => self.random.one_in(n),
        }
    }

    /// Runs one life of the process, from its start to the end or a crash.
    fn life(&mut self) -> Result<Life, String> {
        self.desks = (0..self.driver.partitions()).map(|_| Desk::default()).collect();
        for partition in 0..self.driver.partitions() {
            self.driver.switch(partition);
            self.begin_process()?;
        }
        self.driver.switch(self.driver.partition_of(&Address::instance(ID)));
        let mut target_ended = self.has_ended();
        if let Some(mut outside) = self.outside.take() {
            outside.arrive(self)?;
            self.outside = Some(outside);
        } else if self.record().is_none() {
            self.begin_script();
        } else if !target_ended {
            self.driver.handle(Event::Wake { id: ID.into() });
        }
        let mut held: Vec<Output> = Vec::new();
        let mut under_way: Vec<UnderWay> = Vec::new();
        let mut idle = 0;
        loop {
            self.steps += 1;
            if self.steps > self.most_steps {
                return Err(format!("it takes more than {} steps", self.most_steps));
            }
            if !self.orderly {
                self.driver.now += self.random.below(1_000_000) as i64;
            }
            if self.driver.partitions() > 1 {
                self.move_on(&mut held, &mut under_way, idle > 0);
                self.take_arrivals()?;
            }
            if !self.orderly && self.random.one_in(2) {
                self.driver.engine.prefer(self.random.below(1_000) as usize);
            }
            self.driver.turn();
            for output in self.driver.outputs()? {
                if let Output::Gated(gated) = &output
                    && let Leaving::Ended { outcome, instance, .. } = gated.peek()
                {
                    match outcome {
                        Ending::Nondeterminism(mismatch) => {
                            return Err(format!("nondeterminism in {instance}: {mismatch:?}"));
                        }
                        Ending::Incompatible(reason) => return Err(reason.clone()),
                        _ => {}
                    }
                }
                held.push(output);
            }
            self.check_locks()?;
            if self.meddling && idle == 0 {
                self.meddle();
            }
            if self.outside.is_some() && self.random.one_in(3) {
                match self.outside_acts(false)? {
                    Acted::Nothing => {}
                    Acted::Something => idle = 0,
                    Acted::Restarted { in_order, after } => {
                        return Ok(self.restart(in_order, after));
                    }
                }
            }
            // Writes wait for a while, and become durable together.
            let due = self.orderly || self.random.one_in(2);
            if self.fine || !self.driver.engine.is_ready() || (due && !held.is_empty()) {
                let Writes { batch, unwritten } = self.driver.take_writes();
                let mut unwritten = Some(unwritten);
                if self.bug == Some(Bug::OutputBeforeCommit) {
                    // The writes are reported as durable too early.
                    unwritten.take().into_iter().for_each(|early| self.driver.is_written(early));
                    for output in std::mem::take(&mut held) {
                        self.release(output, &mut under_way, &mut target_ended)?;
                    }
                }
                if !batch.is_empty() || !held.is_empty() {
                    if self.crashes() {
                        if self.crashes_alone(&mut held, &mut under_way)? {
                            (idle, target_ended) = (0, self.has_ended());
                            continue;
                        }
                        return Ok(Life::Crashed);
                    }
                    if self.bug == Some(Bug::MessageBeforeCommit) {
                        let (first, second) = halves(&batch);
                        self.write(&first);
                        self.durable = self.driver.store.clone();
                        if self.crashes() {
                            return Ok(Life::Crashed);
                        }
                        self.write(&second);
                    } else {
                        self.write(&batch);
                    }
                    self.is_durable();
                    if self.crashes() {
                        if self.crashes_alone(&mut held, &mut under_way)? {
                            (idle, target_ended) = (0, self.has_ended());
                            continue;
                        }
                        return Ok(Life::Crashed);
                    }
                }
                unwritten.into_iter().for_each(|unwritten| self.driver.is_written(unwritten));
                let given_up: Vec<StepId> = held
                    .iter()
                    .filter_map(|output| match output {
                        Output::Abandon { step } => Some(step.clone()),
                        _ => None,
                    })
                    .collect();
                // A crash may come between a line and the next output. If crashes are frequent, it
                // may come after one of the outputs only. Otherwise many lines would never all be
                // out.
                let chosen = self.random.below(held.len() as u64);
                for (output, number) in std::mem::take(&mut held).into_iter().zip(0..) {
                    // An activity that is abandoned in the same batch does not begin.
                    if matches!(&output, Output::Activity { step, .. } if given_up.contains(step)) {
                        continue;
                    }
                    let may_crash = number == chosen || !matches!(self.crash, Crash::OneIn(_));
                    let is_line = may_crash
                        && matches!(&output, Output::Gated(gated) if matches!(gated.peek(), Leaving::Line { .. }));
                    self.release(output, &mut under_way, &mut target_ended)?;
                    if is_line && self.crashes() {
                        return Ok(Life::Crashed);
                    }
                }
            }
            // One of the effects under way is done, and sometimes twice.
            let done: Vec<usize> =
                (0..under_way.len()).filter(|at| under_way[*at].until <= self.driver.now).collect();
            if !done.is_empty() && (self.orderly || self.random.one_in(2)) {
                let at = if self.orderly { 0 } else { done[self.random.below(done.len() as u64) as usize] };
                let UnderWay { step, output, .. } = under_way[at].clone();
                let (result, sends) = self.carry_out(&step, &output)?;
                let is_wanted =
                    self.driver.engine.waits_for(&step.owner.to_string()).into_iter().flatten().any(|open| {
                        open.dispatched
                            && (open.request.seq, open.round, open.attempt)
                                == (step.seq, step.round, step.attempt)
                    });
                if self.crashes() {
                    if self.crashes_alone(&mut held, &mut under_way)? {
                        (idle, target_ended) = (0, self.has_ended());
                        continue;
                    }
                    return Ok(Life::Crashed);
                }
                if !self.orderly && self.random.one_in(8) {
                    let answer =
                        Event::Answer { step: step.clone(), result: result.clone(), sends: sends.clone() };
                    self.driver.handle(answer);
                } else {
                    under_way.remove(at);
                }
                if is_wanted && result.is_ok() {
                    self.came.push(step.clone());
                }
                self.driver.handle(Event::Answer { step, result, sends });
                idle = 0;
                continue;
            }
            let is_busy = self.driver.engine.is_ready() || !held.is_empty() || !done.is_empty();
            if is_busy || self.driver.has_transit() {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < 2 * self.driver.partitions() {
                continue;
            }
            match self.outside_acts(true)? {
                Acted::Nothing => {}
                Acted::Something => {
                    idle = 0;
                    continue;
                }
                Acted::Restarted { in_order, after } => {
                    return Ok(self.restart(in_order, after));
                }
            }
            target_ended |= self.outside.as_ref().is_some_and(|outside| outside.is_done());
            // A crash may have taken a client's message before it was durable, so suspended
            // instances are resumed.
            let held_up: Vec<String> = match self.meddling {
                true => {
                    self.records().into_iter().filter(|r| r.status.is_suspended()).map(|r| r.id).collect()
                }
                false => Vec::new(),
            };
            if !held_up.is_empty() {
                for id in held_up {
                    self.send(&id, Message::Resume);
                }
                idle = 0;
                continue;
            }
            let elsewhere = self.desks.iter().flat_map(|desk| &desk.under_way);
            let work = under_way.iter().chain(elsewhere).map(|under_way| under_way.until).min();
            let is_quiet = self.driver.engines().all(Engine::is_quiet);
            match self.driver.next_due().into_iter().chain(work).min() {
                // Signals for later than the end are not waited for.
                Some(due) if self.to_rest || !target_ended || !is_quiet => {
                    self.driver.now = self.driver.now.max(due);
                    // The process was busy elsewhere, so several timers are due together.
                    if !self.orderly && self.random.one_in(4) {
                        self.driver.now += self.random.below(3_000_000_000) as i64;
                    }
                }
                _ if target_ended => return Ok(Life::Ended),
                _ => {
                    let waits: Vec<String> = self.driver.engines().map(Engine::describe).collect();
                    return Err(format!("it waits for what nobody does\n{}", waits.join("\n")));
                }
            }
        }
    }

    /// Begins the process of the present partition.
    fn begin_process(&mut self) -> Result<(), String> {
        let mut engine = Engine::new();
        engine.checkpoints = self.checkpoints;
        engine.keep_operations = self.keep_operations;
        if let Some(resident) = self.resident {
            engine.resident = resident;
        }
        let forgets_releases = self.bug == Some(Bug::LockNotReleased);
        let hears = |event: &Event| !(forgets_releases && matches!(event, Event::Release { .. }));
        self.driver.restart(engine, hears)?;
        // The engine's time doesn't go back, even if the clock does.
        self.driver.now = self.driver.now.max(self.driver.engine.time());
        Ok(())
    }

    /// Begins the script's instance, which the present partition must have.
    fn begin_script(&mut self) {
        let (hash, args) = (self.image.code.hash, self.args.clone());
        let record = InstanceRecord::new(ID, hash, "sim.df", SCRIPT, args, self.driver.now);
        self.driver.handle(Event::Begin { record, image: self.image.clone() });
    }

    // ---- partitions

    /// Makes another partition the present one: any one, or the next in turn.
    fn move_on(&mut self, held: &mut Vec<Output>, under_way: &mut Vec<UnderWay>, in_turn: bool) {
        let (present, count) = (self.driver.present(), self.driver.partitions());
        let to = match in_turn || self.orderly {
            true => (present + 1) % count,
            false => self.random.below(count as u64) as usize,
        };
        let mut swap = |world: &mut World, at: usize| {
            let Desk { held: held_there, under_way: under_way_there, came } = &mut world.desks[at];
            std::mem::swap(held, held_there);
            std::mem::swap(under_way, under_way_there);
            std::mem::swap(&mut world.came, came);
        };
        swap(self, present);
        swap(self, to);
        self.driver.switch(to);
    }

    /// Lets the present partition take in what has come for it: a part of it, from each sender in
    /// order, and some once more.
    fn take_arrivals(&mut self) -> Result<(), String> {
        let arrivals = self.driver.arrivals();
        let mut senders: Vec<_> = arrivals.iter().map(|arrival| arrival.receipt.source).collect();
        senders.dedup();
        while !senders.is_empty() {
            let at = if self.orderly { 0 } else { self.random.below(senders.len() as u64) as usize };
            let sender = senders.swap_remove(at);
            let of = arrivals.iter().filter(|arrival| arrival.receipt.source == sender);
            for arrival in of {
                if !self.orderly && self.random.one_in(4) {
                    break;
                }
                self.say(|| format!("arrival {:?}", arrival.receipt));
                self.driver.arrive(arrival)?;
                if !self.orderly && self.random.one_in(4) {
                    self.driver.arrive(arrival)?;
                }
            }
        }
        Ok(())
    }

    /// Lets the present partition crash alone, every second time, if there are several. Returns
    /// whether it did.
    fn crashes_alone(
        &mut self,
        held: &mut Vec<Output>,
        under_way: &mut Vec<UnderWay>,
    ) -> Result<bool, String> {
        if self.driver.partitions() < 2 || self.random.one_in(2) {
            return Ok(false);
        }
        self.alone += 1;
        held.clear();
        under_way.clear();
        self.came.clear();
        self.say(|| "this partition crashes alone".into());
        self.begin_process()?;
        // What a client gave the partition is lost if it was not durable. The client gives it again.
        if let Some(mut outside) = self.outside.take() {
            outside.sees_crash(self);
            self.outside = Some(outside);
        } else if self.driver.has(ID) && self.record().is_none() {
            self.begin_script();
        }
        Ok(true)
    }

    fn outside_acts(&mut self, rests: bool) -> Result<Acted, String> {
        let Some(mut outside) = self.outside.take() else { return Ok(Acted::Nothing) };
        let acted = outside.act(self, rests);
        self.outside = Some(outside);
        acted
    }

    /// Returns the program.
    pub fn image(&self) -> Rc<Image> {
        self.image.clone()
    }

    /// Feeds an event from a client. It is durable when this returns, as the client is told.
    pub fn accept(&mut self, event: Event) {
        let (present, home) = (self.driver.present(), self.home_of(&event));
        let came = (home != present).then(|| std::mem::take(&mut self.came));
        self.driver.switch(home);
        self.driver.handle(event);
        self.settle();
        self.driver.switch(present);
        if let Some(came) = came {
            self.came = came;
        }
    }

    /// Feeds an event from a client to the partition that it is for. It may get lost.
    pub fn hand(&mut self, event: Event) {
        let (present, home) = (self.driver.present(), self.home_of(&event));
        self.driver.switch(home);
        self.driver.handle(event);
        self.driver.switch(present);
    }

    /// Returns the partition that an event from a client is for.
    fn home_of(&self, event: &Event) -> usize {
        let home = match event {
            Event::Begin { record, .. } => Some(Address::instance(&record.id)),
            Event::Call { call, .. } => Some(Address::entity(call.entity.clone())),
            Event::Send { to, .. } => Some(to.clone()),
            Event::Wake { id } => Some(Address::instance(id)),
            _ => None,
        };
        home.map_or(self.driver.present(), |home| self.driver.partition_of(&home))
    }

    /// Makes everything durable that the engine has done so far.
    pub fn settle(&mut self) {
        let Writes { batch, unwritten } = self.driver.take_writes();
        self.write(&batch);
        self.is_durable();
        self.driver.is_written(unwritten);
    }

    fn restart(&mut self, in_order: bool, after: i64) -> Life {
        if in_order {
            self.settle();
        }
        self.say(|| {
            format!("down for {} s, {}", after / 1_000_000_000, if in_order { "in order" } else { "killed" })
        });
        self.driver.now += after;
        Life::Crashed
    }

    /// Sends a client's message to an instance.
    fn send(&mut self, id: &str, message: Message) {
        self.say(|| format!("client: {} {id}", message.word()));
        let from = format!("client-{}", self.steps);
        self.driver.handle(Event::Send { to: Address::instance(id), from, message });
    }

    /// Suspends or resumes an instance now and then, as a client.
    fn meddle(&mut self) {
        match self.random.below(60) {
            0 => {
                let running: Vec<InstanceRecord> =
                    self.records().into_iter().filter(|record| !record.status.is_ended()).collect();
                if !running.is_empty() {
                    let at = self.random.below(running.len() as u64) as usize;
                    let id = running[at].id.clone();
                    self.suspended.push(id.clone());
                    self.send(&id, Message::Suspend);
                }
            }
            1 | 2 if !self.suspended.is_empty() => {
                let at = self.random.below(self.suspended.len() as u64) as usize;
                let id = self.suspended.swap_remove(at);
                self.send(&id, Message::Resume);
            }
            _ => {}
        }
    }

    /// Makes all writes durable. If nothing can run, all results that came have been consumed.
    fn is_durable(&mut self) {
        self.durable = self.driver.store.clone();
        self.durable_lines = self.recorded.clone();
        if !self.driver.engine.is_ready() {
            self.answered.extend(self.came.drain(..).map(|step| StepId { round: 0, attempt: 0, ..step }));
        }
    }

    /// Forgets the answered steps of an instance that is rewound, since it may ask them again.
    pub fn goes_back(&mut self, id: &str) {
        self.answered.retain(|step| step.owner != Address::instance(id));
    }

    fn write(&mut self, batch: &Batch) {
        for (key, value) in &batch.writes {
            if let (Some(id), Some(bytes)) = (key.strip_prefix(keys::CHECKPOINTS), value) {
                let id = String::from_utf8(id.to_vec()).expect("an id");
                self.written.push((id, Checkpoint::decode(bytes).expect("a checkpoint")));
            }
        }
        for (key, value) in &batch.writes {
            if let (true, Some(bytes)) = (key.starts_with(keys::LINES), value) {
                let run = StoredLines::decode(bytes).expect("lines");
                self.recorded.entry(run.instance).or_default().extend(run.lines);
            }
        }
        let mut kept = batch.clone();
        let mut seen = HashSet::new();
        assert!(batch.writes.iter().all(|(key, _)| seen.insert(key)), "a key is written twice in one batch");
        match self.bug {
            Some(Bug::DoubleDelivery) => {
                kept.writes.retain(|(key, value)| value.is_some() || !key.starts_with(keys::MAIL));
            }
            Some(Bug::LostMessage) => kept.writes.retain(|(key, _)| !key.starts_with(keys::MAIL)),
            Some(Bug::LockNotReleased) => {
                kept.writes.retain(|(key, value)| value.is_some() || !key.starts_with(keys::LOCKS));
            }
            Some(Bug::LostLines) => kept.writes.retain(|(key, _)| !key.starts_with(keys::LINES)),
            Some(Bug::LostWake) => kept.writes.retain(|(key, _)| !key.starts_with(keys::ACTIVE)),
            _ => {}
        }
        self.driver.write(&kept);
    }

    /// Releases an output, whose writes must be durable.
    fn release(
        &mut self,

        output: Output,
        under_way: &mut Vec<UnderWay>,
        target_ended: &mut bool,
    ) -> Result<(), String> {
        match &output {
            Output::Effect { step, effect, .. } => {
                self.say(|| format!("{} {effect} #{}", step.owner, step.seq));
                under_way.push(UnderWay { step: step.clone(), output, until: self.driver.now });
            }
            Output::Activity { step, name, .. } => {
                self.say(|| format!("{} activity {name} #{} attempt {}", step.owner, step.seq, step.attempt));
                self.check_lines(step, name)?;
                self.check_attempt(step, name)?;
                let until = match name == "hasty" && self.is_broken(&output) {
                    true => self.driver.now + 20_000_000_000,
                    false => self.driver.now + self.duration(),
                };
                under_way.push(UnderWay { step: step.clone(), output, until });
            }
            Output::Abandon { step } => {
                // An abandoned activity may still answer, too late.
                match self.orderly || !self.random.one_in(4) {
                    true => under_way.retain(|other| other.step != *step),
                    false => self.say(|| format!("{} #{} goes on, given up", step.owner, step.seq)),
                }
            }
            Output::Gated(gated) => {
                let leaving = self.driver.open(gated.clone())?;
                self.leave(&leaving, output, under_way, target_ended)?;
            }
            Output::Told { .. }
            | Output::Fetch { .. }
            | Output::FetchProgram { .. }
            | Output::Tree { .. }
            | Output::Status { .. } => {}
        }
        Ok(())
    }

    /// Lets something leave the process through the open gate, and checks in the store that the
    /// gate was right to open.
    fn leave(
        &mut self,

        leaving: &Leaving,
        output: Output,
        under_way: &mut Vec<UnderWay>,
        target_ended: &mut bool,
    ) -> Result<(), String> {
        match leaving {
            Leaving::Effect { step, effect, .. } => {
                self.say(|| format!("{} {effect} #{}", step.owner, step.seq));
                self.check_durable(step, effect.name())?;
                self.check_lines(step, effect.name())?;
                under_way.push(UnderWay { step: step.clone(), output, until: self.driver.now });
            }
            Leaving::Line { run, line } => {
                let (run, line) = (*run, line.clone());
                self.say(|| format!("line {line:?}"));
                self.check_line(run, &line)?;
                self.driver.handle(Event::LinesOut { run, count: 1 });
            }
            Leaving::Ended { instance, outcome, .. } => {
                self.say(|| format!("{instance} ended: {outcome:?}"));
                let record = read_record(&self.durable, instance)?;
                // An operator may have rewound or purged the instance since.
                if self.outside.is_none() && record.is_none_or(|record| !record.status.is_ended()) {
                    return Err(format!("{instance} ended, but its end is not durable"));
                }
                *target_ended |= **instance == *ID;
            }
            Leaving::Lost { what, error } => self.say(|| format!("{what} had no effect: {}", error.title())),
            Leaving::Answered { caller, result } => {
                self.say(|| format!("{caller} is answered: {result:?}"));
                let id = caller.strip_prefix("client ").ok_or("an answer for nobody")?;
                let known = read_call(&self.durable, id)?.and_then(|call| call.answer);
                if known.as_ref() != Some(result) {
                    return Err(format!("{id} is answered, but its answer is not durable"));
                }
            }
        }
        Ok(())
    }

    /// Whether an activity is broken for now.
    fn is_broken(&self, output: &Output) -> bool {
        let Output::Activity { args, .. } = output else { return false };
        matches!(args.items().first(), Some(Value::Int(stamp)) if self.broken.contains(stamp))
    }

    /// Returns the duration of an attempt at an activity: mostly almost zero, sometimes longer than
    /// the time limits of the programs.
    fn duration(&mut self) -> i64 {
        if self.orderly {
            return 0;
        }
        let most = [1, 1_000_000, 100_000_000, 5_000_000_000][self.random.below(4) as usize];
        self.random.below(most) as i64
    }

    /// Returns the result of an effect or an activity, and the activity's messages.
    fn carry_out(
        &mut self,
        step: &StepId,
        output: &Output,
    ) -> Result<(Result<Data, ErrorData>, Vec<Request>), String> {
        match output {
            Output::Effect { effect, args, .. } => Ok((self.effect(*effect, args, step.seq), Vec::new())),
            Output::Gated(gated) => match gated.peek() {
                Leaving::Effect { effect, args, .. } => {
                    Ok((self.effect(*effect, args, step.seq), Vec::new()))
                }
                other => Err(format!("{other:?} has no result")),
            },
            Output::Activity { program, name, .. } => {
                if self.flaky && self.random.one_in(4) {
                    return Ok((Err(ErrorData::new("unlucky", "this attempt failed")), Vec::new()));
                }
                if name == "fragile" && self.is_broken(output) {
                    return Ok((Err(ErrorData::new("broken", "it does not work yet")), Vec::new()));
                }
                let image = self.driver.image(program).ok_or("an activity of an unknown program")?;
                let mut answers =
                    |effect: Effect, args: &Data, seq: u64| self.effect(effect, args, step.seq * 1000 + seq);
                outside::activity(image, step, output, &mut answers)
            }
            other => Err(format!("{other:?} can't be carried out")),
        }
    }

    /// Answers an effect. If the world is orderly, the answer depends on the step alone.
    fn effect(&mut self, effect: Effect, args: &Data, number: u64) -> Result<Data, ErrorData> {
        let number = if self.orderly { Random::new(number).next() } else { self.random.next() };
        match effect {
            Effect::Input if self.input.is_empty() => Ok(Data::null()),
            Effect::Input => Ok(Data::of(&Value::str(self.input.remove(0)))),
            effect => outside::effect_of(effect, args, self.driver.now, number),
        }
    }
}

/// Splits a batch into its messages and its other writes.
fn halves(batch: &Batch) -> (Batch, Batch) {
    let (first, second): (Vec<_>, Vec<_>) =
        batch.writes.iter().cloned().partition(|(key, _)| key.starts_with(keys::MAIL));
    (Batch::from(first), Batch::from(second))
}
