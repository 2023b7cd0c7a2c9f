//! Reads of a store for the engine: what its outputs ask for, and the events that it begins with.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::code::ProgramHash;
use crate::kv::{Read, after_prefix};
use crate::machine::Image;

use super::active::Active;
use super::address::{Address, LifeId};
use super::entity::Deployment;
use super::events::{Event, Output};
use super::kept::{read_keeps, read_kept};
use super::keys;
use super::program::known_image;
use super::purge::Tree;
use super::read_error::ReadError;
use super::reads::{
    Deployed, Images, deployed, read_answers, read_holds, read_life, read_lines, read_mail, read_past,
    read_record, read_time, read_version, read_versions,
};
use super::record::InstanceRecord;
use super::rekey::{Moved, rekeying};

/// Reads what an output asks for, and returns the event for the engine. The store must have all
/// that the engine has written. Returns `None` for an output that asks for no read.
pub fn look_up(
    store: &dyn Read,
    known: &mut HashMap<ProgramHash, Rc<Image>>,
    output: &Output,
) -> Result<Option<Event>, ReadError> {
    Ok(Some(match output {
        Output::Fetch { address, kept } => {
            fetch(store, address, *kept, &mut |hash| known_image(known, hash, store))?
        }
        Output::FetchProgram { hash } => Event::Program { image: known_image(known, *hash, store)? },
        Output::Tree { id } => {
            Event::Tree { id: id.clone(), tree: Tree::read(store, std::slice::from_ref(id))? }
        }
        Output::Status { step, id } => Event::Status { step: step.clone(), record: read_record(store, id)? },
        _ => return Ok(None),
    }))
}

/// Returns the ranges of keys that a fetch reads, but for those of programs and deployments.
pub fn ranges_of(address: &Address) -> Vec<Range<Vec<u8>>> {
    let one = |key: Vec<u8>| key.clone()..[&key[..], &[0]].concat();
    match address {
        Address::Instance(id) => {
            let history = keys::history(id);
            let after = after_prefix(&history).unwrap_or_default();
            vec![one(keys::instance(id)), one(keys::checkpoint(id)), history..after]
        }
        Address::Entity(entity) => vec![one(keys::entity(entity)), one(keys::version(entity))],
    }
}

/// Reads what [`Output::Fetch`](super::Output::Fetch) asks for.
pub fn fetch(
    store: &dyn Read,
    address: &Address,
    kept: bool,
    images: Images<'_>,
) -> Result<Event, ReadError> {
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
                Some(Deployed { program, permissions, version }) => {
                    Some(Deployment { image: images(program)?, permissions, version })
                }
                None => None,
            };
            // An entity without a state has no version, and a store may be far away.
            let version = if state.is_some() { read_version(store, entity)? } else { 0 };
            let kept = if kept { read_kept(store, entity)? } else { None };
            Ok(Event::Entity { entity: (**entity).clone(), state, version, deployed, kept })
        }
    }
}

/// Returns the same as [`recovery`], for a store that an earlier version may have written. If the
/// contents of entities have to move, the second event says so, and all events are those of the
/// store after the move.
pub fn recovery_of_any(store: &dyn Read, root: Option<&str>) -> Result<Vec<Event>, ReadError> {
    let Some(moves) = rekeying(store)? else { return recovery(store, root) };
    let mut events = recovery(&Moved::new(store, &moves), root)?;
    events.insert(1, Event::Rekey { moves });
    Ok(events)
}

/// Returns the first events of an engine. Of the instances with work to do, those of `root` go on,
/// or all of them if it is `None`.
pub fn recovery(store: &dyn Read, root: Option<&str>) -> Result<Vec<Event>, ReadError> {
    let holds = read_holds(store)?;
    // Only running instances hold entities.
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
    let (answers, versions) = (read_answers(store)?, read_versions(store)?);
    let keeps = read_keeps(store)?;
    let mut events =
        vec![Event::Recover { mail, holds, lines, answers, life, time, versions, keeps, root: root_only }];
    events.extend(stale.into_iter().map(|owner| Event::Release { owner }));
    // What became due while no process ran goes on in the order in which it became due.
    let mut later = Vec::new();
    for (key, entry) in store.all(keys::ACTIVE)? {
        let id = String::from_utf8(key[keys::ACTIVE.len()..].to_vec());
        let Ok(id) = id else { continue };
        let active =
            Active::decode(&entry).ok_or_else(|| format!("the index entry of {id} is not readable"))?;
        match (root, active.due) {
            (Some(root), _) if root != active.root => {}
            (None, Some(due)) => later.push((due, Event::WakeAt { id, root: active.root, due })),
            (Some(_), Some(due)) => later.push((due, Event::Wake { id })),
            (_, None) => events.push(Event::Wake { id }),
        }
    }
    later.sort_by_key(|(due, _)| *due);
    events.extend(later.into_iter().map(|(_, event)| event));
    Ok(events)
}
