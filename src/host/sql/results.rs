//! The results of statements.

use crate::machine::sql::{Datum, Limits};
use crate::machine::{ErrorData, Value};

use super::error::{sql_error, too_large};

/// The result of a statement.
pub(super) enum Answer {
    Rows(Rows),
    /// The number of rows that changed.
    Count(u64),
}

impl Answer {
    /// Returns the value for the program: a list of records, or a number.
    pub(super) fn into_value(self) -> Value {
        match self {
            Answer::Rows(rows) => rows.into_value(),
            Answer::Count(count) => Value::Int(count.cast_signed()),
        }
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> u64 {
        match self {
            Answer::Rows(rows) => rows.rows.len() as u64,
            Answer::Count(count) => *count,
        }
    }
}

/// Rows, as plain data.
pub(super) struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Datum>>,
    size: u64,
}

impl Rows {
    /// Begins a result. An error says that two columns have one name, since a row is a record.
    pub(super) fn new(columns: Vec<String>) -> Result<Rows, ErrorData> {
        let twice = columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name));
        match twice {
            Some((_, name)) => {
                let message =
                    format!("two columns of the result are called `{name}`; `as` gives one another name");
                Err(sql_error("42701", message, Vec::new()))
            }
            None => Ok(Rows { columns, rows: Vec::new(), size: 0 }),
        }
    }

    /// Adds a row, if there is room.
    pub(super) fn add(&mut self, row: Vec<Datum>, limits: &Limits) -> Result<(), ErrorData> {
        if self.rows.len() as u64 >= limits.max_rows {
            return Err(too_large(limits.max_rows, "rows", "max_rows"));
        }
        self.size += row.iter().map(Datum::size).sum::<u64>();
        if self.size > limits.max_size {
            return Err(too_large(limits.max_size, "bytes", "max_size"));
        }
        self.rows.push(row);
        Ok(())
    }

    /// Returns the only value, if there is one.
    pub(super) fn single(mut self) -> Option<Datum> {
        self.rows.pop().and_then(|mut row| row.pop())
    }

    fn into_value(self) -> Value {
        let Rows { columns, rows, .. } = self;
        let record = |row: Vec<Datum>| {
            let values = row.into_iter().map(Datum::into_value);
            Value::record(columns.iter().map(String::as_str).zip(values))
        };
        Value::list(rows.into_iter().map(record).collect())
    }
}
