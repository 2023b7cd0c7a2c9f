//! The database's files, read without sled.
//!
//! sled repairs while it opens: it cuts its log at the first message that it can't read, and
//! removes the files of values that the log no longer names. So sled must not open a damaged store,
//! not even to look at it. This module reads the same files by itself and never writes. It has two
//! ways of reading. [`RawTree::open`] recovers just what sled would recover, and fails where sled
//! would lose something or break down. [`RawTree::salvage`] takes every message that fits its
//! checksum, wherever the message lies.
//!
//! Invariant: nothing here opens a file for writing.
use crate::kv::StoreError;

mod bytes;
mod layout;
mod messages;
mod page;
pub mod probe;
mod recover;
mod salvage;
mod search;
mod tree;

pub use tree::RawTree;

/// Returns the error for a part of the database's files that is damaged.
fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged { what: what.into() }
}
