//! Connections that several threads use in turn.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Row;

use crate::kv::StoreError;

use super::connection::{Connection, Failure, Params};
use super::failure::is_conflict;
use super::patience::{NOTICE, Patience};
use super::url::Url;

/// The most connections of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Those that stay open while nobody uses them.
    pub idle: usize,
    /// Those that are used at a time.
    pub used: usize,
}

/// The connections of a process for reads, leases and messages, and those for the commits of all its
/// partitions.
pub(super) const READS: Most = Most { idle: 4, used: 16 };
pub(super) const COMMITS: Most = Most { idle: 12, used: 12 };

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
    most: Most,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    used: usize,
}

/// A turn with a connection. The connection goes back to the pool, unless it is lost.
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    /// There once it is open, until the end.
    connection: Option<Connection>,
    /// Whether the connection was open before.
    pub was_open: bool,
}

impl Pool {
    pub(super) fn new(url: Url, patience: Patience, most: Most) -> Pool {
        Pool { url, patience, most, state: Mutex::default(), returned: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection, which is open already if there is one, and waits for a turn before. All
    /// waiting ends with the patience.
    pub(super) fn lend(&self, patience: &Patience) -> Result<Lent<'_>, Failure> {
        let mut state = self.state();
        while state.used >= self.most.used {
            if patience.is_over() {
                return Err(Failure::GivenUp);
            }
            let waited = self.returned.wait_timeout(state, NOTICE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.used += 1;
        let connection = state.idle.pop();
        drop(state);
        let was_open = connection.is_some();
        let mut lent = Lent { pool: self, connection, was_open };
        match &mut lent.connection {
            Some(connection) => connection.waits_for(patience),
            none => *none = Some(Connection::open(&self.url, patience)?),
        }
        Ok(lent)
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
                failure if failure.is_lost() => was_open || attempts.next(|| failure.reason(&self.url)),
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
        let mut lent = self.lend(&self.patience).map_err(|failure| (failure, false))?;
        let done = work(&mut lent);
        if let Err(failure) = &done {
            lent.note(failure);
        }
        done.map_err(|failure| (failure, lent.was_open))
    }
}

impl Deref for Lent<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().unwrap_or_else(|| unreachable!("a connection is lent until its end"))
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap_or_else(|| unreachable!("a connection is lent until its end"))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.used -= 1;
        self.pool.returned.notify_one();
        let Some(connection) = self.connection.take() else { return };
        if connection.is_lost() {
            // The others were most likely lost together with this one.
            let lost = std::mem::take(&mut state.idle);
            drop(state);
            drop(lost);
        } else if state.idle.len() < self.pool.most.idle {
            state.idle.push(connection);
        }
    }
}

impl Rows for Pool {
    fn rows(&self, what: &str, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.with(what, |connection| connection.rows(sql, params))
    }
}
