//! The interventions that an operator may make in one run.

use super::name::Id;

/// The most interventions of each kind in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interventions {
    /// Purges of ended instances with their trees. The main instance begins again after its purge.
    pub purges: u32,
    /// Rewinds of failed instances, together with those that they need.
    pub rewinds: u32,
    /// Suspensions of instances. Each instance may be resumed at any time after.
    pub suspensions: u32,
    /// Cancellations of instances.
    pub cancellations: u32,
}

impl Interventions {
    /// Whether no interventions are left.
    pub fn is_none(&self) -> bool {
        *self == Interventions::default()
    }

    /// Counts an intervention as made.
    pub fn make(&mut self, intervention: &Intervention) {
        match intervention {
            Intervention::Suspend(_) => self.suspensions -= 1,
            Intervention::Cancel(_) => self.cancellations -= 1,
            Intervention::Purge(_) => self.purges -= 1,
            Intervention::Rewind(_) => self.rewinds -= 1,
            Intervention::Resume(_) => {}
            Intervention::Leave => *self = Interventions::default(),
        }
    }
}

/// An intervention of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Intervention {
    Suspend(Id),
    Resume(Id),
    Cancel(Id),
    Purge(Id),
    Rewind(Id),
    /// The operator does nothing more.
    Leave,
}

impl Intervention {
    /// Returns who is concerned and what happens, for people.
    pub fn show(&self) -> (&str, &'static str) {
        match self {
            Intervention::Suspend(id) => (id, "is held up by the operator"),
            Intervention::Resume(id) => (id, "is let go on by the operator"),
            Intervention::Cancel(id) => (id, "is cancelled by the operator"),
            Intervention::Purge(id) => (id, "is purged by the operator"),
            Intervention::Rewind(id) => (id, "is rewound by the operator"),
            Intervention::Leave => ("the operator", "does nothing more"),
        }
    }
}
