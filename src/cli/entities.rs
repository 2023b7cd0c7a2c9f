//! `durable entities`, `entity` and `locks`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::engine::{self, Address, Hold, Message, StoredMail, keys};
use crate::host::{Ask, Reply};
use crate::kv::Read;
use crate::machine::{Data, EntityId, format};
use crate::render::short;

use super::access::Access;
use super::arguments::{EntitiesList, OneEntity, Programs};
use super::clients::entity as parse;
use super::problem::{Problem, unreadable};
use super::table::{table, time};
use super::{FAILED, UNKNOWN, export, print};

/// What is known of the entities of a store.
#[derive(Default)]
struct Known {
    states: BTreeMap<EntityId, Data>,
    holds: BTreeMap<EntityId, Hold>,
    mail: BTreeMap<EntityId, Vec<StoredMail>>,
}

impl Known {
    fn read(store: &dyn Read, name: Option<&str>) -> Result<Known, Problem> {
        let mut known = Known::default();
        let prefix = name.map_or_else(|| keys::ENTITIES.to_vec(), keys::entities);
        for (key, state) in store.all(&prefix).map_err(unreadable)? {
            if let Some(entity) = keys::parse_entity_key(&key) {
                known.states.insert(entity, Data(state));
            }
        }
        let ours = |entity: &EntityId| name.is_none_or(|name| entity.name == name);
        for (entity, hold) in engine::read_holds(store).map_err(unreadable)? {
            if ours(&entity) {
                known.holds.insert(entity, hold);
            }
        }
        for (to, _, mail) in engine::read_mail(store).map_err(unreadable)? {
            if let Address::Entity(entity) = to
                && ours(&entity)
            {
                known.mail.entry((*entity).clone()).or_default().push(mail);
            }
        }
        Ok(known)
    }

    /// All of them, by how they are written.
    fn all(&self) -> Vec<&EntityId> {
        let all: BTreeSet<&EntityId> =
            self.states.keys().chain(self.holds.keys()).chain(self.mail.keys()).collect();
        let mut all: Vec<&EntityId> = all.into_iter().collect();
        all.sort_by_cached_key(|entity| entity.to_string());
        all
    }

    fn waiting(&self, entity: &EntityId) -> usize {
        self.mail.get(entity).map_or(0, Vec::len)
    }
}

/// Removes a message that an entity can't come past.
fn drop_message(one: &OneEntity, entity: EntityId) -> Result<u8, Problem> {
    let mut store = Access::open(&one.store.store)?;
    let name = entity.to_string();
    let reply = store.ask(Ask::DropMessage(entity))?;
    store.close()?;
    match reply {
        Reply::Done => Ok(0),
        Reply::Refused(reason) => Err(Problem::new(FAILED, reason)),
        _ => Err(Problem::new(UNKNOWN, format!("no message waits for {name}"))),
    }
}

/// Lists entities that have a state, a holder or messages.
pub fn entities(list: EntitiesList) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    let known = Known::read(&store, list.name.as_deref())?;
    store.close()?;
    let mut rows = Vec::new();
    for entity in known.all() {
        let state = known.states.get(entity);
        let holder = known.holds.get(entity).map(|hold| hold.owner.instance.clone());
        if list.json {
            let shown = json!({
                "entity": entity.to_string(), "name": entity.name, "key": export::data(&entity.key),
                "state": state.map(export::data), "held_by": holder, "waiting": known.waiting(entity),
            });
            print(&format!("{shown}\n"))?;
            continue;
        }
        rows.push(vec![
            entity.to_string(),
            state.map_or_else(|| "-".into(), |state| short(&format::brief(&state.decode()), 60)),
            holder.unwrap_or_else(|| "-".into()),
            known.waiting(entity).to_string(),
        ]);
    }
    if !list.json {
        print(&table(&["ENTITY", "STATE", "HELD BY", "WAITING"], &rows))?;
    }
    Ok(0)
}

