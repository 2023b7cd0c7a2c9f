//! Lives: an id can be used again once its instance was purged, and nothing of one life reaches another.
//!
//! A purge removes a tree: an instance, and all that it called or started under automatic ids, all the way down. It is
//! possible when everything in the tree has ended, what is still to begin included.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use super::message::Id;
use super::program::{Mutation, Program};

/// Which of the lives of an id: how many there were before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub u32);

impl Life {
    /// The one after it.
    pub fn next(self) -> Life {
        Life(self.0 + 1)
    }
}

// The first life adds nothing: a program in which no id is used again is hashed as if there were no lives.
impl Hash for Life {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.0 > 0 {
            (u64::MAX, self.0).hash(state);
        }
    }
}

/// Which execution of which life of an instance. What is addressed to another is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Execution {
    /// How often the instance had begun anew.
    pub number: u32,
    pub life: Life,
}

/// An instance in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LifeId {
    pub id: Id,
    pub life: Life,
}

/// Who called or started an instance under an automatic id. That id says it, so it makes no difference of its own.
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

/// What a purge has to know of an instance.
pub struct Member<'c> {
    pub id: &'c Id,
    pub owner: &'c Owner,
    /// Not of one that is still to begin.
    pub has_ended: bool,
}

/// The tree of an instance; an error is the first of its members that has not ended. Instances that are there come before
/// those that are still to begin.
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

/// The life of an id after a purge.
pub fn next_life(program: &Program, life: Life) -> Life {
    match program.mutation {
        Mutation::NoLives => life,
        _ => life.next(),
    }
}

/// Those of a tree that a purge removes: all of them, without a mutation.
pub fn purged<'t>(program: &Program, tree: &'t [Id]) -> &'t [Id] {
    match program.mutation {
        Mutation::PurgeLeavesChildren => &tree[..tree.len().min(1)],
        _ => tree,
    }
}
