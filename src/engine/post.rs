//! Messages on their way: their numbers, and those that may have to be written.

use std::rc::Rc;

use crate::kv::Batch;

use super::address::Address;
use super::keys;
use super::message::Mail;

/// What was sent and is not written.
///
/// Invariant: a number is given once in the life of a store, and a later message has a greater one.
#[derive(Default)]
pub(super) struct Post {
    fresh: Vec<(Address, Rc<Mail>)>,
    next: u64,
}

impl Post {
    /// The number of the next message.
    pub fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The store has a message of this number.
    pub fn has_sent(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }

    /// A message is to be written, unless it is taken in before.
    pub fn push(&mut self, to: Address, mail: Rc<Mail>) {
        debug_assert!(mail.number < self.next, "a message has a number that was given");
        self.fresh.push((to, mail));
    }

    /// How many messages may have to be written.
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
