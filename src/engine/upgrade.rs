//! Upgrades: an instance that waits goes on with another program.
//!
//! The rule: an instance is upgraded only if the new program fits its whole history. So the record
//! names the new program from then on, every later replay runs the new program from the beginning,
//! and the entry of the upgrade means nothing to a replay. The entry says with which program the
//! entries before it were made. Those programs stay in the store as long as the instance, since
//! the places of these entries are in their texts.
//!
//! A history that is rewound to an entry, so that a program fits, follows the same rule: the kept
//! entries fit, and all others are gone.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::code::ProgramHash;
use crate::kv::Read;
use crate::machine::{Image, Machine, Progress, Request, RequestKind, options};
use crate::syntax::Place;

use super::backward::Backward;
use super::entry::Entry;
use super::evaluation::Mismatch;
use super::follow::{BETWEEN, Followed, SLICE, follow};
use super::history::History;
use super::instance::Instance;
use super::keys;
use super::open::{Open, describe_request};
use super::read_error::ReadError;
use super::record::InstanceRecord;

/// The result of replaying an instance's history with another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The program makes the same requests. It makes these further requests at once.
    Fits { asks: Vec<(String, Place)> },
    /// The program makes another request than the history holds.
    Diverges(Divergence),
    /// The program can't run the instance, for this reason.
    Unfit(String),
}

/// The first entry of a history that a program does not fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The number of the entry, from 1. All entries before it are common.
    pub entry: u64,
    /// The number of entries of the history.
    pub of: u64,
    /// Both sides. The place of the recorded side is in the text with which the entry was made.
    pub sides: Mismatch,
    /// The program with which the entry was made.
    pub made_with: ProgramHash,
}

/// A change of an instance's program that fits.
pub struct Upgrade {
    /// The record with the new program.
    pub record: InstanceRecord,
    pub image: Rc<Image>,
    /// The whole history, which the store has.
    pub history: History,
    /// The program before.
    pub from: ProgramHash,
    /// The former programs that no entry of the history names any more.
    pub stale: Vec<ProgramHash>,
    /// The return to an earlier entry, from which the instance goes on.
    pub back: Option<Backward>,
}

/// Replays the history of an instance that has not ended with another program, without changing
/// anything. `before` is the instance's present program, if that can still run.
pub fn judge(
    image: &Rc<Image>,
    before: Option<&Rc<Image>>,
    record: &InstanceRecord,
    history: &History,
) -> Verdict {
    if history.after.is_some() {
        let why = "its history is kept only since its last checkpoint, so it can't be replayed with another \
                   text; it can be upgraded once it has continued as new";
        return Verdict::Unfit(why.into());
    }
    let diverges = |after: usize, sides: Mismatch| {
        let made_with = made_with(record, &history.entries, after);
        let (entry, of) = (after as u64 + 1, history.entries.len() as u64);
        Verdict::Diverges(Divergence { entry, of, sides, made_with })
    };
    let follower = match follow(image, record, history) {
        Ok(Followed::Live(follower)) => follower,
        Ok(Followed::Differs { after, sides }) => return diverges(after, sides),
        Err(reason) => return Verdict::Unfit(reason),
    };
    let original = before.and_then(|before| follow(before, record, history).ok());
    if let Some(Followed::Live(original)) = original
        && let Some((seq, sides)) = other_child(record, &original, &follower)
    {
        let asked = |entry: &Entry| matches!(entry, Entry::Requested { seq: known, .. } if *known == seq);
        return diverges(history.entries.iter().position(asked).unwrap_or_default(), sides);
    }
    // An instance that has not begun asks for nothing yet.
    let has_begun = record.status.begins().is_none();
    Verdict::Fits { asks: if has_begun { asks(*follower, history) } else { Vec::new() } }
}

/// Returns the requests that an instance makes once it has followed a history.
fn asks(follower: Instance, history: &History) -> Vec<(String, Place)> {
    let recorded: BTreeSet<u64> = history.entries.iter().filter_map(requested).collect();
    let (mut machine, open) = follower.evaluation.into_parts();
    let mut left = BETWEEN;
    while matches!(machine.run(SLICE), Progress::OutOfFuel) && left > 0 {
        left = left.saturating_sub(SLICE);
    }
    let open = open.into_all().into_values().map(|open| open.request);
    let new = open.chain(machine.take_requests()).filter(|request| !recorded.contains(&request.seq));
    new.map(|request| (describe_request(&request), request.place)).collect()
}

fn requested(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Requested { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// Returns the former programs of an instance that no entry of its history names.
pub fn stale_programs(store: &dyn Read, id: &str, history: &History) -> Result<Vec<ProgramHash>, ReadError> {
    let named: BTreeSet<[u8; 32]> = history.entries.iter().filter_map(former).map(|from| from.0).collect();
    let keys = store.all(&keys::formers(id))?;
    let programs = keys.iter().filter_map(|(key, _)| Some(keys::parse_former(key)?.1));
    Ok(programs.filter(|program| !named.contains(&program.0)).collect())
}

pub(super) fn former(entry: &Entry) -> Option<ProgramHash> {
    match entry {
        Entry::Upgraded { from, .. } => Some(*from),
        _ => None,
    }
}

/// Returns the program with which the entry after so many was made.
fn made_with(record: &InstanceRecord, entries: &[Entry], after: usize) -> ProgramHash {
    entries.iter().skip(after).find_map(former).unwrap_or(record.program)
}

/// An instance at the end of a part of its history.
pub enum Standing {
    /// The machine, which has not run since the last answer, and the open requests with their times.
    Here { machine: Box<Machine>, open: Vec<(Request, i64)> },
    /// The program makes another entry after so many.
    Differs { after: usize, sides: Mismatch },
}

/// Runs an instance along a part of its history. The error says what its program lacks.
pub fn stand(image: &Rc<Image>, record: &InstanceRecord, history: &History) -> Result<Standing, String> {
    Ok(match follow(image, record, history)? {
        Followed::Live(instance) => {
            let (machine, open) = instance.evaluation.into_parts();
            let open = open.into_all().into_values().map(|open| (open.request, open.time));
            Standing::Here { machine: Box::new(machine), open: open.collect() }
        }
        Followed::Differs { after, sides } => Standing::Differs { after, sides },
    })
}

/// Returns the open call of a child that has another id with the new program. Ids are options, so
/// they are not in the history.
fn other_child(record: &InstanceRecord, before: &Instance, now: &Instance) -> Option<(u64, Mismatch)> {
    let child = |open: &Open| match &open.request.what {
        RequestKind::Orchestration { options, start: false, .. } => {
            Some(options::recorded_child(options).id.unwrap_or_else(|| record.child_id(open.request.seq)))
        }
        _ => None,
    };
    now.evaluation.open.iter().find_map(|(seq, open)| {
        let known = before.evaluation.open.get(seq)?;
        let (ours, theirs) = (child(open)?, child(known)?);
        let side = |open: &Open, id: &str| Some((format!("{} as {id}", open.describe()), open.request.place));
        let sides = Mismatch { recorded: side(known, &theirs), found: side(open, &ours) };
        (ours != theirs).then_some((*seq, sides))
    })
}
