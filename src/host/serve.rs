//! What clients ask, in this process or another.

use std::rc::Rc;

use tokio::sync::oneshot;

use crate::check;
use crate::engine::query;
use crate::engine::{
    Address, Event, InstanceRecord, Known, Message as Sent, Tree, build_image, deployed, known_id,
    known_image, not_ended, read_record, rewind,
};
use crate::machine::{Data, EntityId, ErrorData, Image, bad_own_id};

use super::command::{Command, Reply, Starting};
use super::commit::AwaitingCommit;
use super::run::Host;
use super::settings::HostError;
use super::{Answer, Message};

impl Host {
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

    /// Takes in a command. The reply is given once what it says is durable.
    pub(super) fn client(&mut self, command: Command, to: Answer) -> Result<(), HostError> {
        // It is seen in the state that all events before have led to.
        self.gather();
        let reply = match command {
            Command::Start(start) => self.client_start(*start),
            Command::Raise { id, event, payload } => {
                self.client_send(id, Sent::Event { name: event, payload })
            }
            Command::Suspend { id } => self.client_send(id, Sent::Suspend),
            Command::Resume { id } => self.client_send(id, Sent::Resume),
            Command::Terminate { id, why, children } => {
                self.client_send(id, Sent::Terminate { why, children, by: None })
            }
            Command::Signal { entity, operation, args, after } => {
                self.client_signal(entity, operation, args, after)
            }
            Command::DropMessage(entity) => {
                self.trusts(&entity.to_string());
                Ok(match self.engine.drop_message(entity) {
                    true => Reply::Done,
                    false => Reply::Unknown,
                })
            }
            Command::Wait(id) => match read_record(&self.view(), &id) {
                Ok(None) => Ok(Reply::Unknown),
                Ok(Some(record)) if record.status.is_ended() => Ok(Reply::Ended),
                Ok(Some(_)) => {
                    self.feed(Event::Wake { id: id.clone() });
                    self.waiting.entry(id).or_default().push(to);
                    return Ok(());
                }
                Err(reason) => Err(reason.into()),
            },
            Command::Rewind { id, dry_run } => self.client_rewind(&id, dry_run),
            Command::Purge { ids, force } => return self.client_purge(ids, force, to),
        };
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.hold(AwaitingCommit::Reply { to, reply });
        Ok(())
    }

    /// Begins an instance, under an id of its own or the next of its name: whoever has the store chooses it, so that no
    /// two starts get the same.
    fn client_start(&mut self, start: Starting) -> Result<Reply, String> {
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
        record.permissions = record.permissions.and(&self.settings.permissions);
        let image = self.started_program(&record, &modules)?;
        if let Some(known) = read_record(&self.view(), &record.id)? {
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
        let id = record.id.clone();
        self.feed(Event::Begin { record, image });
        Ok(Reply::Begun(id))
    }

    /// Purges an instance that has ended for one that takes its place; an error says why it can't be.
    fn replace(
        &mut self,
        known: &InstanceRecord,
        wanted: &InstanceRecord,
    ) -> Result<Option<ErrorData>, String> {
        let tree = Tree::read(&self.view(), std::slice::from_ref(&known.id))?;
        if let Some(running) = self.engine.unfinished(&tree).first() {
            return Ok(Some(not_ended(known, wanted, running)));
        }
        self.feed(Event::Purge { tree });
        self.gather();
        Ok(None)
    }

    /// The next id of a name that is free: `transfer-3`.
    fn next_id(&mut self, name: &str) -> Result<String, String> {
        let prefix = format!("{}-", name.rsplit(':').next().unwrap_or(name));
        let mut last = match self.last_ids.get(&prefix) {
            Some(last) => *last,
            None => query::last_number(&self.view(), &prefix)?,
        };
        loop {
            last += 1;
            let id = format!("{prefix}{last}");
            if read_record(&self.view(), &id)?.is_none()
                && self.engine.mail(&Address::instance(&id)).is_empty()
            {
                self.last_ids.insert(prefix, last);
                return Ok(id);
            }
        }
    }

    fn started_program(
        &mut self,
        record: &InstanceRecord,
        modules: &[(String, String)],
    ) -> Result<Rc<Image>, String> {
        let image = match self.program(record.program) {
            Some(image) => image,
            // It is that of another instance.
            None if modules.is_empty() => {
                let view = self.writer.view(&self.pending);
                known_image(&mut self.images, record.program, &view)?
            }
            None => {
                let program = check::load_stored(modules).ok_or("the program has no modules")?;
                let image = build_image(&program)?;
                self.add_program(image.clone());
                image
            }
        };
        match image.code.hash == record.program {
            true => Ok(image),
            false => Err("the program is not the one that was named".into()),
        }
    }

    /// Sends in a client's name, under a key that no other message has.
    pub(super) fn client_message(&mut self, to: Address, message: Sent) {
        let from = format!("client-{}", super::effects::unique());
        self.feed(Event::Send { to, from, message });
    }

    /// Sends an entity an operation, if a program declares it.
    fn client_signal(
        &mut self,
        entity: EntityId,
        operation: String,
        args: Data,
        after: Option<i64>,
    ) -> Result<Reply, String> {
        if deployed(&self.view(), &entity.name)?.is_none() {
            return Ok(Reply::Unknown);
        }
        let due = after.map_or(0, |after| self.now().saturating_add(after).max(1));
        self.client_message(Address::entity(entity), Sent::Signal { operation, args, due });
        Ok(Reply::Done)
    }

    fn client_send(&mut self, id: String, message: Sent) -> Result<Reply, String> {
        match read_record(&self.view(), &id)? {
            None => Ok(Reply::Unknown),
            Some(record) if record.status.is_ended() => Ok(Reply::Ended),
            Some(_) => {
                if matches!(message, Sent::Terminate { .. }) {
                    self.trusts(&id);
                }
                self.client_message(Address::instance(&id), message);
                Ok(Reply::Done)
            }
        }
    }

    /// Lets a failed instance ask its failed steps again, with the instances that it needs for it.
    fn client_rewind(&mut self, id: &str, dry_run: bool) -> Result<Reply, String> {
        if read_record(&self.view(), id)?.is_none() {
            return Ok(Reply::Unknown);
        }
        let now = self.now();
        let view = self.writer.view(&self.pending);
        let images = &mut self.images;
        let rewinding = rewind(&view, &mut |hash| known_image(images, hash, &view), id, now)?;
        let steps = rewinding.instances.iter().map(|back| back.steps.clone()).collect();
        if !dry_run {
            self.pending.add(rewinding.batch);
            for back in rewinding.instances {
                self.unheard.remove(&back.steps.id);
                self.feed(Event::Rewound(back));
            }
        }
        Ok(Reply::Rewound(steps))
    }
}
