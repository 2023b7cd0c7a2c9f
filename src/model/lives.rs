//! Lives: an id can be used again after a purge of its instance, and nothing of one life reaches
//! another.
//!
//! A purge removes a tree: an instance with everything that it called or started under automatic
//! ids, all the way down. A purge requires that everything in the tree has ended. An instance that
//! is still to begin counts as not ended.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use super::name::Id;
use super::program::{Mutation, Program};

/// The number of an id's life: how many lives there were before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub u32);

impl Life {
    /// Returns the next life.
    pub fn next(self) -> Life {
        Life(self.0 + 1)
    }
}

// The first life adds nothing to a hash. So a program that never uses an id again is hashed as if
// there were no lives.
impl Hash for Life {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.0 > 0 {
            (u64::MAX, self.0).hash(state);
        }
    }
}

/// An execution in a life of an instance. A message for another execution is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Execution {
    /// The number of times that the instance had begun anew.
    pub number: u32,
    pub life: Life,
}

/// An instance in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LifeId {
    pub id: Id,
    pub life: Life,
}

/// The instance that called or started another under an automatic id. The automatic id determines
/// the owner, so owners always compare as equal.
#[derive(Clone, Debug, Default)]
pub struct Owner(pub Option<Id>);

impl PartialEq for Owner {
    fn eq(&self, _: &Owner) -> bool {
        true
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The facts about an instance that a purge needs.
pub struct Member<'c> {
    pub id: &'c Id,
    pub owner: &'c Owner,
    /// Whether it has ended; false for an instance that is still to begin.
    pub has_ended: bool,
}

/// Returns the tree of an instance, or as an error the first member that has not ended. In `all`,
/// existing instances come before those that are still to begin.
pub fn tree(root: &Id, all: &[Member<'_>]) -> Result<Vec<Id>, Id> {
    let mut seen: BTreeSet<&Id> = BTreeSet::from([root]);
    let mut members = vec![root.clone()];
    let mut at = 0;
    while let Some(member) = members.get(at).cloned() {
        for one in all.iter().filter(|one| one.owner.0.as_ref() == Some(&member)) {
            if seen.insert(one.id) {
                members.push(one.id.clone());
            }
        }
        at += 1;
    }
    let runs = |id: &&Id| all.iter().find(|one| one.id == *id).is_some_and(|one| !one.has_ended);
    match members.iter().find(runs) {
        Some(running) => Err(running.clone()),
        None => Ok(members),
    }
}

/// Returns the life of an id after a purge.
pub fn next_life(program: &Program, life: Life) -> Life {
    match program.mutation {
        Mutation::NoLives => life,
        _ => life.next(),
    }
}

/// Returns the members of a tree that a purge removes: all of them, without a mutation.
pub fn purged<'t>(program: &Program, tree: &'t [Id]) -> &'t [Id] {
    match program.mutation {
        Mutation::PurgeLeavesChildren => &tree[..tree.len().min(1)],
        _ => tree,
    }
}
