//! A world for the engine: a clock that jumps, effects whose answers come in any order, and crashes, all from one seed.

use std::collections::BTreeMap;
use std::rc::Rc;

use durable::engine::{Batch, Engine, Event, History, InstanceRecord, Outcome, Output, Status, StepId, keys};
use durable::machine::{Data, ErrorData, Image, Value};
use durable::store::{MemoryTree, Proven, Store};

use super::Random;
use super::steps;

/// What is durable, what is not yet, and what the outside has seen.
pub struct World {
    pub random: Random,
    pub now: i64,
    image: Rc<Image>,
    store: Proven<MemoryTree>,
    durable: MemoryTree,
    /// Lines printed: each was durable as a request before.
    pub printed: Vec<String>,
    pub crashes: u32,
    /// Crashes happen once in so many steps; never when 0.
    pub crash_one_in: u64,
    /// A bug, put in to see that it is found: outputs leave before the writes are durable.
    pub leak_outputs: bool,
    pub trace: Vec<String>,
}

pub const ID: &str = "sim";

impl World {
    pub fn new(image: Rc<Image>, seed: u64, crash_one_in: u64) -> World {
        World {
            random: Random::new(seed),
            now: 1_700_000_000_000_000_000,
            image,
            store: Proven::open(MemoryTree::default(), None, None).expect("an empty store"),
            durable: MemoryTree::default(),
            printed: Vec::new(),
            crashes: 0,
            crash_one_in,
            leak_outputs: false,
            trace: Vec::new(),
        }
    }

    fn record(&self) -> Option<InstanceRecord> {
        let bytes = self.store.get(&keys::instance(ID)).expect("memory can be read")?;
        InstanceRecord::decode(&bytes)
    }

    pub fn history(&self) -> History {
        let record = self.record().expect("an instance");
        steps::history(&self.store, &record).expect("a whole history")
    }

    fn begin(&self, engine: &mut Engine) {
        match self.record() {
            Some(record) => {
                let history = steps::history(&self.store, &record).expect("a whole history");
                engine.handle(Event::Load { record, history, image: self.image.clone() }, self.now);
            }
            None => {
                let record = InstanceRecord {
                    id: ID.into(),
                    program: self.image.code.hash,
                    file: "sim.df".into(),
                    function: "script".into(),
                    args: Data::encode(&Value::list(vec![Value::list(Vec::new())])).expect("data"),
                    created: self.now,
                    status: Status::Running,
                    ended: None,
                    chunks: 0,
                };
                engine.handle(Event::Begin { record, image: self.image.clone() }, self.now);
            }
        }
    }

    /// Runs the instance to its end, through crashes. An error says what went wrong.
    pub fn run(&mut self) -> Result<InstanceRecord, String> {
        for _ in 0..10_000 {
            match self.life()? {
                Some(record) => return Ok(record),
                None => {
                    self.crashes += 1;
                    self.now += self.random.below(5_000_000_000) as i64;
                    // What was not durable is gone.
                    self.store =
                        Proven::open(self.durable.clone(), None, None).map_err(|error| error.to_string())?;
                    self.trace.push("crash".into());
                }
            }
        }
        Err("it does not come to an end".into())
    }

