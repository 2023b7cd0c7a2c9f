//! Partitions of a store in memory: what each reads and writes, and what is on its way between
//! them.
//!
//! The keys that belong to an instance, an entity or a program are the same for all. Those of a
//! partition itself lie under its number, and so does what is on its way to it.

use durable::engine::{Placement, keys, placement::slot_of_key};
use durable::kv::{Arrival, Batch, MemoryTree, Partition, Read, Receipt, Source, Store, StoreError, Visit};

/// The beginnings of the keys that each partition has of its own.
const OWN: [&[u8]; 3] = [keys::LINES, keys::ANSWERS, keys::OWN];
const TRANSIT: &[u8] = b"!t";

fn is_own(key: &[u8]) -> bool {
    OWN.iter().any(|own| key.starts_with(own))
}

/// Returns the key under which the store has a key of a partition.
pub fn key_of(placement: Option<&Placement>, key: Vec<u8>) -> Vec<u8> {
    match placement {
        Some(placement) if is_own(&key) => [b"!p", &placement.own.to_be_bytes()[..], &key].concat(),
        _ => key,
    }
}

fn transit_to(to: Partition) -> Vec<u8> {
    [TRANSIT, &to.to_be_bytes()[..]].concat()
}

/// What a partition sees of a store: its own keys, the messages, holders and active instances of
/// its slots, and all else.
pub struct View<'a> {
    pub tree: &'a MemoryTree,
    pub placement: Option<&'a Placement>,
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.tree.get(&key_of(self.placement, key.to_vec()))
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let Some(placement) = self.placement else { return self.tree.scan_from(prefix, from, visit) };
        if !is_own(prefix) {
            let is_seen = |key: &[u8]| {
                slot_of_key(key).is_none_or(|slot| placement.partition_of_slot(slot) == placement.own)
            };
            return self.tree.scan_from(prefix, from, &mut |key, value| !is_seen(key) || visit(key, value));
        }
        let own = |key: &[u8]| key_of(self.placement, key.to_vec());
        let length = own(prefix).len() - prefix.len();
        self.tree.scan_from(&own(prefix), &own(from), &mut |key, value| visit(&key[length..], value))
    }
}

/// Writes a batch of a partition. What it sends is on its way then, under numbers that grow with
/// each batch of the partition.
pub fn commit(store: &mut MemoryTree, placement: Option<&Placement>, batch: &Batch) {
    let mut all = Batch::default();
    for (key, value) in &batch.writes {
        all.writes.push((key_of(placement, key.clone()), value.clone()));
    }
    if let Some(own) = placement.map(|placement| placement.own) {
        for receipt in &batch.transit.consumed {
            let Source::Partition(from) = receipt.source else { panic!("{receipt:?} is of a client") };
            let key = [transit_to(own), from.to_be_bytes().to_vec(), receipt.number.to_be_bytes().to_vec()];
            assert!(store.tree.contains_key(&key.concat()), "{receipt:?} is consumed once");
            all.delete(key.concat());
        }
        let count = [b"!n", &own.to_be_bytes()[..]].concat();
        let last =
            store.tree.get(&count).map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().expect("8")));
        for (to, body) in &batch.transit.sends {
            assert!(*to != own, "nothing is sent to oneself");
            let key = [transit_to(*to), own.to_be_bytes().to_vec(), (last + 1).to_be_bytes().to_vec()];
            all.put(key.concat(), body.clone());
        }
        all.put(count, (last + 1).to_be_bytes().to_vec());
    }
    store.commit(&all).expect("memory can be written");
}

/// Returns what was sent to a partition and is not consumed, sender by sender, each in order.
pub fn arrivals(store: &MemoryTree, to: Partition) -> Vec<Arrival> {
    let prefix = transit_to(to);
    let all = store.all(&prefix).expect("memory can be read");
    let arrival = |(key, body): (Vec<u8>, Vec<u8>)| {
        let (from, number) = key[prefix.len()..].split_at(4);
        let source = Source::Partition(Partition::from_be_bytes(from.try_into().expect("4 bytes")));
        let number = u64::from_be_bytes(number.try_into().expect("8 bytes"));
        Arrival { receipt: Receipt { source, number }, body }
    };
    all.into_iter().map(arrival).collect()
}

/// Returns what the partitions of a store have together, as a reader of all of them shows it. Of the
/// keys that each has of its own, the highest value counts.
pub fn whole(store: &MemoryTree) -> MemoryTree {
    let mut all = MemoryTree::default();
    for (key, value) in &store.tree {
        let shown = match key.strip_prefix(b"!p") {
            Some(own) => &own[4..],
            None if key.starts_with(b"!") => continue,
            None => key,
        };
        let highest = all.tree.entry(shown.to_vec()).or_default();
        *highest = value.clone().max(std::mem::take(highest));
    }
    all
}

/// Whether anything is on its way.
pub fn has_transit(store: &MemoryTree) -> bool {
    store.tree.range(TRANSIT.to_vec()..).next().is_some_and(|(key, _)| key.starts_with(TRANSIT))
}
