//! The routes for entities and locks.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::{Answer, Command, Queries, Query, QueryError, Reply};
use crate::archive::forms;
use crate::check::declared;
use crate::engine::query::{self, Cursor, EntityFilter, EntityView, Page, Paging};
use crate::host::unique;
use crate::machine::{Data, EntityId, bad_own_id, error};

use super::guard::{Admin, Operator, Reader};
use super::input::{Given, Input, Params, Path, arguments};
use super::instances::{accepted, limit, nanoseconds, unexpected};
use super::problem::Problem;
use super::service::Service;

/// The longest time that a call waits for its answer, in seconds.
const CALL_SECONDS: f64 = 60.0;

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/entities", get(list))
        .route("/entities/{name}", get(declaration))
        .route("/entities/{name}/{key}", get(one))
        .route("/entities/{name}/{key}/drop-message", post(drop_message))
        .route("/entities/{name}/{key}/signal/{operation}", post(signal))
        .route("/entities/{name}/{key}/call/{operation}", post(call))
        .route("/locks", get(locks))
}

/// The parameters of lists of entities.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listed {
    name: Option<String>,
    locked: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn list(
    _: Reader,
    State(service): State<Service>,
    Params(listed): Params<Listed>,
) -> Result<Json<Body>, Problem> {
    let filter = EntityFilter { name: listed.name, locked: listed.locked.unwrap_or(false) };
    let page = page(&service, filter, limit(listed.limit)?, listed.cursor.as_deref()).await?;
    let items: Vec<Body> = page.items.iter().map(forms::entity_line).collect();
    Ok(Json(json!({"items": items, "next": page.next.map(|cursor| cursor.text())})))
}

/// Returns a page of entities, after a cursor.
pub async fn page(
    service: &Service,
    filter: EntityFilter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Page<EntityView>, Problem> {
    let from = match cursor {
        None => None,
        Some(text) => {
            let cursor = Cursor::parse(text).filter(|_| !text.is_empty());
            Some(cursor.ok_or_else(|| Problem::bad("the cursor is not from an earlier page"))?)
        }
    };
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    service
        .ask(move |reads| {
            // A page of a filter that lets few through may be empty; the next one goes on.
            let (mut items, mut from) = (Vec::new(), from);
            loop {
                let query = Query::Entities { filter: filter.clone(), paging: Paging { from, limit } };
                match reads.query(query)? {
                    Answer::Entities(page) => {
                        items.extend(page.items);
                        from = page.next;
                    }
                    Answer::Unreadable(reason) => return Err(Problem::unreadable(reason)),
                    _ => return Err(QueryError::Unexpected.into()),
                }
                if !items.is_empty() || from.is_none() {
                    return Ok(Page { items, next: from });
                }
            }
        })
        .await
}

/// Reads the entity of a path. A key is written as in `Account@alice`.
pub fn entity(name: &str, key: &str) -> Result<EntityId, Problem> {
    let text = format!("{name}@{key}");
    match EntityId::parse(&text) {
        Some(Ok(entity)) => Ok(entity),
        Some(Err(fail)) => {
            Err(Problem::bad(format!("`{text}` is not an entity: {}", error::message(&fail.value))))
        }
        None => Err(Problem::bad(format!("`{text}` is not an entity"))),
    }
}

/// The problem that no program declares an entity.
pub fn no_entity(name: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_entity",
        format!("no program here declares an entity `{name}`"),
    )
    .hint("a program's entities are known once it was run, started or deployed in this store")
}

/// Reads what the store has of an entity.
pub async fn view(service: &Service, entity: EntityId) -> Result<EntityView, Problem> {
    let name = entity.name.clone();
    let found = service.ask(move |reads| Ok(reads.entity(&entity)?)).await?;
    found.ok_or_else(|| no_entity(&name))
}

/// Answers with the operations that the newest program with an entity declares.
async fn declaration(
    _: Reader,
    State(service): State<Service>,
    Path(name): Path<String>,
) -> Result<Json<Body>, Problem> {
    service
        .ask(move |reads| {
            let program = reads.ask(|store| query::program_of_entity(store, &name))??;
            let hash = program.ok_or_else(|| no_entity(&name))?;
            let modules = reads.modules(hash)?;
            let found = modules
                .iter()
                .find_map(|(file, text)| declared::declared(text, &name).map(|declared| (file, declared)));
            let (file, declared) = found.ok_or_else(|| no_entity(&name))?;
            let operations: Vec<Body> = declared.operations.iter().map(operation).collect();
            Ok(Json(json!({
                "name": name, "program": hex::encode(hash.0), "file": file, "doc": declared.doc,
                "state": declared.state, "operations": operations,
            })))
        })
        .await
}

