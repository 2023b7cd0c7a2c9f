//! A transaction that sees one state of the database.

use std::sync::{Mutex, PoisonError};

use tokio_postgres::Row;

use crate::kv::StoreError;

use super::connection::{Connection, Params};
use super::patience::Patience;
use super::pool::Rows;
use super::url::Url;

/// A connection within a transaction that changes nothing.
pub(super) struct Snapshot {
    url: Url,
    connection: Mutex<Connection>,
}

impl Snapshot {
    pub(super) fn begin(url: &Url, patience: &Patience) -> Result<Snapshot, StoreError> {
        let begun = Connection::open(url, patience).and_then(|mut connection| {
            connection.execute("begin isolation level repeatable read read only")?;
            Ok(connection)
        });
        let connection = begun.map_err(|failure| failure.into_error("read from", url))?;
        Ok(Snapshot { url: url.clone(), connection: Mutex::new(connection) })
    }
}

impl Rows for Snapshot {
    fn rows(&self, what: &str, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.rows(sql, params).map_err(|failure| failure.into_error(what, &self.url))
    }
}
