//! Queries on a store, answered in pages. Clients need not know the keys of the store.
//!
//! The cost of a page depends on its size. A filter that lets few items through ends a page early,
//! with a cursor to go on from. So no query holds up a store for long, however large the store is.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::kv::{self, Read};
use crate::machine::{Data, EntityId};

use super::checkpoint::Checkpoint;
use super::entity::Hold;
use super::head::with_head;
use super::history::History;
use super::kept::{self, KeptRange, read_kept};
use super::message::{Message, StoredMail};
use super::page::{PAGE_BYTES, SCANNED};
use super::program::StoredProgram;
use super::read_error::ReadError;
use super::reads::{
    Deployed, decode_hold, decode_mail, decode_record, deployed, read_checkpoint, read_record, whole,
};
use super::record::{InstanceRecord, Lifecycle};
use super::{ChangeKind, keys};

pub use super::descent::tree;
pub use super::head::Head;
pub use super::kept::{OperationView, OperationsPage};
pub use super::page::{Cursor, Page, Paging};
pub use super::printed::{OutputPage, Printed, PrintedLine, output};

/// The filter of a query for instances; the default lets all through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceFilter {
    /// The beginning of the id.
    pub prefix: String,
    /// The id to begin with, in the order of ids.
    pub from: String,
    /// The wanted lifecycles; none means all.
    pub lifecycles: Vec<Lifecycle>,
    /// The function that the instance runs: an orchestration's name, or `script`.
    pub function: Option<String>,
    /// The earliest time of its beginning, in nanoseconds since 1970.
    pub created_from: Option<i64>,
    /// The time before which it began, in nanoseconds since 1970.
    pub created_before: Option<i64>,
    /// The earliest time of its end, and the time before which it ended.
    pub ended_from: Option<i64>,
    pub ended_before: Option<i64>,
    /// Whether only roots match: scripts, sessions and what was started by a client.
    pub roots: bool,
}

impl InstanceFilter {
    fn lets_through(&self, record: &InstanceRecord) -> bool {
        (self.lifecycles.is_empty() || self.lifecycles.contains(&record.status.lifecycle()))
            && (!self.roots || record.root == record.id)
            && self.ended_from.is_none_or(|from| record.ended.is_some_and(|ended| ended >= from))
            && self.ended_before.is_none_or(|before| record.ended.is_some_and(|ended| ended < before))
            && self.function.as_ref().is_none_or(|function| *function == record.function)
            && self.created_from.is_none_or(|from| record.created >= from)
            && self.created_before.is_none_or(|before| record.created < before)
    }
}

/// The contents of a store about one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityView {
    pub entity: EntityId,
    /// `None` while the entity has its initial state.
    pub state: Option<Data>,
    pub hold: Option<Hold>,
    /// The messages that wait for the entity, in the order of their arrival.
    pub mail: Vec<StoredMail>,
    /// The number of operations that are kept.
    pub operations: u64,
}

/// The filter of a query for entities; the default lets all through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntityFilter {
    /// The entity's name in its program.
    pub name: Option<String>,
    /// Whether only entities match that have a holder, or for which a critical section waits.
    pub locked: bool,
}

/// A program of a store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramView {
    pub hash: ProgramHash,
    /// The names of the program's modules; the first one is the program's own.
    pub modules: Vec<String>,
    /// The entities whose newest program this is.
    pub entities: Vec<String>,
}

/// A part of an instance's history, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryPage {
    pub record: InstanceRecord,
    /// The checkpoint that a trimmed history begins with; in the first page only.
    pub checkpoint: Option<Vec<u8>>,
    /// The numbers and bytes of chunks, in order.
    pub chunks: Vec<(u64, Vec<u8>)>,
    /// The number of the chunk that the next page begins with; `None` at the end.
    pub next: Option<u64>,
}

