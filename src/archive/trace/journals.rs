//! The rules that one journal shows: what an instance takes is an answer to a request of its own,
//! and a timer fires when it is due, or later.

use std::collections::BTreeMap;

use crate::engine::{Entry, GRACE, due_time};
use crate::machine::{RequestKind, format};

use super::{Finding, Run};

/// The state of a request while a journal is read.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Answered,
    GivenUp,
}

/// A journal while it is read.
struct Reading<'a> {
    run: &'a Run,
    states: BTreeMap<u64, State>,
    /// The times at which open sleeps are due.
    due: BTreeMap<u64, i64>,
    /// The time before which the next attempt at a request does not begin.
    again: BTreeMap<u64, i64>,
    /// The least number of the next request.
    next: u64,
    /// The time of the entry before.
    time: i64,
    findings: &'a mut Vec<Finding>,
}

pub fn check(run: &Run, findings: &mut Vec<Finding>) {
    let mut reading = Reading {
        run,
        states: run
            .requests
            .iter()
            .filter(|(_, asked)| asked.at.is_none())
            .map(|(seq, _)| (*seq, State::Open))
            .collect(),
        due: BTreeMap::new(),
        again: BTreeMap::new(),
        next: 0,
        time: i64::MIN,
        findings,
    };
    for (seq, asked) in run.requests.iter().filter(|(_, asked)| asked.at.is_none()) {
        reading.sleeps(*seq, asked.time);
    }
    for (at, entry) in run.entries.iter().enumerate() {
        reading.entry(at, entry);
    }
}

impl Reading<'_> {
    fn found(&mut self, rule: &'static str, at: usize, what: String) {
        self.findings.push(self.run.finding(rule, Some(at), what));
    }

    fn entry(&mut self, at: usize, entry: &Entry) {
        // A rewind writes such an entry between those of before.
        let is_of_its_time = !matches!(entry, Entry::Rewound { .. });
        if is_of_its_time && entry.time() < self.time {
            let (now, before) = (format::instant(entry.time()), format::instant(self.time));
            self.found("elapse", at, format!("time goes back, from {before} to {now}"));
        }
        if is_of_its_time {
            self.time = self.time.max(entry.time());
        }
        match entry {
            Entry::Requested { seq, time, .. } => {
                if *seq < self.next {
                    self.found("take", at, format!("request {seq} has a number that was used before"));
                }
                self.next = seq.saturating_add(1);
                self.states.insert(*seq, State::Open);
                self.sleeps(*seq, *time);
            }
            Entry::Answered { seq, result, time } => self.answered(at, *seq, result.is_ok(), *time),
            Entry::Cancelled { seq, .. } => {
                if self.states.insert(*seq, State::GivenUp) != Some(State::Open) && !self.run.is_trimmed {
                    self.found("take", at, format!("request {seq} is given up, and was not open"));
                }
                self.due.remove(seq);
            }
            Entry::Retried { seq, again, .. } => {
                self.again.insert(*seq, *again);
            }
            Entry::Begun { seq, time } => {
                if let Some(again) = self.again.remove(seq)
                    && *time < again
                {
                    let early = format::duration(again - time);
                    self.found("elapse", at, format!("an attempt at request {seq} begins {early} early"));
                }
            }
            Entry::Rewound { seq, .. } => {
                if *seq < self.next {
                    self.found("rewind", at, format!("numbers from {seq} on are used again"));
                }
                self.next = *seq;
            }
            Entry::Renewed { seq, time } => {
                self.again.remove(seq);
                self.sleeps(*seq, *time);
            }
            Entry::Ended { .. } | Entry::Terminated { .. } => {
                if at + 1 < self.run.entries.len() {
                    self.found("take", at, "its history goes on after its end".into());
                }
            }
            Entry::Cancelling { .. } | Entry::Upgraded { .. } => {}
        }
    }

    fn answered(&mut self, at: usize, seq: u64, is_ok: bool, time: i64) {
        match self.states.insert(seq, State::Answered) {
            Some(State::Answered) => {
                self.found("deliver", at, format!("request {seq} is answered a second time"));
            }
            None if !self.run.is_trimmed => {
                self.found("deliver", at, format!("an answer to request {seq}, which was not made"));
            }
            _ => {}
        }
        let Some(due) = self.due.remove(&seq) else { return };
        if is_ok && time < due {
            let early = format::duration(due - time);
            self.found("elapse", at, format!("the sleep of request {seq} ends {early} early"));
        }
        let earlier = self.due.iter().find(|(_, other)| **other < due).map(|(seq, _)| *seq);
        if let (true, Some(other)) = (is_ok, earlier) {
            let what = format!(
                "the sleep of request {seq} ends before that of request {other}, which is due earlier"
            );
            self.found("elapse", at, what);
        }
    }

    /// Notes when a request is due, if it is a sleep.
    fn sleeps(&mut self, seq: u64, time: i64) {
        let Some(asked) = self.run.requests.get(&seq).filter(|_| seq != GRACE) else { return };
        if matches!(&asked.request.what, RequestKind::Effect(effect) if effect.is_sleep()) {
            self.due.insert(seq, due_time(&asked.request.args, time));
        }
    }
}
