//! What the engine wants read from a store, and what a store is asked for at its opening.

use std::collections::HashMap;
use std::rc::Rc;

use crate::code::{Code, ProgramHash};
use crate::kv::{Pair, Read};
use crate::machine::Image;
use crate::permissions::Permissions;

use super::address::{Address, LifeId};
use super::checkpoint::Checkpoint;
use super::entity::{Deployment, Hold};
use super::events::{Event, Output};
use super::history::History;
use super::keys;
use super::message::StoredMail;
use super::outbox::StoredLines;
use super::program::known_image;
use super::purge::Tree;
use super::read_error::ReadError;
use super::record::{self, InstanceRecord};

/// Gives a program of the store, ready to run.
pub type Images<'a> = &'a mut dyn FnMut(ProgramHash) -> Result<Rc<Image>, ReadError>;

/// What the engine wants read, from a store that has all that it has written; none when an output asks for nothing.
pub fn look_up(
    store: &dyn Read,
    known: &mut HashMap<ProgramHash, Rc<Image>>,
    output: &Output,
) -> Result<Option<Event>, ReadError> {
    Ok(Some(match output {
        Output::Fetch { address } => fetch(store, address, &mut |hash| known_image(known, hash, store))?,
        Output::FetchProgram { hash } => Event::Program { image: known_image(known, *hash, store)? },
        Output::Tree { id } => {
            Event::Tree { id: id.clone(), tree: Tree::read(store, std::slice::from_ref(id))? }
        }
        Output::Status { step, id } => Event::Status { step: step.clone(), record: read_record(store, id)? },
        _ => return Ok(None),
    }))
}

/// Reads the record of an instance.
pub fn read_record(store: &dyn Read, id: &str) -> Result<Option<InstanceRecord>, ReadError> {
    store.get(&keys::instance(id))?.map(|bytes| decode_record(&bytes, id)).transpose()
}

/// The record of an instance, from what is stored of it.
pub(super) fn decode_record(bytes: &[u8], id: &str) -> Result<InstanceRecord, ReadError> {
    InstanceRecord::decode(bytes).ok_or_else(|| format!("the record of {id} is not readable").into())
}

pub(super) fn decode_hold(bytes: &[u8]) -> Result<Hold, ReadError> {
    Hold::decode(bytes).ok_or_else(|| "a lock in the store is not readable".into())
}

pub(super) fn decode_mail(bytes: &[u8]) -> Result<StoredMail, ReadError> {
    StoredMail::decode(bytes).ok_or_else(|| "a message in the store is not readable".into())
}

/// Reads the checkpoint of an instance. None when there is none, or none that this version can read.
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

/// Reads what an instance goes on from: its checkpoint, if it has one for this code, and its history since; else its
/// whole history.
fn read_past(store: &dyn Read, record: &InstanceRecord, code: &Code) -> Result<History, ReadError> {
    match read_checkpoint(store, record)? {
        Some(checkpoint) if checkpoint.is_of(code) => read_since(store, record, checkpoint),
        _ => read_history(store, record),
    }
}

/// Reads the history since a checkpoint, chunk by chunk: what is before it costs nothing.
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

/// The history of an instance, as it was put together. That of an ended one must be whole.
pub(super) fn whole(record: &InstanceRecord, history: Result<History, String>) -> Result<History, ReadError> {
    let history = history.map_err(|reason| unreadable(record, &reason))?;
    match missing(record, history.chunks, history.after.is_some()) {
        Some(reason) => Err(unreadable(record, &reason)),
        None => Ok(history),
    }
}

/// Returns what a history lacks that ends before a chunk. The history of an ended instance must be
/// whole, unless it was trimmed.
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

/// Reads the history of an instance, from its beginning or, if what is before is not kept, from its checkpoint.
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

/// Reads what [`Output::Fetch`](super::Output::Fetch) asks for.
pub fn fetch(store: &dyn Read, address: &Address, images: Images<'_>) -> Result<Event, ReadError> {
    match address {
        Address::Instance(id) => match read_record(store, id)? {
            Some(record) if !record.status.is_ended() => {
                let image = images(record.program)?;
                let history = read_past(store, &record, &image.code)?;
                Ok(Event::Load { record, history, image })
            }
            record => Ok(Event::Absent { id: id.to_string(), record }),
        },
        Address::Entity(entity) => {
            let state = store.get(&keys::entity(entity))?.map(crate::machine::Data);
            let deployed = match deployed(store, &entity.name)? {
                Some(Deployed { program, permissions }) => {
                    Some(Deployment { image: images(program)?, permissions })
                }
                None => None,
            };
            Ok(Event::Entity { entity: (**entity).clone(), state, deployed })
        }
    }
}

