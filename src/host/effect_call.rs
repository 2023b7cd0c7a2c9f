//! Effects as they are asked for: what, by whom, and what they come to.

use crate::builtins::Effect;
use crate::engine::StepId;
use crate::machine::Data;
use crate::permissions::Permissions;

use super::Outcome;

/// Whoever waits for an effect.
pub(super) enum Owner {
    Step(StepId),
    /// An activity under way, by its ticket.
    Activity(u64),
}

/// A call of an effect.
pub(super) struct EffectCall {
    pub owner: Owner,
    pub effect: Effect,
    pub args: Data,
    /// What may be done outside: the permissions of this process and of the owner.
    pub permissions: Permissions,
}

/// An answer to a step, for the engine.
#[must_use = "the engine waits for it"]
pub(super) struct Answered {
    pub step: StepId,
    pub result: Outcome,
}
