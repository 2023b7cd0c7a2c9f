//! A replay of a kept operation: from its state and its arguments to its result and its new state.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::engine::{Entry, MOST_OPERATION_FUEL, OperationView, machine_of_operation};
use crate::machine::{Data, EntityId, ErrorData, Image, Machine, Progress, Request};

/// The fuel of one slice, in calls and repetitions. The engine limits a whole operation.
const SLICE: u64 = 1_000_000;

/// The outcome of a replay.
pub enum Replay {
    /// The operation does what was recorded.
    Fits,
    /// The operation does something else, in words.
    Differs(String),
    /// The operation waited for several answers at once. The history does not show after which of
    /// them it went on.
    Unknown,
}

/// Replays an operation that has begun. One that was broken off has no end in its history.
pub fn replay(image: &Rc<Image>, entity: &EntityId, view: &OperationView) -> Replay {
    let kept = &view.operation;
    let mut machine = match machine_of_operation(image, entity, view) {
        Ok(machine) => machine,
        Err(reason) => return Replay::Differs(format!("it can't begin: {reason}")),
    };
    let mut rest: VecDeque<&Entry> = kept.entries.iter().collect();
    let (mut open, mut most_open) = (0usize, 0usize);
    let mut slices = 0;
    let differs = |found: String, most_open: usize| match most_open > 1 {
        true => Replay::Unknown,
        false => Replay::Differs(found),
    };
    loop {
        if rest.is_empty() {
            // Whatever it did, it was broken off.
            return match (&kept.result, &kept.after) {
                (Err(_), None) => Replay::Fits,
                _ => differs("it has an outcome, and its history has no end".into(), most_open),
            };
        }
        let done = match machine.run(SLICE) {
            // The engine would have broken it off long before.
            Progress::OutOfFuel if slices > 2 * MOST_OPERATION_FUEL / SLICE => {
                return differs("it computes without an end".into(), most_open);
            }
            Progress::OutOfFuel => {
                slices += 1;
                continue;
            }
            Progress::Waiting => None,
            Progress::Done(result) => Some(result),
        };
        let requests = machine.take_requests();
        open += requests.len();
        most_open = most_open.max(open);
        if let Some(request) = requests.into_iter().find(|request| !is_next(request, &mut rest)) {
            let asked = Entry::requested(&request, 0);
            return differs(format!("its request {} is not in its history", described(&asked)), most_open);
        }
        if let Some(result) = done {
            return match rest.pop_front() {
                Some(Entry::Ended { .. }) if rest.is_empty() => outcome(&mut machine, result, view),
                _ => differs("it ends before its history does".into(), most_open),
            };
        }
        match rest.pop_front() {
            Some(Entry::Answered { seq, result, .. }) => {
                open = open.saturating_sub(1);
                machine.answer(*seq, result.clone());
            }
            _ => return differs("it waits where its history goes on".into(), most_open),
        }
    }
}

/// Takes the entry of a request, if it is the next one.
fn is_next(request: &Request, rest: &mut VecDeque<&Entry>) -> bool {
    let is_next = rest.front().is_some_and(|entry| entry.is_of(request));
    if is_next {
        rest.pop_front();
    }
    is_next
}

fn described(entry: &Entry) -> String {
    match entry {
        Entry::Requested { seq, what, .. } => format!("{seq}, {},", what.shown()),
        _ => String::new(),
    }
}

/// Compares the outcome of a replay with the recorded one.
fn outcome(machine: &mut Machine, result: Result<Data, ErrorData>, view: &OperationView) -> Replay {
    let mut after = None;
    let result = result.and_then(|value| {
        after = machine.take_state()?.map(|state| state.map(|(_, data)| data));
        Ok(value)
    });
    let kept = &view.operation;
    let is_same = match (&result, &kept.result) {
        (Ok(now), Ok(then)) => now == then,
        (Err(now), Err(then)) => now.value == then.value,
        _ => false,
    };
    if !is_same {
        let shown = |result: &Result<Data, ErrorData>| match result {
            Ok(value) => crate::machine::format::brief(&value.decode()),
            Err(error) => format!("error {}", error.title()),
        };
        return Replay::Differs(format!(
            "its program comes to {} where {} is recorded",
            shown(&result),
            shown(&kept.result)
        ));
    }
    match after == kept.after {
        true => Replay::Fits,
        false => Replay::Differs("its program leaves another state than the recorded one".into()),
    }
}
