//! The account of work within natives and operators, beside the calls and repetitions of the
//! program.
//!
//! Work that takes long in one go counts as fuel, so that a slice full of such work ends as early
//! as any other. The account depends on the values alone, never on a clock.

use std::cell::Cell;

/// The approximate number of bytes or comparisons in a unit of fuel.
const UNIT: u64 = 16;
/// The largest amount of work that is part of the call and costs no fuel of its own.
const SMALL: usize = 1 << 10;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// Adds work: `count` bytes were read or written, or `count` parts were compared.
pub fn done(count: usize) {
    if count > SMALL {
        DONE.set(DONE.get().saturating_add(count as u64 / UNIT));
    }
}

/// Returns the fuel for the work since the last call of this function.
#[inline(always)]
pub fn take() -> u64 {
    match DONE.get() {
        0 => 0,
        done => {
            DONE.set(0);
            done
        }
    }
}
