//! The connections that anybody may use: for reads, leases and messages.

use std::sync::{Mutex, PoisonError};

use tokio_postgres::Row;

use crate::kv::StoreError;

use super::connection::{Connection, Failure, Params};
use super::failure::is_conflict;
use super::patience::Patience;
use super::url::Url;

/// The number of connections that stay open while nobody uses them.
const MAX_IDLE: usize = 4;
/// The number of attempts of a statement that meets others.
const MEETINGS: u32 = 20;

/// The source of rows.
pub(super) trait Rows {
    /// Returns the rows of a statement. `what` says what is attempted, as in `read from`.
    fn rows(&self, what: &str, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError>;
}

pub(super) struct Pool {
    pub url: Url,
    pub patience: Patience,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(url: Url, patience: Patience) -> Pool {
        Pool { url, patience, idle: Mutex::default() }
    }

    /// Does some work with a connection. If the connection is lost, the work is done again with
    /// another one, for as long as there is patience.
    pub(super) fn with<T>(
        &self,
        what: &str,
        mut work: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut attempts = self.patience.attempts();
        let mut meetings = 0;
        loop {
            let (failure, was_open) = match self.attempt(&mut work) {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let meets = matches!(&failure, Failure::Sql(error) if is_conflict(error));
            meetings += u32::from(meets);
            let again = match &failure {
                // The server may have closed the connection long ago.
                failure if failure.is_lost() => was_open || attempts.next(),
                _ => meets && meetings < MEETINGS,
            };
            if !again {
                return Err(failure.into_error(what, &self.url));
            }
        }
    }

    /// Returns the result of one attempt, with whether the connection was open before.
    fn attempt<T>(
        &self,
        work: &mut impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, (Failure, bool)> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let was_open = idle.is_some();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.url, &self.patience).map_err(|failure| (failure, false))?,
        };
        let done = work(&mut connection);
        if let Err(failure) = &done {
            connection.note(failure);
        }
        if !connection.is_lost() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        done.map_err(|failure| (failure, was_open))
    }
}

impl Rows for Pool {
    fn rows(&self, what: &str, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.with(what, |connection| connection.rows(sql, params))
    }
}
