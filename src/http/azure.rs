//! The management API of Azure Durable Functions, as far as it makes sense here.
//!
//! Clients of that API work with a store unchanged. The prefix is matched without regard to case,
//! the key is `?code=`, the header `x-functions-key` or the password of Basic authentication, and
//! the links that are handed out have a code for their instance alone. `docs/server.md` lists the
//! differences.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Shown, json};

use crate::api::Command;
use crate::archive::forms;
use crate::engine::query::EntityFilter;
use crate::engine::{self, InstanceRecord, Lifecycle};
use crate::machine::{Data, IfExists, Value};

use super::access::Scope;
use super::azure_forms::{self, instance, lifecycle};
use super::catalog::Wanted;
use super::entities;
use super::guard::{allow, origin, token};
use super::input::{At, Path, payload};
use super::instances::{self, begin, escaped, purged, record, rewound, tell, wait_for};
use super::problem::Problem;
use super::service::Service;

const PREFIX: &str = "/runtime/webhooks/durabletask";
/// The number of instances of a page.
const PAGE: usize = 100;
/// The header with the place of the next page, both ways.
const CONTINUATION: &str = "x-ms-continuation-token";

pub fn routes() -> Router<Service> {
    Router::new().route("/{runtime}/{webhooks}/{tasks}/{*rest}", any(dispatch))
}

/// A request, with its parameters in lower case.
struct Asked {
    service: Service,
    method: Method,
    headers: HeaderMap,
    params: HashMap<String, String>,
}

impl Asked {
    fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Checks the rights of the caller. The code of an instance is enough for that instance.
    fn may(&self, scope: Scope, id: Option<&str>) -> Result<(), Problem> {
        let key = self.headers.get("x-functions-key").and_then(|key| key.to_str().ok());
        let password = password(&self.headers);
        let given = self.param("code").or(key).or_else(|| token(&self.headers)).or(password.as_deref());
        if let (Some(code), Some(id)) = (given, id)
            && self.service.keys().is_instance_code(code, id)
        {
            return Ok(());
        }
        allow(&self.service, given, scope)
    }

