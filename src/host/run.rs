//! The loop: messages in, engine, commit, outputs out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::code::ProgramHash;
use crate::engine::{
    Address, Engine, Event, Gate, Gated, InstanceRecord, Leaving, Message as Sent, Outcome as Ending, Output,
    StepId, Tree, fetch, keys, known_image, read_history, read_record, recovery, rekeying,
};
use crate::kv::Batch;
use crate::machine::{Data, ErrorData, Identity, Image, format};
use crate::permissions::{self, Permissions};
use crate::store::{DiskStore, Reader};

use super::commit::{AwaitingCommit, FIRST_BATCHES, Writing};
use super::disk::{self, Disk};
use super::groups::Groups;
use super::http::Clients;
use super::pending::{Pending, View};
use super::perform::Threads;
use super::purge::Purging;
use super::reads::Reads;
use super::settings::{HostError, Settings};
use super::spans::Spans;
use super::suspects::Suspects;
use super::workers::{Job, Workers};
use super::writer::Writer;
use super::{Answer, Handle, Message, Outcome, Terminal, effects};

/// Who waits for an effect.
pub(super) enum Owner {
    Step(StepId),
    Activity(u64),
}

/// An effect under way.
pub(super) struct Running {
    pub(super) owner: Owner,
    pub(super) abort: Option<Abort>,
    pub(super) input: bool,
}

/// How an effect is broken off.
pub(super) enum Abort {
    Task(AbortHandle),
    /// It looks at this now and then.
    Flag(Arc<AtomicBool>),
}

impl Abort {
    fn abort(&self) {
        match self {
            Abort::Task(task) => task.abort(),
            Abort::Flag(over) => over.store(true, Ordering::Relaxed),
        }
    }
}

/// Runs instances in a store.
pub struct Host {
    pub(super) writer: Writer,
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    pub terminal: Terminal,
    pub(super) images: std::collections::HashMap<ProgramHash, Rc<Image>>,
    messages: Receiver<Message>,
    pub(super) sender: Sender<Message>,
    workers: Workers,
    pub(super) runtime: Threads,
    pub(super) disk: Disk,
    /// Effects on files that are to be begun.
    pub(super) files: Vec<disk::Job>,
    /// How many requests and programs may have files open at once; others wait for their turn.
    pub(super) open_files: Arc<Semaphore>,
    pub(super) clients: Clients,
    /// The folder of the store, without links.
    pub(super) folder: Option<PathBuf>,
    pub(super) pending: Pending,
    /// What waits until writes are durable, in the order in which it leaves.
    pub(super) held: VecDeque<Gated<AwaitingCommit>>,
    pub(super) gate: Gate,
    next_ticket: u64,
    pub(super) effects: HashMap<u64, Running>,
    /// Reads of standard input whose line nobody waits for any more.
    stray: HashSet<u64>,
    /// Activities under way, both ways.
    pub(super) activities: HashMap<u64, StepId>,
    tickets: HashMap<StepId, u64>,
    /// Sleeps of activities: when they end, and whose they are.
    pub(super) sleeps: BTreeSet<(i64, u64)>,
    recovered: bool,
    /// How many batches will each be followed by code that is new: those of a process's beginning.
    pub(super) beginning: u32,
    /// Instances that failed, and why, without anybody who waits for them.
    pub(super) unheard: BTreeMap<String, String>,
    /// Instances whose end is waited for here, and how they ended.
    pub(super) watched: HashMap<Arc<str>, Option<Ending>>,
    /// Clients that wait for an instance's end.
    pub(super) waiting: HashMap<String, Vec<Answer>>,
    pub(super) purging: Vec<Purging>,
    /// The last number that was given to an id, by what is before it.
    pub(super) last_ids: HashMap<String, u64>,
    /// An `extern activity` that was called and that this process does not provide.
    pub(super) not_provided: Option<String>,
    pub(super) spans: Spans,
    suspects: Option<Suspects>,
}

