//! The errors of databases.

use tokio_postgres::error::{DbError, ErrorPosition};

use crate::machine::{ErrorData, Value};

/// An error, and what follows from it for a transaction.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub error: ErrorData,
    pub kind: TroubleKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TroubleKind {
    /// The statement failed, and would fail again.
    Failed,
    /// The transaction lost against another one, and can be tried again.
    Conflict,
    /// The connection is gone. What was under way may have been done.
    Lost,
}

impl From<ErrorData> for Trouble {
    fn from(error: ErrorData) -> Trouble {
        Trouble { error, kind: TroubleKind::Failed }
    }
}

pub(super) type Tried<T> = Result<T, Trouble>;

/// The names of conditions that programs ask for, by their codes (PostgreSQL's appendix A).
const CONDITIONS: [(&str, &str); 34] = [
    ("0A000", "feature_not_supported"),
    ("21000", "cardinality_violation"),
    ("22001", "string_data_right_truncation"),
    ("22003", "numeric_value_out_of_range"),
    ("22007", "invalid_datetime_format"),
    ("22008", "datetime_field_overflow"),
    ("22012", "division_by_zero"),
    ("22P02", "invalid_text_representation"),
    ("23502", "not_null_violation"),
    ("23503", "foreign_key_violation"),
    ("23505", "unique_violation"),
    ("23514", "check_violation"),
    ("23P01", "exclusion_violation"),
    ("25006", "read_only_sql_transaction"),
    ("25P02", "in_failed_sql_transaction"),
    ("28000", "invalid_authorization_specification"),
    ("28P01", "invalid_password"),
    ("3D000", "invalid_catalog_name"),
    ("3F000", "invalid_schema_name"),
    ("40001", "serialization_failure"),
    ("40P01", "deadlock_detected"),
    ("42501", "insufficient_privilege"),
    ("42601", "syntax_error"),
    ("42703", "undefined_column"),
    ("42804", "datatype_mismatch"),
    ("42883", "undefined_function"),
    ("42P01", "undefined_table"),
    ("42P07", "duplicate_table"),
    ("53100", "disk_full"),
    ("53200", "out_of_memory"),
    ("53300", "too_many_connections"),
    ("54000", "program_limit_exceeded"),
    ("55P03", "lock_not_available"),
    ("57014", "query_canceled"),
];

/// Returns the error of a statement, with its code and the code's name.
pub(super) fn sql_error(code: &str, message: String, more: Vec<(&str, Value)>) -> ErrorData {
    let condition = CONDITIONS.iter().find(|(known, _)| *known == code);
    let condition = condition.map_or(Value::Null, |(_, name)| Value::str(*name));
    let fields = [("code", Value::str(code)), ("condition", condition)];
    ErrorData::with("sql_error", message, fields.into_iter().chain(more))
}

/// Returns the error of a connection that could not be made or that broke.
pub(super) fn lost(server: &str, reason: &str) -> Trouble {
    let message = format!("{server}: {reason}");
    let error = ErrorData::with("connection_lost", message, [("server", Value::str(server))]);
    Trouble { error, kind: TroubleKind::Lost }
}

/// Returns the error of what took too long.
pub(super) fn too_slow(server: &str, timeout: i64) -> ErrorData {
    let after = crate::machine::format::duration(timeout);
    ErrorData::with(
        "timeout",
        format!("{server}: no answer within {after}; option `timeout` allows more"),
        [("server", Value::str(server))],
    )
}

/// Returns the error of a result with too many rows or bytes.
pub(super) fn too_large(most: u64, what: &str, option: &str) -> ErrorData {
    let message = format!(
        "the result has more than {most} {what}; `limit` in the statement gives fewer, and option `{option}` allows more"
    );
    ErrorData::new("limit", message)
}

/// Returns the error that PostgreSQL's client reports. `server` is the server in messages.
pub(super) fn of_postgres(error: tokio_postgres::Error, server: &str) -> Trouble {
    match error.as_db_error() {
        Some(db) => of_server(db, server),
        None if error.is_closed() => lost(server, "the connection was closed"),
        None => {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            let reason = crate::os::reason(&cause);
            match cause.downcast_ref::<std::io::Error>() {
                Some(_) => lost(server, &reason),
                None => Trouble::from(sql_error("HY000", cause.to_string(), Vec::new())),
            }
        }
    }
}

fn of_server(db: &DbError, server: &str) -> Trouble {
    let code = db.code().code();
    // The server shuts down or starts, or the connection failed.
    if matches!(code, "57P01" | "57P02" | "57P03" | "57P05") || code.starts_with("08") {
        return lost(server, db.message());
    }
    let mut message = db.message().to_string();
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        message = format!("{}: {more}", message.trim_end_matches('.'));
    }
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::str);
    let position = match db.position() {
        Some(ErrorPosition::Original(at)) => Value::Int(i64::from(*at)),
        _ => Value::Null,
    };
    let more = vec![
        ("constraint", text(db.constraint())),
        ("table", text(db.table())),
        ("column", text(db.column())),
        ("detail", text(db.detail())),
        ("position", position),
    ];
    let kind = match code {
        "40001" | "40P01" => TroubleKind::Conflict,
        _ => TroubleKind::Failed,
    };
    Trouble { error: sql_error(code, message.trim_end_matches('.').to_string(), more), kind }
}
