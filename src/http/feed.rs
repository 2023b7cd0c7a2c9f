//! The feed of changes for many followers at once.
//!
//! One thread follows the store as long as anybody follows the feed. It takes the changes some
//! times a second, and hands each burst to all followers, who share its text. A follower that is
//! too slow loses bursts and is told of the gap; it holds up nobody.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

use crate::api::{Change, Followed};
use crate::engine::ChangeKind;
use crate::host::{Ended, News, Reads};

/// The shortest time between two bursts.
const PAUSE: Duration = Duration::from_millis(50);
/// The number of bursts that a slow follower may be behind.
const BEHIND: usize = 64;
/// The time after which the thread looks whether anybody still follows.
const LOOK: Duration = Duration::from_secs(5);

/// The source of changes for all followers.
pub struct Feed {
    reads: Reads,
    sender: Arc<Mutex<Option<Sender<Arc<Burst>>>>>,
}

/// A follower of the feed.
pub struct Follower {
    receiver: Receiver<Arc<Burst>>,
    /// The changes from before the follower came.
    backlog: Option<Burst>,
    /// The position up to which the follower has seen everything.
    seen: Followed,
}

/// Changes that came at almost the same time.
pub struct Burst {
    news: News,
    text: OnceLock<Bytes>,
    ended: OnceLock<HashSet<String>>,
}

/// The next thing that a follower hears.
pub enum Next {
    /// Changes, of which those up to the position are known already.
    Burst(Arc<Burst>, Followed),
    /// Changes are missing, and everything must be read again.
    Gap(Followed),
    /// The host has ended.
    Over,
}

impl Burst {
    fn new(news: News) -> Burst {
        Burst { news, text: OnceLock::new(), ended: OnceLock::new() }
    }

    /// Returns the position after the burst.
    pub fn position(&self) -> Followed {
        self.news.followed
    }

    /// Returns the changes after a position, in order.
    pub fn changes(&self, seen: Followed) -> impl DoubleEndedIterator<Item = &Change> {
        let (process, number) = seen.parts();
        let is_new = process != self.news.followed.parts().0;
        self.news.changes().filter(move |change| is_new || change.number > number)
    }

    /// Returns the text of the whole burst, which `write` makes once; `None` if a follower has seen
    /// a part of the burst.
    pub fn text(&self, seen: Followed, write: impl FnOnce(&Burst) -> Bytes) -> Option<Bytes> {
        let is_whole = seen.parts().1 <= self.news.from();
        is_whole.then(|| self.text.get_or_init(|| write(self)).clone())
    }

    /// Returns whether an instance may have ended or was removed in this burst.
    pub fn has_ended(&self, id: &str) -> bool {
        let ended = self.ended.get_or_init(|| {
            let ended = self.news.changes().filter_map(|change| match &change.kind {
                ChangeKind::Instance { id, ended: Some(_), .. } | ChangeKind::Removed { id } => Some(id),
                _ => None,
            });
            ended.cloned().collect()
        });
        ended.contains(id)
    }
}

impl Feed {
    pub fn new(reads: Reads) -> Feed {
        Feed { reads, sender: Arc::default() }
    }

    /// Follows the feed from a position, or from now on. Takes no time.
    pub fn follow(&self, from: Option<Followed>) -> Result<Follower, Ended> {
        let receiver = self.receiver();
        // The backlog is read after the receiver is there, so that nothing falls between.
        let now = self.reads.news(from, Duration::ZERO)?;
        let (process, _) = now.followed.parts();
        let seen = if now.has_gap { now.followed } else { Followed::of(process, now.from()) };
        let backlog = (!now.is_empty()).then(|| Burst::new(now));
        Ok(Follower { receiver, backlog, seen })
    }

    fn receiver(&self) -> Receiver<Arc<Burst>> {
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
fn pump(reads: &Reads, sender: &Sender<Arc<Burst>>, place: &Mutex<Option<Sender<Arc<Burst>>>>) {
    let mut followed = None;
    while let Ok(news) = reads.news(followed, LOOK) {
        followed = Some(news.followed);
        let has_news = !news.is_empty();
        if has_news {
            // Without followers, nobody misses the changes.
            let _ = sender.send(Arc::new(Burst::new(news)));
        }
        {
            // A new follower subscribes under the same lock.
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.receiver_count() == 0 {
                *place = None;
                return;
            }
        }
        if has_news {
            thread::sleep(PAUSE);
        }
    }
    *place.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

impl Follower {
    /// The position up to which the follower has seen everything.
    pub fn position(&self) -> Followed {
        self.seen
    }

    /// Passes over everything that has come. Returns whether there was anything.
    pub fn skip(&mut self) -> bool {
        let mut any = self.backlog.take().is_some();
        loop {
            match self.receiver.try_recv() {
                Ok(burst) => (self.seen, any) = (burst.position(), true),
                Err(TryRecvError::Lagged(_)) => any = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return any,
            }
        }
    }

    /// Waits for news.
    pub async fn next(&mut self) -> Next {
        if let Some(backlog) = self.backlog.take() {
            let before = self.seen;
            self.seen = backlog.position();
            return match backlog.news.has_gap {
                true => Next::Gap(self.seen),
                false => Next::Burst(Arc::new(backlog), before),
            };
        }
        let mut is_behind = false;
        loop {
            match self.receiver.recv().await {
                Ok(burst) if burst.news.has_gap || is_behind => {
                    self.seen = burst.position();
                    return Next::Gap(self.seen);
                }
                Ok(burst) => {
                    let (before, now) = (self.seen, burst.position());
                    if before.parts().0 != now.parts().0 || now.parts().1 > before.parts().1 {
                        self.seen = now;
                        return Next::Burst(burst, before);
                    }
                }
                // The next burst tells the position.
                Err(RecvError::Lagged(_)) => is_behind = true,
                Err(RecvError::Closed) => return Next::Over,
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
