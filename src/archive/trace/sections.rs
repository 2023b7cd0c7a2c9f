//! The rule **acquire**: an entity has one holder, which is in a critical section.

use std::collections::BTreeMap;

use crate::builtins::Effect;
use crate::engine::{Entry, RecordedRequest};
use crate::machine::{EntityId, RequestKind, Value};

use super::{Finding, Run, Store};

/// The time during which an instance knows that it holds an entity.
struct Held<'a> {
    run: &'a Run,
    at: usize,
    from: i64,
    to: i64,
}

pub fn check(all: &Store, findings: &mut Vec<Finding>) {
    let mut held: BTreeMap<EntityId, Vec<Held<'_>>> = BTreeMap::new();
    for run in all.runs.values().filter(|run| run.is_known) {
        sections(run, &mut held);
    }
    for (entity, held) in &mut held {
        held.sort_by_key(|held| (held.from, held.to));
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
            Entry::Answered { seq, result: Ok(_), time } => {
                let Some(asked) = run.requests.get(seq) else { continue };
                if asked.request.what == RequestKind::Effect(Effect::Lock) {
                    now = Some((at, *time, entities(&asked.request.args)));
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
    if !run.record.status.is_ended() && run.record.rewound.is_empty() {
        let is_held = all_held(run, now.as_ref());
        if is_held {
            close(&mut now, i64::MAX);
        }
    }
}

/// Whether the section at the end of a history is one that the instance is still in.
fn all_held(run: &Run, now: Option<&(usize, i64, Vec<EntityId>)>) -> bool {
    let renewed = run.entries.iter().any(|entry| matches!(entry, Entry::Renewed { .. }));
    now.is_some() && !renewed
}

fn entities(args: &crate::machine::Data) -> Vec<EntityId> {
    let items = args.items();
    let Some(Value::List(list)) = items.first() else { return Vec::new() };
    let entity = |value: &Value| match value {
        Value::Entity(entity) => EntityId::of(entity).ok(),
        _ => None,
    };
    list.as_slice().iter().filter_map(entity).collect()
}
