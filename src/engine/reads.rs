//! Reading the contents of a store in their decoded forms.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::code::{Code, ProgramHash};
use crate::kv::{Pair, Partition, Read};
use crate::machine::Image;
use crate::permissions::Permissions;

use super::address::Address;
use super::calls::{ClientCall, Kept};
use super::checkpoint::Checkpoint;
use super::entity::Hold;
use super::history::History;
use super::message::StoredMail;
use super::outbox::StoredLines;
use super::read_error::ReadError;
use super::record::InstanceRecord;
use super::{keys, stored};

/// A function that loads a program of the store, ready to run.
pub type Images<'a> = &'a mut dyn FnMut(ProgramHash) -> Result<Rc<Image>, ReadError>;

/// Reads the record of an instance.
pub fn read_record(store: &dyn Read, id: &str) -> Result<Option<InstanceRecord>, ReadError> {
    store.get(&keys::instance(id))?.map(|bytes| decode_record(&bytes, id)).transpose()
}

/// Decodes the record of an instance.
pub(super) fn decode_record(bytes: &[u8], id: &str) -> Result<InstanceRecord, ReadError> {
    InstanceRecord::decode(bytes).ok_or_else(|| format!("the record of {id} is not readable").into())
}

pub(super) fn decode_hold(bytes: &[u8]) -> Result<Hold, ReadError> {
    Hold::decode(bytes).ok_or_else(|| "a lock in the store is not readable".into())
}

pub(super) fn decode_mail(bytes: &[u8]) -> Result<StoredMail, ReadError> {
    StoredMail::decode(bytes).ok_or_else(|| "a message in the store is not readable".into())
}

/// Reads the checkpoint of an execution; `None` if there is none that this version can read.
pub(super) fn read_checkpoint(
    store: &dyn Read,
    record: &InstanceRecord,
) -> Result<Option<Checkpoint>, ReadError> {
    let bytes = store.get(&keys::checkpoint(&record.id))?;
    let checkpoint = bytes.and_then(|bytes| Checkpoint::decode(&bytes));
    let is_own =
        |checkpoint: &Checkpoint| (checkpoint.life, checkpoint.execution) == (record.life, record.execution);
    Ok(checkpoint.filter(is_own))
}

/// Reads the history from which an instance resumes: its checkpoint, if it has one for this code,
/// and the history since; otherwise the whole history.
pub(super) fn read_past(
    store: &dyn Read,
    record: &InstanceRecord,
    code: &Code,
) -> Result<History, ReadError> {
    match read_checkpoint(store, record)? {
        Some(checkpoint) if checkpoint.is_of(code) => read_since(store, record, checkpoint),
        _ => read_history(store, record),
    }
}

/// Reads the history since a checkpoint, chunk by chunk. Earlier chunks cost nothing.
fn read_since(
    store: &dyn Read,
    record: &InstanceRecord,
    checkpoint: Checkpoint,
) -> Result<History, ReadError> {
    let mut chunks = Vec::new();
    while let number = checkpoint.chunks + chunks.len() as u64
        && let Some(bytes) = store.get(&keys::chunk(&record.id, number))?
    {
        chunks.push((number, bytes));
    }
    whole(record, History::read_after(checkpoint, chunks))
}

/// Checks a history that was put together. The history of an ended instance must be whole.
pub(super) fn whole(record: &InstanceRecord, history: Result<History, String>) -> Result<History, ReadError> {
    let history = history.map_err(|reason| unreadable(record, &reason))?;
    match missing(record, history.chunks, history.after.is_some()) {
        Some(reason) => Err(unreadable(record, &reason)),
        None => Ok(history),
    }
}

/// Returns what is missing of a history that ends before chunk `chunks`. The history of an ended
/// instance must be whole, unless it was trimmed.
pub(super) fn missing(record: &InstanceRecord, chunks: u64, is_trimmed: bool) -> Option<String> {
    if record.ended.is_none() || is_trimmed || chunks == record.chunks {
        return None;
    }
    let (found, all) = (chunks - record.first, record.chunks - record.first);
    Some(format!("its history has {found} of {all} parts"))
}

/// Returns the error of a history that can't be read.
pub(super) fn unreadable(record: &InstanceRecord, reason: &str) -> ReadError {
    format!("{} can't be read: {reason}", record.id).into()
}

/// Reads the history of an instance, from its beginning or, if it was trimmed, from its checkpoint.
pub fn read_history(store: &dyn Read, record: &InstanceRecord) -> Result<History, ReadError> {
    if let Some(checkpoint) = read_checkpoint(store, record)?.filter(|checkpoint| checkpoint.trimmed) {
        return read_since(store, record, checkpoint);
    }
    let chunks = store.all(&keys::history(&record.id))?;
    let chunks = chunks
        .into_iter()
        .filter_map(|(key, bytes)| keys::parse_chunk(&key).map(|(_, number)| (number, bytes)));
    whole(record, History::read(record.first, chunks))
}

/// The newest program that declares an entity, and the permissions of the entity's operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    pub program: ProgramHash,
    pub permissions: Permissions,
    /// The partition that deployed the program, and the time; `None` in a store of one partition.
    pub version: Option<(Partition, i64)>,
}

