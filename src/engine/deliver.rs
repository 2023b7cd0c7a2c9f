//! Delivery of messages to instances, and the end of instances.

use std::rc::Rc;
use std::sync::Arc;

use crate::machine::{Data, ErrorData, IfExists, Value};

use super::address::{Address, Waiter};
use super::events::{Leaving, Output};
use super::fault::{self, Fault};
use super::known::{Known, known_id};
use super::message::{Mail, Message};
use super::open::Children;
use super::record::{InstanceRecord, Status};
use super::run::{NO_REQUEST, handle, outcome_of, take_mail, unknown};
use super::step::Engine;

impl Engine {
    /// Delivers a message to an instance. Gives the message back if the instance is not in memory.
    pub(super) fn arrive(&mut self, id: &Arc<str>, mail: Rc<Mail>) -> Result<(), Rc<Mail>> {
        let Some(mut instance) = self.residents.get_mut(id) else { return Err(mail) };
        if instance.has_ended() && instance.is_live() {
            let record = instance.record.clone();
            self.refuse(id, &mail, Some(&record));
            return Ok(());
        }
        if let (Message::Cancel { what, of }, Some(_)) = (&mail.message, instance.record.status.begins()) {
            // There is nothing to clean up in an instance that has not begun.
            let (why, by) = (what.reason.clone(), of.clone());
            let from = [mail.from.as_str(), "+"].concat();
            let to = Address::Instance(id.clone());
            self.taken(&to, &mail);
            let message = Message::Terminate { why, children: true, by };
            self.send(to, from, mail.root.clone(), mail.ack.clone(), message);
            return Ok(());
        }
        if let (Some(ack), true) = (&mail.ack, mail.message.is_for_later()) {
            self.reply(&mail, ack.clone(), Ok(Data::null()));
            let Some(same) = self.residents.get_mut(id) else { return Err(mail) };
            instance = same;
        }
        instance.arrivals.mail.put(mail);
        self.scheduler.wake(id, instance, &self.uses);
        Ok(())
    }

    /// Answers a request by a message.
    pub(super) fn reply(&mut self, to: &Mail, waiter: Waiter, result: Result<Data, ErrorData>) {
        let Waiter { instance, life, execution, seq } = waiter;
        let message = Message::Answer { life, execution, seq, result };
        let from = [to.from.as_str(), "!"].concat();
        self.send(Address::instance(&instance), from, to.root.clone(), None, message);
    }

    /// Takes in a message that controls an instance, such as one that ends it, suspends it, or
    /// waits for its end.
    pub(super) fn control(&mut self, id: &Arc<str>, mail: &Rc<Mail>, now: i64) {
        self.taken(&Address::Instance(id.clone()), mail);
        self.changed.push(id.clone());
        let Some(instance) = self.residents.get_mut(id) else { return };
        match &mail.message {
            Message::Begin(wanted, IfExists::Supersede) if instance.record.program != wanted.program => {
                let wanted = wanted.clone();
                self.supersede(id, mail, &wanted, now);
                return;
            }
            Message::Begin(wanted, if_exists) => {
                let known = &mut instance.record;
                if let Known::Taken(error) = known_id(known, wanted, *if_exists) {
                    self.refuse_begin(mail, wanted, Err(error));
                    return;
                }
                for waiter in &wanted.waiters {
                    if !known.waiters.contains(waiter) {
                        known.waiters.push(waiter.clone());
                        instance.record_changed = true;
                    }
                }
                if let Some(ack) = mail.ack.clone() {
                    self.reply(mail, ack, Ok(handle(id)));
                }
            }
            Message::Wait(waiter) if !instance.record.waiters.contains(waiter) => {
                instance.record.waiters.push(waiter.clone());
                instance.record_changed = true;
            }
            Message::Suspend if !instance.is_suspended() && !instance.has_ended() => {
                instance.record.status = match instance.record.status {
                    Status::Scheduled { due, .. } => Status::Scheduled { due, suspended: true },
                    _ => Status::Suspended,
                };
                instance.record_changed = true;
                self.scheduler.clear_timer(id, NO_REQUEST);
                // A suspended instance takes in no answers. They are stored, so that they outlive
                // the process.
                let inbox = match fault::is_in(Fault::SuspensionForgets) {
                    true => Vec::new(),
                    false => instance.arrivals.take_inbox(),
                };
                for (came, answer) in inbox {
                    self.keep_answer(id, answer, came.time, now);
                }
            }
            Message::Resume if instance.is_suspended() => {
                // The instance takes in the answers that have come before it does anything else.
                instance.record.status = match instance.record.status {
                    Status::Scheduled { due, .. } => Status::Scheduled { due, suspended: false },
                    _ => Status::Running,
                };
                instance.record_changed = true;
                self.begin_if_due(id);
            }
            Message::Terminate { why, children, by } => {
                if by.is_some() && *by != instance.record.parent {
                    return;
                }
                self.scheduler.clear_timer(id, NO_REQUEST);
                instance.terminated(why.clone(), now);
                let children = if *children { Children::Terminated } else { Children::Left };
                self.finish(id, children, now);
            }
            _ => {}
        }
        // The sender's acknowledgement follows the change.
        if let Some(ack) = mail.ack.clone().filter(|_| mail.message.is_control()) {
            self.reply(mail, ack, Ok(Data::null()));
        }
    }