impl Host {
    pub fn new(store: DiskStore, settings: Settings) -> Host {
        let (sender, messages) = channel();
        let mut engine = Engine::new();
        engine.checkpoints.retention = settings.retention;
        engine.quotas = settings.quotas;
        let folder = Some(permissions::real(store.folder()));
        let beginning = if settings.lean { FIRST_BATCHES } else { 0 };
        Host {
            writer: Writer::new(store, sender.clone()),
            workers: Workers::new(sender.clone(), settings.clock.clone()),
            settings,
            engine,
            terminal: Terminal::new(),
            images: Default::default(),
            messages,
            disk: Disk::new(sender.clone()),
            sender,
            runtime: Threads::default(),
            files: Vec::new(),
            open_files: Arc::new(Semaphore::new(0)),
            clients: Clients::default(),
            folder,
            pending: Pending::default(),
            held: VecDeque::new(),
            gate: Gate::default(),
            next_ticket: 0,
            effects: HashMap::new(),
            stray: HashSet::new(),
            activities: HashMap::new(),
            tickets: HashMap::new(),
            sleeps: BTreeSet::new(),
            recovered: false,
            beginning,
            unheard: BTreeMap::new(),
            watched: HashMap::new(),
            waiting: HashMap::new(),
            purging: Vec::new(),
            last_ids: HashMap::new(),
            not_provided: None,
            spans: Spans::default(),
            suspects: None,
        }
    }

    /// A host that serves clients alone: no instance goes on.
    pub fn for_clients(store: DiskStore) -> Host {
        let mut host = Host::new(store, Settings::default());
        host.engine = Engine::for_clients();
        host
    }

    /// Watches whose slices take long, and sets those aside that the last processes died of; all but the one that is wanted.
    /// This comes before the store is recovered.
    pub fn watch_slices(&mut self, folder: &Path, wanted: Option<&str>) {
        let mut suspects = Suspects::open(folder);
        if let Some(wanted) = wanted {
            suspects.forget(wanted);
        }
        for name in &suspects.set_aside {
            self.engine.suspect(name);
            let what = match name.contains('@') {
                true => format!("`durable entity {name} --drop-message` removes the message that it was at"),
                false => {
                    format!("`durable terminate {name}` ends it, `durable resume {name}` tries it again")
                }
            };
            let text =
                format!("{name} was running when the process died three times, and is set aside: {what}");
            self.terminal.log("error", &text);
        }
        self.suspects = Some(suspects);
    }

    /// Nobody thinks any more that the process dies of an instance or an entity.
    pub(super) fn trusts(&mut self, name: &str) {
        if let Some(suspects) = &mut self.suspects {
            suspects.forget(name);
        }
    }

    /// Takes in what the store has of messages, holders and instances with work to do. This comes first. Of the
    /// instances, those go on that have this root, or all.
    pub fn recover(&mut self, root: Option<&str>) -> Result<(), HostError> {
        self.recovered = true;
        if let Some(batch) = rekeying(self.store())? {
            self.writer.prepare(&batch)?;
        }
        for event in recovery(self.store(), root)? {
            let now = self.now();
            self.engine.handle(event, now);
        }
        if self.engine.goes_on() {
            self.note_clock();
        }
        Ok(())
    }

    /// The time of the store, in nanoseconds since 1970. It never goes back, whatever the clock of the system does.
    pub fn now(&self) -> i64 {
        self.settings.clock.now_after(self.engine.time())
    }

    /// Says once that the clock of the system is behind.
    pub(super) fn note_clock(&mut self) {
        if let Some(behind) = self.settings.clock.note() {
            let minutes = (behind.as_secs() + 30) / 60;
            let behind = format::duration((minutes as i64).saturating_mul(60_000_000_000));
            let text =
                format!("the clock of the system is {behind} behind the time of the store, which goes on");
            self.terminal.log("warn", &text);
        }
    }

    /// Lets programs do only so much outside.
    pub fn restrict(&mut self, permissions: &Permissions) {
        self.settings.permissions = self.settings.permissions.and(permissions);
    }

    /// Whether the store's messages and holders were taken in.
    pub fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// Whether something can go on by itself.
    pub fn has_work(&self) -> bool {
        !self.engine.is_quiet() || self.engine.next_due().is_some_and(|due| due <= self.now())
    }

    /// The store for reading, from any thread.
    pub fn reads(&self) -> Reads {
        self.writer.reads.clone()
    }

    /// The process groups of the programs that it has started.
    pub fn programs(&self) -> Groups {
        self.runtime.programs.clone()
    }

    /// The host, as other threads of this process reach it.
    pub fn handle(&self) -> Handle {
        Handle::new(self.sender.clone())
    }

    /// A program that instances may run.
    pub fn add_program(&mut self, image: Rc<Image>) {
        self.images.insert(image.code.hash, image);
    }

    /// Whether a program is known.
    pub fn program(&self, hash: ProgramHash) -> Option<Rc<Image>> {
        self.images.get(&hash).cloned()
    }

    /// Begins an instance, and waits for its end. Its program is known.
    pub fn begin(&mut self, mut record: InstanceRecord) {
        record.permissions = record.permissions.and(&self.settings.permissions);
        self.watched.insert(record.id.as_str().into(), None);
        if let Some(image) = self.program(record.program) {
            self.feed(Event::Begin { record, image });
        }
    }

