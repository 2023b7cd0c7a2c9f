//! The visible part of a configuration, and the violations in it.

use std::collections::BTreeMap;

use crate::machine::{Data, ErrorData, Value, format};
use crate::syntax::tree::PropertyKind;

use super::Model;
use super::entity::Entity;
use super::evaluate::{Evaluator, Stop};
use super::instance::{Anomaly, Instance, Outcome};
use super::message::{Asked, EntityName, Id, describe};

/// The observable results of a finished run: the outcome of each instance with the lines that it
/// printed, and the state of each entity.
pub type Observation = BTreeMap<String, String>;

/// The visible state of an instance.
#[derive(Clone, Debug)]
pub struct Stand<'c> {
    /// The outcome, and whether anybody was told of it; `None` while the instance runs.
    pub ended: Option<(&'c Outcome, bool)>,
    pub suspended: bool,
    /// The open requests.
    pub waits: Vec<&'c Asked>,
    pub printed: &'c [Data],
}

/// The visible part of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Seen<'c> {
    pub instances: Vec<(&'c Id, Stand<'c>)>,
    pub entities: Vec<(&'c EntityName, &'c Entity)>,
}

/// Waiting instances, each with what it waits for and the place in the source.
pub type Waits = Vec<(Id, String, Option<crate::syntax::Place>)>;

/// A fault in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Violation {
    /// The property with this number does not hold.
    Property {
        at: usize,
        why: String,
    },
    Anomaly(Anomaly),
    /// An instance failed, and nobody who could handle the error was told.
    Uncaught {
        id: Id,
        error: ErrorData,
    },
    /// These instances wait for something that will never happen.
    Deadlock {
        waits: Waits,
    },
    /// An entity is still held at the end.
    Leaked {
        entity: String,
        holder: Id,
    },
    /// At some point the schedule begins to repeat for ever, and an `eventually` never holds.
    Endless {
        at: usize,
    },
    /// At some point the schedule begins to repeat for ever, and the main instance never ends.
    NeverEnds {
        /// Whether the end of the main instance has become unreachable.
        stuck: bool,
        /// The requests that the main instance waits for.
        waits: Waits,
    },
}

/// Returns the visible state of an instance.
pub fn stand<E>(instance: &Instance<E>) -> Stand<'_> {
    use super::instance::State;
    let ended = match &instance.state {
        State::Running(_) => None,
        State::Ended { outcome, told } => Some((outcome, *told)),
    };
    Stand {
        ended,
        suspended: instance.suspended,
        waits: instance.open.values().map(|open| &open.asked).collect(),
        printed: &instance.printed,
    }
}

/// Returns the result of `outcome_of`.
pub fn outcome<E>(id: &str, instance: &Instance<E>) -> Value {
    let mut fields = vec![
        ("status", Value::str(instance.word())),
        ("function", Value::str(&*instance.function)),
        ("custom", instance.custom.as_ref().map_or(Value::Null, Data::decode)),
    ];
    if let Some(result) = instance.result(id) {
        match &*result {
            Ok(value) => fields.push(("result", value.decode())),
            Err(error) => fields.push(("error", error.value.decode())),
        }
    }
    Value::record(fields)
}

