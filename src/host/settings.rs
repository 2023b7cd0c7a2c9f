//! The settings of a host, and the errors that stop it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::engine::ReadError;
use crate::engine::{Quotas, Retention};
use crate::kv::StoreError;
use crate::permissions::Permissions;

use super::callbacks::Callbacks;
use super::externs::Externs;
use super::{Clock, Handle, Lease, Offers};

/// The moment at which writes are made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After each turn.
    Each,
    /// Before the output of anything that depends on the writes, and soon after them in any case.
    #[default]
    Output,
    /// At the end of the process. This is for tests, since a crash loses everything since the
    /// start.
    None,
}

/// The settings of a host.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub durability: Durability,
    /// Whether the process stays when there is nothing to do, for clients and timers.
    pub stays: bool,
    /// Whether standard error gets no messages about failed instances that nobody waits for.
    pub quiet: bool,
    /// Whether the process belongs to the host, so that memory of code that only the start needs is
    /// released.
    pub lean: bool,
    /// The part of histories before their checkpoints that is kept.
    pub retention: Retention,
    /// Whether the operations of entities are kept from now on; `None` leaves that to the store.
    pub keep_operations: Option<bool>,
    /// The limits of one root.
    pub quotas: Quotas,
    /// The permissions of programs. Instances that begin here keep them.
    pub permissions: Permissions,
    /// The functions that this process provides for `extern activity`.
    pub externs: Arc<Externs>,
    /// The clock that the time of the store follows.
    pub clock: Clock,
    /// The URLs at which the outside raises events.
    pub callbacks: Callbacks,
    /// The lease of the store, if other processes may take the store over.
    pub lease: Option<Lease>,
    /// Where activities are offered that wait for a thread, if other processes may run them.
    pub offers: Option<Offers>,
    /// Whoever passes commands of this process on to the partitions that they concern.
    pub router: Option<Handle>,
}

/// The reason why the host stopped before everything was done. The instances in the store can be
/// resumed.
#[derive(Debug)]
pub enum HostError {
    Store(StoreError),
    /// Something in the store cannot be used.
    Unreadable(ReadError),
    /// Standard output cannot be written.
    Output(io::Error),
    /// An `extern activity` of this name was called, which this process does not provide.
    NotProvided(String),
    /// The process was asked to stop.
    Interrupted,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::Store(error) => error.fmt(f),
            HostError::Unreadable(error) => error.fmt(f),
            HostError::Output(error) => {
                write!(f, "standard output can't be written: {}", crate::os::reason(error))
            }
            HostError::NotProvided(name) => {
                write!(f, "`{name}` is an `extern activity`, which this process does not provide")
            }
            HostError::Interrupted => f.write_str("it was asked to stop"),
        }
    }
}

impl Error for HostError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The message is that of the inner error, so the source is too.
            HostError::Store(error) => error.source(),
            HostError::Unreadable(error) => error.source(),
            HostError::Output(error) => Some(error),
            HostError::NotProvided(_) | HostError::Interrupted => None,
        }
    }
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
            error => HostError::Unreadable(error),
        }
    }
}
