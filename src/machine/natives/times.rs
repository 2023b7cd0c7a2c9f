//! Natives for instants and durations. Calendars are proleptic Gregorian, in UTC.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, fmt::strtime};

use crate::check::closest;

use super::super::error::{Fail, fail, type_error};
use super::super::value::{Record, Value};
use super::{Native, int, record, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "time_parse" => |args| {
            let written = text(&args[0])?.as_str().trim();
            let instant = written.parse::<Timestamp>().or_else(|_| {
                written.parse::<DateTime>().and_then(|time| Ok(time.to_zoned(TimeZone::UTC)?.timestamp()))
            });
            let instant = instant.map_err(|_| {
                fail(
                    "parse_error",
                    format!(
                        "{} is not an instant like 2026-03-01T12:00:00Z",
                        super::super::format::brief(&args[0])
                    ),
                )
            })?;
            nanos(instant)
        },
        "time_format" => |args| {
            let zoned = at(&args[0])?.to_zoned(zone(&args[2])?);
            let pattern = text(&args[1])?.as_str();
            strtime::format(pattern, &zoned)
                .map(Value::str)
                .map_err(|error| fail("parse_error", format!("not a format for instants: {error}")))
        },
        "time_parts" => |args| {
            let time = at(&args[0])?.to_zoned(zone(&args[1])?).datetime();
            let weekday = i64::from(time.weekday().to_monday_one_offset());
            Ok(Value::record([
                ("year", Value::Int(i64::from(time.year()))),
                ("month", Value::Int(i64::from(time.month()))),
                ("day", Value::Int(i64::from(time.day()))),
                ("hour", Value::Int(i64::from(time.hour()))),
                ("minute", Value::Int(i64::from(time.minute()))),
                ("second", Value::Int(i64::from(time.second()))),
                ("nanosecond", Value::Int(i64::from(time.subsec_nanosecond()))),
                ("weekday", Value::Int(weekday)),
                ("day_of_year", Value::Int(i64::from(time.day_of_year()))),
            ]))
        },
        "time_from_parts" => from_parts,
        "instant_from_nanos" => |args| Ok(Value::Instant(int(&args[0])?)),
        "duration_from_nanos" => |args| Ok(Value::Duration(int(&args[0])?)),
        "instant_nanos" => |args| match &args[0] {
            Value::Instant(n) => Ok(Value::Int(*n)),
            other => Err(super::wrong("an instant", other)),
        },
        "duration_nanos" => |args| match &args[0] {
            Value::Duration(n) => Ok(Value::Int(*n)),
            other => Err(super::wrong("a duration", other)),
        },
        _ => return None,
    })
}

/// The parts of a date after year and month: the name, the length in nanoseconds, and the least
/// value.
const UNITS: [(&str, i128, i128); 5] = [
    ("day", 86_400_000_000_000, 1),
    ("hour", 3_600_000_000_000, 0),
    ("minute", 60_000_000_000, 0),
    ("second", 1_000_000_000, 0),
    ("nanosecond", 1, 0),
];

/// Makes an instant from its parts. Months beyond a year and days beyond a month carry over.
fn from_parts(args: &mut [Value]) -> Result<Value, Fail> {
    let (parts, zone) = (record(&args[0])?, zone(&args[1])?);
    check_parts(parts)?;
    let part = |name: &str, least: i128| match parts.get_str(name) {
        None => Ok(least),
        Some(Value::Int(n)) => Ok(i128::from(*n)),
        Some(other) => Err(type_error(format!("`{name}` of a date is an int, not {}", other.a_kind()))),
    };
    let bad = || fail("domain_error", "this date is not on the calendar");
    let month = part("month", 1)? - 1;
    let year = part("year", 1970)? + month.div_euclid(12);
    let month = i8::try_from(month.rem_euclid(12) + 1).map_err(|_| bad())?;
    let first = DateTime::new(i16::try_from(year).map_err(|_| bad())?, month, 1, 0, 0, 0, 0);
    let start = first.and_then(|first| first.to_zoned(zone)).map_err(|_| bad())?;
    let mut total = start.timestamp().as_nanosecond();
    for (name, scale, least) in UNITS {
        total += (part(name, least)? - least) * scale;
    }
    i64::try_from(total).map(Value::Instant).map_err(|_| bad())
}

/// Checks the names of parts. A full date can also have the parts that follow from it, as `parts`
/// returns them, but they are not read.
fn check_parts(parts: &Record) -> Result<(), Fail> {
    const KNOWN: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "nanosecond"];
    let is_date = KNOWN[..3].iter().all(|name| parts.get_str(name).is_some());
    for name in parts.keys().names() {
        if KNOWN.contains(&&**name) || is_date && matches!(&**name, "weekday" | "day_of_year") {
            continue;
        }
        let hint = closest(name, KNOWN).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(type_error(format!("a date has no part `{name}`{hint}")));
    }
    Ok(())
}

fn at(value: &Value) -> Result<Timestamp, Fail> {
    match value {
        Value::Instant(n) => {
            Timestamp::from_nanosecond(*n as i128).map_err(|_| type_error("this instant is out of range"))
        }
        other => Err(super::wrong("an instant", other)),
    }
}

fn nanos(instant: Timestamp) -> Result<Value, Fail> {
    i64::try_from(instant.as_nanosecond())
        .map(Value::Instant)
        .map_err(|_| fail("domain_error", "instants lie between the years 1678 and 2262"))
}

/// Returns the time zone of a fixed offset from UTC. Names of zones are not supported, since they
/// need a database, whose version differs between machines.
fn zone(offset: &Value) -> Result<TimeZone, Fail> {
    match offset {
        Value::Duration(n) => {
            if n % 1_000_000_000 != 0 {
                return Err(type_error("an offset from UTC has whole seconds"));
            }
            let seconds = i32::try_from(n / 1_000_000_000).unwrap_or(i32::MAX);
            let offset = Offset::from_seconds(seconds)
                .map_err(|_| type_error("an offset from UTC is less than 26h"))?;
            Ok(TimeZone::fixed(offset))
        }
        other => Err(super::wrong("a duration, the offset from UTC", other)),
    }
}
