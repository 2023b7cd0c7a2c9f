//! Natives for CSV.

use std::collections::HashSet;
use std::rc::Rc;

use super::super::data::Data;
use super::super::error::{Fail, fail, fail_with, type_error};
use super::super::operate as op;
use super::super::value::{Keys, Record, Value, intern};
use super::super::{durations, format, work};
use super::{Native, io_options, list, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "csv_parse" => parse,
        "csv_encode" => encode,
        _ => return None,
    })
}

/// Reads CSV: as records with a header, as lists without one. All fields are strings.
fn parse(args: &mut [Value]) -> Result<Value, Fail> {
    let options = io_options::csv(&args[1], false)?;
    let header = options.header;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(options.separator)
        .quote(options.quote)
        .comment(options.comment)
        .trim(if options.trim { csv::Trim::All } else { csv::Trim::None })
        .has_headers(header)
        .flexible(false)
        .from_reader(text(&args[0])?.as_str().as_bytes());
    let (written, comment) = (text(&args[0])?.as_str().as_bytes(), options.comment);
    let bad = |error: csv::Error| unreadable(&error, header, written, comment);
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
    let mut growing = op::Growing::default();
    work::done(text(&args[0])?.as_str().len());
    for row in reader.records() {
        let row = row.map_err(bad)?;
        let mut values: Vec<Value> = Vec::with_capacity(row.len());
        let mut cells = op::Growing::default();
        for cell in row.iter() {
            cells.item()?;
            values.push(Value::str(cell));
        }
        rows.push(if header {
            Value::Record(Rc::new(Record::new(keys.clone(), values)))
        } else {
            Value::list(values)
        });
        growing.item()?;
    }
    op::made(Value::list(rows))
}

/// Returns the error of a text that is not CSV.
fn unreadable(error: &csv::Error, header: bool, text: &[u8], comment: Option<u8>) -> Fail {
    let line = error.position().map_or(0, |position| {
        let at = usize::try_from(position.byte()).unwrap_or(usize::MAX);
        position.line() + left_out(text.get(at..).unwrap_or_default(), comment)
    });
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let fields = if *len == 1 { "field" } else { "fields" };
            let other = if header { "the header" } else { "the first row" };
            format!("line {line} has {len} {fields}, {other} has {expected_len}")
        }
        _ => error.to_string(),
    };
    fail_with("parse_error", format!("not CSV: {reason}"), [("line", Value::Int(line as i64))])
}

/// Returns the number of empty lines and comments before a row. A row's position is where the row
/// before has ended.
fn left_out(text: &[u8], comment: Option<u8>) -> u64 {
    let (mut rest, mut lines) = (text, 0);
    while let Some(first) = rest.first() {
        let is_empty = matches!(first, b'\n' | b'\r');
        if !is_empty && Some(*first) != comment {
            break;
        }
        let end = if *first == b'\r' { 0 } else { memchr::memchr(b'\n', rest).unwrap_or(rest.len() - 1) };
        lines += u64::from(rest[end] == b'\n');
        rest = &rest[end + 1..];
    }
    lines
}

/// Writes CSV. Records become rows under a header with the names of the first record; lists become
/// rows as they are.
fn encode(args: &mut [Value]) -> Result<Value, Fail> {
    let options = io_options::csv(&args[1], true)?;
    let mut writer = csv::WriterBuilder::new()
        .delimiter(options.separator)
        .quote(options.quote)
        .flexible(true)
        .from_writer(Vec::new());
    let bad = |error: csv::Error| fail("type_error", format!("can't be written as CSV: {error}"));
    let rows = list(&args[0])?;
    let is_chosen = options.columns.is_some();
    let mut names = options.columns;
    let mut columns: HashSet<String> = HashSet::new();
    let mut growing = op::Growing::default();
    let mut cell = |value: &Value| -> Result<String, Fail> {
        let text = match value {
            Value::Null => String::new(),
            Value::Duration(nanos) => durations::exact(*nanos),
            other => {
                Data::encode_named(other, "a cell")?;
                format::to_text(other)?
            }
        };
        growing.text(text.len() + 1)?;
        Ok(text)
    };
    if let Some(names) = names.as_ref().filter(|_| options.header) {
        writer.write_record(names).map_err(bad)?;
    }
    for row in rows.as_slice() {
        let cells: Vec<String> = match row {
            Value::List(cells) => cells.as_slice().iter().map(&mut cell).collect::<Result<_, _>>()?,
            Value::Record(record) => {
                if names.is_none() {
                    let first: Vec<String> =
                        record.keys().names().iter().map(|name| name.to_string()).collect();
                    if options.header {
                        writer.write_record(&first).map_err(bad)?;
                    }
                    columns = first.iter().cloned().collect();
                    names = Some(first);
                }
                let names = names.as_deref().unwrap_or_default();
                let extra = record.keys().names().iter().find(|name| !columns.contains(&***name));
                if let Some(extra) = extra.filter(|_| !is_chosen) {
                    return Err(type_error(format!(
                        "a row has the field `{extra}`, which the first row doesn't have; option `columns` says which are written"
                    )));
                }
                names
                    .iter()
                    .map(|name| record.get_str(name).map_or(Ok(String::new()), &mut cell))
                    .collect::<Result<_, _>>()?
            }
            other => return Err(type_error(format!("a row is a record or a list, not {}", other.a_kind()))),
        };
        writer.write_record(&cells).map_err(bad)?;
    }
    let bytes = writer.into_inner().map_err(|_| fail("internal", "the CSV could not be finished"))?;
    op::reserve_text(bytes.len())?;
    let mut text = String::from_utf8(bytes).map_err(|_| fail("internal", "CSV that is not UTF-8"))?;
    // At the beginning of a text, this character would count as a byte order mark.
    if text.starts_with('\u{feff}') {
        let end = text.find([char::from(options.separator), '\n']).unwrap_or(text.len());
        text.insert(end, char::from(options.quote));
        text.insert(0, char::from(options.quote));
    }
    Ok(Value::str(text))
}
