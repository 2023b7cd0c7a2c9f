//! Instances whose programs grow while they wait: the sessions of the prompt.
//!
//! The longer program must do the same up to where the instance waits. Otherwise its replay does
//! not fit the history, which is nondeterminism.

use std::rc::Rc;
use std::sync::Arc;

use crate::machine::Image;

use super::address::Address;
use super::history::History;
use super::instance::Instance;
use super::step::Engine;

impl Engine {
    /// Lets an instance that waits go on with a longer program. `history` is its whole history. The
    /// replay happens here, at once, so that later arrivals find the instance where it was. The
    /// error says why the instance can't go on.
    pub fn extend(&mut self, id: &str, image: &Rc<Image>, history: History, now: i64) -> Result<(), String> {
        self.scheduler.now = now;
        let known = self.residents.get(id).filter(|instance| instance.is_at_rest());
        let known = known.ok_or_else(|| format!("{id} does not wait"))?;
        let next = known.extended(image, history)?;
        self.deploy(image, &next.record.permissions);
        self.go_on_as(id.into(), next, now);
        Ok(())
    }

    /// Puts an instance with another program in the place of one in memory, and replays its history
    /// at once.
    pub(super) fn go_on_as(&mut self, id: Arc<str>, next: Instance, now: i64) {
        self.residents.instances.insert(id.clone(), Box::new(next));
        self.active.insert(id.clone());
        self.changed.push(id.clone());
        while self.residents.get(&id).is_some_and(|instance| !instance.is_live()) {
            self.run_instance(&id, now);
        }
        self.wake(&id);
    }

    /// Whether an instance is neither under way nor about to be.
    pub fn is_gone(&self, id: &str) -> bool {
        !self.is_under_way(id) && !self.wanted.has(&Address::instance(id))
    }

    /// Whether an instance in memory waits. Some of its entries may not be written yet.
    pub fn is_waiting(&self, id: &str) -> bool {
        self.residents.get(id).is_some_and(|instance| instance.waits())
    }

    /// Returns the status that an instance in memory has set, or `None` if it has set none or is
    /// not in memory.
    pub fn says(&self, id: &str) -> Option<&crate::machine::Data> {
        self.residents.get(id)?.record.custom.as_ref()
    }
}
