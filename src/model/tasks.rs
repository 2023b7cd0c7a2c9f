//! The outcomes of tasks in flight.

use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Data, EntityId, ErrorData, RequestKind, Value};

use super::evaluate::{Chooser, Done, Evaluator, Moment, Stop};
use super::instance::Task;
use super::message::{Answer, answer, shown};
use super::part::Part;
use super::view::View;

/// Returns the possible outcomes of a task. A mock that is an operation runs on the state of its
/// entity.
pub fn outcomes(
    evaluator: &mut Evaluator<'_>,
    task: &Task,
    now: &Moment,
    view: &dyn View,
    state: &dyn Fn(&EntityId) -> Option<Part<Data>>,
) -> Result<Rc<Vec<Done>>, Stop> {
    if task.asked.what == RequestKind::Effect(Effect::Status) {
        return Ok(Rc::new(vec![Done::of(Some(status(&task.asked.args, view)))]));
    }
    let all = evaluator.perform(&task.asked, &task.key, task.attempt, now, view)?;
    if all.iter().all(|done| done.world.is_none()) {
        return Ok(all);
    }
    let mut outcomes = Vec::new();
    for done in all.iter() {
        let Some((entity, operation)) = &done.world else {
            outcomes.push(done.clone());
            continue;
        };
        let state = state(entity);
        let args = evaluator.fitting(entity, operation, &task.asked.args);
        let now = &Moment { turns: done.turns.clone(), clock: now.clock.clone() };
        let ran = evaluator.operate(entity, operation, &args, state.as_ref(), &task.key, now)?;
        for one in ran.iter() {
            outcomes.push(done.clone().then(one.clone()));
        }
    }
    Ok(Rc::new(outcomes))
}

/// Returns the outcome of a task for one choice of the environment.
pub fn outcome(
    evaluator: &mut Evaluator<'_>,
    task: &Task,
    now: &Moment,
    view: &dyn View,
    state: &dyn Fn(&EntityId) -> Option<Part<Data>>,
    chooser: &mut dyn Chooser,
) -> Result<Done, Stop> {
    if task.asked.what == RequestKind::Effect(Effect::Status) {
        return Ok(Done::of(Some(status(&task.asked.args, view))));
    }
    let done = evaluator.perform_once(&task.asked, &task.key, task.attempt, now, view, chooser)?;
    let Some((entity, operation)) = &done.world else { return Ok(done) };
    let args = evaluator.fitting(entity, operation, &task.asked.args);
    let ran = evaluator.operate(entity, operation, &args, state(entity).as_ref(), &task.key, now)?;
    let one = ran.first().cloned().ok_or_else(|| Stop::Fault("an operation without an outcome".into()))?;
    Ok(done.then(one))
}

/// Returns the answer to `status`.
fn status(args: &Data, view: &dyn View) -> Answer {
    let target = args.items().first().map(crate::machine::format::display).unwrap_or_default();
    match view.outcome(&target) {
        Value::Record(record) => {
            let field = |name: &str| record.get_str(name).cloned().unwrap_or(Value::Null);
            let value = Value::record([
                ("id", Value::str(target.as_str())),
                ("function", field("function")),
                ("status", field("status")),
                ("custom", field("custom")),
            ]);
            answer(Ok(Data::encode(&value).unwrap_or_else(|_| Data::null())))
        }
        _ => answer(Err(ErrorData::with(
            "unknown_instance",
            format!("there is no instance `{target}`"),
            [("id", Value::str(target.as_str()))],
        ))),
    }
}

/// Describes an outcome for people.
pub fn gives(done: &Done) -> String {
    match &done.result {
        None => " is never done".to_string(),
        Some(result) => match &**result {
            Ok(value) if *value == Data::null() && done.choice.is_none() => String::new(),
            Ok(value) => format!(" gives {}", shown(value)),
            Err(error) => format!(" fails: {}", error.title()),
        },
    }
}
