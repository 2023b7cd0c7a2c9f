//! Natives for schedules: when they are due, and how they make up for what was missed.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cron::{Cron, zone};

use super::super::error::{Fail, fail};
use super::super::value::Value;
use super::{Native, text, wrong};

/// The lateness from which an occurrence counts as missed, in nanoseconds.
const LATE: i128 = 60_000_000_000;
/// The number of missed occurrences that are made up for together.
const TOGETHER: usize = 100;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "schedule_next" => |args| {
            let (cron, zone) = rules(args)?;
            Ok(instant_or_null(cron.next(instant(&args[2])?, &zone)))
        },
        "schedule_due" => due,
        _ => return None,
    })
}

fn rules(args: &[Value]) -> Result<(Cron, TimeZone), Fail> {
    let bad = |reason: String| fail("parse_error", reason);
    let cron = Cron::parse(text(&args[0])?.as_str()).map_err(bad)?;
    Ok((cron, zone(text(&args[1])?.as_str()).map_err(bad)?))
}

fn instant(value: &Value) -> Result<Timestamp, Fail> {
    match value {
        Value::Instant(n) => Timestamp::from_nanosecond((*n).into())
            .map_err(|_| fail("domain_error", "this instant is out of range")),
        other => Err(wrong("an instant", other)),
    }
}

fn nanos(instant: Timestamp) -> Option<Value> {
    i64::try_from(instant.as_nanosecond()).ok().map(Value::Instant)
}

fn instant_or_null(instant: Option<Timestamp>) -> Value {
    instant.and_then(nanos).unwrap_or(Value::Null)
}

/// Returns the occurrences that a schedule starts now, and the one after them, given the first that
/// it has not seen to, or null if there is none.
fn due(args: &mut [Value]) -> Result<Value, Fail> {
    let (cron, zone) = rules(args)?;
    let (catch_up, now) = (text(&args[2])?.as_str(), instant(&args[4])?);
    let (due, next) = match &args[3] {
        Value::Null => (Vec::new(), None),
        first => match instant(first)? {
            first if first > now => (Vec::new(), Some(first)),
            first => occurrences(&cron, &zone, catch_up, (first, now)),
        },
    };
    let due = Value::list(due.into_iter().filter_map(nanos).collect());
    Ok(Value::record([("due", due), ("next", instant_or_null(next))]))
}

fn occurrences(
    cron: &Cron,
    zone: &TimeZone,
    catch_up: &str,
    (first, now): (Timestamp, Timestamp),
) -> (Vec<Timestamp>, Option<Timestamp>) {
    if catch_up == "all" {
        let all = std::iter::successors(Some(first), |at| cron.next(*at, zone).filter(|next| *next <= now));
        let due: Vec<Timestamp> = all.take(TOGETHER).collect();
        let next = cron.next(due.last().copied().unwrap_or(first), zone);
        return (due, next);
    }
    let last = cron.last(first, now, zone).unwrap_or(first);
    let is_missed = catch_up == "skip" && now.as_nanosecond() - last.as_nanosecond() > LATE;
    (if is_missed { Vec::new() } else { vec![last] }, cron.next(last, zone))
}
