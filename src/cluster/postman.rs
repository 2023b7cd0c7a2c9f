//! The postman: a thread that reads what was sent to the partitions of this process, and passes it
//! on to their hosts.
//!
//! Invariant: each arrival is passed on once to a host. The database shows an arrival until a batch
//! of the host has consumed it, so the postman remembers what it has passed on until a look that
//! began after the consumption.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::Handle;
use crate::kv::{Arrival, Partition, Receipt, StoreError};

/// The time between two looks while messages come, and when none came.
const BUSY: Duration = Duration::from_millis(250);
const IDLE: Duration = Duration::from_secs(2);
/// The number of looks without a message after which the postman is idle.
const QUIET_LOOKS: u32 = 8;
/// The least time between two looks, so that many hints make one look.
const LEAST: Duration = Duration::from_micros(300);
/// The time after a failed look.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads what was sent to some partitions, without what is known already.
pub(super) type Look =
    dyn Fn(&[Partition], &[(Partition, Receipt)]) -> Result<Vec<(Partition, Arrival)>, StoreError> + Send;

/// The postman of this process. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Postman {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    hosts: BTreeMap<Partition, Host>,
    /// The number of the next host.
    next: u64,
    is_hinted: bool,
    is_over: bool,
}

struct Host {
    /// The number of the host. A partition that is given up and taken again has another host.
    number: u64,
    handle: Handle,
    /// What was passed on, and is not known to be consumed.
    known: BTreeSet<Receipt>,
    /// What was consumed since the last look began.
    consumed: Vec<Receipt>,
}

/// A look at the database: the partitions with their hosts, and what is known.
struct Round {
    hosts: Vec<(Partition, u64)>,
    known: Vec<(Partition, Receipt)>,
    /// What was consumed before this round began, so that no later round shows it.
    done: Vec<(Partition, u64, Vec<Receipt>)>,
}

impl Postman {
    /// Begins to look, on a thread of its own.
    pub fn begin(&self, look: Box<Look>) -> io::Result<()> {
        let postman = self.clone();
        thread::Builder::new().name("postman".into()).spawn(move || postman.work(&look))?;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the host of a partition, which gets everything that is not consumed.
    pub fn add(&self, partition: Partition, handle: Handle) {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        let host = Host { number, handle, known: BTreeSet::new(), consumed: Vec::new() };
        state.hosts.insert(partition, host);
        drop(state);
        self.hint();
    }

    /// Removes the host of a partition.
    pub fn remove(&self, partition: Partition) {
        self.state().hosts.remove(&partition);
    }

    /// Whether a partition has its host here.
    pub fn has(&self, partition: Partition) -> bool {
        self.state().hosts.contains_key(&partition)
    }

    /// Returns the host of a partition, if it is here.
    pub fn handle(&self, partition: Partition) -> Option<Handle> {
        self.state().hosts.get(&partition).map(|host| host.handle.clone())
    }

    /// Returns the hosts of all partitions that are here.
    pub fn handles(&self) -> Vec<Handle> {
        self.state().hosts.values().map(|host| host.handle.clone()).collect()
    }

    /// Makes the postman look soon.
    pub fn hint(&self) {
        self.state().is_hinted = true;
        self.shared.changed.notify_all();
    }

    /// Notes that a batch of a partition has consumed arrivals.
    pub fn consumed(&self, partition: Partition, receipts: &[Receipt]) {
        if let Some(host) = self.state().hosts.get_mut(&partition) {
            host.consumed.extend(receipts);
        }
    }

    pub fn end(&self) {
        self.state().is_over = true;
        self.shared.changed.notify_all();
    }

    fn work(&self, look: &Look) {
        let mut quiet = 0;
        let mut last = Instant::now();
        loop {
            let patience = if quiet < QUIET_LOOKS { BUSY } else { IDLE };
            if !self.wait(last + patience) {
                return;
            }
            thread::sleep(LEAST.saturating_sub(last.elapsed()));
            last = Instant::now();
            let round = self.round();
            if round.hosts.is_empty() {
                continue;
            }
            let partitions: Vec<Partition> = round.hosts.iter().map(|(partition, _)| *partition).collect();
            match look(&partitions, &round.known) {
                Ok(arrivals) => {
                    quiet = if arrivals.is_empty() { quiet + 1 } else { 0 };
                    self.deliver(round, arrivals);
                }
                // The hosts notice a database that is away by their own commits.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Waits for a hint, or until a time. Returns false at the end.
    fn wait(&self, until: Instant) -> bool {
        let mut state = self.state();
        loop {
            if state.is_over {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if std::mem::take(&mut state.is_hinted) || left.is_zero() {
                return true;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn round(&self) -> Round {
        let mut state = self.state();
        let mut round = Round { hosts: Vec::new(), known: Vec::new(), done: Vec::new() };
        for (partition, host) in &mut state.hosts {
            round.hosts.push((*partition, host.number));
            round.known.extend(host.known.iter().map(|receipt| (*partition, *receipt)));
            if !host.consumed.is_empty() {
                round.done.push((*partition, host.number, std::mem::take(&mut host.consumed)));
            }
        }
        round
    }

    fn deliver(&self, round: Round, arrivals: Vec<(Partition, Arrival)>) {
        let mut state = self.state();
        for (partition, number, receipts) in round.done {
            if let Some(host) = state.hosts.get_mut(&partition).filter(|host| host.number == number) {
                for receipt in receipts {
                    host.known.remove(&receipt);
                }
            }
        }
        let numbers: BTreeMap<Partition, u64> = round.hosts.into_iter().collect();
        for (partition, arrival) in arrivals {
            let host = state.hosts.get_mut(&partition);
            let host = host.filter(|host| numbers.get(&partition) == Some(&host.number));
            if let Some(host) = host
                && host.known.insert(arrival.receipt)
            {
                host.handle.arrive(arrival);
            }
        }
    }
}
