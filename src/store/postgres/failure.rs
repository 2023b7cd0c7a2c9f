//! The errors of the database's server, as errors of a store.

use std::error::Error as _;
use std::io::{self, ErrorKind};

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::kv::{Cause, StoreError};

use super::url::Url;

/// The error of a commit that consumes what is not there.
pub(super) const TAKEN_TWICE: &str = "DU001";

/// Whether an error ends the connection, and another connection may have no such error.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.code() {
        Some(code) => {
            code.code().starts_with("08")
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN
                || *code == SqlState::CANNOT_CONNECT_NOW
                || *code == SqlState::TOO_MANY_CONNECTIONS
                || *code == SqlState::IDLE_SESSION_TIMEOUT
        }
        None => error.is_closed() || io_error(error).is_some_and(is_of_network) || is_timeout(error),
    }
}

/// Whether the same transaction may succeed at once, since it met another one.
pub(super) fn is_conflict(error: &Error) -> bool {
    let conflicts = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
    ];
    error.code().is_some_and(|code| conflicts.contains(code))
}

/// Whether a statement was prepared that the server does not know any more.
pub(super) fn is_unprepared(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        *code == SqlState::INVALID_SQL_STATEMENT_NAME || *code == SqlState::DUPLICATE_PSTATEMENT
    })
}

/// Returns the error of an attempt to do `what`, as in `write to`, with a database.
pub(super) fn store_error(what: &str, url: &Url, error: &Error) -> StoreError {
    let what = format!("{what} {url}");
    let source = Cause::new(words(error));
    match error.code() {
        _ if is_lost(error) && error.code() != Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            StoreError::Unreachable { what, source }
        }
        Some(code) if *code == SqlState::DISK_FULL => StoreError::Full { what, source },
        Some(code) if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => {
            StoreError::Damaged { what: format!("the server can't {what}: {}", words(error)) }
        }
        Some(code) => StoreError::Refused { what, source, hint: hint(code, url) },
        None => StoreError::Refused { what, source, hint: hint_of_client(error) },
    }
}

/// Returns what to do about an error of the server.
fn hint(code: &SqlState, url: &Url) -> String {
    let database = url.database();
    if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "check the user of the URL; the password is in the URL, in PGPASSWORD or in ~/.pgpass, which only its owner may read".into()
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        format!("check the name in the URL, or make the database: `createdb {database}`")
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        "the owner of the store gives rights: `durable store init URL --grant-worker ROLE`, or `--grant-client` and `--grant-reader`".into()
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        "the server is a standby or writes nothing: give the URL of the primary; with several hosts, `target_session_attrs=read-write` finds it".into()
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "raise `max_connections` of the server, end other clients, or connect through pgbouncer".into()
    } else if *code == SqlState::UNDEFINED_OBJECT {
        "make the role first: `createuser ROLE`".into()
    } else if is_of_schema(code) {
        "`durable store init URL` makes the schema, and `durable store verify` checks it".into()
    } else if *code == SqlState::QUERY_CANCELED {
        "somebody cancelled the query, or `statement_timeout` of the user is too short".into()
    } else {
        "nothing was changed; the server's log may say more".into()
    }
}

fn hint_of_client(error: &Error) -> String {
    let text = error.to_string();
    if text.contains("TLS") {
        "the server must have a certificate for its name from an authority of the system or of `sslrootcert=FILE`; without TLS, `?sslmode=disable`".into()
    } else if text.contains("authentication") || text.contains("configuration") {
        "the password is in the URL, in PGPASSWORD or in ~/.pgpass, which only its owner may read".into()
    } else {
        "nothing was changed; check that the server is PostgreSQL of version 13 or newer".into()
    }
}

/// Whether a part of the schema is missing.
pub(super) fn is_of_schema(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_COLUMN,
        SqlState::UNDEFINED_OBJECT,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
}

/// Returns what the server or the system says, without what the library adds.
pub(super) fn words(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", error.message());
    }
    match (io_error(error), error.source()) {
        (Some(error), _) if is_of_network(error) => crate::os::reason(error),
        (_, Some(source)) => source.to_string(),
        (_, None) if error.is_closed() => "the connection was closed".into(),
        (_, None) => error.to_string(),
    }
}

fn io_error(error: &Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

/// Whether an error is the network's, and not one of TLS or of a file.
fn is_of_network(error: &io::Error) -> bool {
    error.get_ref().is_none()
        || matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::TimedOut
                | ErrorKind::UnexpectedEof
                | ErrorKind::NotConnected
        )
        || error.to_string().starts_with("failed to lookup address")
}

fn is_timeout(error: &Error) -> bool {
    error.to_string().starts_with("timeout")
}
