//! The fuzz targets: a module for each, with a function that takes any bytes and panics if a
//! property does not hold.
//!
//! The programs for libFuzzer are in `fuzz_targets`. The crate's own tests run the same functions
//! on the corpus, so this file is also a module of `tests/fuzz.rs`.

pub mod bytes;
pub mod check;
pub mod frames;
pub mod history;
pub mod import;
pub mod memory;
pub mod natives;
pub mod socket;
pub mod source;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// The targets with their names.
pub const TARGETS: [(&str, Target); 7] = [
    ("source", source::run),
    ("check", check::run),
    ("natives", natives::run),
    ("history", history::run),
    ("frames", frames::run),
    ("socket", socket::run),
    ("import", import::run),
];
