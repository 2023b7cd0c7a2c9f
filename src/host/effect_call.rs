//! Calls of effects, their owners, and the answers to steps.

use crate::builtins::Effect;
use crate::engine::StepId;
use crate::machine::Data;
use crate::permissions::Permissions;

use super::EffectResult;

/// The owner of an effect, which waits for the result.
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
    /// The permissions of the process and of the owner together.
    pub permissions: Permissions,
}

/// An answer to a step, which the engine has to be told of.
#[must_use = "the engine waits for the answer"]
pub(super) struct Answered {
    pub step: StepId,
    pub result: EffectResult,
}
