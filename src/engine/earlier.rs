//! The stored forms of the version before the previous one, which had no lives and no times of
//! messages. They are read, and never written.

use serde::Deserialize;

use crate::code::ProgramHash;
use crate::machine::snapshot::SavedRequest;
use crate::machine::{Data, EntityId, ErrorData, IfExists};
use crate::permissions::Permissions;

use super::address::{LifeId, Waiter};
use super::before::{MailBefore, RecordBefore};
use super::checkpoint::{Checkpoint, SavedOpen};
use super::entity::Hold;
use super::entry::Entry;
use super::message::{Message, StoredMail};
use super::program::StoredProgram;
use super::record::{InstanceRecord, Status};
use super::stored::Stored;

/// The life of everything that began before lives existed.
const LIFE: u64 = 0;

fn of_that_life(id: String) -> LifeId {
    LifeId { id, life: LIFE }
}

impl Stored for StoredProgram {
    type Before = StoredProgram;
    type Earlier = StoredProgram;
}

impl Stored for Vec<Entry> {
    type Before = Vec<Entry>;
    type Earlier = Vec<Entry>;
}

#[derive(Deserialize)]
pub(super) struct EarlierWaiter {
    instance: String,
    execution: u32,
    seq: u64,
}

impl From<EarlierWaiter> for Waiter {
    fn from(earlier: EarlierWaiter) -> Waiter {
        let EarlierWaiter { instance, execution, seq } = earlier;
        Waiter { instance, life: LIFE, execution, seq }
    }
}

#[derive(Deserialize)]
pub(super) struct EarlierRecord {
    id: String,
    program: ProgramHash,
    file: String,
    function: String,
    args: Data,
    created: i64,
    parent: Option<String>,
    root: String,
    execution: u32,
    custom: Option<Data>,
    status: Status,
    waiters: Vec<EarlierWaiter>,
    rewound: Option<u64>,
    ended: Option<i64>,
    first: u64,
    chunks: u64,
}

impl Stored for InstanceRecord {
    type Before = RecordBefore;
    type Earlier = EarlierRecord;
}

impl From<EarlierRecord> for InstanceRecord {
    fn from(earlier: EarlierRecord) -> InstanceRecord {
        InstanceRecord {
            id: earlier.id,
            life: LIFE,
            program: earlier.program,
            file: earlier.file,
            function: earlier.function,
            args: earlier.args,
            begun_with: None,
            created: earlier.created,
            parent: earlier.parent.map(of_that_life),
            owner: None,
            root: earlier.root,
            execution: earlier.execution,
            attempt: 1,
            custom: earlier.custom,
            status: earlier.status,
            waiters: earlier.waiters.into_iter().map(Waiter::from).collect(),
            rewound: earlier.rewound.into_iter().collect(),
            ended: earlier.ended,
            first: earlier.first,
            chunks: earlier.chunks,
            permissions: Permissions::default(),
        }
    }
}

/// The variants are in the order of their numbers.
#[derive(Deserialize)]
pub(super) enum EarlierMessage {
    Begin(Box<EarlierRecord>),
    Answer { execution: u32, seq: u64, result: Result<Data, ErrorData> },
    Event { name: String, payload: Data },
    Wait(EarlierWaiter),
    Terminate { why: Data, children: bool, by: Option<String> },
    Suspend,
    Resume,
    Call { caller: EarlierWaiter, operation: String, args: Data, within: bool },
    Signal { operation: String, args: Data, due: i64 },
    Lock { owner: EarlierWaiter, set: Vec<EntityId>, at: u64, since: i64 },
}

impl From<EarlierMessage> for Message {
    fn from(earlier: EarlierMessage) -> Message {
        match earlier {
            EarlierMessage::Begin(record) => Message::Begin(Box::new((*record).into()), IfExists::Join),
            EarlierMessage::Answer { execution, seq, result } => {
                Message::Answer { life: LIFE, execution, seq, result }
            }
            EarlierMessage::Event { name, payload } => Message::Event { name, payload },
            EarlierMessage::Wait(waiter) => Message::Wait(waiter.into()),
            EarlierMessage::Terminate { why, children, by } => {
                Message::Terminate { why, children, by: by.map(of_that_life) }
            }
            EarlierMessage::Suspend => Message::Suspend,
            EarlierMessage::Resume => Message::Resume,
            EarlierMessage::Call { caller, operation, args, within } => {
                Message::Call { caller: caller.into(), operation, args, within }
            }
            EarlierMessage::Signal { operation, args, due } => Message::Signal { operation, args, due },
            EarlierMessage::Lock { owner, set, at, since } => {
                Message::Lock { owner: owner.into(), set, at, since }
            }
        }
    }
}

#[derive(Deserialize)]
pub(super) struct EarlierMail {
    from: String,
    root: String,
    ack: Option<EarlierWaiter>,
    message: EarlierMessage,
}

impl Stored for StoredMail {
    type Before = MailBefore;
    type Earlier = EarlierMail;
}

impl From<EarlierMail> for StoredMail {
    fn from(earlier: EarlierMail) -> StoredMail {
        StoredMail {
            from: earlier.from,
            root: earlier.root,
            ack: earlier.ack.map(Waiter::from),
            time: 0,
            message: earlier.message.into(),
            permissions: Permissions::default(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct EarlierHold {
    owner: EarlierWaiter,
    set: Vec<EntityId>,
    since: i64,
}

impl Stored for Hold {
    type Before = Hold;
    type Earlier = EarlierHold;
}

impl From<EarlierHold> for Hold {
    fn from(earlier: EarlierHold) -> Hold {
        Hold { owner: earlier.owner.into(), set: earlier.set, since: earlier.since }
    }
}

#[derive(Deserialize)]
pub(super) struct EarlierCheckpoint {
    code: u64,
    execution: u32,
    chunks: u64,
    checksum: u64,
    trimmed: bool,
    open: Vec<EarlierOpen>,
    machine: Data,
}

#[derive(Deserialize)]
struct EarlierOpen {
    request: SavedRequest,
    time: i64,
    attempt: u32,
    begins: i64,
}

impl From<EarlierOpen> for SavedOpen {
    fn from(earlier: EarlierOpen) -> SavedOpen {
        let EarlierOpen { request, time, attempt, begins } = earlier;
        SavedOpen { request, time, attempt, begins, begun: false }
    }
}

impl Stored for Checkpoint {
    type Before = Checkpoint;
    type Earlier = EarlierCheckpoint;
}

impl From<EarlierCheckpoint> for Checkpoint {
    fn from(earlier: EarlierCheckpoint) -> Checkpoint {
        Checkpoint {
            code: earlier.code,
            life: LIFE,
            execution: earlier.execution,
            chunks: earlier.chunks,
            checksum: earlier.checksum,
            trimmed: earlier.trimmed,
            open: earlier.open.into_iter().map(SavedOpen::from).collect(),
            given_up: Vec::new(),
            machine: earlier.machine,
        }
    }
}
