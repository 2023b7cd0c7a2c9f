//! The workers and the partitions of a cluster in JSON, for the command line and over HTTP.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::kv::StoreError;
use crate::store::postgres::Cluster;

/// Returns the form of a cluster as it is now.
pub fn overview(cluster: &Cluster) -> Result<Json, StoreError> {
    let overview = cluster.overview()?;
    let waiting: BTreeMap<_, _> = cluster.waiting()?.into_iter().collect();
    let owned =
        |id: &str| overview.partitions.iter().filter(|state| state.owner.as_deref() == Some(id)).count();
    let workers: Vec<Json> = overview
        .workers
        .iter()
        .map(|worker| {
            json!({
                "id": worker.id, "name": worker.name, "address": worker.address, "version": worker.version,
                "alive": worker.rest.is_some(),
                "lease_left_ms": worker.rest.map(|rest| rest.as_millis() as u64),
                "partitions": owned(&worker.id),
            })
        })
        .collect();
    let partitions: Vec<Json> = overview
        .partitions
        .iter()
        .map(|state| {
            json!({
                "partition": state.partition, "first_slot": state.slots.start, "end_slot": state.slots.end,
                "owner": state.owner, "epoch": state.epoch, "commits": state.commits,
                "waiting": waiting.get(&state.partition).copied().unwrap_or(0),
            })
        })
        .collect();
    let bytes = cluster.size_bytes()?;
    Ok(json!({"id": cluster.about().id, "workers": workers, "partitions": partitions, "bytes": bytes}))
}
