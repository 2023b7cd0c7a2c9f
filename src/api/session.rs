//! A store in use: the host that works on the store, and the socket by which other processes reach
//! the host.
//!
//! Invariant: however a session ends, the socket goes before the host, and the host before the
//! store. So the next process that has the store has a socket of its own.

use std::io;

use crate::host::{Host, HostError, Settings};
use crate::kv::{Endpoint, SharedStore, StoreError};

use super::Listener;

/// A store in use by this process.
pub struct HostSession {
    // The fields are dropped in this order.
    listener: Option<Listener>,
    pub host: Host,
    endpoint: Option<Endpoint>,
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
    pub fn new(store: Box<dyn SharedStore>, settings: Settings) -> HostSession {
        HostSession::of(store, |store| Host::new(store, settings))
    }

    /// Puts a store to use for clients alone. No instance goes on.
    pub fn for_clients(store: Box<dyn SharedStore>) -> HostSession {
        HostSession::of(store, Host::for_clients)
    }

    fn of(store: Box<dyn SharedStore>, host: impl FnOnce(Box<dyn SharedStore>) -> Host) -> HostSession {
        let endpoint = store.endpoint();
        HostSession { listener: None, host: host(store), endpoint }
    }

    /// Puts a store to use, and recovers its unfinished instances: those of a root, or all.
    pub fn open(
        store: Box<dyn SharedStore>,
        settings: Settings,
        root: Option<&str>,
    ) -> Result<HostSession, HostError> {
        let mut session = HostSession::new(store, settings);
        session.host.recover(root)?;
        Ok(session)
    }

    /// Watches for slices that take long, and sets aside the instances and entities that the last
    /// processes died of, except the one that is wanted. Call this before the store is recovered.
    pub fn watch_slices(&mut self, wanted: Option<&str>) {
        if let Some(endpoint) = &self.endpoint {
            self.host.watch_slices(endpoint, wanted);
        }
    }

    /// Lets other processes reach the host, if the store has an endpoint. Without the listener they
    /// can't look at the store while it is in use; everything else works.
    pub fn listen(&mut self) -> io::Result<()> {
        if let Some(endpoint) = &self.endpoint {
            self.listener = Some(Listener::open(endpoint, &self.host)?);
        }
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

    /// Ends the host, and gives the store back. Clients still get the responses of the host.
    pub fn into_store(self) -> Box<dyn SharedStore> {
        let clients = self.listener.map(Listener::close);
        let store = self.host.into_store();
        if let Some(clients) = clients {
            clients.leave();
        }
        store
    }

    /// Ends the host, and closes the store.
    pub fn close(self) -> Result<(), StoreError> {
        self.into_store().end()
    }
}
