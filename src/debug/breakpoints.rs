//! Breakpoints: the moments at which a run stops.
//!
//! Invariant: whether a moment is a stop depends on the run alone, and not on how one came there.
//! So going backwards stops where going forwards did. A number of hits counts from the beginning
//! of the run.

use crate::engine::{Entry, RecordedRequest};
use crate::machine::format;
use crate::machine::pauses::{Pauses, Thrown};
use crate::machine::value::Value;

use super::points::{Breakpoint, On};
use super::replay::{End, Tick};
use super::search::Direction;
use super::session::Session;
use super::watch;

/// The reason why a run stopped.
#[derive(Clone, Debug)]
pub enum Stop {
    /// At a breakpoint. An error is about to be thrown if there is one.
    At {
        breakpoint: u32,
        error: Option<Value>,
    },
    Start,
    End(End),
}

/// The breakpoints of a session, and what log breakpoints said.
#[derive(Clone, Debug, Default)]
pub struct Breakpoints {
    pub all: Vec<Breakpoint>,
    pub said: Vec<String>,
}

/// A moment at which a breakpoint holds, and the task that it is about.
#[derive(Clone)]
struct Hit {
    tick: u64,
    task: u64,
    breakpoint: u32,
    error: Option<Value>,
}

/// The ticks at which each breakpoint with a number of hits holds.
type Counted = Vec<(u32, Vec<u64>)>;

impl Session {
    /// Goes on to the next stop, or back to the last one.
    pub fn resume(&mut self, direction: Direction, breakpoints: &mut Breakpoints) -> Stop {
        let start = self.ticks();
        let needs_failure = breakpoints.all.iter().any(|b| matches!(b.on, On::Uncaught));
        let failure = if needs_failure { self.failure() } else { None };
        let failure_tick = failure.map(|position| self.tick_of(position));
        self.go_to(start);
        let counted = self.counted(&breakpoints.all, failure_tick);
        self.go_to(start);
        let pauses = self.pauses_for(&breakpoints.all);
        let (logs, stops): (Vec<Breakpoint>, Vec<Breakpoint>) =
            breakpoints.all.iter().cloned().partition(|breakpoint| breakpoint.log.is_some());
        let found = match direction {
            Direction::Forward => {
                let (mut logged, mut watches) = (watch::begin(self, &logs), watch::begin(self, &stops));
                let said = &mut breakpoints.said;
                self.forward(&pauses, &mut |session, tick| {
                    let changes = logged.changed(session, &logs);
                    for log in &logs {
                        let own = std::slice::from_ref(log);
                        let hit = first_hit(session, tick, own, failure_tick, &counted);
                        let change = changes.iter().find(|(id, ..)| *id == log.id);
                        let task = hit.filter(|hit| hit.tick > start).map(|hit| hit.task);
                        let task = task.or(change.map(|(.., task)| *task));
                        if let (Some(task), Some(text)) = (task, &log.log) {
                            said.push(session.logged(task, text));
                        }
                    }
                    let change = watches.changed(session, &stops).into_iter().next().map(changed);
                    let hit = first_hit(session, tick, &stops, failure_tick, &counted);
                    hit.filter(|hit| hit.tick > start).or(change)
                })
            }
            Direction::Backward => {
                let hit = self.backward(&pauses, &mut |session, tick| {
                    first_hit(session, tick, &stops, failure_tick, &counted)
                });
                self.go_to(start);
                let change = watch::last_change(self, &stops).map(changed);
                [hit, change].into_iter().flatten().max_by_key(|hit| hit.tick)
            }
        };
        self.stop(direction, found)
    }

    fn stop(&mut self, direction: Direction, found: Option<Hit>) -> Stop {
        match found {
            Some(hit) => {
                self.go_to(hit.tick);
                self.follow_this();
                self.follow(hit.task);
                Stop::At { breakpoint: hit.breakpoint, error: hit.error }
            }
            None if direction == Direction::Backward => {
                self.seek_start();
                Stop::Start
            }
            None => {
                self.seek_end();
                Stop::End(self.end().cloned().unwrap_or(End::Waits))
            }
        }
    }

    /// Returns the tick of a position.
    fn tick_of(&mut self, position: super::Position) -> u64 {
        self.seek(position);
        self.ticks()
    }