/// Shows one entity: its state, its holder, and what waits for it.
pub fn entity(one: OneEntity) -> Result<u8, Problem> {
    let entity = parse(&one.entity)?;
    if one.drop_message {
        return drop_message(&one, entity);
    }
    let store = Access::open(&one.store.store)?;
    let known = Known::read(&store, Some(&entity.name))?;
    let deployed = engine::deployed(&store, &entity.name).map_err(unreadable)?;
    store.close()?;
    if deployed.is_none() && !known.all().contains(&&entity) {
        return Err(Problem::new(UNKNOWN, format!("no program here declares an entity `{}`", entity.name))
            .hint("`durable entities` shows those that there are"));
    }
    let state = known.states.get(&entity);
    let hold = known.holds.get(&entity);
    let mail = known.mail.get(&entity).map(Vec::as_slice).unwrap_or_default();
    if one.json {
        let waiting: Vec<_> = mail.iter().map(|mail| export::message(&mail.message)).collect();
        let shown = json!({
            "entity": entity.to_string(), "state": state.map(export::data),
            "held_by": hold.map(|hold| &hold.owner.instance), "waiting": waiting,
        });
        print(&format!("{shown}\n"))?;
        return Ok(0);
    }
    let mut text = match state {
        Some(state) => format!("state      {}\n", format::write(&state.decode(), 4_000).0),
        None => "state      none: its next operation finds the initial one\n".to_string(),
    };
    if let Some(hold) = hold {
        text.push_str(&format!("held by    {} since {}\n", hold.owner.instance, time(hold.since)));
    }
    for mail in mail {
        text.push_str(&format!("waiting    {}\n", short(&describe(&mail.message), 100)));
    }
    print(&text)?;
    Ok(0)
}

fn describe(message: &Message) -> String {
    let call = |operation: &str, args: &Data| format!("{operation}({})", engine::Args::of(args).describe());
    match message {
        Message::Call { caller, operation, args, .. } => {
            format!("{} called by {}", call(operation, args), caller.instance)
        }
        Message::Signal { operation, args, due: 0 } => format!("signal {}", call(operation, args)),
        Message::Signal { operation, args, due } => {
            format!("signal {} at {}", call(operation, args), time(*due))
        }
        Message::Lock { owner, since, .. } => {
            format!("the critical section of {}, since {}", owner.instance, time(*since))
        }
        other => other.word().to_string(),
    }
}

/// Lists who holds entities, and who waits for them, since when.
pub fn locks(list: Programs) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    let known = Known::read(&store, None)?;
    store.close()?;
    let mut rows = Vec::new();
    for entity in known.all() {
        let hold = known.holds.get(entity);
        let waiting: Vec<(&str, i64)> = known
            .mail
            .get(entity)
            .into_iter()
            .flatten()
            .filter_map(|mail| match &mail.message {
                Message::Lock { owner, since, .. } => Some((owner.instance.as_str(), *since)),
                _ => None,
            })
            .collect();
        if hold.is_none() && waiting.is_empty() {
            continue;
        }
        if list.json {
            let waiting: Vec<_> = waiting
                .iter()
                .map(|(owner, since)| json!({"owner": owner, "since": format::instant(*since)}))
                .collect();
            let shown = json!({
                "entity": entity.to_string(), "held_by": hold.map(|hold| &hold.owner.instance),
                "since": hold.map(|hold| format::instant(hold.since)), "waiting": waiting,
            });
            print(&format!("{shown}\n"))?;
            continue;
        }
        let waiting: Vec<String> =
            waiting.iter().map(|(owner, since)| format!("{owner} since {}", time(*since))).collect();
        rows.push(vec![
            entity.to_string(),
            hold.map_or_else(|| "-".into(), |hold| hold.owner.instance.clone()),
            hold.map_or_else(|| "-".into(), |hold| time(hold.since)),
            if waiting.is_empty() { "-".into() } else { waiting.join(", ") },
        ]);
    }
    if !list.json {
        print(&table(&["ENTITY", "HELD BY", "SINCE", "WAITING"], &rows))?;
    }
    Ok(0)
}