    fn instant(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.param(name) else { return Ok(None) };
        match At::read(text) {
            Some(At(nanos)) => Ok(Some(nanos)),
            None => Err(Problem::bad(format!("`{name}` is not an instant: {text}"))),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<f64>, Problem> {
        let Some(text) = self.param(name) else { return Ok(None) };
        let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
        seconds.map(Some).ok_or_else(|| Problem::bad(format!("`{name}` is not a number of seconds: {text}")))
    }
}

/// Returns the password of Basic authentication. The client for Python sends no key by itself; given
/// the address `http://key:TOKEN@host/`, it sends this.
fn password(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, pair) = value.split_once(' ')?;
    let pair = BASE64.decode(pair.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (_, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(password.to_string())
}

async fn dispatch(
    State(service): State<Service>,
    Path((runtime, webhooks, tasks, rest)): Path<(String, String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { method, headers, uri, .. }, body) = request.into_parts();
    if !format!("/{runtime}/{webhooks}/{tasks}").eq_ignore_ascii_case(PREFIX) {
        return Err(super::guard::nothing_here().await);
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(uri.query().unwrap_or(""))
        .map_err(|error| Problem::bad(format!("the parameters of the URL are wrong: {error}")))?;
    let params = pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let asked = Asked { service, method, headers, params };
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    let kind = parts[0].to_ascii_lowercase();
    match (asked.method.as_str(), kind.as_str(), &parts[1..]) {
        ("POST", "orchestrators", [name]) => start(&asked, name, None, body).await,
        ("POST", "orchestrators", [name, id]) => start(&asked, name, Some(id), body).await,
        ("GET", "instances", []) => list(&asked).await,
        ("DELETE", "instances", []) => purge_many(&asked).await,
        ("GET", "instances", [id]) => status(&asked, id).await,
        ("DELETE", "instances", [id]) => purge(&asked, id).await,
        ("POST", "instances", [id, action]) => act(&asked, id, &action.to_ascii_lowercase()).await,
        ("POST", "instances", [id, action, event]) if action.eq_ignore_ascii_case("raiseevent") => {
            raise(&asked, id, event, body).await
        }
        ("GET", "entities", []) => entities_of(&asked, None).await,
        ("GET", "entities", [name]) => entities_of(&asked, Some(name)).await,
        ("GET", "entities", [name, key]) => entity(&asked, name, key).await,
        ("POST", "entities", [name, key]) => signal(&asked, name, key, body).await,
        (_, "orchestrators", [_] | [_, _])
        | (_, "instances", [] | [_] | [_, _] | [_, _, _])
        | (_, "entities", [] | [_] | [_, _]) => Err(super::guard::wrong_method().await),
        _ => Err(super::guard::nothing_here().await),
    }
}

/// Returns a list of data.
fn listed(items: Vec<Data>) -> Data {
    Data::of(&Value::list(items.iter().map(Data::decode).collect()))
}

/// Returns the links of an instance.
fn links(asked: &Asked, id: &str) -> Shown {
    let base = format!("{}{PREFIX}/instances/{}", origin(&asked.service, &asked.headers), escaped(id));
    let code = asked.service.keys().instance_code(id);
    json!({
        "id": id,
        "statusQueryGetUri": format!("{base}?code={code}"),
        "sendEventPostUri": format!("{base}/raiseEvent/{{eventName}}?code={code}"),
        "terminatePostUri": format!("{base}/terminate?reason={{text}}&code={code}"),
        "purgeHistoryDeleteUri": format!("{base}?code={code}"),
        "restartPostUri": format!("{base}/restart?code={code}"),
        "suspendPostUri": format!("{base}/suspend?reason={{text}}&code={code}"),
        "resumePostUri": format!("{base}/resume?reason={{text}}&code={code}"),
        "rewindPostUri": format!("{base}/rewind?reason={{text}}&code={code}"),
    })
}

/// Returns a 202 with the links of an instance.
fn links_answer(asked: &Asked, id: &str) -> Result<Response, Problem> {
    let links = links(asked, id);
    let place = links["statusQueryGetUri"].as_str().unwrap_or_default();
    let place = HeaderValue::from_str(place).map_err(|_| instances::unexpected())?;
    let pause = HeaderValue::from_static("10");
    let head = [(header::LOCATION, place), (header::RETRY_AFTER, pause)];
    Ok((StatusCode::ACCEPTED, head, Json(links)).into_response())
}

async fn start(asked: &Asked, name: &str, id: Option<&str>, body: Body) -> Result<Response, Problem> {
    asked.may(Scope::Operate, None)?;
    let input = payload(body, "the body").await?;
    let wanted = name.to_string();
    let found = asked.service.ask(move |reads| Ok(reads.ask(|store| engine::function(store, &wanted))??));
    let Some(function) = found.await? else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "unknown_function",
            format!("no function `{name}` is deployed"),
        ));
    };
    let args = listed(if function.arity.1 == 0 { Vec::new() } else { vec![input] });
    let own = id.map(str::to_string);
    let begun = begin(&asked.service, name.into(), args.clone(), own.clone(), IfExists::Join).await;
    let id = match (begun, id) {
        (Err(problem), Some(id)) if problem.kind() == "id_taken" => {
            // An instance that has ended makes room for another one.
            if !record(&asked.service, id).await?.status.is_ended() {
                return Err(problem);
            }
            begin(&asked.service, name.into(), args, own, IfExists::Replace).await?
        }
        (begun, _) => begun?,
    };
    if let Some(patience) = asked.seconds("timeout")? {
        let patience = Duration::from_secs_f64(patience.min(230.0));
        let record = wait_for(&asked.service, &id, patience).await?;
        match record.status.lifecycle() {
            Lifecycle::Completed => {
                let shown = instance(&record, None, SHOWN);
                return Ok(Json(shown["output"].clone()).into_response());
            }
            Lifecycle::Failed => {
                let shown = instance(&record, None, SHOWN);
                return Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(shown)).into_response());
            }
            _ => {}
        }
    }
    links_answer(asked, &id)
}

/// What is shown of an instance by default.
const SHOWN: azure_forms::Shown = azure_forms::Shown { input: true, output_of_history: false };

