//! The worker: a process that owns partitions of a cluster, as many as its share.
//!
//! Invariant: the worker takes a partition only through the database, and begins no effect after
//! its lease, by its own clock, is over. A partition that it can't work on is given back, so that
//! another worker can try.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{OWN, Placement};
use crate::host::{Callbacks, Handle, HostError, Reads, Settings, Terminal, unique};
use crate::kv::{Cause, Partition, StoreError};
use crate::store::postgres::{Cluster, Overview, Ownership, PartitionState, Patience, WorkerState};

use super::claims::Claiming;
use super::heart::{BEATS, Heart};
use super::hints::Hint;
use super::leases::Leases;
use super::market::Market;
use super::news::{News, Owners, note_others, placement};
use super::partition::{Ended, Running, Work, is_deposed};
use super::postman::Postman;
use super::shares::shares;

/// The longest time between two looks at the owners of partitions.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two looks while a partition of the worker's share is about to become free.
const SOON: Duration = Duration::from_millis(100);
/// The longest time until the next look while somebody follows the changes of the store.
const FOLLOWED: Duration = Duration::from_millis(100);
/// The time after which a partition that failed is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// The number of looks between two removals of old answers.
const PRUNE: u32 = 600;
/// The number of looks between two removals of private partitions at rest.
const TIDY: u32 = 5;

/// The options of a worker.
#[derive(Clone)]
pub struct WorkerOptions {
    /// The name for people.
    pub name: String,
    /// The address at which hints are received; port 0 takes any free port.
    pub address: SocketAddr,
    pub lease: Duration,
    pub settings: Settings,
    /// The folder with the watermarks of this machine.
    pub folder: Option<PathBuf>,
    /// How long commits try to reach the database.
    pub patience: Patience,
}

/// A worker of a cluster.
pub struct Worker {
    cluster: Cluster,
    id: String,
    options: WorkerOptions,
    leases: Leases,
    news: News,
    stopper: Stopper,
    running: BTreeMap<Partition, Running>,
    /// Where the partitions offer activities, once the worker runs.
    market: Option<Market>,
    /// The partitions that failed here, with the times at which they are tried again. `None` stands
    /// for never: a person must act.
    failed: BTreeMap<Partition, Option<Instant>>,
    ended: (Sender<Ended>, Receiver<Ended>),
    /// The partitions that could not write any more, until it is known why.
    deposed: Vec<Partition>,
    looks: u32,
    /// The number of commits of the partitions that are not here.
    others: u64,
    terminal: Terminal,
}

/// The means to stop a worker from another thread. Clones stop the same one.
#[derive(Clone)]
pub struct Stopper {
    is_over: Arc<AtomicBool>,
    news: Arc<(Mutex<bool>, Condvar)>,
}

