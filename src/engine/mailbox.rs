//! The messages that were sent to an instance, and that it has not consumed.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::address::LifeId;
use super::message::{Mail, Message};

/// The mail of one instance, by kind, each kind in the order in which it was sent.
#[derive(Default, Clone)]
pub(super) struct Mailbox {
    pub answers: VecDeque<Rc<Mail>>,
    /// Events by their names.
    pub events: BTreeMap<String, VecDeque<Rc<Mail>>>,
    /// Cancellations of the instance.
    pub cancels: VecDeque<Rc<Mail>>,
    /// All other messages, which are consumed at once: beginnings, waits, and messages that end,
    /// suspend or resume the instance.
    pub control: VecDeque<Rc<Mail>>,
}

impl Mailbox {
    pub fn put(&mut self, mail: Rc<Mail>) {
        match &mail.message {
            Message::Answer { .. } => {
                // A timeout has the time at which it was due, which may be earlier than answers
                // that are already here.
                let at = self.answers.iter().rposition(|before| before.came() < mail.came());
                self.answers.insert(at.map_or(0, |at| at + 1), mail);
            }
            Message::Event { name, .. } => self.events.entry(name.clone()).or_default().push_back(mail),
            Message::Cancel { .. } => self.cancels.push_back(mail),
            _ => self.control.push_back(mail),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
            && self.events.is_empty()
            && self.cancels.is_empty()
            && self.control.is_empty()
    }

    /// Takes the next event of a name.
    pub fn take_event(&mut self, name: &str) -> Option<Rc<Mail>> {
        let queue = self.events.get_mut(name)?;
        let mail = queue.pop_front();
        if queue.is_empty() {
            self.events.remove(name);
        }
        mail
    }

    /// Takes the first message that terminates the instance and has no `by`, if there is one.
    pub fn take_end(&mut self) -> Option<Rc<Mail>> {
        let ends = |mail: &Rc<Mail>| matches!(&mail.message, Message::Terminate { by: None, .. });
        let at = self.control.iter().position(ends)?;
        self.control.remove(at)
    }

    /// Takes the messages that cancel or terminate the instance because its caller ended or gave up.
    pub fn take_ends_by(&mut self, caller: &LifeId) -> Vec<Rc<Mail>> {
        let ends = |mail: &Rc<Mail>| match &mail.message {
            Message::Terminate { by, .. } | Message::Cancel { of: by, .. } => by.as_ref() == Some(caller),
            _ => false,
        };
        let mut taken = Vec::new();
        for queue in [&mut self.control, &mut self.cancels] {
            let (by_caller, others): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(queue).into_iter().partition(ends);
            *queue = others;
            taken.extend(by_caller);
        }
        taken
    }

    /// Whether an answer to a request of an execution (life, execution) came before a time.
    pub fn has_answer(&self, of: (u64, u32), wanted: u64, before: i64) -> bool {
        self.answers.iter().take_while(|mail| mail.time < before).any(|mail| {
            matches!(&mail.message, Message::Answer { life, execution, seq, .. }
                if (*life, *execution) == of && *seq == wanted)
        })
    }

    /// Returns the requests of an execution (life, execution) whose answers are here.
    pub fn answered(&self, of: (u64, u32)) -> impl Iterator<Item = u64> + '_ {
        self.answers.iter().filter_map(move |mail| match &mail.message {
            Message::Answer { life, execution, seq, .. } if (*life, *execution) == of => Some(*seq),
            _ => None,
        })
    }

    /// Takes all mail, in the order of the messages' numbers.
    pub fn drain(&mut self) -> Vec<Rc<Mail>> {
        let answers = self.answers.drain(..).chain(self.cancels.drain(..));
        let mut all: Vec<Rc<Mail>> = answers.chain(self.control.drain(..)).collect();
        all.extend(std::mem::take(&mut self.events).into_values().flatten());
        all.sort_by_key(|mail| mail.number);
        all
    }

    /// Returns all mail, kind by kind.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Mail>> {
        let queues = self.answers.iter().chain(&self.cancels).chain(&self.control);
        queues.chain(self.events.values().flatten())
    }
}