    /// Returns the ticks at which the breakpoints with numbers of hits hold.
    fn counted(&mut self, all: &[Breakpoint], failure: Option<u64>) -> Counted {
        let counting: Vec<Breakpoint> = all
            .iter()
            .filter(|b| b.hits.is_some() && !matches!(b.on, On::Change(_)))
            .map(|b| Breakpoint { hits: None, ..b.clone() })
            .collect();
        let mut counted: Counted = counting.iter().map(|b| (b.id, Vec::new())).collect();
        if counting.is_empty() {
            return counted;
        }
        self.go_to(0);
        let pauses = self.pauses_for(&counting);
        self.forward(&pauses, &mut |session, tick| {
            for (at, breakpoint) in counting.iter().enumerate() {
                let own = std::slice::from_ref(breakpoint);
                if let Some(hit) = first_hit(session, tick, own, failure, &Vec::new()) {
                    counted[at].1.push(hit.tick);
                }
            }
            None::<()>
        });
        counted
    }

    /// Returns the pauses at which any of the breakpoints can hold.
    fn pauses_for(&self, all: &[Breakpoint]) -> Pauses {
        let statements = all.iter().filter_map(|b| match &b.on {
            On::Statements(statements) => Some(statements),
            _ => None,
        });
        let chosen = self.chosen(statements.flatten());
        let watches = all.iter().any(|b| matches!(b.on, On::Change(_)));
        let errors = all.iter().any(|b| matches!(b.on, On::Thrown(_) | On::Uncaught));
        Pauses { statements: (!watches).then_some(chosen), errors, ..Pauses::none() }
    }

    /// Returns the text of a log breakpoint with its values.
    fn logged(&mut self, task: u64, text: &str) -> String {
        let call = self.own_frame(task).map_or(0, |call| call.number);
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((expression, after)) = after.split_once('}') else {
                out.push('{');
                rest = after;
                continue;
            };
            match self.evaluate(task, call, expression) {
                Ok(value) => out.push_str(&format::display(&value)),
                Err(reason) => out.push_str(&format!("{{{expression}: {reason}}}")),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

fn changed((breakpoint, tick, task): (u32, u64, u64)) -> Hit {
    Hit { tick, task, breakpoint, error: None }
}

/// Returns the first of the breakpoints that holds at a tick. Changes of variables are not among
/// them, since they need the tick before.
fn first_hit(
    session: &mut Session,
    tick: &Tick,
    all: &[Breakpoint],
    failure: Option<u64>,
    counted: &Counted,
) -> Option<Hit> {
    all.iter().find_map(|breakpoint| {
        let hit = holds(session, tick, breakpoint, failure)?;
        let Some(hits) = breakpoint.hits else { return Some(hit) };
        let (_, ticks) = counted.iter().find(|(id, _)| *id == breakpoint.id)?;
        let number = ticks.binary_search(&hit.tick).ok()? as u64 + 1;
        hits.includes(number).then_some(hit)
    })
}

/// Returns the hit of a breakpoint at a tick, if it holds there.
fn holds(session: &mut Session, tick: &Tick, breakpoint: &Breakpoint, failure: Option<u64>) -> Option<Hit> {
    let at = session.at();
    let (task, error) = match (&breakpoint.on, tick) {
        (On::Statements(statements), Tick::Statement { .. }) if statements.contains(&at.statement?) => {
            (at.task, None)
        }
        (On::Request(name), Tick::Entry) => match session.replay.last_entry()? {
            Entry::Requested { what, .. } if is_named(what, name) => (at.task, None),
            _ => return None,
        },
        (On::Answer(name), Tick::Entry) => {
            let Entry::Answered { seq, .. } = session.replay.last_entry()? else { return None };
            let of = session.request_of(*seq)?;
            if !is_named(&of, name) {
                return None;
            }
            (at.task, None)
        }
        (On::Thrown(kind), Tick::Error(thrown)) if !thrown.again && is_of_kind(thrown, kind.as_deref()) => {
            (thrown.task, Some(thrown.value.clone()))
        }
        (On::Uncaught, Tick::Error(thrown)) if !thrown.again && Some(session.ticks()) == failure => {
            (thrown.task, Some(thrown.value.clone()))
        }
        _ => return None,
    };
    if let Some(condition) = &breakpoint.condition {
        let call = session.own_frame(task).map_or(0, |call| call.number);
        let value = session.evaluate(task, call, condition);
        if !matches!(value, Ok(Value::Bool(wanted)) if wanted.get()) {
            return None;
        }
    }
    Some(Hit { tick: session.ticks(), task, breakpoint: breakpoint.id, error })
}

/// Whether a request has a name: as programs write it, or without its module or entity.
fn is_named(what: &RecordedRequest, name: &str) -> bool {
    what.shown() == name || what.name() == name || what.kind() == name
}

fn is_of_kind(thrown: &Thrown, kind: Option<&str>) -> bool {
    let Some(kind) = kind else { return true };
    match &thrown.value {
        Value::Record(record) => record.get_str("kind").is_some_and(|own| format::display(own) == kind),
        _ => false,
    }
}