impl Seen<'_> {
    /// Returns the observable results of a run that has come to rest.
    pub fn observe(&self) -> Observation {
        let mut observed = Observation::new();
        for (id, entity) in &self.entities {
            if let Some(state) = &entity.state {
                observed.insert(id.to_string(), format::display(&state.decode()));
            }
        }
        for (id, stand) in &self.instances {
            let outcome = match stand.ended {
                Some((Outcome::Completed(result), _)) => match &**result {
                    Ok(value) => format!("completed {}", format::display(&value.decode())),
                    Err(_) => String::new(),
                },
                Some((Outcome::Failed(result), _)) => match &**result {
                    Err(error) => format!("failed {}", error.title()),
                    Ok(_) => String::new(),
                },
                Some((Outcome::Terminated(why), _)) => {
                    format!("terminated {}", format::display(&why.decode()))
                }
                None if stand.suspended => "suspended".to_string(),
                None => "running".to_string(),
            };
            let printed: Vec<String> =
                stand.printed.iter().map(|args| format::display(&args.decode())).collect();
            observed.insert(id.to_string(), format!("{outcome}; printed {}", printed.join(", ")));
        }
        observed
    }

    /// Returns the violation in a run that has come to rest, if there is one.
    fn at_rest(&self) -> Option<Violation> {
        for (id, stand) in &self.instances {
            if let Some((Outcome::Failed(result), false)) = &stand.ended
                && let Err(error) = &**result
            {
                return Some(Violation::Uncaught { id: (*id).clone(), error: error.clone() });
            }
        }
        for (id, entity) in &self.entities {
            if let Some(holder) = &entity.holder {
                let owner = self.instances.iter().find(|(id, _)| **id == holder.instance);
                if owner.is_none_or(|(_, stand)| stand.ended.is_some()) {
                    let holder = holder.instance.clone();
                    return Some(Violation::Leaked { entity: id.to_string(), holder });
                }
            }
        }
        let mut waits = Vec::new();
        for (id, stand) in &self.instances {
            if stand.ended.is_some() {
                continue;
            }
            if stand.suspended {
                waits.push(((*id).clone(), "to be resumed".to_string(), None));
            }
            for asked in &stand.waits {
                waits.push(((*id).clone(), describe(asked), Some(asked.place)));
            }
        }
        (!waits.is_empty()).then_some(Violation::Deadlock { waits })
    }
}

/// Returns the requests that an instance waits for.
pub fn waits_of<M: Model>(model: &M, config: &M::Config, id: &Id) -> Waits {
    let seen = model.seen(config);
    let own = seen.instances.iter().find(|(known, _)| *known == id);
    let waits = own.map(|(_, stand)| stand.waits.clone()).unwrap_or_default();
    waits.iter().map(|asked| (id.clone(), describe(asked), Some(asked.place))).collect()
}

/// Returns the violation in a configuration, if one is certain whatever happens next.
pub fn wrong_now<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    config: &M::Config,
) -> Result<Option<Violation>, Stop> {
    match model.trouble(config).first() {
        Some(Anomaly::Broken { at, why }) => {
            return Ok(Some(Violation::Property { at: *at, why: why.clone() }));
        }
        Some(trouble) => return Ok(Some(Violation::Anomaly(trouble.clone()))),
        None => {}
    }
    let program = evaluator.program;
    if let Some(error) = model.failure(config, &program.main) {
        return Ok(Some(Violation::Uncaught { id: program.main.clone(), error }));
    }
    broken(model, evaluator, config, PropertyKind::Invariant)
}

/// Returns the violation in a configuration in which everything has come to rest, if there is one.
pub fn wrong_at_rest<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    config: &M::Config,
) -> Result<Option<Violation>, Stop> {
    match model.seen(config).at_rest() {
        Some(violation) => Ok(Some(violation)),
        None => broken(model, evaluator, config, PropertyKind::Eventually),
    }
}

/// Whether the property with this number holds.
pub fn holds_at<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    config: &M::Config,
    at: usize,
) -> Result<bool, Stop> {
    let program = evaluator.program;
    let visible = model.visible(config, program.facts.watches_instances);
    evaluator.holds(at, &program.properties[at], visible, config)
}

/// Returns the first property of a kind that does not hold, as a violation.
pub fn broken<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    config: &M::Config,
    kind: PropertyKind,
) -> Result<Option<Violation>, Stop> {
    let program = evaluator.program;
    if program.properties.iter().all(|property| property.kind != kind) {
        return Ok(None);
    }
    let visible = model.visible(config, program.facts.watches_instances);
    for (at, property) in program.properties.iter().enumerate() {
        if property.kind == kind && !evaluator.holds(at, property, visible, config)? {
            let why = evaluator.explain(property, config)?;
            return Ok(Some(Violation::Property { at, why }));
        }
    }
    Ok(None)
}
