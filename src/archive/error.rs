//! Why an archive can't be written or read.

use std::fmt;
use std::io;

use crate::api::QueryError;
use crate::kv::StoreError;

/// Why an archive can't be written or read.
#[derive(Debug)]
pub enum ArchiveError {
    /// The store failed.
    Store(StoreError),
    /// A record or a history in the store can't be read.
    Query(QueryError),
    /// The lines can't be read.
    Input(io::Error),
    /// The lines can't be written.
    Output(io::Error),
    /// The lines are refused. Nothing was imported.
    Refused(Refusal),
}

/// Why lines are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The number of the line with the cause, if it is one line.
    pub line: Option<usize>,
    pub reason: String,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Store(error) => error.fmt(f),
            ArchiveError::Query(error) => error.fmt(f),
            ArchiveError::Input(error) => write!(f, "the lines can't be read: {}", crate::os::reason(error)),
            ArchiveError::Output(error) => {
                write!(f, "the lines can't be written: {}", crate::os::reason(error))
            }
            ArchiveError::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The message is that of the inner error, so the source is too.
            ArchiveError::Store(error) => error.source(),
            ArchiveError::Query(error) => error.source(),
            ArchiveError::Input(error) | ArchiveError::Output(error) => Some(error),
            ArchiveError::Refused(_) => None,
        }
    }
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> ArchiveError {
        ArchiveError::Store(error)
    }
}

impl From<QueryError> for ArchiveError {
    fn from(error: QueryError) -> ArchiveError {
        ArchiveError::Query(error)
    }
}

impl From<Refusal> for ArchiveError {
    fn from(refusal: Refusal) -> ArchiveError {
        ArchiveError::Refused(refusal)
    }
}
