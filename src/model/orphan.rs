//! Attempts that were given up. Nobody waits for them any more, and their effects outside may still
//! happen, once, at any time.
//!
//! Only attempts that change entities of the world are kept. The result of such an attempt goes
//! nowhere. Its messages would leave with its recorded result, which will never exist.

use std::rc::Rc;

use super::evaluate::Done;
use super::instance::Task;
use super::message::Id;
use super::part::Part;
use super::program::{Mutation, Program};

/// The most orphans at a time. Without this limit, a loop that gives up one attempt after another
/// would have no end.
pub const MOST: usize = 4;

/// An attempt that was given up, and the instance that gave it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orphan {
    pub instance: Id,
    pub task: Part<Task>,
}

/// Keeps an attempt that is given up, if its effects matter.
pub fn keep(orphans: &mut Vec<Part<Orphan>>, program: &Program, instance: &Id, task: Part<Task>) {
    let matters = program.is_of_the_world(&task.asked) && program.mutation != Mutation::NoOrphans;
    if matters && orphans.len() < MOST {
        orphans.push(Part::new(Orphan { instance: instance.clone(), task }));
        orphans.sort_by_key(Part::mark);
    }
}

/// Returns the numbers of the outcomes that change something.
pub fn effects(all: &Rc<Vec<Done>>) -> impl Iterator<Item = usize> {
    (0..all.len()).filter(|at| all[*at].world.is_some() && all[*at].state.is_some())
}

/// Removes and returns the orphan with this mark.
pub fn take(orphans: &mut Vec<Part<Orphan>>, mark: u128) -> Option<Part<Orphan>> {
    let at = orphans.iter().position(|orphan| orphan.mark() == mark)?;
    Some(orphans.remove(at))
}

/// Returns each distinct orphan once.
pub fn different(orphans: &[Part<Orphan>]) -> impl Iterator<Item = &Part<Orphan>> {
    orphans
        .iter()
        .enumerate()
        .filter(|(at, orphan)| *at == 0 || orphans[at - 1] != **orphan)
        .map(|(_, orphan)| orphan)
}
