//! The rules that one journal shows: what an instance takes is an answer to a request of its own,
//! and a timer fires when it is due, or later.

use std::collections::BTreeMap;

use crate::engine::{Entry, GRACE, Postmark, due_time};
use crate::machine::{ErrorData, RequestKind, format, options};

use super::{Finding, Run, is_answered_at_once};

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
    /// The times at which open requests were made, or made again.
    since: BTreeMap<u64, i64>,
    /// The times at which the attempts at open requests begin.
    begins: BTreeMap<u64, i64>,
    /// Whether the instance has gone on with another program, whose time limits may be others.
    is_upgraded: bool,
    is_rewound: bool,
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
        since: BTreeMap::new(),
        begins: BTreeMap::new(),
        is_upgraded: run.entries.iter().any(|entry| matches!(entry, Entry::Upgraded { .. })),
        is_rewound: false,
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
                self.made(*seq, *time);
            }
            Entry::Answered { seq, result, time, came } => {
                if let Err(error) = result {
                    self.limit(at, *seq, error, *time);
                }
                self.answered(at, *seq, result.is_ok(), *time, *came);
            }
            Entry::Cancelled { seq, .. } => {
                if self.states.insert(*seq, State::GivenUp) != Some(State::Open) && !self.run.is_trimmed {
                    self.found("take", at, format!("request {seq} is given up, and was not open"));
                }
                self.due.remove(seq);
            }
            Entry::Retried { seq, error, again, time } => {
                self.limit(at, *seq, error, *time);
                self.begins.insert(*seq, *again);
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
            Entry::Rewound { seq, used, .. } => {
                if let Some(used) = used.filter(|used| used >= seq) {
                    let what =
                        format!("the next request is {seq}, and numbers up to {used} were used before");
                    self.found("rewind", at, what);
                } else if *seq < self.next {
                    self.found("rewind", at, format!("numbers from {seq} on are used again"));
                }
                self.next = *seq;
                self.is_rewound = true;
            }
            Entry::Renewed { seq, time } => {
                self.again.remove(seq);
                self.made(*seq, *time);
            }
            Entry::Ended { .. } | Entry::Terminated { .. } => {
                if at + 1 < self.run.entries.len() {
                    self.found("take", at, "its history goes on after its end".into());
                }
            }
            Entry::Cancelling { .. } | Entry::Upgraded { .. } => {}
        }
    }

    fn answered(&mut self, at: usize, seq: u64, is_ok: bool, time: i64, came: Option<Postmark>) {
        match self.states.insert(seq, State::Answered) {
            Some(State::Answered) => {
                self.found("deliver", at, format!("request {seq} is answered a second time"));
            }
            None if !self.run.is_trimmed => {
                self.found("deliver", at, format!("an answer to request {seq}, which was not made"));
            }
            _ => {}
        }
        let due = self.due.remove(&seq);
        self.overtakes(at, seq, came);
        let Some(due) = due else { return };
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

    /// Notes that a request is made, or made again.
    fn made(&mut self, seq: u64, time: i64) {
        self.since.insert(seq, time);
        self.begins.insert(seq, time);
        self.sleeps(seq, time);
    }

    /// What comes is taken in the order of time. So an answer to a request that was made after a
    /// sleep was due does not come before the end of that sleep, and neither does a message that
    /// came after the sleep was due.
    fn overtakes(&mut self, at: usize, seq: u64, came: Option<Postmark>) {
        let asked = self.run.requests.get(&seq);
        let is_at_once = asked.is_none_or(|asked| is_answered_at_once(&asked.request.what));
        let since = self.since.get(&seq).filter(|_| !is_at_once);
        let Some(since) = came.map(|came| came.time).max(since.copied()).filter(|_| !self.is_rewound) else {
            return;
        };
        let is_earlier = |(other, due): &(&u64, &i64)| {
            self.since.get(other).is_some_and(|asked| (**due).max(*asked) < since)
        };
        if let Some((other, _)) = self.due.iter().find(is_earlier) {
            let what = format!(
                "request {seq} is answered, and the sleep of request {other}, which was due before, has not ended"
            );
            self.found("elapse", at, what);
        }
    }

    /// A time limit is not over early.
    fn limit(&mut self, at: usize, seq: u64, error: &ErrorData, time: i64) {
        let (Some(asked), Some(since), Some(begins)) =
            (self.run.requests.get(&seq), self.since.get(&seq), self.begins.get(&seq))
        else {
            return;
        };
        let (name, limits) = match &asked.request.what {
            RequestKind::Activity { name, options } => {
                let policy = options::recorded_policy(options);
                (name, [(policy.timeout, *begins), (policy.within, *since)])
            }
            RequestKind::Orchestration { name, options, start: false } => {
                (name, [(options::recorded_child(options).timeout, *since), (None, *since)])
            }
            _ => return,
        };
        // An error that an activity throws itself has another text.
        let title = error.title();
        let is_of = |limit: i64| {
            title == format!("timeout: `{name}` was not done within {}", format::duration(limit))
        };
        let over = limits.into_iter().filter_map(|(limit, from)| Some((limit?, from)));
        let over: Vec<i64> =
            over.filter(|(limit, _)| is_of(*limit)).map(|(limit, from)| from.saturating_add(limit)).collect();
        if !self.is_upgraded && !over.is_empty() && over.iter().all(|over| time < *over) {
            let early = format::duration(over.iter().min().map_or(0, |over| over - time));
            self.found("elapse", at, format!("the time limit of request {seq} is over {early} early"));
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
