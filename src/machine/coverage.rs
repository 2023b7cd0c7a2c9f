//! Which instructions were executed, on this thread: for who says what of a program was never seen to run.
//!
//! The run loop is compiled twice; the one that runs programs notes nothing.

use std::cell::RefCell;

use crate::code::{Function, FunctionId};

/// For each function, which of its instructions were executed.
#[derive(Clone, Debug, Default)]
pub struct Coverage(Vec<Vec<bool>>);

thread_local! {
    static EXECUTED: RefCell<Coverage> = RefCell::default();
}

#[inline(never)]
pub(super) fn note(functions: &[Function], function: &Function, pc: usize) {
    // Its place among them is its number.
    let distance = std::ptr::from_ref(function).addr() - functions.as_ptr().addr();
    let at = distance / size_of::<Function>();
    EXECUTED.with_borrow_mut(|executed| {
        if executed.0.len() <= at {
            executed.0.resize(functions.len(), Vec::new());
        }
        let ops = &mut executed.0[at];
        if ops.is_empty() {
            ops.resize(function.ops.len(), false);
        }
        if let Some(op) = ops.get_mut(pc) {
            *op = true;
        }
    });
}

/// What was executed since this was last asked.
pub fn take() -> Coverage {
    EXECUTED.take()
}

impl Coverage {
    /// Whether an instruction was executed.
    pub fn has(&self, function: FunctionId, pc: usize) -> bool {
        self.0.get(function as usize).and_then(|ops| ops.get(pc)).copied().unwrap_or(false)
    }

    /// What was executed here or there.
    pub fn add(&mut self, other: Coverage) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), Vec::new());
        }
        for (ops, more) in self.0.iter_mut().zip(other.0) {
            if ops.len() < more.len() {
                ops.resize(more.len(), false);
            }
            for (op, executed) in ops.iter_mut().zip(more) {
                *op |= executed;
            }
        }
    }
}
