//! Natives for strings. Positions count characters.

use std::rc::Rc;

use xxhash_rust::xxh3::xxh3_64;

use super::super::error::{Fail, fail};
use super::super::operate as op;
use super::super::value::{Text, Value};
use super::super::work;
use super::{Native, int, stretch, text};

/// The bytes of a short string.
const STRING: usize = 64;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "string_split" => |args| {
            let (whole, separator) = (text(&args[0])?, text(&args[1])?);
            if separator.as_str().is_empty() {
                return characters(whole);
            }
            let count = whole.as_str().matches(separator.as_str()).count() + 1;
            op::reserve_items(count)?;
            op::reserve(count.saturating_mul(STRING).saturating_add(whole.as_str().len()))?;
            work::done(whole.as_str().len());
            let mut known = Known::of(whole.as_str().len());
            let mut parts = Vec::with_capacity(count);
            parts.extend(whole.as_str().split(separator.as_str()).map(|part| known.value(part)));
            Ok(Value::list(parts))
        },
        "string_trim" => |args| Ok(Value::str(gone_through(&args[0], 1)?.trim())),
        "string_replace" => |args| {
            let (whole, old, new) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
            let found = whole.as_str().matches(old.as_str()).count();
            work::done(whole.as_str().len());
            op::reserve_text(whole.as_str().len().saturating_add(found.saturating_mul(new.as_str().len())))?;
            Ok(Value::str(whole.as_str().replace(old.as_str(), new.as_str())))
        },
        // A character becomes at most three in the other case.
        "string_upper" => |args| {
            let whole = gone_through(&args[0], 3)?;
            Ok(Value::str(whole.to_uppercase()))
        },
        "string_lower" => |args| {
            let whole = gone_through(&args[0], 3)?;
            Ok(Value::str(whole.to_lowercase()))
        },
        "string_starts_with" => {
            |args| Ok(Value::bool(text(&args[0])?.as_str().starts_with(text(&args[1])?.as_str())))
        }
        "string_ends_with" => {
            |args| Ok(Value::bool(text(&args[0])?.as_str().ends_with(text(&args[1])?.as_str())))
        }
        "string_contains" => {
            |args| Ok(Value::bool(gone_through(&args[0], 0)?.contains(text(&args[1])?.as_str())))
        }
        "string_index_of" => |args| {
            let whole = gone_through(&args[0], 0)?;
            let found = whole.find(text(&args[1])?.as_str());
            Ok(found.map_or(Value::Null, |at| Value::Int(whole[..at].chars().count() as i64)))
        },
        "string_slice" => |args| {
            let whole = text(&args[0])?;
            let (from, to) = stretch(&args[1], &args[2], whole.chars())?;
            op::reserve_text((to - from).min(whole.as_str().len()))?;
            if whole.is_ascii() {
                return Ok(Value::str(&whole.as_str()[from..to]));
            }
            work::done(whole.as_str().len());
            Ok(Value::str(whole.as_str().chars().skip(from).take(to - from).collect::<String>()))
        },
        "string_chars" => |args| characters(text(&args[0])?),
        "string_lines" => |args| {
            let whole = text(&args[0])?.as_str();
            let mut lines = Vec::new();
            let mut growing = op::Growing::default();
            for line in whole.lines() {
                growing.item()?;
                lines.push(Value::str(line));
            }
            op::made(Value::list(lines))
        },
        "string_repeat" => |args| {
            let (whole, times) = (text(&args[0])?, int(&args[1])?);
            let times = usize::try_from(times)
                .map_err(|_| fail("type_error", "a string can't be repeated a negative number of times"))?;
            op::reserve_text(whole.as_str().len().saturating_mul(times))?;
            Ok(Value::str(whole.as_str().repeat(times)))
        },
        // Returns the padding of a string: the filling, once for each missing character.
        "string_padding" => |args| {
            let (whole, width, filling) = (text(&args[0])?, int(&args[1])?, text(&args[2])?);
            if filling.as_str().is_empty() {
                return Err(fail("type_error", "a string can't be padded with an empty one"));
            }
            let times = usize::try_from(width).unwrap_or(0).saturating_sub(whole.chars());
            op::reserve_text(filling.as_str().len().saturating_mul(times))?;
            Ok(Value::str(filling.as_str().repeat(times)))
        },
        "string_to_int" => |args| {
            let digits = text(&args[0])?.as_str().trim();
            digits.parse::<i64>().map(Value::Int).map_err(|_| {
                fail("parse_error", format!("{} is not an int", super::super::format::brief(&args[0])))
            })
        },
        "string_to_float" => |args| {
            let digits = text(&args[0])?.as_str().trim();
            digits.parse::<f64>().ok().filter(|x| x.is_finite()).map(Value::float).ok_or_else(|| {
                fail("parse_error", format!("{} is not a float", super::super::format::brief(&args[0])))
            })
        },
        "string_bytes" => |args| Ok(Value::bytes(gone_through(&args[0], 1)?.as_bytes().to_vec())),
        _ => return None,
    })
}

/// Returns a string after counting one pass over it as work, and reserving memory for a result of
/// `times` its length.
fn gone_through(value: &Value, times: usize) -> Result<&str, Fail> {
    let whole = text(value)?.as_str();
    work::done(whole.len());
    op::reserve(whole.len().saturating_mul(times))?;
    Ok(whole)
}

/// Returns a string's characters, if they are not too many for a list.
fn characters(whole: &Text) -> Result<Value, Fail> {
    op::reserve_items(whole.chars())?;
    Ok(op::characters(whole))
}

/// Strings that were made recently. The words of a text recur, and are then the same string.
struct Known {
    /// The strings by their hashes. The length is a power of two.
    places: Vec<Option<Rc<Text>>>,
    /// The number of new strings still allowed. Each one that recurs allows more.
    credit: usize,
}

impl Known {
    /// Makes the table for a text of `bytes` bytes.
    fn of(bytes: usize) -> Known {
        const SHORT: usize = 1024;
        const MOST: usize = 4096;
        if bytes < SHORT {
            return Known { places: Vec::new(), credit: 0 };
        }
        let places = (bytes / 64).next_power_of_two().min(MOST);
        Known { places: vec![None; places], credit: 2 * places }
    }

    fn value(&mut self, part: &str) -> Value {
        // Longer strings seldom recur.
        const LONG: usize = 24;
        if part.len() > LONG || self.credit == 0 {
            return Value::str(part);
        }
        let at = xxh3_64(part.as_bytes()) as usize & (self.places.len() - 1);
        match &mut self.places[at] {
            Some(known) if known.as_str() == part => {
                self.credit += 4;
                Value::Str(known.clone())
            }
            place => {
                self.credit -= 1;
                Value::Str(place.insert(Text::new(part)).clone())
            }
        }
    }
}