    /// Finishes an instance that has ended: cancels its requests, releases its locks, answers its
    /// waiters, and deals with its mail.
    pub(super) fn finish(&mut self, id: &Arc<str>, children: Children, now: i64) {
        let Some(mut instance) = self.residents.get_mut(id) else { return };
        self.changed.push(id.clone());
        if instance.record.keeps_mail() && instance.arrivals.has_delivered() {
            for (came, answer) in instance.arrivals.take_inbox() {
                self.keep_answer(id, answer, came.time, now);
            }
            let Some(same) = self.residents.get_mut(id) else { return };
            instance = same;
        }
        let open = std::mem::take(&mut instance.evaluation.open);
        let waiters = instance.record.waiters.clone();
        let root = instance.root.clone();
        let key = instance.step_key(u64::MAX);
        let owner = instance.life_id();
        let result = instance.record.status.result(id);
        let outcome = outcome_of(&instance.record.status);
        let mail = instance.arrivals.mail.drain();
        let section = self.placement.is_some().then(|| instance.section()).flatten();
        for (seq, open) in open.into_all() {
            self.drop_open(id, seq, &open, children);
        }
        self.release(&owner);
        match section {
            Some((Some(asked), set)) => self.withdraw_spread(&asked, &set),
            Some((None, set)) => self.release_spread(&owner, set),
            None => {}
        }
        let told = !waiters.is_empty();
        if let Some(result) = result {
            for (number, waiter) in waiters.into_iter().enumerate() {
                let Waiter { instance, life, execution, seq } = waiter;
                let message = Message::Answer { life, execution, seq, result: result.clone() };
                let from = format!("{key}.{number}");
                self.send(Address::instance(&instance), from, root.clone(), None, message);
            }
        }
        let Some(instance) = self.residents.get_mut(id) else { return };
        take_mail(id, instance, &mut self.batch);
        if !mail.is_empty() {
            let record = instance.record.clone();
            for mail in mail {
                self.refuse(id, &mail, Some(&record));
            }
        }
        self.left(id);
        self.emit(Leaving::Ended { instance: id.clone(), outcome, told });
    }

    /// Answers the mail of an instance that was fetched, and has ended or does not exist.
    pub(super) fn absent(&mut self, id: &str, record: Option<InstanceRecord>, now: i64) {
        let id: Arc<str> = id.into();
        if self.replacing.contains(&id) {
            return;
        }
        self.release_lives(&id, None);
        let mut mailbox = self.residents.mailboxes.remove(&id).unwrap_or_default();
        for mail in mailbox.drain() {
            // The previous message may have begun the instance.
            let Err(mail) = self.arrive(&id, mail) else { continue };
            match (&mail.message, &record) {
                _ if self.residents.mailboxes.contains_key(&id) => self.residents.mailbox(&id).put(mail),
                (Message::Begin(wanted, _), None)
                    if let Some(error) = self.uses.refusal(&wanted.root, &self.quotas) =>
                {
                    self.taken(&Address::Instance(id.clone()), &mail);
                    self.refuse_begin(&mail, wanted, Err(error));
                }
                (Message::Begin(wanted, _), None) => match self.programs.get(wanted.program).cloned() {
                    Some(image) => {
                        self.taken(&Address::Instance(id.clone()), &mail);
                        if let Some(ack) = mail.ack.clone() {
                            self.reply(&mail, ack, Ok(handle(&id)));
                        }
                        let wanted = InstanceRecord { created: now, ..(**wanted).clone() };
                        self.add(wanted, super::History::default(), image, true);
                    }
                    None => {
                        let hash = wanted.program;
                        self.programs.wait_for(hash, &id);
                        self.outputs.push(Output::FetchProgram { hash });
                        self.residents.mailbox(&id).put(mail);
                    }
                },
                (Message::Begin(wanted, if_exists), Some(known))
                    if known_id(known, wanted, *if_exists) == Known::Replaces =>
                {
                    self.residents.mailbox(&id).put(mail);
                    self.begin_to_replace(&id);
                }
                _ => self.refuse(&id, &mail, record.as_ref()),
            }
        }
    }

