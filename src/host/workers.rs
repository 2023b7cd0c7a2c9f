//! Threads that run activities.
//!
//! An activity is a machine of its own, without a history. A worker runs many activities in turn,
//! for a slice each. So an activity that waits costs no thread, and one that computes does not
//! block the others of its worker.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::builtins::Context;
use crate::code::{Code, ProgramHash};
use crate::machine::{Data, ErrorData, Identity, Image, Machine, Progress, Request, RequestKind, sql};
use crate::permissions::Permissions;

use super::{Clock, EffectResult, Message, effects};

/// The fuel of one slice, in calls and repetitions.
const SLICE: u64 = 100_000;
/// The number of ready activities at which a worker begins no others. So activities that end soon
/// are never all in memory at once.
const BEGUN: usize = 64;
/// The same where other processes may run the activities that wait.
const BEGUN_AMONG_OTHERS: usize = 4;
/// The time that an activity waits for its begin before other processes may run it.
const PATIENCE: Duration = Duration::from_millis(100);
/// The stack size of a worker. The machine does not recurse, but dropping a value recurses up to a
/// hundred levels.
const STACK_BYTES: usize = 4 << 20;

/// An activity to run.
pub(crate) struct Job {
    pub ticket: u64,
    pub code: Arc<Code>,
    pub name: String,
    pub args: Data,
    pub identity: Identity,
    /// The permissions of the activity.
    pub permissions: Permissions,
}

enum Work {
    Begin(Job),
    Answer { ticket: u64, result: EffectResult },
    Drop { ticket: u64 },
}

/// The workers, which start when first needed.
pub(crate) struct Workers {
    workers: Vec<Sender<Work>>,
    messages: Sender<Message>,
    clock: Clock,
    offers: bool,
}

impl Workers {
    /// Returns workers that begin when first needed. With `offers`, activities that wait for long
    /// are handed back by [`Message::Waits`].
    pub(crate) fn new(messages: Sender<Message>, clock: Clock, offers: bool) -> Workers {
        Workers { workers: Vec::new(), messages, clock, offers }
    }

    /// Returns the worker of a ticket, or `None` if the system gives no threads.
    fn worker(&mut self, ticket: u64) -> Option<&Sender<Work>> {
        if self.workers.is_empty() {
            let count = thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 16));
            for number in 0..count {
                let (sender, receiver) = channel();
                let (messages, clock) = (self.messages.clone(), self.clock.clone());
                let worker = Worker { messages, jobs: receiver, clock, offers: self.offers };
                let thread =
                    thread::Builder::new().name(format!("activities-{number}")).stack_size(STACK_BYTES);
                if thread.spawn(move || worker.run()).is_ok() {
                    self.workers.push(sender);
                }
            }
        }
        let count = self.workers.len().max(1);
        self.workers.get(ticket as usize % count)
    }

    /// Begins an activity; returns false if there is no thread for it.
    pub(crate) fn begin(&mut self, job: Job) -> bool {
        self.worker(job.ticket).is_some_and(|worker| worker.send(Work::Begin(job)).is_ok())
    }

    // Sending to a worker that is gone fails, which happens only at the end of the process.

    pub(crate) fn answer(&mut self, ticket: u64, result: EffectResult) {
        if let Some(worker) = self.worker(ticket) {
            let _ = worker.send(Work::Answer { ticket, result });
        }
    }

    pub(crate) fn drop(&mut self, ticket: u64) {
        if let Some(worker) = self.worker(ticket) {
            let _ = worker.send(Work::Drop { ticket });
        }
    }
}

/// The values that a worker's thread starts with. Machines are not `Send`, so the rest is made on
/// the thread.
struct Worker {
    messages: Sender<Message>,
    jobs: Receiver<Work>,
    clock: Clock,
    offers: bool,
}

impl Worker {
    fn run(self) {
        let share = Share {
            messages: self.messages,
            clock: self.clock,
            offers: self.offers,
            images: HashMap::new(),
            running: HashMap::new(),
            unbegun: BTreeMap::new(),
            ready: VecDeque::new(),
        };
        share.run(self.jobs);
    }
}

struct Running {
    machine: Machine,
    /// The request that the activity waits for.
    waits: Option<u64>,
    permissions: Permissions,
    /// The transactions that began in this attempt.
    transactions: u32,
}

impl Running {
    /// Returns the key of the next transaction: the same for each attempt at the activity.
    fn transaction_key(&mut self) -> String {
        self.transactions += 1;
        let key = &self.machine.identity.key;
        match self.transactions {
            1 => key.clone(),
            number => format!("{key}+{number}"),
        }
    }
}

/// The activities of one worker.
struct Share {
    messages: Sender<Message>,
    images: HashMap<ProgramHash, Rc<Image>>,
    running: HashMap<u64, Running>,
    /// The activities that have not begun, with the times of their arrival, by ticket, which is the
    /// order of their arrival.
    unbegun: BTreeMap<u64, (Job, Instant)>,
    ready: VecDeque<u64>,
    clock: Clock,
    offers: bool,
}

