//! Ids of instances: which ids can be chosen, and the effect of a call or a start under a known id.

use serde::{Deserialize, Serialize};

use crate::syntax::tree::SCHEDULES;

use super::address::bad_id;
use super::compare::equal;
use super::error::ErrorData;
use super::value::Value;
use super::{Data, format};

/// The effect of a call or a start when there is already an instance of its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IfExists {
    /// The call or start joins the instance, if the function and the arguments are the same.
    #[default]
    Join,
    /// The call or start fails.
    Fail,
    /// An ended instance is purged, and another one begins.
    Replace,
    /// As `Replace`, and an instance of an earlier program that has not ended makes way too. Its
    /// successor has its arguments, and is suspended if it was. Only schedules begin in this way.
    Supersede,
}

impl IfExists {
    /// The names of the variants that programs can choose.
    pub const NAMES: [&'static str; 3] = ["join", "fail", "replace"];

    pub fn named(name: &str) -> Option<IfExists> {
        match name {
            "join" => Some(IfExists::Join),
            "fail" => Some(IfExists::Fail),
            "replace" => Some(IfExists::Replace),
            _ => None,
        }
    }
}

/// Returns the reason why an id can't be chosen for an instance, if there is one. Automatic ids
/// contain a `:`, so chosen ones must not.
pub fn bad_own_id(id: &str) -> Option<&'static str> {
    match bad_id(id) {
        None if id.starts_with(SCHEDULES) => Some("`schedule/` begins the ids of schedules only"),
        None if id.contains(':') => Some("a `:` is in the ids of children only, which are made"),
        reason => reason,
    }
}

/// Returns whether two lists of arguments are the same. Values that are `==` are the same: the
/// order of fields in records does not matter, and 1 is 1.0. Values that equal nothing, such as
/// `nan`, are the same if their bytes are.
pub fn same_arguments(a: &Data, b: &Data) -> bool {
    a == b || equal(&a.decode(), &b.decode()).unwrap_or(false)
}

/// Returns a short form of a call: `charge("1234", 10)`.
pub fn shown_call(function: &str, args: &Data) -> String {
    let text = format::write(&args.decode(), 80).0;
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
    format!("{function}({inner})")
}

fn id_taken(message: String, id: &str, known: &str, wanted: &str) -> ErrorData {
    let text = [("id", id), ("known", known), ("wanted", wanted)];
    ErrorData::with("id_taken", message, text.map(|(name, text)| (name, Value::str(text))))
}

/// Returns the error of an id that belongs to another call than the wanted one.
pub fn taken(id: &str, known: &str, wanted: &str) -> ErrorData {
    id_taken(format!("the id `{id}` is that of `{known}`, and not of `{wanted}`"), id, known, wanted)
}

/// Returns the error of an id that must be free and is not.
pub fn exists(id: &str, known: &str, wanted: &str) -> ErrorData {
    id_taken(
        format!("the id `{id}` is that of `{known}` already, and `{wanted}` may not join it"),
        id,
        known,
        wanted,
    )
}

/// Returns the error of an instance that is not replaced, since it, or another one that would go
/// with it, has not ended.
pub fn not_ended(id: &str, running: &str, known: &str, wanted: &str) -> ErrorData {
    let message = match running == id {
        true => format!("`{id}`, which is `{known}`, has not ended and so is not replaced by `{wanted}`"),
        false => format!(
            "`{running}` has not ended, and so `{id}`, which is `{known}`, is not replaced by `{wanted}`"
        ),
    };
    id_taken(message, id, known, wanted)
}

/// Returns the error of an instance that waits for its own end.
pub fn waits_for_itself(id: &str) -> ErrorData {
    let message = format!("`{id}` waits for its own end, which can't come while it waits");
    ErrorData::with("deadlock", message, [("circle", Value::list(vec![Value::str(id)]))])
}

/// Returns the error of a deadlock: each instance waits for the next, and the last for the first.
pub fn wait_in_a_circle(circle: &[String]) -> ErrorData {
    let round = circle.iter().chain(circle.first()).map(|id| format!("`{id}`")).collect::<Vec<_>>();
    let message = format!("these wait for one another, and none can end: {}", round.join(" for "));
    let circle = circle.iter().map(|id| Value::str(id.as_str())).collect();
    ErrorData::with("deadlock", message, [("circle", Value::list(circle))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: Value) -> Data {
        Data::encode(&value).expect("data")
    }

    #[test]
    fn arguments_are_the_same_as_values() {
        let list = |value: Value| data(Value::list(vec![value]));
        assert!(same_arguments(&list(Value::Int(1)), &list(Value::float(1.0))));
        let fields =
            |names: [&str; 2]| Value::record(names.map(|name| (name, Value::Int(name.len() as i64))));
        assert!(same_arguments(&list(fields(["a", "bb"])), &list(fields(["bb", "a"]))));
        assert!(same_arguments(&list(Value::float(f64::NAN)), &list(Value::float(f64::NAN))));
        assert!(!same_arguments(&list(Value::Int(1)), &list(Value::Int(2))));
        assert!(!same_arguments(&list(Value::Int(1)), &data(Value::list(Vec::new()))));
    }

    #[test]
    fn ids_of_children_can_not_be_chosen() {
        assert_eq!(bad_own_id("order-17"), None);
        assert!(bad_own_id("order:17").is_some() && bad_id("order:17").is_none());
        assert!(bad_own_id("").is_some() && bad_own_id("two words").is_some());
    }
}
