//! The feed of changes, as server-sent events or by long polls.
//!
//! Each event has the position after it as its `id`, so that a reader goes on where it was by
//! `Last-Event-ID`. Only durable changes are in the feed. A reader that is too slow, or was away
//! for long, gets an event `gap`, and reads everything again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::{Change, Followed};
use crate::engine::ChangeKind;
use crate::machine::format;

use super::feed::{Follower, News, Position};
use super::guard::Reader;
use super::input::Params;
use super::problem::Problem;
use super::service::Service;

/// The longest wait of a poll.
const POLL: Duration = Duration::from_secs(25);
/// The time after which a silent stream says that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

pub fn routes() -> Router<Service> {
    Router::new().route("/changes", get(changes))
}

/// The parameters of the feed.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// The position from which to go on.
    since: Option<String>,
    /// Only changes of this instance.
    instance: Option<String>,
    /// Only changes of this instance, and of those that it called or started under automatic ids.
    root: Option<String>,
    /// Only changes of this entity, such as `Account@alice`.
    entity: Option<String>,
}

impl Wanted {
    fn lets_through(&self, kind: &ChangeKind) -> bool {
        if self.instance.is_none() && self.root.is_none() && self.entity.is_none() {
            return true;
        }
        match kind {
            ChangeKind::Instance { id, .. } | ChangeKind::Removed { id } | ChangeKind::History { id } => {
                let is_below = |root: &String| {
                    id.strip_prefix(root.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                };
                self.instance.as_ref() == Some(id) || self.root.as_ref().is_some_and(is_below)
            }
            ChangeKind::Entity { entity } => {
                self.entity.as_ref().is_some_and(|wanted| *wanted == entity.to_string())
            }
        }
    }
}

/// Returns the name of a change's event, and its data.
fn shown(kind: &ChangeKind) -> (&'static str, Body) {
    match kind {
        ChangeKind::Instance { id, lifecycle, function, created, ended, parent } => (
            "instance",
            json!({
                "id": id, "status": lifecycle.word(), "function": function,
                "created": format::instant(*created), "ended": ended.map(format::instant),
                "parent": parent,
            }),
        ),
        ChangeKind::Removed { id } => ("removed", json!({"id": id})),
        ChangeKind::History { id } => ("entry", json!({"id": id})),
        ChangeKind::Entity { entity } => ("entity", json!({"entity": entity.to_string()})),
    }
}

async fn changes(
    _: Reader,
    State(service): State<Service>,
    headers: HeaderMap,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Problem> {
    let given = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_string);
    let since = match given.or_else(|| wanted.since.clone()) {
        None => None,
        Some(text) => {
            let position: Result<Position, ()> = text.parse();
            Some(position.map_err(|()| Problem::bad("the position is not from the feed"))?.0)
        }
    };
    let follower = service.feed().follow(since)?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
    if accepts.contains("application/json") {
        return Ok(poll(follower, &wanted).await.into_response());
    }
    let streams = service.metrics().stream();
    let state =
        Stream { follower, wanted, ready: Vec::new(), is_over: false, begun: false, _streams: streams };
    let events = futures_util::stream::unfold(state, next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response())
}

/// Waits for the next changes.
async fn poll(mut follower: Follower, wanted: &Wanted) -> Json<Body> {
    let until = tokio::time::Instant::now() + POLL;
    loop {
        let answer = |followed: Followed, gap: bool, items: Vec<Body>| {
            Json(json!({"items": items, "gap": gap, "next": Position(followed).to_string()}))
        };
        let Ok(news) = tokio::time::timeout_at(until, follower.next()).await else {
            return answer(follower.position(), false, Vec::new());
        };
        match news {
            News::Over => return answer(follower.position(), true, Vec::new()),
            News::Gap(followed) => return answer(followed, true, Vec::new()),
            News::Changes(changes) => {
                let items: Vec<Body> = changes
                    .changes
                    .iter()
                    .filter(|change| wanted.lets_through(&change.kind))
                    .map(|change| {
                        let (event, data) = shown(&change.kind);
                        json!({"event": event, "data": data})
                    })
                    .collect();
                if !items.is_empty() {
                    return answer(changes.followed, false, items);
                }
            }
        }
    }
}

/// A stream of events for one reader.
struct Stream {
    follower: Follower,
    wanted: Wanted,
    /// Events that are to be sent, the next one last.
    ready: Vec<Event>,
    is_over: bool,
    begun: bool,
    _streams: super::measures::Streaming,
}

async fn next(mut stream: Stream) -> Option<(Result<Event, Infallible>, Stream)> {
    if !stream.begun {
        // The reader learns its position before anything happens.
        stream.begun = true;
        let position = Position(stream.follower.position()).to_string();
        let event = Event::default().event("begin").id(position).data("{}");
        return Some((Ok(event), stream));
    }
    loop {
        if let Some(event) = stream.ready.pop() {
            return Some((Ok(event), stream));
        }
        if stream.is_over {
            return None;
        }
        match stream.follower.next().await {
            News::Over => return None,
            News::Gap(followed) => {
                let position = Position(followed).to_string();
                stream.ready.push(Event::default().event("gap").id(position).data("{}"));
            }
            News::Changes(changes) => {
                let (process, _) = changes.followed.parts();
                let wanted = |change: &&Change| stream.wanted.lets_through(&change.kind);
                let events = changes.changes.iter().rev().filter(wanted).map(|change| {
                    let (name, data) = shown(&change.kind);
                    let position = Position(Followed::of(process, change.number)).to_string();
                    Event::default().event(name).id(position).data(data.to_string())
                });
                stream.ready = events.collect();
            }
        }
    }
}
