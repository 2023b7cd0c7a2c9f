//! Natives for regular expressions.
//!
//! One search takes time linear in the text. All searches of a text do not, since each can look as
//! far as the end. So searches for further matches are done in steps, between which others have a
//! turn. A clock ends a step, since nothing else tells how far a search has looked. The combined
//! result of all steps does not depend on the clock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use regex::{Captures, Regex, RegexBuilder};
use regex_automata::nfa::thompson;

use super::super::error::{Fail, fail, fail_with};
use super::super::operate as op;
use super::super::value::{Record, Text, Value, intern};
use super::super::work;
use super::{Native, int, text};

/// The time limit of a step, and the number of searches between two looks at the clock.
const STEP: Duration = Duration::from_millis(20);
const SEARCHES: usize = 64;
/// The work of a whole step, in bytes.
const WORK: usize = 16 << 20;
/// The limit on the steps of the automaton in a search, at worst one for each state and byte.
const MOST: usize = 5_000_000_000;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "regex_matches" => |args| {
            let whole = text(&args[0])?;
            work::done(whole.as_str().len());
            Ok(Value::bool(Pattern::of(&args[1], whole)?.regex.is_match(whole.as_str())))
        },
        "regex_find" => |args| {
            let whole = text(&args[0])?;
            work::done(whole.as_str().len());
            let regex = Pattern::of(&args[1], whole)?.regex;
            let mut places = Places::of(whole, 0, 0);
            Ok(regex
                .captures(whole.as_str())
                .map_or(Value::Null, |found| found_record(&regex, &found, &mut places)))
        },
        "regex_find_some" => |args| {
            let (all, next, _) = find_some(args, &args[2], Some(STEP))?;
            Ok(Value::list(vec![all, next]))
        },
        "regex_replace_some" => |args| {
            let from = usize::try_from(int(&args[4])?).unwrap_or(0);
            replace_some(args, &args[2], &args[3], from, Some(STEP)).map(listed)
        },
        "regex_split_some" => |args| {
            let from = usize::try_from(int(&args[3])?).unwrap_or(0);
            split_some(args, &args[2], from, Some(STEP)).map(listed)
        },
        // Earlier programs are stored with a library that uses these, which do everything in one
        // step.
        "regex_find_all" => |args| Ok(find_some(args, &Value::Null, None)?.0),
        "regex_replace" => |args| Ok(replace_some(args, &Value::Null, &args[2], 0, None)?.0),
        "regex_split" => |args| Ok(split_some(args, &Value::Null, 0, None)?.0),
        _ => return None,
    })
}

/// The result of a step, the place to go on from (null at the end), and the end of the last match.
type Part = (Value, Value, usize);

fn listed((given, next, from): Part) -> Value {
    Value::list(vec![given, next, Value::Int(from as i64)])
}

fn find_some(args: &[Value], at: &Value, limit: Option<Duration>) -> Result<Part, Fail> {
    let mut all = Vec::new();
    let mut growing = op::Growing::default();
    let next = step(args, at, limit, &mut |regex, found, places| {
        growing.item()?;
        all.push(found_record(regex, found, places));
        Ok(())
    })?;
    Ok((op::made(Value::list(all))?, next, 0))
}

/// Returns the text from `from`, the end of the match before, with each match replaced.
fn replace_some(
    args: &[Value],
    at: &Value,
    with: &Value,
    mut from: usize,
    limit: Option<Duration>,
) -> Result<Part, Fail> {
    let (whole, with) = (text(&args[0])?.as_str(), text(with)?.as_str());
    let mut out = String::new();
    let mut growing = op::Growing::default();
    let next = step(args, at, limit, &mut |_, found, _| {
        let before = out.len();
        if let Some(found) = found.get(0) {
            out.push_str(&whole[from.min(found.start())..found.start()]);
            from = found.end();
        }
        // The replacement can contain a group many times.
        op::reserve(with.len())?;
        found.expand(with, &mut out);
        growing.text(out.len() - before)
    })?;
    if matches!(next, Value::Null) {
        let rest = whole.get(from..).unwrap_or_default();
        growing.text(rest.len())?;
        out.push_str(rest);
    }
    Ok((op::made(Value::str(out))?, next, from))
}

/// Returns the parts before each match, from `from` on, and at the end the last part.
fn split_some(args: &[Value], at: &Value, mut from: usize, limit: Option<Duration>) -> Result<Part, Fail> {
    let whole = text(&args[0])?.as_str();
    let mut parts = Vec::new();
    let mut growing = op::Growing::default();
    let next = step(args, at, limit, &mut |_, found, _| {
        growing.item()?;
        if let Some(found) = found.get(0) {
            parts.push(Value::str(&whole[from.min(found.start())..found.start()]));
            from = found.end();
        }
        Ok(())
    })?;
    if matches!(next, Value::Null) {
        parts.push(Value::str(whole.get(from..).unwrap_or_default()));
    }
    Ok((op::made(Value::list(parts))?, next, from))
}

/// A function that sees a match. An error ends the search.
type Found<'a> = &'a mut dyn FnMut(&Regex, &Captures<'_>, &mut Places<'_>) -> Result<(), Fail>;

