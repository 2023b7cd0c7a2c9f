//! The way of writes into the store: at once, or on a thread of their own while the engine goes on.
//!
//! One batch is under way at a time. What is read meanwhile is read beside it, from the store as it is just then, with the batch
//! laid over it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::Batch;
use crate::store::{DiskStore, Reader, Store, StoreError};

use super::Message;
use super::pending::{Pending, View};

/// A batch, and whether it is to be durable.
type Job = (Arc<Batch>, bool);

/// How long a batch took, or why it could not be written.
pub(crate) type Written = Result<Duration, StoreError>;

pub(crate) struct Writer {
    store: Arc<Mutex<DiskStore>>,
    pub reader: Reader,
    /// Who is told that a batch is written.
    messages: Sender<Message>,
    thread: Option<Thread>,
    /// What the thread has.
    under_way: Option<Arc<Batch>>,
    /// The result, when the system gave no thread.
    here: Option<Written>,
}

struct Thread {
    jobs: Sender<Job>,
    written: Receiver<Written>,
    handle: thread::JoinHandle<()>,
}

impl Writer {
    pub fn new(store: DiskStore, messages: Sender<Message>) -> Writer {
        let reader = store.reader();
        Writer {
            store: Arc::new(Mutex::new(store)),
            reader,
            messages,
            thread: None,
            under_way: None,
            here: None,
        }
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
    pub fn write(&mut self, batch: &Batch, durable: bool) -> Written {
        write(&self.store, batch, durable)
    }

    /// Lets the thread write a batch, and send [`Message::Written`] when that is done. Nothing is under way.
    pub fn send(&mut self, batch: Batch, durable: bool) {
        let batch = Arc::new(batch);
        self.under_way = Some(batch.clone());
        if self.thread.is_none() {
            self.thread = Thread::spawn(self.store.clone(), self.messages.clone());
        }
        match &self.thread {
            // When the thread has ended, that is the result.
            Some(thread) => drop(thread.jobs.send((batch, durable))),
            None => {
                self.here = Some(self.write(&batch, durable));
                // The receiver is the host's own.
                let _ = self.messages.send(Message::Written);
            }
        }
    }

    /// The result of what was under way, when it is there.
    pub fn written(&mut self) -> Option<Written> {
        let written = match self.here.take() {
            None => match self.thread.as_ref()?.written.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(gone()),
                Ok(written) => written,
            },
            Some(written) => written,
        };
        self.under_way.take().map(|_| written)
    }

    /// Waits for the result of what is under way; none when nothing is.
    pub fn settle(&mut self) -> Option<Written> {
        self.under_way.take()?;
        let there =
            || self.thread.as_ref().map(|thread| thread.written.recv().unwrap_or_else(|_| Err(gone())));
        self.here.take().or_else(there)
    }

    /// The store, once all is written.
    pub fn into_store(mut self) -> DiskStore {
        self.settle();
        if let Some(Thread { jobs, handle, .. }) = self.thread.take() {
            drop(jobs);
            // It has told of its end by its last result.
            let _ = handle.join();
        }
        drop(self.reader);
        match Arc::try_unwrap(self.store) {
            Ok(store) => store.into_inner().unwrap_or_else(PoisonError::into_inner),
            Err(_) => unreachable!("the thread was the only other one that has the store"),
        }
    }
}

impl Thread {
    fn spawn(store: Arc<Mutex<DiskStore>>, messages: Sender<Message>) -> Option<Thread> {
        let (jobs, taken) = channel::<Job>();
        let (results, written) = channel();
        let work = move || {
            for (batch, durable) in taken {
                // A fault in there is an error of the store, not a host that waits for ever.
                let result = catch_unwind(AssertUnwindSafe(|| write(&store, &batch, durable)));
                let result = result.unwrap_or_else(|_| Err(gone()));
                drop(batch);
                // The host may be gone: it settles what is under way before it goes, or gives up on the store.
                if results.send(result).is_err() || messages.send(Message::Written).is_err() {
                    return;
                }
            }
        };
        let handle = thread::Builder::new().name("writer".into()).spawn(work).ok()?;
        Some(Thread { jobs, written, handle })
    }
}

fn gone() -> StoreError {
    StoreError::Broken { reason: "the thread that writes broke down".into() }
}

fn write(store: &Mutex<DiskStore>, batch: &Batch, durable: bool) -> Written {
    let began = Instant::now();
    let _span = tracing::debug_span!("commit", keys = batch.writes.len(), durable).entered();
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    store.commit(batch)?;
    if durable {
        store.flush()?;
    }
    Ok(began.elapsed())
}
