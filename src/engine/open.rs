//! What an instance asked for and has no answer to yet.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::builtins::Effect;
use crate::machine::options::{self, Policy, policy};
use crate::machine::{Data, ErrorData, Request, RequestKind, Value, snapshot};

use super::checkpoint::SavedOpen;
use super::entry::RecordedRequest;
use super::fault::{self, Fault};

/// What becomes of a request for an activity.
pub(super) enum Attempt {
    /// It begins later.
    Later(i64),
    /// It was under way in a process that ended.
    Interrupted,
    /// It begins now.
    Begins,
}

/// Processes that an activity without a policy may end with its own.
const DEATHS: u32 = 100;

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct Open {
    pub request: Request,
    /// When it was made.
    pub time: i64,
    /// How often it was asked again by rewinding, as far as this process knows.
    pub round: u32,
    /// The attempt that is under way, from 1, and when it begins or began.
    pub attempt: u32,
    pub begins: i64,
    /// How an activity is tried.
    pub policy: Policy,
    /// Whether an attempt after the first was handed to a host: its process may have ended since.
    pub begun: bool,
    /// It was handed to the host in this process.
    pub dispatched: bool,
    /// It was made by an earlier process: what it sent is sent.
    pub recorded: bool,
}

impl Open {
    /// For people: `charge("1234", 10)`.
    pub fn describe(&self) -> String {
        describe(&RecordedRequest::of(&self.request.what), &super::Args::of(&self.request.args))
    }

    /// What becomes of the next attempt.
    pub(super) fn next_attempt(&mut self, now: i64) -> Attempt {
        if self.begins > now {
            return Attempt::Later(self.begins);
        }
        // Another process may have handed it to a host, and did not see its end.
        let was_recorded = std::mem::take(&mut self.recorded);
        match was_recorded && (self.attempt == 1 || self.begun) {
            true => Attempt::Interrupted,
            false => Attempt::Begins,
        }
    }

    /// When the next attempt begins after one that failed so; none when there is none.
    pub(super) fn again(&self, error: &ErrorData, seed: u64, now: i64) -> Option<i64> {
        let is_activity = matches!(self.request.what, RequestKind::Activity { .. });
        if !is_activity
            || self.attempt >= self.policy.times
            || !self.policy.tries_again(&error.value.decode())
        {
            return None;
        }
        let again = now.saturating_add(self.policy.pause(self.attempt, seed));
        self.ends().is_none_or(|ends| again < ends).then_some(again)
    }

    /// Whether an attempt is made again whose process ended: without a policy it is, so that a restart goes unnoticed.
    pub(super) fn outlives(&self, error: &ErrorData, now: i64) -> bool {
        match self.policy.limited {
            true => {
                self.attempt < self.policy.times
                    && self.policy.tries_again(&error.value.decode())
                    && self.ends().is_none_or(|ends| now < ends)
            }
            false => self.attempt < DEATHS,
        }
    }

    /// When all attempts together have to be done.
    fn ends(&self) -> Option<i64> {
        self.policy.within.map(|within| self.time.saturating_add(within))
    }

    /// When the attempt that is under way has to be done, and how long it or all of them may take.
    pub(super) fn deadline(&self) -> Option<(i64, i64)> {
        let own = self.policy.timeout.map(|timeout| (self.begins.saturating_add(timeout), timeout));
        let all = self.ends().zip(self.policy.within);
        own.into_iter().chain(all).min_by_key(|(due, _)| *due)
    }

    /// When its timer is due, if it has one: a sleep ends, or the time for it is up.
    pub fn due(&self) -> Option<i64> {
        match &self.request.what {
            RequestKind::Effect(effect) if effect.is_sleep() => Some(due_time(&self.request.args, self.time)),
            RequestKind::Activity { .. } => self.deadline().map(|(due, _)| due),
            _ => Some(self.time.saturating_add(self.policy.timeout?)),
        }
    }

    pub(super) fn saved(&self) -> SavedOpen {
        let Open { request, time, attempt, begins, begun, .. } = self;
        SavedOpen {
            request: snapshot::saved_request(request),
            time: *time,
            attempt: *attempt,
            begins: *begins,
            begun: *begun,
        }
    }

    pub(super) fn restored(saved: SavedOpen) -> Option<Open> {
        let SavedOpen { request, time, attempt, begins, begun } = saved;
        let request = snapshot::request(request)?;
        let policy = policy_of(&request);
        Some(Open {
            request,
            time,
            round: 0,
            attempt,
            begins,
            begun,
            policy,
            dispatched: false,
            recorded: true,
        })
    }

