//! Coverage: the instructions that this thread has executed. Tools use it to report code that never
//! ran.
//!
//! The run loop is compiled twice. The variant of [`super::Machine::run`] records nothing.

use std::cell::RefCell;

use crate::code::{Function, FunctionId};

/// For each function, the instructions that were executed.
#[derive(Clone, Debug, Default)]
pub struct Coverage(Vec<Vec<bool>>);

thread_local! {
    static EXECUTED: RefCell<Coverage> = RefCell::default();
}

#[inline(never)]
pub(super) fn note(functions: &[Function], function: &Function, pc: usize) {
    // The index of the function is its distance from the first one.
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

/// Returns the coverage since the last call of this function.
pub fn take() -> Coverage {
    EXECUTED.take()
}

impl Coverage {
    /// Returns whether an instruction was executed.
    pub fn has(&self, function: FunctionId, pc: usize) -> bool {
        self.0.get(function as usize).and_then(|ops| ops.get(pc)).copied().unwrap_or(false)
    }

    /// Adds the coverage of another run.
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
