//! The loop: messages in, engine, commit, outputs out.
//!
//! Invariant: only the loop connects the parts of the host. The engine emits outputs, the committer
//! says when they may leave, the performers carry them out, and the answers are the engine's next
//! events.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::code::ProgramHash;
use crate::engine::{
    Address, Ending, Engine, Event, InstanceRecord, Message as Sent, Output, Tree, Undo, Waiter,
    read_history, read_record, recovery_of_any,
};
use crate::kv::{Endpoint, Reader, SharedStore};
use crate::machine::{Data, Image, format};
use crate::permissions::{self, Permissions};

use super::callbacks::Callbacks;
use super::clients::Clients;
use super::command::{Command, Reply};
use super::commit::{Committer, Wrote};
use super::effect_call::{Answered, EffectCall, Owner};
use super::groups::Groups;
use super::guests::Guests;
use super::measures::{Measures, Replays};
use super::outgoing::{AwaitingCommit, Writing};
use super::performers::Performers;
use super::reads::Reads;
use super::serve::Serving;
use super::settings::{HostError, Settings};
use super::suspects::Suspects;
use super::{Handle, Images, Message, Terminal, effects};

/// Runs instances in a store.
pub struct Host {
    pub(super) committer: Committer,
    pub(super) settings: Settings,
    pub(super) engine: Engine,
    pub terminal: Terminal,
    pub(super) images: Images,
    pub(super) messages: Receiver<Message>,
    sender: Sender<Message>,
    pub(super) performers: Performers,
    clients: Clients,
    pub(super) guests: Guests,
    pub(super) suspects: Option<Suspects>,
    pub(super) replays: Replays,
    pub(super) measures: Measures,
    recovered: bool,
}

impl Host {
    pub fn new(store: Box<dyn SharedStore>, settings: Settings) -> Host {
        let (sender, messages) = channel();
        let mut engine = Engine::new();
        engine.checkpoints.retention = settings.retention;
        engine.quotas = settings.quotas;
        engine.keep_operations = settings.keep_operations;
        engine.growth = store.growth();
        let folder = store.endpoint().map(|endpoint| permissions::real(endpoint.folder()));
        let committer = Committer::new(store, sender.clone(), &settings);
        let measures = committer.reads().measures().clone();
        Host {
            committer,
            performers: Performers::new(sender.clone(), folder, &settings, measures.clone()),
            settings,
            engine,
            terminal: Terminal::new(),
            images: Images::default(),
            messages,
            sender,
            clients: Clients::default(),
            guests: Guests::default(),
            suspects: None,
            replays: Replays::default(),
            measures,
            recovered: false,
        }
    }

    /// Returns a host that serves clients alone. No instance goes on in it.
    pub fn for_clients(store: Box<dyn SharedStore>) -> Host {
        let mut host = Host::new(store, Settings::default());
        host.engine = Engine::for_clients();
        host
    }

