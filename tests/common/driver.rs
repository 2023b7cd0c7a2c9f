//! An engine with a store in memory, driven as a host drives one: turns, look-ups, and commits that
//! let outputs leave. All simulated worlds of the tests use it.

use std::collections::HashMap;
use std::rc::Rc;

use durable::code::ProgramHash;
use durable::engine::{Engine, Event, Gate, Gated, Leaving, Output, Unwritten, Writes, look_up, recovery};
use durable::kv::{MemoryTree, Store};
use durable::machine::Image;

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
        }
    }

    /// Replaces the engine by a new one that recovers from the store, as a process does when it
    /// begins. The engine does not get events that `hears` refuses.
    pub fn restart(&mut self, engine: Engine, hears: impl Fn(&Event) -> bool) -> Result<(), String> {
        (self.engine, self.gate) = (engine, Gate::default());
        self.taken.clear();
        for event in recovery(&self.store, None)?.into_iter().filter(|event| hears(event)) {
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
                match look_up(&self.store, &mut self.images, &output)? {
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

    /// Makes all writes of the engine durable.
    pub fn commit(&mut self) -> Result<(), String> {
        let Writes { batch, unwritten } = self.take_writes();
        self.store.commit(&batch).map_err(|error| error.to_string())?;
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
