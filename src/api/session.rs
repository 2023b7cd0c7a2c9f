//! A store in use: the host that works on the store, and the socket by which other processes reach
//! the host.
//!
//! Invariant: however a session ends, the socket goes before the host, and the host before the
//! store. So the next process that has the store has a socket of its own.

use std::io;
use std::path::PathBuf;

use crate::host::{Host, HostError, Settings};
use crate::kv::StoreError;
use crate::store::DiskStore;

use super::Listener;

/// A store in use by this process.
pub struct HostSession {
    // The fields are dropped in this order.
    listener: Option<Listener>,
    pub host: Host,
    folder: PathBuf,
}

/// The way in which a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing more to do.
    Done,
    /// Somebody asked the process to stop.
    Interrupted,
}

impl HostSession {
    /// Puts a store to use. Nothing goes on until [`Host::recover`] is called.
    pub fn new(store: DiskStore, settings: Settings) -> HostSession {
        HostSession::of(store, |store| Host::new(store, settings))
    }

    /// Puts a store to use for clients alone. No instance goes on.
    pub fn for_clients(store: DiskStore) -> HostSession {
        HostSession::of(store, Host::for_clients)
    }

    fn of(store: DiskStore, host: impl FnOnce(DiskStore) -> Host) -> HostSession {
        let folder = store.folder().to_path_buf();
        HostSession { listener: None, host: host(store), folder }
    }

    /// Puts a store to use, and recovers its unfinished instances: those of a root, or all.
    pub fn open(store: DiskStore, settings: Settings, root: Option<&str>) -> Result<HostSession, HostError> {
        let mut session = HostSession::new(store, settings);
        session.host.recover(root)?;
        Ok(session)
    }

    /// Watches for slices that take long, and sets aside the instances and entities that the last
    /// processes died of, except the one that is wanted. Call this before the store is recovered.
    pub fn watch_slices(&mut self, wanted: Option<&str>) {
        self.host.watch_slices(&self.folder, wanted);
    }

    /// Lets other processes reach the host. Without the listener they can't look at the store while
    /// it is in use; everything else works.
    pub fn listen(&mut self) -> io::Result<()> {
        self.listener = Some(Listener::open(&self.folder, &self.host)?);
        Ok(())
    }

    /// Runs until there is nothing more to do, or until somebody asks the process to stop.
    pub fn run(&mut self) -> Result<End, HostError> {
        match self.host.run() {
            Ok(()) => Ok(End::Done),
            Err(HostError::Interrupted) => Ok(End::Interrupted),
            Err(error) => Err(error),
        }
    }

    /// Ends the host, and gives the store back.
    pub fn into_store(self) -> DiskStore {
        drop(self.listener);
        self.host.into_store()
    }

    /// Ends the host, and closes the store.
    pub fn close(self) -> Result<(), StoreError> {
        self.into_store().close()
    }
}
