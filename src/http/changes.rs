//! The feed of changes, as server-sent events or by long polls.
//!
//! Each event has the position after it as its `id`, so that a reader goes on where it was by
//! `Last-Event-ID`. Only durable changes are in the feed. Changes of one subject that come at almost
//! the same time are one event. A reader that is too slow, or was away for long, gets an event
//! `gap`, and reads everything again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;

use axum::body::{Body as Stream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Body, json};

use crate::api::{Change, Followed};
use crate::engine::ChangeKind;
use crate::machine::format;

use super::feed::{Follower, Next, Position};
use super::guard::Reader;
use super::input::Params;
use super::problem::Problem;
use super::service::Service;

/// The longest wait of a poll.
const POLL: Duration = Duration::from_secs(25);
/// The time for which a reader hears nothing more after there was too much for it.
const QUIET: Duration = Duration::from_millis(500);
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
    /// The number of changes at once above which the reader gets a `gap` in their place.
    most: Option<usize>,
}

impl Wanted {
    fn is_everything(&self) -> bool {
        self.instance.is_none() && self.root.is_none() && self.entity.is_none()
    }

    fn lets_through(&self, kind: &ChangeKind) -> bool {
        if self.is_everything() {
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

    fn has_too_many<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> bool {
        self.most
            .is_some_and(|most| changes.filter(|change| self.lets_through(&change.kind)).nth(most).is_some())
    }
}

/// The data of an event.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Instance {
        id: &'a str,
        status: &'static str,
        function: &'a str,
        created: String,
        ended: Option<String>,
        parent: Option<&'a str>,
    },
    Id {
        id: &'a str,
    },
    Entity {
        entity: String,
    },
}

/// Returns the name of a change's event, and its data.
fn shown(kind: &ChangeKind) -> (&'static str, Shown<'_>) {
    match kind {
        ChangeKind::Instance { id, lifecycle, function, created, ended, parent } => (
            "instance",
            Shown::Instance {
                id,
                status: lifecycle.word(),
                function,
                created: format::instant(*created),
                ended: ended.map(format::instant),
                parent: parent.as_deref(),
            },
        ),
        ChangeKind::Removed { id } => ("removed", Shown::Id { id }),
        ChangeKind::History { id } => ("entry", Shown::Id { id }),
        ChangeKind::Entity { entity } => ("entity", Shown::Entity { entity: entity.to_string() }),
    }
}

/// Returns the last change of each subject, in order. A change of an instance tells that its
/// history has grown, too.
fn latest<'a>(changes: impl DoubleEndedIterator<Item = &'a Change>) -> Vec<&'a Change> {
    let (mut instances, mut grown, mut entities) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut latest: Vec<&Change> = changes
        .rev()
        .filter(|change| match &change.kind {
            ChangeKind::Instance { id, .. } | ChangeKind::Removed { id } => instances.insert(id.as_str()),
            ChangeKind::History { id } => grown.insert(id.as_str()),
            ChangeKind::Entity { entity } => entities.insert(entity),
        })
        .collect();
    latest.reverse();
    let is_told = |change: &&Change| match &change.kind {
        ChangeKind::History { id } => !instances.contains(id.as_str()),
        _ => true,
    };
    latest.retain(is_told);
    latest
}

/// Writes changes as events.
fn events(process: i64, changes: &[&Change]) -> Bytes {
    let mut text = Vec::with_capacity(changes.len() * 200);
    for change in changes {
        let (name, data) = shown(&change.kind);
        let position = Position(Followed::of(process, change.number));
        // Writing to memory does not fail.
        let _ = write!(text, "event: {name}\nid: {position}\ndata: ");
        let _ = serde_json::to_writer(&mut text, &data);
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}

/// Writes an event without data.
fn bare(name: &str, followed: Followed) -> Bytes {
    format!("event: {name}\nid: {}\ndata: {{}}\n\n", Position(followed)).into()
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
    let told = follower.position();
    let state = Reading { follower, wanted, told, is_flooded: false, begun: false, _streams: streams };
    let body = Stream::from_stream(futures_util::stream::unfold(state, next));
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// Waits for the next changes.
async fn poll(mut follower: Follower, wanted: &Wanted) -> Json<Body> {
    let until = tokio::time::Instant::now() + POLL;
    loop {
        let answer = |followed: Followed, gap: bool, items: Vec<Body>| {
            Json(json!({"items": items, "gap": gap, "next": Position(followed).to_string()}))
        };
        let Ok(next) = tokio::time::timeout_at(until, follower.next()).await else {
            return answer(follower.position(), false, Vec::new());
        };
        match next {
            Next::Over => return answer(follower.position(), true, Vec::new()),
            Next::Gap(followed) => return answer(followed, true, Vec::new()),
            Next::Burst(burst, seen) => {
                if wanted.has_too_many(burst.changes(seen)) {
                    return answer(burst.position(), true, Vec::new());
                }
                let changes = burst.changes(seen).filter(|change| wanted.lets_through(&change.kind));
                let form = |change: &&Change| {
                    let (event, data) = shown(&change.kind);
                    json!({"event": event, "data": data})
                };
                let items: Vec<Body> = latest(changes).iter().map(form).collect();
                if !items.is_empty() {
                    return answer(burst.position(), false, items);
                }
            }
        }
    }
}

/// A stream of events for one reader.
struct Reading {
    follower: Follower,
    wanted: Wanted,
    /// The position that the reader was told last.
    told: Followed,
    /// Whether there was too much for the reader just now.
    is_flooded: bool,
    begun: bool,
    _streams: super::measures::Streaming,
}

impl Reading {
    /// Waits for the next piece of text; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            // The reader learns its position before anything happens.
            self.begun = true;
            return Some(bare("begin", self.told));
        }
        if std::mem::take(&mut self.is_flooded) {
            tokio::time::sleep(QUIET).await;
            if self.follower.skip() {
                return Some(self.flood());
            }
        }
        loop {
            let Ok(next) = tokio::time::timeout(ALIVE, self.follower.next()).await else {
                let now = self.follower.position();
                if now == self.told {
                    return Some(Bytes::from_static(b":\n\n"));
                }
                // Nothing of it was wanted, and the reader need not ask for it again.
                self.told = now;
                return Some(format!("id: {}\n\n", Position(now)).into());
            };
            match next {
                Next::Over => return None,
                Next::Gap(followed) => {
                    self.told = followed;
                    return Some(bare("gap", followed));
                }
                Next::Burst(burst, seen) if self.wanted.has_too_many(burst.changes(seen)) => {
                    return Some(self.flood());
                }
                Next::Burst(burst, seen) => {
                    let text = self.text(&burst, seen);
                    if !text.is_empty() {
                        self.told = burst.position();
                        return Some(text);
                    }
                }
            }
        }
    }

    /// Tells that there was too much for the reader.
    fn flood(&mut self) -> Bytes {
        self.is_flooded = true;
        self.told = self.follower.position();
        bare("gap", self.told)
    }

    fn text(&self, burst: &super::feed::Burst, seen: Followed) -> Bytes {
        let wanted = &self.wanted;
        let (process, _) = burst.position().parts();
        if wanted.is_everything()
            && let Some(text) =
                burst.text(seen, |burst| events(process, &latest(burst.changes(Followed::of(process, 0)))))
        {
            return text;
        }
        let changes = burst.changes(seen).filter(|change| wanted.lets_through(&change.kind));
        events(process, &latest(changes))
    }
}

async fn next(mut reading: Reading) -> Option<(Result<Bytes, Infallible>, Reading)> {
    let text = reading.next().await?;
    Some((Ok(text), reading))
}
