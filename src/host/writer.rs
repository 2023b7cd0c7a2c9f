//! Writes to the store, on this thread or on one of their own while the engine goes on.
//!
//! One batch at a time is in flight. Reads go to the store as it is at that moment, with the batch
//! laid over it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::{Durable, Unwritten};
use crate::kv::{Batch, Reader, SharedStore, StoreError};

use super::Message;
use super::ahead::Ahead;
use super::pending::{Pending, View};
use super::reads::Reads;

/// A batch with its obligation, and whether the batch must become durable.
type Job = (Arc<Batch>, Unwritten, bool);

/// The duration of a write and the proof that the batch is written, or the error.
pub(crate) type Written = Result<(Duration, Durable), StoreError>;

pub(crate) struct Writer {
    store: Arc<Mutex<Box<dyn SharedStore>>>,
    pub reader: Reader,
    /// What was read ahead of the store, up to the last batch whose result was taken.
    pub ahead: Ahead,
    pub reads: Reads,
    /// The receiver of the message that a batch is written.
    messages: Sender<Message>,
    /// Both ends of the channel for the results of the thread.
    results: Sender<Written>,
    written: Receiver<Written>,
    thread: Option<Thread>,
    /// The batch in flight, until its result is taken.
    under_way: Option<Arc<Batch>>,
}

struct Thread {
    jobs: Sender<Job>,
    handle: thread::JoinHandle<()>,
}

impl Writer {
    pub fn new(store: Box<dyn SharedStore>, messages: Sender<Message>) -> Writer {
        let reader = store.reader();
        let (reads, ahead) = (Reads::new(store.reader()), Ahead::new(store.reader()));
        let (results, written) = channel();
        let store = Arc::new(Mutex::new(store));
        Writer { store, reader, ahead, reads, messages, results, written, thread: None, under_way: None }
    }

    /// Returns whether no batch is in flight.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Returns the store as it will be after the batch in flight and the pending writes.
    pub fn view<'a>(&'a self, pending: &'a Pending) -> View<'a> {
        View { reader: &self.ahead, under_way: self.under_way.as_deref(), pending }
    }

    /// Writes a batch. No other batch may be in flight.
    pub fn write(&mut self, batch: &Arc<Batch>, unwritten: Unwritten, durable: bool) -> Written {
        let written = write(&self.store, &self.reads, batch, unwritten, durable);
        self.ahead.wrote(batch);
        written
    }

    /// Has the thread write a batch and send [`Message::Written`] afterwards. No other batch may be
    /// in flight. If the system gives no thread, this call writes the batch.
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
            // The writer and its host hold the receivers.
            let _ = self.results.send(result);
            let _ = self.messages.send(Message::Written);
        }
    }

    /// Returns the result of the batch in flight, if it is there.
    pub fn written(&mut self) -> Option<Written> {
        let written = self.written.try_recv().ok()?;
        self.landed();
        Some(written)
    }

    /// Waits for the result of the batch in flight. Returns `None` if there is none.
    pub fn settle(&mut self) -> Option<Written> {
        self.under_way.as_ref()?;
        let written = self.written.recv().unwrap_or_else(|_| Err(gone()));
        self.landed();
        Some(written)
    }

    fn landed(&mut self) {
        if let Some(batch) = self.under_way.take() {
            self.ahead.wrote(&batch);
        }
    }

    /// Returns the store, once everything is written.
    pub fn into_store(mut self) -> Box<dyn SharedStore> {
        self.settle();
        if let Some(Thread { jobs, handle }) = self.thread.take() {
            drop(jobs);
            // The thread's last result told of a panic already.
            let _ = handle.join();
        }
        drop((self.reader, self.ahead));
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
                // A panic here becomes an error of the store, so that the host does not wait for
                // ever.
                let result =
                    catch_unwind(AssertUnwindSafe(|| write(&store, &reads, &batch, unwritten, durable)));
                let result = result.unwrap_or_else(|_| Err(gone()));
                drop(batch);
                // The host may be gone. It settles the batch in flight before it ends, or gives up
                // the store.
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
    store: &Mutex<Box<dyn SharedStore>>,
    reads: &Reads,
    batch: &Arc<Batch>,
    unwritten: Unwritten,
    durable: bool,
) -> Written {
    let began = Instant::now();
    let _span = tracing::debug_span!("commit", keys = batch.writes.len(), durable).entered();
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    reads.apply(|| store.commit(batch))?;
    if durable {
        store.flush()?;
    }
    reads.is_durable(batch);
    let took = began.elapsed();
    reads.measures().commits.observe(took.as_secs_f64());
    Ok((took, unwritten.written()))
}