    /// Whether it was sent to an entity or an instance that answers once, and can't be asked twice.
    pub(super) fn is_sent(&self) -> bool {
        match &self.request.what {
            RequestKind::Operation { signal, .. } => signal.is_none(),
            RequestKind::Effect(effect) => effect.is_message(),
            _ => false,
        }
    }

    /// Whether it is a message to an entity or an instance.
    pub(super) fn is_message(&self) -> bool {
        match &self.request.what {
            RequestKind::Operation { .. } | RequestKind::Orchestration { .. } => true,
            RequestKind::Effect(effect) => effect.is_message(),
            RequestKind::Activity { .. } => false,
        }
    }

    /// Whether it was under way in a process, and was broken off when its instance ended.
    pub(super) fn is_broken_off(&self) -> bool {
        match &self.request.what {
            RequestKind::Activity { .. } => true,
            // Others answer them, or they are done as soon as they are asked for.
            RequestKind::Effect(
                Effect::Receive | Effect::Wait | Effect::Lock | Effect::Unlock | Effect::ContinueAsNew,
            ) => false,
            RequestKind::Effect(effect) => !(effect.is_sleep() || effect.is_message() || effect.is_line()),
            _ => false,
        }
    }

    /// Lets its time begin anew, and its attempts.
    pub(super) fn renew(&mut self, time: i64) {
        if fault::is_in(Fault::OldLimitsCount) {
            self.dispatched = false;
            return;
        }
        (self.time, self.begins, self.attempt, self.begun) = (time, time, 1, false);
        self.round += 1;
        self.dispatched = false;
    }

    /// Whether it is done here, and not by the receiver of a message.
    fn is_active(&self) -> bool {
        match &self.request.what {
            RequestKind::Activity { .. } => true,
            _ if self.policy.timeout.is_some() => true,
            RequestKind::Effect(Effect::Receive | Effect::Wait | Effect::Lock) => false,
            RequestKind::Effect(effect) => !effect.is_message(),
            RequestKind::Orchestration { .. } => false,
            RequestKind::Operation { signal, .. } => signal.is_some(),
        }
    }

    pub(super) fn is_timer(&self) -> bool {
        matches!(&self.request.what, RequestKind::Effect(effect) if effect.is_sleep())
    }
}

/// The requests of an instance, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// Each on its own: a leaf of such a map has room for eleven.
    open: BTreeMap<u64, Box<Open>>,
    /// How many are done here, and not by the receiver of a message. There may be very many that are not.
    active: usize,
}

impl Requests {
    pub fn insert(&mut self, open: Open) {
        self.active += usize::from(open.is_active());
        if let Some(before) = self.open.insert(open.request.seq, Box::new(open)) {
            self.active -= usize::from(before.is_active());
        }
    }

    pub fn remove(&mut self, seq: u64) -> Option<Box<Open>> {
        let open = self.open.remove(&seq)?;
        self.active -= usize::from(open.is_active());
        Some(open)
    }

    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Open> {
        self.open.get_mut(&seq).map(|open| &mut **open)
    }

    /// Whether any is done here.
    pub fn are_active(&self) -> bool {
        self.active > 0
    }

    pub fn into_all(self) -> BTreeMap<u64, Box<Open>> {
        self.open
    }
}

impl Deref for Requests {
    type Target = BTreeMap<u64, Box<Open>>;

    fn deref(&self) -> &BTreeMap<u64, Box<Open>> {
        &self.open
    }
}

/// When a sleep that was asked for at `time` ends.
fn due_time(args: &Data, time: i64) -> i64 {
    match args.items().first() {
        Some(Value::Duration(duration)) => time.saturating_add(*duration),
        Some(Value::Instant(instant)) => *instant,
        _ => time,
    }
}

/// For people: `charge("1234", 10)`.
pub(super) fn describe(what: &RecordedRequest, args: &super::Args) -> String {
    format!("{}({})", what.shown(), args.describe())
}

/// How a request is tried, and how long it may take.
pub(super) fn policy_of(request: &Request) -> Policy {
    match &request.what {
        RequestKind::Activity { options, .. } => policy(&options.decode()).unwrap_or_default(),
        RequestKind::Orchestration { options, start: false, .. } => {
            let timeout = options::child(&options.decode()).ok().and_then(|child| child.timeout);
            Policy { timeout, ..Policy::default() }
        }
        RequestKind::Effect(Effect::Lock) => {
            Policy { timeout: lock_timeout(&request.args), ..Policy::default() }
        }
        _ => Policy::default(),
    }
}

/// How long a `lock` waits.
fn lock_timeout(args: &Data) -> Option<i64> {
    options::lock(args.items().get(1)?).ok()?
}
