//! Going back: an instance goes back to an entry of its history, and on from there with another
//! program, which fits the entries before.
//!
//! The kept entries end between two answers, since the requests of one turn belong together. Later
//! answers to kept requests, and all events, wait to be taken in again. The numbers of the
//! forgotten requests are not used again, so that nothing that is still under way for them reaches
//! the instance.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Data, Image, RequestKind, options};

use super::arrivals::first_text;
use super::entry::{Args, Entry, RecordedRequest};
use super::follow::{Followed, follow};
use super::history::History;
use super::instance::Instance;
use super::message::{Message, StoredMail};
use super::open::{Open, described};
use super::record::InstanceRecord;
use super::undo::number_after;

/// A planned return to an entry of a history.
#[derive(Clone, Debug)]
pub struct Backward {
    /// The kept entries.
    pub(super) kept: Vec<Entry>,
    /// The messages that wait for the instance again, in order.
    pub(super) mail: Vec<StoredMail>,
    /// The requests that are sent once more.
    pub(super) resent: Vec<u64>,
    /// The value that the instance had set by `set_status`.
    pub(super) custom: Option<Data>,
    /// Whether the instance gives up its locks, and the requests for them.
    pub(super) releases: bool,
    /// The called children that are ended, since nobody waits for them any more.
    pub(super) children: Vec<String>,
    /// The number of the next request.
    pub(super) next: u64,
    /// The forgotten requests, with their outcome as text for people.
    pub forgotten: Vec<(u64, String)>,
}

/// The critical section of an instance, by the request for it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Section {
    None,
    Asked(u64),
    Held(u64),
}

impl Backward {
    /// Plans the return of an instance to the state before an entry, numbered from 1, without
    /// changing anything. `image` is its program from then on, and `before` its present one, if
    /// that can still run. The error says why the return is impossible.
    pub fn plan(
        (image, before): (&Rc<Image>, Option<&Rc<Image>>),
        record: &InstanceRecord,
        history: &History,
        entry: u64,
    ) -> Result<Backward, String> {
        if history.after.is_some() {
            return Err("its history is kept only since its last checkpoint".into());
        }
        let entries = &history.entries;
        let at = usize::try_from(entry).ok().and_then(|entry| entry.checked_sub(1));
        let at = at.filter(|at| *at < entries.len());
        let at = at.ok_or_else(|| format!("its history has the entries 1 to {}", entries.len()))?;
        let (kept, rest) = entries.split_at(begin_of_turn(entries, at));
        let open = match follow(image, record, &History { entries: kept.to_vec(), ..History::default() })? {
            Followed::Live(instance) => instance.evaluation.into_parts().1.into_all(),
            Followed::Differs { after, .. } => {
                return Err(format!("the text diverges at entry {} already", after + 1));
            }
        };
        let (mut resent, mut releases) = (Vec::new(), false);
        match (section(kept), section(entries)) {
            (then, now) if then == now => {}
            (Section::None, _) => releases = true,
            (Section::Asked(asked), Section::Held(held)) if asked == held => {}
            (Section::Asked(asked), _) => (resent, releases) = (vec![asked], true),
            (Section::Held(_), _) => {
                return Err(format!("entry {entry} is in a critical section that has ended since"));
            }
        }
        let before = before.and_then(|before| follow(before, record, history).ok());
        let present = match &before {
            Some(Followed::Live(instance)) => Some(&**instance),
            _ => None,
        };
        Ok(Backward {
            mail: later(record, entries, rest, &open.keys().copied().collect(), &resent),
            resent,
            custom: custom(kept),
            releases,
            children: children(record, rest, present),
            next: entries.iter().filter_map(number_after).max().unwrap_or(0),
            forgotten: forgotten(rest),
            kept: kept.to_vec(),
        })
    }
}

/// Returns the position from which on entries are cut so that the one at `at` goes: its own, or
/// that of the first request of its turn.
fn begin_of_turn(entries: &[Entry], at: usize) -> usize {
    let is_of_turn = |entry: &Entry| {
        matches!(
            entry,
            Entry::Requested { .. }
                | Entry::Cancelled { .. }
                | Entry::Retried { .. }
                | Entry::Begun { .. }
                | Entry::Upgraded { .. }
        )
    };
    if !is_of_turn(&entries[at]) {
        return at;
    }
    entries[..at].iter().rposition(|entry| !is_of_turn(entry)).map_or(0, |trigger| trigger + 1)
}

