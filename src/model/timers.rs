//! Timers and deadlines. Nobody measures how long work, messages and waiting take, so the time at
//! which a timer is set is not known either. Only the differences between instants are bounded
//! ([`Zone`]). That is enough to tell which of the timers of one receiver may fire first.

use crate::machine::options::Later;

use super::START;
use super::lives::Execution;
use super::message::{EntityName, Id, Mail, Message, Name, Timer};
use super::part::Part;
use super::zone::{BEGINNING, NEVER, NOW, OWN, Zone};

/// The time at which a timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    After(i64),
    /// After at least the first and at most the second of these times.
    Between(i64, i64),
    At(i64),
}

impl When {
    /// Returns the time of a beginning.
    pub fn of(later: Later) -> When {
        match later {
            Later::After(duration) => When::After(duration),
            Later::At(instant) => When::At(instant),
        }
    }
}

/// A timer: its receiver, and its number there.
pub type TimerId = (Name, u64);

/// The range of numbers that each request has for its timers and its deadline.
const KINDS: u64 = 8;
/// The number of a task's deadline, beside those of the timers of its request.
const DEADLINE: u64 = 7;

/// A timer or a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    to: Name,
    number: u64,
    /// The message to the receiver; `None` for a deadline.
    mail: Option<Mail>,
}

/// All timers and deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timers {
    /// Timers and deadlines, by receiver and number.
    pending: Vec<Pending>,
    zone: Zone,
    /// The instance that controls the clock, if there is one. Then timers fire exactly when they
    /// are due, and those of this instance after all others.
    last: Option<Name>,
}

