//! The account of the work that a native or an operator has done, beside the calls and repetitions of the program.
//!
//! What takes long in one go counts as fuel, so that a slice that is full of such work ends as soon as another would. The
//! account depends on the values alone, and never on a clock.

use std::cell::Cell;

/// Bytes or comparisons that are one unit of fuel, about.
const UNIT: u64 = 16;
/// What is smaller is part of the call.
const SMALL: usize = 1 << 10;

thread_local! {
    static DONE: Cell<u64> = const { Cell::new(0) };
}

/// So many bytes were gone through, or so many parts compared.
pub fn done(count: usize) {
    if count > SMALL {
        DONE.set(DONE.get().saturating_add(count as u64 / UNIT));
    }
}

/// The fuel that was used in this way since this was last asked.
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
