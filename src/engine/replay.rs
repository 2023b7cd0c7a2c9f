//! Replay from the journal alone, without effects and without writes.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::machine::{Image, Request};

use super::entry::Entry;
use super::evaluation::{Advance, Mismatch};
use super::history::History;
use super::instance::Instance;
use super::open::Open;
use super::record::{InstanceRecord, Status};

/// A callback that sees the entries of a history in order. Entries of requests and answers come
/// with their request.
pub type Watcher<'a> = &'a mut dyn FnMut(&Entry, Option<&Request>);

/// The result of a replay.
#[derive(Debug)]
pub enum Replayed {
    /// The instance ended with this status.
    Ended(Status),
    /// The history ends here, and the instance waits for these requests.
    Waits(Vec<Open>),
    /// The program does something other than the history says.
    Nondeterminism(Mismatch),
    /// The program can't run the instance, for this reason.
    Incompatible(String),
    /// The instance computes without an end in sight, after the end of its history.
    Computes,
}

/// The fuel for evaluation after the end of the history, in calls and repetitions.
const AFTER: u64 = 50_000_000;

/// Returns the machine's state at the end of a history, as bytes. `None` unless the instance waits
/// there without a request that the history does not hold.
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

/// Gives each request of a history its place in the present program, if earlier entries were made
/// with another one.
pub fn place_anew(image: &Rc<Image>, record: &InstanceRecord, history: &mut History) {
    let mut places = BTreeMap::new();
    let mut watch = |entry: &Entry, request: Option<&Request>| {
        if let (Entry::Requested { seq, .. }, Some(request)) = (entry, request) {
            places.insert(*seq, request.place);
        }
    };
    replay(image, record.clone(), history.clone(), &mut watch);
    for entry in &mut history.entries {
        if let Entry::Requested { seq, place, .. } = entry
            && let Some(now) = places.get(seq)
        {
            *place = *now;
        }
    }
}

/// Replays a history to its end.
pub fn replay(image: &Rc<Image>, record: InstanceRecord, history: History, watch: Watcher<'_>) -> Replayed {
    let has_begun = record.status.begins().is_none();
    let mut instance = match Instance::new(image, record, history) {
        Ok(instance) if has_begun => instance,
        Ok(_) => return Replayed::Waits(Vec::new()),
        Err(reason) => return Replayed::Incompatible(reason),
    };
    let mut recorded = true;
    let mut left = AFTER;
    loop {
        // Anything after the end of the history was not recorded, so it is not shown.
        recorded = recorded && !instance.is_live();
        let mut see = |entry: &Entry, request: Option<&Request>| {
            if recorded {
                watch(entry, request);
            }
        };
        match instance.advance(1_000_000, 0, false, &mut see) {
            Advance::More => {}
            // The lines are not output.
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
            // Nothing arrives during a replay.
            Advance::GraceIsOver(reason) => return Replayed::Ended(Status::Terminated(reason)),
            Advance::Nondeterminism(mismatch) => return Replayed::Nondeterminism(mismatch),
        }
    }
}
