//! Attempts that were given up: nobody waits for them any more, and what they do outside may still happen, once, at any time.
//!
//! Only those are kept that change what stands for the world. What an attempt computes goes nowhere, and what it sends
//! goes out with its recorded result, of which there will be none.

use std::rc::Rc;

use super::evaluate::Done;
use super::instance::Task;
use super::message::Id;
use super::part::Part;
use super::program::{Mutation, Program};

/// How many are kept at a time, at most: of a loop that gives up one after the other there would be no end.
pub const MOST: usize = 4;

/// An attempt that was given up, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orphan {
    pub instance: Id,
    pub task: Part<Task>,
}

/// An attempt is given up.
pub fn keep(orphans: &mut Vec<Part<Orphan>>, program: &Program, instance: &Id, task: Part<Task>) {
    let matters = program.is_of_the_world(&task.asked) && program.mutation != Mutation::NoOrphans;
    if matters && orphans.len() < MOST {
        orphans.push(Part::new(Orphan { instance: instance.clone(), task }));
        orphans.sort_by_key(Part::mark);
    }
}

/// The outcomes by which something changes, by their numbers.
pub fn effects(all: &Rc<Vec<Done>>) -> impl Iterator<Item = usize> {
    (0..all.len()).filter(|at| all[*at].world.is_some() && all[*at].state.is_some())
}

/// The one of that mark, taken out.
pub fn take(orphans: &mut Vec<Part<Orphan>>, mark: u128) -> Option<Part<Orphan>> {
    let at = orphans.iter().position(|orphan| orphan.mark() == mark)?;
    Some(orphans.remove(at))
}

/// Each different one, once.
pub fn different(orphans: &[Part<Orphan>]) -> impl Iterator<Item = &Part<Orphan>> {
    orphans
        .iter()
        .enumerate()
        .filter(|(at, orphan)| *at == 0 || orphans[at - 1] != **orphan)
        .map(|(_, orphan)| orphan)
}
