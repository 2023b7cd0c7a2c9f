//! The loop: messages in, engine, commit, outputs out.
//!
//! Invariant: the loop alone brings the parts together. The engine says what is wanted, the committer when it may leave, the
//! performers carry it out, and what they answer is the engine's next event.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::code::ProgramHash;
use crate::engine::{
    Address, Engine, Event, InstanceRecord, Message as Sent, Outcome as Ending, Output, Tree, fetch,
    known_image, read_history, read_record, recovery, rekeying,
};
use crate::machine::{Data, Image, format};
use crate::permissions::{self, Permissions};
use crate::store::{DiskStore, Reader};

use super::clients::Clients;
use super::command::{Command, Reply};
use super::commit::{Committer, Wrote};
use super::effect_call::{Answered, EffectCall, Owner};
use super::groups::Groups;
use super::outgoing::{AwaitingCommit, Writing};
use super::performers::Performers;
use super::reads::Reads;
use super::serve::Serving;
use super::settings::{HostError, Settings};
use super::suspects::Suspects;
use super::{Handle, Images, Message, Terminal, effects};

/// Runs instances in a store.
pub struct Host {
    committer: Committer,
    settings: Settings,
    engine: Engine,
    pub terminal: Terminal,
    images: Images,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    performers: Performers,
    clients: Clients,
    suspects: Option<Suspects>,
    recovered: bool,
}

