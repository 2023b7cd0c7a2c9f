//! `durable purge` and `durable store verify`.

use crate::api::{Command, Reply};
use crate::archive::{self, Verification};
use crate::engine::InstanceRecord;

use super::access::{self, Access, known};
use super::arguments::{InStore, Purge};
use super::inspect::each;
use super::place;
use super::problem::{Problem, note};
use super::{FAILED, STORE, UNKNOWN, database, print};

/// Removes instances, and the programs that no instance needs any more.
pub fn purge(purge: Purge) -> Result<u8, Problem> {
    let mut store = Access::open(&purge.store.store)?;
    let mut chosen: Vec<InstanceRecord> = Vec::new();
    if purge.ids.is_empty() {
        each(&store, &purge.filter, None, &mut |record| {
            chosen.push(record);
            Ok(true)
        })?;
        if !purge.force && purge.filter.status.is_empty() {
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
pub fn verify(stored: InStore) -> Result<u8, Problem> {
    let verified = match place::url(&stored.store)? {
        None => {
            access::is_there(&stored.store)?;
            let store = access::look(&stored.store)?;
            let verified = archive::verify(&store)?;
            store.close()?;
            verified
        }
        Some(url) => {
            let cluster = place::open(&url)?;
            database::warn(&cluster)?;
            archive::verify_cluster(&cluster)?
        }
    };
    let Verification { instances, keys, bytes, unreadable, irregular } = verified;
    if !unreadable.is_empty() || !irregular.is_empty() {
        let reasons = unreadable.iter().map(ToString::to_string).chain(irregular);
        return Err(Problem::new(STORE, reasons.collect::<Vec<_>>().join("\n")));
    }
    let what = if instances == 1 { "instance" } else { "instances" };
    print(&format!("the store is whole: {instances} {what}, {keys} keys, {bytes} bytes\n"))?;
    Ok(0)
}
