//! The execution of commands, for clients in this process or another.
//!
//! Invariant: a command sees the effect of all events before it, and its reply leaves once
//! everything that it says is durable. A command reaches the engine, the writes and the waiting
//! clients, and neither the performers nor the terminal.

use std::rc::Rc;

use crate::check;
use crate::code::modules_hash;
use crate::engine::query::{self, InstanceFilter, Paging};
use crate::engine::{
    Address, ClientCall, Engine, Event, InstanceRecord, Known, Message as Sent, SCHEDULES, Tree, build_image,
    deployed, deployment, function, known_id, known_image, not_ended, orchestrations, read_call, read_kept,
    read_record, rewind,
};
use crate::machine::{Cancellation, Canceller, Data, EntityId, ErrorData, IfExists, Image, bad_own_id};
use crate::permissions::Permissions;

use super::clients::Clients;
use super::command::{Attending, Command, Reply, Starting};
use super::commit::Committer;
use super::guests::Guests;
use super::outgoing::AwaitingCommit;
use super::settings::{HostError, Settings};
use super::suspects::Suspects;
use super::{Answer, Images};

/// The parts of a host that commands use.
pub(super) struct Serving<'a> {
    pub engine: &'a mut Engine,
    pub committer: &'a mut Committer,
    pub clients: &'a mut Clients,
    pub guests: &'a mut Guests,
    pub images: &'a mut Images,
    pub suspects: Option<&'a mut Suspects>,
    pub settings: &'a Settings,
}

