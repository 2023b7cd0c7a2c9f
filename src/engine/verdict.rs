//! Verdicts: what the replay of a history with another program says of an upgrade.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::check;
use crate::code::{ProgramHash, compile_for_debugging};
use crate::core::lower_for_debugging;
use crate::machine::differences::{Debugged, Differences, Unpaired, differences};
use crate::machine::{Image, Machine, Progress, RequestKind, options};
use crate::syntax::Place;

use super::entry::Entry;
use super::evaluation::Mismatch;
use super::follow::{BETWEEN, Followed, SLICE, follow};
use super::history::History;
use super::instance::Instance;
use super::open::{Open, describe_request};
use super::record::InstanceRecord;
use super::upgrade::former;

/// The result of replaying an instance's history with another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// The program makes the same requests, and comes to the same state.
    Fits {
        /// The further requests that the program makes at once.
        asks: Vec<(String, Place)>,
        /// The variables that only one of the programs has.
        unpaired: Vec<Unpaired>,
    },
    /// The program makes the same requests, and variables have other values where the instance
    /// waits.
    StateDiffers { asks: Vec<(String, Place)>, differences: Differences },
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

impl Verdict {
    /// Returns the verdict on a program that fits and makes these further requests at once.
    pub fn fits(asks: Vec<(String, Place)>) -> Verdict {
        Verdict::Fits { asks, unpaired: Vec::new() }
    }

    /// Whether the instance may go on with the program. Other values of variables have to be
    /// accepted.
    pub fn allows(&self, accepts_state: bool) -> bool {
        match self {
            Verdict::Fits { .. } => true,
            Verdict::StateDiffers { .. } => accepts_state,
            Verdict::Diverges(_) | Verdict::Unfit(_) => false,
        }
    }
}

/// A judge of upgrades to one program.
pub struct Judge {
    new: Rc<Image>,
    /// The programs as debug code, which knows variables by name; `None` for one that can't be
    /// compiled so.
    debugged: HashMap<ProgramHash, Option<Debugged>>,
}

impl Judge {
    pub fn new(image: &Rc<Image>) -> Judge {
        Judge { new: image.clone(), debugged: HashMap::new() }
    }

    /// Returns the verdict on an instance that has not ended. `before` is the instance's present
    /// program, if that can still run; otherwise no variables are compared.
    pub fn verdict(
        &mut self,
        before: Option<&Rc<Image>>,
        record: &InstanceRecord,
        history: &History,
    ) -> Verdict {
        let (asks, before) = match (judge(&self.new, before, record, history), before) {
            (Verdict::Fits { asks, .. }, Some(before)) if before.code.hash != self.new.code.hash => {
                (asks, before)
            }
            (verdict, _) => return verdict,
        };
        // An instance that has not begun has no variables yet.
        if record.status.begins().is_some() {
            return Verdict::fits(asks);
        }
        for image in [before, &self.new] {
            self.debugged.entry(image.code.hash).or_insert_with(|| debugged(image));
        }
        let side = |image: &Rc<Image>| {
            let debugged = self.debugged.get(&image.code.hash)?.as_ref()?;
            Some((waiting(&debugged.image, record, history)?, debugged))
        };
        let (Some(then), Some(now)) = (side(before), side(&self.new)) else { return Verdict::fits(asks) };
        let differences = differences((&then.0, then.1), (&now.0, now.1));
        match differences.differ.is_empty() {
            true => Verdict::Fits { asks, unpaired: differences.unpaired },
            false => Verdict::StateDiffers { asks, differences },
        }
    }
}

/// Returns a program as debug code, which makes the same requests.
fn debugged(image: &Image) -> Option<Debugged> {
    let program = check::load_stored(&image.code.sources.texts())?;
    let code = compile_for_debugging(&lower_for_debugging(&program), &program, None).ok()?;
    Image::new(Arc::new(code)).ok().map(Debugged::new)
}

/// Returns an instance at the end of its history, when all of its tasks wait.
fn waiting(image: &Rc<Image>, record: &InstanceRecord, history: &History) -> Option<Machine> {
    let Ok(Followed::Live(instance)) = follow(image, record, history) else { return None };
    let (mut machine, _) = instance.evaluation.into_parts();
    matches!(rests(&mut machine), Progress::Waiting).then_some(machine)
}

/// Runs a machine until all tasks wait, or until it has computed for long.
fn rests(machine: &mut Machine) -> Progress {
    let mut left = BETWEEN;
    loop {
        let progress = machine.run(SLICE);
        left = left.saturating_sub(SLICE);
        if left == 0 || !matches!(progress, Progress::OutOfFuel) {
            return progress;
        }
    }
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
    Verdict::fits(if has_begun { asks(*follower, history) } else { Vec::new() })
}

/// Returns the requests that an instance makes once it has followed a history.
fn asks(follower: Instance, history: &History) -> Vec<(String, Place)> {
    let recorded: BTreeSet<u64> = history.entries.iter().filter_map(requested).collect();
    let (mut machine, open) = follower.evaluation.into_parts();
    rests(&mut machine);
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

/// Returns the program with which the entry after so many was made.
fn made_with(record: &InstanceRecord, entries: &[Entry], after: usize) -> ProgramHash {
    entries.iter().skip(after).find_map(former).unwrap_or(record.program)
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
