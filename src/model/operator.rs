//! The operator: somebody outside who holds instances up and lets them go on, purges what has ended, and rewinds what
//! has failed.
//!
//! What an operator may do in one run is bounded, as faults are; by default it is nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::evaluate::{Eval, Evaluator, Stop};
use super::instance::{self, Back, Instance, State, Turn};
use super::interventions::{Intervention, Interventions};
use super::message::{Id, Name};
use super::program::Mutation;

/// What the operator may do to an instance, when no command is on its way to it. Whether a purge is possible depends on
/// its tree as well.
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
        (!is_running && left.purges > 0, Intervention::Purge(id.clone())),
        (instance.has_failed() && left.rewinds > 0, Intervention::Rewind(id.clone())),
    ];
    all.into_iter().filter_map(|(may, intervention)| may.then_some(intervention)).collect()
}

/// What the operator looks at.
pub trait Operated {
    /// The tree of an instance, if all of it has ended; an error is the one in it that has not.
    fn tree(&self, root: &Id) -> Result<Vec<Id>, Id>;

    /// An instance as it has ended.
    fn ended(&self, id: &Id) -> Option<Instance<Eval>>;

    /// Whether a message is under way from one to another.
    fn is_under_way(&self, from: &Name, to: &Id) -> bool;
}

/// Those of the commands that can be obeyed.
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

/// Instances that go back together, each with what goes back of it and what comes of that.
pub type Rewinding = Vec<(Id, Back, Turn)>;

/// **rewind**: a failed instance goes back with those that it needs: those by whose errors it failed, the children that
/// ended because it did, and the failed ones that it still waits for. None if it can't, or not before what is under way
/// between them, or from the world, has come.
pub fn rewinding(
    evaluator: &mut Evaluator<'_>,
    c: &dyn Operated,
    id: &Id,
) -> Result<Option<Rewinding>, Stop> {
    let mut tree = Tree { c, begun: BTreeMap::new(), found: Vec::new() };
    let goes = tree.go_back(evaluator, id)?;
    Ok(goes.then_some(tree.found))
}

/// Instances that may go back together.
struct Tree<'c> {
    c: &'c dyn Operated,
    /// Those that were looked at, and whether they can.
    begun: BTreeMap<Id, bool>,
    found: Rewinding,
}

impl Tree<'_> {
    /// Whether an instance can go back, and then it does.
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
        let Some(failed) = me.failed_steps(evaluator, id)? else { return Ok(false) };
        let mut back = Back { again: failed.all.clone(), answered: BTreeSet::new() };
        for (seq, target) in &failed.again {
            let Some(other) = self.c.ended(&target.id).filter(Instance::goes_back) else { continue };
            let may = other.has_failed() || target.is_called;
            match may && self.goes_with(evaluator, id, &target.id)? {
                true => _ = back.answered.insert(*seq),
                // What others failed by as well is asked again; it alone would fail in the same way.
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

    /// Whether another goes back with an instance that waits for it.
    fn goes_with(&mut self, evaluator: &mut Evaluator<'_>, id: &Id, other: &Id) -> Result<bool, Stop> {
        let name = |id: &Id| Name::Instance(id.clone());
        let is_under_way = self.c.is_under_way(&name(id), other) || self.c.is_under_way(&name(other), id);
        Ok(!is_under_way && self.go_back(evaluator, other)?)
    }
}
