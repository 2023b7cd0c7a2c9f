//! Tests, mocks and properties.

use crate::check::Mocked;
use crate::core::{self, Item, Variables};

use super::super::{FunctionId, Mock, Outcome, Property, Test, Trials};
use super::{Target, Unit};

impl Unit<'_> {
    /// Compiles a test, or the mocks and properties of a file.
    pub(super) fn tried_out(&mut self, item: &Item, variables: &Variables) {
        match item {
            Item::Test { name, body, trials } => {
                let function = self.whole(body, variables);
                let trials = self.trials(trials, variables);
                self.code.tests.push(Test { name: name.clone(), function, trials });
            }
            Item::Trials(trials) => {
                let trials = self.trials(trials, variables);
                self.code.trials.mocks.extend(trials.mocks);
                self.code.trials.properties.extend(trials.properties);
            }
            _ => {}
        }
    }

    fn whole(&mut self, f: &core::Function, variables: &Variables) -> FunctionId {
        let id = self.reserve();
        self.top(f, id, variables);
        id
    }

    fn trials(&mut self, trials: &core::Trials, variables: &Variables) -> Trials {
        let mocks = trials.mocks.iter().filter_map(|mock| {
            let (target, is_activity) = match mock.target {
                Mocked::Effect(effect) => (effect.name().to_string(), false),
                Mocked::Activity(global) => match self.globals.get(&global)? {
                    Target::Isolated(at) => (self.code.isolated[*at].name.clone(), true),
                    _ => return None,
                },
            };
            let outcomes = mock.outcomes.iter().map(|outcome| match outcome {
                core::Outcome::Function(f) => Outcome::Function(self.whole(f, variables)),
                core::Outcome::Operation(f, name) => {
                    Outcome::Operation(self.whole(f, variables), name.clone())
                }
                core::Outcome::Never => Outcome::Never,
            });
            let outcomes = outcomes.collect();
            let core::Mock { in_turn, within, place, .. } = *mock;
            Some(Mock { target, is_activity, in_turn, outcomes, within, place })
        });
        let mocks = mocks.collect();
        let property = |property: &core::Property| Property {
            kind: property.kind,
            name: property.name.clone(),
            function: self.whole(&property.body, variables),
            place: property.place,
        };
        Trials { mocks, properties: trials.properties.iter().map(property).collect() }
    }
}
