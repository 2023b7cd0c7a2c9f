//! Placement: the partition of each instance and of each entity.
//!
//! A store of several partitions has 4,096 slots. Each instance and each entity has a slot, by its
//! *route*, and each partition has ranges of slots. So a partition can be split without moving
//! anything.
//!
//! The route of an entity is its name and its key. The route of an instance is its id up to the
//! first `:`, and at most the first [`HEAD`] characters of that. All automatic ids of a tree have
//! these characters in common, so the children of an instance stay with it. A route that ends with
//! `!` and a number is *pinned* to the partition of that number.
//!
//! Invariant: the placement of an engine never changes. When partitions are split, their engines
//! begin anew.

use std::sync::Arc;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::kv::Partition;
use crate::machine::{EntityId, HEAD};

use super::address::{Address, Waiter};
use super::keys;

/// The number of slots that routes are spread over.
pub const SLOTS: u32 = 4096;

/// The greatest number of a partition that routes can be pinned to. Each has a slot of its own
/// after the common ones.
pub const MOST_PINNED: Partition = i32::MAX as Partition - SLOTS;

/// A range of slots, and the partition that has it. `hi` is after the last slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    pub lo: u32,
    pub hi: u32,
    pub partition: Partition,
}

/// The place of an engine among the partitions of a store.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The partition of this engine.
    pub own: Partition,
    /// The ranges of all partitions, in the order of the slots.
    map: Arc<[SlotRange]>,
}

impl Placement {
    /// Returns the place of a partition. The ranges must cover all slots, each once. The error says
    /// what is wrong with them.
    pub fn new(own: Partition, mut ranges: Vec<SlotRange>) -> Result<Placement, String> {
        ranges.retain(|range| range.lo != range.hi);
        ranges.sort_by_key(|range| range.lo);
        let mut next = 0;
        for SlotRange { lo, hi, partition } in &ranges {
            if *lo != next || hi < lo {
                return Err(format!("the slots of partition {partition} begin at {lo} instead of {next}"));
            }
            next = *hi;
        }
        match next {
            SLOTS => Ok(Placement { own, map: ranges.into() }),
            _ => Err(format!("the slots of the partitions end at {next} instead of {SLOTS}")),
        }
    }

    /// Returns the place of a partition among `count` partitions, which share the slots evenly.
    pub fn even(own: Partition, count: u32) -> Result<Placement, String> {
        Placement::new(own, even(count))
    }

    /// Returns the partition that has a slot.
    pub fn partition_of_slot(&self, slot: u32) -> Partition {
        if slot >= SLOTS {
            return slot - SLOTS;
        }
        let at = self.map.partition_point(|range| range.hi <= slot);
        self.map[at].partition
    }

    /// Returns the partition of an instance or an entity.
    pub fn partition_of(&self, address: &Address) -> Partition {
        match address {
            Address::Instance(id) => self.partition_of_id(id),
            Address::Entity(entity) => self.partition_of_entity(entity),
        }
    }

    /// Returns the partition of an instance. A caller from outside is at the partition that its
    /// call came to, unless it is pinned.
    pub fn partition_of_id(&self, id: &str) -> Partition {
        match Waiter::is_id_outside(id) {
            true => pin(id).unwrap_or(self.own),
            false => self.partition_of_slot(slot_of_id(id)),
        }
    }

    /// Returns the partition of an entity.
    pub fn partition_of_entity(&self, entity: &EntityId) -> Partition {
        self.partition_of_slot(slot_of_entity(entity))
    }

    /// Whether an instance or an entity belongs to the partition of this engine.
    pub fn has(&self, address: &Address) -> bool {
        self.partition_of(address) == self.own
    }
}

/// Returns the ranges of `count` partitions that share the slots evenly.
pub fn even(count: u32) -> Vec<SlotRange> {
    let count = count.clamp(1, SLOTS);
    let bound = |number: u32| number * SLOTS / count;
    let range =
        |number| SlotRange { lo: bound(number), hi: bound(number + 1), partition: Partition::from(number) };
    (0..count).map(range).collect()
}

fn slot_of_hash(hash: u64) -> u32 {
    (hash >> 52) as u32
}

/// Returns the partition that a route is pinned to, if it is.
pub fn pin(route: &str) -> Option<Partition> {
    let (_, digits) = route.rsplit_once('!')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Partition = if is_number { digits.parse().ok()? } else { return None };
    (number <= MOST_PINNED).then_some(number)
}

