//! Variables whose changes are watched.

use crate::machine::compare;
use crate::machine::inspect::Held;
use crate::machine::pauses::Pauses;
use crate::machine::value::Value;
use crate::syntax::Place;

use super::points::{Breakpoint, On, Watch};
use super::position::Position;
use super::replay::Tick;
use super::session::Session;

/// The statement that gave a variable its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The moment before the value was there: the statement was about to be executed, or waited.
    pub position: Position,
    pub place: Option<Place>,
}

/// The values that watched variables had at the tick before.
pub(super) struct Watching {
    before: Vec<Option<Value>>,
}

/// Whether two values of a variable are the same.
fn same(a: &Option<Value>, b: &Option<Value>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            let address = a.address();
            let is_one = address.is_some() && address == b.address();
            is_one || compare::equal(a, b).unwrap_or(false)
        }
        _ => false,
    }
}

impl Watch {
    /// Returns the watch of a variable of a call, if the call sees such a variable.
    pub fn new(session: &Session, task: u64, call: usize, name: &str) -> Option<Watch> {
        let machine = &session.replay.machine;
        let function = machine.function_of(task, call)?;
        machine.variable(task, call, name)?;
        Some(Watch { task, call, function, name: name.to_string() })
    }

    /// Returns the value of the variable at this moment, if there is one. A value that is on its way
    /// through a call counts as the value that the variable had.
    pub fn value(&self, session: &Session, before: &Option<Value>) -> Option<Value> {
        let machine = &session.replay.machine;
        if machine.function_of(self.task, self.call)? != self.function {
            return None;
        }
        match machine.variable(self.task, self.call, &self.name)?.value {
            Held::Value(value) => Some(value),
            Held::NotYet => None,
            Held::HandedOn => before.clone(),
        }
    }
}

/// Begins to watch the variables of breakpoints.
pub(super) fn begin(session: &Session, all: &[Breakpoint]) -> Watching {
    let value = |breakpoint: &Breakpoint| match &breakpoint.on {
        On::Change(watch) => watch.value(session, &None),
        _ => None,
    };
    Watching { before: all.iter().map(value).collect() }
}

/// Returns the breakpoint whose variable changed last before this moment, the tick at which its
/// new value was there first, and the task.
pub(super) fn last_change(session: &mut Session, all: &[Breakpoint]) -> Option<(u32, u64, u64)> {
    let until = session.ticks();
    let watches = all.iter().filter_map(|breakpoint| match &breakpoint.on {
        On::Change(watch) => Some((breakpoint.id, watch)),
        _ => None,
    });
    let changes = watches.filter_map(|(id, watch)| {
        let tick = session.last_change(watch, until.checked_sub(1)?)?;
        Some((id, tick, watch.task))
    });
    changes.max_by_key(|(_, tick, _)| *tick)
}

impl Watching {
    /// Returns the breakpoints whose variables have other values than at the tick before, each with
    /// the tick and the task.
    pub fn changed(&mut self, session: &Session, all: &[Breakpoint]) -> Vec<(u32, u64, u64)> {
        let mut found = Vec::new();
        for (before, breakpoint) in self.before.iter_mut().zip(all) {
            let On::Change(watch) = &breakpoint.on else { continue };
            let now = watch.value(session, before);
            if !same(before, &now) && now.is_some() {
                found.push((breakpoint.id, session.ticks(), watch.task));
            }
            *before = now;
        }
        found
    }
}

impl Session {
    /// Returns the last tick up to `until` at which a variable has another value than at the tick
    /// before. The session then stands elsewhere.
    fn last_change(&mut self, watch: &Watch, until: u64) -> Option<u64> {
        let mut until = until;
        loop {
            if until == 0 {
                return None;
            }
            self.go_before(until - 1);
            let from = self.ticks();
            let pauses = Pauses { statements: None, ..Pauses::none() };
            *self.replay.pauses = pauses;
            let mut before = watch.value(self, &None);
            let mut found = None;
            while self.ticks() < until {
                self.limit(until);
                if let Tick::End = self.tick() {
                    break;
                }
                let now = watch.value(self, &before);
                if !same(&before, &now) && now.is_some() {
                    found = Some(self.ticks());
                }
                before = now;
            }
            if found.is_some() || from == 0 {
                return found;
            }
            until = from;
        }
    }

    /// Returns the statement that gave a variable the value that it has now.
    pub fn last_write(&mut self, watch: &Watch) -> Option<Written> {
        let (here, task) = (self.ticks(), self.task());
        let tick = self.last_change(watch, here);
        let written = tick.map(|tick| {
            self.go_to(tick - 1);
            let calls = self.frames(watch.task);
            let own = calls.iter().find(|call| call.number == watch.call);
            let own = own.or_else(|| calls.iter().find(|call| call.is_own));
            Written { position: self.position(), place: own.map(|call| call.place) }
        });
        self.go_to(here);
        self.follow(task);
        written
    }
}
