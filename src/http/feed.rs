//! The feed of changes for many followers at once.
//!
//! One thread follows the store as long as anybody follows the feed, and hands each batch of
//! changes to all followers. A follower that is too slow loses changes and is told of the gap; it
//! holds up nobody.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::api::{Changes, Followed};
use crate::host::{Ended, Reads};

/// The number of batches that a slow follower may be behind.
const BEHIND: usize = 1_024;
/// The time after which the thread looks whether anybody still follows.
const LOOK: Duration = Duration::from_secs(5);

/// The source of changes for all followers.
pub struct Feed {
    reads: Reads,
    sender: Arc<Mutex<Option<Sender<Arc<Changes>>>>>,
}

/// A follower of the feed.
pub struct Follower {
    receiver: Receiver<Arc<Changes>>,
    /// The changes from before the follower came.
    backlog: Option<Changes>,
    /// The position up to which the follower has seen everything.
    seen: Followed,
}

/// The changes since the last ones.
pub enum News {
    Changes(Arc<Changes>),
    /// Changes are missing, and everything must be read again.
    Gap(Followed),
    /// The host has ended.
    Over,
}

impl Feed {
    pub fn new(reads: Reads) -> Feed {
        Feed { reads, sender: Arc::default() }
    }

    /// Follows the feed from a position, or from now on. Takes no time.
    pub fn follow(&self, from: Option<Followed>) -> Result<Follower, Ended> {
        let receiver = self.receiver();
        // The backlog is read after the receiver is there, so that nothing falls between.
        let now = self.reads.changes(from, Duration::ZERO)?;
        let seen = now.followed;
        let backlog = (now.has_gap || !now.changes.is_empty()).then_some(now);
        Ok(Follower { receiver, backlog, seen })
    }

    fn receiver(&self) -> Receiver<Arc<Changes>> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*sender {
            return sender.subscribe();
        }
        let (new, receiver) = channel(BEHIND);
        *sender = Some(new.clone());
        drop(sender);
        let (reads, place) = (self.reads.clone(), self.sender.clone());
        let begun = thread::Builder::new().name("feed".into()).spawn(move || pump(&reads, &new, &place));
        if begun.is_err() {
            // Followers see the end of the feed, and come again.
            *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        receiver
    }
}

/// Hands changes to the followers, until there are none or the host has ended.
fn pump(reads: &Reads, sender: &Sender<Arc<Changes>>, place: &Mutex<Option<Sender<Arc<Changes>>>>) {
    let mut followed = None;
    while let Ok(changes) = reads.changes(followed, LOOK) {
        followed = Some(changes.followed);
        if changes.has_gap || !changes.changes.is_empty() {
            // Without followers, nobody misses the changes.
            let _ = sender.send(Arc::new(changes));
        }
        // A new follower subscribes under the same lock.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.receiver_count() == 0 {
            *place = None;
            return;
        }
    }
    *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

impl Follower {
    /// The position up to which the follower has seen everything.
    pub fn position(&self) -> Followed {
        self.seen
    }

    /// Waits for news.
    pub async fn next(&mut self) -> News {
        if let Some(backlog) = self.backlog.take() {
            return match backlog.has_gap {
                true => News::Gap(backlog.followed),
                false => News::Changes(Arc::new(backlog)),
            };
        }
        loop {
            match self.receiver.recv().await {
                Ok(changes) if changes.has_gap => {
                    self.seen = changes.followed;
                    return News::Gap(changes.followed);
                }
                Ok(changes) => {
                    let before = self.seen;
                    if changes.followed.is_after(before) {
                        self.seen = changes.followed;
                        return News::Changes(Arc::new(changes.after(before)));
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    // The next batch tells the position.
                    match self.receiver.recv().await {
                        Ok(changes) => {
                            self.seen = changes.followed;
                            return News::Gap(changes.followed);
                        }
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return News::Over,
                    }
                }
                Err(RecvError::Closed) => return News::Over,
            }
        }
    }
}

/// A position in the feed, as a client writes it.
pub struct Position(pub Followed);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (process, number) = self.0.parts();
        write!(f, "{process:x}-{number:x}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Position, ()> {
        let (process, number) = text.split_once('-').ok_or(())?;
        let process = i64::from_str_radix(process, 16).map_err(|_| ())?;
        let number = u64::from_str_radix(number, 16).map_err(|_| ())?;
        Ok(Position(Followed::of(process, number)))
    }
}
