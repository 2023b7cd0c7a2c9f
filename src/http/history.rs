//! The routes for the history of an instance: entries, the timeline, output, and open requests.

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value as Body, json};

use crate::api::Queries;
use crate::archive::forms;
use crate::engine::{Entry, History, InstanceRecord, RecordedRequest, build_image, load_modules, place_anew};
use crate::host::{self, Reads};
use crate::machine::format;
use crate::syntax::Place;

use super::guard::Reader;
use super::input::{At, Params, Path};
use super::instances::limit;
use super::problem::Problem;
use super::service::Service;
use super::timeline::{self, View};

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/instances/{id}/history", get(entries))
        .route("/instances/{id}/timeline", get(bars))
        .route("/instances/{id}/trace.json", get(trace))
        .route("/instances/{id}/output", get(output))
        .route("/instances/{id}/waits", get(waits))
}

/// Reads the history of an instance.
pub fn read(reads: &Reads, id: &str) -> Result<(InstanceRecord, History), Problem> {
    reads.history(id)?.ok_or_else(|| Problem::no_instance(id))
}

/// Reads the history of an instance, with places in the present program. An upgraded instance is
/// replayed for them.
fn read_placed(reads: &Reads, id: &str) -> Result<(InstanceRecord, History), Problem> {
    let (record, mut history) = read(reads, id)?;
    // The source that is shown is that of the present program.
    if history.entries.iter().any(|entry| matches!(entry, Entry::Upgraded { .. }))
        && let Ok(program) = load_modules(record.program, &reads.modules(record.program)?)
        && let Ok(image) = build_image(&program)
    {
        place_anew(&image, &record, &mut history);
    }
    Ok((record, history))
}

/// The texts of a program, for the lines of places.
pub struct Texts {
    modules: Vec<Text>,
}

struct Text {
    name: String,
    bytes: usize,
    /// The offsets of the line ends, in order.
    line_ends: Vec<usize>,
}

impl Texts {
    /// Reads the texts of an instance's program. Without them, places have no lines.
    pub fn read(reads: &Reads, record: &InstanceRecord) -> Texts {
        let modules = reads.modules(record.program).unwrap_or_default();
        let text = |(name, text): (String, String)| Text {
            name,
            bytes: text.len(),
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        };
        Texts { modules: modules.into_iter().map(text).collect() }
    }

    /// Returns the file, the line and the bytes of a place.
    pub fn at(&self, place: Place) -> Body {
        let start = place.span.start as usize;
        let text = self.modules.get(place.source as usize).filter(|text| start <= text.bytes);
        let Some(text) = text else { return Body::Null };
        let line = text.line_ends.partition_point(|end| *end < start) + 1;
        json!({
            "module": place.source, "file": text.name, "line": line,
            "start": place.span.start, "end": place.span.end,
        })
    }
}

/// The parameters of entries.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Searched {
    /// The number of the last entry of the page before.
    after: Option<usize>,
    limit: Option<usize>,
    /// The number of a request.
    seq: Option<u64>,
    /// `effect`, `activity`, `call`, `start`, `signal`, or the kind of an entry.
    kind: Option<String>,
    /// A text that an entry contains.
    text: Option<String>,
}

async fn entries(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
    Params(searched): Params<Searched>,
) -> Result<Json<Body>, Problem> {
    let limit = limit(searched.limit)?;
    service
        .ask(move |reads| {
            let (record, history) = read_placed(reads, &id)?;
            let texts = Texts::read(reads, &record);
            let first = searched.after.map_or(0, |after| after.saturating_add(1));
            let kinds = kinds(&history);
            let (mut items, mut next) = (Vec::new(), None);
            for (at, entry) in history.entries.iter().enumerate().skip(first) {
                if items.len() == limit {
                    next = items.last().map(|item: &Body| item["index"].clone());
                    break;
                }
                if searched.seq.is_some() && entry.seq() != searched.seq {
                    continue;
                }
                let mut shown = forms::entry(entry);
                let kind = entry.seq().and_then(|seq| kinds.get(&seq)).copied();
                let has_kind = searched
                    .kind
                    .as_deref()
                    .is_none_or(|wanted| kind == Some(wanted) || shown["kind"] == *wanted);
                let has_text =
                    || searched.text.as_deref().is_none_or(|text| shown.to_string().contains(text));
                if !has_kind || !has_text() {
                    continue;
                }
                if let Entry::Requested { place, .. } = entry {
                    shown["at"] = texts.at(*place);
                }
                shown["index"] = json!(at);
                items.push(shown);
            }
            Ok(Json(json!({
                "items": items, "next": next, "total": history.entries.len(),
                "trimmed": history.after.is_some(),
            })))
        })
        .await
}

/// Returns the kinds of requests by number.
fn kinds(history: &History) -> HashMap<u64, &'static str> {
    let requested = history.entries.iter().filter_map(|entry| match entry {
        Entry::Requested { seq, what, .. } => Some((*seq, what.kind())),
        _ => None,
    });
    requested.collect()
}

/// The parameters of a timeline.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Drawn {
    from: Option<At>,
    to: Option<At>,
    pixels: Option<u32>,
}

/// The width of a timeline if none is given, and the largest width.
const PIXELS: u32 = 1_200;
const MOST_PIXELS: u32 = 20_000;

