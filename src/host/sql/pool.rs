//! Connections to PostgreSQL, which programs share.
//!
//! Invariant: a connection goes back only after its statement has ended, and its session is as new
//! before the next program gets it. A connection that is dropped in the middle of a statement has
//! the statement cancelled, and is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{CancelToken, Client, NoTls};

use crate::machine::ErrorData;
use crate::machine::sql::Database;
use crate::permissions::Permissions;

use super::super::at::Reach;
use super::error::{Tried, lost};
use super::server::{Raw, Server};

/// The time after which an idle connection is closed.
const IDLE: Duration = Duration::from_secs(60);
/// The age from which an idle connection is tried before it is used.
const STALE: Duration = Duration::from_secs(1);
/// The time limit for a sign of life, and for making a session new.
const ANSWER: Duration = Duration::from_secs(5);
/// The largest number of pools.
const MOST_POOLS: usize = 256;

/// Sets the session back to its beginning. Prepared statements stay, since the client has some.
const RESET: &str = "rollback; close all; set session authorization default; reset all; unlisten *; \
                     select pg_advisory_unlock_all(); discard plans; discard temp; discard sequences";
/// Lets the server notice that this process is gone in the middle of a statement. Servers that do
/// not know the setting go without.
const NOTICE: &str = "set client_connection_check_interval = '2s'";

/// The programs that share a pool, which may all reach the same servers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    url: String,
    password: Option<String>,
    connections: usize,
    /// The permissions, if not all servers may be reached.
    permissions: Option<Permissions>,
}

/// The pools of this process.
#[derive(Clone, Default)]
pub(super) struct Pools(Arc<Mutex<HashMap<Key, Arc<Pool>>>>);

impl Pools {
    pub(super) fn of(&self, database: &Database, reach: &Reach) -> Result<Arc<Pool>, ErrorData> {
        let key = Key {
            url: database.url.clone(),
            password: database.password.clone(),
            connections: database.connections,
            permissions: (!reach.permissions.are_all()).then(|| reach.permissions.clone()),
        };
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&key) {
            return Ok(pool.clone());
        }
        if pools.len() >= MOST_POOLS {
            // Those that are in use stay as long as their connections.
            pools.clear();
        }
        let pool = Arc::new(Pool {
            server: Server::of(database)?,
            room: Arc::new(Semaphore::new(database.connections)),
            idle: Mutex::default(),
        });
        pools.insert(key, pool.clone());
        Ok(pool)
    }
}

/// The connections to one database.
pub(super) struct Pool {
    server: Server,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    raw: Raw,
    since: Instant,
}

impl Pool {
    /// Returns the server in messages.
    pub(super) fn shown(&self) -> &str {
        &self.server.shown
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection that nobody else uses, once there is room for one.
    pub(super) async fn get(self: &Arc<Pool>, reach: &Reach) -> Tried<Lent> {
        let room = self.room.clone().acquire_owned().await;
        let room = room.map_err(|_| lost(self.shown(), "the connections are closed"))?;
        loop {
            // The guard does not outlive the statement.
            let idle = self.idle().pop();
            let Some(Idle { raw, since }) = idle else { break };
            if raw.client.is_closed() {
                continue;
            }
            let lives = match since.elapsed() < STALE {
                true => true,
                false => {
                    let tried = tokio::time::timeout(ANSWER, raw.client.check_connection()).await;
                    matches!(tried, Ok(Ok(())))
                }
            };
            if lives {
                return Ok(self.lend(raw, room));
            }
        }
        let raw = self.server.connect(reach).await?;
        let _ = raw.client.batch_execute(NOTICE).await;
        Ok(self.lend(raw, room))
    }

    fn lend(self: &Arc<Pool>, raw: Raw, room: OwnedSemaphorePermit) -> Lent {
        Lent {
            raw: Some(raw),
            pool: self.clone(),
            is_busy: false,
            is_kept: true,
            handle: Handle::current(),
            room: Some(room),
        }
    }

    /// Makes a session new, and keeps the connection for the next program.
    async fn keep(self: Arc<Pool>, raw: Raw, room: Option<OwnedSemaphorePermit>) {
        let reset = tokio::time::timeout(ANSWER, raw.client.batch_execute(RESET)).await;
        let renewed = tokio::time::timeout(ANSWER, raw.client.batch_execute(NOTICE)).await;
        if let (Ok(Ok(())), Ok(_)) = (reset, renewed) {
            let starts = {
                let mut idle = self.idle();
                idle.push(Idle { raw, since: Instant::now() });
                idle.len() == 1
            };
            if starts {
                tokio::spawn(Pool::close_old(Arc::downgrade(&self)));
            }
        }
        drop(room);
    }

    /// Closes connections that nobody has used for a time, until there are none.
    async fn close_old(pool: Weak<Pool>) {
        loop {
            tokio::time::sleep(IDLE / 2).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut idle = pool.idle();
            idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.raw.client.is_closed());
            if idle.is_empty() {
                return;
            }
        }
    }
}

/// A connection in use.
pub(super) struct Lent {
    raw: Option<Raw>,
    pool: Arc<Pool>,
    /// Whether a statement is under way.
    is_busy: bool,
    /// Whether the connection goes back to the pool.
    is_kept: bool,
    handle: Handle,
    room: Option<OwnedSemaphorePermit>,
}

impl Lent {
    /// Returns the server in messages.
    pub(super) fn shown(&self) -> &str {
        self.pool.shown()
    }

    /// Begins a statement. If the connection is dropped before [`Lent::ended`], the statement is
    /// cancelled.
    pub(super) fn begins(&mut self) -> Tried<(&Client, &str)> {
        let shown = self.pool.shown();
        match &self.raw {
            Some(raw) if !self.is_busy => {
                self.is_busy = true;
                Ok((&raw.client, shown))
            }
            _ => Err(lost(shown, "the connection was closed")),
        }
    }

    /// Takes note that the statement has ended, and all of its rows were read.
    pub(super) fn ended(&mut self) {
        self.is_busy = false;
    }

    /// Lets the connection be closed instead of kept.
    pub(super) fn close(&mut self) {
        self.is_kept = false;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(raw) = self.raw.take() else { return };
        let room = self.room.take();
        if self.is_busy {
            self.handle.spawn(cancel(raw.client.cancel_token(), raw, room));
        } else if self.is_kept && !raw.client.is_closed() {
            self.handle.spawn(self.pool.clone().keep(raw, room));
        }
        // A client that is dropped closes its connection, which rolls back what is open.
    }
}

/// Asks the server to cancel a statement, by a connection for that.
async fn cancel(token: CancelToken, raw: Raw, room: Option<OwnedSemaphorePermit>) {
    let asked = tokio::time::timeout(ANSWER, async {
        let wire = raw.found.open().await.ok()?;
        match &raw.tls {
            None => token.cancel_query_raw(wire, NoTls).await.ok(),
            Some(tls) => token.cancel_query_raw(wire, tls.connector().ok()?).await.ok(),
        }
    });
    let _ = asked.await;
    drop((raw, room));
}
