//! Branches: a new instance begins with a part of the history of another one.
//!
//! The new instance has the entries as its own, so it repeats none of their steps. Requests that
//! were open there are made again under its own id: what is under way for the other instance is
//! not for this one.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Image, RequestKind};

use super::backward::{Section, answered, custom, section};
use super::entry::{Entry, RecordedRequest};
use super::follow::{Followed, follow};
use super::history::History;
use super::open::{Open, described};
use super::record::InstanceRecord;

/// A planned branch.
pub struct Branch {
    pub(super) record: InstanceRecord,
    pub(super) image: Rc<Image>,
    pub(super) entries: Vec<Entry>,
    /// The steps that were done before and are not repeated, with their numbers, for people.
    pub kept: Vec<(u64, String)>,
    /// The open requests that are made again.
    pub again: Vec<(u64, String)>,
}

impl Branch {
    /// Returns the record of the new instance.
    pub fn wanted(&self) -> InstanceRecord {
        self.record.clone()
    }

    /// Plans an instance that begins after so many entries of another one's history. Nothing is
    /// changed. The error says why that is impossible.
    pub fn plan(
        image: &Rc<Image>,
        of: &InstanceRecord,
        history: &History,
        at: u64,
        (id, file): (&str, String),
        now: i64,
    ) -> Result<Branch, String> {
        if history.after.is_some() {
            return Err("its history is kept only since its last checkpoint".into());
        }
        let at = usize::try_from(at).ok().filter(|at| *at <= history.entries.len());
        let at = at.ok_or_else(|| format!("its history has {} entries", history.entries.len()))?;
        let entries = &history.entries[..at];
        if entries.iter().any(|entry| matches!(entry, Entry::Ended { .. } | Entry::Terminated { .. })) {
            return Err(format!("it has ended at entry {at}; an earlier one goes on"));
        }
        if matches!(section(entries), Section::Held(_)) {
            return Err(format!("entry {at} is in a critical section, which belongs to {}", of.id));
        }
        let mut record = InstanceRecord::new(id, image.code.hash, &file, &of.function, of.args.clone(), now);
        record.begun_with = of.begun_with.clone();
        (record.execution, record.attempt) = (of.execution, of.attempt);
        (record.custom, record.permissions) = (custom(entries), of.permissions.clone());
        let open = match follow(image, &record, &History { entries: entries.to_vec(), ..History::default() })?
        {
            Followed::Live(instance) => instance.evaluation.into_parts().1.into_all(),
            Followed::Differs { after, .. } => {
                return Err(format!(
                    "under another id, the text makes another request at entry {}",
                    after + 1
                ));
            }
        };
        let made: BTreeMap<u64, &Entry> =
            entries.iter().filter_map(|entry| Some((entry.seq()?, entry))).collect();
        let open = open.values().filter(|open| made.contains_key(&open.request.seq));
        let again: Vec<(u64, String)> = open
            .clone()
            .filter(|open| is_made_again(open))
            .map(|open| (open.request.seq, open.describe()))
            .collect();
        record.rewound = open.filter(|open| open.is_message()).map(|open| open.request.seq).collect();
        let answered: HashSet<u64> = entries.iter().filter_map(answered).collect();
        let kept = entries.iter().filter_map(|entry| kept(entry, &answered)).collect();
        Ok(Branch { record, image: image.clone(), entries: entries.to_vec(), kept, again })
    }
}

/// Whether an open request is made again, with an effect.
fn is_made_again(open: &Open) -> bool {
    match &open.request.what {
        RequestKind::Effect(Effect::Receive) => false,
        RequestKind::Effect(effect) => !effect.is_sleep(),
        _ => true,
    }
}

/// Returns a step that was done and has an effect on others, as text for people.
fn kept(entry: &Entry, answered: &HashSet<u64>) -> Option<(u64, String)> {
    let Entry::Requested { seq, what, .. } = entry else { return None };
    let has_effect = match what {
        RecordedRequest::Effect(_) => {
            what.effect().is_none_or(|effect| effect.is_message() || effect.is_of_the_outside())
        }
        _ => true,
    };
    (has_effect && answered.contains(seq)).then(|| (*seq, described(entry)))
}