async fn bars(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
    Params(drawn): Params<Drawn>,
) -> Result<Json<Body>, Problem> {
    let pixels = drawn.pixels.unwrap_or(PIXELS);
    if !(1..=MOST_PIXELS).contains(&pixels) {
        return Err(Problem::bad(format!("`pixels` is a number from 1 to {MOST_PIXELS}")));
    }
    let (mut drawing, children) = service
        .ask(move |reads| {
            let (record, history) = read_placed(reads, &id)?;
            let texts = Texts::read(reads, &record);
            let steps = timeline::steps(&record, &history);
            let now = host::now();
            let end = record.ended.unwrap_or(now);
            let from = drawn.from.map_or(record.created, |at| at.0);
            let to = drawn.to.map_or(end, |at| at.0).max(from.saturating_add(1));
            let bars = timeline::bars(&steps, View { from, to, pixels }, &|place| texts.at(place));
            let lanes = steps.iter().map(|step| step.lane + 1).max().unwrap_or(0);
            let drawing = json!({
                "from": format::instant(from), "to": format::instant(to), "now": format::instant(now),
                "began": format::instant(record.created), "ended": record.ended.map(format::instant),
                "lanes": lanes, "steps": steps.len(), "bars": bars,
            });
            let children: Vec<String> = steps.into_iter().filter_map(|step| step.child).collect();
            Ok((drawing, children))
        })
        .await?;
    // A step under another id than the automatic one has no child of that id.
    let there = service.catalog(move |catalog| catalog.those_there(&children)).await?;
    if let Some(bars) = drawing["bars"].as_array_mut() {
        for bar in bars {
            if bar["child"].as_str().is_some_and(|child| !there.contains(child)) {
                bar["child"] = Body::Null;
            }
        }
    }
    Ok(Json(drawing))
}

async fn trace(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<Body>, Problem> {
    service
        .ask(move |reads| {
            let (record, history) = read(reads, &id)?;
            let steps = timeline::steps(&record, &history);
            Ok(Json(timeline::trace(&record, &steps, host::now())))
        })
        .await
}

/// The parameters of output.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Printed {
    /// The number of the request of the last line of the page before.
    after: Option<u64>,
    limit: Option<usize>,
}

async fn output(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
    Params(printed): Params<Printed>,
) -> Result<Json<Body>, Problem> {
    let limit = limit(printed.limit)?;
    service
        .ask(move |reads| {
            let page = reads.output(&id)?.ok_or_else(|| Problem::no_instance(&id))?;
            let later =
                |line: &&crate::engine::query::Printed| printed.after.is_none_or(|after| line.seq > after);
            let mut lines: Vec<_> = page.lines.items.iter().filter(later).take(limit + 1).collect();
            let more = lines.len() > limit;
            lines.truncate(limit);
            let next = lines.last().filter(|_| more).map(|line| line.seq);
            let items: Vec<Body> = lines.into_iter().map(forms::printed).collect();
            Ok(Json(json!({"items": items, "next": next, "trimmed": page.is_trimmed})))
        })
        .await
}

/// Returns the open requests of an instance: what it waits for, since when, at which line, and how
/// often that has failed.
async fn waits(
    _: Reader,
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Json<Body>, Problem> {
    service
        .ask(move |reads| {
            let (record, history) = read_placed(reads, &id)?;
            if record.status.is_ended() {
                return Ok(Json(json!({"items": []})));
            }
            let texts = Texts::read(reads, &record);
            let open = open(&history);
            let items: Vec<Body> = open.iter().map(|open| waited(&record, open, &texts)).collect();
            Ok(Json(json!({"items": items})))
        })
        .await
}

/// A request that has no answer.
struct Open<'a> {
    request: &'a Entry,
    /// The number of attempts that have failed.
    failed: u64,
    /// The failure of the last attempt.
    last: Option<&'a Entry>,
}

/// Returns the requests that have no answer.
fn open(history: &History) -> Vec<Open<'_>> {
    let mut open: BTreeMap<u64, Open<'_>> = BTreeMap::new();
    for entry in &history.entries {
        match entry {
            Entry::Requested { seq, .. } => {
                open.insert(*seq, Open { request: entry, failed: 0, last: None });
            }
            Entry::Retried { seq, .. } => {
                if let Some(open) = open.get_mut(seq) {
                    (open.failed, open.last) = (open.failed + 1, Some(entry));
                }
            }
            Entry::Answered { seq, .. } | Entry::Cancelled { seq, .. } => {
                open.remove(seq);
            }
            Entry::Rewound { seq, .. } => {
                open.split_off(seq);
            }
            _ => {}
        }
    }
    open.into_values().collect()
}

fn waited(record: &InstanceRecord, open: &Open<'_>, texts: &Texts) -> Body {
    let mut out = forms::entry(open.request);
    if let Entry::Requested { seq, what, args, place, .. } = open.request {
        out["name"] = json!(what.shown());
        out["shown"] = json!(format!("{}({})", what.shown(), args.describe()));
        out["at"] = texts.at(*place);
        if matches!(what, RecordedRequest::Orchestration { .. }) {
            out["child"] = json!(record.child_id(*seq));
        }
    }
    out["failed_attempts"] = json!(open.failed);
    if let Some(last) = open.last.map(forms::entry) {
        (out["error"], out["again"]) = (last["error"].clone(), last["again"].clone());
    }
    out
}
