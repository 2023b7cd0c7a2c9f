//! The places of an import's keys in a cluster.

use crate::engine::{ClientCall, Kept, StoredLines, keys};
use crate::kv::{Batch, Pair};
use crate::store::postgres::{Cluster, Home};

/// Returns the keys and values that a batch writes, in order.
pub(super) fn pairs(batch: Batch) -> Vec<Pair> {
    let pairs = batch.writes.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let mut pairs: Vec<Pair> = pairs.collect();
    pairs.sort();
    pairs
}

/// Returns the place of a partition's own key. Lines are with the root that printed them, the places
/// of answers with the entities that gave them, and everything else is in each partition.
pub(super) fn home(cluster: &Cluster, pairs: &[Pair], key: &[u8], value: &[u8]) -> Home {
    if key.starts_with(keys::LINES) {
        let root = StoredLines::decode(value).map(|lines| lines.root).unwrap_or_default();
        return Home::Slot(cluster.slot_of(&keys::active(&root)).unwrap_or(0));
    }
    let Some(number) = keys::parse_answer(key) else { return Home::Each };
    let call = Kept::decode(number, value).and_then(|kept| {
        let key = keys::call(&kept.id);
        let at = pairs.binary_search_by(|(known, _)| known.cmp(&key)).ok()?;
        ClientCall::decode(&pairs[at].1)
    });
    let slot = call.and_then(|call| cluster.slot_of(&keys::lock(&call.entity)));
    Home::Slot(slot.unwrap_or(0))
}
