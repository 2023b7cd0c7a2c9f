//! Zones: the knowledge about instants that nobody measures, as an upper bound on each difference
//! (D. Dill, *Timing assumptions and verification of finite-state concurrent systems*, 1989).
//!
//! The first two instants of a zone are the present and the beginning of time. [`NEVER`] means no
//! bound.

/// No bound.
pub const NEVER: i64 = i64::MAX;
/// The numbers of the present and of the beginning of time in a zone, and the count of these two.
pub const NOW: usize = 0;
pub const BEGINNING: usize = 1;
pub const OWN: usize = 2;

/// The tightest bounds on how far instants may lie apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone {
    size: usize,
    /// The bounds on how much later one instant may be than another, with a row for each instant.
    bounds: Vec<i64>,
}

impl Default for Zone {
    /// Returns a zone in which nothing is known about the beginning.
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
    /// Returns the zone of the beginning: the present is the beginning of time.
    pub fn at_the_beginning() -> Zone {
        Zone { size: OWN, bounds: vec![0; OWN * OWN] }
    }

    /// Returns the most by which one instant may be later than another.
    pub fn later(&self, one: usize, other: usize) -> i64 {
        self.bounds[one * self.size + other]
    }

    fn set(&mut self, one: usize, other: usize, bound: i64) {
        self.bounds[one * self.size + other] = bound;
    }

    /// Adds an instant that is later than a known one by between `least` and `most`.
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

    /// Removes an instant that no longer matters.
    pub fn remove(&mut self, at: usize) {
        let kept = |n: &usize| n % self.size != at && n / self.size != at;
        self.bounds = (0..self.bounds.len()).filter(kept).map(|n| self.bounds[n]).collect();
        self.size -= 1;
    }

    /// Restricts the zone: one instant is later than another by at most `bound`.
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

    /// Lets any amount of time pass, but not beyond the given instants.
    pub fn pass(&mut self, not_beyond: &[usize]) {
        for to in (0..self.size).filter(|to| *to != NOW) {
            let bound = not_beyond.iter().map(|until| self.later(*until, to)).min();
            self.set(NOW, to, bound.unwrap_or(NEVER));
        }
    }

    /// Forgets how late an instant may be, where this no longer matters.
    pub fn forget(&mut self, at: usize) {
        for other in (0..self.size).filter(|other| *other != at) {
            self.set(at, other, NEVER);
        }
    }

    /// Rounds the bounds of timers: a distance beyond all bounds becomes one a little beyond all
    /// bounds, which has the same effect.
    pub fn round(&mut self) {
        let known = self.bounds.iter().filter(|bound| **bound != NEVER);
        let least = -known.copied().max().unwrap_or(0) - 1;
        for at in (0..self.bounds.len()).filter(|at| at / self.size >= OWN) {
            self.bounds[at] = self.bounds[at].max(least);
        }
    }
}
