//! How long a lost connection is waited for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// The longest time until a wait notices that it is over.
pub(super) const NOTICE: Duration = Duration::from_millis(50);

/// The age of a wait that is told of, and the time until another one is.
const TOLD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The time for which a server that can't be reached is tried again. Clones give up together.
#[derive(Clone)]
pub struct Patience {
    most: Option<Duration>,
    is_over: Arc<AtomicBool>,
    waits: Arc<Waits>,
}

/// Tells a person why something waits.
type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// The long waits that a person is told of.
#[derive(Default)]
struct Waits {
    tell: Option<Tell>,
    last: Mutex<Option<Instant>>,
}

impl Patience {
    /// Tries again for some time.
    pub fn of(most: Duration) -> Patience {
        Patience { most: Some(most), is_over: Arc::default(), waits: Arc::default() }
    }

    /// Tries again until [`Patience::give_up`].
    pub fn endless() -> Patience {
        Patience { most: None, is_over: Arc::default(), waits: Arc::default() }
    }

    /// Has a function tell a person of waits of some seconds.
    pub fn telling(self, tell: impl Fn(&str) + Send + Sync + 'static) -> Patience {
        let waits = Waits { tell: Some(Box::new(tell)), last: Mutex::default() };
        Patience { waits: Arc::new(waits), ..self }
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
    /// Pauses before the next attempt. Returns false, at once, if there is to be none. `why` says to a
    /// person why there is a wait.
    pub(super) fn next(&mut self, why: impl FnOnce() -> String) -> bool {
        let most = self.patience.most;
        if self.began.elapsed() > TOLD.0 {
            self.patience.waits.tell(why);
        }
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

impl Waits {
    /// Tells why something waits, unless something was told not long ago.
    fn tell(&self, why: impl FnOnce() -> String) {
        let Some(tell) = &self.tell else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() > TOLD.1) {
            *last = Some(Instant::now());
            tell(&why());
        }
    }
}
