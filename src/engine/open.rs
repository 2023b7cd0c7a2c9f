//! Open requests: the requests of an instance that have no answer yet.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::builtins::Effect;
use crate::machine::options::{self, Policy};
use crate::machine::{Cancellation, Data, ErrorData, Request, RequestKind, Value, format, snapshot};
use crate::syntax::Place;

use super::checkpoint::SavedOpen;
use super::entry::{Args, Entry, GRACE, RecordedRequest};
use super::fault::{self, Fault};

/// The state of the next attempt at an activity.
pub(super) enum Attempt {
    /// The attempt begins at this later time.
    Later(i64),
    /// The attempt was under way in a process that ended.
    Interrupted,
    /// The attempt begins now.
    Begins,
}

/// The number of interrupted attempts after which an activity without a policy fails.
const DEATHS: u32 = 100;

/// The number of open requests up to which the time of the first one is looked for with each
/// commit.
const FEW: usize = 16;

/// The fate of the called children of an instance that ends or gives them up.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Children {
    /// The children go on.
    Left,
    /// The children may clean up.
    Cancelled,
    Terminated,
}

/// The attempts and the time limits of a request without a policy.
static STANDARD: Policy = Policy::standard();

/// A request without an answer.
#[derive(Clone, Debug)]
pub struct Open {
    pub request: Request,
    /// The time of the request.
    pub time: i64,
    /// The number of rewindings that asked the request again, as far as this process knows.
    pub round: u32,
    /// The number of the current attempt, from 1, and the time at which it begins or began.
    pub attempt: u32,
    pub begins: i64,
    /// The attempts and the time limits, unless they are [`STANDARD`]. Boxed, because most requests
    /// have none of their own.
    policy: Option<Box<Policy>>,
    /// Whether an attempt after the first was handed to a host. That host's process may have ended
    /// since.
    pub begun: bool,
    /// Whether the request was handed to the host in this process.
    pub dispatched: bool,
    /// Whether an earlier process made the request. Its messages were sent then.
    pub recorded: bool,
}

impl Open {
    /// Returns the grace period of an instance that was cancelled at `time`. The instance is
    /// terminated when it is over, for the given reason.
    pub(super) fn grace(cancellation: &Cancellation, time: i64, recorded: bool) -> Open {
        let args = Value::list(vec![Value::Duration(cancellation.grace), cancellation.reason.decode()]);
        let what = RequestKind::Effect(Effect::Sleep);
        let request = Request { seq: GRACE, what, args: Data::of(&args), place: Place::default() };
        Open::of(request, time, recorded)
    }

    /// Returns a request that is made at `time`.
    pub(super) fn of(request: Request, time: i64, recorded: bool) -> Open {
        let policy = policy_of(&request);
        Open {
            request,
            time,
            round: 0,
            attempt: 1,
            begins: time,
            begun: false,
            policy,
            dispatched: false,
            recorded,
        }
    }

    /// Returns the attempts and the time limits of the request.
    pub fn policy(&self) -> &Policy {
        self.policy.as_deref().unwrap_or(&STANDARD)
    }

    /// Returns the request as text for people: `charge("1234", 10)`.
    pub fn describe(&self) -> String {
        if let (GRACE, Some(Value::Duration(grace))) = (self.request.seq, self.request.args.items().first()) {
            return format!("the end of its clean-up, for {}", format::duration(*grace));
        }
        describe_request(&self.request)
    }

    /// Returns the state of the next attempt, and clears `recorded` unless the attempt is for
    /// later.
    pub(super) fn next_attempt(&mut self, now: i64) -> Attempt {
        if self.begins > now {
            return Attempt::Later(self.begins);
        }
        // An earlier process may have handed the attempt to a host without seeing its end.
        let was_recorded = std::mem::take(&mut self.recorded);
        match was_recorded && (self.attempt == 1 || self.begun) {
            true => Attempt::Interrupted,
            false => Attempt::Begins,
        }
    }

    /// Returns when the next attempt begins after this error; `None` if there is none.
    pub(super) fn again(&self, error: &ErrorData, seed: u64, now: i64) -> Option<i64> {
        let is_activity = matches!(self.request.what, RequestKind::Activity { .. });
        if !is_activity
            || self.attempt >= self.policy().times
            || !self.policy().tries_again(&error.value.decode())
        {
            return None;
        }
        let again = now.saturating_add(self.policy().pause(self.attempt, seed));
        self.ends().is_none_or(|ends| again < ends).then_some(again)
    }

    /// Whether an attempt is repeated after the end of its process. Without a policy it is, so that
    /// a restart goes unnoticed.
    pub(super) fn outlives(&self, error: &ErrorData, now: i64) -> bool {
        match self.policy().limited {
            true => {
                self.attempt < self.policy().times
                    && self.policy().tries_again(&error.value.decode())
                    && self.ends().is_none_or(|ends| now < ends)
            }
            false => self.attempt < DEATHS,
        }
    }

    /// Returns the time by which all attempts together must be done.
    fn ends(&self) -> Option<i64> {
        self.policy().within.map(|within| self.time.saturating_add(within))
    }

    /// Returns the time by which the current attempt must be done, and the limit that sets it: that
    /// of one attempt or of all.
    pub(super) fn deadline(&self) -> Option<(i64, i64)> {
        let own = self.policy().timeout.map(|timeout| (self.begins.saturating_add(timeout), timeout));
        let all = self.ends().zip(self.policy().within);
        own.into_iter().chain(all).min_by_key(|(due, _)| *due)
    }

