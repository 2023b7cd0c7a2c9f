//! Natives: the functions of the standard library that the language itself can't express.
//!
//! A native takes arguments and returns a value or an error. It never calls back into the program,
//! never waits, and returns the same for the same arguments on every machine.

mod assertions;
mod bits;
mod bytes;
mod compression;
mod csv;
mod formats;
pub mod hashes;
pub mod io_options;
mod lists;
mod numbers;
pub mod options;
pub mod prompt;
mod random;
mod records;
mod regexes;
mod retries;
mod schedules;
pub mod sql;
mod strings;
mod times;
mod toml;
pub mod urls;
mod values;
mod yaml;

use std::rc::Rc;
use std::sync::OnceLock;

use crate::builtins::{Builtin, Effect, Kind, TABLE, databases, files, lines, messages};

use super::error::{Fail, fail, type_error};
use super::secret;
use super::value::{Blob, List, Record, Text, Value};

/// A native function, which can take values out of its arguments.
pub type Native = fn(&mut [Value]) -> Result<Value, Fail>;

/// A builtin, in the form that the run loop calls.
pub struct Entry {
    pub native: Native,
    /// The range of arguments that a native takes; an empty range for a builtin that is not a
    /// native.
    min: u8,
    max: u8,
}

impl Entry {
    /// Returns the native, if the builtin is one and takes `count` arguments.
    #[inline(always)]
    pub fn taking(&self, count: usize) -> Option<Native> {
        (count >= self.min as usize && count <= self.max as usize).then_some(self.native)
    }
}

/// Returns the builtins, by their numbers.
pub fn table() -> &'static [Entry] {
    static NATIVES: OnceLock<Vec<Entry>> = OnceLock::new();
    let entry = |builtin: &Builtin| {
        let native = find(builtin.name).unwrap_or(missing);
        match builtin.kind == Kind::Native {
            true => Entry { native, min: builtin.min, max: builtin.max },
            false => Entry { native, min: 1, max: 0 },
        }
    };
    NATIVES.get_or_init(|| TABLE.iter().map(entry).collect())
}

fn missing(_: &mut [Value]) -> Result<Value, Fail> {
    Err(fail("internal", "this builtin is not a native"))
}

/// Returns whether every native of the table has a function.
#[cfg(test)]
fn is_complete() -> bool {
    TABLE.iter().all(|b| b.kind != crate::builtins::Kind::Native || find(b.name).is_some())
}

fn find(name: &str) -> Option<Native> {
    values::find(name)
        .or_else(|| assertions::find(name))
        .or_else(|| prompt::find(name))
        .or_else(|| retries::find(name))
        .or_else(|| schedules::find(name))
        .or_else(|| lists::find(name))
        .or_else(|| strings::find(name))
        .or_else(|| records::find(name))
        .or_else(|| numbers::find(name))
        .or_else(|| formats::find(name))
        .or_else(|| regexes::find(name))
        .or_else(|| times::find(name))
        .or_else(|| bytes::find(name))
        .or_else(|| hashes::find(name))
        .or_else(|| bits::find(name))
        .or_else(|| random::find(name))
        .or_else(|| csv::find(name))
        .or_else(|| compression::find(name))
        .or_else(|| toml::find(name))
        .or_else(|| urls::find(name))
        .or_else(|| sql::find(name))
        .or_else(|| yaml::find(name))
}

// ---- arguments

fn wrong(wanted: &str, value: &Value) -> Fail {
    type_error(format!("{wanted} was expected, not {}", value.a_kind()))
}

fn list(value: &Value) -> Result<&Rc<List>, Fail> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(wrong("a list", other)),
    }
}

fn text(value: &Value) -> Result<&Rc<Text>, Fail> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(wrong("a string", other)),
    }
}

fn record(value: &Value) -> Result<&Rc<Record>, Fail> {
    match value {
        Value::Record(record) => Ok(record),
        other => Err(wrong("a record", other)),
    }
}

fn blob(value: &Value) -> Result<&Rc<Blob>, Fail> {
    match value {
        Value::Bytes(blob) => Ok(blob),
        other => Err(wrong("bytes", other)),
    }
}

fn int(value: &Value) -> Result<i64, Fail> {
    match value {
        Value::Int(n) => Ok(*n),
        other => Err(wrong("an int", other)),
    }
}

fn number(value: &Value) -> Result<f64, Fail> {
    match value {
        Value::Int(n) => Ok(*n as f64),
        Value::Float(x) => Ok(x.get()),
        other => Err(wrong("a number", other)),
    }
}

/// Returns the bounds of the slice from `from` to `to` of `len` elements. Negative bounds count
/// from the end. Both are cut to the range. Null as `to` is the end.
fn stretch(from: &Value, to: &Value, len: usize) -> Result<(usize, usize), Fail> {
    let place = |n: i64| {
        if n < 0 {
            len.saturating_sub(n.unsigned_abs() as usize)
        } else {
            (n as u64).min(len as u64) as usize
        }
    };
    let from = place(int(from)?);
    let to = match to {
        Value::Null => len,
        to => place(int(to)?),
    };
    Ok((from, to.max(from)))
}

/// Checks the arguments of an effect, so that a mistake is reported at its place.
pub fn check_effect(effect: Effect, args: &[Value]) -> Result<(), Fail> {
    match effect {
        Effect::Sleep => match &args[0] {
            Value::Duration(_) => Ok(()),
            other => Err(type_error(format!("`sleep` takes a duration, like 5s, not {}", other.a_kind()))),
        },
        Effect::StateOf => match &args[0] {
            Value::Entity(_) => Ok(()),
            other => Err(type_error(format!(
                "`state_of` takes an entity, like `Account(\"ada\")`, not {}",
                other.a_kind()
            ))),
        },
        Effect::Receive => match &args[0] {
            Value::Str(_) => Ok(()),
            other => Err(type_error(format!(
                "`receive` takes the name of an event, a string, not {}",
                other.a_kind()
            ))),
        },
        Effect::SleepUntil => match &args[0] {
            Value::Instant(_) => Ok(()),
            other => Err(type_error(format!("`sleep_until` takes an instant, not {}", other.a_kind()))),
        },
        Effect::RandomInt => {
            let (low, high) = (int(&args[0])?, int(&args[1])?);
            if low > high {
                return Err(fail(
                    "type_error",
                    format!("`random_int({low}, {high})`: the first is the larger"),
                ));
            }
            Ok(())
        }
        Effect::Env | Effect::Secret | Effect::TimeZone | Effect::Input | Effect::CallbackUrl => {
            text(&args[0]).map(|_| ())
        }
        Effect::HashHmac => match secret::is(&args[0]) {
            true => hashes::check(&args[1], &args[2]),
            false => Err(wrong("a secret", &args[0])),
        },
        files!()
        | Effect::Http
        | Effect::HttpDownload
        | Effect::Exec
        | Effect::ExecStart
        | Effect::ExecNext
        | Effect::ExecStop => io_options::check(effect, args),
        databases!() => sql::check(effect, args),
        // These take anything or nothing, or the machine checks their arguments itself.
        lines!()
        | Effect::Now
        | Effect::Random
        | Effect::Uuid
        | Effect::Extern
        | Effect::Wait
        | Effect::Status
        | Effect::SetStatus
        | Effect::ContinueAsNew
        | Effect::Lock
        | Effect::Unlock
        | Effect::StatesOf
        | Effect::OutcomeOf
        | messages!() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_native_of_the_table_is_there() {
        assert!(super::is_complete());
    }
}
