//! `durable purge` and `durable store verify`.

use crate::api::{Command, Queries, Reply};
use crate::engine::InstanceRecord;
use crate::engine::query::InstanceFilter;

use super::access::{self, Access, known};
use super::arguments::{InStore, Purge};
use super::inspect::filter;
use super::problem::{Problem, note};
use super::{FAILED, STORE, UNKNOWN, print};

/// Removes instances, and the programs that no instance needs any more.
pub fn purge(purge: Purge) -> Result<u8, Problem> {
    let mut store = Access::open(&purge.store.store)?;
    let mut chosen: Vec<InstanceRecord> = Vec::new();
    if purge.ids.is_empty() {
        chosen = access::instances(&store, &filter(&purge.filter)?)?;
        if !purge.force && purge.filter.status.is_none() {
            chosen.retain(|record| record.status.is_ended());
        }
    } else {
        for id in &purge.ids {
            chosen.push(known(&store, id)?);
        }
    }
    let ids: Vec<String> = chosen.iter().map(|record| record.id.clone()).collect();
    let removed = match store.ask(Command::Purge { ids, force: purge.force })? {
        Reply::Removed(count) => count,
        Reply::Unknown => return Err(Problem::new(UNKNOWN, "one of them is not there any more")),
        Reply::Refused(reason) => {
            return Err(Problem::new(FAILED, reason).hint(
                "nothing was removed; `--force` terminates what has not ended, and removes all the same",
            ));
        }
        _ => return Err(Problem::new(FAILED, "they could not be removed")),
    };
    store.close()?;
    note(&match &chosen[..] {
        [one] if removed == 1 => format!("removed {}", one.id),
        [one] => format!("removed {} and {} that it called or started", one.id, removed.saturating_sub(1)),
        _ => format!("removed {removed} instances"),
    });
    Ok(0)
}

/// Reads everything, and checks that it is what was written.
pub fn verify(place: InStore) -> Result<u8, Problem> {
    super::access::is_there(&place.store)?;
    let store = super::access::look(&place.store)?;
    let report = store.verify()?;
    let mut instances = 0;
    let mut bad = Vec::new();
    store.each_instances(&InstanceFilter::default(), &mut |page, _| {
        for record in page {
            instances += 1;
            if let Err(error) = store.history(&record.id) {
                bad.push(error.to_string());
            }
        }
        true
    })?;
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
