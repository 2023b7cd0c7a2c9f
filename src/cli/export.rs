//! `durable store export`: a store as lines of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::archive::{self, ArchiveError, Exporting};
use crate::kv::Read;
use crate::store::DiskStore;

use super::STORE;
use super::access::{is_there, look};
use super::arguments::Export;
use super::place;
use super::problem::{Problem, note};

/// Writes a store as JSON Lines.
pub fn export(export: Export) -> Result<u8, Problem> {
    let folder = &export.store.store;
    match place::url(folder)? {
        None => {
            is_there(folder)?;
            let (store, lost) = match export.damaged {
                false => (look(folder)?, Vec::new()),
                true => DiskStore::salvage(folder)?,
            };
            let done = write(&export, &store, store.commits(), &lost)?;
            if !export.damaged {
                store.close()?;
            }
            Ok(done)
        }
        Some(url) => {
            let cluster = place::open(&url)?;
            let snapshot = if export.damaged { cluster.snapshot()? } else { cluster.quiet_snapshot()? };
            let commits = cluster.overview()?.partitions.iter().map(|part| part.commits).sum();
            write(&export, &snapshot, commits, &[])
        }
    }
}

/// Writes what a store has. `lost` describes what a damaged store has lost.
fn write(export: &Export, store: &dyn Read, commits: u64, lost: &[String]) -> Result<u8, Problem> {
    let mut out: BufWriter<Box<dyn Write>> = BufWriter::new(match &export.file {
        Some(path) => Box::new(make(path).map_err(ArchiveError::Output)?),
        None => Box::new(std::io::stdout()),
    });
    let how = Exporting { commits, redacts: export.redact, salvages: export.damaged };
    let exported = archive::export(store, how, &mut out)?;
    for reason in &exported.left_out {
        note(&format!("left out: {reason}"));
    }
    if export.damaged {
        for reason in lost {
            note(&format!("lost: {reason}"));
        }
        for id in &exported.gaps {
            note(&format!(
                "the history of {id} has a gap, and parts after it could not be compared with those before"
            ));
        }
        let lines = exported.lines;
        note(&format!("saved {lines} {}", if lines == 1 { "line" } else { "lines" }));
        return Ok(0);
    }
    match exported.left_out.is_empty() {
        true => Ok(0),
        false => Err(Problem::new(STORE, "the export is not whole")),
    }
}

/// Makes the file of an export. It has all that the store has, so only its owner may read it.
fn make(path: &Path) -> std::io::Result<File> {
    crate::os::private_file().create(true).truncate(true).write(true).open(path)
}
