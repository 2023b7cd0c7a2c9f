//! Reading beside the engine: what is committed, for threads that have questions.
//!
//! A question is answered from one state of the store: no batch is applied while it reads. An answer leaves once what it
//! may have seen is durable, which it mostly is already; so a question waits for a flush only when it read what that flush
//! is about.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::ChangeKind;
use crate::engine::query::changes;
use crate::kv::{Batch, Read, StoreError};
use crate::store::Reader;

use super::clock;

/// Changes that are kept for those who follow a store.
const KEPT: usize = 8_192;
/// Changes are kept until nobody has asked for them for so long.
const FOLLOWED: Duration = Duration::from_secs(120);

/// The store for reading, from any thread. Clones read the same one.
#[derive(Clone)]
pub struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once the host has given the store back. Whoever applies a batch has it alone.
    reader: RwLock<Option<Reader>>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// How many batches were applied, and how many of them are durable.
    applied: u64,
    durable: u64,
    is_over: bool,
    /// Which process this is: cursors of another one mean nothing here.
    process: i64,
    feed: VecDeque<Change>,
    /// The number of the last change that was left out of the feed.
    forgotten: u64,
    last: u64,
    /// When somebody last asked for changes.
    asked: Option<Instant>,
}

/// Something that has changed, and is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Numbers grow by one.
    pub number: u64,
    pub kind: ChangeKind,
}

/// How far somebody has followed a store.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    process: i64,
    number: u64,
}

/// What has changed since a [`Followed`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    pub changes: Vec<Change>,
    /// From where to ask on.
    pub followed: Followed,
    /// There were more than are kept, or another process has the store now: look at everything again.
    pub has_gap: bool,
}

/// The host has ended.
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

    /// Answers a question from one state of the store; returns when all of that state is durable.
    pub fn ask<R>(&self, question: impl FnOnce(&dyn Read) -> R) -> Result<R, Ended> {
        let (answer, applied) = {
            let reader = self.shared.reader.read().unwrap_or_else(PoisonError::into_inner);
            let reader = reader.as_ref().ok_or(Ended)?;
            let applied = self.progress().applied;
            (question(reader), applied)
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

    /// Lets a batch be applied while nobody reads.
    pub(super) fn apply(&self, run: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        let alone = self.shared.reader.write().unwrap_or_else(PoisonError::into_inner);
        let result = run();
        self.progress().applied += 1;
        drop(alone);
        result
    }

    /// All that was applied is durable, the batch last of all.
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
            // Whoever comes back has missed something.
            progress.last += 1;
            progress.forgotten = progress.last;
            progress.feed.clear();
        }
        drop(progress);
        self.shared.changed.notify_all();
    }

    /// Waits for changes after `followed`, for at most `patience`. Without it, returns where the store is now.
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

    /// The host gives the store back: nobody reads any more.
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

    use crate::kv::Store;
    use crate::store;

    use super::*;

    /// A question that reads what is not durable waits for that, one from before does not, and no batch is seen in part.
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
        // Whoever reads while a batch is prepared waits for nothing.
        reads.apply(|| disk.commit(&batch)).expect("a commit");
        let (sender, answer) = channel();
        let asker = thread::spawn({
            let reads = reads.clone();
            move || sender.send(reads.ask(|store| (store.get(b"a"), store.get(b"b"))))
        });
        assert!(answer.recv_timeout(Duration::from_millis(50)).is_err(), "it has left before it is durable");
        disk.flush().expect("a flush");
        reads.is_durable(&batch);
        let all = Ok((Ok(Some(vec![1])), Ok(Some(vec![1]))));
        assert_eq!(answer.recv().expect("an answer"), all);
        asker.join().expect("it ends").expect("it is sent");
        assert_eq!(read(&reads), all);
        // Who asks when all is over is told so.
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