impl Stopper {
    /// Asks the worker to hand its partitions over and to end.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Makes the worker look at once.
    fn wake(&self) {
        let (flag, changed) = &*self.news;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until somebody wakes the worker, for some time at most.
    fn wait(&self, patience: Duration) {
        let (flag, changed) = &*self.news;
        let flag = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(flag, patience, |is_woken| !*is_woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Worker {
    /// Makes the worker known to the cluster. It owns nothing before [`Worker::run`].
    pub fn enroll(cluster: Cluster, options: WorkerOptions) -> Result<Worker, StoreError> {
        let no_socket = |error| StoreError::Io {
            what: format!("receive hints at {}", options.address),
            source: Cause::new(error),
        };
        let news = News::open(&cluster, options.address).map_err(no_socket)?;
        let address = news.hints.address().map_err(no_socket)?;
        let id = unique();
        let leases = Leases::default();
        let stopper = Stopper { is_over: Arc::default(), news: Arc::default() };
        let heart = Heart {
            cluster: cluster.clone(),
            worker: id.clone(),
            name: options.name.clone(),
            address: address.to_string(),
            length: options.lease,
            leases: leases.clone(),
            is_over: stopper.is_over.clone(),
            postman: news.postman.clone(),
        };
        heart.begin()?;
        Ok(Worker {
            cluster,
            id,
            options,
            leases,
            news,
            stopper,
            running: BTreeMap::new(),
            market: None,
            failed: BTreeMap::new(),
            ended: channel(),
            deposed: Vec::new(),
            looks: 0,
            others: 0,
            terminal: Terminal::new(),
        })
    }

    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Returns the reads of the whole cluster. Followers learn of the changes of this worker; when
    /// other workers change something, they see a gap.
    pub fn reads(&self) -> Reads {
        self.news.reads.clone()
    }

    /// Gives instances URLs at which the outside raises events. Call this before [`Worker::run`].
    pub fn make_callbacks(&mut self, callbacks: Callbacks) {
        self.options.settings.callbacks = callbacks;
    }

    /// Has somebody pass on the commands of this process that come to the wrong partition.
    pub(super) fn route_by(&mut self, router: Handle) {
        self.options.settings.router = Some(router);
    }

    pub(super) fn owners(&self) -> Owners {
        self.news.owners.clone()
    }

    pub(super) fn postman(&self) -> Postman {
        self.news.postman.clone()
    }

    /// Owns partitions and works on them until [`Stopper::stop`]. Then all are handed over.
    pub fn run(&mut self) -> Result<(), StoreError> {
        self.begin_threads().map_err(|error| StoreError::Transient {
            what: "the system gives no threads for a worker".into(),
            source: Some(Cause::new(error)),
        })?;
        let mut wait = Duration::ZERO;
        while !self.stopper.is_over() {
            self.stopper.wait(wait);
            self.take_ended();
            wait = match self.cluster.overview() {
                Ok(overview) => {
                    if let Err(error) = overview.check() {
                        // A newer version has changed the schema, so its workers take over.
                        self.stopper.stop();
                        self.hand_over()?;
                        return Err(error);
                    }
                    self.look(&overview)
                }
                // The hosts keep what they have, and wait for the database as well.
                Err(error) => {
                    self.terminal.log("warn", &format!("{error}; trying again"));
                    LOOK
                }
            };
        }
        self.hand_over()
    }

    fn begin_threads(&mut self) -> std::io::Result<()> {
        self.news.begin(&self.cluster)?;
        let claiming = Claiming {
            cluster: self.cluster.clone(),
            worker: self.id.clone(),
            settings: self.options.settings.clone(),
            lease: self.leases.own(),
            news: self.news.clone(),
            is_over: self.stopper.is_over.clone(),
        };
        let claims = claiming.begin()?;
        let (here, news) = (claims.clone(), self.news.clone());
        let offered = move || {
            here.wake();
            news.offered();
        };
        self.market = Some(Market::begin(&self.cluster, self.stopper.is_over.clone(), offered)?);
        let (postman, stopper) = (self.news.postman.clone(), self.stopper.clone());
        self.news.hints.listen(move |hint| match hint {
            Hint::Mail => postman.hint(),
            Hint::Owners => stopper.wake(),
            Hint::Tasks => claims.wake(),
        })?;
        Ok(())
    }

    /// Takes and gives back partitions, so that this worker has its share. Returns the time until
    /// the next look.
    fn look(&mut self, overview: &Overview) -> Duration {
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(PRUNE) {
            // Old answers disturb nobody meanwhile.
            let _ = self.cluster.prune();
        }
        self.news.owners.set(overview);
        self.note_others(overview);
        self.note_deposed(overview);
        let alive: Vec<String> = overview
            .workers
            .iter()
            .filter(|worker| takes_part(worker))
            .map(|worker| worker.id.clone())
            .collect();
        let (private, common): (Vec<_>, Vec<_>) =
            overview.partitions.iter().partition(|state| is_private(state));
        let numbers =
            |states: Vec<&PartitionState>| states.iter().map(|state| state.partition).collect::<Vec<_>>();
        let mut wanted = shares(&alive, &numbers(common));
        wanted.extend(shares(&alive, &numbers(private)));
        self.drop_lost(overview);
        let (mut give_back, mut taken) = (Vec::new(), Vec::new());
        let mut waits = false;
        for state in &overview.partitions {
            let is_mine = wanted.get(&state.partition) == Some(&self.id);
            let runs = self.running.contains_key(&state.partition);
            // What was split off from a partition of this worker is its own, and may be another's share.
            let has = runs || state.owner.as_ref() == Some(&self.id);
            if has && !is_mine && !is_private(state) {
                give_back.push(state.partition);
            } else if !runs && is_mine && self.may_try(state.partition) {
                let other = state.owner.as_ref().filter(|owner| **owner != self.id);
                match other {
                    Some(owner) if overview.is_alive(owner) => waits |= !is_private(state),
                    _ => taken.extend(self.take(state.partition)),
                }
            }
        }
        if !give_back.is_empty() {
            self.give_back(&give_back);
        }
        let took = !taken.is_empty();
        if took {
            self.begin(taken);
        }
        if took || !give_back.is_empty() {
            self.tell_others(overview);
        }
        if self.looks.is_multiple_of(TIDY) && overview.partitions.iter().any(|state| self.has_private(state))
        {
            self.remove_resting();
        }
        let look = LOOK.min(self.options.lease / BEATS);
        let look = if self.news.reads.is_followed() { FOLLOWED.min(look) } else { look };
        if waits { SOON.min(look) } else { look }
    }

    /// Lets followers read everything again when other workers have written.
    fn note_others(&mut self, overview: &Overview) {
        let others = overview.partitions.iter().filter(|state| !self.running.contains_key(&state.partition));
        note_others(&self.news.reads, &mut self.others, others.map(|state| state.commits).sum());
    }

    /// Tells people of partitions that others have taken over. After a split, the worker takes its own
    /// ones anew.
    fn note_deposed(&mut self, overview: &Overview) {
        for partition in std::mem::take(&mut self.deposed) {
            let mut states = overview.partitions.iter();
            let owner =
                states.find(|state| state.partition == partition).and_then(|state| state.owner.as_ref());
            if owner.is_some_and(|owner| *owner != self.id) {
                self.terminal.log("warn", &StoreError::Fenced { partition }.to_string());
            }
        }
    }

    fn has_private(&self, state: &PartitionState) -> bool {
        is_private(state) && self.running.contains_key(&state.partition)
    }

    /// Removes the private partitions that have nothing more to do. They come back when something is
    /// sent to them.
    fn remove_resting(&mut self) {
        let Ok(resting) = self.cluster.resting(&self.id, &[OWN]) else { return };
        let resting: Vec<Partition> =
            resting.into_iter().filter(|partition| self.running.contains_key(partition)).collect();
        self.stop_work(&resting);
        for partition in resting {
            if !self.cluster.remove_private(&self.id, partition, &[OWN]).unwrap_or(false) {
                self.release(&[partition]);
            }
        }
    }

    fn may_try(&self, partition: Partition) -> bool {
        match self.failed.get(&partition) {
            None => true,
            Some(None) => false,
            Some(Some(at)) => *at <= Instant::now(),
        }
    }

    /// Takes a partition.
    fn take(&mut self, partition: Partition) -> Option<Ownership> {
        match self.cluster.take(&self.id, partition) {
            // `None`: another worker was faster, or the lease is over.
            Ok(taken) => taken,
            Err(error) => {
                self.fail(partition, &error.to_string(), Some(AGAIN));
                None
            }
        }
    }

    /// Begins to work on partitions that were taken. The slots are read after that: if partitions are
    /// split before the work begins, these ones can't be written.
    fn begin(&mut self, taken: Vec<Ownership>) {
        let overview = self.cluster.overview();
        if let Ok(overview) = &overview {
            self.news.owners.set(overview);
        }
        for ownership in taken {
            let partition = ownership.partition;
            let placed = overview.as_ref().map_err(Clone::clone);
            match placed.and_then(|overview| placement(partition, overview)) {
                Ok(placement) => self.begin_one(ownership, placement),
                Err(error) => {
                    self.fail(partition, &error.to_string(), Some(AGAIN));
                    self.release(&[partition]);
                }
            }
        }
    }

    fn begin_one(&mut self, ownership: Ownership, placement: Placement) {
        let (partition, epoch) = (ownership.partition, ownership.epoch);
        // The number of a private partition that was removed is used again, with fewer commits.
        let folder = if ownership.slots.is_empty() { None } else { self.options.folder.clone() };
        let work = Work {
            cluster: self.cluster.clone(),
            ownership,
            placement,
            settings: Settings {
                lease: Some(self.leases.add(partition, epoch)),
                offers: self.market.as_ref().map(|market| market.of(partition, epoch)),
                stays: true,
                ..self.options.settings.clone()
            },
            folder,
            patience: self.options.patience.clone(),
            news: self.news.clone(),
        };
        match Running::begin(work, self.ended.0.clone()) {
            Ok(running) => {
                self.running.insert(partition, running);
            }
            Err(error) => {
                self.fail(partition, &crate::os::reason(&error), Some(AGAIN));
                self.release(&[partition]);
            }
        }
    }

    fn fail(&mut self, partition: Partition, reason: &str, again: Option<Duration>) {
        self.terminal.log("error", &format!("partition {partition} can't be worked on: {reason}"));
        self.failed.insert(partition, again.map(|again| Instant::now() + again));
    }

    /// Takes note of partitions whose work has ended by itself.
    fn take_ended(&mut self) {
        while let Ok(ended) = self.ended.1.try_recv() {
            self.on_ended(ended);
        }
    }

    fn on_ended(&mut self, Ended { partition, epoch, result }: Ended) {
        if self.running.get(&partition).is_none_or(|running| running.epoch != epoch) {
            return;
        }
        self.leases.remove(partition);
        if let Some(running) = self.running.remove(&partition) {
            running.join();
        }
        match result {
            Ok(()) => self.release(&[partition]),
            // There is nothing to give back.
            Err(error) if is_deposed(&error) => self.deposed.push(partition),
            Err(error) => {
                let again = match &error {
                    HostError::Store(StoreError::Restored { .. } | StoreError::Damaged { .. }) => None,
                    _ => Some(AGAIN),
                };
                self.fail(partition, &error.to_string(), again);
                if let HostError::Store(error) = &error {
                    self.terminal.log("hint", &error.hint());
                }
                self.release(&[partition]);
            }
        }
    }

    /// Stops the work on partitions that others have taken over meanwhile. A partition at rest would
    /// not notice by itself.
    fn drop_lost(&mut self, overview: &Overview) {
        let is_lost = |state: &&PartitionState| {
            let running = self.running.get(&state.partition);
            running
                .is_some_and(|running| running.epoch != state.epoch || state.owner.as_ref() != Some(&self.id))
        };
        let lost: Vec<Partition> =
            overview.partitions.iter().filter(is_lost).map(|state| state.partition).collect();
        self.stop_work(&lost);
    }

    /// Stops the work on partitions, and gives them back.
    fn give_back(&mut self, partitions: &[Partition]) {
        self.stop_work(partitions);
        self.release(partitions);
    }

    fn stop_work(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(running) = self.running.get_mut(partition) {
                running.stop();
            }
        }
        for partition in partitions {
            if let Some(running) = self.running.remove(partition) {
                running.join();
            }
            self.leases.remove(*partition);
        }
    }

    /// Gives partitions back in the database. If that fails, they are free when the lease is over.
    fn release(&mut self, partitions: &[Partition]) {
        if let Err(error) = self.cluster.release(&self.id, partitions) {
            self.terminal.log("warn", &format!("{error}; others take over when the lease is over"));
        }
    }

    /// Lets the other workers look at the owners.
    fn tell_others(&self, overview: &Overview) {
        let others = overview.workers.iter().filter(|worker| worker.id != self.id);
        self.news.hints.tell(others, Hint::Owners);
    }

    /// Gives everything back, and leaves the cluster.
    fn hand_over(&mut self) -> Result<(), StoreError> {
        let overview = self.cluster.overview();
        let all: Vec<Partition> = self.running.keys().copied().collect();
        self.stop_work(&all);
        self.news.postman.end();
        self.news.hints.end();
        self.news.reads.end();
        self.cluster.leave(&self.id)?;
        if let Ok(overview) = overview {
            self.tell_others(&overview);
        }
        Ok(())
    }
}

/// Whether a worker has a share of the partitions. Processes that run one script have none.
fn takes_part(worker: &WorkerState) -> bool {
    worker.rest.is_some() && !worker.address.is_empty()
}

fn is_private(state: &PartitionState) -> bool {
    state.slots.is_empty()
}