async fn status(asked: &Asked, id: &str) -> Result<Response, Problem> {
    asked.may(Scope::Read, Some(id))?;
    let shows = azure_forms::Shown {
        input: asked.param("showinput").is_none_or(|value| !value.eq_ignore_ascii_case("false")),
        output_of_history: asked.flag("showhistoryoutput"),
    };
    let (record, history) = match asked.flag("showhistory") {
        false => (record(&asked.service, id).await?, None),
        true => {
            let id = id.to_string();
            let (record, history) = asked.service.ask(move |reads| super::history::read(reads, &id)).await?;
            (record, Some(history))
        }
    };
    let shown = Json(instance(&record, history.as_ref(), shows));
    let code = match record.status.lifecycle() {
        Lifecycle::Scheduled | Lifecycle::Running | Lifecycle::Suspended => {
            let link = links(asked, id);
            let place = link["statusQueryGetUri"].as_str().unwrap_or_default();
            let place = HeaderValue::from_str(place).map_err(|_| instances::unexpected())?;
            let head = [(header::LOCATION, place), (header::RETRY_AFTER, HeaderValue::from_static("10"))];
            return Ok((StatusCode::ACCEPTED, head, shown).into_response());
        }
        Lifecycle::Failed if asked.flag("returninternalservererroronfailure") => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::OK,
    };
    Ok((code, shown).into_response())
}

/// Returns the filter of a list. `None` means that no instance can match.
fn wanted(asked: &Asked) -> Result<Option<Wanted>, Problem> {
    let mut lifecycles = Vec::new();
    let words: Vec<&str> = asked.param("runtimestatus").unwrap_or("").split(',').map(str::trim).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    for word in &words {
        match lifecycle(word) {
            Some(known) => lifecycles.extend(known),
            None => return Err(Problem::bad(format!("`{word}` is not a runtime status"))),
        }
    }
    if !words.is_empty() && lifecycles.is_empty() {
        return Ok(None);
    }
    // The end of the interval is part of it.
    let before = asked.instant("createdtimeto")?.map(|to| to.saturating_add(1));
    Ok(Some(Wanted {
        lifecycles,
        prefix: asked.param("instanceidprefix").unwrap_or("").to_string(),
        after: asked.instant("createdtimefrom")?,
        before,
        ..Wanted::default()
    }))
}

async fn list(asked: &Asked) -> Result<Response, Problem> {
    asked.may(Scope::Read, None)?;
    let limit = match asked.param("top") {
        None => PAGE,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=1_000) => limit,
            _ => return Err(Problem::bad("`top` is a number from 1 to 1000")),
        },
    };
    let token = asked.headers.get(CONTINUATION).and_then(|token| token.to_str().ok());
    let from = token.filter(|token| !token.is_empty()).map(instances::place).transpose()?;
    let Some(wanted) = wanted(asked)? else { return Ok(Json(json!([])).into_response()) };
    let (records, next) = instances::page(&asked.service, wanted, false, from, limit).await?;
    let shows = azure_forms::Shown { input: asked.flag("showinput"), output_of_history: false };
    let shown: Vec<Shown> = records.iter().map(|record| instance(record, None, shows)).collect();
    Ok(with_continuation(Json(shown).into_response(), next.as_ref().map(instances::cursor)))
}

/// Adds the place of the next page to a response.
fn with_continuation(mut response: Response, next: Option<String>) -> Response {
    if let Some(value) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        response.headers_mut().insert(CONTINUATION, value);
    }
    response
}

async fn purge(asked: &Asked, id: &str) -> Result<Response, Problem> {
    asked.may(Scope::Admin, Some(id))?;
    let removed = purged(&asked.service, vec![id.to_string()], false).await?;
    Ok(Json(json!({"instancesDeleted": removed})).into_response())
}

async fn purge_many(asked: &Asked) -> Result<Response, Problem> {
    asked.may(Scope::Admin, None)?;
    if asked.param("createdtimefrom").is_none() {
        return Err(Problem::bad("`createdTimeFrom` is needed"));
    }
    let ended = [Lifecycle::Completed, Lifecycle::Failed, Lifecycle::Terminated];
    let ids = match wanted(asked)? {
        None => Vec::new(),
        Some(mut wanted) => {
            wanted.lifecycles = match wanted.lifecycles.is_empty() {
                true => ended.to_vec(),
                false => wanted.lifecycles.into_iter().filter(|one| ended.contains(one)).collect(),
            };
            wanted.roots = true;
            let all = move |catalog: &super::catalog::Catalog| {
                let mut ids = Vec::new();
                if !wanted.lifecycles.is_empty() {
                    catalog.each(&wanted, |_, id, _| ids.push(id.to_string()));
                }
                ids
            };
            asked.service.catalog(all).await?
        }
    };
    let mut removed = 0;
    for id in ids {
        // A tree with an instance that has not ended stays.
        removed += purged(&asked.service, vec![id], false).await.unwrap_or(0);
    }
    match removed {
        0 => Err(Problem::new(StatusCode::NOT_FOUND, "unknown_instance", "no instance matches")),
        removed => Ok(Json(json!({"instancesDeleted": removed})).into_response()),
    }
}

