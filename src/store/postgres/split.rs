//! More partitions: ranges of slots are divided, and no key moves.
//!
//! One transaction holds the rows of all partitions, so no commit is under way meanwhile, and all
//! owners lose their tokens: an engine that knows the old ranges commits nothing more. An owner
//! keeps its partitions, and what was split off from them. So nobody else begins with them before
//! the owner has dropped its engines, or its lease is over.
//!
//! Invariant: a new partition has a greater number than the one that it comes from. Receivers take in
//! what waits for them in the order of the senders' numbers, so what a partition sent before it was
//! split comes before everything that the new partition sends.

use std::collections::{BTreeMap, BTreeSet};

use crate::kv::{Arrival, Partition, Receipt, StoreError};

use super::cluster::Cluster;
use super::connection::{Connection, Failure};
use super::mail::source_of;
use super::partition::source_number;
use super::reader::column;
use super::schema::fewer;
use super::scope::{SLOTS, own_slot};

/// No partition is added and none is taken meanwhile.
const LOCK_ALL: &str = "lock table durable.part in share row exclusive mode";
const LOCK: &str = "select part, lo, hi from durable.part order by part for update";
const WAITING: &str = "select src, n, body from durable.transit where dest = $1 order by src, n";
const TAKE_OUT: &str = "delete from durable.transit using unnest($2::int[], $3::bigint[]) as taken (src, n)
    where transit.dest = $1 and transit.src = taken.src and transit.n = taken.n";
const PUT_IN: &str = "insert into durable.transit (dest, src, n, body)
    select * from unnest($1::int[], $2::int[], $3::bigint[], $4::bytea[])";
const NARROW: &str = "update durable.part set lo = narrow.lo, hi = narrow.hi
    from unnest($1::int[], $2::int[], $3::int[]) as narrow (part, lo, hi) where part.part = narrow.part";
const ADD: &str = "insert into durable.part (part, lo, hi, owner)
    select added.part, added.lo, added.hi, origin.owner
    from unnest($1::int[], $2::int[], $3::int[], $4::int[]) as added (part, lo, hi, origin)
    join durable.part as origin on origin.part = added.origin";
const COPY: &str = "insert into durable.queue (slot, k, v)
    select added.slot, queue.k, queue.v from unnest($1::int[], $2::int[]) as added (slot, origin)
    join durable.queue on queue.slot = added.origin and substr(queue.k, 1, length($3::bytea)) = $3::bytea";
const DEPOSE: &str = "update durable.part set token = null, epoch = part.epoch + 1";
const COUNT: &str = "update durable.cluster set partitions = $1";

/// The slots of a partition, from `lo` to before `hi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    pub partition: Partition,
    pub lo: u32,
    pub hi: u32,
}

/// Divides what waits for a partition: returns the parts by their receivers, now that the partitions
/// have these slots. Nothing is changed if there are no parts.
pub type Divide<'a> =
    dyn Fn(&[PartitionRange], Partition, &Arrival) -> Result<BTreeMap<Partition, Vec<u8>>, StoreError> + 'a;

/// The numbers of partitions before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub before: u32,
    pub now: u32,
}

/// Messages on their way: receivers, senders, numbers and bodies.
type Messages = (Vec<i32>, Vec<i32>, Vec<i64>, Vec<Vec<u8>>);

/// A partition of the range, with the one that it comes from.
#[derive(Clone, Copy)]
struct Part {
    range: PartitionRange,
    origin: Partition,
}

impl Cluster {
    /// Gives the cluster more partitions, all or nothing, whatever goes on in it. `own` is the prefix
    /// of the keys that a new partition has from the one that it comes from. Fails if there are more
    /// than are wanted.
    pub fn raise(&self, wanted: u32, own: &[u8], divide: &Divide<'_>) -> Result<Raised, StoreError> {
        self.pool().with("write to", |connection| {
            connection.transaction("begin", |connection| {
                let (mut parts, taken) = ranges(connection)?;
                let before = parts.len() as u32;
                let now = wanted.clamp(1, SLOTS);
                if now < before {
                    return Err(Failure::Store(fewer(self.url(), before, wanted)));
                }
                if now > before {
                    split(&mut parts, taken, now);
                    write(connection, &parts, own)?;
                    divide_waiting(connection, &parts, divide)?;
                    connection.rows(COUNT, &[&(now as i32)])?;
                }
                Ok(Raised { before, now })
            })
        })
    }
}

/// Locks the rows of all partitions. Returns the partitions with slots, and all numbers.
fn ranges(connection: &mut Connection) -> Result<(Vec<Part>, BTreeSet<Partition>), Failure> {
    connection.execute(LOCK_ALL)?;
    let rows = connection.rows(LOCK, &[])?;
    let (mut parts, mut taken) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let number = |at| column::<i32>(row, at).map(|number| number as u32).map_err(Failure::Store);
        let range = PartitionRange { partition: number(0)?, lo: number(1)?, hi: number(2)? };
        taken.insert(range.partition);
        if range.lo < range.hi {
            parts.push(Part { range, origin: range.partition });
        }
    }
    Ok((parts, taken))
}

/// Halves the widest range until there are enough.
fn split(parts: &mut Vec<Part>, mut taken: BTreeSet<Partition>, wanted: u32) {
    let mut next = parts.iter().map(|part| part.range.partition + 1).max().unwrap_or(0);
    while parts.len() < wanted as usize {
        let width = |part: &&mut Part| (part.range.hi - part.range.lo, std::cmp::Reverse(part.range.lo));
        let Some(widest) = parts.iter_mut().max_by_key(width) else { return };
        let PartitionRange { lo, hi, .. } = widest.range;
        let middle = lo.midpoint(hi);
        while !taken.insert(next) {
            next += 1;
        }
        widest.range.hi = middle;
        let new = Part { range: PartitionRange { partition: next, lo: middle, hi }, origin: widest.origin };
        parts.push(new);
    }
}

