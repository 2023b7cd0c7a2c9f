//! Output commit as a type: what must not leave the process before the writes that it depends on are durable.
//!
//! The engine numbers the writes that it gives out, and marks each such output with the number of the writes that are taken
//! next. A [`Gate`] opens an output only once it was shown a proof that these are durable. A proof comes from the
//! [`Unwritten`] of the writes alone, so that neither a host nor a simulation can let an output go by the order of two calls.

use crate::kv::Batch;

/// An output that waits for writes to be durable.
#[derive(Clone, Debug)]
pub struct Gated<T> {
    item: T,
    /// The number of the writes that it depends on; those before are included.
    after: u64,
}

impl<T> Gated<T> {
    pub(super) fn new(item: T, after: u64) -> Gated<T> {
        Gated { item, after }
    }

    /// The output in another form.
    pub fn map<R>(self, into: impl FnOnce(T) -> R) -> Gated<R> {
        Gated { item: into(self.item), after: self.after }
    }

    /// Shows the output to whoever may give it up; nothing of it may leave.
    pub fn peek(&self) -> &T {
        &self.item
    }
}

/// Writes of the engine, to be made together or not at all.
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

/// The obligation to make writes durable. Whoever has fulfilled it gets the proof for it.
#[derive(Debug)]
#[must_use = "what depends on writes waits until they are durable"]
pub struct Unwritten {
    first: u64,
    last: u64,
}

impl Unwritten {
    /// That of these writes and of those taken next, which are made in one batch.
    pub fn and(self, later: Unwritten) -> Unwritten {
        assert_eq!(self.last + 1, later.first, "the engine's writes are made in their order");
        Unwritten { first: self.first, last: later.last }
    }

    /// The writes are durable, or there was nothing to write and all before are. Called where a store has said so, and
    /// nowhere else.
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

/// Lets outputs out whose writes are durable.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The number of the last writes that are durable.
    durable: u64,
    /// The number of the last writes that are on their way.
    sent: u64,
}

impl Gate {
    /// Writes are on their way.
    pub fn send(&mut self, unwritten: &Unwritten) {
        self.sent = unwritten.last;
    }

    /// Whether an output depends on writes that are not even on their way.
    pub fn lacks_writes<T>(&self, output: &Gated<T>) -> bool {
        output.after > self.sent.max(self.durable)
    }

    /// More writes are durable.
    pub fn advance(&mut self, proof: Durable) {
        assert_eq!(self.durable + 1, proof.first, "writes become durable in their order");
        self.durable = proof.last;
    }

    /// Takes an output out; gives it back when it has to wait.
    pub fn open<T>(&self, output: Gated<T>) -> Result<T, Gated<T>> {
        if output.after <= self.durable { Ok(output.item) } else { Err(output) }
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
