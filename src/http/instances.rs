//! The routes for instances: lists, counts, one instance, and commands.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::{Command, Queries, Reply, Starting};
use crate::archive::forms;
use crate::engine::{self, InstanceRecord, Lifecycle, Steps};
use crate::host;
use crate::machine::{Data, IfExists, Value, bad_own_id, options};

use super::catalog::Wanted;
use super::feed::Next;
use super::guard::{Admin, Operator, Reader, allow, origin, token};
use super::input::{At, Given, Input, Params, Path, arguments, object, payload};
use super::problem::Problem;
use super::service::Service;

/// The number of instances of a page, and the largest number.
const PAGE: usize = 50;
const MOST: usize = 1_000;
/// The longest time that a client waits for the end of an instance.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/instances", get(list).post(start))
        .route("/instances/batch", post(batch))
        .route("/instances/{id}", get(one))
        .route("/instances/{id}/tree", get(tree))
        .route("/instances/{id}/events/{event}", post(raise))
        .route("/instances/{id}/suspend", post(suspend))
        .route("/instances/{id}/resume", post(resume))
        .route("/instances/{id}/cancel", post(cancel))
        .route("/instances/{id}/terminate", post(terminate))
        .route("/instances/{id}/rewind", post(rewind))
        .route("/instances/{id}/restart", post(restart))
        .route("/instances/{id}/purge", post(purge))
}

/// The parameters of lists.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listed {
    /// Words separated by commas.
    status: Option<String>,
    function: Option<String>,
    prefix: Option<String>,
    parent: Option<String>,
    roots: Option<bool>,
    after: Option<At>,
    before: Option<At>,
    order: Option<Order>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    #[default]
    Newest,
    Oldest,
}

/// Reads statuses that are separated by commas.
pub fn lifecycles(text: &str) -> Result<Vec<Lifecycle>, Problem> {
    const ALL: [Lifecycle; 6] = [
        Lifecycle::Scheduled,
        Lifecycle::Running,
        Lifecycle::Suspended,
        Lifecycle::Completed,
        Lifecycle::Failed,
        Lifecycle::Terminated,
    ];
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let found = ALL.into_iter().find(|one| one.word().eq_ignore_ascii_case(word));
            found.ok_or_else(|| {
                Problem::bad(format!("`{word}` is not a status"))
                    .hint("scheduled, running, suspended, completed, failed or terminated")
            })
        })
        .collect()
}

impl Listed {
    /// Returns the filter of a request that has no pages.
    pub fn filter(&self) -> Result<Wanted, Problem> {
        if self.order.is_some() || self.limit.is_some() || self.cursor.is_some() {
            return Err(Problem::bad("`order`, `limit` and `cursor` are for lists"));
        }
        self.wanted()
    }

    pub fn wanted(&self) -> Result<Wanted, Problem> {
        Ok(Wanted {
            lifecycles: lifecycles(self.status.as_deref().unwrap_or(""))?,
            function: self.function.clone(),
            prefix: self.prefix.clone().unwrap_or_default(),
            parent: self.parent.clone(),
            roots: self.roots.unwrap_or(false),
            after: self.after.map(|at| at.0),
            before: self.before.map(|at| at.0),
        })
    }
}

/// Returns the number of items of a page.
pub fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(PAGE) {
        limit @ 1..=MOST => Ok(limit),
        other => Err(Problem::bad(format!("a limit of {other} is not from 1 to {MOST}"))),
    }
}

/// Writes the place of an instance in a list, for the next page.
pub fn cursor((created, id): &(i64, Arc<str>)) -> String {
    format!("{created:x}.{id}")
}

/// Reads the place that [`cursor`] writes.
pub fn place(text: &str) -> Result<(i64, Arc<str>), Problem> {
    let read = || {
        let (created, id) = text.split_once('.')?;
        Some((i64::from_str_radix(created, 16).ok()?, Arc::from(id)))
    };
    read().ok_or_else(|| Problem::bad("the cursor is not from an earlier page"))
}

async fn list(
    _: Reader,
    State(service): State<Service>,
    Params(listed): Params<Listed>,
) -> Result<Json<Body>, Problem> {
    let wanted = listed.wanted()?;
    let limit = limit(listed.limit)?;
    let from = listed.cursor.as_deref().map(place).transpose()?;
    let newest = listed.order.unwrap_or_default() == Order::Newest;
    let (records, next) = page(&service, wanted, newest, from, limit).await?;
    let items: Vec<Body> = records.iter().map(forms::instance).collect();
    Ok(Json(json!({"items": items, "next": next.as_ref().map(cursor)})))
}

/// The place of an instance in a list: the time of its beginning, and its id.
type Place = (i64, Arc<str>);