    /// Goes on with an instance of the store that has not ended, and waits for its end.
    pub fn watch(&mut self, id: &str) {
        self.watched.insert(id.into(), None);
        self.feed(Event::Wake { id: id.into() });
    }

    /// Adds what this process does not permit to what an instance may not do, for good. It comes before the instance goes on.
    pub fn restrict_instance(&mut self, record: &InstanceRecord) {
        let permissions = record.permissions.and(&self.settings.permissions);
        if permissions != record.permissions && !record.status.is_ended() {
            let record = InstanceRecord { permissions, ..record.clone() };
            let mut batch = Batch::default();
            batch.put(keys::instance(&record.id), record.encode());
            self.pending.add(batch);
        }
    }

    /// How a watched instance ended, once that is durable.
    pub fn outcome(&self, instance: &str) -> Option<&Ending> {
        self.watched.get(instance)?.as_ref()
    }

    /// The store, as it was left by the last commit.
    pub fn store(&self) -> &Reader {
        &self.writer.reader
    }

    /// The store, when everything is done.
    pub fn into_store(self) -> DiskStore {
        self.effects.values().filter_map(|running| running.abort.as_ref()).for_each(Abort::abort);
        self.writer.into_store()
    }

    /// Runs until those that are watched have ended and nothing goes on by itself. Whatever happens, what was
    /// acknowledged is durable at the end.
    pub fn run(&mut self) -> Result<(), HostError> {
        let result = self.work();
        self.terminal.clear();
        for (instance, why) in std::mem::take(&mut self.unheard) {
            self.terminal.log("error", &format!("{instance} failed: {why}"));
        }
        let flushed = match &result {
            Err(HostError::Store(_)) => Ok(()),
            _ => self.commit(true),
        };
        result.and(flushed)
    }

    /// Runs until that is so, or nothing goes on by itself; what was done is durable then.
    pub fn run_until(&mut self, is_so: &mut dyn FnMut(&Engine) -> bool) -> Result<(), HostError> {
        let result = loop {
            if is_so(&self.engine) {
                break Ok(());
            }
            if let Err(error) = self.turn() {
                break Err(error);
            }
        };
        self.terminal.clear();
        let settled = match &result {
            Err(HostError::Store(_)) => Ok(()),
            _ => self.commit_and_release(true),
        };
        result.and(settled)
    }

    /// What an instance in memory says of itself.
    pub fn says(&self, id: &str) -> Option<&Data> {
        self.engine.says(id)
    }

    /// Whether an instance is not under way, and is not about to be.
    pub fn is_gone(&self, id: &str) -> bool {
        self.engine.is_gone(id)
    }

    /// Lets an instance that waits go on with another program, which is the longer or the shorter by what it has not come
    /// to, and raises an event for it. An error says why it can't.
    pub fn extend(
        &mut self,
        id: &str,
        image: &Rc<Image>,
        event: Option<&str>,
    ) -> Result<Result<(), String>, HostError> {
        self.commit(true)?;
        self.add_program(image.clone());
        let record = read_record(self.store(), id)?;
        let Some(record) = record else { return Ok(Err(format!("there is no instance `{id}`"))) };
        let history = read_history(self.store(), &record)?;
        if let Err(reason) = self.engine.extend(id, image, history, self.now()) {
            return Ok(Err(reason));
        }
        if let Some(event) = event {
            self.raise(id, event);
        }
        Ok(Ok(()))
    }

    /// Raises an event without a payload for an instance.
    pub fn raise(&mut self, id: &str, event: &str) {
        let message = Sent::Event { name: event.to_string(), payload: Data::null() };
        let from = format!("prompt-{id}-{event}");
        self.feed(Event::Send { to: Address::instance(id), from, message });
    }

    /// Lets the engine take in an event.
    pub(super) fn feed(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(event, now);
    }

    fn work(&mut self) -> Result<(), HostError> {
        while !self.turn()? {}
        Ok(())
    }

    /// One round of the loop; whether there is nothing more to do. It waits only when nothing has changed since the
    /// last one, so that who drives it has looked at everything.
    pub(super) fn turn(&mut self) -> Result<bool, HostError> {
        let now = self.now();
        let mut changed = self.tick(now);
        while let Ok(message) = self.messages.try_recv() {
            self.message(message)?;
            changed = true;
        }
        if self.engine.is_ready() {
            if let Some(suspects) = &self.suspects {
                suspects.begins(self.engine.next_to_run());
            }
            self.engine.handle(Event::Run, now);
            if let Some(suspects) = &self.suspects {
                suspects.ends();
            }
            changed = true;
        }
        self.outputs()?;
        // What waits leaves soon, though nothing is to be written and the engine is busy.
        if self.engine.has_writes() || self.holds() {
            self.pending.expect();
        }
        changed |= self.write()?;
        if changed || self.engine.is_ready() {
            return Ok(false);
        }
        if self.is_done() {
            return Ok(true);
        }
        if let Some(message) = self.wait()? {
            self.message(message)?;
        }
        Ok(false)
    }