    /// Watches for slices that take long, and sets aside the instances and entities that the last
    /// processes died of, except the one that is wanted. Call this before [`Host::recover`].
    pub fn watch_slices(&mut self, endpoint: &Endpoint, wanted: Option<&str>) {
        let mut suspects = Suspects::open(endpoint.folder());
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

    /// Gives the engine the messages, the locks and the instances with work to do from the store.
    /// Call this first. With a root, only the instances of that root go on.
    pub fn recover(&mut self, root: Option<&str>) -> Result<(), HostError> {
        self.recovered = true;
        let mut moves = false;
        for event in recovery_of_any(self.store(), root)? {
            moves |= matches!(event, Event::Rekey { .. });
            self.feed(event);
        }
        if moves {
            // Readers of the store find entities under their new keys from now on.
            self.committer.commit(&mut self.engine, true)?;
        }
        if self.engine.goes_on() {
            self.note_clock();
        }
        Ok(())
    }

    /// Returns the time of the store, in nanoseconds since 1970. It never goes back, whatever the
    /// clock of the system does.
    pub fn now(&self) -> i64 {
        self.settings.clock.now_after(self.engine.time())
    }

    /// Tells people once that the clock of the system is behind.
    fn note_clock(&mut self) {
        if let Some(behind) = self.settings.clock.note() {
            let minutes = (behind.as_secs() + 30) / 60;
            let behind = format::duration((minutes as i64).saturating_mul(60_000_000_000));
            let text =
                format!("the clock of the system is {behind} behind the time of the store, which goes on");
            self.terminal.log("warn", &text);
        }
    }

    /// Restricts what programs may do outside.
    pub fn restrict(&mut self, permissions: &Permissions) {
        self.settings.permissions = self.settings.permissions.and(permissions);
    }

    /// Lets instances have URLs at which the outside raises events for them.
    pub fn make_callbacks(&mut self, callbacks: Callbacks) {
        self.settings.callbacks = callbacks;
    }

    /// Returns whether [`Host::recover`] was called.
    pub fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// Returns whether something can go on by itself.
    pub fn has_work(&self) -> bool {
        !self.engine.is_quiet() || self.engine.next_due().is_some_and(|due| due <= self.now())
    }

    /// Returns the store for reading on any thread.
    pub fn reads(&self) -> Reads {
        self.committer.reads()
    }

    /// Returns the process groups of the programs that the host has started.
    pub fn programs(&self) -> Groups {
        self.performers.programs()
    }

    /// Returns the handle by which other threads of this process reach the host.
    pub fn handle(&self) -> Handle {
        Handle::new(self.sender.clone(), self.measures.queue.clone())
    }

    /// Adds a program that instances may run.
    pub fn add_program(&mut self, image: Rc<Image>) {
        self.images.insert(image.code.hash, image);
    }

    /// Returns a program, if it is known.
    pub fn program(&self, hash: ProgramHash) -> Option<Rc<Image>> {
        self.images.get(&hash).cloned()
    }

    /// Begins an instance of a known program, and waits for its end.
    pub fn begin(&mut self, mut record: InstanceRecord) {
        record.permissions = record.permissions.and(&self.settings.permissions);
        self.clients.watch(&record.id);
        if let Some(image) = self.program(record.program) {
            let main = record.clone();
            self.feed(Event::Begin { record, image: image.clone() });
            if let Err(reason) = self.serving().schedules(&main, &image) {
                self.terminal
                    .log("error", &format!("the schedules of {} are not seen to: {reason}", main.file));
            }
        }
    }

    /// Goes on with an instance of the store that has not ended, and waits for its end.
    pub fn watch(&mut self, id: &str) {
        self.clients.watch(id);
        self.feed(Event::Wake { id: id.into() });
    }

    /// Adds the restrictions of this process to those of an instance, for good. Call this before
    /// the instance goes on.
    pub fn restrict_instance(&mut self, record: &InstanceRecord) {
        let permissions = record.permissions.and(&self.settings.permissions);
        if permissions != record.permissions && !record.status.is_ended() {
            let record = InstanceRecord { permissions, ..record.clone() };
            self.feed(Event::Restrict { record });
            self.committer.gather(&mut self.engine);
        }
    }

    /// Returns how an instance ended that is waited for, once its end is durable.
    pub fn outcome(&self, instance: &str) -> Option<&Ending> {
        self.clients.outcome(instance)
    }

    /// Returns the store as the last commit left it.
    pub fn store(&self) -> &Reader {
        self.committer.store()
    }

    /// Ends the host, and returns the store.
    pub fn into_store(self) -> Box<dyn SharedStore> {
        self.performers.abort_all();
        self.guests.desk().end();
        self.committer.into_store()
    }

    /// Runs until the instances that are waited for have ended and nothing goes on by itself.
    /// Whatever happens, everything that was acknowledged is durable at the end.
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
        for (to, reply) in self.committer.outgoing.take_replies() {
            to.give(reply, &mut self.engine);
        }
        result.and(flushed)
    }

    /// Runs until a condition holds. Everything that was done is durable then.
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

    /// Returns the custom status of an instance in memory.
    pub fn says(&self, id: &str) -> Option<&Data> {
        self.engine.says(id)
    }

    /// Returns whether an instance does not run and is not about to.
    pub fn is_gone(&self, id: &str) -> bool {
        self.engine.is_gone(id)
    }

    /// Lets a waiting instance go on with another program, and raises an event for it. The programs
    /// differ only in the part that the instance has not come to. An error says why this can't be.
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

