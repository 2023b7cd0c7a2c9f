//! The time of a store, which never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The lag of the wall clock that is worth a note, in nanoseconds.
const BEHIND: i64 = 60_000_000_000;

/// Returns the system's wall clock, in nanoseconds since 1970. The clock can be set, and so can go
/// back.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A clock that threads share. Its time is the greatest of all times that a store has recorded and
/// that the wall clock has shown, each advanced by the monotonic clock since. So a wall clock that
/// is set back stops nothing.
#[derive(Clone)]
pub struct Clock(Arc<Shared>);

struct Shared {
    wall: Box<dyn Fn() -> i64 + Send + Sync>,
    began: Instant,
    /// The lead of the time over the monotonic clock, in nanoseconds.
    ahead: AtomicI64,
    is_noted: AtomicBool,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::with_wall(now)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Clock {
    /// Returns a clock that follows another wall clock, which gives nanoseconds since 1970.
    pub fn with_wall(wall: impl Fn() -> i64 + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(Shared {
            wall: Box::new(wall),
            began: Instant::now(),
            ahead: AtomicI64::new(i64::MIN),
            is_noted: AtomicBool::new(false),
        }))
    }

    /// Returns the time in nanoseconds since 1970, which is never less than before.
    pub fn now(&self) -> i64 {
        self.reach((self.0.wall)())
    }

    /// Returns the time like [`Clock::now`], for a store that has recorded the given time.
    pub fn now_after(&self, recorded: i64) -> i64 {
        self.reach((self.0.wall)().max(recorded))
    }

    /// Advances the time to at least this one, and returns the time.
    pub fn reach(&self, time: i64) -> i64 {
        let elapsed = i64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let ahead = time.saturating_sub(elapsed);
        // The value only grows, so a relaxed ordering suffices.
        let most = self.0.ahead.fetch_max(ahead, Ordering::Relaxed).max(ahead);
        most.saturating_add(elapsed)
    }

    /// Returns the lag of the wall clock, the first time that it exceeds a minute.
    pub fn note(&self) -> Option<Duration> {
        let behind = self.now().saturating_sub((self.0.wall)());
        let is_news = behind > BEHIND && !self.0.is_noted.swap(true, Ordering::Relaxed);
        is_news.then(|| Duration::from_nanos(behind.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_wall_clock_forward_and_not_back() {
        let wall = Arc::new(AtomicI64::new(1_000_000_000_000_000));
        let shown = wall.clone();
        let clock = Clock::with_wall(move || shown.load(Ordering::Relaxed));
        let first = clock.now();
        assert!(first >= 1_000_000_000_000_000);
        wall.fetch_add(5_000_000_000, Ordering::Relaxed);
        let second = clock.now();
        assert!(second >= first + 5_000_000_000);
        assert_eq!(clock.note(), None);
        wall.fetch_sub(3_600_000_000_000, Ordering::Relaxed);
        let third = clock.now();
        assert!(third >= second);
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() >= third + 2_000_000, "it goes on by the monotonic clock");
        let behind = clock.note().expect("it is behind by an hour");
        assert!((3_590..3_610).contains(&behind.as_secs()), "{behind:?}");
        assert_eq!(clock.note(), None, "it is said once");
    }

    #[test]
    fn it_begins_with_what_a_store_has_recorded() {
        let clock = Clock::with_wall(|| 1_000);
        assert!(clock.reach(5_000_000) >= 5_000_000);
        assert!(clock.now() >= 5_000_000);
        assert!(clock.reach(2_000) >= 5_000_000);
    }
}
