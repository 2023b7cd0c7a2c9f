//! What is fuzzed: one module for each target, with a function that takes any bytes and panics where a property does not hold.
//!
//! The programs for libFuzzer are in `fuzz_targets`. The crate's own tests run the same functions on the corpus, so this
//! file is also a module of `tests/fuzz.rs`.

pub mod bytes;
pub mod check;
pub mod frames;
pub mod history;
pub mod import;
pub mod memory;
pub mod natives;
pub mod socket;
pub mod source;

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// The targets: their names and functions.
pub const TARGETS: [(&str, Target); 7] = [
    ("source", source::run),
    ("check", check::run),
    ("natives", natives::run),
    ("history", history::run),
    ("frames", frames::run),
    ("socket", socket::run),
    ("import", import::run),
];
