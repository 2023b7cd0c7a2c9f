//! The store, in this process or in the one that has it.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::{self, History, InstanceRecord, Status, keys};
use crate::host::{Ask, Connection, Host, Reply};
use crate::kv::{Read, StoreError, Visit};
use crate::machine::ErrorData;
use crate::store::{self, DiskStore};

use super::arguments::May;
use super::permissions::permissions;
use super::problem::{Problem, unreadable};
use super::{FAILED, STORE, UNKNOWN};

/// How long a process is waited for that has the store and can't be asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// A store, or who has it.
pub enum Opened {
    Own(Box<DiskStore>),
    /// Another process has it, and can be asked; the error is for who needs it for himself.
    Another(Connection, StoreError),
}

/// Opens a store, or reaches the process that has it.
pub fn open(folder: &Path) -> Result<Opened, Problem> {
    open_by(folder, store::open).map_err(Problem::from)
}

/// Opens a store in some way, or reaches the process that has it.
fn open_by(
    folder: &Path,
    way: impl Fn(&Path) -> Result<DiskStore, StoreError>,
) -> Result<Opened, StoreError> {
    let began = Instant::now();
    loop {
        let error = match way(folder) {
            Ok(store) => return Ok(Opened::Own(Box::new(store))),
            Err(error @ StoreError::Locked { .. }) => error,
            Err(error) => return Err(error),
        };
        if let Ok(connection) = Connection::open(folder) {
            return Ok(Opened::Another(connection, error));
        }
        // It may be about to listen, or about to end: most commands take the store for a moment only.
        if began.elapsed() > PATIENCE {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether there is a store to look into; none is made by looking.
pub fn is_there(folder: &Path) -> Result<(), Problem> {
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

/// Opens a store to look at it; nothing in it is changed.
pub fn look(folder: &Path) -> Result<DiskStore, Problem> {
    match open_by(folder, DiskStore::look)? {
        Opened::Own(store) => Ok(*store),
        Opened::Another(_, error) => Err(error.into()),
    }
}

/// A store that can be read and asked.
pub enum Access {
    Here(Box<Host>),
    /// Another process has it.
    There(RefCell<Connection>),
}

impl Access {
    /// Opens a store that is there, or reaches the process that has it.
    pub fn open(folder: &Path) -> Result<Access, Problem> {
        is_there(folder)?;
        let opened = match open_by(folder, store::open) {
            // One that can't be written can be looked at.
            Err(StoreError::ReadOnly { .. }) => open_by(folder, DiskStore::look),
            opened => opened,
        };
        Ok(Access::of(opened?))
    }

    /// As [`Access::open`]; a store that isn't there is made.
    pub fn open_or_make(folder: &Path) -> Result<Access, Problem> {
        open(folder).map(Access::of)
    }

    fn of(opened: Opened) -> Access {
        match opened {
            Opened::Own(store) => Access::Here(Box::new(Host::for_clients(*store))),
            Opened::Another(connection, _) => Access::There(RefCell::new(connection)),
        }
    }

    /// Asks for something to be done; the answer comes when it is durable.
    pub fn ask(&mut self, ask: Ask) -> Result<Reply, Problem> {
        match self {
            Access::Here(host) => {
                if !host.is_recovered() {
                    // Operations of entities run here.
                    host.restrict(&permissions(&May::default())?);
                    host.recover(None)?;
                }
                Ok(host.ask(ask)?)
            }
            Access::There(connection) => connection.borrow_mut().ask(&ask).map_err(|error| lost(&error)),
        }
    }

    /// As [`Access::ask`]; an answer other than that it is done is a problem. `what` is who or what it was about.
    pub fn tell(&mut self, ask: Ask, what: &str) -> Result<(), Problem> {
        match self.ask(ask)? {
            Reply::Done => Ok(()),
            Reply::Unknown => Err(unknown(what)),
            Reply::Ended => Err(Problem::new(FAILED, format!("{what} has ended already"))),
            Reply::Taken { error, .. } => Err(taken(&error)),
            Reply::Refused(reason) => Err(Problem::new(FAILED, reason)),
            _ => Err(unexpected()),
        }
    }

    /// Ends cleanly.
    pub fn close(self) -> Result<(), Problem> {
        match self {
            Access::Here(host) => Ok(host.into_store().close()?),
            Access::There(_) => Ok(()),
        }
    }
}

fn lost(error: &std::io::Error) -> Problem {
    let title = format!("the process that has the store does not answer: {}", crate::os::reason(error));
    Problem::new(STORE, title).hint("once it has ended, try again")
}

fn unexpected() -> Problem {
    Problem::new(STORE, "the process that has the store answers something else")
        .hint("it may be of another version")
}

impl Read for Access {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Access::Here(host) => host.store().get(key),
            Access::There(connection) => match asked(connection, &Ask::Get(key.to_vec()))? {
                Reply::Value(value) => Ok(value),
                _ => Err(StoreError::Broken { reason: unexpected().title }),
            },
        }
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        match self {
            Access::Here(host) => host.store().scan_from(prefix, from, visit),
            Access::There(connection) => match asked(connection, &Ask::All(prefix.to_vec()))? {
                Reply::Pairs(pairs) => {
                    pairs.iter().filter(|(key, _)| &key[..] >= from).all(|(key, value)| visit(key, value));
                    Ok(())
                }
                _ => Err(StoreError::Broken { reason: unexpected().title }),
            },
        }
    }
}

/// An answer that is not a refusal.
fn asked(connection: &RefCell<Connection>, ask: &Ask) -> Result<Reply, StoreError> {
    match connection.borrow_mut().ask(ask) {
        Ok(Reply::Refused(reason)) => Err(StoreError::Broken { reason }),
        Ok(reply) => Ok(reply),
        Err(error) => Err(StoreError::Broken { reason: lost(&error).title }),
    }
}

/// Reads the record of an instance, if there is one.
pub fn record(store: &dyn Read, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    engine::read_record(store, id).map_err(unreadable)
}

/// Reads the record of an instance.
pub fn known(store: &dyn Read, id: &str) -> Result<InstanceRecord, Problem> {
    record(store, id)?.ok_or_else(|| unknown(id))
}

/// The records of all instances whose ids begin so, by id.
pub fn records(store: &dyn Read, prefix: &str) -> Result<Vec<InstanceRecord>, Problem> {
    let all = store.all(&keys::instance(prefix)).map_err(unreadable)?;
    all.iter().map(|(key, bytes)| decode(key, bytes)).collect()
}

/// The records of the instances that run; those of the others, which may be very many, are not kept.
pub fn running(store: &DiskStore) -> Result<Vec<InstanceRecord>, Problem> {
    let (mut running, mut failed) = (Vec::new(), None);
    store.scan(keys::INSTANCES, &mut |key, bytes| {
        match decode(key, bytes) {
            Ok(record) if record.status == Status::Running => running.push(record),
            Ok(_) => {}
            Err(problem) => failed = Some(problem),
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(running), Err)
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<InstanceRecord, Problem> {
    InstanceRecord::decode(bytes).ok_or_else(|| {
        let id = String::from_utf8_lossy(&key[keys::INSTANCES.len()..]).into_owned();
        unreadable(format!("the record of {id} is not readable"))
    })
}

/// Reads the history of an instance.
pub fn history(store: &dyn Read, record: &InstanceRecord) -> Result<History, Problem> {
    engine::read_history(store, record).map_err(unreadable)
}

/// An id that is another instance's.
pub fn taken(error: &ErrorData) -> Problem {
    Problem::new(FAILED, crate::machine::error::message(&error.value.decode()))
        .hint("another `--id` is free, and `--if-exists replace` purges an instance that has ended")
}

pub fn unknown(id: &str) -> Problem {
    Problem::new(UNKNOWN, format!("there is no instance `{id}`"))
        .hint("`durable list` shows those that there are")
}