impl Timers {
    /// Returns the timers at the beginning. `clocked` says whether the instants themselves matter,
    /// and `last` controls the clock.
    pub fn new(clocked: bool, last: Option<Name>) -> Timers {
        match clocked {
            true => Timers { zone: Zone::at_the_beginning(), last, ..Timers::default() },
            false => Timers { last, ..Timers::default() },
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the receivers and messages of all timers.
    pub fn told(&self) -> impl Iterator<Item = (&Name, &Mail)> {
        self.pending.iter().filter_map(|pending| Some((&pending.to, pending.mail.as_ref()?)))
    }

    /// A mutation: lets time pass up to a timer, and no further.
    pub fn jump(&mut self, (to, number): &TimerId) {
        if let Ok(at) = self.find(to, *number) {
            self.zone.pass(&self.deadlines());
            self.zone.meet(NOW, at + OWN, 0);
        }
    }

    /// Whether a participant has a timer or a deadline.
    pub fn has(&self, whom: &Name) -> bool {
        self.pending.iter().any(|pending| pending.to == *whom)
    }

    fn find(&self, to: &Name, number: u64) -> Result<usize, usize> {
        self.pending.binary_search_by(|pending| (&pending.to, pending.number).cmp(&(to, number)))
    }

    /// Returns the message of a timer.
    pub fn mail(&self, (to, number): &TimerId) -> Option<&Mail> {
        self.pending[self.find(to, *number).ok()?].mail.as_ref()
    }

    fn deadlines(&self) -> Vec<usize> {
        (0..self.pending.len()).filter(|at| self.pending[*at].mail.is_none()).map(|at| at + OWN).collect()
    }

    /// For the timer of the next attempt, returns the limit of all attempts, and the other way
    /// round.
    fn sibling(&self, at: usize) -> Option<usize> {
        let pending = &self.pending[at];
        let own = pending.number % KINDS;
        let other = match (&pending.to, own) {
            (Name::Instance(_), own) if own == Timer::Retry as u64 => Timer::Within as u64,
            (Name::Instance(_), own) if own == Timer::Within as u64 => Timer::Retry as u64,
            _ => return None,
        };
        self.find(&pending.to, pending.number - own + other).ok()
    }

    /// Returns by how much one timer must at least be earlier than another to fire first; `None` if
    /// it need not be earlier.
    fn before(&self, one: usize, other: usize) -> Option<i64> {
        let (pending, than) = (&self.pending[one], &self.pending[other]);
        let is_limit = |at: usize| self.pending[at].number % KINDS == Timer::Within as u64;
        match (self.sibling(one), self.sibling(other)) {
            // An attempt that would begin at the limit or later does not happen, and this is known
            // at once.
            (Some(sibling), _) if sibling == other => Some(i64::from(!is_limit(one))),
            (Some(_), _) if is_limit(one) => None,
            (_, Some(_)) if is_limit(other) => None,
            _ if than.mail.is_none() => Some(1),
            _ => match &self.last {
                // The test's own timers fire after all others that are due then.
                Some(last) if pending.to == *last && than.to != *last => Some(1),
                Some(_) => Some(0),
                None => (than.to == pending.to).then_some(0),
            },
        }
    }

    /// Returns the timers that may fire next: each may be the first of its receiver, and comes
    /// before the deadlines. Without `in_order`, a mutation, any timer may.
    pub fn next(&self, in_order: bool) -> impl Iterator<Item = TimerId> {
        let first = move |at: &usize| {
            let before = |other: usize| match self.before(*at, other) {
                Some(by) if in_order && other != *at => self.zone.later(other + OWN, at + OWN) >= by,
                _ => true,
            };
            self.pending[*at].mail.is_some() && (0..self.pending.len()).all(before)
        };
        (0..self.pending.len()).filter(first).map(|at| (self.pending[at].to.clone(), self.pending[at].number))
    }

    /// Fires a timer as the first of its receiver. Returns its message.
    pub fn take(&mut self, (to, number): &TimerId) -> Option<Mail> {
        let at = self.find(to, *number).ok()?;
        let mail = self.pending[at].mail.clone()?;
        for other in (0..self.pending.len()).filter(|other| *other != at) {
            if let Some(by) = self.before(at, other) {
                self.zone.meet(at + OWN, other + OWN, -by);
            }
        }
        let is_early = number % KINDS == Timer::Within as u64 && self.sibling(at).is_some();
        if !is_early {
            self.zone.meet(at + OWN, NOW, 0);
        }
        self.remove(at);
        Some(mail)
    }

    fn insert(&mut self, pending: Pending, when: When) {
        let at = match self.find(&pending.to, pending.number) {
            Ok(at) => {
                self.remove(at);
                at
            }
            Err(at) => at,
        };
        match when {
            When::After(delay) => self.zone.insert(at + OWN, NOW, delay.max(0), delay.max(0)),
            When::Between(least, most) => self.zone.insert(at + OWN, NOW, least.max(0), most.max(0)),
            When::At(instant) => {
                let after = instant.saturating_sub(START);
                self.zone.insert(at + OWN, BEGINNING, after, after);
            }
        }
        self.pending.insert(at, pending);
    }

    fn remove(&mut self, at: usize) {
        self.pending.remove(at);
        self.zone.remove(at + OWN);
    }

    pub fn set(&mut self, when: When, to: &Id, execution: Execution, seq: u64, timer: Timer) {
        let mail = Some(Part::new(Message::Due { execution, seq, timer }));
        self.insert(
            Pending { to: Name::Instance(to.clone()), number: seq * KINDS + timer as u64, mail },
            when,
        );
    }

    /// Sets a deadline: the answer to a request is taken before so much time has passed.
    pub fn expect(&mut self, within: i64, to: &Id, seq: u64) {
        let number = seq * KINDS + DEADLINE;
        self.insert(Pending { to: Name::Instance(to.clone()), number, mail: None }, When::After(within));
    }

    /// Removes the deadline of a request that will have no answer.
    pub fn expects_nothing(&mut self, to: &Id, seq: u64) {
        if let Ok(at) = self.find(&Name::Instance(to.clone()), seq * KINDS + DEADLINE) {
            self.remove(at);
        }
    }

    /// Removes the timers and the deadline of a request. Without `all`, the limit of all attempts
    /// stays.
    pub fn clear(&mut self, to: &Id, seq: u64, all: bool) {
        let of = |pending: &Pending| {
            pending.number / KINDS == seq
                && (all || pending.number % KINDS != Timer::Within as u64)
                && matches!(&pending.to, Name::Instance(id) if id == to)
        };
        while let Some(at) = self.pending.iter().position(of) {
            self.remove(at);
        }
    }

    /// Sets the timer of a delayed signal.
    pub fn later(&mut self, when: When, to: &EntityName, mail: Mail) {
        let to = Name::Entity(to.clone());
        let number = (0..).find(|number| self.find(&to, *number).is_err()).unwrap_or(0);
        self.insert(Pending { to, number, mail: Some(mail) }, when);
    }

    /// Lets any amount of time pass. How late a timer fires makes no difference to a receiver that
    /// sets no other timer while it has one; `sets_one` tells which receivers are such.
    pub fn pass(&mut self, sets_one: impl Fn(&Id) -> bool) {
        if self.last.is_some() {
            let all: Vec<usize> = (0..self.pending.len()).map(|at| at + OWN).collect();
            self.zone.pass(&all);
            self.zone.round();
            return;
        }
        let deadlines = self.deadlines();
        for at in 0..self.pending.len() {
            let pending = &self.pending[at];
            let alone = |id: &Id| {
                sets_one(id) && self.pending.iter().filter(|other| other.to == pending.to).count() == 1
            };
            if pending.mail.is_some() && matches!(&pending.to, Name::Instance(id) if alone(id)) {
                self.zone.forget(at + OWN);
            }
        }
        self.zone.pass(&deadlines);
        self.zone.round();
    }

    // ---- the clock

    /// Returns the instants that a clock may show now: the earliest, and those of `later` after the
    /// earliest that are possible.
    pub fn clock(&self, later: &[i64]) -> Vec<i64> {
        let earliest = match self.zone.later(BEGINNING, NOW) {
            NEVER => 0,
            bound => bound.saturating_neg(),
        };
        let latest = self.zone.later(NOW, BEGINNING);
        let instants = [0].into_iter().chain(later.iter().copied()).map(|more| earliest.saturating_add(more));
        instants
            .filter(|instant| *instant == earliest || *instant <= latest)
            .map(|instant| START + instant)
            .collect()
    }

    /// Whether an instant is certainly past.
    pub fn has_passed(&self, instant: i64) -> bool {
        match self.zone.later(BEGINNING, NOW) {
            NEVER => false,
            bound => instant.saturating_sub(START).saturating_add(bound) <= 0,
        }
    }

    /// Records that a clock shows this instant now.
    pub fn read(&mut self, instant: i64) {
        let passed = instant.saturating_sub(START);
        self.zone.meet(NOW, BEGINNING, passed);
        self.zone.meet(BEGINNING, NOW, passed.saturating_neg());
    }
}
