//! An engine with a store in memory, driven as a host drives one: turns, look-ups, and commits that
//! let outputs leave. All simulated worlds of the tests use it.
//!
//! A store may have several partitions, each with an engine of its own. One of them is the present
//! one, to which everything applies.

use std::collections::HashMap;
use std::rc::Rc;

use durable::code::ProgramHash;
use durable::engine::{
    Address, Engine, Event, Gate, Gated, Incoming, Leaving, Output, Placement, Unwritten, Writes, look_up,
    recovery,
};
use durable::kv::{Arrival, Batch, MemoryTree, Partition};
use durable::machine::Image;

use super::partition::{self, View};

/// The engine of a partition, with what its driver knows of it.
#[derive(Default)]
struct Process {
    engine: Engine,
    gate: Gate,
    /// The outputs of the engine that were taken and not yet returned.
    taken: Vec<Output>,
}

pub struct Driver {
    pub engine: Engine,
    /// The store with everything that was written.
    pub store: MemoryTree,
    /// The time, in nanoseconds since 1970.
    pub now: i64,
    gate: Gate,
    images: HashMap<ProgramHash, Rc<Image>>,
    /// The outputs of the engine that were taken and not yet returned.
    taken: Vec<Output>,
    /// The place of the present partition; `None` if there is only one.
    placement: Option<Placement>,
    /// All partitions but the present one, whose place is empty.
    others: Vec<Process>,
}

impl Driver {
    pub fn new(image: &Rc<Image>, now: i64) -> Driver {
        Driver {
            engine: Engine::new(),
            store: MemoryTree::default(),
            now,
            gate: Gate::default(),
            images: HashMap::from([(image.code.hash, image.clone())]),
            taken: Vec::new(),
            placement: None,
            others: vec![Process::default()],
        }
    }

    // ---- partitions

    /// Divides the store into partitions. This comes before anything is written.
    pub fn divide(&mut self, count: u16) {
        self.placement = Some(Placement::even(0, count.into()).expect("partitions"));
        self.others = (0..count).map(|_| Process::default()).collect();
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> usize {
        self.others.len()
    }

    /// Returns the present partition.
    pub fn present(&self) -> usize {
        self.placement.as_ref().map_or(0, |placement| placement.own as usize)
    }

    /// Returns the partition of an instance or an entity.
    pub fn partition_of(&self, address: &Address) -> usize {
        self.placement.as_ref().map_or(0, |placement| placement.partition_of(address) as usize)
    }

    /// Whether an instance belongs to the present partition.
    pub fn has(&self, id: &str) -> bool {
        self.partition_of(&Address::instance(id)) == self.present()
    }

    /// Makes another partition the present one.
    pub fn switch(&mut self, to: usize) {
        let present = self.present();
        let Some(placement) = self.placement.as_mut().filter(|_| present != to) else { return };
        placement.own = to as Partition;
        self.swap(present);
        self.swap(to);
    }

    fn swap(&mut self, with: usize) {
        let Process { engine, gate, taken } = &mut self.others[with];
        std::mem::swap(&mut self.engine, engine);
        std::mem::swap(&mut self.gate, gate);
        std::mem::swap(&mut self.taken, taken);
    }

    /// Returns the engines of all partitions.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        let others = self.others.iter().enumerate().filter(|(at, _)| *at != self.present());
        std::iter::once(&self.engine).chain(others.map(|(_, process)| &process.engine))
    }

    /// Returns when the next timer of any partition is due.
    pub fn next_due(&self) -> Option<i64> {
        self.engines().filter_map(Engine::next_due).min()
    }

    /// Returns the key under which the store has a key of the present partition.
    pub fn key(&self, key: Vec<u8>) -> Vec<u8> {
        partition::key_of(self.placement.as_ref(), key)
    }

    /// Returns what was sent to the present partition and is not consumed.
    pub fn arrivals(&self) -> Vec<Arrival> {
        let Some(placement) = &self.placement else { return Vec::new() };
        partition::arrivals(&self.store, placement.own)
    }

    /// Whether anything is on its way between partitions.
    pub fn has_transit(&self) -> bool {
        partition::has_transit(&self.store)
    }

    /// Gives the engine an arrival.
    pub fn arrive(&mut self, arrival: &Arrival) -> Result<(), String> {
        let incoming = Incoming::read(arrival).map_err(|error| error.to_string())?;
        self.handle(Event::Arrive { incoming });
        Ok(())
    }

    // ---- the engine

    /// Replaces the engine by a new one that recovers from the store, as a process does when it
    /// begins. The engine does not get events that `hears` refuses.
    pub fn restart(&mut self, mut engine: Engine, hears: impl Fn(&Event) -> bool) -> Result<(), String> {
        engine.placement = self.placement.clone();
        (self.engine, self.gate) = (engine, Gate::default());
        self.taken.clear();
        let view = View { tree: &self.store, placement: self.placement.as_ref() };
        for event in recovery(&view, None)?.into_iter().filter(|event| hears(event)) {
            self.handle(event);
        }
        Ok(())
    }

    pub fn handle(&mut self, event: Event) {
        self.engine.handle(event, self.now);
    }

    /// Fires the timers that are due, and lets one instance or entity run.
    pub fn turn(&mut self) {
        self.handle(Event::Tick);
        if self.engine.is_ready() {
            self.handle(Event::Run);
        }
    }

    /// Returns the outputs since the last call. Look-ups are answered from the store and are not
    /// among them.
    pub fn outputs(&mut self) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        loop {
            let mut taken = std::mem::take(&mut self.taken);
            taken.extend(self.engine.take_outputs());
            if taken.is_empty() {
                return Ok(outputs);
            }
            for output in taken {
                let view = View { tree: &self.store, placement: self.placement.as_ref() };
                match look_up(&view, &mut self.images, &output)? {
                    Some(event) => self.handle(event),
                    None => outputs.push(output),
                }
            }
        }
    }

    /// Takes the engine's writes. Earlier outputs are kept for [`Driver::outputs`].
    pub fn take_writes(&mut self) -> Writes {
        self.taken.extend(self.engine.take_outputs());
        self.engine.take_writes()
    }

    /// Notes that writes are durable, so that the outputs that depend on them may leave.
    pub fn is_written(&mut self, unwritten: Unwritten) {
        self.gate.advance(unwritten.written());
    }

    /// Writes a batch of the present partition, and moves what it sends.
    pub fn write(&mut self, batch: &Batch) {
        partition::commit(&mut self.store, self.placement.as_ref(), batch);
    }

    /// Makes all writes of the engine durable.
    pub fn commit(&mut self) -> Result<(), String> {
        let Writes { batch, unwritten } = self.take_writes();
        self.write(&batch);
        self.is_written(unwritten);
        Ok(())
    }

    /// Opens an output. An error says that the output waits for writes.
    pub fn open(&self, gated: Gated<Leaving>) -> Result<Leaving, String> {
        self.gate
            .open(gated)
            .map_err(|early| format!("{:?} leaves before its writes are durable", early.peek()))
    }

    /// Adds a program.
    pub fn add(&mut self, image: &Rc<Image>) {
        self.images.insert(image.code.hash, image.clone());
    }

    /// Returns a program by its hash.
    pub fn image(&self, hash: &ProgramHash) -> Option<Rc<Image>> {
        self.images.get(hash).cloned()
    }
}