/// Searches for further matches, until the limit or the end of the text. `args` begins with the
/// text and the pattern. `at` is the place that the step before returned, or null at first. Returns
/// the place to go on from, or null at the end.
fn step(args: &[Value], at: &Value, limit: Option<Duration>, found: Found<'_>) -> Result<Value, Fail> {
    let whole = text(&args[0])?;
    let regex = Pattern::of(&args[1], whole)?.regex;
    let [mut at, mut last, byte, count] = places_of(at);
    let mut places = Places::of(whole, byte, count);
    let text = whole.as_str();
    let (began, mut searches) = (Instant::now(), 0);
    loop {
        searches += 1;
        if searches % SEARCHES == 0 && limit.is_some_and(|limit| began.elapsed() > limit) {
            work::done(WORK);
            let next = [at, last, places.byte, places.count];
            return Ok(Value::list(next.into_iter().map(|place| Value::Int(place as i64)).collect()));
        }
        let Some(captures) = (at <= text.len()).then(|| regex.captures_at(text, at)).flatten() else {
            return Ok(Value::Null);
        };
        let Some(whole) = captures.get(0) else { return Ok(Value::Null) };
        // An empty match right after another match does not count.
        let is_next_to = whole.is_empty() && last == whole.end() + 1;
        if !is_next_to {
            found(&regex, &captures, &mut places)?;
        }
        last = whole.end() + 1;
        at = match whole.is_empty() {
            true => whole.end() + text[whole.end()..].chars().next().map_or(1, char::len_utf8),
            false => whole.end(),
        };
    }
}

/// Reads a place: where the next search begins, the end of the last match plus one, and a position
/// in bytes and in characters.
fn places_of(value: &Value) -> [usize; 4] {
    let mut places = [0; 4];
    if let Value::List(list) = value {
        for (place, value) in places.iter_mut().zip(list.as_slice()) {
            *place = if let Value::Int(n) = value { usize::try_from(*n).unwrap_or(0) } else { 0 };
        }
    }
    places
}

/// A regular expression with the number of its automaton's states.
#[derive(Clone)]
struct Pattern {
    regex: Regex,
    states: usize,
}

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Pattern>> = RefCell::new(HashMap::new());
}

impl Pattern {
    /// Compiles the pattern. Fails if a search of the text could take too long.
    fn of(pattern: &Value, whole: &Text) -> Result<Pattern, Fail> {
        let pattern = compiled(text(pattern)?.as_str())?;
        let len = whole.as_str().len();
        if pattern.states.saturating_mul(len) > MOST {
            let states = pattern.states;
            let message =
                format!("a text of {len} bytes is too long for a pattern of {states} states: cut it first");
            return Err(fail("limit", message));
        }
        Ok(pattern)
    }
}

fn compiled(pattern: &str) -> Result<Pattern, Fail> {
    PATTERNS.with(|patterns| {
        let mut patterns = patterns.borrow_mut();
        if let Some(pattern) = patterns.get(pattern) {
            return Ok(pattern.clone());
        }
        let regex = RegexBuilder::new(pattern).size_limit(4 << 20).build().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("").trim_start_matches("error: ").to_string();
            fail_with(
                "parse_error",
                format!("not a regular expression: {reason}"),
                [("pattern", Value::str(pattern))],
            )
        })?;
        let states = thompson::NFA::new(pattern).map_or(1 << 20, |nfa| nfa.states().len());
        if patterns.len() > 100 {
            patterns.clear();
        }
        let made = Pattern { regex, states };
        patterns.insert(pattern.to_string(), made.clone());
        Ok(made)
    })
}

/// A converter of positions in a text from bytes to characters. Ascending positions are fast.
struct Places<'a> {
    text: &'a str,
    is_ascii: bool,
    /// A known position: its byte, and the number of characters before it.
    byte: usize,
    count: usize,
}

impl<'a> Places<'a> {
    fn of(text: &'a Text, byte: usize, count: usize) -> Places<'a> {
        Places { text: text.as_str(), is_ascii: text.is_ascii(), byte, count }
    }

    /// Returns the number of characters before a byte.
    fn character(&mut self, byte: usize) -> i64 {
        if self.is_ascii {
            return byte as i64;
        }
        if byte < self.byte {
            (self.byte, self.count) = (0, 0);
        }
        self.count += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.count as i64
    }
}

/// Returns the record `{text, start, end, groups}` of a match. Named groups are fields of `groups`
/// by name, others by number. Positions count characters.
fn found_record(regex: &Regex, found: &Captures<'_>, places: &mut Places<'_>) -> Value {
    let Some(whole) = found.get(0) else { return Value::Null };
    let mut groups = Record::default();
    for (number, name) in regex.capture_names().enumerate().skip(1) {
        let value = found.get(number).map_or(Value::Null, |group| Value::str(group.as_str()));
        groups.set(intern(name.unwrap_or(&number.to_string())), value);
    }
    Value::record([
        ("text", Value::str(whole.as_str())),
        ("start", Value::Int(places.character(whole.start()))),
        ("end", Value::Int(places.character(whole.end()))),
        ("groups", Value::Record(Rc::new(groups))),
    ])
}