/// Returns instances in the order of their ids.
pub fn instances(
    store: &dyn Read,
    filter: &InstanceFilter,
    paging: &Paging,
) -> Result<Page<InstanceRecord>, ReadError> {
    let prefix = keys::instance(&filter.prefix);
    let first = keys::instance(&filter.from);
    // The keys have the order of the ids.
    let begin = paging.begin(&prefix).max(&first[..]);
    let mut page = Page { items: Vec::new(), next: None };
    let (mut scanned, mut bytes, mut result) = (0, 0, Ok(()));
    store.scan_from(&prefix, begin, &mut |key, value| {
        if page.items.len() == paging.limit() || scanned == SCANNED || bytes > PAGE_BYTES {
            page.next = Some(Cursor(key.to_vec()));
            return false;
        }
        scanned += 1;
        match decode_record(value, &String::from_utf8_lossy(&key[keys::INSTANCES.len()..])) {
            Ok(record) if filter.lets_through(&record) => {
                bytes += value.len();
                page.items.push(record);
            }
            Ok(_) => {}
            Err(error) => result = Err(error),
        }
        result.is_ok()
    })?;
    result.map(|()| page)
}

/// Visits the heads of instances from an id on, in the order of the ids. Returns the id to go on
/// from; `None` at the end.
pub fn heads(
    store: &dyn Read,
    from: &str,
    limit: usize,
    visit: &mut dyn FnMut(&str, Head<'_>),
) -> Result<Option<String>, ReadError> {
    let (mut count, mut next, mut result) = (0, None, Ok(()));
    store.scan_from(keys::INSTANCES, &keys::instance(from), &mut |key, value| {
        let id = String::from_utf8_lossy(&key[keys::INSTANCES.len()..]);
        if count == limit {
            next = Some(id.into_owned());
            return false;
        }
        count += 1;
        if with_head(value, |head| visit(&id, head)).is_none() {
            result = Err(format!("the record of {id} is not readable").into());
        }
        result.is_ok()
    })?;
    result.map(|()| next)
}

/// Returns a part of an instance's history, from its beginning or from a chunk on; `None` if there
/// is no such instance.
pub fn history(store: &dyn Read, id: &str, from: Option<u64>) -> Result<Option<HistoryPage>, ReadError> {
    let Some(record) = read_record(store, id)? else { return Ok(None) };
    let trimmed = match from {
        None => read_checkpoint(store, &record)?.filter(|checkpoint| checkpoint.trimmed),
        Some(_) => None,
    };
    let first = from.or(trimmed.as_ref().map(|checkpoint| checkpoint.chunks));
    let prefix = keys::history(id);
    let begin = first.map_or(prefix.clone(), |number| keys::chunk(id, number));
    let (mut chunks, mut next, mut bytes) = (Vec::new(), None, 0);
    store.scan_from(&prefix, &begin, &mut |key, value| {
        let Some((_, number)) = keys::parse_chunk(key) else { return true };
        if bytes > PAGE_BYTES {
            next = Some(number);
            return false;
        }
        bytes += value.len();
        chunks.push((number, value.to_vec()));
        true
    })?;
    let checkpoint = trimmed.map(|checkpoint| checkpoint.encode());
    Ok(Some(HistoryPage { record, checkpoint, chunks, next }))
}

/// Joins the pages of a history. The error says what is missing or damaged.
pub fn assemble(pages: Vec<HistoryPage>) -> Result<(InstanceRecord, History), ReadError> {
    let mut pages = pages.into_iter();
    let Some(HistoryPage { mut record, checkpoint, mut chunks, .. }) = pages.next() else {
        return Err("a history without a page".into());
    };
    for page in pages {
        record = page.record;
        chunks.extend(page.chunks);
    }
    let history = match checkpoint.as_deref().map(Checkpoint::decode) {
        Some(Some(checkpoint)) => History::read_after(checkpoint, chunks),
        Some(None) => Err("its checkpoint is not readable".to_string()),
        None => History::read(record.first, chunks),
    };
    let history = whole(&record, history)?;
    Ok((record, history))
}

impl HistoryPage {
    /// Whether this page and a later one belong to the same history. An instance that has begun
    /// anew or was rewound in between has another history.
    pub fn continues(&self, later: &HistoryPage) -> bool {
        self.record.has_same_history(&later.record)
    }
}

/// Returns the contents of the store about an entity; `None` if there are none and no program
/// declares it.
pub fn entity(store: &dyn Read, entity: &EntityId) -> Result<Option<EntityView>, ReadError> {
    let state = store.get(&keys::entity(entity))?.map(Data);
    let hold = store.get(&keys::lock(entity))?.map(|bytes| decode_hold(&bytes)).transpose()?;
    let to = super::Address::entity(entity.clone());
    let mail = store.all(&keys::mail_of(&to))?;
    let mail = mail.iter().map(|(_, bytes)| decode_mail(bytes)).collect::<Result<Vec<_>, _>>()?;
    let operations = read_kept(store, entity)?.map_or(0, |kept| kept.count());
    let is_known = state.is_some() || hold.is_some() || !mail.is_empty() || operations > 0;
    if !is_known && deployed(store, &entity.name)?.is_none() {
        return Ok(None);
    }
    Ok(Some(EntityView { entity: entity.clone(), state, hold, mail, operations }))
}

/// Returns kept operations of an entity, beginning with a number; `None` if nothing is known of it.
pub fn operations(
    store: &dyn Read,
    entity: &EntityId,
    from: u64,
    limit: u32,
) -> Result<Option<OperationsPage>, ReadError> {
    let page = kept::operations(store, entity, from, limit, PAGE_BYTES)?;
    if page.count == 0 && self::entity(store, entity)?.is_none() {
        return Ok(None);
    }
    Ok(Some(page))
}

/// Returns the newest program that declares an entity, or `None` if none does.
pub fn program_of_entity(store: &dyn Read, name: &str) -> Result<Option<ProgramHash>, ReadError> {
    Ok(deployed(store, name)?.map(|deployed| deployed.program))
}

/// Returns entities in the order of their keys' bytes.
pub fn entities(
    store: &dyn Read,
    filter: &EntityFilter,
    paging: &Paging,
) -> Result<Page<EntityView>, ReadError> {
    let of_name = |kind: &[u8]| match &filter.name {
        Some(name) => [kind, name.as_bytes(), &[0]].concat(),
        None => kind.to_vec(),
    };
    // A cursor is the part of a key after its kind. All kinds sort in the same order.
    let mut gathered = Gathered::new(paging);
    if !filter.locked {
        let kind = keys::ENTITIES;
        gathered.gather(store, kind, &of_name(kind), |view, bytes| {
            view.state = Some(Data(bytes.to_vec()));
            Ok(())
        })?;
        gathered.gather(store, keys::KEPT, &of_name(keys::KEPT), |view, bytes| {
            let kept =
                KeptRange::decode(bytes).ok_or("the list of an entity's operations is not readable")?;
            view.operations = kept.count();
            Ok(())
        })?;
    }
    gathered.gather(store, keys::LOCKS, &of_name(keys::LOCKS), |view, bytes| {
        view.hold = Some(decode_hold(bytes)?);
        Ok(())
    })?;
    let kind = keys::ENTITY_MAIL;
    gathered.gather(store, kind, &of_name(kind), |view, bytes| {
        view.mail.push(decode_mail(bytes)?);
        Ok(())
    })?;
    let is_locked = |view: &EntityView| {
        let waits = |mail: &StoredMail| matches!(mail.message, Message::Lock { .. });
        view.hold.is_some() || view.mail.iter().any(waits)
    };
    Ok(gathered.page(|view| !filter.locked || is_locked(view)))
}

/// The entities found in several ranges of keys, up to the place where the first scan stopped.
struct Gathered<'a> {
    paging: &'a Paging,
    found: BTreeMap<Vec<u8>, EntityView>,
    /// The first entity that is not in the page.
    ends: Option<Vec<u8>>,
}

