//! The partitions that each worker should own.
//!
//! Every worker computes the same shares from the same workers and partitions. A worker that comes
//! or goes moves few partitions.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use crate::kv::Partition;

/// Returns the worker that each partition should belong to. The workers get equal numbers, with a
/// difference of one at most. Among those with room, a partition goes to the worker with the
/// highest hash of both.
pub fn shares(workers: &[String], partitions: &[Partition]) -> BTreeMap<Partition, String> {
    if workers.is_empty() {
        return BTreeMap::new();
    }
    // The pairs in the order of their hashes: the strongest wish of any partition comes first.
    let mut wishes: Vec<(u64, Partition, &String)> = Vec::with_capacity(workers.len() * partitions.len());
    for partition in partitions {
        wishes.extend(workers.iter().map(|worker| (weight(worker, *partition), *partition, worker)));
    }
    wishes.sort_unstable_by(|one, other| other.cmp(one));
    let most = partitions.len().div_ceil(workers.len());
    let mut full = partitions.len() % workers.len();
    if full == 0 {
        full = workers.len();
    }
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for (_, partition, worker) in wishes {
        let count = counts.entry(worker).or_default();
        // Only `full` workers get the greater number.
        let has_room = *count + 1 < most || (*count + 1 == most && full > 0);
        if has_room && !shares.contains_key(&partition) {
            *count += 1;
            full -= usize::from(*count == most);
            shares.insert(partition, worker.clone());
        }
    }
    shares
}

fn weight(worker: &str, partition: Partition) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(worker.as_bytes());
    hash.update(&partition.to_be_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("worker-{number}")).collect()
    }

    #[test]
    fn every_partition_has_one_worker_and_shares_are_even() {
        for partitions in [0, 1, 2, 7, 16, 64, 100] {
            let all: Vec<Partition> = (0..partitions).collect();
            for count in 1..9 {
                let shares = shares(&workers(count), &all);
                assert_eq!(shares.len(), all.len());
                let mut counts = vec![0; count];
                for worker in shares.values() {
                    counts[workers(count).iter().position(|one| one == worker).expect("one of them")] += 1;
                }
                let (least, most) = (counts.iter().min(), counts.iter().max());
                assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{counts:?}");
            }
        }
        assert!(shares(&[], &[1, 2]).is_empty());
    }

    #[test]
    fn the_order_of_workers_does_not_matter() {
        let all: Vec<Partition> = (0..64).collect();
        let mut other = workers(5);
        other.reverse();
        assert_eq!(shares(&workers(5), &all), shares(&other, &all));
    }

    #[test]
    fn a_worker_that_comes_moves_few_partitions() {
        let all: Vec<Partition> = (0..64).collect();
        for count in 1..8 {
            let (before, after) = (shares(&workers(count), &all), shares(&workers(count + 1), &all));
            let moved = all.iter().filter(|one| before[one] != after[one]).count();
            // The new worker needs its share. The even numbers cost some more.
            assert!(moved <= 2 * all.len().div_ceil(count + 1), "{count}: {moved} moved");
        }
    }
}