    /// Takes an instance back to where it waited for an event, with its program and its status of
    /// that time. Returns descriptions of the requests that it made since. An error says why this
    /// can't be.
    pub fn undo(
        &mut self,
        id: &str,
        event: &str,
        image: &Rc<Image>,
        custom: Data,
    ) -> Result<Result<Vec<String>, String>, HostError> {
        self.committer.commit(&mut self.engine, true)?;
        let record = read_record(self.store(), id)?;
        let Some(record) = record else { return Ok(Err(format!("there is no instance `{id}`"))) };
        let history = read_history(self.store(), &record)?;
        let undo = match Undo::plan(&record, &history, event, image, custom) {
            Ok(undo) => undo,
            Err(reason) => return Ok(Err(reason)),
        };
        let dropped = undo.dropped();
        self.add_program(image.clone());
        self.feed(Event::Undo(undo));
        // Nothing that was under way leaves any more.
        self.outputs()?;
        self.commit_and_release(true)?;
        Ok(Ok(dropped))
    }

    /// Raises an event without a payload for an instance.
    pub fn raise(&mut self, id: &str, event: &str) {
        let message = Sent::Event { name: event.to_string(), payload: Data::null() };
        let from = format!("prompt-{id}-{event}");
        self.feed(Event::Send { to: Address::instance(id), from, message });
    }

    /// Has the host execute a command, and runs the host until the reply is there.
    pub fn ask(&mut self, command: Command) -> Result<Reply, HostError> {
        let mut receiver = self.handle().ask(command);
        loop {
            if let Ok(reply) = receiver.try_recv() {
                return Ok(reply);
            }
            if self.turn()? && !self.engine.goes_on() {
                // What the clients wait for goes on in another process.
                let waiting = self.clients.give_up_calls();
                self.unanswered(waiting);
            }
        }
    }

    /// Gives the engine an event.
    pub(super) fn feed(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(event, now);
    }

    /// Gives the engine an answer, if there is one.
    pub(super) fn answer(&mut self, answered: Option<Answered>) {
        if let Some(Answered { step, result }) = answered {
            self.feed(Event::Answer { step, result, sends: Vec::new() });
        }
    }

