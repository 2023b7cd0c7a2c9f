//! `durable entities`, `entity` and `locks`.

use crate::api::{Command, Queries};
use crate::archive::forms;
use crate::engine::query::{EntityFilter, EntityView};
use crate::engine::{self, Message};
use crate::machine::{Data, EntityId, format};
use crate::render::short;

use super::access::Access;
use super::arguments::{EntitiesList, OneEntity, Programs};
use super::clients::entity as parse;
use super::problem::Problem;
use super::table::{table, time};
use super::{operations, print};

/// Removes the message that an entity cannot process.
fn drop_message(one: &OneEntity, entity: EntityId) -> Result<u8, Problem> {
    let missing = format!("no message waits for {entity}");
    operations::remove(one, Command::DropMessage(entity), missing)
}

/// Returns all entities that a filter lets through, ordered by their written form.
fn all(store: &Access, filter: &EntityFilter) -> Result<Vec<EntityView>, Problem> {
    let mut all = Vec::new();
    store.each_entities(filter, &mut |page| {
        all.extend(page);
        true
    })?;
    all.sort_by_cached_key(|view| view.entity.to_string());
    Ok(all)
}

/// Lists entities that have a state, a holder, messages or kept operations.
pub fn entities(list: EntitiesList) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    let views = all(&store, &EntityFilter { name: list.name, locked: false })?;
    store.close()?;
    let mut rows = Vec::new();
    for view in &views {
        let EntityView { entity, state, hold, mail, .. } = view;
        if list.json {
            print(&format!("{}\n", forms::entity_line(view)))?;
            continue;
        }
        let holder = hold.as_ref().map(|hold| hold.owner.instance.clone());
        rows.push(vec![
            entity.to_string(),
            state.as_ref().map_or_else(|| "-".into(), |state| short(&format::brief(&state.decode()), 60)),
            holder.unwrap_or_else(|| "-".into()),
            mail.len().to_string(),
        ]);
    }
    if !list.json {
        print(&table(&["ENTITY", "STATE", "HELD BY", "WAITING"], &rows))?;
    }
    Ok(0)
}

/// Shows one entity: its state, its holder, and the messages that wait for it.
pub fn entity(one: OneEntity) -> Result<u8, Problem> {
    let entity = parse(&one.entity)?;
    if one.drop_message {
        return drop_message(&one, entity);
    }
    if one.forget_history {
        return operations::forget(&one, entity);
    }
    if one.history {
        return operations::history(&one, &entity);
    }
    let store = Access::open(&one.store.store)?;
    let view = store.entity(&entity)?;
    store.close()?;
    let Some(view) = view else {
        return Err(operations::no_entity(&entity));
    };
    if one.json {
        print(&format!("{}\n", forms::entity(&view)))?;
        return Ok(0);
    }
    let EntityView { entity, state, hold, mail, operations } = view;
    let mut text = match state {
        Some(state) => format!("state      {}\n", format::write(&state.decode(), 4_000).0),
        None => "state      none: its next operation finds the initial one\n".to_string(),
    };
    if let Some(hold) = hold {
        text.push_str(&format!("held by    {} since {}\n", hold.owner.instance, time(hold.since)));
    }
    for mail in &mail {
        text.push_str(&format!("waiting    {}\n", short(&describe(&mail.message), 100)));
    }
    if operations > 0 {
        text.push_str(&format!("operations {operations} kept: `durable entity {entity} --history`\n"));
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

/// Lists the holders of entities and the critical sections that wait for them, with times.
pub fn locks(list: Programs) -> Result<u8, Problem> {
    let store = Access::open(&list.store.store)?;
    let views = all(&store, &EntityFilter { name: None, locked: true })?;
    store.close()?;
    let mut rows = Vec::new();
    for view in &views {
        let EntityView { entity, hold, mail, .. } = view;
        if list.json {
            print(&format!("{}\n", forms::lock(view)))?;
            continue;
        }
        let waiting = mail.iter().filter_map(|mail| match &mail.message {
            Message::Lock { owner, since, .. } => Some(format!("{} since {}", owner.instance, time(*since))),
            _ => None,
        });
        let waiting: Vec<String> = waiting.collect();
        rows.push(vec![
            entity.to_string(),
            hold.as_ref().map_or_else(|| "-".into(), |hold| hold.owner.instance.clone()),
            hold.as_ref().map_or_else(|| "-".into(), |hold| time(hold.since)),
            if waiting.is_empty() { "-".into() } else { waiting.join(", ") },
        ]);
    }
    if !list.json {
        print(&table(&["ENTITY", "HELD BY", "SINCE", "WAITING"], &rows))?;
    }
    Ok(0)
}
