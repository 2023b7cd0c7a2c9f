//! The rule **acquire**: an entity has one holder, which is in a critical section.

use std::collections::BTreeMap;

use crate::builtins::Effect;
use crate::engine::{Entry, RecordedRequest, section_entities};
use crate::machine::{EntityId, RequestKind};

use super::{Finding, Run, Store};

/// The time during which an instance knows that it holds an entity.
pub struct Held<'a> {
    pub run: &'a Run,
    at: usize,
    pub from: i64,
    pub to: i64,
}

/// Returns the critical sections of all instances in the order of time, by entity.
pub fn held(all: &Store) -> BTreeMap<EntityId, Vec<Held<'_>>> {
    let mut held: BTreeMap<EntityId, Vec<Held<'_>>> = BTreeMap::new();
    for run in all.runs.values().filter(|run| run.is_known) {
        sections(run, &mut held);
    }
    for held in held.values_mut() {
        held.sort_by_key(|held| (held.from, held.to));
    }
    held
}

pub fn check(all: &Store, held: &BTreeMap<EntityId, Vec<Held<'_>>>, findings: &mut Vec<Finding>) {
    for (entity, held) in held {
        for pair in held.windows(2) {
            if pair[1].from < pair[0].to && pair[0].run.record.id != pair[1].run.record.id {
                let holder = &pair[0].run.record.id;
                let what = format!("{entity} is given to it while {holder} holds it");
                findings.push(pair[1].run.finding("acquire", Some(pair[1].at), what));
            }
        }
    }
    for (entity, hold) in &all.holds {
        let owner = &hold.owner;
        let runs = all
            .runs
            .get(&owner.instance)
            .is_some_and(|run| run.record.life == owner.life && !run.record.status.is_ended());
        if !runs {
            findings.push(Finding {
                rule: "acquire",
                of: entity.to_string(),
                entry: None,
                what: format!("it is held by {}, which does not run", owner.instance),
            });
        }
    }
}

/// Notes the critical sections of an instance.
fn sections<'a>(run: &'a Run, held: &mut BTreeMap<EntityId, Vec<Held<'a>>>) {
    let mut now: Option<(usize, i64, Vec<EntityId>)> = None;
    let mut close = |now: &mut Option<(usize, i64, Vec<EntityId>)>, to: i64| {
        let Some((at, from, set)) = now.take() else { return };
        for entity in set {
            held.entry(entity).or_default().push(Held { run, at, from, to });
        }
    };
    for (at, entry) in run.entries.iter().enumerate() {
        match entry {
            Entry::Answered { seq, result: Ok(_), time, .. } => {
                let Some(asked) = run.requests.get(seq) else { continue };
                if asked.request.what == RequestKind::Effect(Effect::Lock) {
                    now = Some((at, *time, section_entities(&asked.request.args)));
                }
            }
            Entry::Requested { what: what @ RecordedRequest::Effect(_), time, .. }
                if what.effect() == Some(Effect::Unlock) =>
            {
                close(&mut now, *time);
            }
            Entry::Ended { time } | Entry::Terminated { time } => close(&mut now, *time),
            // What came of a section before a rewind is gone.
            Entry::Rewound { .. } => now = None,
            _ => {}
        }
    }
    // An instance that has ended or was rewound has released its section at a time that is not in
    // its history.
    let is_renewed = || run.entries.iter().any(|entry| matches!(entry, Entry::Renewed { .. }));
    if !run.record.status.is_ended() && run.record.rewound.is_empty() && !is_renewed() {
        close(&mut now, i64::MAX);
    }
}
