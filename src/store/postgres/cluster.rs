//! A cluster: one store in a database, with many partitions.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::kv::{Cause, Reader, StoreError};

use super::layout::Layout;
use super::patience::Patience;
use super::pool::{COMMITS, Pool, READS, Rows};
use super::reader::{Keys, column};
use super::schema::{self, About, Init, Made};
use super::scope::{Scope, Slots};
use super::snapshot::Snapshot;
use super::url::Url;

const SIZE: &str = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'durable' and c.relkind = 'r'";

const ADOPT: &str = "
    update durable.cluster set incarnation = greatest(
        incarnation + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint);
    update durable.part set owner = null, token = null, epoch = epoch + 1;";

/// The longest wait for a state without messages on their way.
const QUIET: Duration = Duration::from_secs(10);

/// A cluster that was opened. Clones share their connections.
#[derive(Clone)]
pub struct Cluster {
    /// For reads, leases and messages.
    pool: Arc<Pool>,
    /// For commits, which never take the connections of others.
    commits: Arc<Pool>,
    layout: Layout,
    about: Arc<About>,
}

impl Cluster {
    /// Makes the schema of a cluster in a database that has none, and gives rights to roles.
    pub fn init(url: &Url, init: &Init, patience: &Patience) -> Result<Made, StoreError> {
        schema::init(url, init, patience)
    }

    /// Opens a cluster. Fails if the database has no schema of a cluster, or one of another format.
    pub fn open(url: &Url, layout: Layout, patience: &Patience) -> Result<Cluster, StoreError> {
        let pool = Pool::new(url.clone(), patience.clone(), READS);
        let about = Arc::new(schema::about(&pool)?);
        let commits = Pool::new(url.clone(), patience.clone(), COMMITS);
        Ok(Cluster { pool: Arc::new(pool), commits: Arc::new(commits), layout, about })
    }

    pub fn url(&self) -> &Url {
        &self.pool.url
    }

    /// Returns what the cluster was when it was opened.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the slot of a key of the queue, or `None` if the key is a partition's own.
    pub fn slot_of(&self, key: &[u8]) -> Option<u32> {
        self.layout.slot(key)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn commits(&self) -> &Pool {
        &self.commits
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the settings of the server that are off, and without which acknowledged data may be
    /// lost.
    pub fn risks(&self) -> Result<Vec<String>, StoreError> {
        schema::risks(&self.pool)
    }

    /// Returns a reader of everything in the cluster.
    pub fn reader(&self) -> Reader {
        self.reader_of(Scope::Cluster)
    }

    /// Returns a reader of the cluster's keys and of a partition's part of the queue.
    pub fn reader_of(&self, scope: Scope) -> Reader {
        Reader::new(Keys { rows: self.pool.clone(), layout: self.layout, scope })
    }

    /// Returns a reader of everything as it is now, on a connection of its own. The database keeps
    /// this state for as long as the reader is there.
    pub fn snapshot(&self) -> Result<Reader, StoreError> {
        let snapshot = Snapshot::begin(&self.pool.url, &self.pool.patience)?;
        Ok(Reader::new(Keys { rows: Arc::new(snapshot), layout: self.layout, scope: Scope::Cluster }))
    }

    /// Returns a snapshot in which no message is on its way between partitions, and no request of a
    /// client is. Fails if there is no such state for some time.
    pub fn quiet_snapshot(&self) -> Result<Reader, StoreError> {
        let began = Instant::now();
        loop {
            let snapshot = Snapshot::begin(&self.pool.url, &self.pool.patience)?;
            let rows = snapshot.rows("read from", "select count(*) from durable.transit", &[])?;
            let count: i64 = rows.first().map_or(Ok(0), |row| column(row, 0))?;
            if count == 0 {
                let (rows, layout) = (Arc::new(snapshot), self.layout);
                return Ok(Reader::new(Keys { rows, layout, scope: Scope::Cluster }));
            }
            if began.elapsed() > QUIET {
                let are = if count == 1 { "message is" } else { "messages are" };
                return Err(StoreError::Refused {
                    what: format!("find a moment of rest in {}", self.pool.url),
                    source: Cause::new(format!("{count} {are} on their way to partitions")),
                    hint: "try again when less is going on; without workers, start one so that the messages arrive".into(),
                });
            }
            drop(snapshot);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the slots of a partition.
    pub fn slots(&self, partition: u32) -> Result<Option<Slots>, StoreError> {
        let sql = "select lo, hi from durable.part where part = $1";
        let rows = self.pool.rows("read from", sql, &[&(partition as i32)])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (lo, hi): (i32, i32) = (column(row, 0)?, column(row, 1)?);
        Ok(Some(Slots::of(partition, lo as u32..hi as u32)))
    }

    /// Returns the size of all tables and indexes in bytes.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        let rows = self.pool.rows("read from", SIZE, &[])?;
        rows.first().map_or(Ok(0), |row| column::<i64>(row, 0).map(|size| size as u64))
    }

    /// Accepts the state of the database, although commits that were acknowledged are missing. All
    /// owners lose their partitions, since they know more than the database.
    pub fn adopt(&self) -> Result<(), StoreError> {
        self.pool.with("write to", |connection| {
            connection.transaction("begin", |connection| connection.execute(ADOPT))
        })
    }
}
