//! The JSON forms of the management API of Azure Durable Functions.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use crate::archive::forms;
use crate::engine::{Entry, History, InstanceRecord, Lifecycle, RecordedRequest, Status};
use crate::machine::{Value, error, format};

/// Returns the name of a status.
pub fn status(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Scheduled => "Pending",
        Lifecycle::Running => "Running",
        Lifecycle::Suspended => "Suspended",
        Lifecycle::Completed => "Completed",
        Lifecycle::Failed => "Failed",
        Lifecycle::Terminated => "Terminated",
    }
}

/// Returns the lifecycle of a status. `None` within means that no instance here has the status.
pub fn lifecycle(word: &str) -> Option<Option<Lifecycle>> {
    let known = [
        ("running", Some(Lifecycle::Running)),
        ("suspended", Some(Lifecycle::Suspended)),
        ("completed", Some(Lifecycle::Completed)),
        ("failed", Some(Lifecycle::Failed)),
        ("terminated", Some(Lifecycle::Terminated)),
        ("pending", Some(Lifecycle::Scheduled)),
        ("canceled", None),
        ("continuedasnew", None),
    ];
    known.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, lifecycle)| lifecycle)
}

/// What a client wants to see of an instance.
#[derive(Clone, Copy)]
pub struct Shown {
    pub input: bool,
    pub output_of_history: bool,
}

/// Returns the form of an instance.
pub fn instance(record: &InstanceRecord, history: Option<&History>, shown: Shown) -> Json {
    let output = match &record.status {
        Status::Completed(value) => forms::data(value),
        Status::Failed(failure) => json!(error::title(&failure.value.decode())),
        Status::Terminated(why) => forms::data(why),
        Status::Running | Status::Suspended | Status::Scheduled { .. } => Json::Null,
    };
    let last = history.and_then(|history| history.entries.last()).map(Entry::time);
    let updated = record.ended.or(last).unwrap_or(record.created);
    json!({
        "name": record.function,
        "instanceId": record.id,
        "runtimeStatus": status(record.status.lifecycle()),
        "input": if shown.input { input(record) } else { Json::Null },
        "customStatus": record.custom.as_ref().map(forms::data),
        "output": output,
        "createdTime": format::instant(record.created),
        "lastUpdatedTime": format::instant(updated),
        "historyEvents": history.map(|history| events(record, history, shown.output_of_history)),
    })
}

/// Returns the input of an instance: its only argument, null without one, and otherwise all of them.
fn input(record: &InstanceRecord) -> Json {
    let args = forms::data(record.first_args().unwrap_or(&record.args));
    match args {
        Json::Array(mut args) if args.len() < 2 => args.pop().unwrap_or_default(),
        args => args,
    }
}

/// Returns the events of a history.
fn events(record: &InstanceRecord, history: &History, output: bool) -> Vec<Json> {
    let mut events = vec![json!({
        "EventType": "ExecutionStarted", "FunctionName": record.function,
        "Timestamp": format::instant(record.created),
    })];
    let mut asked: HashMap<u64, (&RecordedRequest, i64)> = HashMap::new();
    for entry in &history.entries {
        match entry {
            Entry::Requested { seq, what, time, .. } => {
                asked.insert(*seq, (what, *time));
            }
            Entry::Answered { seq, result, time, .. } => {
                if let Some((what, from)) = asked.get(seq) {
                    events.push(answered(what, *from, result, *time, output));
                }
            }
            _ => {}
        }
    }
    if let Some(ended) = record.ended {
        events.push(json!({
            "EventType": "ExecutionCompleted", "OrchestrationStatus": status(record.status.lifecycle()),
            "Timestamp": format::instant(ended),
            "Result": match &record.status {
                Status::Completed(value) if output => forms::data(value),
                _ => Json::Null,
            },
        }));
    }
    events
}

fn answered(
    what: &RecordedRequest,
    from: i64,
    result: &Result<crate::machine::Data, crate::machine::ErrorData>,
    time: i64,
    output: bool,
) -> Json {
    let is_effect = |name: &str| matches!(what, RecordedRequest::Effect(effect) if effect == name);
    let kind = match what {
        RecordedRequest::Orchestration { .. } => "SubOrchestrationInstance",
        RecordedRequest::Effect(_) if is_effect("sleep") || is_effect("sleep_until") => {
            return json!({"EventType": "TimerFired", "FireAt": format::instant(time), "Timestamp": format::instant(time)});
        }
        RecordedRequest::Effect(_) if is_effect("receive") => {
            let payload = result.as_ref().ok().filter(|_| output).map(forms::data);
            return json!({"EventType": "EventRaised", "Name": what.shown(), "Input": payload, "Timestamp": format::instant(time)});
        }
        _ => "Task",
    };
    let mut event = json!({
        "EventType": format!("{kind}{}", if result.is_ok() { "Completed" } else { "Failed" }),
        "FunctionName": what.shown(), "ScheduledTime": format::instant(from), "Timestamp": format::instant(time),
    });
    match result {
        Ok(value) if output => event["Result"] = forms::data(value),
        Ok(_) => {}
        Err(failure) => {
            let value: Value = failure.value.decode();
            event["Reason"] = json!(error::title(&value));
        }
    }
    event
}
