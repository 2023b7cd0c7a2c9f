//! Rules of this program's own, which no input can break. A broken rule is a fault of durable
//! itself: the process stops with exit code 70, before the fault becomes a value that looks right.

use std::fmt::Debug;

/// Returns the value of a result that can't be an error. `rule` says why.
pub fn sure<T, E: Debug>(result: Result<T, E>, rule: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => broken(rule, &format!("{error:?}")),
    }
}

/// Stops the process, because a rule is broken.
fn broken(rule: &str, found: &str) -> ! {
    panic!("a rule of durable itself is broken: {rule}; found: {found}")
}
