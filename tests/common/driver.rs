//! An engine with a store in memory, driven as a host drives one: turns, look-ups, and commits that
//! let outputs leave. Every world of the tests stands on this.

use std::collections::HashMap;
use std::rc::Rc;

use durable::code::ProgramHash;
use durable::engine::{Engine, Event, Gate, Gated, Leaving, Output, Unwritten, Writes, look_up, recovery};
use durable::kv::{MemoryTree, Store};
use durable::machine::Image;

pub struct Driver {
    pub engine: Engine,
    /// Everything that was written.
    pub store: MemoryTree,
    /// The time, in nanoseconds since 1970.
    pub now: i64,
    gate: Gate,
    images: HashMap<ProgramHash, Rc<Image>>,
    /// Outputs of the engine that nobody has looked at.
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

    /// Puts an engine in the place of the current one, and lets it recover from the store. A process
    /// does so when it begins. The engine does not hear of events that `hears` refuses.
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

    /// Returns what the engine wants written. Outputs of before are kept.
    pub fn take_writes(&mut self) -> Writes {
        self.taken.extend(self.engine.take_outputs());
        self.engine.take_writes()
    }

    /// The writes are durable: outputs that depend on them may leave.
    pub fn is_written(&mut self, unwritten: Unwritten) {
        self.gate.advance(unwritten.written());
    }

    /// Makes everything durable that the engine wants written.
    pub fn commit(&mut self) -> Result<(), String> {
        let Writes { batch, unwritten } = self.take_writes();
        self.store.commit(&batch).map_err(|error| error.to_string())?;
        self.is_written(unwritten);
        Ok(())
    }

    /// Takes an output out, or says that it waits for writes.
    pub fn open(&self, gated: Gated<Leaving>) -> Result<Leaving, String> {
        self.gate
            .open(gated)
            .map_err(|early| format!("{:?} leaves before its writes are durable", early.peek()))
    }

    /// Returns a program by its hash.
    pub fn image(&self, hash: &ProgramHash) -> Option<Rc<Image>> {
        self.images.get(hash).cloned()
    }
}
