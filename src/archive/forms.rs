//! The JSON forms of instances, entries of histories, messages, lines and values.
//!
//! Exports and commands with `--json` share these forms. The forms are stable: fields may be added.

use serde_json::{Value as Json, json};

use crate::engine::query::{EntityView, OperationView, Printed, PrintedLine};
use crate::engine::{
    Args, Entry, InstanceRecord, KeptOperation, Line, Message, RecordedRequest, Status, Steps, StoredMail,
};
use crate::machine::{Cancellation, Data, EntityId, ErrorData, Value, format, json as values};
use crate::syntax::Place;

/// Returns the lossless form of data.
pub fn data(data: &Data) -> Json {
    serde_json::from_str(&values::from_data(data)).unwrap_or_default()
}

pub(super) fn error(error: &ErrorData) -> Json {
    json!({"value": data(&error.value), "trace": error.trace})
}

fn place(place: Place) -> Json {
    json!([place.source, place.span.start, place.span.end])
}

/// Returns the form of an instance's record.
pub fn instance(record: &InstanceRecord) -> Json {
    let mut out = json!({
        "type": "instance",
        "id": record.id,
        "life": record.life,
        "status": record.status.word(),
        "file": record.file,
        "program": hex::encode(record.program.0),
        "function": record.function,
        "args": data(&record.args),
        "begun_with": record.begun_with.as_ref().map(data),
        "created": format::instant(record.created),
        "ended": record.ended.map(format::instant),
        "parent": record.parent.as_ref().map(|parent| &parent.id),
        "parent_life": record.parent.as_ref().map(|parent| parent.life),
        "owner": record.owner,
        "root": record.root,
        "execution": record.execution,
        "attempt": record.attempt,
        "custom": record.custom.as_ref().map(data),
        "waiters": record.waiters,
        "rewound": record.rewound,
        "first": record.first,
        "chunks": record.chunks,
        "permissions": record.permissions,
    });
    match &record.status {
        Status::Running | Status::Suspended => {}
        Status::Scheduled { due, .. } => out["begins"] = json!(format::instant(*due)),
        Status::Terminated(why) => out["why"] = data(why),
        Status::Completed(value) => out["result"] = data(value),
        Status::Failed(failure) => out["error"] = error(failure),
    }
    out
}

/// Returns the form of an entry of a history.
pub fn entry(entry: &Entry) -> Json {
    let mut out = match entry {
        Entry::Requested { seq, what, args, place: at, .. } => {
            let args = match args {
                Args::Whole(args) => data(args),
                Args::Large { bytes, checksum } => {
                    json!({"bytes": bytes, "checksum": format!("{checksum:032x}")})
                }
            };
            let mut out = json!({"kind": "requested", "seq": seq, "args": args, "place": place(*at)});
            out[what.kind()] = json!(what.name());
            match what {
                RecordedRequest::Orchestration { .. } => out["orchestration"] = json!(true),
                RecordedRequest::Operation { entity, signal, .. } => {
                    out["entity"] = data(&reference(entity));
                    if let Some(after) = signal {
                        out["after"] = data(after);
                    }
                }
                _ => {}
            }
            out
        }
        Entry::Answered { seq, result, came, .. } => {
            let mut out = match result {
                Ok(value) => json!({"kind": "answered", "seq": seq, "value": data(value)}),
                Err(failure) => json!({"kind": "answered", "seq": seq, "error": error(failure)}),
            };
            if let Some(came) = came {
                out["came"] = json!(format::instant(came.time));
                out["message"] = json!(came.number);
            }
            out
        }
        Entry::Retried { seq, error: failure, again, .. } => {
            json!({"kind": "retried", "seq": seq, "error": error(failure), "again": format::instant(*again)})
        }
        Entry::Cancelled { seq, .. } => json!({"kind": "cancelled", "seq": seq}),
        Entry::Begun { seq, .. } => json!({"kind": "begun", "seq": seq}),
        Entry::Ended { .. } => json!({"kind": "ended"}),
        Entry::Terminated { .. } => json!({"kind": "terminated"}),
        Entry::Cancelling { what, .. } => {
            let mut out = cancellation(what);
            out["kind"] = json!("cancelling");
            out
        }
        Entry::Rewound { seq, used, .. } => {
            let mut out = json!({"kind": "rewound", "seq": seq});
            if let Some(used) = used {
                out["used"] = json!(used);
            }
            out
        }
        Entry::Renewed { seq, .. } => json!({"kind": "renewed", "seq": seq}),
        Entry::Upgraded { from, .. } => json!({"kind": "upgraded", "from": hex::encode(from.0)}),
    };
    out["time"] = json!(format::instant(entry.time()));
    out
}

/// Returns the form of a cancellation.
fn cancellation(what: &Cancellation) -> Json {
    json!({
        "by": what.by.word(),
        "place": what.place,
        "reason": data(&what.reason),
        "grace": data(&Data::of(&Value::Duration(what.grace))),
    })
}

/// Returns the form of a line of a program.
pub(super) fn output(line: &Line) -> Json {
    match line {
        Line::Print(text) => json!({"print": text}),
        Line::Log { level, text } => json!({"log": level, "text": text}),
    }
}