impl Deployed {
    /// Encodes the hash of the program, followed by the permissions if these are restricted or a
    /// version follows.
    pub fn encode(&self) -> Vec<u8> {
        let hash = self.program.0.to_vec();
        match (self.permissions.are_all(), self.version) {
            (true, None) => hash,
            (false, None) => stored::append(hash, &self.permissions),
            (_, Some(version)) => stored::append(hash, &(&self.permissions, version)),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Deployed> {
        let (hash, rest) = bytes.split_first_chunk()?;
        let program = ProgramHash(*hash);
        if rest.is_empty() {
            return Some(Deployed { program, permissions: Permissions::default(), version: None });
        }
        let (permissions, rest) = stored::take(rest)?;
        let version = if rest.is_empty() { None } else { Some(stored::read(rest)?) };
        Some(Deployed { program, permissions, version })
    }
}

/// Reads the newest program that declares an entity.
pub fn deployed(store: &dyn Read, entity: &str) -> Result<Option<Deployed>, ReadError> {
    let Some(bytes) = store.get(&keys::deployed(entity))? else { return Ok(None) };
    match Deployed::decode(&bytes) {
        Some(deployed) => Ok(Some(deployed)),
        None => Err(format!("the program of entity {entity} is not readable").into()),
    }
}

/// Reads the version of an entity's state.
pub fn read_version(store: &dyn Read, entity: &crate::machine::EntityId) -> Result<u32, ReadError> {
    let Some(bytes) = store.get(&keys::version(entity))? else { return Ok(0) };
    match bytes.try_into() {
        Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
        Err(_) => Err(format!("the version of the state of {entity} is not readable").into()),
    }
}

/// Reads all messages of a store.
pub fn read_mail(store: &dyn Read) -> Result<Vec<(Address, u64, StoredMail)>, ReadError> {
    let mut mail = Vec::new();
    for (key, bytes) in store.all(keys::MAIL)? {
        let stored = decode_mail(&bytes)?;
        let (to, number) = keys::parse_mail(&key).ok_or("a message in the store is not readable")?;
        mail.push((to, number, stored));
    }
    Ok(mail)
}

/// Reads all holders of entities of a store.
pub fn read_holds(store: &dyn Read) -> Result<Vec<(crate::machine::EntityId, Hold)>, ReadError> {
    let mut holds = Vec::new();
    for (key, bytes) in store.all(keys::LOCKS)? {
        let hold = decode_hold(&bytes)?;
        holds.push((keys::parse_entity_key(&key).ok_or("a lock in the store is not readable")?, hold));
    }
    Ok(holds)
}

/// Reads the runs of lines that may not be out, in order.
pub fn read_lines(store: &dyn Read) -> Result<Vec<(u64, StoredLines)>, ReadError> {
    let read = |(key, bytes): Pair| match (keys::parse_lines(&key), StoredLines::decode(&bytes)) {
        (Some(number), Some(lines)) => Ok((number, lines)),
        _ => Err("a line in the store is not readable".into()),
    };
    store.all(keys::LINES)?.into_iter().map(read).collect()
}

/// Reads a client's call.
pub fn read_call(store: &dyn Read, id: &str) -> Result<Option<ClientCall>, ReadError> {
    let Some(bytes) = store.get(&keys::call(id))? else { return Ok(None) };
    match ClientCall::decode(&bytes) {
        Some(call) => Ok(Some(call)),
        None => Err(format!("the call {id} is not readable").into()),
    }
}

/// Reads the places of the kept answers, in order.
pub fn read_answers(store: &dyn Read) -> Result<Vec<Kept>, ReadError> {
    let read = |(key, bytes): Pair| {
        let kept = keys::parse_answer(&key).and_then(|number| Kept::decode(number, &bytes));
        kept.ok_or_else(|| "the place of an answer in the store is not readable".into())
    };
    store.all(keys::ANSWERS)?.into_iter().map(read).collect()
}

/// Reads the time that a store has reached; 0 if the store has none.
pub fn read_time(store: &dyn Read) -> Result<i64, ReadError> {
    Ok(read_number(store, keys::TIME, "the time")?.map_or(0, i64::from_be_bytes))
}

/// Reads the versions of deployments that a partition knows.
pub(super) fn read_versions(store: &dyn Read) -> Result<BTreeMap<Partition, i64>, ReadError> {
    let Some(bytes) = store.get(keys::DEPLOYMENTS)? else { return Ok(BTreeMap::new()) };
    stored::read(&bytes).ok_or_else(|| "the known deployments are not readable".into())
}

/// Reads the life of instances that begin now.
pub fn read_life(store: &dyn Read) -> Result<u64, ReadError> {
    let what = "the number of lives";
    match read_number(store, keys::LIFE, what)?.map_or(keys::FIRST_LIFE, u64::from_be_bytes) {
        life if life > keys::MOST => Err(not_readable(what).into()),
        life => Ok(life),
    }
}

fn read_number(store: &dyn Read, key: &[u8], what: &str) -> Result<Option<[u8; 8]>, String> {
    let bytes = store.get(key)?.map(<[u8; 8]>::try_from);
    bytes.transpose().map_err(|_| not_readable(what))
}

fn not_readable(what: &str) -> String {
    format!("{what} in the store is not readable")
}
