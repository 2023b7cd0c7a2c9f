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

use crate::code::ProgramHash;
use crate::kv::Read;
use crate::machine::{Image, Machine, Request};

use super::backward::Backward;
use super::entry::Entry;
use super::evaluation::Mismatch;
use super::follow::{Followed, follow};
use super::history::History;
use super::keys;
use super::read_error::ReadError;
use super::record::InstanceRecord;

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
