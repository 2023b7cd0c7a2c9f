//! What waits for an instance, and the order in which it is taken in.
//!
//! What the engine does itself is answered in the turn that asked. Everything else has come at a time ([`Came`]), and is taken in
//! the order of these times.

use crate::machine::{Data, ErrorData, Request};

use super::fault::{self, Fault};
use super::instance::{Delivery, Instance};
use super::message::{Came, Message};
use super::outbox::{Line, answered};

/// What comes first of all that waits for an instance.
enum First {
    Delivered(Came),
    Answer(Came),
    /// An event, for a request.
    Event(Came, u64),
}

impl First {
    fn came(&self) -> Came {
        match self {
            First::Delivered(came) | First::Answer(came) | First::Event(came, _) => *came,
        }
    }
}

impl Instance {
    /// An answer has come at a time; it is taken in when it is its turn. An activity may have sent something.
    pub fn deliver(&mut self, seq: u64, result: Result<Data, ErrorData>, sends: Vec<Request>, time: i64) {
        let came = Came { time, is_mail: false, number: self.delivered };
        self.delivered += 1;
        self.inbox.insert(came, Delivery { seq, result, sends });
    }

    /// What a request asked for is done, in the turn in which it was made.
    pub fn deliver_at_once(&mut self, seq: u64) {
        self.at_once.push_back(seq);
    }

    /// Whether an answer is there that it would take in.
    pub fn has_answer(&self) -> bool {
        !self.inbox.is_empty()
            || !self.at_once.is_empty()
            || !self.unanswered_lines.is_empty()
            || !self.mail.answers.is_empty()
            || !self.mail.control.is_empty()
            || self.receives.first_event(&self.mail).is_some()
    }

    /// Whether what ends it or holds it up can be taken in now: it overtakes nothing that came before it, but a long
    /// computation.
    pub fn can_be_ended(&self) -> bool {
        if !self.between || self.computes {
            return self.computes;
        }
        let Some(control) = self.mail.control.front() else { return true };
        let is_first = self.first().is_none_or(|first| control.came() < first.came());
        self.at_once.is_empty() && self.unanswered_lines.is_empty() && is_first
    }

    /// What of all that waits for it came first, but for what ends it or holds it up.
    fn first(&self) -> Option<First> {
        let delivered = self.inbox.first_key_value().map(|(came, _)| First::Delivered(*came));
        let answer = self.mail.answers.front().map(|mail| First::Answer(mail.came()));
        let event = self.receives.first_event(&self.mail).map(|(came, seq)| First::Event(came, seq));
        if event.is_some() && fault::is_in(Fault::EventsBeforeTimers) {
            return event;
        }
        [delivered, answer, event].into_iter().flatten().min_by_key(First::came)
    }

    /// The next answer: of what is done at once, else the first of all that has come.
    pub(super) fn next_answer(&mut self) -> Option<Delivery> {
        if let Some(seq) = self.unanswered_lines.pop_front() {
            let line = Line::of_request(&self.open.get(&seq)?.request)?;
            let result = line.map(|line| self.lines.push(line)).and_then(|()| answered());
            return Some(Delivery { seq, result, sends: Vec::new() });
        }
        if let Some(seq) = self.at_once.pop_front() {
            return Some(Delivery { seq, result: Ok(Data::null()), sends: Vec::new() });
        }
        loop {
            match self.first()? {
                First::Delivered(came) => return self.inbox.remove(&came),
                First::Answer(_) => {
                    let mail = self.mail.answers.pop_front()?;
                    self.taken.push(mail.clone());
                    if let Message::Answer { life, execution, seq, result } = &mail.message
                        && (*life == self.record.life || fault::is_in(Fault::AnswersReachOtherLives))
                        && *execution == self.record.execution
                    {
                        return Some(Delivery { seq: *seq, result: result.clone(), sends: Vec::new() });
                    }
                }
                First::Event(_, seq) => {
                    let mail = self.mail.take_event(self.receives.name(seq)?)?;
                    self.taken.push(mail.clone());
                    let Message::Event { payload, .. } = &mail.message else { return None };
                    return Some(Delivery { seq, result: Ok(payload.clone()), sends: Vec::new() });
                }
            }
        }
    }
}
