//! An index of all instances in memory, for lists by age, for counts, and for histograms.
//!
//! The index is made when a server begins, unless the store is large, or by the first request that
//! needs it. It follows the changes of the store, and is dropped once nobody has asked for two
//! minutes. An instance takes some 200 bytes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tokio::task::spawn_blocking;

use crate::api::Followed;
use crate::engine::query;
use crate::engine::{ChangeKind, Lifecycle};
use crate::host::Reads;

use super::kept::Kept;
use super::problem::Problem;

/// The time for which the index is kept after it was used.
const KEPT: Duration = Duration::from_secs(120);
/// The time after which the index follows the store again.
const KEEP_UP: Duration = Duration::from_millis(200);
/// The largest number of instances for which the index is made before anybody asks.
const EARLY: usize = 250_000;
/// The number of instances that are read at once.
const READ: usize = 1_000;

/// The index, if there is one.
#[derive(Clone)]
pub struct Catalogs {
    reads: Reads,
    current: Arc<Mutex<Kept<Catalog>>>,
}

/// All instances, by age.
pub struct Catalog {
    items: BTreeMap<(i64, Arc<str>), Item>,
    /// The times of beginning, by id.
    created: HashMap<Arc<str>, i64>,
    functions: HashMap<Arc<str>, ()>,
    /// The numbers of instances that have begun, by function, and that have ended, by function and
    /// status. Purges take nothing away.
    pub begun: HashMap<Arc<str>, u64>,
    pub ended: HashMap<(Arc<str>, Lifecycle), u64>,
    followed: Followed,
    used: Instant,
}

/// An instance of the index.
#[derive(Clone, Debug)]
pub struct Item {
    pub lifecycle: Lifecycle,
    pub function: Arc<str>,
    pub ended: Option<i64>,
    pub parent: Option<Arc<str>>,
}

/// A filter of the index; the default lets all through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub lifecycles: Vec<Lifecycle>,
    pub function: Option<String>,
    pub prefix: String,
    pub parent: Option<String>,
    /// Whether only instances match that no other one called.
    pub roots: bool,
    /// The earliest time of beginning, in nanoseconds since 1970.
    pub after: Option<i64>,
    /// The time before which instances began, in nanoseconds since 1970.
    pub before: Option<i64>,
}

impl Wanted {
    fn lets_through(&self, id: &str, item: &Item) -> bool {
        (self.lifecycles.is_empty() || self.lifecycles.contains(&item.lifecycle))
            && self.function.as_deref().is_none_or(|function| *item.function == *function)
            && id.starts_with(&self.prefix)
            && self.parent.is_none() | (item.parent.as_deref() == self.parent.as_deref())
            && !(self.roots && item.parent.is_some())
    }
}

impl Catalogs {
    pub fn new(reads: Reads) -> Catalogs {
        Catalogs { reads, current: Arc::default() }
    }

    /// Looks at the index, which has everything that is durable now. The first look reads all
    /// instances. Blocks, so it runs on a thread of a runtime that may block.
    pub fn look<T>(&self, look: impl FnOnce(&Catalog) -> T) -> Result<T, Problem> {
        let mut current = self.current();
        let catalog = match current.take() {
            Some(mut catalog) => catalog.catch_up(&self.reads)?.then_some(catalog),
            None => None,
        };
        let catalog = match catalog {
            Some(catalog) => Some(catalog),
            None => Catalog::read(&self.reads, usize::MAX)?,
        };
        let Some(mut catalog) = catalog else { return Err(Problem::stopped()) };
        catalog.used = Instant::now();
        let looked = look(&catalog);
        self.put(&mut current, catalog);
        Ok(looked)
    }

    /// Makes the index before anybody asks, unless the store is large. Blocks, as `look` does.
    pub fn prepare(&self) {
        let mut current = self.current();
        if !current.is_there()
            && let Ok(Some(catalog)) = Catalog::read(&self.reads, EARLY)
        {
            self.put(&mut current, catalog);
        }
    }

    /// Puts the index in its place, and lets a task follow it.
    fn put(&self, current: &mut Kept<Catalog>, catalog: Catalog) {
        if current.put(catalog) {
            tokio::spawn(self.clone().follow());
        }
    }

