//! The store, opened in this process or reached through the process that has it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::api::{Answer, Command, Connection, HostSession, Queries, Query, QueryError, Reply};
use crate::cluster::{Client, ClientError};
use crate::engine::query::InstanceFilter;
use crate::engine::{History, InstanceRecord};
use crate::kv::{Cause, Endpoint, StoreError};
use crate::machine::{ErrorData, bad_own_id};
use crate::store::{self, DiskStore};

use super::arguments::May;
use super::permissions::permissions;
use super::place;
use super::problem::{Problem, unreadable};
use super::{FAILED, STORE, UNKNOWN, USAGE};

/// The longest wait for a process that has the store and cannot be asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of connections without the right greeting after which a process counts as one of
/// another version.
const GREETINGS: u32 = 10;

/// A store, or the process that has it.
pub enum Opened {
    Own(Box<DiskStore>),
    /// Another process has the store, and can be asked. The error is for commands that need the
    /// store for themselves.
    Another(Connection, StoreError),
}

/// Opens a store, or reaches the process that has it.
pub fn open(folder: &Path) -> Result<Opened, Problem> {
    not_in_database(folder)?;
    open_by(folder, store::open).map_err(Problem::from)
}

/// Opens a store by a function, or reaches the process that has it.
fn open_by(
    folder: &Path,
    way: impl Fn(&Path) -> Result<DiskStore, StoreError>,
) -> Result<Opened, StoreError> {
    let began = Instant::now();
    let mut silent = 0;
    loop {
        let error = match way(folder) {
            Ok(store) => return Ok(Opened::Own(Box::new(store))),
            // A stopped process accepts a connection, and never answers.
            Err(error @ StoreError::InUse { is_stopped: true, .. }) => return Err(error),
            Err(error @ StoreError::InUse { .. }) => error,
            Err(error) => return Err(error),
        };
        match Connection::open(&Endpoint::new(folder)) {
            Ok(connection) => return Ok(Opened::Another(connection, error)),
            // A process that ends takes connections, and closes them without a word.
            Err(other) if other.kind() == ErrorKind::InvalidData && silent < GREETINGS => silent += 1,
            Err(other) if other.kind() == ErrorKind::InvalidData => {
                return Err(StoreError::OtherVersion { source: Cause::new(other) });
            }
            Err(_) => {}
        }
        // The process may be about to listen or about to end, since most commands hold the store
        // for a moment only.
        if began.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Refuses a store in a database, for a command that works on folders alone.
fn not_in_database(store: &Path) -> Result<(), Problem> {
    match place::url(store)? {
        Some(url) => {
            Err(Problem::new(USAGE, format!("this command works on a store in a folder, and not on {url}"))
                .hint(
                    "`durable serve --store URL` runs what is in a database, and `durable start` adds to it",
                ))
        }
        None => Ok(()),
    }
}

/// Checks that a store exists, without creating one.
pub fn is_there(folder: &Path) -> Result<(), Problem> {
    not_in_database(folder)?;
    if folder.exists() {
        return Ok(());
    }
    Err(Problem::new(STORE, format!("there is no store {}", folder.display()))
        .hint("`durable run` makes one; `--store DIR` names another"))
}

/// Opens a store for this process alone.
pub fn own(folder: &Path) -> Result<DiskStore, Problem> {
    match open(folder)? {
        Opened::Own(store) => Ok(*store),
        Opened::Another(_, error) => Err(error.into()),
    }
}

/// Opens a store for reading; nothing in it is changed.
pub fn look(folder: &Path) -> Result<DiskStore, Problem> {
    not_in_database(folder)?;
    match open_by(folder, DiskStore::look)? {
        Opened::Own(store) => Ok(*store),
        Opened::Another(_, error) => Err(error.into()),
    }
}

/// Opens an existing store for queries alone, or reaches the process that has it. Nothing in the
/// store changes.
pub fn read(folder: &Path) -> Result<Box<dyn Queries>, Problem> {
    if let Some(url) = place::url(folder)? {
        return Ok(Box::new(place::client(&url)?));
    }
    is_there(folder)?;
    Ok(match open_by(folder, DiskStore::look)? {
        Opened::Own(store) => store,
        Opened::Another(connection, _) => Box::new(connection),
    })
}

/// A store that answers queries and executes commands.
pub enum Access {
    Here(Box<HostSession>),
    /// Another process has the store.
    There(Connection),
    /// The store is in a database.
    Cluster(Box<Client>),
}

impl Access {
    /// Opens an existing store, or reaches the process that has it.
    pub fn open(folder: &Path) -> Result<Access, Problem> {
        if let Some(url) = place::url(folder)? {
            return Ok(Access::Cluster(Box::new(place::client(&url)?)));
        }
        is_there(folder)?;
        let opened = match open_by(folder, store::open) {
            // A store that cannot be written can still be read.
            Err(StoreError::ReadOnly { .. }) => open_by(folder, DiskStore::look),
            opened => opened,
        };
        Ok(Access::of(opened?))
    }

    /// Opens a store like [`Access::open`], and creates the store if there is none.
    pub fn open_or_make(folder: &Path) -> Result<Access, Problem> {
        if let Some(url) = place::url(folder)? {
            return Ok(Access::Cluster(Box::new(place::client(&url)?)));
        }
        open(folder).map(Access::of)
    }

    fn of(opened: Opened) -> Access {
        match opened {
            Opened::Own(store) => Access::Here(Box::new(HostSession::for_clients(store))),
            Opened::Another(connection, _) => Access::There(connection),
        }
    }

    /// Has a command executed; the reply comes once the result is durable.
    pub fn ask(&mut self, command: Command) -> Result<Reply, Problem> {
        match self {
            Access::Here(session) => {
                let host = &mut session.host;
                if !host.is_recovered() {
                    // Operations of entities run in this process.
                    host.restrict(&permissions(&May::default())?);
                    host.recover(None)?;
                }
                Ok(host.ask(command)?)
            }
            Access::There(connection) => {
                connection.command(command).map_err(|error| lost(&crate::os::reason(&error)))
            }
            Access::Cluster(client) => Ok(client.ask(command)?),
        }
    }

    /// Has a command executed like [`Access::ask`]; any reply but `Done` is a problem. `what` names
    /// the subject of the command.
    pub fn tell(&mut self, command: Command, what: &str) -> Result<(), Problem> {
        match self.ask(command)? {
            Reply::Done => Ok(()),
            Reply::Unknown => Err(unknown(what)),
            Reply::Ended => Err(Problem::new(FAILED, format!("{what} has ended already"))),
            Reply::Taken { error, .. } => Err(taken(&error)),
            Reply::Refused(reason) => Err(Problem::new(FAILED, reason)),
            _ => Err(QueryError::Unexpected.into()),
        }
    }

    /// Closes the store, or the connection.
    pub fn close(self) -> Result<(), Problem> {
        match self {
            Access::Here(session) => Ok(session.close()?),
            Access::There(_) | Access::Cluster(_) => Ok(()),
        }
    }
}

impl Queries for Access {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        match self {
            Access::Here(session) => session.host.store().query(query),
            Access::There(connection) => connection.query(query),
            Access::Cluster(client) => client.query(query),
        }
    }
}

fn lost(reason: &str) -> Problem {
    let title = format!("the process that has the store does not answer: {reason}");
    Problem::new(STORE, title).hint("once it has ended, try again")
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Problem {
        match error {
            ClientError::Store(error) => error.into(),
            ClientError::OtherVersion => Problem::new(STORE, error.to_string())
                .hint("`durable cluster` shows the versions of the workers"),
            ClientError::NotHere(_) => Problem::new(USAGE, error.to_string()),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        match error {
            QueryError::Unreadable(error) => unreadable(error),
            QueryError::Lost { source } => lost(&source.words()),
            QueryError::Unexpected => {
                Problem::new(STORE, error.to_string()).hint("it may be of another version")
            }
        }
    }
}

/// Reads the record of an instance.
pub fn known(store: &dyn Queries, id: &str) -> Result<InstanceRecord, Problem> {
    store.instance(id)?.ok_or_else(|| unknown(id))
}

/// Reads the history of an instance.
pub fn history(store: &dyn Queries, id: &str) -> Result<(InstanceRecord, History), Problem> {
    store.history(id)?.ok_or_else(|| unknown(id))
}

/// Returns the instances that a filter lets through, ordered by id.
pub fn instances(store: &dyn Queries, filter: &InstanceFilter) -> Result<Vec<InstanceRecord>, Problem> {
    let mut all = Vec::new();
    store.each_instances(filter, &mut |page, _| {
        all.extend(page);
        true
    })?;
    Ok(all)
}

/// Returns the problem that an id belongs to another instance.
pub fn taken(error: &ErrorData) -> Problem {
    Problem::new(FAILED, crate::machine::error::message(&error.value.decode()))
        .hint("another `--id` is free, and `--if-exists replace` purges an instance that has ended")
}

pub fn unknown(id: &str) -> Problem {
    Problem::new(UNKNOWN, format!("there is no instance `{id}`"))
        .hint("`durable list` shows those that there are")
}

/// Checks that an id can be chosen.
pub fn own_id(id: &str) -> Result<(), Problem> {
    match bad_own_id(id) {
        None => Ok(()),
        Some(reason) => Err(Problem::new(USAGE, format!("`{id}` can't be an id: {reason}"))),
    }
}
