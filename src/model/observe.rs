//! What can be seen of a configuration: by whom, and what is wrong with it.

use std::collections::BTreeMap;

use crate::machine::{Data, ErrorData, Value, format};
use crate::syntax::tree::PropertyKind;

use super::Model;
use super::entity::Entity;
use super::evaluate::{Evaluator, Stop};
use super::instance::{Anomaly, Instance, Outcome};
use super::message::{Asked, EntityName, Id, describe};

/// What can be observed of a finished run: the result of each instance with what it printed, and the state of each
/// entity.
pub type Observation = BTreeMap<String, String>;

/// How an instance stands.
#[derive(Clone, Debug)]
pub struct Stand<'c> {
    /// Its outcome, and whether somebody learned of it; none while it runs.
    pub ended: Option<(&'c Outcome, bool)>,
    pub suspended: bool,
    /// What it waits for.
    pub waits: Vec<&'c Asked>,
    pub printed: &'c [Data],
}

/// What can be seen of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Seen<'c> {
    pub instances: Vec<(&'c Id, Stand<'c>)>,
    pub entities: Vec<(&'c EntityName, &'c Entity)>,
}

/// Who waits, for what, and where in the text.
pub type Waits = Vec<(Id, String, Option<crate::syntax::Place>)>;

/// What a run does that it should not.
#[derive(Clone, Debug, PartialEq)]
pub enum Violation {
    /// The property of that number in the program.
    Property {
        at: usize,
        why: String,
    },
    Anomaly(Anomaly),
    /// An instance failed, and nobody who could handle it was told.
    Uncaught {
        id: Id,
        error: ErrorData,
    },
    /// These wait, and nobody will do what they wait for.
    Deadlock {
        waits: Waits,
    },
    /// An entity is held at the end.
    Leaked {
        entity: String,
        holder: Id,
    },
    /// From somewhere on the schedule goes round for ever, and a condition of the end never holds.
    Endless {
        at: usize,
    },
    /// From somewhere on the schedule goes round for ever, and the main instance never ends.
    NeverEnds {
        /// No other schedule leads to its end from there.
        stuck: bool,
        /// What it waits for there.
        waits: Waits,
    },
}

/// How an instance stands.
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

/// What `outcome_of` gives.
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
    /// What can be observed of a run that has come to rest.
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

    /// What is wrong now that all has come to rest.
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

/// What an instance waits for.
pub fn waits_of<M: Model>(model: &M, config: &M::Config, id: &Id) -> Waits {
    let seen = model.seen(config);
    let own = seen.instances.iter().find(|(known, _)| *known == id);
    let waits = own.map(|(_, stand)| stand.waits.clone()).unwrap_or_default();
    waits.iter().map(|asked| (id.clone(), describe(asked), Some(asked.place))).collect()
}

/// What is wrong with a configuration, whatever comes.
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

/// What is wrong with a configuration in which all has come to rest.
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

/// Whether the property of that number holds.
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

/// The first property of a kind that does not hold.
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