    /// Returns the parts that commands use.
    pub(super) fn serving(&mut self) -> Serving<'_> {
        Serving {
            engine: &mut self.engine,
            committer: &mut self.committer,
            clients: &mut self.clients,
            guests: &mut self.guests,
            images: &mut self.images,
            suspects: self.suspects.as_mut(),
            settings: &self.settings,
        }
    }

    fn work(&mut self) -> Result<(), HostError> {
        while !self.turn()? {}
        Ok(())
    }

    /// Goes through the loop once. Returns whether there is nothing more to do. The loop waits only
    /// if nothing changed in this round, so that the caller has seen every change.
    fn turn(&mut self) -> Result<bool, HostError> {
        let now = self.now();
        let mut changed = self.tick(now);
        while let Ok(message) = self.messages.try_recv() {
            self.message(message)?;
            changed = true;
        }
        if self.engine.is_ready() {
            self.run_slice(now);
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

    /// Waits for a message, for the next timer, or until writes are due.
    fn wait(&mut self) -> Result<Option<Message>, HostError> {
        if let Ok(message) = self.messages.try_recv() {
            return Ok(Some(message));
        }
        let now = self.now();
        let timer = [self.engine.next_due(), self.performers.activities.next_due(), self.clients.next_due()];
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
            Message::Calls { ticket, entity, operation, args, permissions } => {
                let caller = Waiter::activity(&effects::unique());
                if let Some(step) = self.performers.activities.calls(ticket, &caller.instance) {
                    let permissions = self.settings.permissions.and(&permissions);
                    self.feed(Event::ActivityCall { caller, step, entity, operation, args, permissions });
                }
            }
            Message::Waits { job } => self.offer(*job),
            Message::Client { command, reply } => {
                self.measures.queue.dec();
                self.command(command, reply)?;
            }
            Message::Arrival(arrival) => self.arrival(arrival)?,
            Message::Written => {
                if self.committer.on_written()? {
                    self.release()?;
                }
            }
            Message::Guest(message) => self.guest(message)?,
            // The caller of the loop looks again, and a lease may hold again.
            Message::Wake => self.release()?,
            Message::Interrupt => return Err(HostError::Interrupted),
        }
        Ok(())
    }

    /// Wakes everything that is due. Returns whether anything was.
    fn tick(&mut self, now: i64) -> bool {
        let late = self.engine.next_due().filter(|due| *due <= now);
        let mut any = late.is_some();
        if let Some(due) = late {
            self.note_lag(due, now);
            self.engine.handle(Event::Tick, now);
        }
        any |= self.performers.activities.wake(now);
        let expired = self.clients.expire(now);
        any |= !expired.is_empty();
        self.unanswered(expired);
        any
    }

    // ---- outputs

    fn outputs(&mut self) -> Result<(), HostError> {
        loop {
            let outputs = self.engine.take_outputs();
            if outputs.is_empty() {
                return Ok(());
            }
            self.read_ahead(&outputs);
            for output in outputs {
                self.output(output)?;
            }
        }
    }

    fn output(&mut self, output: Output) -> Result<(), HostError> {
        match output {
            Output::Effect { step, effect, args, permissions } => {
                let result = effects::at_once(&self.settings, &step, effect, &args, &permissions);
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
                self.withdraw(&step);
                let gone = self.performers.abandon(step);
                self.committer.outgoing.break_off(|owner| gone.has(owner));
            }
            Output::Fetch { address, kept } => self.load(&address, kept)?,
            Output::FetchProgram { hash } => self.load_program(hash),
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

    /// Writes what is due. Returns whether something may follow from that.
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

    /// Commits, and lets out everything that waited for the commit.
    fn commit_and_release(&mut self, durable: bool) -> Result<(), HostError> {
        self.committer.commit(&mut self.engine, durable)?;
        self.release()
    }

    /// Lets out everything whose writes are durable.
    fn release(&mut self) -> Result<(), HostError> {
        let mut written = Vec::new();
        // The lines that were written, by their runs.
        let mut lines: Vec<(u64, usize)> = Vec::new();
        // Outputs that are held during this loop depend on later writes.
        while self.may_act()
            && let Some(held) = self.committer.outgoing.next_open()
        {
            if !matches!(held, AwaitingCommit::Line { .. }) {
                // An output after a line leaves when the line is out.
                self.terminal.flush().map_err(HostError::Output)?;
            }
            match held {
                AwaitingCommit::Line { writer, line } => {
                    let Some((writer, line)) = self.write_for_guest(writer, line)? else { continue };
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
                AwaitingCommit::Reply { to, reply } => to.give(reply, &mut self.engine),
                AwaitingCommit::Lost { what, error } => {
                    self.terminal.log("error", &format!("{what} had no effect: {}", error.title()));
                }
                AwaitingCommit::Answered { caller, result } => self.answered(&caller, result),
                AwaitingCommit::Effect(call) => {
                    let Some(call) = self.input_of_guest(call)? else { continue };
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

    /// Tells clients that their calls are durable and have no answers yet.
    fn unanswered(&mut self, clients: Vec<super::Answer>) {
        for to in clients {
            self.serving().reply(to, Reply::Unanswered);
        }
    }

    /// Passes the answer of an entity to the client or the activity that called it.
    fn answered(&mut self, caller: &str, result: super::EffectResult) {
        let caller = Waiter { instance: caller.into(), life: 0, execution: 0, seq: 0 };
        if let Some(call) = caller.client_id() {
            for to in self.clients.take_callers(call) {
                to.give(Reply::Answered(result.clone()), &mut self.engine);
            }
        } else if let Some(ticket) = self.performers.activities.called(&caller.instance) {
            self.performers.activities.answer(ticket, result);
        } else if let Some(to) = self.performers.activities.distant_called(&caller.instance) {
            to.give(Reply::Answered(result), &mut self.engine);
        }
    }

    /// Reports the durable end of an instance to the clients and the parts that need to know.
    fn ended(&mut self, instance: Arc<str>, outcome: Ending, told: bool) -> Result<(), HostError> {
        for to in self.clients.take_waiting(&instance) {
            to.give(Reply::Ended, &mut self.engine);
        }
        self.performers.instance_ended(&instance, &outcome);
        let can_go_on = !matches!(outcome, Ending::Nondeterminism(_) | Ending::Incompatible(_));
        self.serving().purge_after(&instance, can_go_on)?;
        let told = self.end_of_guest(&instance, &outcome) || told;
        let why = self.clients.ended(&instance, outcome, told, self.settings.stays);
        if let Some(why) = why.filter(|_| !self.settings.quiet && !self.guests.has(&instance)) {
            self.terminal.log("error", &format!("{instance} failed: {why}"));
        }
        Ok(())
    }

    // ---- progress

    fn show_progress(&mut self, now: i64) {
        // A person who is asked for a line of input sees the prompt.
        if self.performers.effects.reads_input() {
            return;
        }
        let Some((open, more)) = self.engine.oldest_wait() else { return };
        const SECOND: i64 = 1_000_000_000;
        let since = format::duration(now.saturating_sub(open.time).max(0) / SECOND * SECOND);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.terminal.progress(&format!("waiting for {}{more} ({since})", open.describe()));
    }
}
