//! Schedules for people: the steps and the changes that they make.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::machine::format;
use crate::model::message::describe;
use crate::model::observe::{wrong_at_rest, wrong_now};
use crate::model::{Evaluator, Model, Program, Seen, Shown, Stop};

/// A saved schedule.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The hash of the program, in hex.
    pub program: String,
    pub model: String,
    /// The name of the test; `None` for the script.
    pub test: Option<String>,
    pub crashes: u32,
    pub slow: u32,
    pub duplicates: u32,
    pub steps: Vec<String>,
    /// The number of steps at the end that lead back to where they began.
    #[serde(default)]
    pub turns: usize,
}

/// A step and its changes.
pub struct Line {
    pub shown: Shown,
    pub changes: Vec<String>,
}

/// Returns the name of a step in saved schedules.
pub fn name(step: &impl Debug) -> String {
    format!("{step:?}")
}

/// Returns the steps along configurations with these hashes, and the last configuration.
pub fn follow<M: Model>(
    model: &M,
    evaluator: &mut Evaluator<'_>,
    mut config: M::Config,
    hashes: impl IntoIterator<Item = u128>,
) -> Result<(Vec<M::Step>, M::Config), Stop> {
    let mut steps = Vec::new();
    for hash in hashes {
        let mut taken = None;
        for step in model.enabled(evaluator, &config)? {
            let next = model.apply(evaluator, &config, &step)?;
            if model.fingerprint(&next) == hash {
                taken = Some((step, next));
                break;
            }
        }
        let (step, next) = taken.ok_or_else(|| Stop::Fault("a schedule with a gap".into()))?;
        steps.push(step);
        config = next;
    }
    Ok((steps, config))
}

/// Returns the visible parts of a configuration: the states of entities, and the requests or the
/// outcomes of instances.
fn states(seen: &Seen<'_>) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for (id, entity) in &seen.entities {
        let mut text = match &entity.state {
            Some(state) => format::write(&state.decode(), 200).0,
            None => "as at first".to_string(),
        };
        if let Some(holder) = &entity.holder {
            text.push_str(&format!(", held by {}", holder.instance));
        }
        if entity.state.is_some() || entity.holder.is_some() {
            states.insert(id.to_string(), text);
        }
    }
    for (id, stand) in &seen.instances {
        let text = match stand.ended {
            Some((outcome, _)) => outcome.to_string(),
            None => {
                let waits: Vec<String> = stand.waits.iter().map(|asked| describe(asked)).collect();
                format!("waits for {}", waits.join(", "))
            }
        };
        states.insert(id.to_string(), text);
    }
    states
}

/// Takes a schedule and calls `each` for every step, until `each` returns false or a step is not
/// possible. The last `turns` steps are those of a cycle.
pub fn tell<M: Model>(
    model: &M,
    program: &Program,
    schedule: &[String],
    turns: usize,
    each: &mut dyn FnMut(usize, &Line) -> bool,
) -> Result<Told, Stop> {
    let mut evaluator = Evaluator::new(program)?;
    let mut config = model.initial(&mut evaluator)?;
    let mut turn = None;
    for (number, wanted) in schedule.iter().enumerate() {
        if turns > 0 && number + turns == schedule.len() {
            turn = Some(model.fingerprint(&config));
        }
        let steps = model.enabled(&mut evaluator, &config)?;
        let Some(step) = steps.iter().find(|step| name(step) == *wanted) else {
            let states = states(&model.seen(&config));
            return Ok(Told { states, taken: number, violation: None, turned: false });
        };
        let shown = model.show(&mut evaluator, &config, step);
        let next = model.apply(&mut evaluator, &config, step)?;
        let (before, after) = (states(&model.seen(&config)), states(&model.seen(&next)));
        let changed = after.iter().filter(|(name, text)| before.get(*name) != Some(text));
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        let changes = changed
            .map(|(name, text)| format!("{name} {text}"))
            .chain(gone.map(|name| format!("{name} is free")));
        let line = Line { shown, changes: changes.collect() };
        config = next;
        if !each(number + 1, &line) {
            break;
        }
    }
    let seen = model.seen(&config);
    let violation = match wrong_now(model, &mut evaluator, &config)? {
        Some(violation) => Some(violation),
        None if model.enabled(&mut evaluator, &config)?.is_empty() => {
            wrong_at_rest(model, &mut evaluator, &config)?
        }
        None => None,
    };
    let turned = turn == Some(model.fingerprint(&config));
    Ok(Told { states: states(&seen), taken: schedule.len(), violation, turned })
}

/// The result of taking a schedule.
pub struct Told {
    /// The state of each participant at the end.
    pub states: BTreeMap<String, String>,
    /// The number of steps that were possible.
    pub taken: usize,
    pub violation: Option<crate::model::Violation>,
    /// Whether the steps of the cycle led back to where they began.
    pub turned: bool,
}