impl Serving<'_> {
    /// Executes a command. The reply leaves once it is durable.
    pub(super) fn carry_out(&mut self, command: Command, to: Answer) -> Result<(), HostError> {
        self.gather();
        let reply = match command {
            Command::Start(start) => self.start(*start),
            Command::StartDeployed { function, args, id, if_exists } => {
                self.start_deployed(function, args, id, if_exists)
            }
            Command::Deploy { file, modules, permissions } => self.deploy(file, &modules, &permissions),
            Command::Raise { id, event, payload } => self.send(id, Sent::Event { name: event, payload }),
            Command::Suspend { id } => self.send(id, Sent::Suspend),
            Command::Resume { id } => self.send(id, Sent::Resume),
            Command::Terminate { id, why, children } => {
                self.send(id, Sent::Terminate { why, children, by: None })
            }
            Command::Cancel { id, reason, grace } => self.cancel(id, reason, grace),
            Command::Signal { entity, operation, args, after } => self.signal(entity, operation, args, after),
            Command::Call { id, entity, operation, args, timeout } => {
                return self.call(id, (entity, operation, args), timeout, to);
            }
            Command::DropMessage(entity) => {
                self.trust(&entity.to_string());
                Ok(match self.engine.drop_message(entity) {
                    true => Reply::Done,
                    false => Reply::Unknown,
                })
            }
            Command::ForgetOperations(entity) => match read_kept(&self.committer.view(), &entity) {
                Ok(Some(kept)) => {
                    self.feed(Event::Forget { entity, kept });
                    Ok(Reply::Done)
                }
                Ok(None) => Ok(Reply::Unknown),
                Err(reason) => Err(reason.into()),
            },
            Command::Wait(id) => match read_record(&self.committer.view(), &id) {
                Ok(None) => Ok(Reply::Unknown),
                Ok(Some(record)) if record.status.is_ended() => Ok(Reply::Ended),
                Ok(Some(_)) => {
                    self.feed(Event::Wake { id: id.clone() });
                    self.clients.wait(id, to);
                    return Ok(());
                }
                Err(reason) => Err(reason.into()),
            },
            Command::Rewind { id, dry_run } => self.rewind(&id, dry_run),
            Command::Purge { ids, force } => return self.purge(ids, force, to),
            Command::Attend(attending) => self.attend(*attending),
            Command::Fork(forking) => self.fork(*forking),
            Command::Upgrade(upgrading) => self.upgrade(*upgrading),
            Command::Finish(_) | Command::CallOf(_) => {
                Err("the activities of this store run in the process that has it".into())
            }
        };
        self.reply(to, reply.unwrap_or_else(Reply::Refused));
        Ok(())
    }

    /// Returns the time of the store.
    pub(super) fn now(&self) -> i64 {
        self.settings.clock.now_after(self.engine.time())
    }

    /// Gives the engine an event.
    pub(super) fn feed(&mut self, event: Event) {
        let now = self.now();
        self.engine.handle(event, now);
    }

    /// Gathers the engine's writes, so that reads see them.
    pub(super) fn gather(&mut self) {
        self.committer.gather(self.engine);
    }

    /// Replies once everything that the engine has done so far is durable.
    pub(super) fn reply(&mut self, to: Answer, reply: Reply) {
        match to {
            // The answer is a part of the batch, and needs no gate.
            Answer::Stored(_) => to.give(reply, self.engine),
            Answer::Here(_) => {
                self.committer.outgoing.hold(self.engine.gated(AwaitingCommit::Reply { to, reply }));
            }
        }
    }

    /// Clears the suspicion that an instance or an entity makes the process die.
    fn trust(&mut self, name: &str) {
        if let Some(suspects) = &mut self.suspects {
            suspects.forget(name);
        }
    }

    /// Begins an instance, under its own id or the next id of a name. The process that has the
    /// store chooses the next id, so that no two starts get the same one.
    fn start(&mut self, start: Starting) -> Result<Reply, String> {
        let Starting { mut record, modules, named, if_exists } = start;
        match named {
            Some(name) => record.id = self.next_id(&name)?,
            None => {
                if let Some(reason) = bad_own_id(&record.id) {
                    return Err(format!("`{}` can't be an id: {reason}", record.id));
                }
            }
        }
        record.root = record.id.clone();
        // The time counts from now, by the clock of the store.
        let after = record.status.begins().map(|due| due.saturating_sub(record.created));
        let due = after.map(|after| self.now().saturating_add(after));
        record.begins_later(due);
        record.permissions = record.permissions.and(&self.settings.permissions);
        let image = self.started_program(&record, &modules)?;
        if let Some(known) = read_record(&self.committer.view(), &record.id)? {
            match known_id(&known, &record, if_exists) {
                Known::Joins => return Ok(Reply::Known(known.id)),
                Known::Taken(error) => return Ok(Reply::Taken { error, function: known.function }),
                Known::Replaces => {
                    if let Some(error) = self.replace(&known, &record)? {
                        return Ok(Reply::Taken { error, function: known.function });
                    }
                }
            }
        }
        let deployed = (!modules.is_empty()).then(|| (record.clone(), image.clone()));
        let id = record.id.clone();
        self.feed(Event::Begin { record, image });
        if let Some((record, image)) = deployed {
            self.schedules(&record, &image)?;
        }
        Ok(Reply::Begun(id))
    }

    /// Begins an instance of a deployed function.
    fn start_deployed(
        &mut self,
        name: String,
        args: Data,
        id: Option<String>,
        if_exists: IfExists,
    ) -> Result<Reply, String> {
        let Some(function) = function(&self.committer.view(), &name)? else { return Ok(Reply::Unknown) };
        function.takes(&name, args.items().len())?;
        let named = id.is_none().then(|| name.clone());
        let (program, id) = (function.program, id.unwrap_or_default());
        let mut record = InstanceRecord::new(&id, program, &function.file, &name, args, self.now());
        record.permissions = function.permissions;
        self.start(Starting { record, modules: Vec::new(), named, if_exists })
    }

    /// Makes a program's orchestrations and entities known to the store under their names.
    fn deploy(
        &mut self,
        file: String,
        modules: &[(String, String)],
        permissions: &Permissions,
    ) -> Result<Reply, String> {
        let image = new_program(self.images, modules)?;
        let names = orchestrations(&image.code).into_iter().map(|(name, _)| name.to_string()).collect();
        let permissions = permissions.and(&self.settings.permissions);
        let mut main = InstanceRecord::new("", image.code.hash, &file, "", Data::default(), self.now());
        main.permissions = permissions.clone();
        self.feed(Event::Deploy { image: image.clone(), file, permissions });
        self.schedules(&main, &image)?;
        Ok(Reply::Deployed(names))
    }

    /// Begins an instance of a script or joins it, and lets a guest show its output, unless this
    /// process or another guest does.
    fn attend(&mut self, Attending { guest, folder, starting }: Attending) -> Result<Reply, String> {
        let here = std::env::current_dir().map_err(|error| crate::os::reason(&error))?;
        if here != folder {
            return Err(format!(
                "it works in {}, where the paths of the script mean other files",
                here.display()
            ));
        }
        let reply = self.start(starting)?;
        if let Reply::Begun(id) | Reply::Known(id) = &reply {
            let record = read_record(&self.committer.view(), id)?;
            let has_ended = record.is_some_and(|record| record.status.is_ended());
            if !has_ended && !self.clients.is_watched(id) {
                self.guests.enter(&guest, id);
                if matches!(reply, Reply::Known(_)) {
                    self.feed(Event::Wake { id: id.clone() });
                }
            }
        }
        Ok(reply)
    }

    /// Begins the schedules of a program that was deployed with the start of an instance, and ends
    /// those that its file does not declare any more.
    pub(super) fn schedules(&mut self, main: &InstanceRecord, image: &Image) -> Result<(), String> {
        self.gather();
        let filter = InstanceFilter { prefix: SCHEDULES.to_string(), ..InstanceFilter::default() };
        let (mut known, mut paging) = (Vec::new(), Paging::first(1_000));
        loop {
            let page = query::instances(&self.committer.view(), &filter, &paging)?;
            known.extend(page.items);
            match page.next {
                Some(next) => paging.from = Some(next),
                None => break,
            }
        }
        for (to, message) in deployment(&image.code, main, &known) {
            self.send_to(to, message);
        }
        Ok(())
    }

    /// Purges an ended instance whose place another one takes. Returns an error if the instance
    /// can't be purged.
    fn replace(
        &mut self,
        known: &InstanceRecord,
        wanted: &InstanceRecord,
    ) -> Result<Option<ErrorData>, String> {
        let tree = Tree::read(&self.committer.view(), std::slice::from_ref(&known.id))?;
        if let Some(running) = self.engine.unfinished(&tree).first() {
            return Ok(Some(not_ended(known, wanted, running)));
        }
        self.feed(Event::Purge { tree });
        self.gather();
        Ok(None)
    }

    /// Returns the next free id of a name, for example `transfer-3`.
    fn next_id(&mut self, name: &str) -> Result<String, String> {
        let prefix = format!("{}-", name.rsplit(':').next().unwrap_or(name));
        let mut last = match self.clients.last_id(&prefix) {
            Some(last) => last,
            None => query::last_number(&self.committer.view(), &prefix)?,
        };
        loop {
            last += 1;
            let id = format!("{prefix}{last}");
            if read_record(&self.committer.view(), &id)?.is_none()
                && self.engine.mail(&Address::instance(&id)).is_empty()
            {
                self.clients.give_id(prefix, last);
                return Ok(id);
            }
        }
    }

    /// Returns the program of an instance that is to begin.
    fn started_program(
        &mut self,
        record: &InstanceRecord,
        modules: &[(String, String)],
    ) -> Result<Rc<Image>, String> {
        let image = match self.images.get(&record.program) {
            Some(image) => image.clone(),
            // The program is that of another instance.
            None if modules.is_empty() => known_image(self.images, record.program, &self.committer.view())?,
            None => new_program(self.images, modules)?,
        };
        match image.code.hash == record.program {
            true => Ok(image),
            false => Err("the program is not the one that was named".into()),
        }
    }

    /// Sends a message in a client's name, under a key that no other message has.
    pub(super) fn send_to(&mut self, to: Address, message: Sent) {
        let from = format!("client-{}", super::effects::unique());
        self.feed(Event::Send { to, from, message });
    }

    /// Sends an operation to an entity, if a program declares the entity.
    fn signal(
        &mut self,
        entity: EntityId,
        operation: String,
        args: Data,
        after: Option<i64>,
    ) -> Result<Reply, String> {
        if deployed(&self.committer.view(), &entity.name)?.is_none() {
            return Ok(Reply::Unknown);
        }
        let due = after.map_or(0, |after| self.now().saturating_add(after).max(1));
        self.send_to(Address::entity(entity), Sent::Signal { operation, args, due });
        Ok(Reply::Done)
    }

    /// Calls an operation of an entity, if a program declares the entity, or joins a call with the
    /// same id. The reply is the answer.
    fn call(
        &mut self,
        id: String,
        (entity, operation, args): (EntityId, String, Data),
        timeout: Option<i64>,
        to: Answer,
    ) -> Result<(), HostError> {
        let now = self.now();
        let wanted = ClientCall { entity, operation, args, asked: now, answer: None };
        let reply = match self.accept(&id, wanted) {
            Ok(None) => {
                let deadline = timeout.map(|timeout| now.saturating_add(timeout.max(0)));
                self.clients.await_answer(id, deadline, to);
                return Ok(());
            }
            Ok(Some(reply)) => reply,
            Err(reason) => Reply::Refused(reason),
        };
        self.reply(to, reply);
        Ok(())
    }

    /// Makes a client's call, unless it was made before. Returns the reply if the client need not
    /// wait for an answer.
    fn accept(&mut self, id: &str, wanted: ClientCall) -> Result<Option<Reply>, String> {
        if let Some(reason) = bad_own_id(id) {
            return Err(format!("`{id}` can't be an id: {reason}"));
        }
        if let Some(known) = read_call(&self.committer.view(), id)? {
            if let Some(error) = known.conflict(id, &wanted) {
                let function = format!("{}.{}", known.entity.name, known.operation);
                return Ok(Some(Reply::Taken { error, function }));
            }
            return Ok(known.answer.map(Reply::Answered));
        }
        if deployed(&self.committer.view(), &wanted.entity.name)?.is_none() {
            return Ok(Some(Reply::Unknown));
        }
        let from = format!("client-{}", super::effects::unique());
        self.feed(Event::Call { id: id.to_string(), from, call: wanted });
        Ok(None)
    }

    /// Sends a message to an instance that has not ended.
    fn send(&mut self, id: String, message: Sent) -> Result<Reply, String> {
        match read_record(&self.committer.view(), &id)? {
            None => Ok(Reply::Unknown),
            Some(record) if record.status.is_ended() => Ok(Reply::Ended),
            Some(_) => {
                if matches!(message, Sent::Terminate { .. }) {
                    self.trust(&id);
                }
                self.send_to(Address::instance(&id), message);
                Ok(Reply::Done)
            }
        }
    }

    /// Cancels an instance that has not ended.
    fn cancel(&mut self, id: String, reason: Data, grace: i64) -> Result<Reply, String> {
        let what = Cancellation { by: Canceller::Client, place: String::new(), reason, grace };
        self.send(id, Sent::Cancel { what: Box::new(what), of: None })
    }

    /// Rewinds a failed instance, together with the instances that it needs.
    fn rewind(&mut self, id: &str, dry_run: bool) -> Result<Reply, String> {
        let (now, view) = (self.now(), self.committer.view());
        if read_record(&view, id)?.is_none() {
            return Ok(Reply::Unknown);
        }
        let images = &mut *self.images;
        let rewinding = rewind(&view, &mut |hash| known_image(images, hash, &view), id, now)?;
        let ids = || rewinding.instances.iter().map(|back| back.steps.id.as_str());
        if let Some(away) = ids().find(|id| !self.engine.is_here(id)) {
            let why = format!(
                "{id} goes back only together with {away}, which belongs to another partition: rewind {away} first"
            );
            return Err(why);
        }
        let steps = rewinding.instances.iter().map(|back| back.steps.clone()).collect();
        if !dry_run {
            for back in &rewinding.instances {
                self.clients.heard(&back.steps.id);
            }
            self.feed(Event::Rewind(rewinding));
            self.gather();
        }
        Ok(Reply::Rewound(steps))
    }
}

/// Returns a program that is ready to run. An error says why there is none.
pub(super) fn new_program(images: &mut Images, modules: &[(String, String)]) -> Result<Rc<Image>, String> {
    let hash = modules_hash(modules.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    if let Some(image) = images.get(&hash) {
        return Ok(image.clone());
    }
    let program = check::load_stored(modules).ok_or("the program has no modules")?;
    let image = build_image(&program)?;
    images.insert(image.code.hash, image.clone());
    Ok(image)
}
