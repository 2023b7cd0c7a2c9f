//! More partitions, while workers and clients go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::engine::{self, OWN, Placement, SlotRange};
use crate::host::Command;
use crate::kv::{Arrival, Partition, Source, StoreError};
use crate::store::postgres::{Cluster, PartitionRange, Raised};

use super::hints::{Hint, Hints};

/// Gives a cluster more partitions, all or nothing. Every engine begins anew, with the new places of
/// instances and entities. What is on its way goes on.
pub fn raise(cluster: &Cluster, wanted: u32) -> Result<Raised, StoreError> {
    let raised = cluster.raise(wanted, OWN, &divide)?;
    if raised.now > raised.before {
        tell_workers(cluster);
    }
    Ok(raised)
}

/// Divides what waits for a partition that was split.
fn divide(
    ranges: &[PartitionRange],
    dest: Partition,
    arrival: &Arrival,
) -> Result<BTreeMap<Partition, Vec<u8>>, StoreError> {
    let range = |range: &PartitionRange| SlotRange { lo: range.lo, hi: range.hi, partition: range.partition };
    let damaged = |what: String| StoreError::Damaged { what };
    let placement = Placement::new(dest, ranges.iter().map(range).collect()).map_err(damaged)?;
    match arrival.receipt.source {
        Source::Partition(_) => {
            let unreadable = |error: engine::ReadError| damaged(format!("for partition {dest}: {error}"));
            engine::divide(&placement, &arrival.body).map_err(unreadable)
        }
        // A request has one answer. One that concerns several partitions, or that is of another
        // version, stays where it is; the client sends it again if it was moved.
        Source::Client => {
            let command = Command::from_stored(&arrival.body);
            let all = command.map(|command| command.all_concerned()).unwrap_or_default();
            let mut places = all.iter().map(|address| placement.partition_of(address));
            let first = places.next().filter(|first| places.all(|other| other == *first));
            Ok(first.into_iter().map(|to| (to, arrival.body.clone())).collect())
        }
    }
}

/// Lets all workers look at once. Without that, each looks within a second.
fn tell_workers(cluster: &Cluster) {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let (Ok(hints), Ok(overview)) = (Hints::open(any), cluster.overview()) else { return };
    hints.tell(&overview.workers, Hint::Owners);
}
