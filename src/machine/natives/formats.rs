//! Natives for JSON and CSV.

use std::collections::HashSet;
use std::rc::Rc;

use super::super::data::Data;
use super::super::error::{Fail, fail, fail_with, type_error};
use super::super::json::{self, Style};
use super::super::json_text;
use super::super::operate as op;
use super::super::value::{Keys, Record, Value, intern};
use super::super::{format, work};
use super::{Native, list, options, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "json_parse" => |args| {
            let options::Json { big, tagged } = json_options(args.get(1))?;
            let text = text(&args[0])?.as_str();
            work::done(text.len());
            op::made(if tagged { json::parse_tagged(text, big)? } else { json_text::read(text, big)? })
        },
        "json_encode" => |args| {
            let tagged = args.get(1).map_or(Ok(false), options::json_encode)?;
            let text = match tagged {
                true => json::encode_tagged(&args[0]),
                false => json::encode(&args[0], Style::Plain, None),
            };
            text.and_then(written)
        },
        "json_pretty" => |args| json::encode(&args[0], Style::Plain, Some(2)).and_then(written),
        "csv_parse" => csv_parse,
        "csv_encode" => csv_encode,
        _ => return None,
    })
}

fn written(json: String) -> Result<Value, Fail> {
    work::done(json.len());
    op::reserve_text(json.len())?;
    Ok(Value::str(json))
}

fn json_options(options: Option<&Value>) -> Result<options::Json, Fail> {
    options.map_or(Ok(options::Json::default()), |options| options::json(options, "`json.parse`"))
}

/// Reads CSV: as records with a header, as lists without one. All fields are strings.
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

/// Writes CSV. Records become rows under a header with the names of the first record; lists become
/// rows as they are.
fn csv_encode(args: &mut [Value]) -> Result<Value, Fail> {
    let options::Csv { header, separator } = options::csv(&args[1], "`csv.encode`")?;
    let mut writer = csv::WriterBuilder::new().delimiter(separator).flexible(true).from_writer(Vec::new());
    let bad = |error: csv::Error| fail("type_error", format!("can't be written as CSV: {error}"));
    let rows = list(&args[0])?;
    let mut names: Option<Vec<String>> = None;
    let mut columns: HashSet<String> = HashSet::new();
    let mut growing = op::Growing::default();
    let mut cell = |value: &Value| -> Result<String, Fail> {
        let text = match value {
            Value::Null => String::new(),
            other => {
                Data::encode_named(other, "a cell")?;
                format::to_text(other)?
            }
        };
        growing.text(text.len() + 1)?;
        Ok(text)
    };
    for row in rows.as_slice() {
        let cells: Vec<String> = match row {
            Value::List(cells) => cells.as_slice().iter().map(&mut cell).collect::<Result<_, _>>()?,
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
        let end = text.find([char::from(separator), '\n']).unwrap_or(text.len());
        text.insert(end, '"');
        text.insert(0, '"');
    }
    Ok(Value::str(text))
}
