//! A database of several partitions in memory, with the one operation by which partitions write.
//!
//! This is what `commit` of the schema does, in the words of a model: the fence, the number of the
//! commit, the writes, what is sent and what is consumed happen together or not at all. Faults can
//! be put in, to check that the worlds find them.

use std::collections::BTreeMap;

use durable::engine::{Placement, divide, keys, placement::SlotRange};
use durable::kv::{Arrival, Batch, MemoryTree, Partition, Receipt, Source, Store};

use super::partition::{self, View};

/// A rule of the database or of its clients that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Broken {
    /// The fence is looked at, and the writes follow later.
    FenceWithoutLock,
    /// After a lost answer, a worker looks whether its commit is there, and goes on without it.
    LookThenDecide,
    /// What is sent has numbers of one sequence for all, in the order of requests, and a receiver
    /// reads after the last number that it has seen.
    GlobalSerial,
    /// What waits for a partition that is split stays where it is.
    SplitLeavesMail,
    /// The owners of the other partitions go on after a split, with the old places.
    SplitLeavesOwners,
    /// What a partition sent before it was split may come after what the new partition sends.
    SplitInAnyOrder,
    /// Only the epoch tells the owners of a partition apart.
    EpochWithoutToken,
}

/// A request to commit.
#[derive(Clone)]
pub struct Commit {
    pub part: Partition,
    pub epoch: u64,
    pub token: u64,
    /// The number of the commit. Those of a partition are consecutive.
    pub number: u64,
    pub batch: Batch,
    /// The number in the sequence for all, which only [`Broken::GlobalSerial`] uses.
    pub serial: u64,
}

/// The answer to a request to commit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Committed,
    /// The same commit was here before.
    Landed,
    /// Another owner has the partition.
    Deposed,
    /// The last commit is not the one before.
    Lost,
    /// Something that the batch consumes is not there.
    TakenTwice,
}

/// The owner and the last commit of a partition.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub epoch: u64,
    pub token: u64,
    /// The number and the token of the last commit.
    pub last: (u64, u64),
}

#[derive(Clone)]
pub struct Database {
    pub tree: MemoryTree,
    pub parts: BTreeMap<Partition, Part>,
    /// What is on its way: receiver, sender and number.
    pub transit: BTreeMap<(Partition, Partition, u64), Vec<u8>>,
    pub ranges: Vec<SlotRange>,
    /// The partition that each one was split off from.
    pub origins: BTreeMap<Partition, Partition>,
    pub broken: Option<Broken>,
}

impl Database {
    pub fn new(partitions: u16, broken: Option<Broken>) -> Database {
        let parts = (0..Partition::from(partitions)).map(|part| (part, Part::default())).collect();
        let ranges = durable::engine::placement::even(partitions.into());
        let (transit, origins) = (BTreeMap::new(), BTreeMap::new());
        Database { tree: MemoryTree::default(), parts, transit, ranges, origins, broken }
    }

    pub fn placement(&self, own: Partition) -> Placement {
        Placement::new(own, self.ranges.clone()).expect("ranges that cover all slots")
    }

    /// Takes a partition over: earlier owners can't commit any more.
    pub fn take_over(&mut self, part: Partition, token: u64) -> Part {
        let row = self.parts.get_mut(&part).expect("a partition");
        (row.epoch, row.token) = (row.epoch + 1, token);
        row.clone()
    }

    /// Returns what the fence says of a request, or `None` if the request may be carried out.
    pub fn fence(&self, request: &Commit) -> Option<Answer> {
        let part = &self.parts[&request.part];
        let is_loose = self.broken == Some(Broken::EpochWithoutToken);
        let is_owner = part.epoch == request.epoch && (part.token == request.token || is_loose);
        let (last, by) = part.last;
        match () {
            () if !is_owner => Some(Answer::Deposed),
            () if last == request.number && (by == request.token || is_loose) => Some(Answer::Landed),
            () if last + 1 != request.number => Some(Answer::Lost),
            () => None,
        }
    }

    /// Carries out a request to commit.
    pub fn commit(&mut self, request: &Commit) -> Answer {
        if let Some(refusal) = self.fence(request) {
            return refusal;
        }
        let key = |receipt: &Receipt| match receipt.source {
            Source::Partition(from) => (request.part, from, receipt.number),
            Source::Client => panic!("no client is in this world"),
        };
        let consumed: Vec<_> = request.batch.transit.consumed.iter().map(key).collect();
        if !consumed.iter().all(|key| self.transit.contains_key(key)) {
            return Answer::TakenTwice;
        }
        self.write(request);
        Answer::Committed
    }

