//! What the test suites share.

#![allow(dead_code)]

pub mod program;
pub mod steps;

use std::path::PathBuf;

/// The built program.
pub const DURABLE: &str = env!("CARGO_BIN_EXE_durable");

/// A path within the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