/// Writes the ranges. New partitions have the owners and the own keys of those that they come from,
/// and nobody has a token any more.
fn write(connection: &mut Connection, parts: &[Part], own: &[u8]) -> Result<(), Failure> {
    let (old, new): (Vec<&Part>, Vec<&Part>) =
        parts.iter().partition(|part| part.range.partition == part.origin);
    let each = |parts: &[&Part], what: fn(&Part) -> u32| {
        parts.iter().map(|part| what(part) as i32).collect::<Vec<i32>>()
    };
    let number = |part: &Part| part.range.partition;
    let (lo, hi) = (|part: &Part| part.range.lo, |part: &Part| part.range.hi);
    connection.rows(NARROW, &[&each(&old, number), &each(&old, lo), &each(&old, hi)])?;
    let origins = each(&new, |part| part.origin);
    connection.rows(ADD, &[&each(&new, number), &each(&new, lo), &each(&new, hi), &origins])?;
    let slots = each(&new, |part| own_slot(part.range.partition));
    let origins = each(&new, |part| own_slot(part.origin));
    connection.rows(COPY, &[&slots, &origins, &own])?;
    connection.rows(DEPOSE, &[])?;
    Ok(())
}

/// Divides what waits for the partitions that were split. Each part keeps its sender and its number.
fn divide_waiting(connection: &mut Connection, parts: &[Part], divide: &Divide<'_>) -> Result<(), Failure> {
    let ranges: Vec<PartitionRange> = parts.iter().map(|part| part.range).collect();
    let is_new = |part: &&Part| part.range.partition != part.origin;
    let origins: BTreeSet<Partition> = parts.iter().filter(is_new).map(|part| part.origin).collect();
    for dest in origins {
        let mut gone: (Vec<i32>, Vec<i64>) = Default::default();
        let mut put = Messages::default();
        for row in &connection.rows(WAITING, &[&(dest as i32)])? {
            let read = || -> Result<Arrival, StoreError> {
                let number = column::<i64>(row, 1)? as u64;
                let receipt = Receipt { source: source_of(column(row, 0)?), number };
                Ok(Arrival { receipt, body: column(row, 2)? })
            };
            let arrival = read().map_err(Failure::Store)?;
            let divided = divide(&ranges, dest, &arrival).map_err(Failure::Store)?;
            if divided.is_empty() {
                continue;
            }
            let (src, number) = (source_number(arrival.receipt.source), arrival.receipt.number as i64);
            gone.0.push(src);
            gone.1.push(number);
            for (to, body) in divided {
                put.0.push(to as i32);
                put.1.push(src);
                put.2.push(number);
                put.3.push(body);
            }
        }
        if !gone.0.is_empty() {
            connection.rows(TAKE_OUT, &[&(dest as i32), &gone.0, &gone.1])?;
            connection.rows(PUT_IN, &[&put.0, &put.1, &put.2, &put.3])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[(Partition, u32, u32)]) -> Vec<Part> {
        let part = |(partition, lo, hi): &(Partition, u32, u32)| Part {
            range: PartitionRange { partition: *partition, lo: *lo, hi: *hi },
            origin: *partition,
        };
        of.iter().map(part).collect()
    }

    fn after(of: &[(Partition, u32, u32)], more: &[Partition], wanted: u32) -> Vec<Part> {
        let mut parts = parts(of);
        let taken = parts.iter().map(|part| part.range.partition).chain(more.iter().copied()).collect();
        split(&mut parts, taken, wanted);
        parts
    }

    #[test]
    fn the_widest_range_is_halved_until_there_are_enough() {
        let shown = |parts: &[Part]| -> Vec<(Partition, u32, u32, Partition)> {
            let all =
                parts.iter().map(|part| (part.range.partition, part.range.lo, part.range.hi, part.origin));
            all.collect()
        };
        let (first, second) = ((0, 0, 1024, 0), (1, 2048, 3072, 1));
        let four = after(&[(0, 0, 2048), (1, 2048, 4096)], &[], 4);
        assert_eq!(shown(&four), [first, second, (2, 1024, 2048, 0), (3, 3072, 4096, 1)]);
        let three = after(&[(0, 0, 2048), (1, 2048, 4096)], &[2, 3, 10_000], 3);
        assert_eq!(shown(&three)[2], (4, 1024, 2048, 0), "a private partition has its number already");
        let eight = after(&[(0, 0, 4096)], &[], 8);
        assert!(eight.iter().all(|part| part.range.hi - part.range.lo == 512 && part.origin == 0));
        assert!(after(&[(0, 0, 4096)], &[], 4096).iter().all(|part| part.range.hi == part.range.lo + 1));
    }

    #[test]
    fn a_new_partition_has_a_greater_number_than_the_one_that_it_comes_from() {
        for wanted in [3, 5, 17, 100] {
            let all = after(&[(0, 0, 1000), (7, 1000, 4096)], &[8, 9], wanted);
            assert_eq!(all.len(), wanted as usize);
            assert!(all.iter().all(|part| part.range.partition >= part.origin));
            let slots: u32 = all.iter().map(|part| part.range.hi - part.range.lo).sum();
            assert_eq!(slots, SLOTS);
        }
    }
}