/// Returns a page of records, and the place after it. An instance that was removed meanwhile is
/// left out.
pub async fn page(
    service: &Service,
    wanted: Wanted,
    newest: bool,
    from: Option<Place>,
    limit: usize,
) -> Result<(Vec<InstanceRecord>, Option<Place>), Problem> {
    let found = service.catalog(move |catalog| catalog.page(&wanted, newest, from.as_ref(), limit)).await?;
    let (ids, more) = found;
    let next = ids.last().filter(|_| more).cloned();
    let read = move |reads: &host::Reads| {
        let records: Result<Vec<_>, _> = reads.ask(|store| {
            ids.iter().filter_map(|(_, id)| engine::read_record(store, id).transpose()).collect()
        })?;
        Ok(records?)
    };
    Ok((service.ask(read).await?, next))
}

/// The parameters of one instance.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Waiting {
    /// The number of seconds to wait for the end of the instance.
    wait: Option<f64>,
}

async fn one(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
    Params(waiting): Params<Waiting>,
) -> Result<Json<Body>, Problem> {
    let patience = match waiting.wait {
        None => Duration::ZERO,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|wait| *wait <= LONGEST_WAIT)
            .ok_or_else(|| Problem::bad("`wait` is a number of seconds from 0 to 60"))?,
    };
    let record = wait_for(&service, &id, patience).await?;
    Ok(Json(forms::instance(&record)))
}

/// Returns the record of an instance, or the problem that there is none.
pub async fn record(service: &Service, id: &str) -> Result<InstanceRecord, Problem> {
    known(service, id).await?.ok_or_else(|| Problem::no_instance(id))
}

/// Returns the record of an instance, if there is one.
async fn known(service: &Service, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    let wanted = id.to_string();
    service.ask(move |reads| Ok(reads.instance(&wanted)?)).await
}

/// Returns the record of an instance, at its end or after some time.
pub async fn wait_for(service: &Service, id: &str, patience: Duration) -> Result<InstanceRecord, Problem> {
    if patience.is_zero() {
        return record(service, id).await;
    }
    // The follower is there before the record is read, so that the end is not missed.
    let mut follower = service.feed().follow(None)?;
    let now = record(service, id).await?;
    if now.status.is_ended() {
        return Ok(now);
    }
    let until = tokio::time::Instant::now() + patience;
    while let Ok(news) = tokio::time::timeout_at(until, follower.next()).await {
        let may_have_ended = match news {
            Next::Over => return Err(Problem::stopped()),
            Next::Gap(_) => true,
            Next::Burst(burst, _) => burst.has_ended(id),
        };
        if may_have_ended {
            let now = record(service, id).await?;
            if now.status.is_ended() {
                return Ok(now);
            }
        }
    }
    record(service, id).await
}

async fn tree(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<Body>, Problem> {
    let wanted = id.clone();
    let found = service.ask(move |reads| Ok(reads.tree(&wanted)?)).await?;
    let records = found.ok_or_else(|| Problem::no_instance(&id))?;
    Ok(Json(json!({"items": records.iter().map(forms::instance).collect::<Vec<_>>()})))
}

/// The body of a start. `args` is a list; `input` stands for one argument.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    function: String,
    id: Option<String>,
    args: Option<Given>,
    input: Option<Given>,
    if_exists: Option<Existing>,
}

/// What becomes of an id that exists.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Existing {
    Join,
    Fail,
    Replace,
}

impl From<Existing> for IfExists {
    fn from(existing: Existing) -> IfExists {
        match existing {
            Existing::Join => IfExists::Join,
            Existing::Fail => IfExists::Fail,
            Existing::Replace => IfExists::Replace,
        }
    }
}

async fn start(
    _: Operator,
    State(service): State<Service>,
    headers: HeaderMap,
    Input(start): Input<Start>,
) -> Result<Response, Problem> {
    let args = match (&start.args, &start.input) {
        (Some(_), Some(_)) => return Err(Problem::bad("`args` and `input` exclude each other")),
        (None, Some(input)) => Data::of(&Value::list(vec![input.data("input")?.decode()])),
        (args, None) => arguments(args.as_ref())?,
    };
    let if_exists = start.if_exists.map_or(IfExists::Join, IfExists::from);
    let id = begin(&service, start.function, args, start.id, if_exists).await?;
    let place = format!("{}/api/v1/instances/{}", origin(&service, &headers), escaped(&id));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(json!({"id": id}))).into_response())
}

