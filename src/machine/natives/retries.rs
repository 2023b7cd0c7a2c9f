//! Natives for retry policies and limits.

use super::super::error::Fail;
use super::super::value::{Record, Value, intern};
use super::{Native, int, options};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "retry_policy" => |args| policy(&args[0]),
        "retry_again" => |args| Ok(Value::bool(options::retry(&args[0])?.tries_again(&args[1]))),
        "retry_pause" => |args| {
            let attempt = int(&args[1])?.clamp(1, i64::from(u32::MAX)) as u32;
            let seed = int(&args[2])?.cast_unsigned();
            Ok(Value::Duration(options::retry(&args[0])?.pause(attempt, seed)))
        },
        "par_map_limit" => |args| options::par_map(&args[0]).map(Value::Int),
        "check_options" => |args| options::check(&args[0], &args[1], &args[2]).map(|()| Value::Null),
        "closest" => |args| {
            let near = options::nearest(&args[0], &args[1]);
            Ok(near.map_or(Value::Null, Value::str))
        },
        "receive_limit" => |args| Ok(options::receive(&args[0])?.map_or(Value::Null, Value::Duration)),
        "all_waits" => |args| options::all(&args[0]).map(Value::bool),
        "check_limit" => |args| options::limit(&args[0]).map(|()| Value::Null),
        _ => return None,
    })
}

/// Returns a checked policy, with all fields that the library reads.
fn policy(given: &Value) -> Result<Value, Fail> {
    let policy = options::retry(given)?;
    let mut record = match given {
        Value::Record(record) => (**record).clone(),
        _ => Record::default(),
    };
    record.set(intern("times"), Value::Int(i64::from(policy.times)));
    for name in ["when", "within"] {
        if record.get_str(name).is_none() {
            record.set(intern(name), Value::Null);
        }
    }
    Ok(Value::Record(std::rc::Rc::new(record)))
}
