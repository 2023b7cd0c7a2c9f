//! Reads of keys.
//!
//! The keys of the cluster come in pages, so that a scan holds little. The keys of the queue are
//! few: they come at once, after a first page.

use std::ops::Range;
use std::sync::Arc;

use tokio_postgres::Row;

use crate::kv::{Pair, Ranges, Read, StoreError, Visit, after_prefix, first_of, overlay};

use super::layout::{Layout, Tables};
use super::pool::Rows;
use super::scope::{Scope, Slots};

/// The number of rows of a first page, and the most rows of a later one.
const PAGE: (i64, i64) = (64, 4096);
/// The size in bytes that a page should have.
const PAGE_BYTES: i64 = 1 << 20;

const GET: &str = "select v from durable.kv where k = $1";
const SCAN_WITHIN: &str = "select k, v from durable.kv where k >= $1 and k < $2 order by k limit $3";
const SCAN_REST: &str = "select k, v from durable.kv where k >= $1 order by k limit $2";
const RANGES: &str = "
    select wanted.at, found.k, case when octet_length(found.v) <= $5 then found.v end
    from unnest($1::int[], $2::bytea[], $3::bytea[]) as wanted (at, first, after)
    cross join lateral (select k, v from durable.kv
        where k >= wanted.first and k < wanted.after order by k limit $4) as found";
const GET_QUEUED: &str = "select v from durable.queue where slot = $1 and k = $2";
const GET_HIGHEST: &str = "select v from durable.queue where k = $1 order by v desc limit 1";
const SCAN_SLOTS: &str = "
    (select k, v from durable.queue where slot >= $1 and slot < $2 and k >= $4 and ($5::bytea is null or k < $5))
    union all
    (select k, v from durable.queue where slot = $3 and k >= $4 and ($5::bytea is null or k < $5))
    order by k limit $6";
const SCAN_QUEUE: &str = "
    select k, v from durable.queue where k >= $1 and ($2::bytea is null or k < $2) order by k, slot limit $3";

/// A reader of everything in a cluster, or of a partition's part of the queue.
pub(super) struct Keys<R> {
    pub rows: Arc<R>,
    pub layout: Layout,
    pub scope: Scope,
}

impl<R: Rows> Read for Keys<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = match (self.layout.is_queued(key), &self.scope) {
            (false, _) => self.read(GET, &[&key])?,
            (true, Scope::Partition(slots)) => {
                let slot = self.layout.slot(key).unwrap_or(slots.own);
                if !slots.contains(slot) {
                    return Ok(None);
                }
                self.read(GET_QUEUED, &[&(slot as i32), &key])?
            }
            (true, Scope::Cluster) => match self.layout.slot(key) {
                Some(slot) => self.read(GET_QUEUED, &[&(slot as i32), &key])?,
                None if self.layout.sequence_of(key).is_some() => {
                    let mut value = None;
                    self.scan(key, &mut |found, bytes| {
                        value = (found == key).then(|| bytes.to_vec());
                        false
                    })?;
                    return Ok(value);
                }
                None => self.read(GET_HIGHEST, &[&key])?,
            },
        };
        rows.first().map(|row| column(row, 0)).transpose()
    }

    fn ranges(&self, ranges: &[Range<Vec<u8>>], most: usize, bytes: usize) -> Result<Ranges, StoreError> {
        self.read_ranges(ranges, most, bytes).map(Some)
    }

    fn scan_from(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let from = first_of(prefix, from);
        if !from.starts_with(prefix) {
            return Ok(());
        }
        match self.layout.tables(prefix) {
            Tables::Kv => self.scan_kv(prefix, from, visit),
            Tables::Queue => {
                self.scan_queue(prefix, from, &mut |pairs| pairs.iter().all(|(key, value)| visit(key, value)))
            }
            Tables::Both => {
                let mut queued = Vec::new();
                self.scan_queue(prefix, from, &mut |pairs| {
                    queued.extend(pairs);
                    true
                })?;
                let queued = queued.into_iter().map(|(key, value)| (key, Some(value)));
                overlay(queued, |visit| self.scan_kv(prefix, from, visit), visit)
            }
        }
    }
}

