//! The connections that anybody may use: for reads, leases and messages.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use crate::kv::StoreError;

use super::connection::{Connection, Failure, Params};
use super::failure::is_conflict;
use super::patience::Patience;
use super::url::Url;

/// The number of connections that stay open while nobody uses them, and of those that are used at a
/// time.
const MAX_IDLE: usize = 4;
const MAX_USED: usize = 16;
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
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    used: usize,
}

/// The right to use a connection.
struct Turn<'a>(&'a Pool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().used -= 1;
        self.0.returned.notify_one();
    }
}

impl Pool {
    pub(super) fn new(url: Url, patience: Patience) -> Pool {
        Pool { url, patience, state: Mutex::default(), returned: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, and returns a connection that is open already, if there is one.
    fn turn(&self) -> (Turn<'_>, Option<Connection>) {
        let mut state = self.state();
        while state.used >= MAX_USED {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.used += 1;
        let idle = state.idle.pop();
        (Turn(self), idle)
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
        let (_turn, idle) = self.turn();
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
            let mut state = self.state();
            if state.idle.len() < MAX_IDLE {
                state.idle.push(connection);
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
