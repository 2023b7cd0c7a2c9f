//! The state of the server, and the calls of the store behind its routes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::api::{Answer, Command, Queries, Query, QueryError, Reply, answered};
use crate::host::{Handle, Reads};
use crate::kv::Cause;
use crate::store::postgres::Cluster;

use super::access::Keys;
use super::catalog::{Catalog, Catalogs};
use super::feed::Feed;
use super::measures::Metrics;
use super::problem::Problem;
use super::tally::Counts;

/// The settings of a server.
#[derive(Clone)]
pub struct Options {
    pub keys: Keys,
    /// The names by which the server is reached, beside those of this machine.
    pub hosts: Vec<String>,
    /// Whether a proxy before the server speaks TLS, or the server itself does.
    pub secure: bool,
    /// The folder of the store, for the page.
    pub folder: PathBuf,
}

/// The server's state. Clones share it.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    /// The cluster whose worker the server is.
    cluster: Option<Cluster>,
    handle: Handle,
    reads: Reads,
    options: Options,
    feed: Feed,
    catalogs: Catalogs,
    counts: Counts,
    metrics: Metrics,
}

impl Service {
    /// Returns the state of a server for a host.
    pub fn new(handle: Handle, reads: Reads, options: Options) -> Service {
        Service::with(handle, reads, options, None)
    }

    /// Returns the state of a server for a worker of a cluster.
    pub fn of_worker(handle: Handle, reads: Reads, options: Options, cluster: Cluster) -> Service {
        Service::with(handle, reads, options, Some(cluster))
    }

    fn with(handle: Handle, reads: Reads, options: Options, cluster: Option<Cluster>) -> Service {
        let inner = Inner {
            cluster,
            handle,
            feed: Feed::new(reads.clone()),
            catalogs: Catalogs::new(reads.clone()),
            counts: Counts::default(),
            reads,
            options,
            metrics: Metrics::default(),
        };
        Service { inner: Arc::new(inner) }
    }

    pub fn keys(&self) -> &Keys {
        &self.inner.options.keys
    }

    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Returns the cluster, unless the store is in a folder.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.inner.cluster.as_ref()
    }

    pub fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    pub fn counts(&self) -> &Counts {
        &self.inner.counts
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub fn reads(&self) -> &Reads {
        &self.inner.reads
    }

    /// Has a command executed, and waits until the result is durable.
    pub async fn command(&self, command: Command) -> Result<Reply, Problem> {
        self.inner.handle.ask(command).await.map_err(|_| Problem::stopped())
    }

    /// Looks at the index of instances on a thread that may block. While the index exists, it
    /// follows the store.
    pub async fn catalog<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Catalog) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let catalogs = self.inner.catalogs.clone();
        spawn_blocking(move || catalogs.look(look)).await.map_err(|_| Problem::stopped())?
    }

    /// Makes the index of instances before anybody asks.
    pub async fn prepare(self) {
        let catalogs = self.inner.catalogs.clone();
        // Whoever asks first makes the index if this fails.
        let _ = spawn_blocking(move || catalogs.prepare()).await;
    }

    /// Asks queries on a thread that may block.
    pub async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Reads) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let reads = self.inner.reads.clone();
        spawn_blocking(move || ask(&reads)).await.map_err(|_| Problem::stopped())?
    }
}

/// Each query sees one state of the store, and is answered when that state is durable.
impl Queries for Reads {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        let lost = || QueryError::Lost { source: Cause::new("it is about to end") };
        Ok(self.ask(|store| answered(store, &query)).map_err(|_| lost())??)
    }
}
