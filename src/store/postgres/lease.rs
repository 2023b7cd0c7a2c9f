//! Workers, and who owns which partition until when.
//!
//! All times are the database's. A lease decides who may take a partition; what protects the data
//! is the fence of the commits.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use tokio_postgres::Row;

use crate::kv::{Partition, StoreError};

use super::cluster::Cluster;
use super::pool::Rows;
use super::reader::column;
use super::schema::check;

const ENROLL: &str =
    "select durable.enroll($1::text::uuid, $2, $3, $4, make_interval(secs => $5::float8 / 1000))";
const BEAT: &str = "select durable.beat($1::text::uuid)";
const TAKE: &str = "select epoch, token, n, lo, hi, incarnation from durable.take($1::text::uuid, $2)";
const RELEASE: &str = "select durable.release($1::text::uuid, $2)";
const LEAVE: &str = "select durable.leave($1::text::uuid)";
const ADD_PRIVATE: &str = "select durable.add_private()";
const REMOVE_PRIVATE: &str = "select durable.remove_private($1::text::uuid, $2, $3)";
const RESTING: &str = "
    select part.part from durable.part where part.owner = $1::text::uuid and part.hi = 0
        and not exists (select from durable.transit where transit.dest = part.part)
        and not exists (select from durable.queue where queue.slot = 4096 + part.part and not exists (
            select from unnest($2::bytea[]) as idle (prefix)
            where substr(queue.k, 1, length(idle.prefix)) = idle.prefix))
        order by part.part";
const LOOK: &str = "
    select worker.id::text, worker.name, worker.address, worker.version,
        (extract(epoch from worker.until - clock_timestamp()) * 1000)::bigint, null::int, 0, 0, 0::bigint, 0::bigint
        from durable.worker
    union all
    select part.owner::text, '', '', '', null, part.part, part.lo, part.hi, part.epoch,
        coalesce((select max(commits.n) from durable.commits where commits.part = part.part), 0)
        from durable.part
    union all
    select null, '', '', '', null, -1, cluster.format, 0, 0, 0 from durable.cluster
    order by 6, 1";

/// A worker, by its id: a UUID as text.
pub type WorkerId = String;

/// A partition that this process owns, with its fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub partition: Partition,
    pub epoch: u64,
    pub token: String,
    /// The number of the last commit when the partition was taken.
    pub commits: u64,
    /// The slots of the range. A private partition has none.
    pub slots: Range<u32>,
    pub incarnation: u64,
}

/// A worker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    pub id: WorkerId,
    pub name: String,
    pub address: String,
    pub version: String,
    /// The rest of the lease, or `None` if the lease is over.
    pub rest: Option<Duration>,
}

impl WorkerState {
    /// Returns the address at which the worker receives hints, if the worker is alive and has one.
    pub fn reached_at(&self) -> Option<SocketAddr> {
        self.rest.and_then(|_| self.address.parse().ok())
    }
}

/// A partition of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub partition: Partition,
    pub slots: Range<u32>,
    pub owner: Option<WorkerId>,
    pub epoch: u64,
    pub commits: u64,
}

/// The workers and partitions at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    pub workers: Vec<WorkerState>,
    /// Ordered by number.
    pub partitions: Vec<PartitionState>,
    /// The version of the schema.
    pub format: u32,
}

impl Overview {
    /// Returns an error if this version does not know the schema any more: a newer version has
    /// changed it meanwhile.
    pub fn check(&self) -> Result<(), StoreError> {
        check(self.format)
    }

    /// Returns whether a worker's lease has not ended.
    pub fn is_alive(&self, worker: &str) -> bool {
        self.workers.iter().any(|known| known.id == worker && known.rest.is_some())
    }
}

impl Cluster {
    /// Returns an id for a new worker.
    pub fn new_worker(&self) -> Result<WorkerId, StoreError> {
        self.one("read from", "select gen_random_uuid()::text", &[])
    }

    /// Makes a worker known, and begins its lease. The same id again prolongs the lease.
    pub fn enroll(&self, worker: &str, name: &str, address: &str, lease: Duration) -> Result<(), StoreError> {
        let (version, lease) = (env!("CARGO_PKG_VERSION"), lease.as_millis() as f64);
        self.pool().rows("write to", ENROLL, &[&worker, &name, &address, &version, &lease])?;
        Ok(())
    }

    /// Prolongs the lease of a worker. Returns false if the worker is not known: it was away for so
    /// long that it was forgotten.
    pub fn beat(&self, worker: &str) -> Result<bool, StoreError> {
        self.one("write to", BEAT, &[&worker])
    }

