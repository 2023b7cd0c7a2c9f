//! Instances that wait for the ends of others, and the circles among them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A request that the end of an instance answers: its time, its number, and that instance.
pub(super) type Wait = (i64, u64, Arc<str>);

/// An instance that only waits, with its waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub life: u64,
    pub execution: u32,
    pub root: Arc<str>,
    pub waits: Vec<Wait>,
}

/// The waits of each instance.
pub(super) type Waits = BTreeMap<Arc<str>, Waiting>;

/// The waits of an instance as they are sent: its id, life, execution, root and waits.
pub(super) type Sent = (String, u64, u32, String, Vec<(i64, u64, String)>);

/// Returns waits as they are sent.
pub(super) fn sent(waits: &Waits) -> Vec<Sent> {
    let one = |(id, known): (&Arc<str>, &Waiting)| {
        let waits = known.waits.iter().map(|(time, seq, target)| (*time, *seq, target.to_string()));
        (id.to_string(), known.life, known.execution, known.root.to_string(), waits.collect())
    };
    waits.iter().map(one).collect()
}

/// Returns waits that were sent.
pub(super) fn received(sent: Vec<Sent>) -> Waits {
    let one = |(id, life, execution, root, waits): Sent| {
        let waits = waits.into_iter().map(|(time, seq, target)| (time, seq, target.into())).collect();
        (id.into(), Waiting { life, execution, root: root.into(), waits })
    };
    sent.into_iter().map(one).collect()
}

/// Returns the youngest request that is part of a circle: its instance, its number, and the circle
/// from there.
pub(super) fn youngest(waits: &Waits) -> Option<(Arc<str>, u64, Vec<String>)> {
    let mut all: Vec<(i64, &Arc<str>, u64, &Arc<str>)> = Vec::new();
    for (id, known) in waits {
        all.extend(known.waits.iter().map(|(time, seq, target)| (*time, id, *seq, target)));
    }
    all.sort_unstable();
    all.iter().rev().find_map(|(_, id, seq, target)| {
        let circle = way(waits, target, id)?;
        let circle = std::iter::once(*id).chain(circle.iter()).map(|id| id.to_string());
        Some(((*id).clone(), *seq, circle.collect()))
    })
}

/// Returns the shortest path from one instance to another along the waits, without the last.
fn way(waits: &Waits, from: &Arc<str>, to: &Arc<str>) -> Option<Vec<Arc<str>>> {
    let mut before: BTreeMap<&Arc<str>, &Arc<str>> = BTreeMap::new();
    let mut seen = BTreeSet::from([from]);
    let mut next = VecDeque::from([from]);
    while let Some(at) = next.pop_front() {
        if at == to {
            let mut way = Vec::new();
            let mut step = before.get(at);
            while let Some(known) = step {
                way.push(Arc::clone(known));
                step = before.get(*known);
            }
            way.reverse();
            return Some(way);
        }
        for (.., target) in waits.get(at).into_iter().flat_map(|known| &known.waits) {
            if seen.insert(target) {
                before.insert(target, at);
                next.push_back(target);
            }
        }
    }
    None
}