/// Writes an id as a part of a URL's path.
pub fn escaped(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' | b'@' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Begins an instance of a deployed function, and returns its id.
pub async fn begin(
    service: &Service,
    function: String,
    args: Data,
    id: Option<String>,
    if_exists: IfExists,
) -> Result<String, Problem> {
    let name = function.clone();
    match service.command(Command::StartDeployed { function, args, id, if_exists }).await? {
        Reply::Begun(id) | Reply::Known(id) => Ok(id),
        Reply::Unknown => Err(Problem::no_function(&name)),
        Reply::Taken { error, .. } => Err(Problem::taken(&error)),
        Reply::Refused(reason) => Err(Problem::bad(reason)),
        _ => Err(unexpected()),
    }
}

pub fn unexpected() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the engine answers something else")
}

/// Has a command for an instance executed.
pub async fn tell(service: &Service, id: &str, command: Command) -> Result<(), Problem> {
    match service.command(command).await? {
        Reply::Done => Ok(()),
        Reply::Unknown => Err(Problem::no_instance(id)),
        Reply::Ended => Err(Problem::ended(id)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

/// The answer to a command that was accepted.
pub fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({"accepted": true}))).into_response()
}

/// The parameters of a link to an event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Code {
    code: Option<String>,
}

/// Returns whether a code is that of a link to an event of an instance.
async fn has_code(service: &Service, code: &Code, id: &str, event: &str) -> Result<bool, Problem> {
    let Some(code) = &code.code else { return Ok(false) };
    // Whoever has no right learns nothing of an instance, not even whether there is one.
    let found = known(service, id).await?;
    Ok(found.is_some_and(|record| service.keys().is_event_code(code, id, record.life, event)))
}

/// Raises an event. The code of a link to this event is enough.
async fn raise(
    State(service): State<Service>,
    headers: HeaderMap,
    Path((id, event)): Path<(String, String)>,
    Params(code): Params<Code>,
    body: axum::body::Body,
) -> Result<Response, Problem> {
    if !has_code(&service, &code, &id, &event).await? {
        allow(&service, token(&headers), super::Scope::Operate)?;
    }
    let payload = payload(body, "the payload").await?;
    tell(&service, &id, Command::Raise { id: id.clone(), event, payload }).await?;
    Ok(accepted())
}

async fn suspend(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    tell(&service, &id, Command::Suspend { id: id.clone() }).await?;
    Ok(accepted())
}

async fn resume(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    tell(&service, &id, Command::Resume { id: id.clone() }).await?;
    Ok(accepted())
}

/// The body of a cancellation.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cancelling {
    reason: Option<String>,
    /// The number of seconds for the clean-up.
    grace: Option<f64>,
}

async fn cancel(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(cancelling): Input<Option<Cancelling>>,
) -> Result<Response, Problem> {
    let Cancelling { reason, grace } = cancelling.unwrap_or_default();
    let grace = grace.map_or(Ok(options::GRACE), |grace| nanoseconds(grace, "grace"))?;
    let reason = reason_data(reason);
    tell(&service, &id, Command::Cancel { id: id.clone(), reason, grace }).await?;
    Ok(accepted())
}

/// Returns a reason as data; none is null.
fn reason_data(reason: Option<String>) -> Data {
    Data::of(&reason.map_or(Value::Null, Value::str))
}

/// Reads a number of seconds. `name` names it in an error.
pub fn nanoseconds(seconds: f64, name: &str) -> Result<i64, Problem> {
    // Three hundred years fit in 64 bits of nanoseconds.
    match (0.0..=9e9).contains(&seconds) {
        true => Ok((seconds * 1e9) as i64),
        false => Err(Problem::bad(format!("`{name}` is a number of seconds, not negative"))),
    }
}

/// The body of a termination.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ending {
    reason: Option<String>,
    leave_children: bool,
}

async fn terminate(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(ending): Input<Option<Ending>>,
) -> Result<Response, Problem> {
    let Ending { reason, leave_children } = ending.unwrap_or_default();
    let why = reason_data(reason);
    tell(&service, &id, Command::Terminate { id: id.clone(), why, children: !leave_children }).await?;
    Ok(accepted())
}

/// The body of a rewind.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rewinding {
    dry_run: bool,
}

async fn rewind(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(rewinding): Input<Option<Rewinding>>,
) -> Result<Json<Body>, Problem> {
    let steps = rewound(&service, &id, rewinding.unwrap_or_default().dry_run).await?;
    Ok(Json(forms::rewound(&steps)))
}

