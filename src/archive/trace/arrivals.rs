//! The rule **take** for messages: an instance takes what has come for it in the order of time.
//!
//! A postmark says when a message came and which number it got. A message with an earlier time and
//! a smaller number than another one was there when the other one was taken. If a request was open
//! for it by then, it is taken first. A message with an earlier time and a greater number proves
//! nothing: it came late, from another partition, or out of a history that was rewound.

use std::collections::HashMap;

use crate::builtins::Effect;
use crate::engine::{Entry, Postmark};
use crate::machine::{RequestKind, format};

use super::{Finding, Run};

/// A message that was taken.
struct Taken {
    /// The position of the entry, and the number of the request.
    at: usize,
    seq: u64,
    came: Postmark,
    /// The greatest time of this message and all that were taken before.
    latest: i64,
}

/// The events of a name.
#[derive(Default)]
struct Events {
    /// The positions between which each request for such an event is open.
    open: Vec<(usize, usize)>,
    /// The greatest time of those that were taken. They are taken one after another, so an event
    /// waits for those before it.
    latest: Option<i64>,
}

/// A journal while it is read.
struct Reading<'a> {
    run: &'a Run,
    /// The positions at which requests were made. Those from before a checkpoint come first.
    asked: HashMap<u64, usize>,
    events: HashMap<String, Events>,
    /// The open requests for events: the name, and the place in [`Events::open`].
    receives: HashMap<u64, (String, usize)>,
    taken: Vec<Taken>,
}

pub fn check(run: &Run, findings: &mut Vec<Finding>) {
    let mut reading = Reading {
        run,
        asked: HashMap::new(),
        events: HashMap::new(),
        receives: HashMap::new(),
        taken: Vec::new(),
    };
    for (seq, asked) in &run.requests {
        if asked.at.is_none() {
            reading.made(*seq, 0);
        }
    }
    for (at, entry) in run.entries.iter().enumerate() {
        match entry {
            Entry::Requested { seq, .. } | Entry::Renewed { seq, .. } => reading.made(*seq, at),
            Entry::Cancelled { seq, .. } => {
                reading.closed(*seq, at);
            }
            Entry::Answered { seq, came, .. } => {
                let event = reading.closed(*seq, at);
                let Some(came) = came else { continue };
                findings.extend(reading.taken(at, *seq, *came, event));
            }
            _ => {}
        }
    }
}

impl Reading<'_> {
    fn made(&mut self, seq: u64, at: usize) {
        self.asked.insert(seq, at);
        if let Some(name) = event(self.run, seq) {
            self.closed(seq, at);
            let events = self.events.entry(name.clone()).or_default();
            self.receives.insert(seq, (name, events.open.len()));
            events.open.push((at, usize::MAX));
        }
    }

    /// Notes that a request is not open any more, and returns the event that it waited for.
    fn closed(&mut self, seq: u64, at: usize) -> Option<String> {
        let (name, place) = self.receives.remove(&seq)?;
        if let Some((_, to)) = self.events.get_mut(&name).and_then(|events| events.open.get_mut(place)) {
            *to = at;
        }
        Some(name)
    }

    /// Notes that a message was taken, and compares it with those that were taken before.
    fn taken(&mut self, at: usize, seq: u64, came: Postmark, event: Option<String>) -> Option<Finding> {
        let mut came = came;
        let events = event.map(|name| self.events.entry(name).or_default());
        if let Some(events) = events.as_deref() {
            came.time = events.latest.map_or(came.time, |latest| latest.max(came.time));
        }
        let since = self.asked.get(&seq).copied().unwrap_or_default();
        let was_wanted = |other: &Taken| match events.as_deref() {
            Some(events) => events.open.iter().any(|(from, to)| *from <= other.at && other.at < *to),
            None => other.at >= since,
        };
        let is_overtaken = |other: &&Taken| {
            other.came.time > came.time && other.came.number > came.number && was_wanted(other)
        };
        let before = self.taken.iter().rev().take_while(|other| other.latest > came.time);
        let finding = { before }.find(is_overtaken).map(|other| {
            let (now, then) = (format::instant(came.time), format::instant(other.came.time));
            let what = format!(
                "the answer to request {seq} came at {now}, and is taken after that to request {}, which came at {then}",
                other.seq
            );
            self.run.finding("take", Some(at), what)
        });
        if let Some(events) = events {
            events.latest = Some(came.time);
        }
        let latest = self.taken.last().map_or(came.time, |last| last.latest.max(came.time));
        self.taken.push(Taken { at, seq, came, latest });
        finding
    }
}

/// Returns the name of the event that a request waits for.
fn event(run: &Run, seq: u64) -> Option<String> {
    let request = &run.requests.get(&seq)?.request;
    let is_receive = request.what == RequestKind::Effect(Effect::Receive);
    is_receive.then(|| request.args.items().first().map(format::display)).flatten()
}