/// Returns the JSON form of a declared operation. Defaults are as they are written.
fn operation(operation: &declared::Operation) -> Body {
    let declared::Operation { name, doc, params } = operation;
    let shown: Vec<Body> =
        params.iter().map(|param| json!({"name": param.name, "default": param.default})).collect();
    let least = params.iter().take_while(|param| param.default.is_none()).count();
    json!({"operation": name, "doc": doc, "params": shown, "least": least, "most": params.len()})
}

async fn one(
    _: Reader,
    State(service): State<Service>,
    Path((name, key)): Path<(String, String)>,
) -> Result<Json<Body>, Problem> {
    let view = view(&service, entity(&name, &key)?).await?;
    Ok(Json(forms::entity(&view)))
}

/// The body of a signal.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Signalled {
    args: Option<Given>,
    /// The number of seconds until the operation starts.
    after: Option<f64>,
}

async fn signal(
    _: Operator,
    State(service): State<Service>,
    Path((name, key, operation)): Path<(String, String, String)>,
    Input(signal): Input<Option<Signalled>>,
) -> Result<Response, Problem> {
    let signal = signal.unwrap_or_default();
    let args = arguments(signal.args.as_ref())?;
    let after = signal.after.map(|seconds| nanoseconds(seconds, "after")).transpose()?;
    let entity = entity(&name, &key)?;
    send(&service, entity, operation, args, after).await?;
    Ok(accepted())
}

/// Sends an operation to an entity.
pub async fn send(
    service: &Service,
    entity: EntityId,
    operation: String,
    args: Data,
    after: Option<i64>,
) -> Result<(), Problem> {
    let name = entity.name.clone();
    match service.command(Command::Signal { entity, operation, args, after }).await? {
        Reply::Done => Ok(()),
        Reply::Unknown => Err(no_entity(&name)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

/// The body of a call.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Called {
    args: Option<Given>,
    /// The id of the call. A repeated call with the same id joins the first one.
    id: Option<String>,
    /// The number of seconds to wait for the answer.
    timeout: Option<f64>,
}

/// Calls an operation, and answers with its result or its error.
async fn call(
    _: Operator,
    State(service): State<Service>,
    Path((name, key, operation)): Path<(String, String, String)>,
    Input(call): Input<Option<Called>>,
) -> Result<Response, Problem> {
    let call = call.unwrap_or_default();
    let args = arguments(call.args.as_ref())?;
    let timeout = nanoseconds(call.timeout.unwrap_or(CALL_SECONDS).min(CALL_SECONDS), "timeout")?;
    let id = call.id.unwrap_or_else(|| format!("call-{}", unique()));
    if let Some(reason) = bad_own_id(&id) {
        return Err(Problem::bad(format!("`{id}` can't be an id: {reason}")));
    }
    let entity = entity(&name, &key)?;
    let command = Command::Call { id: id.clone(), entity, operation, args, timeout: Some(timeout) };
    match service.command(command).await? {
        Reply::Answered(Ok(value)) => {
            Ok(Json(json!({"id": id, "result": forms::data(&value)})).into_response())
        }
        Reply::Answered(Err(failure)) => {
            let title = error::title(&failure.value.decode());
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "operation_failed", title)
                .with("id", json!(id))
                .with("error", forms::data(&failure.value)))
        }
        Reply::Unanswered => {
            let body = json!({"id": id, "result": null, "answered": false});
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
        Reply::Unknown => Err(no_entity(&name)),
        Reply::Taken { error, .. } => Err(Problem::taken(&error)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

async fn drop_message(
    _: Admin,
    State(service): State<Service>,
    Path((name, key)): Path<(String, String)>,
) -> Result<Json<Body>, Problem> {
    match service.command(Command::DropMessage(entity(&name, &key)?)).await? {
        Reply::Done => Ok(Json(json!({"dropped": true}))),
        Reply::Unknown => Err(Problem::refused(format!("no message waits for {name}@{key}"))),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

async fn locks(_: Reader, State(service): State<Service>) -> Result<Json<Body>, Problem> {
    let filter = EntityFilter { name: None, locked: true };
    service
        .ask(move |reads| {
            let mut items = Vec::new();
            reads.each_entities(&filter, &mut |page| {
                items.extend(page.iter().map(forms::lock));
                true
            })?;
            Ok(Json(json!({"items": items})))
        })
        .await
}

/// Returns the key of an entity as it is written after the `@`.
pub fn key_text(entity: &EntityId) -> String {
    let shown = entity.to_string();
    shown.strip_prefix(&format!("{}@", entity.name)).unwrap_or(&shown).to_string()
}
