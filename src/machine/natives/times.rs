//! Natives for instants and durations. Calendars are proleptic Gregorian, in UTC, at an offset from
//! it, or in a named zone.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned, fmt::strtime};

use crate::check::closest;

use super::super::error::{Fail, fail, type_error};
use super::super::operate as op;
use super::super::value::{Record, Value};
use super::super::{duration_text, format, work, zones};
use super::{Native, int, record, text};
use crate::cron::Cron;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "time_parse" => parse,
        "time_format" => written,
        "time_parts" => |args| {
            let time = zoned(&args[0], &args[1])?.datetime();
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
        "time_offset" => |args| {
            let seconds = zoned(&args[0], &args[1])?.offset().seconds();
            Ok(Value::Duration(i64::from(seconds) * 1_000_000_000))
        },
        "time_shift" => shift,
        "time_start" => start,
        "time_parse_duration" => |args| {
            let written = text(&args[0])?.as_str();
            duration_text::parse(written).map(Value::Duration).ok_or_else(|| {
                let shown = format::brief(&args[0]);
                fail("parse_error", format!("{shown} is not a duration like 90s, 1h30m or 1.5h"))
            })
        },
        "cron_parse" => |args| {
            let cron = cron(&args[0])?;
            let ints = |values: Vec<i64>| Value::list(values.into_iter().map(Value::Int).collect());
            let fields = cron.fields().map(|(name, values)| (name, ints(values)));
            let last_day = ("last_day", Value::bool(cron.has_last_day()));
            Ok(Value::record(fields.into_iter().chain([last_day])))
        },
        "cron_next" => |args| {
            // The days that a search looks at.
            work::done(1 << 14);
            let (cron, zone) = (cron(&args[0])?, zones::of(&args[2])?);
            cron.next(at(&args[1])?, &zone).map_or(Ok(Value::Null), |next| nanos(next).or(Ok(Value::Null)))
        },
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

fn cron(expression: &Value) -> Result<Cron, Fail> {
    Cron::parse(text(expression)?.as_str()).map_err(|reason| {
        fail("parse_error", format!("{} is not a cron expression: {reason}", format::brief(expression)))
    })
}

/// Reads an instant: as in RFC 3339, or by a pattern if one is given. A text without an offset is a
/// time of the zone.
fn parse(args: &mut [Value]) -> Result<Value, Fail> {
    let written = text(&args[0])?.as_str().trim();
    work::done(written.len());
    let zone = match args.get(2) {
        None | Some(Value::Missing) => TimeZone::UTC,
        Some(zone) => zones::of(zone)?,
    };
    let (instant, wanted) = match args.get(1) {
        None | Some(Value::Null | Value::Missing) => {
            let civil = || written.parse::<DateTime>().and_then(|time| local(time, &zone));
            (written.parse::<Timestamp>().or_else(|_| civil()), "an instant like 2026-03-01T12:00:00Z".into())
        }
        Some(pattern) => {
            let wanted = format!("an instant of the form {}", format::brief(pattern));
            (by_pattern(self::pattern(pattern)?, written, &zone), wanted)
        }
    };
    let instant = instant.map_err(|error| {
        let by_pattern = matches!(args.get(1), Some(Value::Str(_)));
        let reason = if by_pattern { format!(": {error}") } else { String::new() };
        fail("parse_error", format!("{} is not {wanted}{reason}", format::brief(&args[0])))
    });
    nanos(instant?)
}

/// Reads a pattern. A directive of a few bytes can be written with up to 255 characters, so the
/// length is limited.
fn pattern(value: &Value) -> Result<&str, Fail> {
    const MOST_BYTES: usize = 1 << 16;
    match text(value)?.as_str() {
        pattern if pattern.len() > MOST_BYTES => Err(fail("limit", "a pattern has at most 65,536 bytes")),
        pattern => Ok(pattern),
    }
}

fn by_pattern(pattern: &str, written: &str, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    let read = strtime::parse(pattern, written)?;
    match read.timestamp().is_some() || read.offset().is_some() {
        true => read.to_timestamp(),
        false => local(read.to_datetime()?, zone),
    }
}

/// Returns the instant of a time of the wall clock. A time that the clock skips is as much later as
/// the clock jumps, and of a time that comes twice it is the first (RFC 5545).
fn local(time: DateTime, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    zone.to_ambiguous_timestamp(time).compatible()
}

fn written(args: &mut [Value]) -> Result<Value, Fail> {
    let zoned = zoned(&args[0], &args[2])?;
    let pattern = match &args[1] {
        Value::Null if matches!(args[2], Value::Duration(0)) => "%Y-%m-%dT%H:%M:%SZ",
        Value::Null => "%Y-%m-%dT%H:%M:%S%:z",
        given => pattern(given)?,
    };
    work::done(pattern.len());
    let text = strtime::format(pattern, &zoned)
        .map_err(|error| fail("parse_error", format!("not a format for instants: {error}")))?;
    op::reserve_text(text.len())?;
    Ok(Value::str(text))
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

fn not_on_the_calendar() -> Fail {
    fail("domain_error", "this date is not on the calendar")
}

/// Makes an instant from its parts. Months beyond a year and days beyond a month carry over.
fn from_parts(args: &mut [Value]) -> Result<Value, Fail> {
    let (parts, zone) = (record(&args[0])?, zones::of(&args[1])?);
    check_parts(parts)?;
    let part = |name: &str, least: i128| match parts.get_str(name) {
        None => Ok(least),
        Some(Value::Int(n)) => Ok(i128::from(*n)),
        Some(other) => Err(type_error(format!("`{name}` of a date is an int, not {}", other.a_kind()))),
    };
    let bad = not_on_the_calendar;
    let month = part("month", 1)? - 1;
    let year = part("year", 1970)? + month.div_euclid(12);
    let month = i8::try_from(month.rem_euclid(12) + 1).map_err(|_| bad())?;
    let first = DateTime::new(i16::try_from(year).map_err(|_| bad())?, month, 1, 0, 0, 0, 0);
    let first = first.map_err(|_| bad())?;
    let mut total = 0;
    for (name, scale, least) in UNITS {
        total += (part(name, least)? - least) * scale;
    }
    let civil = first.checked_add(elapsed(total).ok_or_else(bad)?).map_err(|_| bad())?;
    nanos(local(civil, &zone).map_err(|_| bad())?).map_err(|_| bad())
}

fn elapsed(nanos: i128) -> Option<SignedDuration> {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    Some(SignedDuration::new(seconds, nanos.rem_euclid(1_000_000_000) as i32))
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

/// The amounts of `time.add`: the name, and the length of those that are elapsed time.
const AMOUNTS: [(&str, i128); 9] = [
    ("years", 0),
    ("months", 0),
    ("weeks", 0),
    ("days", 0),
    ("hours", 3_600_000_000_000),
    ("minutes", 60_000_000_000),
    ("seconds", 1_000_000_000),
    ("milliseconds", 1_000_000),
    ("nanoseconds", 1),
];

/// Shifts an instant. Years and months come first: a day that the month lacks becomes its last. Then
/// come weeks and days, at the same time of the wall clock; then elapsed time.
fn shift(args: &mut [Value]) -> Result<Value, Fail> {
    let (amounts, zone) = (record(&args[1])?, zones::of(&args[2])?);
    let names = AMOUNTS.map(|(name, _)| name);
    let mut given = [0_i128; AMOUNTS.len()];
    for (name, value) in amounts.iter() {
        let Some(at) = names.iter().position(|known| **name == **known) else {
            let hint = closest(name, names).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(type_error(format!("`time.add` takes {}, not `{name}`{hint}", names.join(", "))));
        };
        match value {
            Value::Int(n) => given[at] = i128::from(*n),
            other => {
                let other = format::brief(other);
                return Err(type_error(format!("`time.add` takes ints, and `{name}` is {other}")));
            }
        }
    }
    let bad = not_on_the_calendar;
    let [years, months, weeks, days, ..] = given;
    let (months, days) = (years * 12 + months, weeks * 7 + days);
    let mut instant = at(&args[0])?;
    if months != 0 || days != 0 {
        let span = |months: i128, days: i128| {
            let (months, days) = (i64::try_from(months).ok()?, i64::try_from(days).ok()?);
            Span::new().try_months(months).and_then(|span| span.try_days(days)).ok()
        };
        let by_months = span(months, 0).ok_or_else(bad)?;
        let by_days = span(0, days).ok_or_else(bad)?;
        let civil = zone.to_datetime(instant);
        let civil = civil.checked_add(by_months).and_then(|civil| civil.checked_add(by_days));
        instant = civil.and_then(|civil| local(civil, &zone)).map_err(|_| bad())?;
    }
    let rest = given.iter().zip(AMOUNTS).map(|(count, (_, scale))| count * scale).sum();
    let shifted = instant.checked_add(elapsed(rest).ok_or_else(bad)?).map_err(|_| bad())?;
    nanos(shifted).map_err(|_| bad())
}

/// Returns the beginning of the unit in which an instant lies. A week begins on Monday.
fn start(args: &mut [Value]) -> Result<Value, Fail> {
    const KNOWN: [&str; 7] = ["year", "month", "week", "day", "hour", "minute", "second"];
    let zone = zones::of(&args[2])?;
    let instant = at(&args[0])?;
    let civil = zone.to_datetime(instant);
    let date = civil.date();
    // Within an hour that the clock repeats, the beginning is that of the same pass.
    let back = |nanos: i64| instant.checked_sub(SignedDuration::from_nanos(nanos));
    let below = i64::from(civil.subsec_nanosecond());
    let seconds = i64::from(civil.second()) * 1_000_000_000 + below;
    let first = |date: Result<Date, jiff::Error>| {
        date.and_then(|date| local(date.to_datetime(Time::midnight()), &zone))
    };
    let begins = match text(&args[1])?.as_str() {
        "year" => first(Date::new(date.year(), 1, 1)),
        "month" => first(Date::new(date.year(), date.month(), 1)),
        "week" => {
            let days = i64::from(date.weekday().to_monday_zero_offset());
            first(date.checked_sub(SignedDuration::from_hours(24 * days)))
        }
        "day" => first(Ok(date)),
        "hour" => back(i64::from(civil.minute()) * 60_000_000_000 + seconds),
        "minute" => back(seconds),
        "second" => back(below),
        _ => return Err(type_error(format!("a unit is one of {}", KNOWN.join(", ")))),
    };
    nanos(begins.map_err(|_| not_on_the_calendar())?)
}

fn zoned(instant: &Value, zone: &Value) -> Result<Zoned, Fail> {
    let instant = at(instant)?;
    Ok(instant.to_zoned(zones::of(zone)?))
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
