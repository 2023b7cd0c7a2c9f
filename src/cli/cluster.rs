//! `durable cluster`.

use std::collections::BTreeMap;

use super::arguments::ClusterView;
use super::place::{open, url};
use super::problem::{Problem, note};
use super::{USAGE, print, table};

/// Shows the workers and the partitions of a cluster.
pub fn cluster(view: ClusterView) -> Result<u8, Problem> {
    let Some(url) = url(&view.store.store)? else {
        return Err(Problem::new(USAGE, "a store in a folder has no workers and one partition")
            .hint("give the URL of a database: --store postgres://user@host/database"));
    };
    let cluster = open(&url)?;
    if view.json {
        print(&format!("{}\n", crate::cluster::overview(&cluster)?))?;
        return Ok(0);
    }
    let overview = cluster.overview()?;
    let waiting: BTreeMap<_, _> = cluster.waiting()?.into_iter().collect();
    let name_of =
        |id: &str| overview.workers.iter().find(|worker| worker.id == id).map(|worker| &worker.name);
    let owned =
        |id: &str| overview.partitions.iter().filter(|state| state.owner.as_deref() == Some(id)).count();
    let rows: Vec<Vec<String>> = overview
        .workers
        .iter()
        .map(|worker| {
            let lease = match worker.rest {
                Some(rest) => format!("{:.1} s left", rest.as_secs_f64()),
                None => "over".to_string(),
            };
            let address = worker.address.clone();
            vec![worker.name.clone(), address, worker.version.clone(), owned(&worker.id).to_string(), lease]
        })
        .collect();
    let workers = table::table(&["worker", "address", "version", "partitions", "lease"], &rows);
    let rows: Vec<Vec<String>> = overview
        .partitions
        .iter()
        .map(|state| {
            let owner = match &state.owner {
                Some(owner) => name_of(owner).map_or("a worker that is gone", String::as_str),
                None => "nobody",
            };
            let slots = match state.slots.is_empty() {
                true => "private".to_string(),
                false => format!("{}..{}", state.slots.start, state.slots.end),
            };
            vec![
                state.partition.to_string(),
                slots,
                owner.to_string(),
                state.epoch.to_string(),
                state.commits.to_string(),
                waiting.get(&state.partition).copied().unwrap_or(0).to_string(),
            ]
        })
        .collect();
    let partitions = table::table(&["partition", "slots", "owner", "epoch", "commits", "waiting"], &rows);
    print(&format!("{workers}\n{partitions}"))?;
    if overview.workers.iter().all(|worker| worker.rest.is_none()) {
        note(&format!("no worker is alive; `durable serve --store {url}` starts one"));
    }
    Ok(0)
}