    fn is_done(&self) -> bool {
        !self.settings.stays
            && self.held.is_empty()
            && self.engine.is_quiet()
            && self.watched.values().all(Option::is_some)
    }

    /// The store as it will be after the next commit.
    pub(super) fn view(&self) -> View<'_> {
        self.writer.view(&self.pending)
    }

    // ---- messages

    /// Waits for a message, for something to become due, or for writes to become old.
    fn wait(&mut self) -> Result<Option<Message>, HostError> {
        if let Ok(message) = self.messages.try_recv() {
            return Ok(Some(message));
        }
        let now = self.now();
        let timer = [self.engine.next_due(), self.sleeps.first().map(|(due, _)| *due)];
        let timer = timer
            .into_iter()
            .flatten()
            .min()
            .map(|due| Duration::from_nanos(due.saturating_sub(now).max(0) as u64));
        let watched = self.terminal.is_watched().then_some(Duration::from_millis(500));
        // What waits is written when what is under way has been.
        let due = self.pending.due_in().filter(|_| self.writer.is_idle());
        let limit = [timer, due, watched].into_iter().flatten().min();
        let received = match limit {
            Some(limit) => self.messages.recv_timeout(limit),
            None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        self.note_clock();
        match received {
            Ok(message) => Ok(Some(message)),
            Err(_) => {
                if watched.is_some() && limit == watched {
                    self.show_progress(now);
                }
                Ok(None)
            }
        }
    }

    fn message(&mut self, message: Message) -> Result<(), HostError> {
        match message {
            Message::Done { ticket, result } => match self.effects.remove(&ticket) {
                Some(running) => {
                    self.spans.end(ticket, Some(&result));
                    self.answer(running.owner, result);
                }
                // A line that was read for somebody who is gone is the next one's.
                None if self.stray.remove(&ticket) => self.terminal.keep(result),
                None => {}
            },
            Message::Activity { ticket, result, sends } => {
                if let Some(step) = self.activities.remove(&ticket) {
                    self.spans.end(ticket, Some(&result));
                    self.tickets.remove(&step);
                    self.feed(Event::Answer { step, result, sends });
                }
            }
            Message::Asks { ticket, effect, args, permissions } => {
                if self.activities.contains_key(&ticket) {
                    let owner = Owner::Activity(ticket);
                    self.hold(AwaitingCommit::effect(owner, effect, args, permissions));
                }
            }
            Message::Client { command, reply } => self.client(command, reply)?,
            Message::Written => {
                let written = self.writer.written();
                self.on_committed(written)?;
            }
            // Who waits looks again.
            Message::Wake => {}
            Message::Interrupt => return Err(HostError::Interrupted),
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, owner: Owner, result: Outcome) {
        match owner {
            Owner::Step(step) => self.answer_step(step, result),
            Owner::Activity(ticket) => self.workers.answer(ticket, result),
        }
    }

    fn answer_step(&mut self, step: StepId, result: Outcome) {
        self.feed(Event::Answer { step, result, sends: Vec::new() });
    }

    /// Wakes what is due; whether something was.
    fn tick(&mut self, now: i64) -> bool {
        let mut any = self.engine.next_due().is_some_and(|due| due <= now);
        if any {
            self.engine.handle(Event::Tick, now);
        }
        while let Some(&(due, ticket)) = self.sleeps.first() {
            if due > now {
                break;
            }
            self.sleeps.pop_first();
            self.workers.answer(ticket, Ok(Data::null()));
            any = true;
        }
        any
    }

    // ---- outputs

    fn outputs(&mut self) -> Result<(), HostError> {
        loop {
            let outputs = self.engine.take_outputs();
            if outputs.is_empty() {
                return Ok(());
            }
            for output in outputs {
                self.output(output)?;
            }
        }
    }

    fn output(&mut self, output: Output) -> Result<(), HostError> {
        match output {
            Output::Effect { step, effect, args, permissions } => {
                let permissions = self.settings.permissions.and(&permissions);
                let result = effects::immediate(effect, &args, &permissions, &self.settings.clock)
                    .unwrap_or_else(|| Err(effects::unknown(effect.name())));
                self.answer_step(step, result);
            }
            Output::Gated(gated) => self.held.push_back(gated.map(|leaving| match leaving {
                Leaving::Effect { step, effect, args, permissions } => {
                    let permissions = self.settings.permissions.and(&permissions);
                    AwaitingCommit::effect(Owner::Step(step), effect, args, permissions)
                }
                Leaving::Line { run, line } => {
                    AwaitingCommit::Line { writer: Writing::Run(run), line: Ok(line) }
                }
                Leaving::Ended { instance, outcome, told } => {
                    AwaitingCommit::Ended { instance, outcome, told }
                }
                Leaving::Lost { what, error } => AwaitingCommit::Lost { what, error },
            })),
            Output::Activity { step, program, name, args, key, permissions } => {
                let permissions = self.settings.permissions.and(&permissions);
                self.begin_activity(step, (program, name), args, key, permissions)
            }
            Output::Abandon { step } => self.abandon(&step),
            // What is not in the engine's memory has been written, or waits to be.
            Output::Fetch { address } => {
                let view = self.writer.view(&self.pending);
                let images = &mut self.images;
                let mut image = |hash| known_image(images, hash, &view);
                match fetch(&view, &address, &mut image) {
                    Ok(event) => self.engine.handle(event, self.now()),
                    Err(reason) => {
                        self.terminal.log("error", &format!("{address} can't go on: {reason}"));
                        if let Address::Instance(id) = &address {
                            self.purge_ended(id, false)?;
                        }
                    }
                }
            }
            Output::FetchProgram { hash } => {
                let view = self.writer.view(&self.pending);
                match known_image(&mut self.images, hash, &view) {
                    Ok(image) => self.feed(Event::Program { image }),
                    Err(reason) => self.terminal.log("error", &reason.to_string()),
                }
            }
            Output::Tree { id } => {
                let tree = Tree::read(&self.view(), std::slice::from_ref(&id));
                let event = Event::Tree { id, tree: tree? };
                self.feed(event);
            }
            Output::Status { step, id } => {
                let record = read_record(&self.view(), &id)?;
                self.feed(Event::Status { step, record });
            }
            Output::Told { instance } => {
                self.unheard.remove(&instance);
            }
        }
        Ok(())
    }

    fn begin_activity(
        &mut self,
        step: StepId,
        (program, name): (ProgramHash, String),
        args: Data,
        key: String,
        permissions: Permissions,
    ) {
        let ticket = self.ticket();
        let Some(image) = self.images.get(&program) else { return };
        self.spans.begin(ticket, "activity", &step.owner, step.seq, &name);
        let identity = Identity { id: step.owner.to_string(), key, attempt: step.attempt, entity: None };
        let job = Job { ticket, code: image.code.clone(), name, args, identity, permissions };
        if self.workers.begin(job) {
            self.activities.insert(ticket, step.clone());
            self.tickets.insert(step, ticket);
        } else {
            let result = Err(ErrorData::new("io_error", "the system gives no threads to run activities"));
            self.answer_step(step, result);
        }
    }

    fn abandon(&mut self, step: &StepId) {
        if let Some(ticket) = self.tickets.remove(step) {
            self.activities.remove(&ticket);
            self.spans.end(ticket, None);
            self.workers.drop(ticket);
            self.sleeps.retain(|(_, sleeper)| *sleeper != ticket);
            self.break_off(|owner| matches!(owner, Owner::Activity(of) if *of == ticket));
        }
        self.break_off(|owner| matches!(owner, Owner::Step(of) if of == step));
    }

    fn break_off(&mut self, whose: impl Fn(&Owner) -> bool) {
        self.held.retain(|held| !held.peek().owner().is_some_and(&whose));
        let tickets: Vec<u64> =
            self.effects.iter().filter(|(_, running)| whose(&running.owner)).map(|(t, _)| *t).collect();
        for ticket in tickets {
            let Some(running) = self.effects.remove(&ticket) else { continue };
            self.spans.end(ticket, None);
            if running.input {
                self.stray.insert(ticket);
            }
            if let Some(abort) = running.abort {
                abort.abort();
            }
        }
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    // ---- progress

    fn show_progress(&mut self, now: i64) {
        // A person who is asked for a line sees the prompt.
        if self.effects.values().any(|running| running.input) {
            return;
        }
        let text = match self.engine.oldest_wait() {
            None => return,
            Some((open, more)) => {
                let since =
                    format::duration((now.saturating_sub(open.time)).max(0) / 1_000_000_000 * 1_000_000_000);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("waiting for {}{more} ({since})", open.describe())
            }
        };
        self.terminal.progress(&text);
    }
}
