//! What is sent between instances and entities, and how it waits for its receiver.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::{Data, EntityId, ErrorData, IfExists};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::record::InstanceRecord;
use super::stored;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    // To an instance.
    /// It is to begin, if there is none of that id; else what is said happens. Who waits for it is in the record.
    Begin(Box<InstanceRecord>, IfExists),
    Answer {
        /// Of whom: what has begun since under the id does not get it.
        life: u64,
        execution: u32,
        seq: u64,
        result: Result<Data, ErrorData>,
    },
    /// An event that somebody raised.
    Event {
        name: String,
        payload: Data,
    },
    /// Somebody waits for its end.
    Wait(Waiter),
    /// It is to end; also its children, if so said. When it says by whom, only as that one's child.
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
        /// From within the critical section that holds the entity.
        within: bool,
    },
    Signal {
        operation: String,
        args: Data,
        /// Not before then; 0 for at once.
        due: i64,
    },
    /// A critical section's request for its entities, on its way from one to the next.
    Lock {
        owner: Waiter,
        set: Vec<EntityId>,
        /// Which of the set it has come to.
        at: u64,
        since: i64,
    },
}

impl Message {
    /// Whether it ends an instance, holds it up, or lets it go on.
    pub fn is_control(&self) -> bool {
        matches!(self, Message::Terminate { .. } | Message::Suspend | Message::Resume)
    }

    /// Whether it is kept though it came after the end of an instance: that one may be rewound.
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

    /// One word, for people.
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
        }
    }
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// In memory alone; written with the next commit, unless it is taken before.
    Fresh,
    /// In the store.
    Written,
    Taken,
}

/// The place of something that waits for an instance, among all that does. What waits together is taken in this order: by
/// time; at the same time timers and answers of the process come before messages, and each in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Came {
    pub time: i64,
    pub is_mail: bool,
    pub number: u64,
}

/// A message that waits for its receiver.
#[derive(Debug)]
pub struct Mail {
    /// Its place in the order of all messages.
    pub number: u64,
    /// The key of the step that sent it: no two messages have the same.
    pub from: String,
    /// The instance that all this began with.
    pub root: Arc<str>,
    /// Who is to be told whether the receiver is there.
    pub ack: Option<Waiter>,
    /// When it came to be, in nanoseconds since 1970: an event was accepted, an answer recorded, a timer due.
    pub time: i64,
    pub message: Message,
    /// What the sender may do outside: an operation that it asks for may do no more.
    pub permissions: Permissions,
    stage: Cell<Stage>,
}

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredMail {
    pub from: String,
    pub root: String,
    pub ack: Option<Waiter>,
    /// When it came to be, in nanoseconds since 1970; 0 in what an earlier version wrote.
    pub time: i64,
    pub message: Message,
    /// What the sender may do outside.
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

    /// Its place in the order in which an instance takes what waits for it: by time, then by number.
    pub(super) fn came(&self) -> Came {
        Came { time: self.time, is_mail: true, number: self.number }
    }

    /// Marks it as taken; whether the store has to be told.
    pub(super) fn take(&self) -> bool {
        self.stage.replace(Stage::Taken) == Stage::Written
    }

    /// What is to be written of it, if it is neither written nor taken.
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
