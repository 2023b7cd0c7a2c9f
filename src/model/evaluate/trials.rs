//! Mocks and properties: functions that compute and look at a configuration.

use crate::builtins::{Context, Effect};
use crate::code::{FunctionId, Property};
use crate::machine::{Data, EntityId, ErrorData, Identity, Machine, Progress, RequestKind, Value};

use super::super::message::shown;
use super::super::view::View;
use super::{Evaluator, FUEL, REMEMBERED, Stop, data};

impl Evaluator<'_> {
    /// Returns the value or the error of a function of a mock or a property.
    pub(super) fn value(
        &mut self,
        function: FunctionId,
        args: Vec<Value>,
        view: &dyn View,
    ) -> Result<Result<Value, ErrorData>, Stop> {
        let required = usize::from(self.image.code.functions[function as usize].required);
        if args.len() < required {
            let message = format!("the mock takes {required} arguments, and the call gives {}", args.len());
            return Ok(Err(ErrorData::new("mock", message)));
        }
        let mut machine =
            Machine::new(self.image.clone(), Context::Trial, function, args, Identity::default());
        machine.keep_value();
        loop {
            match machine.run_and_note(FUEL) {
                Progress::OutOfFuel => return Err(Stop::Endless),
                Progress::Done(Ok(_)) => return Ok(Ok(machine.take_value())),
                Progress::Done(Err(error)) => return Ok(Err(error)),
                Progress::Waiting => {
                    for request in machine.take_requests() {
                        if let Some(property) = self.looking {
                            self.notices.introspects(property, &request.what, &request.args, view);
                        }
                        machine.answer(request.seq, Ok(self.look(&request.what, &request.args, view)));
                    }
                }
            }
        }
    }

    /// Returns the result of a look at a configuration by a test, a property or a mock.
    pub fn look(&self, what: &RequestKind, args: &Data, view: &dyn View) -> Data {
        let value = match (what, args.items().first()) {
            (RequestKind::Effect(Effect::StateOf), Some(Value::Entity(entity))) => match EntityId::of(entity)
            {
                Ok(entity) => match view.state(&entity) {
                    Some(state) => state.decode(),
                    None => self.initial(&entity.name),
                },
                Err(_) => Value::Null,
            },
            (RequestKind::Effect(Effect::StatesOf), Some(Value::Str(kind))) => {
                let entry = |(key, state): (Data, Data)| {
                    Value::record([("key", key.decode()), ("state", state.decode())])
                };
                Value::list(view.states(kind.as_str()).into_iter().map(entry).collect())
            }
            (RequestKind::Effect(Effect::OutcomeOf), Some(Value::Str(id))) => view.outcome(id.as_str()),
            _ => Value::Null,
        };
        Data::encode(&value).unwrap_or_else(|_| Data::null())
    }

    fn initial(&self, entity: &str) -> Value {
        let initial = self.image.code.find_entity(entity).and_then(|entity| entity.initial);
        initial.map_or(Value::Null, |at| self.image.globals.borrow()[at].clone())
    }

    /// Whether a property holds. A property that throws or does not return a bool does not hold.
    pub fn holds(
        &mut self,
        at: usize,
        property: &Property,
        seen: u128,
        view: &dyn View,
    ) -> Result<bool, Stop> {
        if let Some(known) = self.properties.get(&(at, seen)) {
            return Ok(*known);
        }
        self.looking = Some(property.place);
        let value = self.value(property.function, Vec::new(), view);
        self.looking = None;
        let value = value?;
        let holds = matches!(value, Ok(Value::Bool(outcome)) if outcome.get());
        if self.properties.len() >= REMEMBERED {
            self.properties.clear();
        }
        self.properties.insert((at, seen), holds);
        Ok(holds)
    }

    /// Describes the result of a property that does not hold, for people.
    pub fn explain(&mut self, property: &Property, view: &dyn View) -> Result<String, Stop> {
        Ok(match self.value(property.function, Vec::new(), view)? {
            Ok(Value::Bool(outcome)) if !outcome.get() => "it is false".to_string(),
            Ok(other) => format!("it gives {}, not a bool", shown(&data(&other))),
            Err(error) => format!("it throws {}", error.title()),
        })
    }
}