async fn raise(asked: &Asked, id: &str, event: &str, body: Body) -> Result<Response, Problem> {
    asked.may(Scope::Operate, Some(id))?;
    let payload = payload(body, "the body").await?;
    let command = Command::Raise { id: id.into(), event: event.into(), payload };
    tell(&asked.service, id, command).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn act(asked: &Asked, id: &str, action: &str) -> Result<Response, Problem> {
    asked.may(Scope::Operate, Some(id))?;
    let reason = Data::of(&asked.param("reason").map_or(Value::Null, Value::str));
    let command = match action {
        "terminate" => Command::Terminate { id: id.into(), why: reason, children: true },
        "suspend" => Command::Suspend { id: id.into() },
        "resume" => Command::Resume { id: id.into() },
        "rewind" => {
            rewound(&asked.service, id, false).await?;
            return Ok(StatusCode::ACCEPTED.into_response());
        }
        "restart" => return restart(asked, id).await,
        _ => return Err(super::guard::nothing_here().await),
    };
    tell(&asked.service, id, command).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn restart(asked: &Asked, id: &str) -> Result<Response, Problem> {
    let known: InstanceRecord = record(&asked.service, id).await?;
    let own =
        asked.param("restartwithnewinstanceid").is_some_and(|value| value.eq_ignore_ascii_case("false"));
    if own && !known.status.is_ended() {
        return Err(Problem::new(StatusCode::CONFLICT, "running", format!("{id} has not ended")));
    }
    let new = instances::restarted(&asked.service, id, own.then(|| id.to_string())).await?;
    links_answer(asked, &new)
}

async fn entity(asked: &Asked, name: &str, key: &str) -> Result<Response, Problem> {
    asked.may(Scope::Read, None)?;
    let view = entities::view(&asked.service, entities::entity(name, key)?).await?;
    match view.state {
        Some(state) => Ok(Json(forms::data(&state)).into_response()),
        None => {
            Err(Problem::new(StatusCode::NOT_FOUND, "unknown_entity", format!("{name}@{key} has no state")))
        }
    }
}

async fn entities_of(asked: &Asked, name: Option<&str>) -> Result<Response, Problem> {
    asked.may(Scope::Read, None)?;
    let limit = match asked.param("top").map(str::parse) {
        None => PAGE,
        Some(Ok(limit @ 1..=1_000)) => limit,
        Some(_) => return Err(Problem::bad("`top` is a number from 1 to 1000")),
    };
    let cursor = asked.headers.get(CONTINUATION).and_then(|token| token.to_str().ok());
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let filter = EntityFilter { name: name.map(str::to_string), locked: false };
    let page = entities::page(&asked.service, filter, limit, cursor).await?;
    let shows_state = asked.flag("fetchstate");
    let shown: Vec<Shown> = page
        .items
        .iter()
        .map(|view| {
            let state = view.state.as_ref().filter(|_| shows_state).map(forms::data);
            json!({"entityId": {"name": view.entity.name, "key": entities::key_text(&view.entity)}, "state": state})
        })
        .collect();
    Ok(with_continuation(Json(shown).into_response(), page.next.map(|next| next.text())))
}

async fn signal(asked: &Asked, name: &str, key: &str, body: Body) -> Result<Response, Problem> {
    asked.may(Scope::Operate, None)?;
    let entity = entities::entity(name, key)?;
    let Some(operation) = asked.param("op").map(str::to_string) else {
        return Err(Problem::bad("`op` names the operation"));
    };
    let text = super::input::text(body).await?;
    let args = match text.trim().is_empty() {
        true => listed(Vec::new()),
        false => listed(vec![super::input::data(&text, "the body")?]),
    };
    entities::send(&asked.service, entity, operation, args, None).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
