//! The market: where the partitions of this process offer activities to all workers.
//!
//! Invariant: offers and withdrawals reach the database in the order in which they were made. A
//! partition whose owner has changed offers nothing any more.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::host::{self, Offer, Offers, STORED_VERSION};
use crate::kv::{Partition, StoreError};
use crate::store::postgres::Cluster;

/// The time after a failed attempt to reach the database.
const PAUSE: Duration = Duration::from_millis(500);

/// An offer, or `None` for a withdrawal, with the partition, the epoch of its owner, and the number
/// of the offer.
type Posting = (Partition, u64, u64, Option<Offer>);

/// The thread that passes offers on. Clones share it.
#[derive(Clone)]
pub(super) struct Market {
    postings: Sender<Posting>,
}

impl Market {
    /// Begins the thread. `offered` is called after something was offered.
    pub fn begin(
        cluster: &Cluster,
        is_over: Arc<AtomicBool>,
        offered: impl Fn() + Send + 'static,
    ) -> io::Result<Market> {
        let (postings, received) = channel();
        let cluster = cluster.clone();
        let work = move || pass_on(&cluster, &received, &is_over, &offered);
        thread::Builder::new().name("offers".into()).spawn(work)?;
        Ok(Market { postings })
    }

    /// Returns the place where a partition makes its offers.
    pub fn of(&self, partition: Partition, epoch: u64) -> Offers {
        Offers(Arc::new(Stall { partition, epoch, postings: self.postings.clone() }))
    }
}

/// The place where a partition makes its offers.
struct Stall {
    partition: Partition,
    epoch: u64,
    postings: Sender<Posting>,
}

impl host::Market for Stall {
    // Without the thread, the process ends.

    fn offer(&self, number: u64, offer: Offer) {
        let _ = self.postings.send((self.partition, self.epoch, number, Some(offer)));
    }

    fn withdraw(&self, number: u64) {
        let _ = self.postings.send((self.partition, self.epoch, number, None));
    }
}

fn pass_on(cluster: &Cluster, postings: &Receiver<Posting>, is_over: &AtomicBool, offered: &dyn Fn()) {
    while let Ok(first) = postings.recv() {
        // The last word on each number counts.
        let mut all = BTreeMap::new();
        for (partition, epoch, number, offer) in std::iter::once(first).chain(postings.try_iter()) {
            all.entry((partition, epoch)).or_insert_with(BTreeMap::new).insert(number, offer);
        }
        for ((partition, epoch), by_number) in all {
            let (mut offers, mut withdrawn) = (Vec::new(), Vec::new());
            for (number, offer) in by_number {
                match offer {
                    Some(offer) => offers.push((number, offer.to_stored())),
                    None => withdrawn.push(number),
                }
            }
            let write = || -> Result<(), StoreError> {
                if !offers.is_empty() {
                    cluster.offer(partition, epoch, STORED_VERSION, &offers)?;
                }
                if !withdrawn.is_empty() {
                    cluster.withdraw(partition, epoch, &withdrawn)?;
                }
                Ok(())
            };
            // The hosts notice a database that is away by their own commits, and say so.
            while write().is_err() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                thread::sleep(PAUSE);
            }
            if !offers.is_empty() {
                offered();
            }
        }
    }
}