impl<'a> Gathered<'a> {
    fn new(paging: &'a Paging) -> Gathered<'a> {
        Gathered { paging, found: BTreeMap::new(), ends: None }
    }

    fn gather(
        &mut self,
        store: &dyn Read,
        kind: &[u8],
        prefix: &[u8],
        add: impl Fn(&mut EntityView, &[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let begin = [kind, self.paging.begin(b"")].concat();
        let (mut last, mut entities, mut bytes, mut result) = (Vec::new(), 0, 0, Ok(()));
        store.scan_from(prefix, &begin, &mut |key, value| {
            let id = match kind == keys::ENTITY_MAIL {
                // A zero and the message's number follow the entity.
                true => &key[kind.len()..key.len().saturating_sub(9).max(kind.len())],
                false => &key[kind.len()..],
            };
            if id != last {
                if entities == self.paging.limit() || bytes > PAGE_BYTES {
                    let earlier = self.ends.take().filter(|ends| ends.as_slice() < id);
                    self.ends = Some(earlier.unwrap_or_else(|| id.to_vec()));
                    return false;
                }
                last = id.to_vec();
                entities += 1;
            }
            bytes += value.len();
            let Some(entity) = keys::parse_entity_key(&[keys::ENTITIES, id].concat()) else { return true };
            let fresh = || EntityView { entity, state: None, hold: None, mail: Vec::new(), operations: 0 };
            let view = self.found.entry(id.to_vec()).or_insert_with(fresh);
            result = add(view, value);
            result.is_ok()
        })?;
        result
    }

    fn page(self, lets_through: impl Fn(&EntityView) -> bool) -> Page<EntityView> {
        let mut page = Page { items: Vec::new(), next: self.ends.clone().map(Cursor) };
        for (seen, (id, view)) in self.found.into_iter().enumerate() {
            if self.ends.as_ref().is_some_and(|ends| id >= *ends) {
                break;
            }
            if seen == self.paging.limit() {
                page.next = Some(Cursor(id));
                break;
            }
            if lets_through(&view) {
                page.items.push(view);
            }
        }
        page
    }
}

/// Returns all programs, in the order of their hashes.
pub fn programs(store: &dyn Read) -> Result<Vec<ProgramView>, ReadError> {
    let mut entities: BTreeMap<[u8; 32], Vec<String>> = BTreeMap::new();
    for (key, bytes) in store.all(keys::DEPLOYED)? {
        let deployed = Deployed::decode(&bytes).ok_or("the program of an entity is not readable")?;
        let name = String::from_utf8_lossy(&key[keys::DEPLOYED.len()..]).into_owned();
        entities.entry(deployed.program.0).or_default().push(name);
    }
    let mut programs = Vec::new();
    for (key, bytes) in store.all(keys::PROGRAMS)? {
        let stored = StoredProgram::decode(&bytes);
        let hash = <[u8; 32]>::try_from(&key[keys::PROGRAMS.len()..]);
        let (Some(stored), Ok(hash)) = (stored, hash) else {
            return Err("a program in the store is not readable".into());
        };
        let modules = stored.modules.into_iter().map(|(name, _)| name).collect();
        let entities = entities.remove(&hash).unwrap_or_default();
        programs.push(ProgramView { hash: ProgramHash(hash), modules, entities });
    }
    Ok(programs)
}

/// Returns the greatest number among the ids that consist of `prefix` and a number; 0 if there are
/// none.
pub fn last_number(store: &dyn Read, prefix: &str) -> Result<u64, ReadError> {
    let begin = keys::instance(prefix);
    let mut last = 0;
    store.scan(&begin, &mut |key, _| {
        let number = std::str::from_utf8(&key[begin.len()..]).unwrap_or_default();
        last = last.max(number.parse().unwrap_or(0));
        true
    })?;
    Ok(last)
}

/// Returns the number of messages that wait for instances and entities.
pub fn waiting_mail(store: &dyn Read) -> Result<u64, ReadError> {
    let mut count = 0;
    store.scan(keys::MAIL, &mut |_, _| {
        count += 1;
        true
    })?;
    Ok(count)
}

/// Returns the changes of a batch for followers of a store, each subject once.
pub fn changes(batch: &kv::Batch) -> Vec<ChangeKind> {
    let (mut changes, mut grown, mut entities) = (Vec::new(), HashSet::new(), HashSet::new());
    for (key, value) in &batch.writes {
        let entity = if let Some(id) = key.strip_prefix(keys::INSTANCES) {
            let id = String::from_utf8_lossy(id).into_owned();
            let instance = value.as_deref().and_then(|value| {
                with_head(value, |head| ChangeKind::Instance {
                    id: id.clone(),
                    lifecycle: head.lifecycle,
                    function: head.function.into(),
                    created: head.created,
                    ended: head.ended,
                    parent: head.parent.map(Into::into),
                })
            });
            changes.push(instance.unwrap_or(ChangeKind::Removed { id }));
            continue;
        } else if let Some((id, _)) = keys::parse_chunk(key).filter(|_| value.is_some()) {
            if grown.insert(id) {
                changes.push(ChangeKind::History { id: id.to_string() });
            }
            continue;
        } else if let Some(entity) = keys::parse_entity_key(key) {
            entity
        } else if let Some(entity) = keys::parse_kept(key) {
            entity
        } else if let Some((super::Address::Entity(entity), _)) = keys::parse_mail(key) {
            (*entity).clone()
        } else {
            continue;
        };
        if entities.insert(entity.clone()) {
            changes.push(ChangeKind::Entity { entity });
        }
    }
    changes
}
