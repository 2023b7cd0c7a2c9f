//! `durable call`: calls an operation of an entity, and shows its answer.

use std::path::Path;

use serde_json::json;

use crate::api::{Command, Queries, QueryError, Reply};
use crate::archive::forms;
use crate::engine::load_modules;
use crate::host::unique;
use crate::machine::{Data, EntityId, ErrorData};
use crate::render::{Shown, show};

use super::access::{Access, own_id, taken};
use super::arguments::Call;
use super::clients::{arguments, duration, entity};
use super::problem::Problem;
use super::{FAILED, UNKNOWN, outcome, print};

pub fn call(call: Call) -> Result<u8, Problem> {
    let Call { operation, json, .. } = call;
    call.id.as_deref().map_or(Ok(()), own_id)?;
    let entity = entity(&call.entity)?;
    let args = arguments(&call.args)?;
    let timeout = call.timeout.as_deref().map(duration).transpose()?;
    let id = call.id.unwrap_or_else(|| format!("call-{}", unique()));
    let mut store = Access::open(&call.store.store)?;
    let asked =
        Command::Call { id: id.clone(), entity: entity.clone(), operation: operation.clone(), args, timeout };
    let again = format!("`--id {id}` asks for the answer of this call again");
    let reply = store.ask(asked).map_err(|problem| {
        problem.hint(format!("if the call was accepted, it happens, and happens once: {again}"))
    })?;
    let answered = match reply {
        Reply::Answered(result) => shown(&store, &id, &result, json),
        Reply::Unanswered => Err(unanswered(&store, &entity, &again)),
        Reply::Unknown => {
            let title = format!("no program here declares an entity `{}`", entity.name);
            Err(Problem::new(UNKNOWN, title)
                .hint("a program's entities are known once it was run or started in this store"))
        }
        Reply::Taken { error, .. } => Err(Problem { hint: None, ..taken(&error) }),
        Reply::Refused(reason) => Err(Problem::new(FAILED, reason)),
        _ => Err(QueryError::Unexpected.into()),
    };
    store.close()?;
    answered
}

/// Shows an answer, and returns the exit code.
fn shown(
    store: &dyn Queries,
    id: &str,
    result: &Result<Data, ErrorData>,
    as_json: bool,
) -> Result<u8, Problem> {
    match result {
        Ok(value) if as_json => print(&format!("{}\n", json!({"id": id, "result": forms::data(value)})))?,
        Ok(value) => print(&format!("{}\n", outcome::result_text(value)))?,
        Err(error) => {
            show(&report(store, error)?);
            if as_json {
                print(&format!("{}\n", json!({"id": id, "error": forms::data(&error.value)})))?;
            }
            return Ok(FAILED);
        }
    }
    Ok(0)
}

/// Describes the error of an operation, with its place if the store has the program.
fn report(store: &dyn Queries, error: &ErrorData) -> Result<String, Problem> {
    let place = match store.program_of(error)? {
        Some(hash) => Some((hash, store.modules(hash)?)),
        None => None,
    };
    let program = place.and_then(|(hash, modules)| load_modules(hash, &modules).ok());
    Ok(match program {
        Some(program) => {
            let file = program.sources.files.first().map_or("", |file| file.name.as_str());
            Shown::new(&program.sources, Path::new(file)).error(error)
        }
        None => format!("Error: {}\n", error.title()),
    })
}

/// Returns the problem that there is no answer, with its reason as far as that is known.
fn unanswered(store: &Access, entity: &EntityId, again: &str) -> Problem {
    let hold = store.entity(entity).ok().flatten().and_then(|view| view.hold);
    let why = match hold {
        Some(hold) => format!(": it is held by {}", hold.owner.instance),
        None => String::new(),
    };
    let goes_on = match store {
        Access::Here(_) => "; it is answered when a process has the store, such as `durable serve`",
        Access::There(_) | Access::Cluster(_) => "",
    };
    Problem::new(FAILED, format!("{entity} has not answered{why}"))
        .hint(format!("the call is kept, and happens once{goes_on}: {again}"))
}