impl Host {
    pub fn new(store: DiskStore, settings: Settings) -> Host {
        let (sender, messages) = channel();
        let mut engine = Engine::new();
        engine.checkpoints.retention = settings.retention;
        engine.quotas = settings.quotas;
        let folder = Some(permissions::real(store.folder()));
        Host {
            committer: Committer::new(store, sender.clone(), &settings),
            performers: Performers::new(sender.clone(), folder, &settings),
            settings,
            engine,
            terminal: Terminal::new(),
            images: Images::default(),
            messages,
            sender,
            clients: Clients::default(),
            suspects: None,
            recovered: false,
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

    /// Takes in what the store has of messages, holders and instances with work to do. This comes first. Of the
    /// instances, those go on that have this root, or all.
    pub fn recover(&mut self, root: Option<&str>) -> Result<(), HostError> {
        self.recovered = true;
        if let Some(batch) = rekeying(self.store())? {
            self.committer.prepare(&batch)?;
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
    fn note_clock(&mut self) {
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
        self.committer.reads()
    }

    /// The process groups of the programs that it has started.
    pub fn programs(&self) -> Groups {
        self.performers.programs()
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
        self.clients.watch(&record.id);
        if let Some(image) = self.program(record.program) {
            self.feed(Event::Begin { record, image });
        }
    }

    /// Goes on with an instance of the store that has not ended, and waits for its end.
    pub fn watch(&mut self, id: &str) {
        self.clients.watch(id);
        self.feed(Event::Wake { id: id.into() });
    }

    /// Adds what this process does not permit to what an instance may not do, for good. It comes before the instance goes on.
    pub fn restrict_instance(&mut self, record: &InstanceRecord) {
        let permissions = record.permissions.and(&self.settings.permissions);
        if permissions != record.permissions && !record.status.is_ended() {
            let record = InstanceRecord { permissions, ..record.clone() };
            self.feed(Event::Restrict { record });
            self.committer.gather(&mut self.engine);
        }
    }

    /// How a watched instance ended, once that is durable.
    pub fn outcome(&self, instance: &str) -> Option<&Ending> {
        self.clients.outcome(instance)
    }

    /// The store, as it was left by the last commit.
    pub fn store(&self) -> &Reader {
        self.committer.store()
    }

    /// The store, when everything is done.
    pub fn into_store(self) -> DiskStore {
        self.performers.abort_all();
        self.committer.into_store()
    }

    /// Runs until those that are watched have ended and nothing goes on by itself. Whatever happens, what was
    /// acknowledged is durable at the end.
    pub fn run(&mut self) -> Result<(), HostError> {
        let result = self.work();
        self.terminal.clear();
        for (instance, why) in self.clients.take_unheard() {
            self.terminal.log("error", &format!("{instance} failed: {why}"));
        }
        let flushed = match &result {
            Err(HostError::Store(_)) => Ok(()),
            _ => self.committer.commit(&mut self.engine, true),
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
        self.committer.commit(&mut self.engine, true)?;
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

    /// Has this host itself carry a command out, and runs it until that is done.
    pub fn ask(&mut self, command: Command) -> Result<Reply, HostError> {
        let (sender, mut receiver) = oneshot::channel();
        self.sender.send(Message::Client { command, reply: sender }).ok();
        loop {
            if let Ok(reply) = receiver.try_recv() {
                return Ok(reply);
            }
            self.turn()?;
        }
    }

    /// Lets the engine take in an event.
    fn feed(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(event, now);
    }

    /// Lets the engine take in an answer, if there is one.
    fn answer(&mut self, answered: Option<Answered>) {
        if let Some(Answered { step, result }) = answered {
            self.feed(Event::Answer { step, result, sends: Vec::new() });
        }
    }

    /// The parts that commands reach.
    fn serving(&mut self) -> Serving<'_> {
        Serving {
            engine: &mut self.engine,
            committer: &mut self.committer,
            clients: &mut self.clients,
            images: &mut self.images,
            suspects: self.suspects.as_mut(),
            settings: &self.settings,
        }
    }

    fn work(&mut self) -> Result<(), HostError> {
        while !self.turn()? {}
        Ok(())
    }

    /// One round of the loop; whether there is nothing more to do. It waits only when nothing has changed since the
    /// last one, so that who drives it has looked at everything.
    fn turn(&mut self) -> Result<bool, HostError> {
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
        self.committer.expect(&self.engine);
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
            && self.committer.outgoing.is_empty()
            && self.engine.is_quiet()
            && self.clients.has_seen_all()
    }

    // ---- messages

    /// Waits for a message, for something to become due, or for writes to become old.
    fn wait(&mut self) -> Result<Option<Message>, HostError> {
        if let Ok(message) = self.messages.try_recv() {
            return Ok(Some(message));
        }
        let now = self.now();
        let timer = [self.engine.next_due(), self.performers.activities.next_due()];
        let timer = timer
            .into_iter()
            .flatten()
            .min()
            .map(|due| Duration::from_nanos(due.saturating_sub(now).max(0) as u64));
        let watched = self.terminal.is_watched().then_some(Duration::from_millis(500));
        let limit = [timer, self.committer.due_in(), watched].into_iter().flatten().min();
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
            Message::Done { ticket, result } => {
                let answered = self.performers.done(ticket, result, &mut self.terminal);
                self.answer(answered);
            }
            Message::Activity { ticket, result, sends } => {
                if let Some(step) = self.performers.activity_done(ticket, &result) {
                    self.feed(Event::Answer { step, result, sends });
                }
            }
            Message::Asks { ticket, effect, args, permissions } => {
                if self.performers.activities.has(ticket) {
                    let call = EffectCall { owner: Owner::Activity(ticket), effect, args, permissions };
                    self.committer.outgoing.hold(self.engine.gated(AwaitingCommit::effect(call)));
                }
            }
            Message::Client { command, reply } => self.serving().carry_out(command, reply)?,
            Message::Written => {
                if self.committer.on_written()? {
                    self.release()?;
                }
            }
            // Who waits looks again.
            Message::Wake => {}
            Message::Interrupt => return Err(HostError::Interrupted),
        }
        Ok(())
    }

    /// Wakes what is due; whether something was.
    fn tick(&mut self, now: i64) -> bool {
        let mut any = self.engine.next_due().is_some_and(|due| due <= now);
        if any {
            self.engine.handle(Event::Tick, now);
        }
        any |= self.performers.activities.wake(now);
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
                self.answer(Some(Answered { step, result }));
            }
            Output::Gated(gated) => {
                let permitted = &self.settings.permissions;
                let output = gated.map(|leaving| AwaitingCommit::of(leaving, permitted));
                self.committer.outgoing.hold(output);
            }
            Output::Activity { step, program, name, args, key, permissions } => {
                let permissions = self.settings.permissions.and(&permissions);
                if let Some(image) = self.images.get(&program) {
                    let code = image.code.clone();
                    let answered = self.performers.begin_activity(step, code, name, args, key, permissions);
                    self.answer(answered);
                }
            }
            Output::Abandon { step } => {
                let gone = self.performers.abandon(step);
                self.committer.outgoing.break_off(|owner| gone.has(owner));
            }
            // What is not in the engine's memory has been written, or waits to be.
            Output::Fetch { address } => {
                let view = self.committer.view();
                let images = &mut self.images;
                let mut image = |hash| known_image(images, hash, &view);
                match fetch(&view, &address, &mut image) {
                    Ok(event) => self.engine.handle(event, self.now()),
                    Err(reason) => {
                        self.terminal.log("error", &format!("{address} can't go on: {reason}"));
                        if let Address::Instance(id) = &address {
                            self.serving().purge_after(id, false)?;
                        }
                    }
                }
            }
            Output::FetchProgram { hash } => {
                let view = self.committer.view();
                match known_image(&mut self.images, hash, &view) {
                    Ok(image) => self.feed(Event::Program { image }),
                    Err(reason) => self.terminal.log("error", &reason.to_string()),
                }
            }
            Output::Tree { id } => {
                let tree = Tree::read(&self.committer.view(), std::slice::from_ref(&id));
                let event = Event::Tree { id, tree: tree? };
                self.feed(event);
            }
            Output::Status { step, id } => {
                let record = read_record(&self.committer.view(), &id)?;
                self.feed(Event::Status { step, record });
            }
            Output::Told { instance } => self.clients.heard(&instance),
        }
        Ok(())
    }

    // ---- writing

    /// Writes what is to be written now. Whether something may follow from it.
    fn write(&mut self) -> Result<bool, HostError> {
        if self.committer.make_room(&mut self.engine)? {
            self.release()?;
        }
        let goes_on = self.engine.is_ready() || !self.performers.is_idle();
        match self.committer.write(&mut self.engine, goes_on)? {
            Wrote::None => Ok(false),
            Wrote::Durable { changes } => {
                self.release()?;
                Ok(changes)
            }
        }
    }

    /// Commits, and lets go all that waited for it.
    fn commit_and_release(&mut self, durable: bool) -> Result<(), HostError> {
        self.committer.commit(&mut self.engine, durable)?;
        self.release()
    }

    /// Lets go what waited for writes that are durable now.
    fn release(&mut self) -> Result<(), HostError> {
        let mut written = Vec::new();
        // The lines that were written, by their runs.
        let mut lines: Vec<(u64, usize)> = Vec::new();
        // What is held meanwhile depends on writes to come.
        while let Some(held) = self.committer.outgoing.next_open() {
            if !matches!(held, AwaitingCommit::Line { .. }) {
                // Whatever leaves after a line leaves when the line is out.
                self.terminal.flush().map_err(HostError::Output)?;
            }
            match held {
                AwaitingCommit::Line { writer, line } => {
                    if let Ok(line) = &line {
                        self.terminal.line(line).map_err(HostError::Output)?;
                    }
                    match (writer, lines.last_mut()) {
                        (Writing::Run(run), Some((last, count))) if *last == run => *count += 1,
                        (Writing::Run(run), _) => lines.push((run, 1)),
                        (Writing::Effect(owner), _) => written.push((owner, line.map(|_| Data::null()))),
                    }
                }
                AwaitingCommit::Ended { instance, outcome, told } => self.ended(instance, outcome, told)?,
                AwaitingCommit::Reply { to, reply } => {
                    // Who asked may have gone away.
                    let _ = to.send(reply);
                }
                AwaitingCommit::Lost { what, error } => {
                    self.terminal.log("error", &format!("{what} had no effect: {}", error.title()));
                }
                AwaitingCommit::Effect(call) => {
                    let answered = self.performers.perform(call, self.engine.time(), &mut self.terminal);
                    self.answer(answered);
                }
            }
        }
        for answered in self.performers.begin_files() {
            self.answer(Some(answered));
        }
        // A line counts as written when it is out.
        self.terminal.flush().map_err(HostError::Output)?;
        for (run, count) in lines {
            self.feed(Event::LinesOut { run, count });
        }
        for (owner, result) in written {
            let answered = self.performers.answer(owner, result);
            self.answer(answered);
        }
        match self.performers.not_provided.take() {
            Some(name) => Err(HostError::NotProvided(name)),
            None => Ok(()),
        }
    }

    /// The end of an instance is durable. A failure that nobody waits for is told to people.
    fn ended(&mut self, instance: Arc<str>, outcome: Ending, told: bool) -> Result<(), HostError> {
        self.clients.tell(&instance);
        self.performers.instance_ended(&instance, &outcome);
        let can_go_on = !matches!(outcome, Ending::Nondeterminism(_) | Ending::Incompatible(_));
        self.serving().purge_after(&instance, can_go_on)?;
        let why = self.clients.ended(&instance, outcome, told, self.settings.stays);
        if let Some(why) = why.filter(|_| !self.settings.quiet) {
            self.terminal.log("error", &format!("{instance} failed: {why}"));
        }
        Ok(())
    }

    // ---- progress

    fn show_progress(&mut self, now: i64) {
        // A person who is asked for a line sees the prompt.
        if self.performers.effects.reads_input() {
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
