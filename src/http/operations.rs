//! The route for the kept operations of an entity, the newest first.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::Queries;
use crate::archive::forms;
use crate::engine::query::{OperationView, OperationsPage};
use crate::host::Reads;
use crate::machine::EntityId;

use super::entities::{entity, no_entity};
use super::guard::Reader;
use super::input::{Params, Path};
use super::instances::limit;
use super::problem::Problem;
use super::service::Service;

pub fn routes() -> Router<Service> {
    Router::new().route("/entities/{name}/{key}/operations", get(operations))
}

/// The parameters of a list of operations.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listed {
    limit: Option<usize>,
    /// The number of the last operation of the page before.
    cursor: Option<String>,
}

async fn operations(
    _: Reader,
    State(service): State<Service>,
    Path((name, key)): Path<(String, String)>,
    Params(listed): Params<Listed>,
) -> Result<Json<Body>, Problem> {
    let entity = entity(&name, &key)?;
    let limit = limit(listed.limit)? as u64;
    let cursor = listed.cursor.map(|text| text.parse::<u64>()).transpose();
    let cursor = cursor.map_err(|_| Problem::bad("the cursor is not from an earlier page"))?;
    service
        .ask(move |reads| {
            let about = page(reads, &entity, u64::MAX, 1)?;
            let end = cursor.unwrap_or(u64::MAX).min(about.last() + 1);
            let begin = end.saturating_sub(limit).max(about.first);
            let mut items = between(reads, &entity, begin, end)?;
            items.reverse();
            let next = (begin > about.first && !items.is_empty()).then(|| begin.to_string());
            let items: Vec<Body> = items.iter().map(forms::operation).collect();
            Ok(Json(json!({"items": items, "next": next, "count": about.count, "kept": about.goes_on})))
        })
        .await
}

fn page(reads: &Reads, entity: &EntityId, from: u64, limit: u64) -> Result<OperationsPage, Problem> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    reads.operations(entity, from, limit)?.ok_or_else(|| no_entity(&entity.name))
}

/// Returns the operations from a number up to another one, which is not among them.
fn between(reads: &Reads, entity: &EntityId, begin: u64, end: u64) -> Result<Vec<OperationView>, Problem> {
    let (mut items, mut from) = (Vec::new(), begin);
    while from < end {
        let page = page(reads, entity, from, end - from)?;
        items.extend(page.items.into_iter().filter(|view| view.number < end));
        match page.next {
            Some(next) if next > from => from = next,
            _ => break,
        }
    }
    Ok(items)
}
