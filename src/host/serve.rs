//! What clients ask, in this process or another.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::check;
use crate::engine::{
    Address, Event, InstanceRecord, Message as Sent, Read, build_image, deployed, known_image, purge_writes,
    read_record, rewind, unused_programs,
};
use crate::machine::{Data, Value};

use super::client::{Ask, Reply};
use super::commit::Held;
use super::run::{Host, HostError, Purging};
use super::{Answer, Message};

impl Host {
    /// Asks this host itself, and runs it until the answer is there.
    pub fn ask(&mut self, ask: Ask) -> Result<Reply, HostError> {
        let (sender, mut receiver) = oneshot::channel();
        self.sender.send(Message::Client { ask, reply: sender }).ok();
        loop {
            if let Ok(reply) = receiver.try_recv() {
                return Ok(reply);
            }
            self.turn()?;
        }
    }

    /// Takes in a question. The answer is given once what it says is durable.
    pub(super) fn client(&mut self, ask: Ask, to: Answer) -> Result<(), HostError> {
        // What is asked is seen in the state that all events before have led to.
        self.gather();
        let reply = match ask {
            Ask::Get(key) => self.view().get(&key).map(Reply::Value),
            Ask::All(prefix) => self.view().all(&prefix).map(Reply::Pairs),
            Ask::Start { record, modules } => self.client_start(*record, &modules),
            Ask::Instance { id, message } => self.client_send(id, message),
            Ask::Entity { entity, mut message, after } => match deployed(&self.view(), &entity.name) {
                Ok(Some(_)) => {
                    if let (Sent::Signal { due, .. }, Some(after)) = (&mut message, after) {
                        *due = self.now().saturating_add(after).max(1);
                    }
                    self.client_message(Address::entity(entity), message);
                    Ok(Reply::Done)
                }
                Ok(None) => Ok(Reply::Unknown),
                Err(reason) => Err(reason),
            },
            Ask::Wait(id) => match read_record(&self.view(), &id) {
                Ok(None) => Ok(Reply::Unknown),
                Ok(Some(record)) if record.status.is_ended() => Ok(Reply::Ended),
                Ok(Some(_)) => {
                    self.feed(Event::Wake { id: id.clone() });
                    self.waiting.entry(id).or_default().push(to);
                    return Ok(());
                }
                Err(reason) => Err(reason),
            },
            Ask::Rewind { id, dry_run } => self.client_rewind(&id, dry_run),
            Ask::Purge { ids, force } => return self.client_purge(ids, force, to),
        };
        let reply = reply.unwrap_or_else(Reply::Refused);
        self.held.push(Held::Reply { to, reply });
        Ok(())
    }

    fn client_start(
        &mut self,
        record: InstanceRecord,
        modules: &[(String, String)],
    ) -> Result<Reply, String> {
        if read_record(&self.view(), &record.id)?.is_some() {
            return Ok(Reply::Known);
        }
        let image = match self.program(record.program) {
            Some(image) => image,
            None => {
                let program = check::load_stored(modules).ok_or("the program has no modules")?;
                let image = build_image(&program)?;
                self.add_program(image.clone());
                image
            }
        };
        if image.code.hash != record.program {
            return Err("the program is not the one that was named".into());
        }
        self.feed(Event::Begin { record, image });
        Ok(Reply::Done)
    }

    /// Sends in a client's name, under a key that no other message has.
    fn client_message(&mut self, to: Address, message: Sent) {
        let from = format!("client-{}", super::effects::unique());
        self.feed(Event::Send { to, from, message });
    }

    fn client_send(&mut self, id: String, message: Sent) -> Result<Reply, String> {
        match read_record(&self.view(), &id)? {
            None => Ok(Reply::Unknown),
            Some(record) if record.status.is_ended() => Ok(Reply::Ended),
            Some(_) => {
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

    fn client_purge(&mut self, ids: Vec<String>, force: bool, to: Answer) -> Result<(), HostError> {
        let mut running = Vec::new();
        let mut ended = Vec::new();
        for id in ids {
            let refused = match read_record(&self.view(), &id).map_err(HostError::Unreadable)? {
                None => Reply::Unknown,
                Some(record) if record.status.is_ended() => {
                    ended.push(id);
                    continue;
                }
                Some(_) if force => {
                    running.push(id);
                    continue;
                }
                Some(_) => Reply::Refused(format!("{id} has not ended")),
            };
            self.held.push(Held::Reply { to, reply: refused });
            return Ok(());
        }
        for id in &ended {
            self.remove(id)?;
        }
        if running.is_empty() {
            self.collect()?;
            self.held.push(Held::Reply { to, reply: Reply::Done });
            return Ok(());
        }
        for id in &running {
            let why = Data::encode(&Value::str("it was purged")).unwrap_or_else(|_| Data::null());
            let message = Sent::Terminate { why, children: true, by: None };
            self.client_message(Address::instance(id), message);
        }
        self.purging.push(Purging { left: running, reply: to });
        Ok(())
    }

    /// An instance has ended; it may be one that is to be removed.
    pub(super) fn purge_ended(&mut self, id: &Arc<str>) -> Result<(), HostError> {
        let mut purging = std::mem::take(&mut self.purging);
        let mut removed = false;
        for one in &mut purging {
            let before = one.left.len();
            one.left.retain(|left| *left != **id);
            removed |= one.left.len() < before;
        }
        if removed {
            self.gather();
            self.remove(id)?;
        }
        for one in purging {
            if one.left.is_empty() {
                self.collect()?;
                self.held.push(Held::Reply { to: one.reply, reply: Reply::Done });
            } else {
                self.purging.push(one);
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<(), HostError> {
        let batch = purge_writes(&self.view(), id).map_err(HostError::Unreadable)?;
        self.pending.add(batch);
        Ok(())
    }

    /// Removes programs that nobody needs any more.
    fn collect(&mut self) -> Result<(), HostError> {
        let batch = unused_programs(&self.view()).map_err(HostError::Unreadable)?;
        self.engine.forget_programs(&batch);
        self.pending.add(batch);
        Ok(())
    }
}
