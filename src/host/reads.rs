//! Reads of committed data beside the engine, for queries on other threads.
//!
//! A query sees one state of the store, since no batch is applied meanwhile. Its answer leaves once
//! everything that it may have read is durable, which is mostly the case already. So a query waits
//! for a flush only if the state that it read is part of that flush.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::kv::{Batch, Read, Reader, StoreError};

use super::changes::{Changes, Feed, Followed, News, Unseen};
use super::measures::Measures;

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
    /// Whoever locks this and the progress locks this first.
    feed: Mutex<Feed>,
    changed: Condvar,
    measures: Measures,
}

struct Progress {
    /// The number of batches that were applied, and the number of these that are durable.
    applied: u64,
    durable: u64,
    is_over: bool,
    unseen: Unseen,
    /// The time at which a follower last asked for changes.
    asked: Option<Instant>,
}

impl Progress {
    /// Whether somebody follows the changes.
    fn is_followed(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < FOLLOWED)
    }
}

/// The error that the host has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended;

impl Reads {
    /// Returns reads of a store. If other hosts write the store, [`Reads::changed`] tells of their
    /// changes.
    pub(crate) fn new(reader: Reader) -> Reads {
        let progress =
            Progress { applied: 0, durable: 0, is_over: false, unseen: Unseen::default(), asked: None };
        let shared = Shared {
            reader: RwLock::new(Some(reader)),
            progress: Mutex::new(progress),
            feed: Mutex::new(Feed::new()),
            changed: Condvar::new(),
            measures: Measures::default(),
        };
        Reads { shared: Arc::new(shared) }
    }

    /// Adds the changes of a durable batch for followers.
    pub(crate) fn changed(&self, batch: &Batch) {
        let is_followed = {
            let mut progress = self.progress();
            progress.applied += 1;
            progress.is_followed()
        };
        let batch = if is_followed { batch.clone() } else { Batch::default() };
        self.is_durable(&Arc::new(batch));
    }

    /// Lets followers read everything again, because something has changed that is not known here.
    pub(crate) fn has_gap(&self) {
        self.progress().unseen.lose();
        self.shared.changed.notify_all();
    }

    /// Whether somebody follows the changes.
    pub(crate) fn is_followed(&self) -> bool {
        self.progress().is_followed()
    }

    /// Makes the last question of a follower one of long ago.
    #[cfg(test)]
    pub(crate) fn forget_followers(&self) {
        self.progress().asked = None;
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

    /// Returns the measurements of the host.
    pub fn measures(&self) -> &Measures {
        &self.shared.measures
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
    pub(super) fn is_durable(&self, batch: &Arc<Batch>) {
        let mut progress = self.progress();
        progress.durable = progress.applied;
        let is_followed = progress.is_followed();
        progress.unseen.add(batch, is_followed);
        drop(progress);
        self.shared.changed.notify_all();
    }

    /// Waits for changes after `followed`, for at most `patience`. Without `followed`, returns the
    /// current position.
    pub fn news(&self, followed: Option<Followed>, patience: Duration) -> Result<News, Ended> {
        let until = Instant::now() + patience;
        loop {
            let news = {
                let mut feed = self.shared.feed.lock().unwrap_or_else(PoisonError::into_inner);
                let mut progress = self.progress();
                if progress.is_over {
                    return Err(Ended);
                }
                progress.asked = Some(Instant::now());
                let unseen = std::mem::take(&mut progress.unseen);
                drop(progress);
                feed.take_in(unseen);
                feed.after(followed)
            };
            if followed.is_none() || !news.is_empty() {
                return Ok(news);
            }
            let mut progress = self.progress();
            while progress.unseen.is_empty() && !progress.is_over {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(news);
                }
                let waited = self.shared.changed.wait_timeout(progress, left);
                progress = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// As [`Reads::news`], with changes of the caller's own.
    pub fn changes(&self, followed: Option<Followed>, patience: Duration) -> Result<Changes, Ended> {
        self.news(followed, patience).map(Changes::from)
    }

    /// Ends all reads, since the host gives the store back.
    pub(crate) fn end(&self) {
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
        let batch = Arc::new(batch);
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