/// Returns the slot of an instance. A pinned one has the slot of its partition, after the common
/// ones.
pub fn slot_of_id(id: &str) -> u32 {
    let route = id.split_once(':').map_or(id, |(route, _)| route);
    if let Some(partition) = pin(route) {
        return SLOTS + partition;
    }
    let end = route.char_indices().nth(HEAD).map_or(route.len(), |(at, _)| at);
    slot_of_hash(xxh3_64(&route.as_bytes()[..end]))
}

/// Returns the slot of an entity.
pub fn slot_of_entity(entity: &EntityId) -> u32 {
    let mut hash = Xxh3::new();
    hash.update(entity.name.as_bytes());
    hash.update(&[0]);
    hash.update(&entity.key.0);
    slot_of_hash(hash.digest())
}

/// Returns the slot of a key that belongs to an instance's or an entity's partition and is read
/// when the partition is taken over: a message, a holder, or an instance with work to do. Returns
/// `None` for all other keys.
pub fn slot_of_key(key: &[u8]) -> Option<u32> {
    if let Some(id) = key.strip_prefix(keys::ACTIVE) {
        return std::str::from_utf8(id).ok().map(slot_of_id);
    }
    if key.starts_with(keys::LOCKS) {
        return keys::parse_entity_key(key).map(|entity| slot_of_entity(&entity));
    }
    match keys::parse_mail(key)?.0 {
        Address::Instance(id) => Some(slot_of_id(&id)),
        Address::Entity(entity) => Some(slot_of_entity(&entity)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machine::{Value, child_id};

    #[test]
    fn partitions_cover_all_slots_each_once() {
        for count in [1, 2, 3, 7, 64, SLOTS] {
            let placement = Placement::even(0, count).expect("even ranges");
            let all: BTreeSet<Partition> = placement.map.iter().map(|range| range.partition).collect();
            assert_eq!(all.len(), count as usize);
        }
        let range = |lo, hi, partition| SlotRange { lo, hi, partition };
        assert!(Placement::new(0, vec![range(0, 2048, 0)]).is_err(), "the end is missing");
        assert!(Placement::new(0, vec![range(0, 3000, 0), range(2000, SLOTS, 1)]).is_err(), "they overlap");
        assert!(Placement::new(0, vec![range(2048, SLOTS, 0), range(0, 2048, 1)]).is_ok(), "in any order");
    }

    #[test]
    fn automatic_children_stay_with_their_callers_however_deep() {
        for root in ["a", "an-id-of-forty-characters-and-some-more-than-that", "pinned!17"] {
            let mut id = root.to_string();
            for number in 0..120 {
                id = child_id(&id, 1_000_000 + number);
                assert_eq!(slot_of_id(&id), slot_of_id(root), "{id}");
            }
        }
    }

    #[test]
    fn a_route_is_pinned_by_a_number_after_an_exclamation_mark() {
        assert_eq!(slot_of_id("script!5"), SLOTS + 5);
        assert_eq!(slot_of_id("script!5:2"), SLOTS + 5);
        for id in ["hello!", "hello!x", "hello!+5", "hello!99999999999", "hello:3!5"] {
            assert!(slot_of_id(id) < SLOTS, "{id}");
        }
        let placement = Placement::even(1, 2).expect("two partitions");
        let of = |id: &str| placement.partition_of(&Address::instance(id));
        assert_eq!((of("client x"), of("activity x"), of("activity x!0"), of("y!9")), (1, 1, 0, 9));
    }

    #[test]
    fn the_slot_of_a_key_is_that_of_its_address() {
        let entity = EntityId::new("Account", &Value::str("ada")).expect("a key");
        let slot = Some(slot_of_entity(&entity));
        assert_eq!(slot_of_key(&keys::mail(&Address::entity(entity.clone()), 7)), slot);
        assert_eq!(slot_of_key(&keys::lock(&entity)), slot);
        assert_eq!(slot_of_key(&keys::entity(&entity)), None);
        assert_eq!(slot_of_key(&keys::mail(&Address::instance("x:3"), 7)), Some(slot_of_id("x")));
        assert_eq!(slot_of_key(&keys::active("x:3")), Some(slot_of_id("x")));
        for key in [keys::instance("x"), keys::chunk("x", 0), keys::lines(3), keys::TIME.to_vec()] {
            assert_eq!(slot_of_key(&key), None);
        }
    }
}
