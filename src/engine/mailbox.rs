//! What an instance was sent and has not taken in.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::address::LifeId;
use super::message::{Mail, Message};

/// The mail of one instance, by kind, each in the order sent.
#[derive(Default, Clone)]
pub(super) struct Mailbox {
    pub answers: VecDeque<Rc<Mail>>,
    /// By the event's name.
    pub events: BTreeMap<String, VecDeque<Rc<Mail>>>,
    /// What is taken in at once: waits, and what ends it or holds it up.
    pub control: VecDeque<Rc<Mail>>,
}

impl Mailbox {
    pub fn put(&mut self, mail: Rc<Mail>) {
        match &mail.message {
            Message::Answer { .. } => {
                // That something is too late has come when its time was up, which may be before what has come since.
                let at = self.answers.iter().rposition(|before| before.came() < mail.came());
                self.answers.insert(at.map_or(0, |at| at + 1), mail);
            }
            Message::Event { name, .. } => self.events.entry(name.clone()).or_default().push_back(mail),
            _ => self.control.push_back(mail),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.events.is_empty() && self.control.is_empty()
    }

    /// The next event of a name.
    pub fn take_event(&mut self, name: &str) -> Option<Rc<Mail>> {
        let queue = self.events.get_mut(name)?;
        let mail = queue.pop_front();
        if queue.is_empty() {
            self.events.remove(name);
        }
        mail
    }

    /// What ends it, if that is there.
    pub fn take_end(&mut self) -> Option<Rc<Mail>> {
        let ends = |mail: &Rc<Mail>| matches!(&mail.message, Message::Terminate { by: None, .. });
        let at = self.control.iter().position(ends)?;
        self.control.remove(at)
    }

    /// Takes what ends it because its caller ended or gave up.
    pub fn take_ends_by(&mut self, caller: &LifeId) -> Vec<Rc<Mail>> {
        let ends = |mail: &Rc<Mail>| matches!(&mail.message, Message::Terminate { by: Some(by), .. } if by == caller);
        let (ends, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.control).into_iter().partition(ends);
        self.control = others;
        ends.into()
    }

    /// Whether an answer to that request of that life and execution has come before a time.
    pub fn has_answer(&self, of: (u64, u32), wanted: u64, before: i64) -> bool {
        self.answers.iter().take_while(|mail| mail.time < before).any(|mail| {
            matches!(&mail.message, Message::Answer { life, execution, seq, .. }
                if (*life, *execution) == of && *seq == wanted)
        })
    }

    /// The requests of that life and execution whose answers are there.
    pub fn answered(&self, of: (u64, u32)) -> impl Iterator<Item = u64> + '_ {
        self.answers.iter().filter_map(move |mail| match &mail.message {
            Message::Answer { life, execution, seq, .. } if (*life, *execution) == of => Some(*seq),
            _ => None,
        })
    }

    /// All of it, in the order of the numbers.
    pub fn drain(&mut self) -> Vec<Rc<Mail>> {
        let mut all: Vec<Rc<Mail>> = self.answers.drain(..).chain(self.control.drain(..)).collect();
        all.extend(std::mem::take(&mut self.events).into_values().flatten());
        all.sort_by_key(|mail| mail.number);
        all
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Mail>> {
        self.answers.iter().chain(&self.control).chain(self.events.values().flatten())
    }
}
