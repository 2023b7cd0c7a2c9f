//! Deadlocks: instances that wait for one another in a circle, so that none of them can end.
//!
//! An instance *only waits* when it is at rest and all its requests wait for the end of others:
//! calls of orchestrations without a time limit, and `wait`. If everything that it waits for,
//! directly or indirectly, only waits as well, nothing that happens by itself wakes any of them.
//! Then the youngest request of the circle gets an error. When in doubt, the engine reports no
//! circle: an instance that is not in memory, is suspended, or also waits for an event, an entity
//! or a time is in none.

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

/// The number of instances above which no circle is looked for, since they would not be in memory
/// together.
const MOST: usize = 1_000;

/// A request that the end of an instance answers: its time, its number, and that instance.
type Wait = (i64, u64, Arc<str>);

/// The waits of each instance.
type Waits = BTreeMap<Arc<str>, Vec<Wait>>;

impl Instance {
    /// Whether the instance waits for nothing but the answers to its requests.
    pub fn may_only_wait(&self) -> bool {
        // An active request is done by this process, and not by another instance.
        if self.evaluation.open.are_active() {
            return false;
        }
        let rests = self.waits() && self.evaluation.rests() && !self.is_held_up();
        rests && !self.arrivals.has_answer() && !self.evaluation.open.is_empty()
    }

    /// Returns the waits of the instance, or `None` if it does not only wait.
    fn only_waits(&self) -> Option<Vec<Wait>> {
        if !self.may_only_wait() {
            return None;
        }
        let wait = |seq: &u64, open: &super::Open| {
            let target = match &open.request.what {
                RequestKind::Effect(Effect::Wait) => first_text(&open.request.args),
                RequestKind::Orchestration { options, start: false, .. }
                    if open.policy().timeout.is_none() =>
                {
                    let Child { id, .. } = options::recorded_child(options);
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
    /// Breaks the circle that an instance at rest is in or waits for, if there is one.
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

    /// Returns the waits of an instance and of all that it waits for, directly or indirectly.
    /// Returns `None` if one of them does not only wait.
    fn all_that_wait(&mut self, id: &Arc<str>) -> Option<Waits> {
        let mut waits = Waits::new();
        let mut next = vec![id.clone()];
        while let Some(id) = next.pop() {
            if waits.contains_key(&id) {
                continue;
            }
            let Some(instance) = self.residents.get(&id) else {
                // The engine looks again when this instance is in memory and at rest.
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

/// Returns the youngest request that is part of a circle: its instance, its number, and the circle
/// from there.
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
        for (.., target) in waits.get(at).into_iter().flatten() {
            if seen.insert(target) {
                before.insert(target, at);
                next.push_back(target);
            }
        }
    }
    None
}
