//! The stored forms of the previous version, which had no permissions for instances. They are read,
//! and never written.

use serde::Deserialize;

use crate::code::ProgramHash;
use crate::machine::{Data, EntityId, ErrorData, IfExists};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::message::{Message, StoredMail};
use super::record::{InstanceRecord, Status};

#[derive(Deserialize)]
pub(super) struct RecordBefore {
    id: String,
    life: u64,
    program: ProgramHash,
    file: String,
    function: String,
    args: Data,
    begun_with: Option<Data>,
    created: i64,
    parent: Option<LifeId>,
    owner: Option<LifeId>,
    root: String,
    execution: u32,
    attempt: u32,
    custom: Option<Data>,
    status: Status,
    waiters: Vec<Waiter>,
    rewound: Vec<u64>,
    ended: Option<i64>,
    first: u64,
    chunks: u64,
}

impl From<RecordBefore> for InstanceRecord {
    fn from(before: RecordBefore) -> InstanceRecord {
        InstanceRecord {
            id: before.id,
            life: before.life,
            program: before.program,
            file: before.file,
            function: before.function,
            args: before.args,
            begun_with: before.begun_with,
            created: before.created,
            parent: before.parent,
            owner: before.owner,
            root: before.root,
            execution: before.execution,
            attempt: before.attempt,
            custom: before.custom,
            status: before.status,
            waiters: before.waiters,
            rewound: before.rewound,
            ended: before.ended,
            first: before.first,
            chunks: before.chunks,
            permissions: Permissions::default(),
        }
    }
}

/// The variants are in the order of their numbers.
#[derive(Deserialize)]
pub(super) enum MessageBefore {
    Begin(Box<RecordBefore>, IfExists),
    Answer { life: u64, execution: u32, seq: u64, result: Result<Data, ErrorData> },
    Event { name: String, payload: Data },
    Wait(Waiter),
    Terminate { why: Data, children: bool, by: Option<LifeId> },
    Suspend,
    Resume,
    Call { caller: Waiter, operation: String, args: Data, within: bool },
    Signal { operation: String, args: Data, due: i64 },
    Lock { owner: Waiter, set: Vec<EntityId>, at: u64, since: i64 },
}

impl From<MessageBefore> for Message {
    fn from(before: MessageBefore) -> Message {
        match before {
            MessageBefore::Begin(record, if_exists) => Message::Begin(Box::new((*record).into()), if_exists),
            MessageBefore::Answer { life, execution, seq, result } => {
                Message::Answer { life, execution, seq, result }
            }
            MessageBefore::Event { name, payload } => Message::Event { name, payload },
            MessageBefore::Wait(waiter) => Message::Wait(waiter),
            MessageBefore::Terminate { why, children, by } => Message::Terminate { why, children, by },
            MessageBefore::Suspend => Message::Suspend,
            MessageBefore::Resume => Message::Resume,
            MessageBefore::Call { caller, operation, args, within } => {
                Message::Call { caller, operation, args, within }
            }
            MessageBefore::Signal { operation, args, due } => Message::Signal { operation, args, due },
            MessageBefore::Lock { owner, set, at, since } => Message::Lock { owner, set, at, since },
        }
    }
}

#[derive(Deserialize)]
pub(super) struct MailBefore {
    from: String,
    root: String,
    ack: Option<Waiter>,
    time: i64,
    message: MessageBefore,
}

impl From<MailBefore> for StoredMail {
    fn from(before: MailBefore) -> StoredMail {
        let MailBefore { from, root, ack, time, message } = before;
        let permissions = Permissions::default();
        StoredMail { from, root, ack, time, message: message.into(), permissions }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stored::BEFORE;
    use super::*;

    /// Encodes a record as the previous version did: without the last field.
    fn body(record: &InstanceRecord) -> Vec<u8> {
        let mut body = postcard::to_stdvec(record).expect("bytes");
        assert_eq!(body.pop(), Some(0), "no permissions are one byte");
        body
    }

    #[test]
    fn records_and_messages_of_the_version_before_are_read() {
        let record = InstanceRecord::new("a", ProgramHash([7; 32]), "a.df", "job", Data::null(), 5);
        let stored = [vec![BEFORE], body(&record)].concat();
        assert_eq!(InstanceRecord::decode(&stored), Some(record.clone()));
        let head = postcard::to_stdvec(&("from", "root", None::<Waiter>, 9i64)).expect("bytes");
        let exists = postcard::to_stdvec(&IfExists::Fail).expect("bytes");
        // `Begin` is the first of the messages.
        let stored = [vec![BEFORE], head.clone(), vec![0], body(&record), exists].concat();
        let mail = StoredMail::decode(&stored).expect("mail");
        assert_eq!(mail.message, Message::Begin(Box::new(record), IfExists::Fail));
        assert!(mail.permissions.are_all() && mail.time == 9);
        let suspend = Message::Suspend;
        let stored = [vec![BEFORE], head, postcard::to_stdvec(&suspend).expect("bytes")].concat();
        assert_eq!(StoredMail::decode(&stored).expect("mail").message, suspend);
    }

    #[test]
    fn what_a_record_permits_is_kept() {
        let mut record = InstanceRecord::new("a", ProgramHash([7; 32]), "a.df", "job", Data::null(), 5);
        record.permissions = Permissions::of(&[], &["exec".into()]).expect("permissions");
        assert_eq!(InstanceRecord::decode(&record.encode()), Some(record));
    }
}
