//! The visited configurations: each with its number, its depth, and the configuration from which it
//! was first reached.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::part::ByHash;

const SHARDS: usize = 256;

/// The record of a configuration, besides its hash.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The configuration's number; the first one has 0.
    pub number: u32,
    /// The number of the configuration from which it was first reached.
    from: u32,
    /// The number of steps of a shortest schedule to it.
    pub depth: u32,
}

/// The visited configurations.
pub struct Visited {
    shards: Vec<Mutex<ByHash<Known>>>,
    next: AtomicU32,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visited {
    pub fn new() -> Visited {
        Visited { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), next: AtomicU32::new(0) }
    }

    /// Returns the number of configurations.
    pub fn count(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Adds a configuration unless it is known. Returns its record, and whether it is new.
    pub fn insert(&self, hash: u128, from: u32, depth: u32) -> (Known, bool) {
        match lock(&self.shards[(hash >> 120) as usize % SHARDS]).entry(hash) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(place) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                (*place.insert(Known { number, from, depth }), true)
            }
        }
    }

    /// Returns the hashes on the way from the first configuration to the one with this number,
    /// without the first.
    pub fn way(&self, to: u32) -> Vec<u128> {
        let mut from = vec![0; self.count() as usize];
        for shard in &self.shards {
            for known in lock(shard).values() {
                from[known.number as usize] = known.from;
            }
        }
        let mut path = Vec::new();
        let mut at = to;
        while at != 0 {
            path.push(at);
            at = from[at as usize];
        }
        drop(from);
        let wanted: HashSet<u32> = path.iter().copied().collect();
        let mut hashes = std::collections::HashMap::new();
        for shard in &self.shards {
            for (hash, known) in lock(shard).iter() {
                if wanted.contains(&known.number) {
                    hashes.insert(known.number, *hash);
                }
            }
        }
        path.iter().rev().filter_map(|number| hashes.get(number).copied()).collect()
    }
}

/// Steps between configurations, as pairs of their numbers.
pub type Edges = Vec<Vec<(u32, u32)>>;

/// Whether these steps contain a cycle.
pub fn goes_round(count: u32, edges: &Edges) -> bool {
    let count = count as usize;
    let all = || edges.iter().flatten().copied();
    // The targets of each configuration's steps are adjacent in `to`.
    let mut first = vec![0u32; count + 1];
    let mut comes = vec![0u32; count];
    for (from, to) in all() {
        first[from as usize + 1] += 1;
        comes[to as usize] += 1;
    }
    for at in 0..count {
        first[at + 1] += first[at];
    }
    let mut to = vec![0u32; first[count] as usize];
    let mut free = first.clone();
    for (from, target) in all() {
        to[free[from as usize] as usize] = target;
        free[from as usize] += 1;
    }
    drop(free);
    // Configurations that nothing leads to are removed, again and again. The rest contains a cycle
    // (A. Kahn, 1962).
    let mut ready: Vec<u32> = (0..count as u32).filter(|at| comes[*at as usize] == 0).collect();
    let mut taken = 0;
    while let Some(at) = ready.pop() {
        taken += 1;
        let steps = first[at as usize] as usize..first[at as usize + 1] as usize;
        for target in &to[steps] {
            let comes = &mut comes[*target as usize];
            *comes -= 1;
            if *comes == 0 {
                ready.push(*target);
            }
        }
    }
    taken < count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_seen() {
        assert!(!goes_round(4, &vec![vec![(0, 1), (1, 3)], vec![(0, 2), (2, 3), (0, 3), (0, 3)]]));
        assert!(goes_round(4, &vec![vec![(0, 1), (1, 2), (2, 1), (2, 3)]]));
        assert!(goes_round(1, &vec![vec![(0, 0)]]));
        assert!(!goes_round(1, &Vec::new()));
    }

    #[test]
    fn the_way_to_a_configuration() {
        let visited = Visited::new();
        let of = |number: u128| number << 100 | number;
        visited.insert(of(10), 0, 0);
        visited.insert(of(11), 0, 1);
        visited.insert(of(12), 1, 2);
        let (known, new) = visited.insert(of(12), 0, 3);
        assert!(!new && known.number == 2 && known.depth == 2);
        assert_eq!(visited.way(2), [of(11), of(12)]);
        assert!(visited.way(0).is_empty());
    }
}
