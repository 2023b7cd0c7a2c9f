//! A cluster: one store in a database, with many partitions.

use std::sync::Arc;

use crate::kv::{Reader, StoreError};

use super::connection::Failure;
use super::layout::Layout;
use super::patience::Patience;
use super::pool::{Pool, Rows};
use super::reader::{Keys, column};
use super::schema::{self, About, Init, Made};
use super::scope::{Scope, Slots};
use super::snapshot::Snapshot;
use super::url::Url;

const SIZE: &str = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'durable' and c.relkind = 'r'";

/// A cluster that was opened. Clones share their connections.
#[derive(Clone)]
pub struct Cluster {
    pool: Arc<Pool>,
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
        let pool = Pool::new(url.clone(), patience.clone());
        let about = Arc::new(schema::about(&pool)?);
        Ok(Cluster { pool: Arc::new(pool), layout, about })
    }

    pub fn url(&self) -> &Url {
        &self.pool.url
    }

    /// Returns what the cluster was when it was opened.
    pub fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
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
            let done = connection.execute(
                "begin;
                 update durable.cluster set incarnation = greatest(
                     incarnation + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint);
                 update durable.part set owner = null, token = null, epoch = epoch + 1;
                 commit;",
            );
            if let Err(Failure::Sql(_)) = &done {
                let _ = connection.execute("rollback");
            }
            done
        })
    }
}