    /// Deals with a message to an instance that has ended (with this record), or that does not
    /// exist.
    fn refuse(&mut self, id: &Arc<str>, mail: &Rc<Mail>, record: Option<&InstanceRecord>) {
        if record.is_some_and(|record| mail.message.is_kept_by(record)) {
            self.leave(id, mail);
            return;
        }
        if let (Message::Begin(wanted, if_exists), Some(record)) = (&mail.message, record)
            && known_id(record, wanted, *if_exists) == Known::Replaces
        {
            self.replace_later(id, mail);
            return;
        }
        self.refuse_for_good(id, mail, record);
    }

    /// Refuses a message like `refuse`, to an instance that can no longer be replaced or rewound.
    pub(super) fn refuse_ended(&mut self, id: &Arc<str>, mail: &Rc<Mail>, record: &InstanceRecord) {
        self.refuse_for_good(id, mail, Some(record));
    }

    fn refuse_for_good(&mut self, id: &Arc<str>, mail: &Rc<Mail>, record: Option<&InstanceRecord>) {
        self.taken(&Address::Instance(id.clone()), mail);
        match (&mail.message, record) {
            (Message::Begin(wanted, if_exists), Some(record)) => {
                let result = match known_id(record, wanted, *if_exists) {
                    Known::Taken(error) => Err(error),
                    _ => record.status.result(id).unwrap_or_else(|| Ok(Data::null())),
                };
                self.refuse_begin(mail, wanted, result);
            }
            (Message::Wait(waiter), record) => {
                self.outputs.push(Output::Told { instance: id.to_string() });
                let result = record.and_then(|record| record.status.result(id));
                self.reply(mail, waiter.clone(), result.unwrap_or_else(|| Err(unknown(id))));
            }
            (Message::Answer { .. }, _) => {}
            (_, Some(_)) => {
                if let Some(ack) = mail.ack.clone() {
                    self.reply(mail, ack, Ok(Data::null()));
                }
            }
            (message, None) => match mail.ack.clone() {
                Some(ack) => self.reply(mail, ack, Err(unknown(id))),
                None => {
                    // A request to end a child that never began needs no report.
                    let of_a_caller = matches!(
                        message,
                        Message::Terminate { by: Some(_), .. } | Message::Cancel { of: Some(_), .. }
                    );
                    if !of_a_caller {
                        let what = format!("{} for {id}", message.word());
                        self.emit(Leaving::Lost { what, error: unknown(id) });
                    }
                }
            },
        }
    }

    /// Leaves a message for an instance that may be rewound in the store, acknowledges it, and
    /// forgets it here.
    fn leave(&mut self, id: &Arc<str>, mail: &Rc<Mail>) {
        let Some(ack) = mail.ack.clone() else { return };
        let to = Address::Instance(id.clone());
        self.taken(&to, mail);
        self.store(to, mail);
        self.reply(mail, ack, Ok(Data::null()));
    }

    /// Terminates a cancelled instance whose grace period is over.
    pub(super) fn cut_short(&mut self, id: &Arc<str>, reason: Data, now: i64) {
        self.dispatch_leavings(id, now);
        let Some(instance) = self.residents.get_mut(id) else { return };
        instance.terminated(reason, now);
        self.finish(id, Children::Terminated, now);
    }

    /// Terminates an instance whose tree has written more than the quota of its root.
    pub(super) fn has_too_much(&mut self, id: &Arc<str>) {
        let Some(instance) = self.residents.get(id) else { return };
        let most = match self.quotas.bytes {
            bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
            bytes => format!("{bytes} bytes"),
        };
        let why = format!("`{}` and what it began have written more than {most}", instance.record.root);
        let why = Data::of(&Value::str(why));
        let (from, root) = (instance.step_key(u64::MAX), instance.root.clone());
        let message = Message::Terminate { why, children: true, by: None };
        self.send(Address::Instance(id.clone()), from, root, None, message);
    }

    /// Answers a request to begin an instance that can't begin: its id belongs to an instance that
    /// has ended or is a different one, or a limit forbids it.
    pub(super) fn refuse_begin(
        &mut self,
        mail: &Rc<Mail>,
        wanted: &InstanceRecord,
        result: Result<Data, ErrorData>,
    ) {
        for waiter in wanted.waiters.clone() {
            self.reply(mail, waiter, result.clone());
        }
        match (mail.ack.clone(), result) {
            (Some(ack), Err(error)) if matches!(error.kind().as_deref(), Some("id_taken" | "limit")) => {
                self.reply(mail, ack, Err(error))
            }
            (Some(ack), _) => self.reply(mail, ack, Ok(handle(&wanted.id))),
            (None, Err(error)) if wanted.waiters.is_empty() => {
                let what = format!("start of {}", wanted.id);
                self.emit(Leaving::Lost { what, error });
            }
            _ => {}
        }
    }
}
