//! Threads for effects on files, which may block.
//!
//! Many effects come at once, and most take less time than waking a thread. So they go into one
//! queue. A thread that takes an effect wakes another thread only if the queue has more.
//!
//! A file that must be waited for, like a pipe, gets a [thread of its own](super::pipes).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::builtins::Effect;
use crate::machine::{Data, ErrorData};

use super::at::Reach;
use super::pipes::Patience;
use super::{Message, files};

/// The largest number of effects that block at once.
const MAX_THREADS: usize = 16;
/// The largest number of files that are waited for at once, each on a thread of its own.
const MAX_WAITING: usize = 256;

/// An effect on files, and the ticket of its answer.
pub(crate) struct FileJob {
    pub ticket: u64,
    pub effect: Effect,
    pub args: Data,
    /// The permissions of the effect.
    pub reach: Reach,
    /// Whether the effect was abandoned.
    pub over: Arc<AtomicBool>,
}

/// The threads, which start when needed. Dropping this ends each thread after its current effect,
/// and abandons the queue.
pub(crate) struct Disk {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wakes: Condvar,
    waiting: AtomicUsize,
    messages: Sender<Message>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<FileJob>,
    threads: usize,
    /// The number of threads that wait for a job, and the number of these that were woken.
    idle: usize,
    told: usize,
    over: bool,
}

impl Disk {
    pub(crate) fn new(messages: Sender<Message>) -> Disk {
        let shared =
            Shared { queue: Mutex::default(), wakes: Condvar::new(), waiting: AtomicUsize::new(0), messages };
        Disk { shared: Arc::new(shared) }
    }

    /// Adds effects to the queue. Returns the effects that cannot be executed, if the system gives
    /// no thread at all.
    pub(crate) fn add(&self, jobs: Vec<FileJob>) -> Vec<FileJob> {
        if jobs.is_empty() {
            return jobs;
        }
        let mut queue = self.shared.queue();
        queue.jobs.extend(jobs);
        self.shared.wake(&mut queue);
        if queue.threads == 0 { std::mem::take(&mut queue.jobs).into() } else { Vec::new() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.queue().over = true;
        self.shared.wakes.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a thread for the queue, or starts one.
    fn wake(self: &Arc<Shared>, queue: &mut Queue) {
        if queue.idle > queue.told {
            queue.told += 1;
            self.wakes.notify_one();
        } else if queue.threads < MAX_THREADS {
            let shared = self.clone();
            let started = thread::Builder::new().name("disk".into()).spawn(move || shared.work());
            queue.threads += usize::from(started.is_ok());
        }
    }

    /// Executes an effect that must wait, on a thread of its own.
    fn wait_for(self: &Arc<Shared>, job: FileJob) {
        let (shared, ticket) = (self.clone(), job.ticket);
        let is_full = self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING;
        let wait = move || {
            let result = files::run(job.effect, &job.args, &job.reach, Patience::Until(&job.over));
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            if let Some(result) = result {
                // The host may be gone.
                let _ = shared.messages.send(Message::Done { ticket, result });
            }
        };
        if is_full || thread::Builder::new().name("pipe".into()).spawn(wait).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let text = format!("too many pipes and devices are waited for: {MAX_WAITING} at a time at most");
            let result = Err(ErrorData::new("io_error", text));
            let _ = self.messages.send(Message::Done { ticket, result });
        }
    }

    fn work(self: Arc<Shared>) {
        let mut queue = self.queue();
        loop {
            if queue.over {
                return;
            }
            let Some(job) = queue.jobs.pop_front() else {
                queue.idle += 1;
                let waits = |queue: &mut Queue| queue.told == 0 && !queue.over;
                queue = self.wakes.wait_while(queue, waits).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
                queue.told = queue.told.saturating_sub(1);
                continue;
            };
            if !queue.jobs.is_empty() {
                self.wake(&mut queue);
            }
            drop(queue);
            match files::run(job.effect, &job.args, &job.reach, Patience::None) {
                Some(result) => {
                    if self.messages.send(Message::Done { ticket: job.ticket, result }).is_err() {
                        return;
                    }
                }
                None => self.wait_for(job),
            }
            queue = self.queue();
        }
    }
}
