//! The contexts in which each construct may be used: the table of effects and contexts.

use crate::builtins::{Context, Contexts};
use crate::syntax::{Diagnostic, Place};

use super::GlobalKind;

/// A construct of the table that is not a builtin.
#[derive(Clone, Copy, PartialEq)]
pub enum Construct {
    Async,
    Await,
    Lock,
    Start,
    Signal,
    EntityCall,
    Call(GlobalKind),
}

impl Construct {
    /// Returns the contexts in which the construct may be used.
    pub fn contexts(self) -> Contexts {
        match self {
            Construct::Async | Construct::Await | Construct::Lock => Contexts::ORCHESTRATION,
            Construct::EntityCall => Contexts::ACTIVE,
            Construct::Start | Construct::Signal | Construct::Call(GlobalKind::Activity) => {
                Contexts::EFFECTFUL
            }
            Construct::Call(GlobalKind::Orchestration) => Contexts::ORCHESTRATION,
            Construct::Call(_) => Contexts::ALL,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Construct::Async => "`async`",
            Construct::Await => "`await`",
            Construct::Lock => "`lock`",
            Construct::Start => "`start`",
            Construct::Signal => "`signal`",
            Construct::EntityCall => "calling an entity",
            Construct::Call(GlobalKind::Activity) => "calling an activity",
            Construct::Call(_) => "calling an orchestration",
        }
    }
}

/// Returns the error of a construct in a context where it may not be used.
pub fn construct_error(construct: Construct, context: Option<Context>, place: Place) -> Option<Diagnostic> {
    let context = context.filter(|context| !construct.contexts().allow(*context))?;
    Some(misplaced(construct.describe(), context, place, construct.contexts()))
}

/// Returns the error of a builtin in a context where it may not be used.
pub fn effect_error(
    name: &str,
    allowed: Contexts,
    context: Option<Context>,
    place: Place,
) -> Option<Diagnostic> {
    let context = context.filter(|context| !allowed.allow(*context))?;
    Some(misplaced(&format!("`{name}`"), context, place, allowed))
}

fn misplaced(what: &str, context: Context, place: Place, allowed: Contexts) -> Diagnostic {
    let hint = match context {
        _ if allowed == Contexts::TRIAL => "call an operation that gives its state",
        Context::Pure => "compute it in the script or in a function instead",
        Context::Trial if what == "calling an entity" => "look at its state: `state_of(Entity(key))`",
        Context::Trial => "do it in the test, and look at the states that it leaves",
        Context::Activity if allowed == Contexts::ORCHESTRATION => {
            "let the orchestration do it, and give the activity what it needs as an argument"
        }
        _ => "let an orchestration do it",
    };
    let reason = match context {
        Context::Pure => {
            "a `const` and an initial state are evaluated when the program is loaded, without effects"
        }
        Context::Activity => "an activity runs away from its instance, perhaps more than once",
        Context::Operation => "an operation runs to its end without waiting",
        Context::Trial => {
            "a mock and a property only compute, from arguments and from the states of entities"
        }
        Context::Orchestration if allowed == Contexts::TRIAL => {
            "only a test, a property or a mock looks into others"
        }
        Context::Orchestration => "only an activity or an operation can do this",
    };
    Diagnostic::error(format!("{what} is not allowed in {}", context.describe()), place, "not here")
        .because(reason)
        .hint(hint)
}