    /// Writes what a request says.
    pub fn write(&mut self, request: &Commit) {
        for receipt in &request.batch.transit.consumed {
            if let Source::Partition(from) = receipt.source {
                self.transit.remove(&(request.part, from, receipt.number));
            }
        }
        let placement = self.placement(request.part);
        let own = |key: &[u8]| partition::key_of(Some(&placement), key.to_vec());
        let writes: Vec<_> =
            request.batch.writes.iter().map(|(key, value)| (own(key), value.clone())).collect();
        self.tree.commit(&writes.into()).expect("memory can be written");
        let number = match self.broken {
            Some(Broken::GlobalSerial) => request.serial,
            _ => request.number,
        };
        for (to, body) in &request.batch.transit.sends {
            self.transit.insert((*to, request.part, number), body.clone());
        }
        self.parts.get_mut(&request.part).expect("a partition").last = (request.number, request.token);
    }

    /// Returns what was sent to a partition and is not consumed, sender by sender, each in order.
    pub fn arrivals(&self, to: Partition) -> Vec<Arrival> {
        let rows = self.transit.range((to, 0, 0)..=(to, Partition::MAX, u64::MAX));
        rows.map(|((_, from, number), body)| Arrival {
            receipt: Receipt { source: Source::Partition(*from), number: *number },
            body: body.clone(),
        })
        .collect()
    }

    pub fn view<'a>(&'a self, placement: &'a Placement) -> View<'a> {
        View { tree: &self.tree, placement: Some(placement) }
    }

    /// Whether what one sender sent must come before what another one sends: the other was split off
    /// from it.
    pub fn comes_first(&self, one: Source, other: Source) -> bool {
        let (Source::Partition(one), Source::Partition(mut other)) = (one, other) else { return false };
        if self.broken == Some(Broken::SplitInAnyOrder) {
            return false;
        }
        while let Some(origin) = self.origins.get(&other) {
            other = *origin;
            if other == one {
                return true;
            }
        }
        false
    }

    /// Splits a partition, and returns the new one; `None` if it has one slot alone. Nobody can
    /// commit any more before the partition was taken over anew.
    pub fn split(&mut self, part: Partition, tokens: &mut u64) -> Option<Partition> {
        let new = self.parts.len() as Partition;
        let at = self.ranges.iter().position(|range| range.partition == part && range.hi - range.lo > 1)?;
        let SlotRange { lo, hi, .. } = self.ranges[at];
        let middle = lo.midpoint(hi);
        self.ranges[at].hi = middle;
        self.ranges.push(SlotRange { lo: middle, hi, partition: new });
        self.parts.insert(new, Part::default());
        self.origins.insert(new, part);
        for (other, row) in &mut self.parts {
            if self.broken != Some(Broken::SplitLeavesOwners) || *other == part {
                *tokens += 1;
                (row.epoch, row.token) = (row.epoch + 1, *tokens);
            }
        }
        // The new partition has reached the time and the lives of the old one, and knows what it
        // knew of deployments.
        let (from, to) = (self.placement(part), self.placement(new));
        for key in [keys::LIFE, keys::TIME, keys::DEPLOYMENTS, keys::CANONICAL] {
            if let Some(value) = self.tree.tree.get(&partition::key_of(Some(&from), key.to_vec())).cloned() {
                self.tree.tree.insert(partition::key_of(Some(&to), key.to_vec()), value);
            }
        }
        if self.broken != Some(Broken::SplitLeavesMail) {
            for ((_, sender, number), body) in self.taken_transit(part) {
                for (receiver, body) in divide(&to, &body).expect("a body of this version") {
                    self.transit.insert((receiver, sender, number), body);
                }
            }
        }
        Some(new)
    }

    fn taken_transit(&mut self, to: Partition) -> BTreeMap<(Partition, Partition, u64), Vec<u8>> {
        let (taken, rest) = std::mem::take(&mut self.transit).into_iter().partition(|(key, _)| key.0 == to);
        self.transit = rest;
        taken
    }
}
