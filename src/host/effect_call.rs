//! Calls of effects, their owners, and the answers to steps.

use crate::builtins::Effect;
use crate::engine::StepId;
use crate::machine::Data;
use crate::permissions::Permissions;

use super::Outcome;

/// The one who waits for an effect.
pub(super) enum Owner {
    Step(StepId),
    /// A running activity, by its ticket.
    Activity(u64),
}

/// A call of an effect.
pub(super) struct EffectCall {
    pub owner: Owner,
    pub effect: Effect,
    pub args: Data,
    /// What the effect may do outside: the permissions of the process and of the owner together.
    pub permissions: Permissions,
}

/// An answer to a step, which the engine has to be told of.
#[must_use = "the engine waits for the answer"]
pub(super) struct Answered {
    pub step: StepId,
    pub result: Outcome,
}