    /// Returns when the request's timer is due, if it has one: the end of a sleep, or a deadline.
    pub fn due(&self) -> Option<i64> {
        match &self.request.what {
            RequestKind::Effect(effect) if effect.is_sleep() => Some(due_time(&self.request.args, self.time)),
            RequestKind::Activity { .. } => self.deadline().map(|(due, _)| due),
            _ => Some(self.time.saturating_add(self.policy().timeout?)),
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

    /// Whether the request is a message to an entity or an instance that answers once, so that it
    /// can't be sent twice.
    pub(super) fn is_sent(&self) -> bool {
        match &self.request.what {
            RequestKind::Operation { signal, .. } => signal.is_none(),
            RequestKind::Effect(effect) => effect.is_message(),
            _ => false,
        }
    }

    /// Whether the request is a message to an entity or an instance.
    pub(super) fn is_message(&self) -> bool {
        match &self.request.what {
            RequestKind::Operation { .. } | RequestKind::Orchestration { .. } => true,
            RequestKind::Effect(effect) => effect.is_message(),
            RequestKind::Activity { .. } => false,
        }
    }

    /// Whether the request was carried out by a process, and was broken off by the instance's end.
    pub(super) fn is_broken_off(&self) -> bool {
        match &self.request.what {
            RequestKind::Activity { .. } => true,
            // These are answered by others, or done as soon as they are asked for.
            RequestKind::Effect(
                Effect::Receive | Effect::Wait | Effect::Lock | Effect::Unlock | Effect::ContinueAsNew,
            ) => false,
            RequestKind::Effect(effect) => !(effect.is_sleep() || effect.is_message() || effect.is_line()),
            _ => false,
        }
    }

    /// Restarts the request's time and its attempts.
    pub(super) fn renew(&mut self, time: i64) {
        if fault::is_in(Fault::OldLimitsCount) {
            self.dispatched = false;
            return;
        }
        (self.time, self.begins, self.attempt, self.begun) = (time, time, 1, false);
        self.round += 1;
        self.dispatched = false;
    }

    /// Whether this process has to do something for the request, and not the receiver of a message.
    fn is_active(&self) -> bool {
        match &self.request.what {
            RequestKind::Activity { .. } => true,
            _ if self.policy().timeout.is_some() => true,
            RequestKind::Effect(Effect::Receive | Effect::Wait | Effect::Lock) => false,
            RequestKind::Effect(effect) => !effect.is_message(),
            RequestKind::Orchestration { .. } => false,
            RequestKind::Operation { signal, .. } => signal.is_some(),
        }
    }

    /// Returns when this process has to do something for an active request, if that is a time.
    fn active_at(&self) -> Option<i64> {
        match &self.request.what {
            // The pause before the next attempt.
            RequestKind::Activity { .. } => (self.attempt > 1 && !self.dispatched).then_some(self.begins),
            _ if self.is_timer() || self.policy().timeout.is_some() => self.due(),
            _ => None,
        }
    }

    pub(super) fn is_timer(&self) -> bool {
        matches!(&self.request.what, RequestKind::Effect(effect) if effect.is_sleep())
    }
}

/// The open requests of an instance, by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// The requests, boxed because a leaf of a B-tree has room for eleven values.
    open: BTreeMap<u64, Box<Open>>,
    /// The number of active requests ([`Open::is_active`]). There may be very many others.
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

    /// Returns the reason of the cancellation, if the instance is being cancelled.
    pub fn cancelled_for(&self) -> Option<Data> {
        let grace = self.open.get(&GRACE)?;
        Some(Data::of(grace.request.args.items().get(1).unwrap_or(&Value::Null)))
    }

    /// Whether any request is active.
    pub fn are_active(&self) -> bool {
        self.active > 0
    }

    /// Returns when the first active request is due, if all of them wait for a time. Returns `None`
    /// as well if there are too many requests to look at.
    pub fn first_due(&self) -> Option<i64> {
        if self.open.len() > FEW {
            return None;
        }
        let active = self.open.values().filter(|open| open.is_active());
        active.map(|open| open.active_at()).reduce(|one, other| Some(one?.min(other?))).flatten()
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

/// Returns when a sleep that was asked for at `time` ends.
pub fn due_time(args: &Data, time: i64) -> i64 {
    match args.items().first() {
        Some(Value::Duration(duration)) => time.saturating_add(*duration),
        Some(Value::Instant(instant)) => *instant,
        _ => time,
    }
}

/// Returns a request as text for people: `charge("1234", 10)`.
pub(super) fn describe(what: &RecordedRequest, args: &Args) -> String {
    format!("{}({})", what.shown(), args.describe())
}

/// As `describe`, for a request of a machine.
pub fn describe_request(request: &Request) -> String {
    describe(&RecordedRequest::of(&request.what), &Args::of(&request.args))
}

/// Returns the attempts and the time limits of a request, or `None` for [`STANDARD`].
fn policy_of(request: &Request) -> Option<Box<Policy>> {
    let within = |timeout: Option<i64>| {
        timeout.map(|timeout| Box::new(Policy { timeout: Some(timeout), ..Policy::default() }))
    };
    match &request.what {
        RequestKind::Activity { options, .. } if options.is_null() => None,
        RequestKind::Activity { options, .. } => Some(Box::new(options::recorded_policy(options))),
        RequestKind::Orchestration { options, start: false, .. } => {
            within(options::child(&options.decode()).ok().and_then(|child| child.timeout))
        }
        RequestKind::Effect(Effect::Lock) => within(lock_timeout(&request.args)),
        _ => None,
    }
}

/// Returns how long a `lock` waits.
fn lock_timeout(args: &Data) -> Option<i64> {
    options::lock(args.items().get(1)?).ok()?
}

/// Describes the request of an entry for people.
pub fn described(entry: &Entry) -> String {
    match entry {
        Entry::Requested { what, args, .. } => describe(what, args),
        _ => String::new(),
    }
}
