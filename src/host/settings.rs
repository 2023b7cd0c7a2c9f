//! How a host works, and why one stops.

use std::io;
use std::sync::Arc;

use crate::engine::ReadError;
use crate::engine::{Quotas, Retention};
use crate::kv::StoreError;
use crate::permissions::Permissions;

use super::Clock;
use super::externs::Externs;

/// When writes are made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After each turn.
    Each,
    /// Before anything leaves the process that depends on them, and soon after in any case.
    #[default]
    Output,
    /// When the process ends. For tests: a crash loses what was done since the beginning.
    None,
}

/// How a host works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub durability: Durability,
    /// It stays when there is nothing to do, for clients and timers.
    pub stays: bool,
    /// Instances that fail without anybody who waits for them are not told on standard error.
    pub quiet: bool,
    /// The process is the host's own: the code that it starts with is let go of.
    pub lean: bool,
    /// What is kept of histories before their checkpoints.
    pub retention: Retention,
    /// What one root may have.
    pub quotas: Quotas,
    /// What programs may do outside. Instances that begin here keep it.
    pub permissions: Permissions,
    /// What this process provides for `extern activity`.
    pub externs: Arc<Externs>,
    /// The clock that the time of the store follows.
    pub clock: Clock,
}

/// Why the host stopped before all was done. What is in the store can be resumed.
#[derive(Debug)]
pub enum HostError {
    Store(StoreError),
    /// Something in the store can't be used, for this reason.
    Unreadable(String),
    /// Standard output can't be written.
    Output(io::Error),
    /// An `extern activity` of this name was called, which this process does not provide.
    NotProvided(String),
    /// Somebody asked the process to stop.
    Interrupted,
}

impl From<StoreError> for HostError {
    fn from(error: StoreError) -> HostError {
        HostError::Store(error)
    }
}

impl From<ReadError> for HostError {
    fn from(error: ReadError) -> HostError {
        match error {
            ReadError::Store(error) => HostError::Store(error),
            ReadError::Unreadable(reason) => HostError::Unreadable(reason),
        }
    }
}
