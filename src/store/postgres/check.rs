//! The check of a cluster's tables: everything is where its partition finds it.

use hashbrown::HashSet;

use crate::kv::StoreError;

use super::cluster::Cluster;
use super::pool::Rows;
use super::reader::column;
use super::scope::{LIFE, SLOTS, own_slot};

const QUEUED: &str = "select slot, k from durable.queue";
const LOST_MAIL: &str = "select dest, count(*) from durable.transit
    where not exists (select from durable.part where part.part = transit.dest) group by dest order by dest";
const GAPS: &str = "select part, max(n) - min(n) + 1 - count(*) from durable.commits
    group by part having max(n) - min(n) + 1 <> count(*) order by part";

impl Cluster {
    /// Returns what is wrong with the tables, in words.
    pub fn irregularities(&self) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let overview = self.overview()?;
        let mut ranges: Vec<_> = overview.partitions.iter().map(|part| part.slots.clone()).collect();
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        let mut next = 0;
        for range in ranges {
            if range.start != next {
                found.push(format!(
                    "the slots from {next} to {} belong to no partition or to two",
                    range.start
                ));
            }
            next = range.end;
        }
        if next != SLOTS {
            found.push(format!("the slots of the partitions end at {next} instead of {SLOTS}"));
        }
        let own: HashSet<u32> = overview.partitions.iter().map(|part| own_slot(part.partition)).collect();
        for row in self.pool().rows("read from", QUEUED, &[])? {
            let (slot, key): (i32, &[u8]) = (column(&row, 0)?, column(&row, 1)?);
            let slot = slot as u32;
            let is_right = self.layout().slot(key).is_none_or(|right| right == slot);
            let has_home = slot < SLOTS || own.contains(&slot) || key == LIFE;
            if !is_right || !has_home {
                let shown = String::from_utf8_lossy(key);
                found.push(format!("{shown} is in slot {slot}, where no partition finds it"));
            }
        }
        for row in self.pool().rows("read from", LOST_MAIL, &[])? {
            let (dest, count): (i32, i64) = (column(&row, 0)?, column(&row, 1)?);
            found.push(format!("{count} messages are for partition {dest}, which is not there"));
        }
        for row in self.pool().rows("read from", GAPS, &[])? {
            let (part, count): (i32, i64) = (column(&row, 0)?, column(&row, 1)?);
            found.push(format!("{count} commits of partition {part} are missing"));
        }
        Ok(found)
    }
}
