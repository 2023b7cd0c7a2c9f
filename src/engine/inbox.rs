//! Answers of this process, in the order in which they are taken in.

use std::collections::BTreeMap;

use super::message::Came;

/// Items by the places at which they came. Most instances have one answer at a time, which needs no
/// tree.
///
/// Invariant: `first` comes before everything in `rest`, and `rest` is empty if there is no first.
#[derive(Clone)]
pub(super) struct Inbox<T> {
    first: Option<(Came, T)>,
    rest: BTreeMap<Came, T>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Inbox<T> {
        Inbox { first: None, rest: BTreeMap::new() }
    }
}

impl<T> Inbox<T> {
    /// Adds an item at a place that no other item has.
    pub fn insert(&mut self, came: Came, item: T) {
        let later = match self.first.take() {
            None => {
                self.first = Some((came, item));
                return;
            }
            Some(first) if first.0 < came => {
                self.first = Some(first);
                (came, item)
            }
            Some(first) => {
                self.first = Some((came, item));
                first
            }
        };
        let before = self.rest.insert(later.0, later.1);
        debug_assert!(before.is_none(), "two answers have come at one place");
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the place of the first item.
    pub fn first(&self) -> Option<Came> {
        self.first.as_ref().map(|(came, _)| *came)
    }

    /// Takes the first item.
    pub fn pop_first(&mut self) -> Option<T> {
        let (_, item) = self.first.take()?;
        self.first = self.rest.pop_first();
        Some(item)
    }

    /// Takes all items, in order.
    pub fn take(&mut self) -> Vec<(Came, T)> {
        let Inbox { first, rest } = std::mem::take(self);
        first.into_iter().chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Items come out in the order of their places, whenever they were added.
        #[test]
        fn the_first_comes_first(steps in proptest::collection::vec(proptest::option::of(0..20_i64), 0..60)) {
            let (mut inbox, mut wanted) = (Inbox::default(), BTreeMap::new());
            for (number, step) in (0..).zip(steps) {
                match step {
                    Some(time) => {
                        let came = Came { time, is_mail: false, number };
                        inbox.insert(came, number);
                        wanted.insert(came, number);
                    }
                    None => prop_assert_eq!(inbox.pop_first(), wanted.pop_first().map(|(_, item)| item)),
                }
                prop_assert_eq!(inbox.first(), wanted.first_key_value().map(|(came, _)| *came));
                prop_assert_eq!(inbox.is_empty(), wanted.is_empty());
            }
            prop_assert_eq!(inbox.take(), wanted.into_iter().collect::<Vec<_>>());
            prop_assert!(inbox.is_empty());
        }
    }
}
