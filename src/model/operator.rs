//! The operator, who suspends, resumes and cancels instances from outside, purges ended ones, and
//! rewinds failed ones.
//!
//! The number of interventions in one run is bounded, like the number of faults. The default is
//! none.

use std::collections::{BTreeMap, BTreeSet};

use crate::machine::{Cancellation, Canceller, Data, options};

use super::evaluate::{Eval, Evaluator, Stop};
use super::instance::{self, Back, Instance, State, Turn};
use super::interventions::{Intervention, Interventions};
use super::message::{Id, Message, Name};
use super::part::Part;
use super::program::Mutation;

/// Returns the commands that the operator may give to an instance, if no command is on its way to
/// the instance. Whether a purge is possible also depends on the tree.
pub fn commands<E>(
    id: &Id,
    instance: &Instance<E>,
    left: Interventions,
    all: Interventions,
) -> Vec<Intervention> {
    let is_running = matches!(&instance.state, State::Running(_));
    let is_free = is_running && !instance.suspended;
    let all = [
        (is_running && instance.suspended && all.suspensions > 0, Intervention::Resume(id.clone())),
        (is_free && left.suspensions > 0, Intervention::Suspend(id.clone())),
        (is_running && left.cancellations > 0, Intervention::Cancel(id.clone())),
        (!is_running && left.purges > 0, Intervention::Purge(id.clone())),
        (instance.has_failed() && left.rewinds > 0, Intervention::Rewind(id.clone())),
    ];
    all.into_iter().filter_map(|(may, intervention)| may.then_some(intervention)).collect()
}

/// A configuration as the operator sees it.
pub trait Operated {
    /// Returns the tree of an instance if all of it has ended, or as an error a member that has
    /// not.
    fn tree(&self, root: &Id) -> Result<Vec<Id>, Id>;

    /// Returns an instance that has ended.
    fn ended(&self, id: &Id) -> Option<Instance<Eval>>;

    /// Whether a message is under way from a participant to an instance.
    fn is_under_way(&self, from: &Name, to: &Id) -> bool;
}

/// Returns the message that cancels an instance from outside.
pub fn cancellation() -> Message {
    let what = Cancellation {
        by: Canceller::Client,
        place: String::new(),
        reason: Data::null(),
        grace: options::GRACE,
    };
    Message::Cancel { what: Part::new(what), of: None, ack: None }
}

/// Returns those commands that can be carried out.
pub fn possible(
    evaluator: &mut Evaluator<'_>,
    c: &dyn Operated,
    commands: Vec<Intervention>,
) -> Result<Vec<Intervention>, Stop> {
    let mut may = Vec::new();
    for command in commands {
        let can = match &command {
            Intervention::Purge(id) => c.tree(id).is_ok(),
            Intervention::Rewind(id) => rewinding(evaluator, c, id)?.is_some(),
            _ => true,
        };
        may.extend(can.then_some(command));
    }
    Ok(may)
}

/// Instances that are rewound together, each with its requests that go back and the resulting turn.
pub type Rewinding = Vec<(Id, Back, Turn)>;

/// **rewind**: plans the rewind of a failed instance with those that it needs. These are the
/// instances by whose errors it failed, the children that ended because it did, and the failed
/// instances that it still waits for. Returns `None` if the rewind is impossible, or has to wait
/// for messages that are under way between them or from the world.
pub fn rewinding(
    evaluator: &mut Evaluator<'_>,
    c: &dyn Operated,
    id: &Id,
) -> Result<Option<Rewinding>, Stop> {
    let mut tree = Tree { c, begun: BTreeMap::new(), found: Vec::new() };
    let goes = tree.go_back(evaluator, id)?;
    Ok(goes.then_some(tree.found))
}

/// The instances that may be rewound together.
struct Tree<'c> {
    c: &'c dyn Operated,
    /// The instances that were examined, and whether each can be rewound.
    begun: BTreeMap<Id, bool>,
    found: Rewinding,
}

impl Tree<'_> {
    /// Plans the rewind of an instance. Returns whether the instance can be rewound.
    fn go_back(&mut self, evaluator: &mut Evaluator<'_>, id: &Id) -> Result<bool, Stop> {
        if let Some(known) = self.begun.get(id) {
            return Ok(*known);
        }
        self.begun.insert(id.clone(), true);
        let before = self.found.len();
        let can = self.plan(evaluator, id)?;
        if !can {
            self.found.truncate(before);
            self.begun.insert(id.clone(), false);
        }
        Ok(can)
    }

    fn plan(&mut self, evaluator: &mut Evaluator<'_>, id: &Id) -> Result<bool, Stop> {
        let Some(me) = self.c.ended(id).filter(Instance::goes_back) else { return Ok(false) };
        if self.c.is_under_way(&Name::World, id) {
            return Ok(false);
        }
        // An instance that goes back with another goes on where it was, as if nobody had cancelled it.
        let undoes = self.begun.len() > 1;
        let Some(failed) = me.failed_steps(evaluator, id, undoes)? else { return Ok(false) };
        let mut back = Back { again: failed.all.clone(), answered: BTreeSet::new(), undoes };
        for (seq, target) in &failed.again {
            let Some(other) = self.c.ended(&target.id).filter(Instance::goes_back) else { continue };
            let may = other.has_failed() || target.is_called;
            match may && self.goes_with(evaluator, id, &target.id)? {
                true => _ = back.answered.insert(*seq),
                // If the other instance stays as it is, the request would fail again in the same
                // way. Then an error that ended this instance prevents the rewind, and any other
                // error stays.
                false if failed.fatal.contains(seq) => return Ok(false),
                false => _ = back.again.remove(seq),
            }
        }
        for (seq, target) in &failed.open {
            let Some(other) = self.c.ended(&target.id).filter(Instance::goes_back) else { continue };
            let is_child = other.parent.as_ref() == Some(&me.life_id(id)) && !target.is_detached;
            if evaluator.program.mutation == Mutation::ChildrenStayEnded || !(other.has_failed() || is_child)
            {
                continue;
            }
            match self.goes_with(evaluator, id, &target.id)? {
                true => _ = back.answered.insert(*seq),
                false if other.has_failed() => {}
                false => return Ok(false),
            }
        }
        let Some(turn) = instance::rewind(evaluator, id, &me, &back)? else { return Ok(false) };
        self.found.push((id.clone(), back, turn));
        Ok(true)
    }

    /// Whether another instance is rewound together with an instance that waits for it.
    fn goes_with(&mut self, evaluator: &mut Evaluator<'_>, id: &Id, other: &Id) -> Result<bool, Stop> {
        let name = |id: &Id| Name::Instance(id.clone());
        let is_under_way = self.c.is_under_way(&name(id), other) || self.c.is_under_way(&name(other), id);
        Ok(!is_under_way && self.go_back(evaluator, other)?)
    }
}
