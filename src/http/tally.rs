//! The numbers of instances by status and function, and over time.
//!
//! A count visits all instances that a filter lets through. So that many open pages cost no more
//! than one, a count is used again for a while: fifty times as long as it took, and two seconds at
//! most. With a thousand instances that is a few milliseconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Body, json};

use crate::engine::Lifecycle;
use crate::host;
use crate::machine::format;

use super::catalog::{Catalog, Item, Wanted};

/// The number of intervals of a histogram.
const BUCKETS: usize = 60;
/// The number of counts that are kept.
const KEPT: usize = 32;
/// A count is used again for this many times the time that it took, and no longer than the limit.
const TIMES: u32 = 50;
const LONGEST: Duration = Duration::from_secs(2);

/// The last counts. Clones share them.
#[derive(Clone, Default)]
pub struct Counts {
    last: Arc<Mutex<Vec<Counted>>>,
}

struct Counted {
    wanted: Wanted,
    body: Body,
    until: Instant,
}

impl Counts {
    /// Returns a count that may be used again.
    pub fn known(&self, wanted: &Wanted) -> Option<Body> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = last.iter().find(|counted| counted.until > now && counted.wanted == *wanted)?;
        Some(known.body.clone())
    }

    /// Counts, unless another request has done so meanwhile.
    pub fn count(&self, catalog: &Catalog, wanted: Wanted) -> Body {
        if let Some(known) = self.known(&wanted) {
            return known;
        }
        let began = Instant::now();
        let body = counted(catalog, &wanted);
        let until = Instant::now() + (began.elapsed() * TIMES).min(LONGEST);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|counted| counted.wanted != wanted);
        if last.len() >= KEPT {
            last.remove(0);
        }
        last.push(Counted { wanted, body: body.clone(), until });
        body
    }
}

fn counted(catalog: &Catalog, wanted: &Wanted) -> Body {
    let mut by_status: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_function: BTreeMap<Arc<str>, BTreeMap<&str, u64>> = BTreeMap::new();
    let (mut times, mut total) = (Vec::new(), 0_u64);
    catalog.each(wanted, |created, _, Item { lifecycle, function, .. }| {
        total += 1;
        *by_status.entry(lifecycle.word()).or_default() += 1;
        // Most instances run one of a few functions, whose names are shared.
        let of_function = match by_function.get_mut(function) {
            Some(known) => known,
            None => by_function.entry(function.clone()).or_default(),
        };
        *of_function.entry(lifecycle.word()).or_default() += 1;
        times.push((created, *lifecycle));
    });
    let functions: BTreeMap<&str, _> = by_function.iter().map(|(name, counts)| (&**name, counts)).collect();
    let before = wanted.before.unwrap_or_else(host::now);
    json!({
        "total": total, "status": by_status, "functions": functions,
        "histogram": histogram(&times, wanted.after, before),
    })
}

/// Returns the numbers of instances that began in intervals of equal length, and of those that
/// failed. The times are in order.
fn histogram(times: &[(i64, Lifecycle)], after: Option<i64>, before: i64) -> Body {
    let Some((first, _)) = times.first() else { return json!(null) };
    let from = after.unwrap_or(*first);
    let step = (before.saturating_sub(from).max(1) as u64).div_ceil(BUCKETS as u64).max(1);
    let (mut all, mut failed) = (vec![0_u64; BUCKETS], vec![0_u64; BUCKETS]);
    for (created, lifecycle) in times {
        let bucket = (created.saturating_sub(from).max(0) as u64 / step).min(BUCKETS as u64 - 1) as usize;
        all[bucket] += 1;
        failed[bucket] += u64::from(*lifecycle == Lifecycle::Failed);
    }
    json!({"from": format::instant(from), "nanoseconds": step, "all": all, "failed": failed})
}
