//! The way of writes into the store: at once, or on a thread of their own while the engine goes on.
//!
//! One batch is under way at a time. What is read meanwhile is read beside it, from the store as it is just then, with the batch
//! laid over it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Durable, Unwritten};
use crate::kv::{Batch, Store, StoreError};
use crate::store::{DiskStore, Reader};

use super::Message;
use super::pending::{Pending, View};
use super::reads::Reads;

/// A batch, and whether it is to be durable.
type Job = (Arc<Batch>, Unwritten, bool);

/// How long a batch took, and the proof that it is written; or why it could not be.
pub(crate) type Written = Result<(Duration, Durable), StoreError>;

pub(crate) struct Writer {
    store: Arc<Mutex<DiskStore>>,
    pub reader: Reader,
    pub reads: Reads,
    /// Who is told that a batch is written.
    messages: Sender<Message>,
    /// The results of what was sent, both ends.
    results: Sender<Written>,
    written: Receiver<Written>,
    thread: Option<Thread>,
    /// What was sent and is not settled.
    under_way: Option<Arc<Batch>>,
}

struct Thread {
    jobs: Sender<Job>,
    handle: thread::JoinHandle<()>,
}

impl Writer {
    pub fn new(store: DiskStore, messages: Sender<Message>) -> Writer {
        let reader = store.reader();
        let reads = Reads::new(store.reader());
        let (results, written) = channel();
        let store = Arc::new(Mutex::new(store));
        Writer { store, reader, reads, messages, results, written, thread: None, under_way: None }
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// The store as it will be once what is under way and what waits is written.
    pub fn view<'a>(&'a self, pending: &'a Pending) -> View<'a> {
        View { reader: &self.reader, under_way: self.under_way.as_deref(), pending }
    }

    /// Writes a batch. Nothing is under way.
    pub fn write(&mut self, batch: &Batch, unwritten: Unwritten, durable: bool) -> Written {
        write(&self.store, &self.reads, batch, unwritten, durable)
    }

    /// Writes what is not the engine's, before that does anything.
    pub fn prepare(&mut self, batch: &Batch) -> Result<(), StoreError> {
        put(&self.store, &self.reads, batch, true)
    }

    /// Lets the thread write a batch, and send [`Message::Written`] when that is done. Nothing is under way. Where the system
    /// gives no thread, it is written at once.
    pub fn send(&mut self, batch: Batch, unwritten: Unwritten, durable: bool) {
        let batch = Arc::new(batch);
        self.under_way = Some(batch.clone());
        if self.thread.is_none() {
            self.thread = self.spawn();
        }
        let job = (batch.clone(), unwritten, durable);
        let back = match &self.thread {
            Some(thread) => thread.jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some((batch, unwritten, durable)) = back {
            let result = self.write(&batch, unwritten, durable);
            // The receivers are this one's and its host's.
            let _ = self.results.send(result);
            let _ = self.messages.send(Message::Written);
        }
    }

    /// The result of what was under way, when it is there.
    pub fn written(&mut self) -> Option<Written> {
        let written = self.written.try_recv().ok()?;
        self.under_way = None;
        Some(written)
    }

    /// Waits for the result of what is under way; none when nothing is.
    pub fn settle(&mut self) -> Option<Written> {
        self.under_way.take()?;
        Some(self.written.recv().unwrap_or_else(|_| Err(gone())))
    }

    /// The store, once all is written.
    pub fn into_store(mut self) -> DiskStore {
        self.settle();
        if let Some(Thread { jobs, handle }) = self.thread.take() {
            drop(jobs);
            // It has told of its end by its last result.
            let _ = handle.join();
        }
        drop(self.reader);
        self.reads.end();
        match Arc::try_unwrap(self.store) {
            Ok(store) => store.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(_) => unreachable!("the thread was the only other one that has the store"),
        }
    }

    fn spawn(&self) -> Option<Thread> {
        let (jobs, taken) = channel::<Job>();
        let (store, reads) = (self.store.clone(), self.reads.clone());
        let (results, messages) = (self.results.clone(), self.messages.clone());
        let work = move || {
            for (batch, unwritten, durable) in taken {
                // A fault in there is an error of the store, not a host that waits for ever.
                let result =
                    catch_unwind(AssertUnwindSafe(|| write(&store, &reads, &batch, unwritten, durable)));
                let result = result.unwrap_or_else(|_| Err(gone()));
                drop(batch);
                // The host may be gone: it settles what is under way before it goes, or gives up on the store.
                if results.send(result).is_err() || messages.send(Message::Written).is_err() {
                    return;
                }
            }
        };
        let handle = thread::Builder::new().name("writer".into()).spawn(work).ok()?;
        Some(Thread { jobs, handle })
    }
}

fn gone() -> StoreError {
    StoreError::broken("the thread that writes broke down")
}

fn write(
    store: &Mutex<DiskStore>,
    reads: &Reads,
    batch: &Batch,
    unwritten: Unwritten,
    durable: bool,
) -> Written {
    let began = Instant::now();
    put(store, reads, batch, durable)?;
    Ok((began.elapsed(), unwritten.written()))
}

fn put(store: &Mutex<DiskStore>, reads: &Reads, batch: &Batch, durable: bool) -> Result<(), StoreError> {
    let _span = tracing::debug_span!("commit", keys = batch.writes.len(), durable).entered();
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    reads.apply(|| store.commit(batch))?;
    if durable {
        store.flush()?;
    }
    reads.is_durable(batch);
    Ok(())
}
