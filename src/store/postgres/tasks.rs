//! Activities that partitions offer to all workers.
//!
//! A worker claims an activity for as long as it is alive. The result goes to the partition by the
//! statement that removes the claim, so each claim gives one result at most.

use crate::kv::{Partition, StoreError};

use super::cluster::Cluster;
use super::pool::Rows;
use super::reader::column;

const OFFER: &str = "select durable.offer($1, $2, $3, $4, $5)";
const WITHDRAW: &str = "select durable.withdraw($1, $2, $3)";
const CLAIM: &str = "select part, epoch, n, body from durable.claim($1::text::uuid, $2, $3)";
const CLAIMED: &str = "select part, epoch, n from durable.claimed($1::text::uuid)";
const FINISH: &str = "select durable.finish($1::text::uuid, $2, $3, $4, $5)";

/// An activity that an owner of a partition offers, under a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub partition: Partition,
    /// The epoch of the owner.
    pub epoch: u64,
    pub number: u64,
}

impl Cluster {
    /// Offers activities of a partition, each with its number. `version` is that of their form.
    pub fn offer(
        &self,
        partition: Partition,
        epoch: u64,
        version: u32,
        tasks: &[(u64, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let numbers: Vec<i64> = tasks.iter().map(|(number, _)| *number as i64).collect();
        let bodies: Vec<&[u8]> = tasks.iter().map(|(_, body)| body.as_slice()).collect();
        let (partition, epoch, version) = (partition as i32, epoch as i64, version as i32);
        self.pool().rows("write to", OFFER, &[&partition, &epoch, &version, &numbers, &bodies])?;
        Ok(())
    }

    /// Takes activities back that were offered.
    pub fn withdraw(&self, partition: Partition, epoch: u64, numbers: &[u64]) -> Result<(), StoreError> {
        let numbers: Vec<i64> = numbers.iter().map(|number| *number as i64).collect();
        self.pool().rows("write to", WITHDRAW, &[&(partition as i32), &(epoch as i64), &numbers])?;
        Ok(())
    }

    /// Claims activities of a version that no other worker has, as many as there is room for.
    pub fn claim(
        &self,
        worker: &str,
        version: u32,
        room: usize,
    ) -> Result<Vec<(TaskId, Vec<u8>)>, StoreError> {
        let room = i32::try_from(room).unwrap_or(i32::MAX);
        let rows = self.pool().rows("write to", CLAIM, &[&worker, &(version as i32), &room])?;
        rows.iter().map(|row| Ok((task(row)?, column(row, 3)?))).collect()
    }

    /// Returns the activities that a worker has claimed, and that are still wanted.
    pub fn claimed(&self, worker: &str) -> Result<Vec<TaskId>, StoreError> {
        self.pool().rows("read from", CLAIMED, &[&worker])?.iter().map(task).collect()
    }

    /// Sends the result of a claimed activity to its partition. Returns false if the worker does not
    /// have the activity any more.
    pub fn finish(&self, worker: &str, task: TaskId, body: &[u8]) -> Result<bool, StoreError> {
        let (partition, epoch, number) = (task.partition as i32, task.epoch as i64, task.number as i64);
        self.one("write to", FINISH, &[&worker, &partition, &epoch, &number, &body])
    }
}

fn task(row: &tokio_postgres::Row) -> Result<TaskId, StoreError> {
    Ok(TaskId {
        partition: column::<i32>(row, 0)? as u32,
        epoch: column::<i64>(row, 1)? as u64,
        number: column::<i64>(row, 2)? as u64,
    })
}
