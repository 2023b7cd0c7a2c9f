//! Rules of this program's own that can't be broken by any input. One that is broken all the same is a fault of durable
//! itself: the process stops, with exit code 70, before the fault becomes a value that looks right.

use std::fmt::Debug;

/// Returns what must be there. `rule` says why it can't be otherwise.
pub fn sure<T, E: Debug>(result: Result<T, E>, rule: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => broken(rule, &format!("{error:?}")),
    }
}

/// Stops: a rule is broken.
fn broken(rule: &str, found: &str) -> ! {
    panic!("a rule of durable itself is broken: {rule}; found: {found}")
}
