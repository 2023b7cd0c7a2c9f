//! A layout of values for people: over several lines if one is too short, a list of records as a
//! table, long values folded.

use super::format::{is_word, write};
use super::value::{Record, Value};

/// The first and the last elements that are shown of a list with more than [`MOST`].
const FIRST: usize = 20;
const LAST: usize = 3;
/// The most elements, fields or rows that are shown without folding.
const MOST: usize = 30;
/// The limit on the bytes of a text that is shown.
const LONG: usize = 2_000;
/// The number of levels that are laid out. Deeper levels are on one line.
const DEEP: usize = 8;
/// The greatest width of a table's cell, in columns.
const CELL: usize = 40;

/// Returns a value in as many lines of `width` columns as it needs.
pub fn pretty(value: &Value, width: usize) -> String {
    let mut out = String::new();
    match value {
        Value::List(list) if list.len() > 1 => match table(list.as_slice(), width) {
            Some(table) => return table,
            None => lay_out(&mut out, value, width, 0),
        },
        _ => lay_out(&mut out, value, width, 0),
    }
    out
}

fn lay_out(out: &mut String, value: &Value, width: usize, level: usize) {
    let (line, whole) = write(value, width.max(20) * 2);
    let used = out.rsplit('\n').next().map_or(0, |last| last.chars().count());
    if whole && used + line.chars().count() <= width {
        out.push_str(&line);
        return;
    }
    match value {
        Value::List(list) if list.as_slice().iter().all(is_small) => fill(out, list.as_slice(), width, level),
        Value::List(list) if level < DEEP => {
            lay_out_items(out, '[', ']', list.len(), level, &mut |out, at| {
                lay_out(out, &list.as_slice()[at], width, level + 1);
            });
        }
        Value::Record(record) if level < DEEP => {
            let fields: Vec<_> = record.iter().collect();
            lay_out_items(out, '{', '}', fields.len(), level, &mut |out, at| {
                let (name, value) = fields[at];
                match is_word(name) {
                    true => out.push_str(name),
                    false => out.push_str(&format!("{:?}", &**name)),
                }
                out.push_str(": ");
                lay_out(out, value, width, level + 1);
            });
        }
        value => {
            let (mut text, whole) = write(value, LONG);
            if !whole {
                text.push_str(&match value {
                    Value::Str(all) => format!("… ({} characters)", all.chars()),
                    _ => "…".to_string(),
                });
            }
            out.push_str(&text);
        }
    }
}

/// Returns whether several values of this kind go on one line.
fn is_small(value: &Value) -> bool {
    !matches!(value, Value::List(_) | Value::Record(_) | Value::Str(_))
}

/// Writes small elements, as many on a line as fit.
fn fill(out: &mut String, items: &[Value], width: usize, level: usize) {
    const MOST_SMALL: usize = 200;
    out.push('[');
    line(out, level + 1);
    let mut used = 2 * (level + 1);
    let shown = if items.len() > MOST_SMALL { MOST_SMALL / 2 } else { items.len() };
    for (at, item) in items[..shown].iter().enumerate() {
        let (text, _) = write(item, CELL);
        if used + text.chars().count() + 2 > width && at > 0 {
            out.pop();
            line(out, level + 1);
            used = 2 * (level + 1);
        }
        used += text.chars().count() + 2;
        out.push_str(&text);
        out.push_str(if at + 1 < items.len() { ", " } else { "" });
    }
    if shown < items.len() {
        out.pop();
        line(out, level + 1);
        out.push_str(&format!("… {} more", items.len() - shown));
    }
    line(out, level);
    out.push(']');
}

fn lay_out_items(
    out: &mut String,
    open: char,
    close: char,
    count: usize,
    level: usize,
    item: &mut dyn FnMut(&mut String, usize),
) {
    out.push(open);
    for at in 0..count {
        if count > MOST && (FIRST..count - LAST).contains(&at) {
            if at == FIRST {
                line(out, level + 1);
                out.push_str(&format!("… {} more", count - FIRST - LAST));
            }
            continue;
        }
        line(out, level + 1);
        item(out, at);
        if at + 1 < count {
            out.push(',');
        }
    }
    if count > 0 {
        line(out, level);
    }
    out.push(close);
}

fn line(out: &mut String, level: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", level));
}

/// Returns a list of records with the same fields as a table, if the table fits.
fn table(items: &[Value], width: usize) -> Option<String> {
    let records: Option<Vec<&Record>> = items
        .iter()
        .map(|item| match item {
            Value::Record(record) => Some(&**record),
            _ => None,
        })
        .collect();
    let records = records?;
    let names = records.first()?.keys().names();
    let same =
        |record: &&Record| record.len() == names.len() && names.iter().all(|name| record.get(name).is_some());
    if names.is_empty() || !records.iter().all(same) {
        return None;
    }
    let count = records.len();
    let shown: Vec<&Record> = match count > MOST {
        true => records[..FIRST].iter().chain(&records[count - LAST..]).copied().collect(),
        false => records,
    };
    let cell = |value: &Value| {
        let text = match value {
            Value::Str(text) if !text.as_str().contains(char::is_control) => text.as_str().to_string(),
            value => write(value, 4 * CELL).0,
        };
        match text.chars().count() > CELL {
            true => format!("{}…", text.chars().take(CELL - 1).collect::<String>()),
            false => text,
        }
    };
    let mut rows: Vec<Vec<String>> = vec![names.iter().map(|name| name.to_string()).collect()];
    for record in &shown {
        rows.push(names.iter().map(|name| record.get(name).map(cell).unwrap_or_default()).collect());
    }
    let widths: Vec<usize> = (0..names.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    if widths.iter().sum::<usize>() + 2 * widths.len() > width {
        return None;
    }
    let is_number = |value: Option<&Value>| matches!(value, Some(Value::Int(_) | Value::Float(_)));
    let numbers: Vec<bool> =
        names.iter().map(|name| shown.iter().all(|record| is_number(record.get(name)))).collect();
    let mut out = String::new();
    for (at, row) in rows.iter().enumerate() {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let gap = if column > 0 { "  " } else { "" };
            text.push_str(&match numbers[column] {
                true => format!("{gap}{pad}{cell}"),
                false => format!("{gap}{cell}{pad}"),
            });
        }
        out.push_str(text.trim_end());
        out.push('\n');
        if at == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
            out.push_str(&format!("{}\n", rules.join("  ")));
        }
        if count > MOST && at == FIRST {
            out.push_str(&format!("… {} more\n", count - FIRST - LAST));
        }
    }
    out.push_str(&format!("({count} rows)"));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_on_one_line_and_the_rest_is_laid_out() {
        let row = |n: i64, name: &str| Value::record([("n", Value::Int(n)), ("name", Value::str(name))]);
        assert_eq!(pretty(&row(1, "ada"), 40), "{n: 1, name: \"ada\"}");
        assert_eq!(pretty(&row(1, "ada"), 10), "{\n  n: 1,\n  name: \"ada\"\n}");
        let rows = Value::list(vec![row(1, "ada"), row(20, "bob")]);
        assert_eq!(pretty(&rows, 40), " n  name\n──  ────\n 1  ada\n20  bob\n(2 rows)");
        let many = Value::list((0..100).map(Value::Int).collect());
        let text = pretty(&many, 40);
        assert!(text.starts_with("[\n  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,\n  12,"), "{text}");
        let many = Value::list((0..100).map(|n| Value::str(n.to_string())).collect());
        let text = pretty(&many, 40);
        assert!(text.contains("  \"19\",\n  … 77 more\n  \"97\",\n"), "{text}");
    }
}
