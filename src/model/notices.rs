//! Notices: what a program did while it was tested, so that a report can say what it never did.

use std::collections::{BTreeMap, BTreeSet};

use crate::builtins::Effect;
use crate::machine::coverage::Coverage;
use crate::machine::{Data, EntityId, Request, RequestKind, Value, format};
use crate::syntax::Place;

use super::view::View;

/// The notices about a program.
#[derive(Clone, Debug, Default)]
pub struct Notices {
    /// The names of events that were raised, and of those that were to be received, each with a
    /// place.
    pub raised: BTreeMap<String, Place>,
    pub received: BTreeMap<String, Place>,
    /// The mocks that were called, by place.
    pub mocks: BTreeSet<Place>,
    /// The objects that properties looked at, and whether each of them ever existed.
    pub looked: BTreeMap<(Place, String), bool>,
    pub executed: Coverage,
}

impl Notices {
    /// Notes a request.
    pub fn asks(&mut self, request: &Request) {
        let text = |at: usize| request.args.items().get(at).map(format::display).unwrap_or_default();
        match request.what {
            RequestKind::Effect(Effect::Raise) => {
                self.raised.entry(text(1)).or_insert(request.place);
            }
            RequestKind::Effect(Effect::Receive) => {
                self.received.entry(text(0)).or_insert(request.place);
            }
            _ => {}
        }
    }

    /// Notes that a property looks at a configuration.
    pub fn introspects(&mut self, property: Place, what: &RequestKind, args: &Data, view: &dyn View) {
        let RequestKind::Effect(effect) = what else { return };
        let (at, there) = match (*effect, args.items().first()) {
            (Effect::StateOf, Some(Value::Entity(entity))) => match EntityId::of(entity) {
                Ok(entity) => (entity.to_string(), view.state(&entity).is_some()),
                Err(_) => return,
            },
            (Effect::StatesOf, Some(Value::Str(kind))) => {
                (format!("all of {}", kind.as_str()), !view.states(kind.as_str()).is_empty())
            }
            (Effect::OutcomeOf, Some(Value::Str(id))) => {
                (format!("the instance {}", id.as_str()), !matches!(view.outcome(id.as_str()), Value::Null))
            }
            _ => return,
        };
        *self.looked.entry((property, at)).or_default() |= there;
    }

    /// Adds the notices of another evaluator.
    pub fn add(&mut self, other: Notices) {
        for (name, place) in other.raised {
            self.raised.entry(name).or_insert(place);
        }
        for (name, place) in other.received {
            self.received.entry(name).or_insert(place);
        }
        self.mocks.extend(other.mocks);
        for (at, there) in other.looked {
            *self.looked.entry(at).or_default() |= there;
        }
        self.executed.add(other.executed);
    }
}
