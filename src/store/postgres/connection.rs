//! One connection to the server, used by one thread at a time.
//!
//! The connection's I/O runs on the thread that waits for it, so that a query wakes no other one.

use std::future::Future;
use std::thread;

use hashbrown::HashMap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use crate::kv::{Cause, StoreError};

use super::failure::{is_lost, is_unprepared, store_error};
use super::patience::{NOTICE, Patience};
use super::tls::{self, Tls};
use super::url::Url;

/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// An error of a statement.
pub(super) enum Failure {
    /// The server or the library failed.
    Sql(Error),
    /// There is no connection.
    Connect(Error),
    /// Nobody waits for the answer any more.
    GivenUp,
    Store(StoreError),
}

/// A table that was small when it was analysed would be read as a whole for each key, long after it
/// has grown. The costs that this gives to whole reads must not make the server compile them.
const BY_INDEX: &str = "set enable_seqscan = off; set jit = off";

pub(super) struct Connection {
    client: Client,
    /// Always there, until the connection is dropped.
    runtime: Option<Runtime>,
    statements: HashMap<&'static str, Statement>,
    is_lost: bool,
    patience: Patience,
}

impl Connection {
    /// Connects, by one attempt.
    pub(super) fn open(url: &Url, patience: &Patience) -> Result<Connection, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            let what = format!("wait for the server: {}", crate::os::reason(&error));
            Failure::Store(StoreError::Transient { what, source: Some(Cause::new(error)) })
        })?;
        let connector = tls::connector(url.tls()).map_err(|reason| {
            let hint = "`sslrootcert=FILE` names the file of an authority's certificate; without TLS, `?sslmode=disable`";
            let (what, source) = (format!("connect to {url}"), Cause::new(reason));
            Failure::Store(StoreError::Refused { what, source, hint: hint.into() })
        })?;
        let connecting = async {
            let client = match url.tls() {
                Tls::Never => {
                    let (client, connection) = url.config().connect(tokio_postgres::NoTls).await?;
                    runtime.spawn(connection);
                    client
                }
                _ => {
                    let (client, connection) = url.config().connect(connector).await?;
                    runtime.spawn(connection);
                    client
                }
            };
            client.batch_execute(BY_INDEX).await?;
            Ok(client)
        };
        let client = wait(&runtime, patience, connecting).map_err(|failure| match failure {
            Failure::Sql(error) => Failure::Connect(error),
            failure => failure,
        })?;
        let (statements, patience) = (HashMap::new(), patience.clone());
        Ok(Connection { client, runtime: Some(runtime), statements, is_lost: false, patience })
    }

    /// Lets waits end with another patience.
    pub(super) fn waits_for(&mut self, patience: &Patience) {
        self.patience = patience.clone();
    }

    /// Whether the connection can't be used any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost || self.client.is_closed()
    }

    /// Returns the rows of a statement, which is prepared once for the connection.
    pub(super) fn rows(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, Failure> {
        let known = self.statements.get(sql).cloned();
        let client = &self.client;
        let work = async {
            let statement = match known {
                Some(statement) => statement,
                None => client.prepare(sql).await?,
            };
            let rows = client.query(&statement, params).await?;
            Ok((statement, rows))
        };
        match self.wait(work) {
            Ok((statement, rows)) => {
                self.statements.entry(sql).or_insert(statement);
                Ok(rows)
            }
            Err(error) => {
                // A pooler may have given the session to another server.
                if matches!(&error, Failure::Sql(error) if is_unprepared(error)) {
                    self.statements.clear();
                    self.is_lost = true;
                }
                Err(error)
            }
        }
    }

    /// Executes statements within a transaction, all or nothing.
    pub(super) fn transaction<T>(
        &mut self,
        begin: &str,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.execute(begin)?;
        let done = work(self).and_then(|done| self.execute("commit").map(|()| done));
        if done.is_err() {
            // The first error is the one that counts.
            let _ = self.execute("rollback");
        }
        done
    }

    /// Executes statements without parameters.
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), Failure> {
        let client = &self.client;
        self.wait(client.batch_execute(sql))
    }

    fn wait<T: Send>(&self, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Failure> {
        match &self.runtime {
            Some(runtime) => wait(runtime, &self.patience, work),
            None => Err(Failure::GivenUp),
        }
    }

    /// Notes what an error means for the connection.
    pub(super) fn note(&mut self, failure: &Failure) {
        self.is_lost |= match failure {
            Failure::Sql(error) | Failure::Connect(error) => is_lost(error),
            Failure::GivenUp => true,
            Failure::Store(_) => false,
        };
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // An end of a runtime that waits would panic within another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Failure {
    /// Returns the error of a store, of an attempt to do `what` with a database.
    pub(super) fn into_error(self, what: &str, url: &Url) -> StoreError {
        match self {
            Failure::Sql(error) => store_error(what, url, &error),
            Failure::Connect(error) => store_error("connect to", url, &error),
            Failure::Store(error) => error,
            Failure::GivenUp => {
                let source = Cause::new("the wait for the server was given up");
                StoreError::Unreachable { what: format!("{what} {url}"), source }
            }
        }
    }

    /// Says why an attempt is repeated, for people.
    pub(super) fn reason(&self, url: &Url) -> String {
        match self {
            Failure::Sql(error) | Failure::Connect(error) => {
                format!("waiting for {url}: {}", super::failure::words(error))
            }
            Failure::GivenUp | Failure::Store(_) => format!("waiting for {url}"),
        }
    }

    /// Whether another attempt with another connection may succeed.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Failure::Sql(error) | Failure::Connect(error) => is_lost(error) || is_unprepared(error),
            Failure::GivenUp | Failure::Store(_) => false,
        }
    }
}

/// Waits for work on this thread.
fn wait<T: Send>(
    runtime: &Runtime,
    patience: &Patience,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Failure> {
    let work = async {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(NOTICE, &mut work).await {
                Ok(done) => return done.map_err(Failure::Sql),
                Err(_) if patience.is_over() => return Err(Failure::GivenUp),
                Err(_) => {}
            }
        }
    };
    if Handle::try_current().is_err() {
        return runtime.block_on(work);
    }
    // A thread that runs asynchronous work must not wait within it.
    thread::scope(|scope| {
        let waits = thread::Builder::new().name("database".into());
        let spawned = waits.spawn_scoped(scope, || runtime.block_on(work)).map_err(|error| {
            let what = "no thread can be started".to_string();
            Failure::Store(StoreError::Transient { what, source: Some(Cause::new(error)) })
        })?;
        spawned.join().unwrap_or_else(|_| Err(Failure::Store(StoreError::broken("a query broke down"))))
    })
}