/// Rewinds an instance, and returns what that means.
pub async fn rewound(service: &Service, id: &str, dry_run: bool) -> Result<Vec<Steps>, Problem> {
    match service.command(Command::Rewind { id: id.to_string(), dry_run }).await? {
        Reply::Rewound(steps) => Ok(steps),
        Reply::Unknown => Err(Problem::no_instance(id)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

/// The body of a restart.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Restart {
    /// The id of the new instance, or the next free one of the function's name.
    id: Option<String>,
}

async fn restart(
    _: Operator,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(restart): Input<Option<Restart>>,
) -> Result<Response, Problem> {
    let own = restart.unwrap_or_default().id;
    if let Some((own, reason)) = own.as_ref().and_then(|own| Some((own, bad_own_id(own)?))) {
        return Err(Problem::bad(format!("`{own}` can't be an id: {reason}")));
    }
    let new = restarted(&service, &id, own).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"id": new}))).into_response())
}

/// Begins an instance with the function, the program and the arguments of another one. The same id
/// replaces an instance that has ended.
pub async fn restarted(service: &Service, id: &str, new: Option<String>) -> Result<String, Problem> {
    let known = record(service, id).await?;
    let name = match known.function.as_str() {
        engine::SCRIPT => "run".to_string(),
        function => function.to_string(),
    };
    let starting = Starting::again(&known, new, name, host::now());
    match service.command(Command::Start(Box::new(starting))).await? {
        Reply::Begun(id) | Reply::Known(id) => Ok(id),
        Reply::Taken { error, .. } => Err(Problem::taken(&error)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

/// The body of a purge.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Purge {
    force: bool,
}

async fn purge(
    _: Admin,
    State(service): State<Service>,
    Path(id): Path<String>,
    Input(purge): Input<Option<Purge>>,
) -> Result<Json<Body>, Problem> {
    let removed = purged(&service, vec![id], purge.unwrap_or_default().force).await?;
    Ok(Json(json!({"removed": removed})))
}

/// Purges instances, and returns the number of those that were removed with their trees.
pub async fn purged(service: &Service, ids: Vec<String>, force: bool) -> Result<u64, Problem> {
    let first = ids.first().cloned().unwrap_or_default();
    match service.command(Command::Purge { ids, force }).await? {
        Reply::Removed(removed) => Ok(removed),
        Reply::Unknown => Err(Problem::no_instance(&first)),
        Reply::Refused(reason) => Err(Problem::refused(reason)),
        _ => Err(unexpected()),
    }
}

/// The body of an action on many instances.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    ids: Option<Vec<String>>,
    #[serde(default, deserialize_with = "object")]
    filter: Option<Listed>,
    action: Action,
    /// The expected number of instances. If there are more or fewer, nothing is done.
    expect: Option<usize>,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Action {
    Suspend,
    Resume,
    Cancel,
    Terminate,
    Rewind,
    Purge,
}

/// Does the same with many instances. The outcome of each is in the answer.
async fn batch(
    _: Operator,
    State(service): State<Service>,
    headers: HeaderMap,
    Input(batch): Input<Batch>,
) -> Result<Json<Body>, Problem> {
    if batch.action == Action::Purge {
        allow(&service, token(&headers), super::Scope::Admin)?;
    }
    let ids = match (batch.ids, batch.filter) {
        (Some(ids), None) => ids,
        (None, Some(filter)) => {
            let wanted = filter.filter()?;
            let all = move |catalog: &super::catalog::Catalog| {
                let mut ids = Vec::new();
                catalog.each(&wanted, |_, id, _| ids.push(id.to_string()));
                ids
            };
            service.catalog(all).await?
        }
        _ => return Err(Problem::bad("a batch has either `ids` or a `filter`")),
    };
    if let Some(expected) = batch.expect
        && expected != ids.len()
    {
        let title = format!("{} instances match, and {expected} were expected", ids.len());
        return Err(Problem::refused(title).with("matching", json!(ids.len())));
    }
    let (mut done, mut problems) = (0_u64, Vec::new());
    for id in ids {
        let why = reason_data(batch.reason.clone());
        let outcome = match batch.action {
            Action::Suspend => tell(&service, &id, Command::Suspend { id: id.clone() }).await,
            Action::Resume => tell(&service, &id, Command::Resume { id: id.clone() }).await,
            Action::Cancel => {
                let command = Command::Cancel { id: id.clone(), reason: why, grace: options::GRACE };
                tell(&service, &id, command).await
            }
            Action::Terminate => {
                tell(&service, &id, Command::Terminate { id: id.clone(), why, children: true }).await
            }
            Action::Rewind => rewound(&service, &id, false).await.map(|_| ()),
            Action::Purge => purged(&service, vec![id.clone()], false).await.map(|_| ()),
        };
        match outcome {
            Ok(()) => done += 1,
            Err(problem) => {
                problems.push(json!({"id": id, "title": problem.title(), "kind": problem.kind()}))
            }
        }
    }
    Ok(Json(json!({"done": done, "problems": problems})))
}
