//! Output commit as a type: outputs must not leave the process before the writes that they depend
//! on are durable.
//!
//! The engine numbers its writes, and marks each gated output with the number of the writes that
//! are taken next. A [`Gate`] opens an output only after it has seen a proof that these writes are
//! durable. Only the [`Unwritten`] of the writes gives such a proof. So neither a host nor a
//! simulation can let an output go by calling in the wrong order.

use crate::kv::Batch;

/// An output that waits for writes to be durable.
#[derive(Clone, Debug)]
pub struct Gated<T> {
    item: T,
    /// The number of the writes that the output depends on, which include all earlier ones.
    after: u64,
}

impl<T> Gated<T> {
    pub(super) fn new(item: T, after: u64) -> Gated<T> {
        Gated { item, after }
    }

    /// Converts the output.
    pub fn map<R>(self, into: impl FnOnce(T) -> R) -> Gated<R> {
        Gated { item: into(self.item), after: self.after }
    }

    /// Shows the output to code that may give it up. Nothing of it may leave the process.
    pub fn peek(&self) -> &T {
        &self.item
    }
}

/// Writes of the engine, which take effect together or not at all.
#[must_use = "an engine's writes are made"]
pub struct Writes {
    pub batch: Batch,
    pub unwritten: Unwritten,
}

impl Writes {
    pub(super) fn new(batch: Batch, number: u64) -> Writes {
        Writes { batch, unwritten: Unwritten { first: number, last: number } }
    }
}

/// The obligation to make writes durable. Its fulfilment gives the proof.
#[derive(Debug)]
#[must_use = "what depends on writes waits until they are durable"]
pub struct Unwritten {
    first: u64,
    last: u64,
}

impl Unwritten {
    /// Joins the obligation for the next writes, which are made in the same batch.
    pub fn and(self, later: Unwritten) -> Unwritten {
        assert_eq!(self.last + 1, later.first, "the engine's writes are made in their order");
        Unwritten { first: self.first, last: later.last }
    }

    /// Returns the proof that the writes are durable, or that there was nothing to write and all
    /// earlier writes are durable. Call this only where a store has said so.
    pub fn written(self) -> Durable {
        Durable { first: self.first, last: self.last }
    }
}

/// The proof that writes are durable.
#[derive(Debug)]
#[must_use = "a gate opens by it"]
pub struct Durable {
    first: u64,
    last: u64,
}

/// A gate, which opens outputs whose writes are durable.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The number of the last durable writes.
    durable: u64,
    /// The number of the last writes in flight.
    sent: u64,
}

impl Gate {
    /// Notes that writes are in flight.
    pub fn send(&mut self, unwritten: &Unwritten) {
        self.sent = unwritten.last;
    }

    /// Whether an output depends on writes that are not even in flight.
    pub fn lacks_writes<T>(&self, output: &Gated<T>) -> bool {
        output.after > self.sent.max(self.durable)
    }

    /// Notes that more writes are durable.
    pub fn advance(&mut self, proof: Durable) {
        assert_eq!(self.durable + 1, proof.first, "writes become durable in their order");
        self.durable = proof.last;
    }

    /// Whether the gate is open for an output.
    pub fn is_open<T>(&self, output: &Gated<T>) -> bool {
        output.after <= self.durable
    }

    /// Returns the output, or gives it back if it must wait.
    pub fn open<T>(&self, output: Gated<T>) -> Result<T, Gated<T>> {
        if self.is_open(&output) { Ok(output.item) } else { Err(output) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_waits_for_its_writes() {
        let mut gate = Gate::default();
        let writes = |number| Writes::new(Batch::default(), number).unwritten;
        let (first, second) = (Gated::new("first", 1), Gated::new("second", 2));
        let first = gate.open(first).expect_err("nothing is durable");
        gate.advance(writes(1).written());
        assert!(gate.open(first).is_ok());
        let second = gate.open(second).expect_err("its writes are not durable");
        gate.advance(writes(2).and(writes(3)).written());
        assert!(gate.open(second).is_ok());
    }

    #[test]
    #[should_panic(expected = "in their order")]
    fn writes_can_not_be_left_out() {
        let writes = |number| Writes::new(Batch::default(), number).unwritten;
        let mut gate = Gate::default();
        gate.advance(writes(1).written());
        gate.advance(writes(3).written());
    }
}