    /// Takes a partition that nobody owns, or whose owner's lease is over, or that is the worker's
    /// own already. Whoever owned it can write nothing more. Returns `None` if another worker has
    /// it, or if the lease of this worker is over. A private partition that was removed comes back.
    pub fn take(&self, worker: &str, partition: Partition) -> Result<Option<Ownership>, StoreError> {
        let rows = self.pool().rows("write to", TAKE, &[&worker, &(partition as i32)])?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Ownership {
            partition,
            epoch: column::<i64>(row, 0)? as u64,
            token: column(row, 1)?,
            commits: column::<i64>(row, 2)? as u64,
            slots: column::<i32>(row, 3)? as u32..column::<i32>(row, 4)? as u32,
            incarnation: column::<i64>(row, 5)? as u64,
        }))
    }

    /// Gives partitions back, for any worker to take. Returns how many of them were the worker's.
    pub fn release(&self, worker: &str, partitions: &[Partition]) -> Result<u32, StoreError> {
        let partitions: Vec<i32> = partitions.iter().map(|partition| *partition as i32).collect();
        let count: i32 = self.one("write to", RELEASE, &[&worker, &partitions])?;
        Ok(count as u32)
    }

    /// Gives all partitions of a worker back, and forgets the worker.
    pub fn leave(&self, worker: &str) -> Result<(), StoreError> {
        self.pool().rows("write to", LEAVE, &[&worker])?;
        Ok(())
    }

    /// Makes a private partition, which has no slots of the range. It is reached by ids that name
    /// it. Returns its number; nobody owns it yet.
    pub fn add_private(&self) -> Result<Partition, StoreError> {
        let partition: i32 = self.one("write to", ADD_PRIVATE, &[])?;
        Ok(partition as u32)
    }

    /// Returns the private partitions of a worker that have nothing to do: all their keys begin with
    /// one of the `idle` prefixes, and nothing was sent to them.
    pub fn resting(&self, worker: &str, idle: &[&[u8]]) -> Result<Vec<Partition>, StoreError> {
        let rows = self.pool().rows("read from", RESTING, &[&worker, &idle])?;
        rows.iter().map(|row| column::<i32>(row, 0).map(|partition| partition as u32)).collect()
    }

    /// Removes a private partition of a worker, with its keys that begin with one of the `idle`
    /// prefixes, except [`LIFE`](super::scope::LIFE). It comes back when something is sent to it.
    /// Returns false, and removes nothing, if it has other keys or if something was sent
    /// to it.
    pub fn remove_private(
        &self,
        worker: &str,
        partition: Partition,
        idle: &[&[u8]],
    ) -> Result<bool, StoreError> {
        self.one("write to", REMOVE_PRIVATE, &[&worker, &(partition as i32), &idle])
    }

    /// Returns all workers and partitions, by one query.
    pub fn overview(&self) -> Result<Overview, StoreError> {
        let mut overview = Overview::default();
        for row in &self.pool().rows("read from", LOOK, &[])? {
            match column::<Option<i32>>(row, 5)? {
                Some(-1) => overview.format = column::<i32>(row, 6)? as u32,
                Some(partition) => overview.partitions.push(partition_state(row, partition as u32)?),
                None => overview.workers.push(worker_state(row)?),
            }
        }
        Ok(overview)
    }

    /// Returns the value of a function of the database.
    pub(super) fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
        &self,
        what: &str,
        sql: &'static str,
        params: super::connection::Params<'_>,
    ) -> Result<T, StoreError> {
        let rows = self.pool().rows(what, sql, params)?;
        match rows.first() {
            Some(row) => column(row, 0),
            None => Err(StoreError::broken("a function of the database has no answer")),
        }
    }
}

fn worker_state(row: &Row) -> Result<WorkerState, StoreError> {
    let rest: i64 = column(row, 4)?;
    Ok(WorkerState {
        id: column(row, 0)?,
        name: column(row, 1)?,
        address: column(row, 2)?,
        version: column(row, 3)?,
        rest: u64::try_from(rest).ok().filter(|rest| *rest > 0).map(Duration::from_millis),
    })
}

fn partition_state(row: &Row, partition: u32) -> Result<PartitionState, StoreError> {
    Ok(PartitionState {
        partition,
        owner: column(row, 0)?,
        slots: column::<i32>(row, 6)? as u32..column::<i32>(row, 7)? as u32,
        epoch: column::<i64>(row, 8)? as u64,
        commits: column::<i64>(row, 9)? as u64,
    })
}
