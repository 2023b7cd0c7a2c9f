//! Import: lines of JSON into a store, all or nothing.

use std::io::BufRead;

use serde_json::Value as Json;

use crate::kv::Store;
use crate::store::DiskStore;

use super::chain::Chain;
use super::error::{ArchiveError, Refusal};
use super::incoming::Incoming;
use super::parse::read_line;
use super::verify::verify;

/// Reads the lines of an export, or of several exports one after another.
pub fn read(lines: impl BufRead) -> Result<Incoming, ArchiveError> {
    let mut incoming = Incoming::default();
    let mut chain = Chain::default();
    // The number of lines that must follow, if each line about a store has one.
    let (mut announced, mut found) = (Some(0), 0);
    for (number, line) in lines.lines().enumerate() {
        let line = line.map_err(ArchiveError::Input)?;
        if line.trim().is_empty() {
            continue;
        }
        let bad = |reason: String| Refusal { line: Some(number + 1), reason };
        let json: Json =
            serde_json::from_str(&line).map_err(|error| bad(format!("it is not JSON: {error}")))?;
        if json["redacted"].as_bool() == Some(true) {
            let reason = "the export was made with `--redact`, and has not all that the store had";
            return Err(bad(reason.into()).into());
        }
        if json["type"] == "store" {
            announced = announced.zip(json["lines"].as_u64()).map(|(before, lines)| before + lines);
        } else {
            found += 1;
        }
        let line = read_line(&json, &mut chain).ok_or_else(|| bad("it is not a line of an export".into()))?;
        if let Some((key, value)) = line {
            incoming.add(key, value, number + 1)?;
        }
    }
    match announced {
        Some(lines) if lines > 0 && lines != found => {
            let reason = format!("it has {found} lines after its first, and had {lines} when it was written");
            Err(Refusal { line: None, reason }.into())
        }
        _ => Ok(incoming),
    }
}

/// Writes the lines of an import into a store that has none of their instances, and verifies the
/// store.
pub fn import(incoming: &Incoming, store: &mut DiskStore) -> Result<(), ArchiveError> {
    let batch = incoming.batch(store)?;
    store.commit(&batch)?;
    store.flush()?;
    match verify(store)?.unreadable.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
