//! Claims: activities that partitions of any worker have offered, and that this process runs.
//!
//! Invariant: an activity runs here only while the database says that this worker has claimed it,
//! up to the time of one look. Its result reaches the partition once, or not at all; then another
//! worker runs the activity.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::api::{Command, Reply};
use crate::engine::known_image;
use crate::host::{
    Attempt, CallOf, Finished, Images, Lease, Offer, Ran, Runner, STORED_VERSION, Settings, Waker,
};
use crate::kv::{Reader, StoreError};
use crate::machine::{Data, ErrorData};
use crate::store::postgres::{Cluster, TaskId};

use super::client::Client;
use super::news::News;

/// The longest time between two looks for activities.
const LOOK: Duration = Duration::from_secs(1);
/// The number of activities for each processor that are claimed at once.
const ROOM: usize = 4;

/// Everything that claims need to begin.
pub(super) struct Claiming {
    pub cluster: Cluster,
    /// The id of this worker.
    pub worker: String,
    pub settings: Settings,
    pub lease: Lease,
    pub news: News,
    pub is_over: Arc<AtomicBool>,
}

/// The activities that this process has claimed.
struct Claims {
    cluster: Cluster,
    worker: String,
    reader: Reader,
    client: Arc<Client>,
    news: News,
    runner: Runner,
    images: Images,
    room: usize,
    running: HashMap<Attempt, TaskId>,
    /// Results that have not reached the database yet.
    results: Vec<(TaskId, Vec<u8>)>,
}

impl Claiming {
    /// Begins to look for activities, on a thread of its own. Returns the means to look soon.
    pub fn begin(self) -> io::Result<Waker> {
        let (sender, wakers) = channel();
        let work = move || {
            let runner = Runner::new(&self.settings, self.lease);
            let _ = sender.send(runner.waker());
            let claims = Claims {
                reader: self.cluster.reader(),
                client: Arc::new(Client::new(self.cluster.clone(), |_| {})),
                cluster: self.cluster,
                worker: self.worker,
                news: self.news,
                runner,
                images: Images::default(),
                room: ROOM * thread::available_parallelism().map_or(2, usize::from),
                running: HashMap::new(),
                results: Vec::new(),
            };
            claims.work(&self.is_over);
        };
        thread::Builder::new().name("claims".into()).spawn(work)?;
        wakers.recv().map_err(io::Error::other)
    }
}

impl Claims {
    fn work(mut self, is_over: &AtomicBool) {
        let mut next = Instant::now();
        while !is_over.load(Ordering::Acquire) {
            if next <= Instant::now() {
                // A database that is away is noticed by the hosts, which say so.
                let more = self.look().unwrap_or(false);
                next = Instant::now() + LOOK;
                if more && self.running.len() < self.room {
                    next = Instant::now();
                }
            }
            let left = next.saturating_duration_since(Instant::now());
            match self.runner.work(left) {
                Some(Ran::Woken) => next = Instant::now(),
                Some(Ran::Finished(finished)) => {
                    self.finished(*finished);
                    // Others may wait for the room.
                    next = Instant::now();
                }
                Some(Ran::Calls(call, reply)) => self.call(*call, reply),
                None => {}
            }
            self.send_results();
        }
    }

    /// Drops the activities that are not wanted any more, and claims as many as there is room for.
    /// Returns whether any were claimed.
    fn look(&mut self) -> Result<bool, StoreError> {
        if !self.running.is_empty() {
            let claimed = self.cluster.claimed(&self.worker)?;
            let gone: Vec<Attempt> = self
                .running
                .iter()
                .filter(|(_, task)| !claimed.contains(task))
                .map(|(attempt, _)| attempt.clone())
                .collect();
            for attempt in gone {
                self.running.remove(&attempt);
                self.runner.drop(&attempt);
            }
        }
        let room = self.room.saturating_sub(self.running.len() + self.results.len());
        if room == 0 {
            return Ok(false);
        }
        let claimed = self.cluster.claim(&self.worker, STORED_VERSION, room)?;
        let any = !claimed.is_empty();
        for (task, body) in claimed {
            match Offer::from_stored(&body) {
                Some(offer) => self.begin(task, offer),
                None => {
                    let what =
                        format!("the offer of an activity of partition {} is not readable", task.partition);
                    return Err(StoreError::Damaged { what });
                }
            }
        }
        Ok(any)
    }

    fn begin(&mut self, task: TaskId, offer: Offer) {
        let attempt = offer.attempt.clone();
        // The same attempt is offered again after a change of the partition's owner.
        if self.running.insert(attempt.clone(), task).is_some() {
            return;
        }
        let failed = match known_image(&mut self.images, offer.program, &self.reader) {
            Ok(image) => self.runner.begin(image.code.clone(), offer),
            Err(reason) => Some(Finished::failed(attempt, ErrorData::new("internal", reason.to_string()))),
        };
        if let Some(finished) = failed {
            self.finished(finished);
        }
    }

    fn finished(&mut self, finished: Finished) {
        if let Some(task) = self.running.remove(&finished.attempt) {
            self.results.push((task, Command::Finish(Box::new(finished)).to_stored()));
        }
    }

    /// Sends results. Those that don't reach the database wait for the next time.
    fn send_results(&mut self) {
        while let Some((task, body)) = self.results.last() {
            match self.cluster.finish(&self.worker, *task, body) {
                Ok(is_sent) => {
                    if is_sent {
                        self.news.sent_to(task.partition);
                    }
                    self.results.pop();
                }
                Err(_) => return,
            }
        }
    }

    /// Has the partition of an activity call an entity for it. The activity waits meanwhile.
    fn call(&mut self, call: CallOf, reply: crate::host::CallReply) {
        let client = self.client.clone();
        let ask = move || {
            let failed = |reason: String| Err(ErrorData::new("internal", reason));
            let result: Result<Data, ErrorData> = match client.ask(Command::CallOf(Box::new(call))) {
                Ok(Reply::Answered(result)) => result,
                Ok(Reply::Refused(reason)) => failed(reason),
                Ok(other) => failed(format!("the call of an entity was answered with {other:?}")),
                Err(error) => failed(error.to_string()),
            };
            reply.give(result);
        };
        // Without a thread, the activity waits until it is given up.
        let _ = thread::Builder::new().name("call".into()).spawn(ask);
    }
}
