//! Re-execution from the journal alone: nothing is done, nothing is written.

use std::rc::Rc;

use crate::machine::{Image, Request};

use super::entry::Entry;
use super::evaluation::{Advance, Mismatch};
use super::history::History;
use super::instance::Instance;
use super::open::Open;
use super::record::{InstanceRecord, Status};

/// Sees the entries of a history in order; the entries of requests and answers with the request they are of.
pub type Watcher<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

/// Where a replay came to.
#[derive(Debug)]
pub enum Replayed {
    /// The instance ended so.
    Ended(Status),
    /// Its history ends here; it waits for these.
    Waits(Vec<Open>),
    /// The program does something other than what the history holds.
    Nondeterminism(Mismatch),
    /// Its program can't run it, for this reason.
    Incompatible(String),
    /// It computes on without an end in sight, after everything that its history holds.
    Computes,
}

/// Fuel for what comes after the end of the history, in calls and repetitions.
const AFTER: u64 = 50_000_000;

/// The machine's state where a history ends, as bytes: when the instance then waits, and asks for nothing that the history doesn't
/// hold. None else.
pub fn state_at_end(image: &Rc<Image>, record: InstanceRecord, history: History) -> Option<Vec<u8>> {
    let mut instance = Instance::new(image, record, history).ok()?;
    loop {
        match instance.advance(1_000_000, 0, false, &mut |_, _| ()) {
            Advance::More => {}
            Advance::OutOfFuel if !instance.is_live() => {}
            Advance::Waiting if instance.is_live() => return instance.state(),
            _ => return None,
        }
    }
}

/// Replays a history to its end.
pub fn replay(image: &Rc<Image>, record: InstanceRecord, history: History, watch: Watcher<'_>) -> Replayed {
    let mut instance = match Instance::new(image, record, history) {
        Ok(instance) => instance,
        Err(reason) => return Replayed::Incompatible(reason),
    };
    let mut recorded = true;
    let mut left = AFTER;
    loop {
        // What it does after the end of its history was not recorded, so is not shown.
        recorded = recorded && !instance.is_live();
        let mut see = |entry: &Entry, request: Option<&Request>| {
            if recorded {
                watch(entry, request);
            }
        };
        match instance.advance(1_000_000, 0, false, &mut see) {
            Advance::More => {}
            // Nothing leaves.
            Advance::Ending => instance.evaluation.agenda.lines.clear(),
            Advance::OutOfFuel if instance.is_live() => match left.checked_sub(1_000_000) {
                Some(less) => left = less,
                None => return Replayed::Computes,
            },
            Advance::OutOfFuel => {}
            Advance::Waiting => {
                return Replayed::Waits(
                    instance.evaluation.open.into_all().into_values().map(|open| *open).collect(),
                );
            }
            Advance::Ended => return Replayed::Ended(instance.record.status),
            Advance::Nondeterminism(mismatch) => return Replayed::Nondeterminism(mismatch),
        }
    }
}
