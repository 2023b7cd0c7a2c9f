//! A value that one task keeps up to date for as long as somebody uses it.
//!
//! Invariant: a value that is there has a follower, and there is at most one follower. The value and
//! the end of its follower change together, under one lock, so no use falls between them.

/// A value with the knowledge whether a task follows it.
pub struct Kept<T> {
    value: Option<T>,
    is_followed: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { value: None, is_followed: false }
    }
}

impl<T> Kept<T> {
    pub fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// Takes the value out, to change it or to make another one.
    pub fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    /// Puts a value in. Returns whether the caller must start a follower.
    #[must_use]
    pub fn put(&mut self, value: T) -> bool {
        self.value = Some(value);
        !std::mem::replace(&mut self.is_followed, true)
    }

    /// Gives the follower a turn. `stays` brings the value up to date, or returns false to drop the
    /// value. Returns whether the follower goes on.
    #[must_use]
    pub fn turn(&mut self, stays: impl FnOnce(&mut T) -> bool) -> bool {
        let stays = self.value.as_mut().is_some_and(stays);
        if !stays {
            self.end();
        }
        stays
    }

    /// Notes that the follower has ended. Without a follower the value would grow old, so it goes.
    pub fn end(&mut self) {
        *self = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to a value: somebody uses it, its follower has a turn, or its follower dies.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Use,
        Turn { stays: bool },
        Death,
    }

    const EVENTS: [Event; 4] =
        [Event::Use, Event::Turn { stays: true }, Event::Turn { stays: false }, Event::Death];
    const LENGTH: u32 = 7;

    #[test]
    fn a_value_has_one_follower_whatever_happens_in_which_order() {
        for number in 0..EVENTS.len().pow(LENGTH) {
            let event = |at| EVENTS[number / EVENTS.len().pow(at) % EVENTS.len()];
            let (mut kept, mut followers) = (Kept::default(), 0);
            for event in (0..LENGTH).map(event) {
                match event {
                    Event::Use => {
                        let value = kept.take().unwrap_or(0u8);
                        followers += i32::from(kept.put(value));
                        assert!(kept.is_there());
                    }
                    Event::Turn { .. } | Event::Death if followers == 0 => {}
                    Event::Turn { stays } => followers -= i32::from(!kept.turn(|_| stays)),
                    Event::Death => {
                        kept.end();
                        followers -= 1;
                    }
                }
                assert_eq!(followers, i32::from(kept.is_there()), "after {event:?} of sequence {number}");
            }
        }
    }
}
