//! `durable entity --history`: the operations that are kept of an entity.

use crate::api::{Command, Queries, Reply};
use crate::archive::forms;
use crate::engine::Args;
use crate::engine::query::OperationView;
use crate::machine::{Data, EntityId, error, format};
use crate::render::short;

use super::access::Access;
use super::arguments::OneEntity;
use super::problem::{Problem, note};
use super::table::{table, time};
use super::{FAILED, UNKNOWN, print};

/// Shows the kept operations of an entity, the oldest first.
pub fn history(one: &OneEntity, entity: &EntityId) -> Result<u8, Problem> {
    let store = Access::open(&one.store.store)?;
    let mut operations = Vec::new();
    let page = store.each_operations(entity, one.from.unwrap_or(1), &mut |page| {
        operations.extend(page);
        true
    })?;
    store.close()?;
    let Some(page) = page else { return Err(no_entity(entity)) };
    if one.json {
        let lines: String = operations.iter().map(|view| format!("{}\n", forms::operation(view))).collect();
        print(&lines)?;
        return Ok(0);
    }
    match (page.count, page.goes_on) {
        (0, false) => note(
            "the store keeps no operations of entities; \
             `run`, `resume` and `serve` begin to keep them with --journal-entities",
        ),
        (0, true) => note("no operation was kept so far"),
        _ if page.first > 1 => note(&format!("the operations before number {} are not kept", page.first)),
        _ => {}
    }
    let rows: Vec<Vec<String>> = operations.iter().map(row).collect();
    print(&table(&["#", "TIME", "BY", "OPERATION", "RESULT", "STATE"], &rows))?;
    Ok(0)
}

fn row(view: &OperationView) -> Vec<String> {
    let kept = &view.operation;
    let by = kept.caller.as_ref().map_or_else(|| format!("signal {}", kept.from), |by| by.instance.clone());
    let result = match &kept.result {
        Ok(value) => value_of(value, 30),
        Err(failure) => format!("error {}", error::title(&failure.value.decode())),
    };
    let state = match (&kept.after, &view.after) {
        (None, _) => "unchanged".into(),
        (Some(_), Some(state)) => value_of(state, 60),
        (Some(_), None) => "none".into(),
    };
    let gap = if view.follows_gap { "(after a gap) " } else { "" };
    let called = format!("{gap}{}({})", kept.operation, Args::of(&kept.args).describe());
    vec![
        view.number.to_string(),
        time(kept.begun),
        short(&by, 40),
        short(&called, 60),
        short(&result, 60),
        state,
    ]
}

fn value_of(data: &Data, most: usize) -> String {
    short(&format::brief(&data.decode()), most)
}

/// Returns the problem that no program declares an entity.
pub fn no_entity(entity: &EntityId) -> Problem {
    Problem::new(UNKNOWN, format!("no program here declares an entity `{}`", entity.name))
        .hint("`durable entities` shows those that there are")
}

/// Forgets the kept operations of an entity.
pub fn forget(one: &OneEntity, entity: EntityId) -> Result<u8, Problem> {
    let missing = format!("no operations are kept of {entity}");
    remove(one, Command::ForgetOperations(entity), missing)
}

/// Has something of an entity removed. `missing` says that there is nothing to remove.
pub fn remove(one: &OneEntity, command: Command, missing: String) -> Result<u8, Problem> {
    let mut store = Access::open(&one.store.store)?;
    let reply = store.ask(command)?;
    store.close()?;
    match reply {
        Reply::Done => Ok(0),
        Reply::Refused(reason) => Err(Problem::new(FAILED, reason)),
        _ => Err(Problem::new(UNKNOWN, missing)),
    }
}
