//! The times that an instance waits for: the end of a sleep, a deadline, the next attempt.
//!
//! Time limits and policies are part of the program, not of the history. So the history is
//! replayed.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::api::Queries;
use crate::builtins::Effect;
use crate::engine::{Entry, GRACE, History, InstanceRecord, Open, RecordedRequest, Replayed, replay};
use crate::machine::{RequestKind, format};

use super::program;
use super::table::time;

/// A time that a request waits for.
pub struct Due {
    what: &'static str,
    at: i64,
}

impl Due {
    /// Returns the text for people, such as `deadline 2026-03-01 12:00:05`.
    pub fn shown(&self) -> String {
        format!("{} {}", self.what.replace('_', " "), time(self.at))
    }

    /// Adds the time to the JSON form of a request.
    pub fn add_to(&self, json: &mut Json) {
        json[self.what] = json!(format::instant(self.at));
    }
}

/// Returns the times that requests wait for, by the number of the request. There are none for an
/// instance that has ended, or whose program cannot run it.
pub fn pending(store: &dyn Queries, record: &InstanceRecord, history: &History) -> BTreeMap<u64, Vec<Due>> {
    if record.status.is_ended() || !may_be_due(history) {
        return BTreeMap::new();
    }
    let Ok(image) = program::stored(store, record.program, &record.id, &record.file) else {
        return BTreeMap::new();
    };
    match replay(&image, record.clone(), history.clone(), &mut |_, _| ()) {
        Replayed::Waits(open) => open.iter().map(|open| (open.request.seq, due(open))).collect(),
        _ => BTreeMap::new(),
    }
}

/// Returns whether any request may have a timer, since a replay takes a while.
fn may_be_due(history: &History) -> bool {
    let has_timer = |entry: &Entry| match entry {
        Entry::Requested { what: what @ RecordedRequest::Effect(_), .. } => {
            what.effect().is_some_and(|effect| effect.is_sleep() || effect == Effect::Lock)
        }
        Entry::Requested {
            what: RecordedRequest::Activity(_) | RecordedRequest::Orchestration { .. },
            ..
        }
        | Entry::Cancelling { .. } => true,
        _ => false,
    };
    history.after.is_some() || history.entries.iter().any(has_timer)
}

fn due(open: &Open) -> Vec<Due> {
    let mut all = Vec::new();
    if matches!(open.request.what, RequestKind::Activity { .. }) && open.attempt > 1 {
        all.push(Due { what: "next_attempt", at: open.begins });
    }
    if let Some(at) = open.due() {
        let is_sleep = matches!(open.request.what, RequestKind::Effect(effect) if effect.is_sleep());
        let what = match is_sleep {
            _ if open.request.seq == GRACE => "grace_until",
            true => "wakes",
            false => "deadline",
        };
        all.push(Due { what, at });
    }
    all
}
