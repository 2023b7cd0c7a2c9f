//! Reads of committed data beside the engine, for queries on other threads.
//!
//! A query sees one state of the store, since no batch is applied meanwhile. Its answer leaves once
//! everything that it may have read is durable, which is mostly the case already. So a query waits
//! for a flush only if the state that it read is part of that flush.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::ChangeKind;
use crate::engine::query::changes;
use crate::kv::{Batch, Read, Reader, StoreError};

use super::clock;

/// The number of changes that are kept for followers of a store.
const KEPT: usize = 8_192;
/// The time for which changes are kept after the last follower asked for them.
const FOLLOWED: Duration = Duration::from_secs(120);

/// The store for reading, from any thread. Clones read the same store.
#[derive(Clone)]
pub struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    /// The store, or `None` once the host has given it back. Applying a batch takes the write lock.
    reader: RwLock<Option<Reader>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// The number of batches that were applied, and the number of these that are durable.
    applied: u64,
    durable: u64,
    is_over: bool,
    /// The identity of this process. Cursors of another process mean nothing here.
    process: i64,
    feed: VecDeque<Change>,
    /// The number of the last change that was dropped from the feed.
    forgotten: u64,
    last: u64,
    /// The time at which a follower last asked for changes.
    asked: Option<Instant>,
}

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

    /// Whether this position comes after another one of the same process. Positions of different
    /// processes have no order, and count as later.
    pub fn is_after(self, other: Followed) -> bool {
        self.process != other.process || self.number > other.number
    }
}

impl Changes {
    /// Returns the changes after a position.
    pub fn after(&self, from: Followed) -> Changes {
        let later = self
            .changes
            .iter()
            .filter(|change| from.process != self.followed.process || change.number > from.number);
        Changes { changes: later.cloned().collect(), ..*self }
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

/// The error that the host has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended;

impl Reads {
    pub(super) fn new(reader: Reader) -> Reads {
        let progress = Progress {
            applied: 0,
            durable: 0,
            is_over: false,
            process: clock::now(),
            feed: VecDeque::new(),
            forgotten: 0,
            last: 0,
            asked: None,
        };
        let reader = RwLock::new(Some(reader));
        Reads { shared: Arc::new(Shared { reader, progress: Mutex::new(progress), changed: Condvar::new() }) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a query from one state of the store. Returns when all of that state is durable.
    pub fn ask<R>(&self, question: impl FnOnce(&dyn Read) -> R) -> Result<R, Ended> {
        let (answer, applied) = {
            let reader = self.shared.reader.read().unwrap_or_else(PoisonError::into_inner);
            let reader = reader.as_ref().ok_or(Ended)?;
            let applied = self.progress().applied;
            (question(reader.as_read()), applied)
        };
        let mut progress = self.progress();
        while progress.durable < applied {
            if progress.is_over {
                return Err(Ended);
            }
            progress = self.shared.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(answer)
    }

    /// Returns the number of batches that were applied.
    pub fn commits(&self) -> u64 {
        self.progress().applied
    }

    /// Applies a batch while no query reads.
    pub(super) fn apply(&self, run: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let alone = self.shared.reader.write().unwrap_or_else(PoisonError::into_inner);
        let result = run();
        self.progress().applied += 1;
        drop(alone);
        result
    }

    /// Notes that everything applied so far is durable; `batch` was the last one applied.
    pub(super) fn is_durable(&self, batch: &Batch) {
        let mut progress = self.progress();
        progress.durable = progress.applied;
        if progress.asked.is_some_and(|asked| asked.elapsed() < FOLLOWED) {
            for kind in changes(batch) {
                progress.last += 1;
                let number = progress.last;
                progress.feed.push_back(Change { number, kind });
            }
            while progress.feed.len() > KEPT {
                progress.forgotten = progress.feed.pop_front().map_or(0, |change| change.number);
            }
        } else {
            // A follower that returns has missed changes.
            progress.last += 1;
            progress.forgotten = progress.last;
            progress.feed.clear();
        }
        drop(progress);
        self.shared.changed.notify_all();
    }

    /// Waits for changes after `followed`, for at most `patience`. Without `followed`, returns the
    /// current position.
    pub fn changes(&self, followed: Option<Followed>, patience: Duration) -> Result<Changes, Ended> {
        let until = Instant::now() + patience;
        let mut progress = self.progress();
        loop {
            if progress.is_over {
                return Err(Ended);
            }
            let was_followed = progress.asked.is_some_and(|asked| asked.elapsed() < FOLLOWED);
            progress.asked = Some(Instant::now());
            let now = Followed { process: progress.process, number: progress.last };
            let Some(from) = followed else {
                return Ok(Changes { changes: Vec::new(), followed: now, has_gap: false });
            };
            if from.process != progress.process || from.number < progress.forgotten || !was_followed {
                return Ok(Changes { changes: Vec::new(), followed: now, has_gap: true });
            }
            if from.number < progress.last {
                let after = progress.feed.iter().filter(|change| change.number > from.number);
                return Ok(Changes { changes: after.cloned().collect(), followed: now, has_gap: false });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Changes { changes: Vec::new(), followed: now, has_gap: false });
            }
            let waited = self.shared.changed.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends all reads, since the host gives the store back.
    pub(super) fn end(&self) {
        self.progress().is_over = true;
        self.shared.changed.notify_all();
        *self.shared.reader.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use tempfile::TempDir;

    use crate::kv::{SharedStore, Store};
    use crate::store;

    use super::*;

    /// A query that reads data that is not durable waits for the flush; an earlier query does not.
    /// No query sees a part of a batch.
    #[test]
    fn answers_are_durable_when_they_leave() {
        let folder = TempDir::new().expect("a folder");
        let mut disk = store::open(folder.path()).expect("a store");
        let reads = Reads::new(disk.reader());
        let read = |reads: &Reads| reads.ask(|store| (store.get(b"a"), store.get(b"b")));
        let nothing = Ok((Ok(None), Ok(None)));
        assert_eq!(read(&reads), nothing);
        let mut batch = Batch::default();
        batch.put(b"a".to_vec(), vec![1]);
        batch.put(b"b".to_vec(), vec![1]);
        // A query that reads while a batch is prepared does not wait.
        reads.apply(|| disk.commit(&batch)).expect("a commit");
        let (sender, answer) = channel();
        let asker = thread::spawn({
            let reads = reads.clone();
            move || {
                let answer = reads.ask(|store| (store.get(b"a"), store.get(b"b")));
                sender.send(answer).is_ok()
            }
        });
        assert!(answer.recv_timeout(Duration::from_millis(50)).is_err(), "it has left before it is durable");
        disk.flush().expect("a flush");
        reads.is_durable(&batch);
        let all = Ok((Ok(Some(vec![1])), Ok(Some(vec![1]))));
        assert_eq!(answer.recv().expect("an answer"), all);
        assert!(asker.join().expect("it ends"), "it is sent");
        assert_eq!(read(&reads), all);
        // A query after the end gets an error.
        reads.apply(|| Ok(())).expect("a commit");
        let waiting = thread::spawn({
            let reads = reads.clone();
            move || reads.ask(|_| ())
        });
        reads.end();
        assert_eq!(waiting.join().expect("it ends"), Err(Ended));
        assert_eq!(read(&reads), Err(Ended));
        disk.close().expect("it ends");
    }
}
