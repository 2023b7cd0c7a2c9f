//! Positions, places and values in words.

use crate::debug::{End, Session, described, view};
use crate::engine::{Entry, Status};
use crate::machine::format;
use crate::syntax::Place;

/// Why a step goes over an activity.
pub const PASSED: &str = "an activity runs elsewhere, and only its result is in the history";

/// Returns `file:line` of a place.
pub fn locate(session: &Session, place: Place) -> String {
    let sources = &session.image.code.sources;
    let (line, _) = sources.line_column(place);
    let name = sources.files.get(place.source as usize).map_or("?", |file| file.name.as_str());
    format!("{name}:{line}")
}

/// Returns the line of source at a place, without its indentation.
pub fn line(session: &Session, place: Place) -> String {
    let sources = &session.image.code.sources;
    let Some(file) = sources.files.get(place.source as usize) else { return String::new() };
    let (number, _) = sources.line_column(place);
    let text = file.text.lines().nth(number.saturating_sub(1)).unwrap_or("");
    crate::render::short(text.trim(), 100)
}

/// Returns the position and the statement of a session in one line.
pub fn whereabouts(session: &Session) -> String {
    let position = session.position();
    if let Some(end) = session.end() {
        return format!("{position}  {}", ending(session, end));
    }
    let task = match session.task() {
        0 => String::new(),
        task => format!("  task {task}"),
    };
    let stands = match (session.at().statement, session.last_entry()) {
        (None, Some(entry)) => format!("  [{}]", crate::render::short(&happened(session, entry), 60)),
        _ => String::new(),
    };
    match session.place() {
        Some(place) => {
            format!("{position}  {}{task}  {}{stands}", locate(session, place), line(session, place))
        }
        None => format!("{position}{task}{stands}  before the first statement"),
    }
}

/// Returns an entry in words, with the value of an answer.
pub fn happened(session: &Session, entry: &Entry) -> String {
    match entry {
        Entry::Answered { seq, result, .. } => {
            let of = request(session, *seq).unwrap_or_else(|| format!("request {seq}"));
            match result {
                Ok(value) => format!("{of} → {}", view::brief(&value.decode(), 60)),
                Err(error) => format!("{of} → error {}", error.title()),
            }
        }
        Entry::Cancelled { seq, .. } | Entry::Retried { seq, .. } | Entry::Begun { seq, .. } => {
            let of = request(session, *seq).unwrap_or_else(|| format!("request {seq}"));
            let what = match entry {
                Entry::Cancelled { .. } => "is cancelled",
                Entry::Begun { .. } => "is tried again",
                _ => "fails, and is tried again",
            };
            format!("{of} {what}")
        }
        other => described(other),
    }
}

/// Returns the name of a request.
fn request(session: &Session, wanted: u64) -> Option<String> {
    session.history.iter().rev().find_map(|entry| match entry {
        Entry::Requested { seq, what, .. } if *seq == wanted => Some(what.shown()),
        _ => None,
    })
}

/// Returns the end of a run in words.
pub fn ending(session: &Session, end: &End) -> String {
    match (end, &session.record.status) {
        (End::Ended, Status::Completed(value)) => {
            format!("the end: completed with {}", view::brief(&value.decode(), 80))
        }
        (End::Ended, Status::Failed(error)) => format!("the end: failed with {}", error.title()),
        (End::Ended | End::Terminated, Status::Terminated(why)) => {
            format!("the end: terminated, {}", format::brief(&why.decode()))
        }
        (End::Ended | End::Terminated, _) => "the end".into(),
        (End::Waits, _) => {
            let waits: Vec<String> = session.waiting().map(|asked| view::shown(&asked.request)).collect();
            match waits.is_empty() {
                true => "the history ends here".into(),
                false => format!("waits for {}", crate::render::short(&waits.join(", "), 100)),
            }
        }
        (End::NotBegun, _) => "it has not begun".into(),
        (End::Computes, _) => "the history ends here, and it computes".into(),
        (End::Differs { recorded, found }, _) => {
            format!("the program does something else than its history: it was {recorded}, and is {found}")
        }
    }
}
