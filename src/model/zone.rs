//! What is known of instants that nobody measures: differences between them, each with an upper bound (D. Dill, *Timing
//! assumptions and verification of finite-state concurrent systems*, 1989).
//!
//! The first two instants of a zone are now, and when time began. A bound of [`NEVER`] is none.

/// No bound.
pub const NEVER: i64 = i64::MAX;
/// The number of now among the instants of a zone, that of the beginning of time, and how many there are beside what was set.
pub const NOW: usize = 0;
pub const BEGINNING: usize = 1;
pub const OWN: usize = 2;

/// How far instants may lie apart: all that is possible, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone {
    size: usize,
    /// By how much an instant may be later than another, at most: a row for each.
    bounds: Vec<i64>,
}

impl Default for Zone {
    /// Of the beginning nothing is known.
    fn default() -> Zone {
        Zone { size: OWN, bounds: vec![0, NEVER, NEVER, 0] }
    }
}

fn sum(a: i64, b: i64) -> i64 {
    match a == NEVER || b == NEVER {
        true => NEVER,
        false => a.saturating_add(b).min(NEVER - 1),
    }
}

impl Zone {
    /// It is the beginning.
    pub fn at_the_beginning() -> Zone {
        Zone { size: OWN, bounds: vec![0; OWN * OWN] }
    }

    /// By how much one instant may be later than another, at most.
    pub fn later(&self, one: usize, other: usize) -> i64 {
        self.bounds[one * self.size + other]
    }

    fn set(&mut self, one: usize, other: usize, bound: i64) {
        self.bounds[one * self.size + other] = bound;
    }

    /// A new instant, so long after one that is known, at least and at most.
    pub fn insert(&mut self, at: usize, after: usize, least: i64, most: i64) {
        let row: Vec<i64> = (0..self.size).map(|other| sum(self.later(after, other), most)).collect();
        let column: Vec<i64> =
            (0..self.size).map(|one| sum(self.later(one, after), least.saturating_neg())).collect();
        let mut bounds = Vec::with_capacity((self.size + 1) * (self.size + 1));
        for one in 0..=self.size {
            for other in 0..=self.size {
                let known = |n: usize| if n > at { n - 1 } else { n };
                bounds.push(match (one == at, other == at) {
                    (true, true) => 0,
                    (true, false) => row[known(other)],
                    (false, true) => column[known(one)],
                    (false, false) => self.later(known(one), known(other)),
                });
            }
        }
        (self.size, self.bounds) = (self.size + 1, bounds);
    }

    /// An instant that does not matter any more.
    pub fn remove(&mut self, at: usize) {
        let kept = |n: &usize| n % self.size != at && n / self.size != at;
        self.bounds = (0..self.bounds.len()).filter(kept).map(|n| self.bounds[n]).collect();
        self.size -= 1;
    }

    /// Only that is possible any more in which one instant is later than another by so much at most.
    pub fn meet(&mut self, one: usize, other: usize, bound: i64) {
        if bound >= self.later(one, other) {
            return;
        }
        for from in 0..self.size {
            let way = sum(self.later(from, one), bound);
            if way == NEVER {
                continue;
            }
            for to in 0..self.size {
                let way = sum(way, self.later(other, to));
                if way < self.later(from, to) {
                    self.set(from, to, way);
                }
            }
        }
    }

    /// Time passes, as long as it likes, but beyond none of some instants.
    pub fn pass(&mut self, not_beyond: &[usize]) {
        for to in (0..self.size).filter(|to| *to != NOW) {
            let bound = not_beyond.iter().map(|until| self.later(*until, to)).min();
            self.set(NOW, to, bound.unwrap_or(NEVER));
        }
    }

    /// It does not matter any more how late an instant may be.
    pub fn forget(&mut self, at: usize) {
        for other in (0..self.size).filter(|other| *other != at) {
            self.set(at, other, NEVER);
        }
    }

    /// That something is earlier by more than all that it may be later by is as good as by a little more than that.
    pub fn round(&mut self) {
        let known = self.bounds.iter().filter(|bound| **bound != NEVER);
        let least = -known.copied().max().unwrap_or(0) - 1;
        for at in (0..self.bounds.len()).filter(|at| at / self.size >= OWN) {
            self.bounds[at] = self.bounds[at].max(least);
        }
    }
}
