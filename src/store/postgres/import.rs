//! Writes into a cluster that is empty and that no worker has.

use hashbrown::HashSet;

use crate::kv::{Cause, Pair, Partition, StoreError};

use super::cluster::Cluster;
use super::connection::{Connection, Failure};
use super::reader::column;
use super::scope::{SLOTS, own_slot};

/// The number of rows and of bytes after which rows are sent.
const CHUNK: (usize, usize) = (1000, 4 << 20);

const LOCK: &str = "select part, lo, hi, durable.is_free(owner) from durable.part order by part for update";
const IS_EMPTY: &str = "select not exists (select from durable.kv)
    and not exists (select from durable.queue) and not exists (select from durable.transit)";
const DEPOSE: &str = "update durable.part set owner = null, token = null, epoch = epoch + 1";
const ADD_PART: &str =
    "insert into durable.part (part, lo, hi) values ($1, 0, 0) on conflict (part) do nothing";
const PUT: &str = "insert into durable.kv (k, v) select * from unnest($1::bytea[], $2::bytea[])";
const PUT_QUEUED: &str = "insert into durable.queue (slot, k, v)
    select * from unnest($1::int[], $2::bytea[], $3::bytea[])";

/// The place of a key of the queue that is a partition's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Every partition has the key.
    Each,
    /// The partition with a slot has it.
    Slot(u32),
}

/// A partition, with its slots.
struct Part {
    number: Partition,
    lo: u32,
    hi: u32,
}

impl Cluster {
    /// Writes keys into an empty cluster, all or nothing. `home` is asked for the place of what is
    /// a partition's own.
    pub fn import(&self, pairs: &[Pair], home: &dyn Fn(&[u8], &[u8]) -> Home) -> Result<(), StoreError> {
        let refused = |reason: &str, hint: &str| {
            let (what, source) = (format!("import into {}", self.url()), Cause::new(reason));
            Failure::Store(StoreError::Refused { what, source, hint: hint.into() })
        };
        self.pool().with("import into", |connection| {
            connection.transaction("begin", |connection| {
                let rows = connection.rows(LOCK, &[])?;
                let mut parts = Vec::new();
                for row in &rows {
                    let number = |at| column::<i32>(row, at).map(|number| number as u32);
                    let read = || -> Result<(Part, bool), StoreError> {
                        let part = Part { number: number(0)?, lo: number(1)?, hi: number(2)? };
                        Ok((part, column(row, 3)?))
                    };
                    let (part, is_free) = read().map_err(Failure::Store)?;
                    if !is_free {
                        return Err(refused("workers have partitions of it", "stop all workers first"));
                    }
                    parts.push(part);
                }
                let rows = connection.rows(IS_EMPTY, &[])?;
                if !rows.first().map_or(Ok(false), |row| column(row, 0)).map_err(Failure::Store)? {
                    return Err(refused("it is not empty", "import into a new database"));
                }
                connection.rows(DEPOSE, &[])?;
                self.write_all(connection, &mut parts, pairs, home)
            })
        })
    }

    fn write_all(
        &self,
        connection: &mut Connection,
        parts: &mut Vec<Part>,
        pairs: &[Pair],
        home: &dyn Fn(&[u8], &[u8]) -> Home,
    ) -> Result<(), Failure> {
        let (own, others): (Vec<_>, Vec<_>) = pairs
            .iter()
            .partition(|(key, _)| self.layout().is_queued(key) && self.layout().slot(key).is_none());
        let mut rows = Rows::default();
        let mut known: HashSet<u32> = parts.iter().map(|part| part.number).collect();
        for (key, value) in others {
            let slot = if self.layout().is_queued(key) { self.layout().slot(key) } else { None };
            // What is pinned to a private partition needs that.
            if let Some(number) = slot.and_then(|slot| slot.checked_sub(SLOTS))
                && known.insert(number)
            {
                connection.rows(ADD_PART, &[&(number as i32)])?;
                parts.push(Part { number, lo: 0, hi: 0 });
            }
            rows.add(connection, slot, key, value)?;
        }
        for (key, value) in own {
            let slot = match home(key, value) {
                Home::Each => None,
                Home::Slot(slot) => Some(slot),
            };
            for part in parts.iter() {
                let has = |slot| (part.lo..part.hi).contains(&slot) || slot == own_slot(part.number);
                if slot.is_none_or(has) {
                    rows.add(connection, Some(own_slot(part.number)), key, value)?;
                }
            }
        }
        rows.send(connection)
    }
}

/// Rows that are to be sent.
#[derive(Default)]
struct Rows<'a> {
    pairs: (Vec<&'a [u8]>, Vec<&'a [u8]>),
    queued: (Vec<i32>, Vec<&'a [u8]>, Vec<&'a [u8]>),
    bytes: usize,
}

impl<'a> Rows<'a> {
    fn add(
        &mut self,
        connection: &mut Connection,
        slot: Option<u32>,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<(), Failure> {
        self.bytes += key.len() + value.len();
        match slot {
            Some(slot) => {
                self.queued.0.push(slot as i32);
                self.queued.1.push(key);
                self.queued.2.push(value);
            }
            None => {
                self.pairs.0.push(key);
                self.pairs.1.push(value);
            }
        }
        match self.pairs.0.len() + self.queued.0.len() >= CHUNK.0 || self.bytes >= CHUNK.1 {
            true => self.send(connection),
            false => Ok(()),
        }
    }

    fn send(&mut self, connection: &mut Connection) -> Result<(), Failure> {
        let Rows { pairs, queued, .. } = std::mem::take(self);
        if !pairs.0.is_empty() {
            connection.rows(PUT, &[&pairs.0, &pairs.1])?;
        }
        if !queued.0.is_empty() {
            connection.rows(PUT_QUEUED, &[&queued.0, &queued.1, &queued.2])?;
        }
        Ok(())
    }
}