impl<R: Rows> Keys<R> {
    /// Returns the keys of each range, of those that are not in the queue.
    fn read_ranges(
        &self,
        ranges: &[Range<Vec<u8>>],
        most: usize,
        bytes: usize,
    ) -> Result<Vec<Option<Vec<Pair>>>, StoreError> {
        let mut found = Vec::with_capacity(ranges.len());
        let (mut at, mut first, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (number, range) in ranges.iter().enumerate() {
            let is_kv = !self.layout.has_queued(range);
            found.push(is_kv.then(Vec::new));
            if is_kv {
                at.push(number as i32);
                first.push(range.start.as_slice());
                after.push(range.end.as_slice());
            }
        }
        // One more row shows that there are too many.
        let rows = self.read(RANGES, &[&at, &first, &after, &(most as i64 + 1), &(bytes as i32)])?;
        for row in &rows {
            let (number, key, value): (i32, Vec<u8>, Option<Vec<u8>>) =
                (column(row, 0)?, column(row, 1)?, column(row, 2)?);
            let place = usize::try_from(number).ok().and_then(|number| found.get_mut(number));
            if let Some(place) = place {
                match (place.as_mut(), value) {
                    (Some(pairs), Some(value)) if pairs.len() < most => pairs.push((key, value)),
                    _ => *place = None,
                }
            }
        }
        for pairs in found.iter_mut().flatten() {
            pairs.sort_unstable();
        }
        Ok(found)
    }

    fn read(&self, sql: &'static str, params: super::connection::Params<'_>) -> Result<Vec<Row>, StoreError> {
        self.rows.rows("read from", sql, params)
    }

    fn scan_kv(&self, prefix: &[u8], from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let until = after_prefix(prefix);
        let (mut from, mut most) = (from.to_vec(), PAGE.0);
        loop {
            let rows = match &until {
                Some(until) => self.read(SCAN_WITHIN, &[&from, until, &most])?,
                None => self.read(SCAN_REST, &[&from, &most])?,
            };
            let (count, mut bytes) = (rows.len() as i64, 0);
            for row in &rows {
                let (key, value): (&[u8], &[u8]) = (column(row, 0)?, column(row, 1)?);
                bytes += (key.len() + value.len()) as i64;
                if !visit(key, value) {
                    return Ok(());
                }
            }
            let Some(last) = rows.last().filter(|_| count == most) else { return Ok(()) };
            from = column(last, 0)?;
            from.push(0);
            most = (PAGE_BYTES * count / bytes.max(1)).clamp(PAGE.0 / 4, PAGE.1).min(most * 4);
        }
    }

    /// Gives the keys of the queue to a function, until that returns false.
    fn scan_queue(
        &self,
        prefix: &[u8],
        from: &[u8],
        give: &mut dyn FnMut(Vec<Pair>) -> bool,
    ) -> Result<(), StoreError> {
        match &self.scope {
            Scope::Partition(slots) => {
                let first = self.slots_page(slots, prefix, from, Some(PAGE.0))?;
                let is_all = first.len() < PAGE.0 as usize;
                let last = first.last().map(|(key, _)| [key, &[0][..]].concat());
                match last {
                    Some(last) if give(first) && !is_all => {
                        give(self.slots_page(slots, prefix, &last, None)?);
                    }
                    _ => {}
                }
            }
            Scope::Cluster => {
                give(self.whole_queue(prefix, from)?);
            }
        }
        Ok(())
    }

    fn slots_page(
        &self,
        slots: &Slots,
        prefix: &[u8],
        from: &[u8],
        most: Option<i64>,
    ) -> Result<Vec<Pair>, StoreError> {
        let (until, most) = (after_prefix(prefix), most.unwrap_or(i64::MAX));
        let (lo, hi, own) = (slots.range.start as i32, slots.range.end as i32, slots.own as i32);
        pairs(&self.read(SCAN_SLOTS, &[&lo, &hi, &own, &from, &until, &most])?)
    }

    /// Returns the keys of the queue with a prefix, from `from`. What is a partition's own is
    /// numbered anew, or shown once with the highest value.
    fn whole_queue(&self, prefix: &[u8], from: &[u8]) -> Result<Vec<Pair>, StoreError> {
        // The numbers of a sequence are known from its begin on.
        let sequence = self.layout.numbered.iter().find(|sequence| prefix.starts_with(sequence));
        let begin = self.layout.numbered.iter().find(|sequence| from.starts_with(sequence));
        let until = after_prefix(sequence.copied().unwrap_or(prefix));
        let first = begin.copied().unwrap_or(from);
        let rows = pairs(&self.read(SCAN_QUEUE, &[&first, &until, &i64::MAX])?)?;
        let mut counted: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut shown: Vec<Pair> = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            if self.layout.slot(&key).is_some() {
                shown.push((key, value));
            } else if let Some(sequence) = self.layout.sequence_of(&key) {
                if counted.last().is_none_or(|(known, _)| known != sequence) {
                    counted.push((sequence.to_vec(), 0));
                }
                let Some((sequence, number)) = counted.last_mut() else { continue };
                shown.push(([sequence, &number.to_be_bytes()[..]].concat(), value));
                *number += 1;
            } else {
                match shown.last_mut() {
                    Some((known, highest)) if *known == key => *highest = value.max(std::mem::take(highest)),
                    _ => shown.push((key, value)),
                }
            }
        }
        shown.retain(|(key, _)| key.as_slice() >= from && key.starts_with(prefix));
        Ok(shown)
    }
}

fn pairs(rows: &[Row]) -> Result<Vec<Pair>, StoreError> {
    rows.iter().map(|row| Ok((column(row, 0)?, column(row, 1)?))).collect()
}

/// Returns a column of a row.
pub(super) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, StoreError> {
    row.try_get(at).map_err(|error| StoreError::Damaged {
        what: format!("column {at} of an answer of the server: {error}"),
    })
}
