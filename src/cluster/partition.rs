//! A partition at work: its host with its engine, on a thread of its own.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use crate::engine::Placement;
use crate::host::{Handle, Host, HostError, Settings};
use crate::kv::{Partition, StoreError};
use crate::store::postgres::{Cluster, Ownership, PartitionStore, Patience};

use super::news::News;

/// Everything that a partition needs to work.
pub(super) struct Work {
    pub cluster: Cluster,
    pub ownership: Ownership,
    pub placement: Placement,
    pub settings: Settings,
    /// The folder with the watermarks of this machine.
    pub folder: Option<PathBuf>,
    pub patience: Patience,
    pub news: News,
}

/// The end of a partition's work: why it ended.
pub(super) struct Ended {
    pub partition: Partition,
    pub epoch: u64,
    pub result: Result<(), HostError>,
}

/// A partition at work.
pub(super) struct Running {
    pub epoch: u64,
    thread: JoinHandle<()>,
    handle: Option<Handle>,
    handles: std::sync::mpsc::Receiver<Handle>,
}

impl Running {
    /// Begins the work on a partition. `ended` is told when it is over.
    pub fn begin(work: Work, ended: Sender<Ended>) -> io::Result<Running> {
        let (sender, handles) = channel();
        let (partition, epoch) = (work.ownership.partition, work.ownership.epoch);
        let run = move || {
            let news = work.news.clone();
            let result = run(work, &sender);
            news.postman.remove(partition);
            // The worker may have ended.
            let _ = ended.send(Ended { partition, epoch, result });
        };
        let thread = thread::Builder::new().name(format!("partition {partition}")).spawn(run)?;
        Ok(Running { epoch, thread, handle: None, handles })
    }

    /// Asks the work to end between two steps, when everything that was done is durable.
    pub fn stop(&mut self) {
        if self.handle.is_none() {
            // The host comes into being first.
            self.handle = self.handles.recv().ok();
        }
        if let Some(handle) = &self.handle {
            handle.stop();
        }
    }

    /// Waits for the end.
    pub fn join(self) {
        // A panic has stopped the process.
        let _ = self.thread.join();
    }
}

fn run(work: Work, handles: &Sender<Handle>) -> Result<(), HostError> {
    let Work { cluster, ownership, placement, settings, folder, patience, news } = work;
    let partition = ownership.partition;
    let store = PartitionStore::open(&cluster, ownership, folder.as_deref(), &patience)?;
    let told = news.clone();
    let store = store.telling(move |batch| told.committed(partition, batch));
    let mut host = Host::new(Box::new(store), settings);
    host.place(placement);
    let handle = host.handle();
    let _ = handles.send(handle.clone());
    host.recover(None)?;
    news.postman.add(partition, handle);
    let result = host.run();
    news.postman.remove(partition);
    host.give_back();
    // A host that was deposed releases nothing.
    let ended = host.into_store().end();
    match result {
        Err(HostError::Interrupted) => Ok(ended?),
        result => result,
    }
}

/// Whether an error says that the partition belongs to another worker now.
pub(super) fn is_deposed(error: &HostError) -> bool {
    matches!(error, HostError::Store(StoreError::Fenced { .. }))
}
