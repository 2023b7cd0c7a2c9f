//! A schedule for people: what happens step by step, and what each step changes.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::machine::format;
use crate::model::message::describe;
use crate::model::observe::{wrong_at_rest, wrong_now};
use crate::model::{Evaluator, Model, Program, Seen, Shown, Stop};

/// A schedule as it is saved.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The hash of the program, as hex.
    pub program: String,
    pub model: String,
    /// The test; the script when there is none.
    pub test: Option<String>,
    pub crashes: u32,
    pub slow: u32,
    pub duplicates: u32,
    pub steps: Vec<String>,
    /// How many of them, the last ones, lead back to where they began.
    #[serde(default)]
    pub turns: usize,
}

/// A step, and what it changes.
pub struct Line {
    pub shown: Shown,
    pub changes: Vec<String>,
}

/// The name of a step in a saved schedule.
pub fn name(step: &impl Debug) -> String {
    format!("{step:?}")
}

/// The steps that lead along configurations of these hashes, and the last configuration.
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

/// What of a configuration is shown: states of entities, and what instances wait for or have come to.
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

/// Takes a schedule, and tells what happens. `wanted` picks the next step among those that are possible; it answers
/// none at the end. The last `turns` steps are those of a round.
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

/// How the telling of a schedule ended.
pub struct Told {
    /// What every participant has come to.
    pub states: BTreeMap<String, String>,
    /// Steps that were possible.
    pub taken: usize,
    pub violation: Option<crate::model::Violation>,
    /// Whether the last steps have led back to where they began.
    pub turned: bool,
}
