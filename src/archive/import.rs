//! Import: lines of JSON into a store, all or nothing.

use std::io::{self, BufRead, ErrorKind};

use serde_json::Value as Json;

use crate::kv::{MemoryTree, Store};
use crate::store::DiskStore;
use crate::store::postgres::Cluster;

use super::chain::Chain;
use super::error::{ArchiveError, Refusal};
use super::incoming::Incoming;
use super::parse::read_line;
use super::places;
use super::verify::{verify, verify_cluster};

/// The number of bytes that a line may have. No value of a store makes a longer one.
const MOST_BYTES: usize = 4 << 30;

/// Reads the lines of an export, or of several exports one after another.
pub fn read(mut lines: impl BufRead) -> Result<Incoming, ArchiveError> {
    let mut incoming = Incoming::default();
    let mut chain = Chain::default();
    // The number of lines that must follow, if each line about a store has one.
    let (mut announced, mut found) = (Some(0), 0);
    for number in 0.. {
        let Some(line) = next_line(&mut lines, MOST_BYTES).map_err(ArchiveError::Input)? else { break };
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

/// Writes the lines of an import into an empty cluster, and verifies the cluster.
pub fn import_into_cluster(incoming: &Incoming, cluster: &Cluster) -> Result<(), ArchiveError> {
    let pairs = places::pairs(incoming.batch(&MemoryTree::default())?);
    cluster.import(&pairs, &|key, value| places::home(cluster, &pairs, key, value))?;
    match verify_cluster(cluster)?.unreadable.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Reads a line, or returns `None` at the end. A line that is longer than `most` or than the memory
/// is an error.
fn next_line(lines: &mut impl BufRead, most: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut is_over = false;
    while !is_over {
        let found = match lines.fill_buf() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr::memchr(b'\n', found);
        let part = end.map_or(found, |end| &found[..end]);
        is_over = end.is_some() || found.is_empty();
        if is_over && end.is_none() && line.is_empty() {
            return Ok(None);
        }
        if line.len() + part.len() > most {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a line has more than {most} bytes")));
        }
        line.try_reserve(part.len())?;
        line.extend_from_slice(part);
        let taken = part.len() + usize::from(end.is_some());
        lines.consume(taken);
    }
    let text = String::from_utf8(line);
    text.map(Some).map_err(|_| io::Error::new(ErrorKind::InvalidData, "a line is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read as _};

    use super::*;

    #[test]
    fn lines_are_read_up_to_a_length() {
        let text: &[u8] = b"one\r\n\ntwo\nlast";
        // In pieces of any size.
        for size in 1..8 {
            let mut lines = BufReader::with_capacity(size, text);
            let mut found = Vec::new();
            while let Some(line) = next_line(&mut lines, 4).expect("a line") {
                found.push(line);
            }
            assert_eq!(found, ["one\r", "", "two", "last"], "{size}");
            let long = next_line(&mut BufReader::with_capacity(size, text), 3).expect_err("it is long");
            assert_eq!(long.to_string(), "a line has more than 3 bytes");
        }
        let mut endless = BufReader::new(io::repeat(0).take(1 << 40));
        assert!(next_line(&mut endless, 1 << 20).is_err());
        assert!(next_line(&mut &b"\xff\n"[..], 9).is_err());
    }
}