/// Returns the form of a line of an instance's output. A long line has only the number of its
/// bytes.
pub fn printed(printed: &Printed) -> Json {
    let mut out = match &printed.line {
        PrintedLine::Short(line) => output(line),
        PrintedLine::Long { is_log: false, bytes } => json!({"print": null, "bytes": bytes}),
        PrintedLine::Long { is_log: true, bytes } => json!({"log": null, "bytes": bytes}),
    };
    out["seq"] = json!(printed.seq);
    out["time"] = json!(format::instant(printed.time));
    out
}

/// Returns an entity's reference as data.
pub(super) fn reference(entity: &EntityId) -> Data {
    Data::encode(&entity.value()).unwrap_or_default()
}

/// Returns the form of a message's contents.
pub fn message(message: &Message) -> Json {
    let mut out = match message {
        Message::Begin(record, _) => json!({"function": record.function, "args": data(&record.args)}),
        Message::Answer { seq, result: Ok(value), .. } => json!({"seq": seq, "value": data(value)}),
        Message::Answer { seq, result: Err(failure), .. } => json!({"seq": seq, "error": error(failure)}),
        Message::Event { name, payload } => json!({"event": name, "payload": data(payload)}),
        Message::Wait(waiter) => json!({"waiter": waiter.instance}),
        Message::Terminate { why, children, .. } => json!({"why": data(why), "children": children}),
        Message::Cancel { what, .. } => cancellation(what),
        Message::Suspend | Message::Resume => json!({}),
        Message::Call { caller, operation, args, .. } => {
            json!({"caller": caller.instance, "operation": operation, "args": data(args)})
        }
        Message::Signal { operation, args, due } => {
            let due = (*due > 0).then(|| format::instant(*due));
            json!({"operation": operation, "args": data(args), "due": due})
        }
        Message::Lock { owner, since, .. } => {
            json!({"owner": owner.instance, "since": format::instant(*since)})
        }
    };
    out["message"] = json!(message.word());
    out
}

/// Returns the form of the consequences of a rewind.
pub fn rewound(instances: &[Steps]) -> Json {
    let steps = |steps: &[(u64, String)]| -> Vec<Json> {
        steps.iter().map(|(seq, step)| json!({"seq": seq, "step": step})).collect()
    };
    let of = |one: &Steps| json!({"id": one.id, "again": steps(&one.again), "cut": steps(&one.cut)});
    json!({"instances": instances.iter().map(of).collect::<Vec<_>>()})
}

/// Returns the form of a kept operation.
pub(super) fn kept_operation(operation: &KeptOperation) -> Json {
    let KeptOperation { operation: name, args, caller, from, program, begun, ended, entries, result, .. } =
        operation;
    let entries: Vec<Json> = entries.iter().map(entry).collect();
    let mut out = json!({
        "operation": name, "args": data(args), "kind": if caller.is_some() { "call" } else { "signal" },
        "caller": caller.as_ref().map(|caller| &caller.instance), "from": from,
        "program": program.map(|program| hex::encode(program.0)),
        "begun": format::instant(*begun), "ended": format::instant(*ended), "entries": entries,
    });
    match result {
        Ok(value) => out["value"] = data(value),
        Err(failure) => out["error"] = error(failure),
    }
    out
}

/// Returns the form of a kept operation, with its number and the states before and after it. `null`
/// is the initial state.
pub fn operation(view: &OperationView) -> Json {
    let mut out = kept_operation(&view.operation);
    out["number"] = json!(view.number);
    out["before"] = json!(view.before.as_ref().map(data));
    out["after"] = json!(view.after.as_ref().map(data));
    out["changed"] = json!(view.operation.after.is_some());
    out["follows_gap"] = json!(view.follows_gap);
    out
}

/// Returns the form of an entity, with the messages that wait for it.
pub fn entity(view: &EntityView) -> Json {
    let waiting: Vec<Json> = view.mail.iter().map(|mail| message(&mail.message)).collect();
    with_waiting(view, json!(waiting))
}

/// Returns the form of an entity in a list, which has the number of the messages that wait.
pub fn entity_line(view: &EntityView) -> Json {
    with_waiting(view, json!(view.mail.len()))
}

fn with_waiting(view: &EntityView, waiting: Json) -> Json {
    let EntityView { entity, state, hold, .. } = view;
    json!({
        "entity": entity.to_string(), "name": entity.name, "key": data(&entity.key),
        "state": state.as_ref().map(data), "held_by": hold.as_ref().map(|hold| &hold.owner.instance),
        "held_since": hold.as_ref().map(|hold| format::instant(hold.since)), "waiting": waiting,
        "operations": view.operations,
    })
}

/// Returns the form of an entity's lock: its holder, the critical sections that wait for it, and the
/// number of calls and signals that wait.
pub fn lock(view: &EntityView) -> Json {
    let waiting = view.mail.iter().filter_map(|mail| match &mail.message {
        Message::Lock { owner, since, .. } => {
            Some(json!({"owner": owner.instance, "since": format::instant(*since)}))
        }
        _ => None,
    });
    // A signal for later does not wait for the entity.
    let is_call = |mail: &&StoredMail| match mail.message {
        Message::Call { .. } => true,
        Message::Signal { due, .. } => due <= 0,
        _ => false,
    };
    let calls = view.mail.iter().filter(is_call).count();
    json!({
        "entity": view.entity.to_string(), "held_by": view.hold.as_ref().map(|hold| &hold.owner.instance),
        "since": view.hold.as_ref().map(|hold| format::instant(hold.since)),
        "waiting": waiting.collect::<Vec<_>>(), "calls": calls,
    })
}
