//! Export: a store as lines of JSON.
//!
//! The first line is about the store, each further line about one key. Values of the language have
//! the lossless form of `machine::json`: what JSON lacks is an object with one key that begins with
//! `$`. Times are RFC 3339 with nanoseconds.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::json;

use crate::engine::{Checkpoint, Chunk, KeptOperation, keys};
use crate::kv::{Read, StoreError};
use crate::store::FORMAT;

use super::chain::Chain;
use super::error::ArchiveError;
use super::line::{line, text};
use super::redact::Redaction;

/// The options of an export.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exporting {
    /// The number of commits of the store's database, for the first line.
    pub commits: u64,
    /// Whether secrets are left out. Such an export is for human readers, and can't be imported.
    pub redacts: bool,
    /// Whether the store is damaged. Then a chunk is saved also when it does not fit the chunk
    /// before.
    pub salvages: bool,
}

/// The outcome of an export.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exported {
    /// The number of lines after the first.
    pub lines: u64,
    /// The descriptions of unreadable entries, which were left out.
    pub left_out: Vec<String>,
    /// The instances whose histories have gaps.
    pub gaps: BTreeSet<String>,
}

/// Writes a store as lines of JSON.
pub fn export(store: &dyn Read, how: Exporting, out: &mut impl Write) -> Result<Exported, ArchiveError> {
    let Exporting { commits, redacts, salvages } = how;
    let mut head = json!({"type": "store", "format": FORMAT, "commits": commits});
    let redaction = match redacts {
        true => {
            head["redacted"] = json!(true);
            Some(secrets(store)?)
        }
        false => None,
    };
    if !salvages {
        let mut lines = 0u64;
        store.scan(b"", &mut |key, _| {
            lines += u64::from(is_exported(key));
            true
        })?;
        head["lines"] = json!(lines);
    }
    writeln!(out, "{head}").map_err(ArchiveError::Output)?;
    let mut chain = if salvages { Chain::salvaging() } else { Chain::default() };
    let (mut exported, mut written) = (Exported::default(), Ok(()));
    store.scan(b"", &mut |key, bytes| {
        if !is_exported(key) {
            return true;
        }
        match line(key, bytes, &mut chain, redaction.as_ref()) {
            Ok(mut line) => {
                if let Some(redaction) = &redaction {
                    redaction.line(&mut line);
                }
                exported.lines += 1;
                written = writeln!(out, "{line}");
            }
            Err(reason) => exported.left_out.push(reason),
        }
        written.is_ok()
    })?;
    written.and_then(|()| out.flush()).map_err(ArchiveError::Output)?;
    exported.gaps = chain.gaps;
    Ok(exported)
}

/// Whether a key has a line. An import writes canonical keys, and gives answers new places.
fn is_exported(key: &[u8]) -> bool {
    key != keys::CANONICAL && key != keys::DEPLOYMENTS && !key.starts_with(keys::ANSWERS)
}

/// Gathers the secrets in the histories of a store.
fn secrets(store: &dyn Read) -> Result<Redaction, StoreError> {
    let (mut redaction, mut chain) = (Redaction::default(), Chain::default());
    store.scan(b"", &mut |key, bytes| {
        if let Some(id) = key.strip_prefix(keys::CHECKPOINTS)
            && let Some(checkpoint) = Checkpoint::decode(bytes)
        {
            chain.begin(&text(id), &checkpoint);
            redaction.note(&text(id), &checkpoint.open_entries());
        } else if keys::parse_operation(key).is_some()
            && let Some(operation) = KeptOperation::decode(bytes)
        {
            redaction.note(&hex::encode(key), &operation.entries);
        } else if let Some((id, number)) = keys::parse_chunk(key) {
            let before = chain.of(id, number);
            // A chunk that is not readable is not exported either.
            if let Ok(chunk) = Chunk::decode(bytes, *before) {
                *before = chunk.checksum;
                redaction.note(id, &chunk.entries);
            }
        }
        true
    })?;
    Ok(redaction)
}
