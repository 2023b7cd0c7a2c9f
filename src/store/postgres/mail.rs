//! What partitions and clients have sent, and the answers to clients.

use crate::kv::{Arrival, Partition, Receipt, Source, StoreError};

use super::cluster::Cluster;
use super::partition::source_number;
use super::pool::Rows;
use super::reader::column;

/// The most arrivals that one query returns.
const MOST: i64 = 4096;

const ARRIVALS: &str = "
    select dest, src, n, body from durable.transit
    where dest = any ($1) and not exists (
        select from unnest($2::int[], $3::int[], $4::bigint[]) as known (dest, src, n)
        where known.dest = transit.dest and known.src = transit.src and known.n = transit.n)
    order by dest, src, n limit $5";
const WAITING: &str = "select dest, count(*) from durable.transit group by dest order by dest";
const NUMBER: &str = "select durable.number()";
const SEND: &str = "select durable.send($1, $2, $3)";
const ANSWER: &str = "select body from durable.answer where n = $1";
const FORGET: &str = "select durable.forget($1)";
const PRUNE: &str = "select durable.prune()";

/// Returns the source of a number in the database.
pub(super) fn source_of(src: i32) -> Source {
    match u32::try_from(src) {
        Ok(partition) => Source::Partition(partition),
        Err(_) => Source::Client,
    }
}

impl Cluster {
    /// Returns what was sent to some partitions and is not consumed, without what is known already.
    /// What one partition sent to another one comes in the order of its commits. What a partition
    /// sent before it was split comes before what the new partitions send, which have greater numbers.
    pub fn arrivals(
        &self,
        partitions: &[Partition],
        known: &[(Partition, Receipt)],
    ) -> Result<Vec<(Partition, Arrival)>, StoreError> {
        let partitions: Vec<i32> = partitions.iter().map(|partition| *partition as i32).collect();
        let dests: Vec<i32> = known.iter().map(|(partition, _)| *partition as i32).collect();
        let sources: Vec<i32> = known.iter().map(|(_, receipt)| source_number(receipt.source)).collect();
        let numbers: Vec<i64> = known.iter().map(|(_, receipt)| receipt.number as i64).collect();
        let params: super::connection::Params<'_> = &[&partitions, &dests, &sources, &numbers, &MOST];
        let rows = self.pool().rows("read from", ARRIVALS, params)?;
        let arrivals = rows.iter().map(|row| {
            let (dest, src): (i32, i32) = (column(row, 0)?, column(row, 1)?);
            let receipt = Receipt { source: source_of(src), number: column::<i64>(row, 2)? as u64 };
            Ok((dest as u32, Arrival { receipt, body: column(row, 3)? }))
        });
        arrivals.collect()
    }

    /// Returns how many messages wait for each partition that has any.
    pub fn waiting(&self) -> Result<Vec<(Partition, u64)>, StoreError> {
        let rows = self.pool().rows("read from", WAITING, &[])?;
        let count = |row| Ok((column::<i32>(row, 0)? as u32, column::<i64>(row, 1)? as u64));
        rows.iter().map(count).collect()
    }

    /// Returns a number for a request that is to be sent.
    pub fn request_number(&self) -> Result<u64, StoreError> {
        self.one::<i64>("write to", NUMBER, &[]).map(|number| number as u64)
    }

    /// Sends a client's request to a partition. The same number again sends nothing. A private
    /// partition that was removed comes back. Returns false if the schema's functions are of a
    /// version in which it does not.
    pub fn send(&self, number: u64, to: Partition, body: &[u8]) -> Result<bool, StoreError> {
        self.one("write to", SEND, &[&(number as i64), &(to as i32), &body])
    }

    /// Returns the answer to a request, if there is one yet.
    pub fn answer(&self, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.pool().rows("read from", ANSWER, &[&(number as i64)])?;
        rows.first().map(|row| column(row, 0)).transpose()
    }

    /// Removes an answer that was read.
    pub fn forget(&self, number: u64) -> Result<(), StoreError> {
        self.pool().rows("write to", FORGET, &[&(number as i64)])?;
        Ok(())
    }

    /// Removes the answers that nobody has read for a day.
    pub fn prune(&self) -> Result<(), StoreError> {
        self.pool().rows("write to", PRUNE, &[])?;
        Ok(())
    }
}
