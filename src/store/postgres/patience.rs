//! How long a lost connection is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// The longest time until a wait notices that it is over.
pub(super) const NOTICE: Duration = Duration::from_millis(50);

/// The time for which a server that can't be reached is tried again. Clones give up together.
#[derive(Clone, Debug)]
pub struct Patience {
    most: Option<Duration>,
    is_over: Arc<AtomicBool>,
}

impl Patience {
    /// Tries again for some time.
    pub fn of(most: Duration) -> Patience {
        Patience { most: Some(most), is_over: Arc::default() }
    }

    /// Tries again until [`Patience::give_up`].
    pub fn endless() -> Patience {
        Patience { most: None, is_over: Arc::default() }
    }

    /// Ends all waits, and those to come.
    pub fn give_up(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Begins attempts.
    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts { patience: self, began: Instant::now(), pause: PAUSES.0 }
    }
}

/// Attempts with growing pauses between them.
pub(super) struct Attempts<'a> {
    patience: &'a Patience,
    began: Instant,
    pause: Duration,
}

impl Attempts<'_> {
    /// Pauses before the next attempt. Returns false, at once, if there is to be none.
    pub(super) fn next(&mut self) -> bool {
        let most = self.patience.most;
        if self.patience.is_over() || most.is_some_and(|most| self.began.elapsed() + self.pause > most) {
            return false;
        }
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSES.1);
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() || self.patience.is_over() {
                return !self.patience.is_over();
            }
            thread::sleep(rest.min(NOTICE));
        }
    }
}
