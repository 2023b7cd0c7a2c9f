//! Natives for JSON, CSV and regular expressions.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use regex::{Captures, Regex, RegexBuilder};

use super::super::data::Data;
use super::super::error::{Fail, fail, fail_with, type_error};
use super::super::json::{self, Style};
use super::super::json_text::{self, Big};
use super::super::operate as op;
use super::super::value::{Keys, Record, Text, Value, intern};
use super::super::{MAX_TEXT, format};
use super::{Native, list, options, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "json_parse" => |args| {
            let big = big(args.get(1))?;
            json_text::read(text(&args[0])?.as_str(), big)
        },
        "json_encode" => |args| json::encode(&args[0], Style::Plain, None).map(Value::str),
        "json_pretty" => |args| json::encode(&args[0], Style::Plain, Some(2)).map(Value::str),
        "csv_parse" => csv_parse,
        "csv_encode" => csv_encode,
        "regex_matches" => |args| Ok(Value::bool(compiled(&args[1])?.is_match(text(&args[0])?.as_str()))),
        "regex_find" => |args| {
            let regex = compiled(&args[1])?;
            let mut places = Places::of(text(&args[0])?);
            Ok(regex
                .captures(text(&args[0])?.as_str())
                .map_or(Value::Null, |found| found_record(&regex, &found, &mut places)))
        },
        "regex_find_all" => |args| {
            let regex = compiled(&args[1])?;
            let mut places = Places::of(text(&args[0])?);
            let mut all = Vec::new();
            for found in regex.captures_iter(text(&args[0])?.as_str()) {
                all.push(found_record(&regex, &found, &mut places));
                op::reserve_items(all.len())?;
            }
            Ok(Value::list(all))
        },
        "regex_replace" => |args| {
            let regex = compiled(&args[1])?;
            let replaced = regex.replace_all(text(&args[0])?.as_str(), text(&args[2])?.as_str()).into_owned();
            op::reserve_text(replaced.len())?;
            Ok(Value::str(replaced))
        },
        "regex_split" => |args| {
            Ok(Value::list(compiled(&args[1])?.split(text(&args[0])?.as_str()).map(Value::str).collect()))
        },
        _ => return None,
    })
}

thread_local! {
    static REGEXES: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

fn compiled(pattern: &Value) -> Result<Regex, Fail> {
    let pattern = text(pattern)?.as_str();
    REGEXES.with(|regexes| {
        let mut regexes = regexes.borrow_mut();
        if let Some(regex) = regexes.get(pattern) {
            return Ok(regex.clone());
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
        if regexes.len() > 100 {
            regexes.clear();
        }
        regexes.insert(pattern.to_string(), regex.clone());
        Ok(regex)
    })
}

/// Where characters are in a text, asked for from its beginning to its end.
struct Places<'a> {
    text: &'a str,
    is_ascii: bool,
    /// A place that is known: its byte, and how many characters are before it.
    byte: usize,
    count: usize,
}

impl<'a> Places<'a> {
    fn of(text: &'a Text) -> Places<'a> {
        Places { text: text.as_str(), is_ascii: text.is_ascii(), byte: 0, count: 0 }
    }

    /// How many characters are before a byte.
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

/// `{text, start, end, groups}`; named groups are fields of `groups`, others are numbered. Positions count characters.
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

/// What becomes of an int of more than 64 bits, by the options of `json.parse`.
fn big(options: Option<&Value>) -> Result<Big, Fail> {
    options.map_or(Ok(Big::Error), |options| options::json(options, "`json.parse`"))
}

/// With a header, records; without, lists. All fields are strings.
fn csv_parse(args: &mut [Value]) -> Result<Value, Fail> {
    let options::Csv { header, separator } = options::csv(&args[1], "`csv.parse`")?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(header)
        .flexible(false)
        .from_reader(text(&args[0])?.as_str().as_bytes());
    let bad = |error: csv::Error| {
        let line = error.position().map_or(0, |position| position.line());
        fail_with("parse_error", format!("not CSV: {error}"), [("line", Value::Int(line as i64))])
    };
    let mut keys = Rc::new(Keys::default());
    if header {
        let names: Vec<_> = reader.headers().map_err(bad)?.iter().map(intern).collect();
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
            return Err(fail(
                "parse_error",
                format!("not CSV with a header: the column `{twice}` is there twice"),
            ));
        }
        keys = Rc::new(Keys::new(names));
    }
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let values: Vec<Value> = row.iter().map(Value::str).collect();
        rows.push(if header {
            Value::Record(Rc::new(Record::new(keys.clone(), values)))
        } else {
            Value::list(values)
        });
        op::reserve_items(rows.len())?;
    }
    Ok(Value::list(rows))
}

/// Records become rows under a header of the first one's names; lists become rows as they are.
fn csv_encode(args: &mut [Value]) -> Result<Value, Fail> {
    let options::Csv { header, separator } = options::csv(&args[1], "`csv.encode`")?;
    let mut writer = csv::WriterBuilder::new().delimiter(separator).flexible(true).from_writer(Vec::new());
    let bad = |error: csv::Error| fail("type_error", format!("can't be written as CSV: {error}"));
    let rows = list(&args[0])?;
    let mut names: Option<Vec<String>> = None;
    let mut columns: HashSet<String> = HashSet::new();
    let cell = |value: &Value| match value {
        Value::Null => Ok(String::new()),
        other => {
            Data::encode_named(other, "a cell")?;
            format::to_text(other)
        }
    };
    for row in rows.as_slice() {
        let cells: Vec<String> = match row {
            Value::List(cells) => cells.as_slice().iter().map(cell).collect::<Result<_, _>>()?,
            Value::Record(record) => {
                if names.is_none() {
                    let first: Vec<String> =
                        record.keys().names().iter().map(|name| name.to_string()).collect();
                    if header {
                        writer.write_record(&first).map_err(bad)?;
                    }
                    columns = first.iter().cloned().collect();
                    names = Some(first);
                }
                let names = names.as_deref().unwrap_or_default();
                if let Some(extra) = record.keys().names().iter().find(|name| !columns.contains(&***name)) {
                    return Err(type_error(format!(
                        "a row has the field `{extra}`, which the first row doesn't have"
                    )));
                }
                names
                    .iter()
                    .map(|name| record.get_str(name).map_or(Ok(String::new()), cell))
                    .collect::<Result<_, _>>()?
            }
            other => return Err(type_error(format!("a row is a record or a list, not {}", other.a_kind()))),
        };
        writer.write_record(&cells).map_err(bad)?;
    }
    let bytes = writer.into_inner().map_err(|_| fail("internal", "the CSV could not be finished"))?;
    if bytes.len() > MAX_TEXT {
        op::reserve_text(bytes.len())?;
    }
    String::from_utf8(bytes).map(Value::str).map_err(|_| fail("internal", "CSV that is not UTF-8"))
}