impl Share {
    fn run(mut self, work: Receiver<Work>) {
        let begun = if self.offers { BEGUN_AMONG_OTHERS } else { BEGUN };
        loop {
            while self.ready.len() < begun
                && let Some((_, (job, _))) = self.unbegun.pop_first()
            {
                self.begin(job);
            }
            self.hand_back();
            let next = match self.ready.is_empty() {
                true => match work.recv() {
                    Ok(next) => Some(next),
                    Err(_) => return,
                },
                false => work.try_recv().ok(),
            };
            match next {
                Some(Work::Begin(job)) => {
                    self.unbegun.insert(job.ticket, (job, Instant::now()));
                }
                Some(Work::Answer { ticket, result }) => {
                    if let Some(running) = self.running.get_mut(&ticket)
                        && let Some(seq) = running.waits.take()
                    {
                        running.machine.answer(seq, result);
                        self.ready.push_back(ticket);
                    }
                }
                Some(Work::Drop { ticket }) => {
                    self.running.remove(&ticket);
                    self.unbegun.remove(&ticket);
                }
                None => {
                    if let Some(ticket) = self.ready.pop_front() {
                        self.slice(ticket);
                    }
                }
            }
        }
    }

    /// Hands the activities back that have waited for long, if other processes may run them.
    fn hand_back(&mut self) {
        while self.offers
            && let Some(first) = self.unbegun.first_entry()
            && first.get().1.elapsed() >= PATIENCE
        {
            let (job, _) = first.remove();
            let _ = self.messages.send(Message::Waits { job: Box::new(job) });
        }
    }

    fn begin(&mut self, job: Job) {
        let (ticket, permissions) = (job.ticket, job.permissions.clone());
        match self.machine(job) {
            Ok(machine) => {
                self.running.insert(ticket, Running { machine, waits: None, permissions, transactions: 0 });
                self.ready.push_back(ticket);
            }
            Err(error) => self.done(ticket, Err(error), Vec::new()),
        }
    }

    fn machine(&mut self, job: Job) -> Result<Machine, ErrorData> {
        let image = match self.images.get(&job.code.hash) {
            Some(image) => image.clone(),
            None => {
                let image = Image::new(job.code.clone()).map_err(|(_, error)| error)?;
                self.images.insert(job.code.hash, image.clone());
                image
            }
        };
        let at = image.code.find_isolated(&job.name);
        let item = at.map(|at| image.code.isolated[at].clone());
        let Some(item) = item else {
            return Err(ErrorData::new("internal", format!("the program has no activity `{}`", job.name)));
        };
        Ok(Machine::new(image, Context::Activity, item.body, job.args.items(), job.identity))
    }

    fn slice(&mut self, ticket: u64) {
        let Some(running) = self.running.get_mut(&ticket) else { return };
        // A panic of the interpreter ends this activity, not the process.
        let progress = catch_unwind(AssertUnwindSafe(|| running.machine.run(SLICE)));
        match progress {
            Ok(Progress::OutOfFuel) => self.ready.push_back(ticket),
            Ok(Progress::Done(outcome)) => {
                let sends = running.machine.take_sends();
                self.done(ticket, outcome, sends);
            }
            Ok(Progress::Waiting) => {
                let requests = running.machine.take_requests();
                match requests.into_iter().next() {
                    Some(request) => self.ask(ticket, request),
                    None => {
                        let error = ErrorData::new("internal", "an activity waits for nothing");
                        self.done(ticket, Err(error), Vec::new());
                    }
                }
            }
            Err(_) => {
                let error = ErrorData::new("internal", "the interpreter broke down in this activity");
                self.done(ticket, Err(error), Vec::new());
            }
        }
    }

    fn ask(&mut self, ticket: u64, request: Request) {
        let Some(running) = self.running.get_mut(&ticket) else { return };
        let effect = match request.what {
            RequestKind::Effect(effect) => effect,
            RequestKind::Operation { entity, operation, signal: None } => {
                running.waits = Some(request.seq);
                let (args, permissions) = (request.args, running.permissions.clone());
                let _ = self.messages.send(Message::Calls { ticket, entity, operation, args, permissions });
                return;
            }
            // Activities call one another directly, and their messages are kept until they end.
            _ => {
                running.machine.answer(request.seq, Err(effects::unknown("activity")));
                self.ready.push_back(ticket);
                return;
            }
        };
        match effects::immediate(effect, &request.args, &running.permissions, &self.clock) {
            Some(result) => {
                running.machine.answer(request.seq, result);
                self.ready.push_back(ticket);
            }
            None => {
                running.waits = Some(request.seq);
                let args = sql::keyed(effect, request.args, || running.transaction_key());
                let permissions = running.permissions.clone();
                let _ = self.messages.send(Message::Asks { ticket, effect, args, permissions });
            }
        }
    }

    fn done(&mut self, ticket: u64, result: EffectResult, sends: Vec<Request>) {
        self.running.remove(&ticket);
        let _ = self.messages.send(Message::Activity { ticket, result, sends });
    }
}
