//! The errors of reading from a store.

use std::fmt;

use crate::kv::StoreError;

/// A failure of the store, or contents that this version does not understand.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadError {
    Store(StoreError),
    /// A record that can't be decoded or is missing, or a program that can't be run, in words.
    Unreadable(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Store(error) => error.fmt(f),
            ReadError::Unreadable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The message is that of the store's error, so the source is too.
            ReadError::Store(error) => error.source(),
            ReadError::Unreadable(_) => None,
        }
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Store(error)
    }
}

impl From<String> for ReadError {
    fn from(reason: String) -> ReadError {
        ReadError::Unreadable(reason)
    }
}

impl From<&str> for ReadError {
    fn from(reason: &str) -> ReadError {
        ReadError::Unreadable(reason.to_string())
    }
}

/// The reason in words, for callers that report errors as text.
impl From<ReadError> for String {
    fn from(error: ReadError) -> String {
        error.to_string()
    }
}
