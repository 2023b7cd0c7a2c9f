//! Sent messages: their numbers, and the messages that may have to be written.

use std::rc::Rc;

use crate::kv::Batch;

use super::address::Address;
use super::keys;
use super::message::Mail;

/// The messages that were sent and are not written.
///
/// Invariant: each number is given once in the life of a store, and later messages have greater
/// numbers.
#[derive(Default)]
pub(super) struct Post {
    fresh: Vec<(Address, Rc<Mail>)>,
    next: u64,
}

impl Post {
    /// Returns the number of the next message.
    pub fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Notes that the store has a message of this number.
    pub fn has_sent(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }

    /// Adds a message to the next writes. It is not written if it is consumed before.
    pub fn push(&mut self, to: Address, mail: Rc<Mail>) {
        debug_assert!(mail.number < self.next, "a message has a number that was given");
        self.fresh.push((to, mail));
    }

    /// Returns the number of messages that may have to be written.
    pub fn len(&self) -> usize {
        self.fresh.len()
    }

    pub fn take_writes(&mut self, batch: &mut Batch) {
        for (to, mail) in std::mem::take(&mut self.fresh) {
            if let Some(bytes) = mail.write() {
                batch.put(keys::mail(&to, mail.number), bytes);
            }
        }
    }
}
