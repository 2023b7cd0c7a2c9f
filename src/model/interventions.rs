//! What an operator may do in one run, and what it does.

use super::name::Id;

/// How often the operator intervenes in one run, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interventions {
    /// An instance that has ended is purged with its tree. The main instance begins again after that.
    pub purges: u32,
    /// An instance that has failed goes back, with the instances that it needs.
    pub rewinds: u32,
    /// An instance is held up; it is let go on at any time after.
    pub suspensions: u32,
}

impl Interventions {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Interventions::default()
    }

    /// One of those that are left is made.
    pub fn make(&mut self, intervention: &Intervention) {
        match intervention {
            Intervention::Suspend(_) => self.suspensions -= 1,
            Intervention::Purge(_) => self.purges -= 1,
            Intervention::Rewind(_) => self.rewinds -= 1,
            Intervention::Resume(_) => {}
            Intervention::Leave => *self = Interventions::default(),
        }
    }
}

/// What the operator does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Intervention {
    Suspend(Id),
    Resume(Id),
    Purge(Id),
    Rewind(Id),
    /// The operator does nothing more.
    Leave,
}

impl Intervention {
    /// For people.
    pub fn show(&self) -> (&str, &'static str) {
        match self {
            Intervention::Suspend(id) => (id, "is held up by the operator"),
            Intervention::Resume(id) => (id, "is let go on by the operator"),
            Intervention::Purge(id) => (id, "is purged by the operator"),
            Intervention::Rewind(id) => (id, "is rewound by the operator"),
            Intervention::Leave => ("the operator", "does nothing more"),
        }
    }
}
