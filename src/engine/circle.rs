//! Deadlocks: instances that wait for one another in a circle, so that none of them can end.
//!
//! An instance *only waits* when it is at rest and all its requests wait for the end of others:
//! calls of orchestrations without a time limit, and `wait`. If everything that it waits for,
//! directly or indirectly, only waits as well, nothing that happens by itself wakes any of them.
//! Then the youngest request of the circle gets an error. When in doubt, the engine reports no
//! circle: an instance that is not in memory, is suspended, or also waits for an event, an entity
//! or a time is in none.
//!
//! If an instance of another partition is waited for, what is known so far goes to that partition,
//! which goes on from there. What was seen of an instance that only waits stays true as long as all
//! that it waits for only wait, so it need not be seen at one time.

use std::sync::Arc;

use crate::builtins::Effect;
use crate::machine::options::{self, Child};
use crate::machine::{RequestKind, ids};

use super::address::Address;
use super::arrivals::first_text;
use super::instance::Instance;
use super::message::Message;
use super::step::Engine;
use super::waits::{Wait, Waiting, Waits, youngest};

/// The number of instances above which no circle is looked for, since they would not be in memory
/// together.
const MOST: usize = 1_000;

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
        let seen = self.courier.seen_to_wait.remove(id).unwrap_or_default();
        self.look_for_circle(seen, id);
    }

    /// Looks for a circle among an instance, all that it waits for, and those that were seen to
    /// wait, and breaks it.
    pub(super) fn look_for_circle(&mut self, seen: Waits, id: &Arc<str>) {
        let Some(waits) = self.all_that_wait(seen, id) else { return };
        let Some((victim, seq, circle)) = youngest(&waits) else { return };
        let Some(Waiting { life, execution, root, .. }) = waits.get(&victim).cloned() else { return };
        let from = match self.residents.get(&victim) {
            Some(instance) => format!("{}!circle", instance.step_key(seq)),
            None => format!("{victim}-{life:x}.{execution}-{seq}!circle"),
        };
        let result = Err(ids::wait_in_a_circle(&circle));
        let message = Message::Answer { life, execution, seq, result };
        self.send(Address::Instance(victim), from, root, None, message);
    }

    /// Returns the waits of an instance and of all that it waits for, directly or indirectly,
    /// beside those that were seen. Returns `None` if one of them does not only wait, or if
    /// another partition is asked.
    fn all_that_wait(&mut self, seen: Waits, id: &Arc<str>) -> Option<Waits> {
        let mut waits = seen;
        let mut next: Vec<Arc<str>> =
            waits.values().flat_map(|known| &known.waits).map(|(.., target)| target.clone()).collect();
        next.push(id.clone());
        let mut away = None;
        while let Some(id) = next.pop() {
            if waits.contains_key(&id) {
                continue;
            }
            if !self.is_here(&id) {
                away = Some(id);
                continue;
            }
            let Some(instance) = self.residents.get(&id) else {
                // The engine looks again when this instance is in memory and at rest.
                if self.is_under_way(&id) {
                    if self.placement.is_some() {
                        self.courier.seen_to_wait.insert(id.clone(), waits);
                    }
                    self.fetch(Address::Instance(id));
                }
                return None;
            };
            let own = instance.only_waits()?;
            let ((life, execution), root) = (instance.execution(), instance.root.clone());
            next.extend(own.iter().map(|(.., target)| target.clone()));
            waits.insert(id, Waiting { life, execution, root, waits: own });
            if waits.len() > MOST {
                return None;
            }
        }
        match away {
            Some(id) => {
                self.ask_who_waits(&waits, &id);
                None
            }
            None => Some(waits),
        }
    }
}
