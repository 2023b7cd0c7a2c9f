//! `durable purge` and `durable store verify`.

use crate::engine::InstanceRecord;
use crate::host::Ask;

use super::access::{Access, history, known, records};
use super::arguments::{InStore, Purge};
use super::inspect::filtered;
use super::problem::{Problem, note};
use super::{FAILED, STORE, print};

/// Removes instances, and the programs that no instance is of any more.
pub fn purge(purge: Purge) -> Result<u8, Problem> {
    let mut store = Access::open(&purge.store.store)?;
    let mut chosen: Vec<InstanceRecord> = Vec::new();
    if purge.ids.is_empty() {
        chosen = filtered(&store, &purge.filter)?;
        if !purge.force && purge.filter.status.is_none() {
            chosen.retain(|record| record.status.is_ended());
        }
    } else {
        for id in &purge.ids {
            chosen.push(known(&store, id)?);
        }
    }
    if let Some(running) = chosen.iter().find(|record| !record.status.is_ended()).filter(|_| !purge.force) {
        let title = format!("{} has not ended", running.id);
        return Err(Problem::new(FAILED, title).hint("`--force` terminates and removes it all the same"));
    }
    let ids: Vec<String> = chosen.iter().map(|record| record.id.clone()).collect();
    store.tell(Ask::Purge { ids, force: purge.force }, "one of them")?;
    store.close()?;
    note(&match &chosen[..] {
        [one] => format!("removed {}", one.id),
        all => format!("removed {} instances", all.len()),
    });
    Ok(0)
}

/// Reads everything and checks that it is what was written.
pub fn verify(place: InStore) -> Result<u8, Problem> {
    super::access::is_there(&place.store)?;
    let store = super::access::own(&place.store)?;
    let report = store.verify()?;
    let mut instances = 0;
    let mut bad = Vec::new();
    for record in records(&store, "")? {
        instances += 1;
        if let Err(problem) = history(&store, &record) {
            bad.push(problem.title);
        }
    }
    store.close()?;
    if !bad.is_empty() {
        return Err(Problem::new(STORE, bad.join("\n")));
    }
    print(&format!(
        "the store is whole: {instances} {}, {} keys, {} bytes\n",
        if instances == 1 { "instance" } else { "instances" },
        report.keys,
        report.bytes
    ))?;
    Ok(0)
}
