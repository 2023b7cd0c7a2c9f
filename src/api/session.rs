//! A store in use: the host that works on it, and the socket by which other processes reach the host.
//!
//! Invariant: whatever the end, the socket goes before the host, and the host before the store. So the next process that has
//! the store has a socket of its own.

use std::io;
use std::path::PathBuf;

use crate::host::{Host, HostError, Settings};
use crate::kv::StoreError;
use crate::store::DiskStore;

use super::Listener;

/// A store in use by this process.
pub struct HostSession {
    // Fields are dropped in their order.
    listener: Option<Listener>,
    pub host: Host,
    folder: PathBuf,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing more to do.
    Done,
    /// Somebody asked the process to stop.
    Interrupted,
}

impl HostSession {
    /// Puts a store to use. Nothing goes on before [`Host::recover`].
    pub fn new(store: DiskStore, settings: Settings) -> HostSession {
        HostSession::of(store, |store| Host::new(store, settings))
    }

    /// Puts a store to use for clients alone: no instance goes on.
    pub fn for_clients(store: DiskStore) -> HostSession {
        HostSession::of(store, Host::for_clients)
    }

    fn of(store: DiskStore, host: impl FnOnce(DiskStore) -> Host) -> HostSession {
        let folder = store.folder().to_path_buf();
        HostSession { listener: None, host: host(store), folder }
    }

    /// Puts a store to use and takes in what it has. Of the instances, those go on that have this root, or all.
    pub fn open(store: DiskStore, settings: Settings, root: Option<&str>) -> Result<HostSession, HostError> {
        let mut session = HostSession::new(store, settings);
        session.host.recover(root)?;
        Ok(session)
    }

    /// Watches whose slices take long, and sets those aside that the last processes died of; all but the one that is wanted.
    /// This comes before the store is recovered.
    pub fn watch_slices(&mut self, wanted: Option<&str>) {
        self.host.watch_slices(&self.folder, wanted);
    }

    /// Lets other processes ask the host. Without it they are told that the store is in use; nothing else is missing.
    pub fn listen(&mut self) -> io::Result<()> {
        self.listener = Some(Listener::open(&self.folder, &self.host)?);
        Ok(())
    }

    /// Runs until there is nothing more to do, or somebody asks to stop.
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
