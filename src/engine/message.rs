//! Messages between instances and entities, and how they wait for their receivers.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::{Cancellation, Data, EntityId, ErrorData, IfExists};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::entry::Postmark;
use super::record::InstanceRecord;
use super::stored;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    // To an instance.
    /// A new instance, which begins if there is none of that id; otherwise the [`IfExists`]
    /// decides. The record has the waiters.
    Begin(Box<InstanceRecord>, IfExists),
    Answer {
        /// The life that made the request. A later instance of the same id does not get the answer.
        life: u64,
        execution: u32,
        seq: u64,
        result: Result<Data, ErrorData>,
    },
    /// An event that was raised for the instance.
    Event {
        name: String,
        payload: Data,
    },
    /// A request to be told of the instance's end.
    Wait(Waiter),
    /// The end of the instance, and of its children if `children` is set. With `by`, it holds only
    /// for a child of that instance.
    Terminate {
        why: Data,
        children: bool,
        by: Option<LifeId>,
    },
    Suspend,
    Resume,
    // To an entity.
    Call {
        caller: Waiter,
        operation: String,
        args: Data,
        /// Whether the call comes from within the critical section that holds the entity.
        within: bool,
    },
    Signal {
        operation: String,
        args: Data,
        /// The time before which the signal is not run; 0 for at once.
        due: i64,
    },
    /// A critical section's request for its entities, on its way from one to the next.
    Lock {
        owner: Waiter,
        set: Vec<EntityId>,
        /// The position in `set` that the request has reached.
        at: u64,
        since: i64,
    },
    // To an instance, again.
    /// The cancellation of the instance. With `of`, it holds only for a child of that instance. It
    /// is taken in like an answer, in the order of time.
    Cancel {
        what: Box<Cancellation>,
        of: Option<LifeId>,
    },
}

impl Message {
    /// Whether the message terminates, suspends or resumes an instance.
    pub fn is_control(&self) -> bool {
        matches!(self, Message::Terminate { .. } | Message::Suspend | Message::Resume)
    }

    /// Whether the message is acknowledged as soon as it has come to an instance that has not
    /// ended, which takes it in later.
    pub(super) fn is_for_later(&self) -> bool {
        matches!(self, Message::Event { .. } | Message::Cancel { of: None, .. })
    }

    /// Whether an ended instance keeps the message, because the instance may be rewound.
    pub(super) fn is_kept_by(&self, ended: &InstanceRecord) -> bool {
        ended.keeps_mail()
            && match self {
                Message::Answer { life, execution, .. } => {
                    (*life, *execution) == (ended.life, ended.execution)
                }
                Message::Event { .. } => true,
                _ => false,
            }
    }

    /// Returns the kind of the message in one word, for people.
    pub fn word(&self) -> &'static str {
        match self {
            Message::Begin(..) => "start",
            Message::Answer { .. } => "answer",
            Message::Event { .. } => "event",
            Message::Wait(_) => "wait",
            Message::Terminate { .. } => "terminate",
            Message::Suspend => "suspend",
            Message::Resume => "resume",
            Message::Call { .. } => "call",
            Message::Signal { .. } => "signal",
            Message::Lock { .. } => "lock",
            Message::Cancel { .. } => "cancel",
        }
    }
}

/// The stage of a message's life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// In memory alone; written with the next commit, unless it is consumed before.
    Fresh,
    /// In the store.
    Written,
    Taken,
}

/// The place of a message, a timer or an answer among all that wait for an instance. They are
/// consumed by time. At the same time, timers and answers of the process come before messages.
/// Within each of these two groups, the order of arrival counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Came {
    pub time: i64,
    pub is_mail: bool,
    pub number: u64,
}

/// A message that waits for its receiver.
#[derive(Debug)]
pub struct Mail {
    /// The message's place in the order of all messages.
    pub number: u64,
    /// The key of the step that sent the message. No two messages have the same key.
    pub from: String,
    /// The root of the sender's tree.
    pub root: Arc<str>,
    /// The request that is told whether the receiver exists.
    pub ack: Option<Waiter>,
    /// The time of its cause, in nanoseconds since 1970: when an event was accepted, an answer
    /// recorded, or a timer due.
    pub time: i64,
    pub message: Message,
    /// The permissions of the sender, which also limit an operation that the message runs.
    pub permissions: Permissions,
    stage: Cell<Stage>,
}

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMail {
    pub from: String,
    pub root: String,
    pub ack: Option<Waiter>,
    /// The time of its cause, in nanoseconds since 1970; 0 in messages of an earlier version.
    pub time: i64,
    pub message: Message,
    /// The permissions of the sender.
    pub permissions: Permissions,
}

impl StoredMail {
    pub fn encode(&self) -> Vec<u8> {
        stored::encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Option<StoredMail> {
        stored::decode(bytes)
    }
}

impl Mail {
    pub(super) fn fresh(
        number: u64,
        from: String,
        root: Arc<str>,
        ack: Option<Waiter>,
        time: i64,
        message: Message,
        permissions: Permissions,
    ) -> Rc<Mail> {
        let stage = Cell::new(Stage::Fresh);
        Rc::new(Mail { number, from, root, ack, time, message, permissions, stage })
    }

    pub(super) fn stored(number: u64, mail: StoredMail) -> Rc<Mail> {
        let StoredMail { from, root, ack, time, message, permissions } = mail;
        let stage = Cell::new(Stage::Written);
        Rc::new(Mail { number, from, root: root.into(), ack, time, message, permissions, stage })
    }

    /// Returns the message's place in the order in which an instance consumes: by time, then by
    /// number.
    pub(super) fn came(&self) -> Came {
        Came { time: self.time, is_mail: true, number: self.number }
    }

    /// Returns the message's place, as the history records it with the answer that the message
    /// brings.
    pub(super) fn postmark(&self) -> Postmark {
        Postmark { time: self.time, number: self.number }
    }

    /// Marks the message as consumed, and returns whether it must be deleted from the store.
    pub(super) fn take(&self) -> bool {
        self.stage.replace(Stage::Taken) == Stage::Written
    }

    /// Marks a fresh message as written and returns its bytes; `None` if it is written or consumed
    /// already.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        if self.stage.get() != Stage::Fresh {
            return None;
        }
        self.stage.set(Stage::Written);
        let (from, root) = (self.from.clone(), self.root.to_string());
        let (ack, message, permissions) = (self.ack.clone(), self.message.clone(), self.permissions.clone());
        Some(StoredMail { from, root, ack, time: self.time, message, permissions }.encode())
    }
}