/// The newest program that declares an entity, and what its operations may do outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    pub program: ProgramHash,
    pub permissions: Permissions,
}

impl Deployed {
    /// The hash of the program, and the permissions where something is not permitted.
    pub fn encode(&self) -> Vec<u8> {
        let hash = self.program.0.to_vec();
        match self.permissions.are_all() {
            true => hash,
            false => record::append(hash, &self.permissions),
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Deployed> {
        let (hash, rest) = bytes.split_first_chunk()?;
        let permissions = if rest.is_empty() { Permissions::default() } else { record::read(rest)? };
        Some(Deployed { program: ProgramHash(*hash), permissions })
    }
}

/// The newest program that declares an entity.
pub fn deployed(store: &dyn Read, entity: &str) -> Result<Option<Deployed>, ReadError> {
    let Some(bytes) = store.get(&keys::deployed(entity))? else { return Ok(None) };
    match Deployed::decode(&bytes) {
        Some(deployed) => Ok(Some(deployed)),
        None => Err(format!("the program of entity {entity} is not readable").into()),
    }
}

/// All messages of a store.
pub fn read_mail(store: &dyn Read) -> Result<Vec<(Address, u64, StoredMail)>, ReadError> {
    let mut mail = Vec::new();
    for (key, bytes) in store.all(keys::MAIL)? {
        let stored = decode_mail(&bytes)?;
        let (to, number) = keys::parse_mail(&key).ok_or("a message in the store is not readable")?;
        mail.push((to, number, stored));
    }
    Ok(mail)
}

/// All holders of entities of a store.
pub fn read_holds(store: &dyn Read) -> Result<Vec<(crate::machine::EntityId, Hold)>, ReadError> {
    let mut holds = Vec::new();
    for (key, bytes) in store.all(keys::LOCKS)? {
        let hold = decode_hold(&bytes)?;
        holds.push((keys::parse_entity_key(&key).ok_or("a lock in the store is not readable")?, hold));
    }
    Ok(holds)
}

/// The runs of lines that may not be out, in order.
pub fn read_lines(store: &dyn Read) -> Result<Vec<(u64, StoredLines)>, ReadError> {
    let read = |(key, bytes): Pair| match (keys::parse_lines(&key), StoredLines::decode(&bytes)) {
        (Some(number), Some(lines)) => Ok((number, lines)),
        _ => Err("a line in the store is not readable".into()),
    };
    store.all(keys::LINES)?.into_iter().map(read).collect()
}

/// The time that a store has come to; 0 when it doesn't say.
pub fn read_time(store: &dyn Read) -> Result<i64, ReadError> {
    Ok(read_number(store, keys::TIME, "the time")?.map_or(0, i64::from_be_bytes))
}

/// The life of instances that begin now.
pub fn read_life(store: &dyn Read) -> Result<u64, ReadError> {
    Ok(read_number(store, keys::LIFE, "the number of lives")?.map_or(keys::FIRST_LIFE, u64::from_be_bytes))
}

fn read_number(store: &dyn Read, key: &[u8], what: &str) -> Result<Option<[u8; 8]>, String> {
    let bytes = store.get(key)?.map(<[u8; 8]>::try_from);
    bytes.transpose().map_err(|_| format!("{what} in the store is not readable"))
}

/// What an engine is told first of all. Of the instances with work to do, those of `root` go on, or all of them.
pub fn recovery(store: &dyn Read, root: Option<&str>) -> Result<Vec<Event>, ReadError> {
    let holds = read_holds(store)?;
    // No entity is held by an instance that does not run.
    let mut stale: Vec<LifeId> = Vec::new();
    for (_, hold) in &holds {
        let owner = hold.owner.life_id();
        let runs = |record: InstanceRecord| record.life == owner.life && !record.status.is_ended();
        if !stale.contains(&owner) && !read_record(store, &owner.id)?.is_some_and(runs) {
            stale.push(owner);
        }
    }
    let mail = read_mail(store)?;
    let (lines, life, time) = (read_lines(store)?, read_life(store)?, read_time(store)?);
    let root_only = root.map(str::to_string);
    let mut events = vec![Event::Recover { mail, holds, lines, life, time, root: root_only }];
    events.extend(stale.into_iter().map(|owner| Event::Release { owner }));
    for (key, of) in store.all(keys::ACTIVE)? {
        if root.is_none_or(|root| root.as_bytes() == of)
            && let Ok(id) = String::from_utf8(key[keys::ACTIVE.len()..].to_vec())
        {
            events.push(Event::Wake { id });
        }
    }
    Ok(events)
}
