//! Instances that wait for one another in a circle, so that none of them can end.
//!
//! An instance *only waits* when it is at rest and everything that it asked for is the end of others: calls of
//! orchestrations without a time limit, and `wait`. When all that it waits for, all the way down, only waits, nothing that
//! happens by itself brings any of them on. The youngest request of such a circle gets an error. What is not certain is
//! no circle: an instance that is not in memory, is suspended, waits for an event, an entity or a time as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::builtins::Effect;
use crate::machine::options::{self, Child};
use crate::machine::{RequestKind, ids};

use super::address::Address;
use super::arrivals::first_text;
use super::instance::Instance;
use super::message::Message;
use super::step::Engine;

/// Circles of more instances are not looked for: they would not be in memory together.
const MOST: usize = 1_000;

/// A request that is answered by the end of an instance: when it was made, its number, and that instance.
type Wait = (i64, u64, Arc<str>);

/// Who waits for whom.
type Waits = BTreeMap<Arc<str>, Vec<Wait>>;

impl Instance {
    /// Whether it waits for nothing but what it asked for.
    pub fn may_only_wait(&self) -> bool {
        let rests = self.waits() && self.evaluation.rests() && !self.is_suspended();
        rests && !self.arrivals.has_answer() && !self.evaluation.open.is_empty()
    }

    /// What it waits for, if it only waits.
    fn only_waits(&self) -> Option<Vec<Wait>> {
        if !self.may_only_wait() {
            return None;
        }
        let wait = |seq: &u64, open: &super::Open| {
            let target = match &open.request.what {
                RequestKind::Effect(Effect::Wait) => first_text(&open.request.args),
                RequestKind::Orchestration { options, start: false, .. } if open.policy.timeout.is_none() => {
                    let Child { id, .. } = options::child(&options.decode()).unwrap_or_default();
                    id.unwrap_or_else(|| self.child_id(*seq))
                }
                _ => return None,
            };
            Some((open.time, *seq, Arc::from(target.as_str())))
        };
        self.evaluation.open.iter().map(|(seq, open)| wait(seq, open)).collect()
    }
}

impl Engine {
    /// An instance has come to rest. If it is in a circle, or waits for one, that is broken.
    pub(super) fn break_circle(&mut self, id: &Arc<str>) {
        let Some(waits) = self.all_that_wait(id) else { return };
        let Some((victim, seq, circle)) = youngest(&waits) else { return };
        let Some(instance) = self.residents.get(&victim) else { return };
        let (life, execution) = instance.execution();
        let (from, root) = (format!("{}!circle", instance.step_key(seq)), instance.root.clone());
        let result = Err(ids::wait_in_a_circle(&circle));
        let message = Message::Answer { life, execution, seq, result };
        self.send(Address::Instance(victim), from, root, None, message);
    }

    /// All that an instance waits for, all the way down, when none of it does anything else; itself included.
    fn all_that_wait(&mut self, id: &Arc<str>) -> Option<Waits> {
        let mut waits = Waits::new();
        let mut next = vec![id.clone()];
        while let Some(id) = next.pop() {
            if waits.contains_key(&id) {
                continue;
            }
            let Some(instance) = self.residents.get(&id) else {
                // It is looked at when it is here and has come to rest.
                if self.is_under_way(&id) {
                    self.fetch(Address::Instance(id));
                }
                return None;
            };
            let own = instance.only_waits()?;
            next.extend(own.iter().map(|(.., target)| target.clone()));
            waits.insert(id, own);
            if waits.len() > MOST {
                return None;
            }
        }
        Some(waits)
    }
}

/// The youngest request of a circle among these: whose it is, its number, and the circle from there.
fn youngest(waits: &Waits) -> Option<(Arc<str>, u64, Vec<String>)> {
    let mut all: Vec<(i64, &Arc<str>, u64, &Arc<str>)> = Vec::new();
    for (id, own) in waits {
        all.extend(own.iter().map(|(time, seq, target)| (*time, id, *seq, target)));
    }
    all.sort_unstable();
    all.iter().rev().find_map(|(_, id, seq, target)| {
        let circle = way(waits, target, id)?;
        let circle = std::iter::once(*id).chain(circle.iter()).map(|id| id.to_string());
        Some(((*id).clone(), *seq, circle.collect()))
    })
}

/// The shortest way from one to another along what they wait for, without the last.
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
        for (.., target) in waits.get(at).into_iter().flatten() {
            if seen.insert(target) {
                before.insert(target, at);
                next.push_back(target);
            }
        }
    }
    None
}
