//! `durable store import`: lines of JSON into a store.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::archive::{self, ArchiveError, Refusal};
use crate::kv::MemoryTree;

use super::access::own;
use super::arguments::Import;
use super::place;
use super::problem::{Problem, note};
use super::{STORE, USAGE};

/// Reads JSON Lines into a store that has none of the instances in them, all or nothing.
pub fn import(import: Import) -> Result<u8, Problem> {
    let problem = |error| problem(&import.file, error);
    let file = File::open(&import.file).map_err(|error| problem(ArchiveError::Input(error)))?;
    let mut incoming = archive::read(BufReader::new(file)).map_err(problem)?;
    let left_out = match place::url(&import.store.store)? {
        None => {
            let mut store = own(&import.store.store)?;
            let left_out = if import.damaged { incoming.leave_out(&store) } else { Vec::new() };
            archive::import(&incoming, &mut store).map_err(problem)?;
            store.close()?;
            left_out
        }
        Some(url) => {
            let cluster = place::open(&url)?;
            // The cluster must be empty.
            let empty = MemoryTree::default();
            let left_out = if import.damaged { incoming.leave_out(&empty) } else { Vec::new() };
            archive::import_into_cluster(&incoming, &cluster).map_err(problem)?;
            left_out
        }
    };
    for refusal in left_out {
        note(&format!("left out: {refusal}"));
    }
    let instances = incoming.instances();
    note(&if instances == 1 { "read 1 instance".to_string() } else { format!("read {instances} instances") });
    Ok(0)
}

fn problem(file: &Path, error: ArchiveError) -> Problem {
    let file = file.display();
    match error {
        ArchiveError::Input(error) => {
            Problem::new(STORE, format!("{file} can't be read: {}", crate::os::reason(&error)))
        }
        ArchiveError::Refused(Refusal { line, reason }) => {
            let place = line.map_or(String::new(), |line| format!(", line {line}"));
            Problem::new(USAGE, format!("{file}{place}: {reason}")).hint("nothing was imported")
        }
        error => error.into(),
    }
}
