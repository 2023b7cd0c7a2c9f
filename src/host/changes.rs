//! The changes of a store, for those who follow it.
//!
//! The thread that writes only keeps whole batches, as long as somebody follows. The changes in
//! them are found on the threads of the followers, once for all of these.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::ChangeKind;
use crate::engine::query::changes;
use crate::kv::Batch;

use super::clock;

/// The number of changes that are kept for followers of a store.
const KEPT: usize = 65_536;
/// The size of the batches that wait until a follower comes, in bytes.
const MOST_BYTES: usize = 16 << 20;

/// A durable change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The number of the change; numbers grow by one.
    pub number: u64,
    pub kind: ChangeKind,
}

/// The position of a follower in the changes of a store.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    process: i64,
    number: u64,
}

impl Followed {
    /// Returns the position of these parts.
    pub fn of(process: i64, number: u64) -> Followed {
        Followed { process, number }
    }

    /// Returns the identity of the process, and the number of the last change.
    pub fn parts(self) -> (i64, u64) {
        (self.process, self.number)
    }
}

/// The changes since a [`Followed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// The position from which to continue.
    pub followed: Followed,
    /// Whether changes are missing, so that the follower must read everything again. This is so if
    /// there were more than are kept, if the follower paused for too long, or if another process
    /// has the store now.
    pub has_gap: bool,
}

/// The changes since a [`Followed`], shared by all followers.
#[derive(Clone)]
pub struct News {
    /// The changes of batches, in order. The first batch may begin before the position.
    parts: Vec<Arc<[Change]>>,
    /// The number of the last change before these.
    from: u64,
    /// The position from which to continue.
    pub followed: Followed,
    /// As in [`Changes`].
    pub has_gap: bool,
}

impl News {
    /// Returns the changes in their order.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.parts.iter().flat_map(|part| part.iter()).filter(|change| change.number > self.from)
    }

    /// Returns whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && !self.has_gap
    }

    /// Returns the number of the last change before these.
    pub fn from(&self) -> u64 {
        self.from
    }
}

impl From<News> for Changes {
    fn from(news: News) -> Changes {
        Changes { changes: news.changes().cloned().collect(), followed: news.followed, has_gap: news.has_gap }
    }
}

/// The durable batches in which no follower has looked for changes yet.
#[derive(Default)]
pub(super) struct Unseen {
    batches: Vec<Arc<Batch>>,
    bytes: usize,
    /// Whether there were more, which are not kept.
    has_lost: bool,
}

impl Unseen {
    /// Adds a batch, if anybody follows.
    pub(super) fn add(&mut self, batch: &Arc<Batch>, is_followed: bool) {
        if !is_followed {
            return self.lose();
        }
        let bytes = batch.bytes();
        if self.bytes + bytes > MOST_BYTES {
            self.lose();
        }
        if bytes <= MOST_BYTES {
            self.batches.push(batch.clone());
            self.bytes += bytes;
        }
    }

    /// Drops everything, since something has changed that is not kept or not known here.
    pub(super) fn lose(&mut self) {
        *self = Unseen { has_lost: true, ..Unseen::default() };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && !self.has_lost
    }
}

/// The last changes of a store.
pub(super) struct Feed {
    /// The identity of this process. Positions of another process mean nothing here.
    process: i64,
    parts: VecDeque<Arc<[Change]>>,
    /// The number of changes in the parts.
    count: usize,
    /// The number of the last change, and of the last one that is not kept.
    last: u64,
    forgotten: u64,
}

impl Feed {
    pub(super) fn new() -> Feed {
        Feed { process: clock::now(), parts: VecDeque::new(), count: 0, last: 0, forgotten: 0 }
    }

    /// Finds the changes in batches.
    pub(super) fn take_in(&mut self, unseen: Unseen) {
        if unseen.has_lost {
            self.parts.clear();
            self.count = 0;
            self.last += 1;
            self.forgotten = self.last;
        }
        for batch in unseen.batches {
            let first = self.last;
            let numbered = changes(&batch).into_iter().zip(1..);
            let part: Arc<[Change]> =
                numbered.map(|(kind, number)| Change { number: first + number, kind }).collect();
            self.last += part.len() as u64;
            self.count += part.len();
            if !part.is_empty() {
                self.parts.push_back(part);
            }
            while self.count > KEPT
                && let Some(oldest) = self.parts.pop_front()
            {
                self.count -= oldest.len();
                self.forgotten = oldest.last().map_or(self.forgotten, |change| change.number);
            }
        }
    }

    /// Returns the changes after a position, or the current position.
    pub(super) fn after(&self, followed: Option<Followed>) -> News {
        let now = Followed { process: self.process, number: self.last };
        let nothing = News { parts: Vec::new(), from: self.last, followed: now, has_gap: false };
        let Some(from) = followed else { return nothing };
        if from.process != self.process || from.number < self.forgotten || from.number > self.last {
            return News { has_gap: true, ..nothing };
        }
        let is_later = |part: &&Arc<[Change]>| part.last().is_some_and(|last| last.number > from.number);
        let mut parts: Vec<_> = self.parts.iter().rev().take_while(is_later).cloned().collect();
        parts.reverse();
        News { parts, from: from.number, ..nothing }
    }
}
