//! `durable purge` and `durable store verify`.

use std::collections::HashSet;

use crate::engine::{Batch, InstanceRecord, Status, StoredProgram, keys};
use crate::store::{self, DiskStore, Store};

use super::arguments::{InStore, Purge};
use super::inspect::is_in;
use super::problem::{Problem, note};
use super::run::{read_history, record, records, unknown};
use super::{FAILED, STORE, print};

/// Removes instances, and the programs that no instance is of any more.
pub fn purge(purge: Purge) -> Result<u8, Problem> {
    let mut store = store::open(&purge.store.store)?;
    let mut chosen: Vec<InstanceRecord> = Vec::new();
    match purge.status {
        Some(status) => chosen.extend(records(&store)?.into_iter().filter(|record| is_in(record, status))),
        None => {
            for id in &purge.ids {
                chosen.push(record(&store, id)?.ok_or_else(|| unknown(id))?);
            }
        }
    }
    if let Some(running) =
        chosen.iter().find(|record| record.status == Status::Running).filter(|_| !purge.force)
    {
        let title = format!("{} has not ended", running.id);
        return Err(
            Problem::new(FAILED, title).hint("`--force` removes it all the same; what it was doing is lost")
        );
    }
    for record in &chosen {
        let mut batch = Batch::default();
        store.scan(&keys::history(&record.id), &mut |key, _| {
            batch.delete(key.to_vec());
            true
        })?;
        batch.delete(keys::instance(&record.id));
        store.commit(&batch)?;
    }
    collect(&mut store)?;
    store.flush()?;
    note(&match chosen.len() {
        1 => format!("removed {}", chosen[0].id),
        n => format!("removed {n} instances"),
    });
    store.close()?;
    Ok(0)
}

/// Removes programs without instances, and texts without programs.
fn collect(store: &mut DiskStore) -> Result<(), Problem> {
    let used: HashSet<Vec<u8>> =
        records(store)?.iter().map(|record| keys::program(&record.program.0)).collect();
    let mut batch = Batch::default();
    let mut texts: HashSet<Vec<u8>> = HashSet::new();
    for (key, bytes) in store.all(keys::PROGRAMS)? {
        if !used.contains(&key) {
            batch.delete(key);
        } else if let Some(program) = StoredProgram::decode(&bytes) {
            texts.extend(program.modules.iter().map(|(_, text)| keys::text(text)));
        }
    }
    store.scan(keys::TEXTS, &mut |key, _| {
        if !texts.contains(key) {
            batch.delete(key.to_vec());
        }
        true
    })?;
    if !batch.is_empty() {
        store.commit(&batch)?;
    }
    Ok(())
}

/// Reads everything and checks that it is what was written.
pub fn verify(place: InStore) -> Result<u8, Problem> {
    let store = store::open(&place.store)?;
    let report = store.verify()?;
    let mut instances = 0;
    let mut bad = Vec::new();
    for record in records(&store)? {
        instances += 1;
        if let Err(problem) = read_history(&store, &record) {
            bad.push(problem.title);
        }
    }
    store.close()?;
    if !bad.is_empty() {
        return Err(Problem::new(STORE, bad.join("\n")));
    }
    print(&format!(
        "the store is whole: {} commits, {instances} instances, {} keys, {} bytes\n",
        report.commits, report.keys, report.bytes
    ))?;
    Ok(0)
}