/// Returns the critical section at the end of some entries.
pub(super) fn section(entries: &[Entry]) -> Section {
    let mut now = Section::None;
    for entry in entries {
        now = match (entry, now) {
            (Entry::Requested { seq, what, .. }, now) => match what.effect() {
                Some(Effect::Lock) => Section::Asked(*seq),
                Some(Effect::Unlock) => Section::None,
                _ => now,
            },
            (Entry::Answered { seq, result: Ok(_), .. }, Section::Asked(asked)) if *seq == asked => {
                Section::Held(asked)
            }
            (Entry::Answered { seq, .. } | Entry::Cancelled { seq, .. }, Section::Asked(asked))
                if *seq == asked =>
            {
                Section::None
            }
            (_, now) => now,
        };
    }
    now
}

/// Returns the messages that wait for an instance again: the later answers to its open requests,
/// all events that it took later, and its cancellation.
fn later(
    record: &InstanceRecord,
    entries: &[Entry],
    rest: &[Entry],
    open: &BTreeSet<u64>,
    resent: &[u64],
) -> Vec<StoredMail> {
    let events: BTreeMap<u64, String> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Requested { seq, what, args: Args::Whole(args), .. }
                if what.effect() == Some(Effect::Receive) =>
            {
                Some((*seq, first_text(args)))
            }
            _ => None,
        })
        .collect();
    let (life, execution) = (record.life, record.execution);
    let message = |entry: &Entry| match entry {
        Entry::Answered { seq, result: Ok(payload), .. } if events.contains_key(seq) => {
            Some(Message::Event { name: events[seq].clone(), payload: payload.clone() })
        }
        Entry::Answered { seq, result, .. } if open.contains(seq) && !resent.contains(seq) => {
            Some(Message::Answer { life, execution, seq: *seq, result: result.clone() })
        }
        Entry::Cancelling { what, .. } => Some(Message::Cancel { what: what.clone(), of: None }),
        _ => None,
    };
    let mail = |(number, entry): (usize, &Entry)| {
        let from = format!("{}.back-{}-{number}", record.step_key(u64::MAX), entries.len());
        let (root, time, message) = (record.root.clone(), entry.time(), message(entry)?);
        Some(StoredMail { from, root, ack: None, time, message, permissions: Default::default() })
    };
    rest.iter().enumerate().filter_map(mail).collect()
}

/// Returns the value that an instance has set by `set_status`.
pub(super) fn custom(kept: &[Entry]) -> Option<Data> {
    kept.iter().rev().find_map(|entry| match entry {
        Entry::Requested { what, args: Args::Whole(args), .. }
            if what.effect() == Some(Effect::SetStatus) =>
        {
            Some(args.items().first().map(Data::of).unwrap_or_else(Data::null))
        }
        _ => None,
    })
}

/// Returns the children of forgotten calls that have not answered. Children with a chosen id go on,
/// since the same call finds them again, and so do those that were detached.
fn children(record: &InstanceRecord, rest: &[Entry], present: Option<&Instance>) -> Vec<String> {
    let answered: HashSet<u64> = rest.iter().filter_map(answered).collect();
    let is_own = |open: &Open| match &open.request.what {
        RequestKind::Orchestration { options, .. } => {
            let child = options::recorded_child(options);
            child.id.is_none() && !child.detached
        }
        _ => false,
    };
    let called = rest.iter().filter_map(|entry| match entry {
        Entry::Requested { seq, what: RecordedRequest::Orchestration { start: false, .. }, .. } => Some(*seq),
        _ => None,
    });
    let open = |seq: &u64| match present {
        Some(present) => present.evaluation.open.get(seq).is_some_and(|open| is_own(open)),
        None => !answered.contains(seq),
    };
    called.filter(open).map(|seq| record.child_id(seq)).collect()
}

/// Returns the number of the request that an entry answers.
pub(super) fn answered(entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Answered { seq, .. } => Some(*seq),
        _ => None,
    }
}

/// Returns the requests that are forgotten, with their outcomes, as text for people.
fn forgotten(rest: &[Entry]) -> Vec<(u64, String)> {
    let outcome = |entry: &Entry| match entry {
        Entry::Answered { seq, result: Ok(_), .. } => Some((*seq, "done")),
        Entry::Answered { seq, .. } => Some((*seq, "failed")),
        Entry::Cancelled { seq, .. } => Some((*seq, "cancelled")),
        _ => None,
    };
    // The first outcome of a request counts.
    let outcomes: HashMap<u64, &str> = rest.iter().rev().filter_map(outcome).collect();
    let request = |entry: &Entry| match entry {
        Entry::Requested { seq, .. } => {
            let outcome = outcomes.get(seq).copied().unwrap_or("under way");
            Some((*seq, format!("{}, {outcome}", described(entry))))
        }
        _ => None,
    };
    rest.iter().filter_map(request).collect()
}