    /// From a start to the end, or to a crash.
    fn life(&mut self) -> Result<Option<InstanceRecord>, String> {
        let mut engine = Engine::new();
        self.begin(&mut engine);
        let mut held: Vec<Output> = Vec::new();
        let mut under_way: Vec<(StepId, Output)> = Vec::new();
        loop {
            self.now += self.random.below(1_000_000) as i64;
            if self.crash_one_in > 0 && self.random.one_in(self.crash_one_in) {
                return Ok(None);
            }
            engine.handle(Event::Tick, self.now);
            if engine.is_ready() {
                engine.handle(Event::Run, self.now);
            }
            let outputs = engine.take_outputs();
            if self.leak_outputs {
                for output in outputs {
                    if let Some(record) = self.release(output, &mut under_way)? {
                        return Ok(Some(record));
                    }
                }
            } else {
                held.extend(outputs);
            }
            // Writes wait for a while, and are then durable together.
            if self.random.one_in(2) || !engine.is_ready() {
                let batch = engine.take_writes();
                self.commit(&batch)?;
                if self.crash_one_in > 0 && self.random.one_in(self.crash_one_in) {
                    return Ok(None);
                }
                for output in std::mem::take(&mut held) {
                    if let Some(record) = self.release(output, &mut under_way)? {
                        return Ok(Some(record));
                    }
                }
            }
            // One of the effects under way is done; sometimes it is done twice.
            if !under_way.is_empty() && self.random.one_in(2) {
                let at = self.random.below(under_way.len() as u64) as usize;
                let (step, output) = &under_way[at];
                let (step, answer) = (step.clone(), self.answer(output));
                if self.random.one_in(8) {
                    engine.handle(Event::Answer { step: step.clone(), result: answer.clone() }, self.now);
                } else {
                    under_way.remove(at);
                }
                engine.handle(Event::Answer { step, result: answer }, self.now);
            } else if !engine.is_ready() {
                match engine.next_due() {
                    Some(due) if under_way.is_empty() || self.random.one_in(2) => {
                        self.now = self.now.max(due)
                    }
                    Some(_) => {}
                    None if under_way.is_empty() && engine.is_idle() => {
                        return Err("nothing is under way, and it has not ended".into());
                    }
                    None if under_way.is_empty() => {
                        return Err(format!("it waits for what nobody does: {:?}", engine.waits_for(ID)));
                    }
                    None => {}
                }
            }
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), String> {
        if batch.is_empty() {
            return Ok(());
        }
        self.store.commit(batch).map_err(|error| error.to_string())?;
        self.durable = self.store.inner().clone();
        Ok(())
    }

    /// An output leaves. The instance's record when it has ended.
    fn release(
        &mut self,
        output: Output,
        under_way: &mut Vec<(StepId, Output)>,
    ) -> Result<Option<InstanceRecord>, String> {
        match &output {
            Output::Effect { step, name, args, .. } => {
                self.trace.push(format!("{name} #{}", step.seq));
                if *name == "print" {
                    let line = durable::machine::format::display(&args.decode());
                    self.printed.push(format!("{} {line}", step.seq));
                }
                under_way.push((step.clone(), output));
            }
            Output::Activity { step, name, .. } => {
                self.trace.push(format!("{name} #{} attempt {}", step.seq, step.attempt));
                under_way.push((step.clone(), output));
            }
            Output::Abandon { step } => under_way.retain(|(other, _)| other != step),
            Output::Ended { outcome: Outcome::Stuck(mismatch), .. } => {
                return Err(format!("nondeterminism: {mismatch:?}"));
            }
            Output::Ended { .. } => {
                let record = self.record().ok_or("it ended, but its record is not durable")?;
                if record.status == Status::Running {
                    return Err("it ended, but its end is not durable".into());
                }
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn answer(&mut self, output: &Output) -> Result<Data, ErrorData> {
        let value = match output {
            Output::Effect { name: "now", .. } => Value::Instant(self.now),
            Output::Effect { name: "random", .. } => Value::Float(self.random.below(1000) as f64 / 1000.0),
            Output::Effect { name: "random_int", .. } | Output::Activity { .. } => {
                if self.random.one_in(4) {
                    return Err(ErrorData::new("unlucky", "this attempt failed"));
                }
                Value::Int(self.random.below(100) as i64)
            }
            Output::Effect { name: "fs_exists", .. } => Value::Bool(self.random.one_in(2)),
            _ => Value::Null,
        };
        Ok(Data::encode(&value).expect("data"))
    }
}

/// What is wrong with what the outside saw, if anything: each line that was printed must be one that the journal has.
pub fn unjournaled(world: &World) -> Option<String> {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for entry in world.history().entries {
        if let durable::engine::Entry::Requested {
            seq, what, args: durable::engine::Args::Whole(args), ..
        } = entry
            && what.name() == "print"
        {
            known.insert(format!("{seq} {}", durable::machine::format::display(&args.decode())), 1);
        }
    }
    world.printed.iter().find(|line| !known.contains_key(*line)).cloned()
}