    /// Lets the index follow the store, so that the next look finds few changes, until nobody has
    /// used it for a while.
    async fn follow(self) {
        loop {
            tokio::time::sleep(KEEP_UP).await;
            let catalogs = self.clone();
            match spawn_blocking(move || catalogs.keep_up()).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.current().end(),
            }
        }
    }

    /// Returns whether the index stays.
    fn keep_up(&self) -> bool {
        self.current()
            .turn(|catalog| catalog.used.elapsed() < KEPT && catalog.catch_up(&self.reads).unwrap_or(false))
    }

    fn current(&self) -> MutexGuard<'_, Kept<Catalog>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    /// Reads all instances. Returns `None` if there are more than `most`.
    fn read(reads: &Reads, most: usize) -> Result<Option<Catalog>, Problem> {
        let followed = reads.news(None, Duration::ZERO)?.followed;
        let mut catalog = Catalog {
            items: BTreeMap::new(),
            created: HashMap::new(),
            functions: HashMap::new(),
            begun: HashMap::new(),
            ended: HashMap::new(),
            followed,
            used: Instant::now(),
        };
        let mut found: Vec<((i64, Arc<str>), Item)> = Vec::new();
        let mut from = Some(String::new());
        while let Some(first) = from {
            if found.len() > most {
                return Ok(None);
            }
            from = reads.ask(|store| {
                query::heads(store, &first, READ, &mut |id, head| {
                    let function = catalog.named(head.function);
                    let parent = head.parent.map(Arc::from);
                    let item = Item { lifecycle: head.lifecycle, function, ended: head.ended, parent };
                    found.push(((head.created, Arc::from(id)), item));
                })
            })??;
        }
        for (_, item) in &found {
            catalog.tally(item, true);
        }
        catalog.created = found.iter().map(|((created, id), _)| (id.clone(), *created)).collect();
        // A map is made of a sorted list at once.
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        catalog.items = found.into_iter().collect();
        Ok(Some(catalog))
    }

    /// Returns a function's name, which all of its instances share.
    fn named(&mut self, function: &str) -> Arc<str> {
        if let Some((known, ())) = self.functions.get_key_value(function) {
            return known.clone();
        }
        let name: Arc<str> = function.into();
        self.functions.insert(name.clone(), ());
        name
    }

    /// Counts an instance that has begun, or that has ended now.
    fn tally(&mut self, item: &Item, is_new: bool) {
        if is_new {
            *self.begun.entry(item.function.clone()).or_default() += 1;
        }
        if item.ended.is_some() {
            *self.ended.entry((item.function.clone(), item.lifecycle)).or_default() += 1;
        }
    }

    fn put(&mut self, id: Arc<str>, created: i64, item: Item) {
        let before = self.created.insert(id.clone(), created);
        let known = before.and_then(|before| self.items.remove(&(before, id.clone())));
        let is_new = before != Some(created);
        if is_new || known.is_none_or(|known| known.ended != item.ended) {
            self.tally(&item, is_new);
        }
        self.items.insert((created, id), item);
    }

    /// Takes in the changes since the last time. Returns false if some are missing.
    fn catch_up(&mut self, reads: &Reads) -> Result<bool, Problem> {
        let news = reads.news(Some(self.followed), Duration::ZERO)?;
        if news.has_gap {
            return Ok(false);
        }
        for change in news.changes() {
            match &change.kind {
                ChangeKind::Instance { id, lifecycle, function, created, ended, parent } => {
                    let item = Item {
                        lifecycle: *lifecycle,
                        function: self.named(function),
                        ended: *ended,
                        parent: parent.as_deref().map(Arc::from),
                    };
                    self.put(id.as_str().into(), *created, item);
                }
                ChangeKind::Removed { id } => {
                    if let Some((id, created)) = self.created.remove_entry(id.as_str()) {
                        self.items.remove(&(created, id));
                    }
                }
                ChangeKind::History { .. } | ChangeKind::Entity { .. } => {}
            }
        }
        self.followed = news.followed;
        Ok(true)
    }

    /// Returns the ids of a page with their times of beginning, and whether more follow. `from` is
    /// the last instance of the page before.
    pub fn page(
        &self,
        wanted: &Wanted,
        newest_first: bool,
        from: Option<&(i64, Arc<str>)>,
        limit: usize,
    ) -> (Vec<(i64, Arc<str>)>, bool) {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let nothing: Arc<str> = "".into();
        let mut lower = wanted.after.map_or(Unbounded, |after| Included((after, nothing.clone())));
        let mut upper = wanted.before.map_or(Unbounded, |before| Excluded((before, nothing)));
        let is_empty = match (wanted.after, wanted.before) {
            (Some(after), Some(before)) => after >= before,
            _ => false,
        };
        match from {
            Some(from) if newest_first => upper = Excluded(from.clone()),
            Some(from) => lower = Excluded(from.clone()),
            None => {}
        }
        let ordered = match (&lower, &upper) {
            (Included(low) | Excluded(low), Excluded(high)) => low < high,
            _ => true,
        };
        if is_empty || !ordered {
            return (Vec::new(), false);
        }
        let range = self.items.range((lower, upper));
        let matching = |((_, id), item): &(&(i64, Arc<str>), &Item)| wanted.lets_through(id, item);
        let mut found: Vec<(i64, Arc<str>)> = match newest_first {
            true => range.rev().filter(matching).take(limit + 1).map(|(key, _)| key.clone()).collect(),
            false => range.filter(matching).take(limit + 1).map(|(key, _)| key.clone()).collect(),
        };
        let more = found.len() > limit;
        found.truncate(limit);
        (found, more)
    }

    /// Returns those of the ids that there are.
    pub fn those_there(&self, ids: &[String]) -> HashSet<String> {
        ids.iter().filter(|id| self.created.contains_key(id.as_str())).cloned().collect()
    }

    /// Visits all instances that a filter lets through, the oldest first.
    pub fn each(&self, wanted: &Wanted, mut visit: impl FnMut(i64, &str, &Item)) {
        for ((created, id), item) in &self.items {
            let in_time = wanted.after.is_none_or(|after| *created >= after)
                && wanted.before.is_none_or(|before| *created < before);
            if in_time && wanted.lets_through(id, item) {
                visit(*created, id, item);
            }
        }
    }
}
