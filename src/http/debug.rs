//! The route of the debugger: a moment of an instance's run.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::debug::{DebugError, Position, Session, Step, view};

use super::guard::Reader;
use super::history::Texts;
use super::input::{Params, Path};
use super::problem::Problem;
use super::service::Service;

/// The most entries of a history that a request repeats, and the most work: statements, calls and
/// repetitions, each counted as often as they are repeated. `durable debug` has no such limits, since
/// it keeps the moments that it has visited.
const MOST_ENTRIES: usize = 50_000;
const MOST_WORK: u64 = 20_000_000;

/// The length in characters at which a value is cut off.
const WIDTH: usize = 300;

pub fn routes() -> Router<Service> {
    Router::new().route("/instances/{id}/debug", get(moment))
}

/// The parameters of a moment.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// The position; without it, where the instance failed, or the end.
    at: Option<String>,
    /// `next` or `back`: a statement further.
    step: Option<String>,
}

async fn moment(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Body>, Problem> {
    let at: Option<Position> =
        match &wanted.at {
            None => None,
            Some(at) => {
                let read = at.parse();
                Some(read.map_err(|_| {
                    Problem::bad(format!("`at` is a position, as 147 or 147.12, and not `{at}`"))
                })?)
            }
        };
    let step = wanted.step.unwrap_or_else(|| "stay".into());
    if !matches!(step.as_str(), "stay" | "next" | "back") {
        return Err(Problem::bad(format!("`step` is `next` or `back`, and not `{step}`")));
    }
    service
        .ask(move |reads| {
            let mut session = Session::open(reads, &id).map_err(refused)?;
            if session.history.len() > MOST_ENTRIES {
                let title = format!("{id} has more than {MOST_ENTRIES} entries");
                return Err(Problem::refused(title).hint(format!("`durable debug {id}` visits its moments")));
            }
            session.limit_work(MOST_WORK);
            match at {
                Some(at) => {
                    session.seek(at);
                }
                None => {
                    session.seek_interest();
                }
            }
            match step.as_str() {
                "next" => drop(session.step(Step::Into)),
                "back" => drop(session.back(Step::Into)),
                _ => {}
            }
            if session.is_spent() {
                let title = format!("{id} computes for too long up to this moment");
                let id = &session.record.id;
                return Err(Problem::refused(title).hint(format!("`durable debug {id}` visits its moments")));
            }
            let texts = Texts::read(reads, &session.record);
            Ok(Json(shown(&session, &texts)))
        })
        .await
}

fn refused(error: DebugError) -> Problem {
    match error {
        DebugError::Unknown(id) => Problem::no_instance(&id),
        DebugError::Query(error) => error.into(),
        DebugError::Unfit(reason) => Problem::refused(reason),
        DebugError::NoEntity(_) | DebugError::NotKept { .. } => Problem::refused(error.to_string()),
    }
}

/// Returns everything that can be seen of a moment.
fn shown(session: &Session, texts: &Texts) -> Body {
    let task = session.task();
    let calls = session.frames(task).into_iter().filter(|call| call.is_own);
    let calls = calls.map(|call| {
        let variables = session.variables(task, call.number).into_iter().filter(|v| !v.is_function);
        let variables: Vec<Body> =
            variables.map(|v| json!({"name": v.name, "value": view::held(&v.value, WIDTH)})).collect();
        json!({"function": call.function, "at": texts.at(call.place), "variables": variables})
    });
    let calls: Vec<Body> = calls.collect();
    let tasks: Vec<Body> =
        session.tasks().iter().map(|task| json!({"id": task.id, "does": task.does})).collect();
    json!({
        "position": session.position().to_string(),
        "entry": session.position().entry,
        "entries": session.history.len(),
        "at": session.place().map_or(Body::Null, |place| texts.at(place)),
        "is_end": session.end().is_some(),
        "is_trimmed": session.is_trimmed(),
        "task": task,
        "tasks": tasks,
        "calls": calls,
    })
}
