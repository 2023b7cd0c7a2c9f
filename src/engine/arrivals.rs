//! What waits for an instance, and the order in which it is taken in.
//!
//! What the engine does itself is answered in the turn that asked. Everything else has come at a time ([`Came`]), and is taken in
//! the order of these times.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Data, ErrorData, Request, RequestKind, format};

use super::fault::{self, Fault};
use super::mailbox::Mailbox;
use super::message::{Came, Mail, Message};
use super::open::Requests;
use super::outbox::{Line, answered, is_line};
use super::receives::Receives;
use super::record::InstanceRecord;

/// An answer that has come, and what an activity sent with it.
#[derive(Clone)]
pub(super) struct Delivery {
    pub seq: u64,
    pub result: Result<Data, ErrorData>,
    pub sends: Vec<Request>,
}

/// What has come for an instance, and which of its requests it may be for.
///
/// Invariant: `receives` and `lines` have requests that are open, and no two answers of the process have come at the same
/// place.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Requests that wait for an event.
    receives: Receives,
    /// Requests for a line. They are answered at once.
    lines: VecDeque<u64>,
    /// Requests that the engine itself has seen to: their answers are part of the turn that asked.
    at_once: VecDeque<u64>,
    /// Answers of this process, in the order in which they are taken in.
    inbox: BTreeMap<Came, Delivery>,
    /// How many there were.
    delivered: u64,
    pub mail: Mailbox,
    /// Mail that was taken in since the engine last asked.
    pub taken: Vec<Rc<Mail>>,
}

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

impl Arrivals {
    /// What comes for the execution after this one: mail, and nothing that was for a request.
    pub fn continued(self) -> Arrivals {
        Arrivals { mail: self.mail, taken: self.taken, ..Arrivals::default() }
    }

    /// The same has come for an instance that is replayed in the place of this one.
    pub fn copy_to(&self, into: &mut Arrivals) {
        into.mail = self.mail.clone();
        (into.inbox, into.delivered) = (self.inbox.clone(), self.delivered);
        into.at_once = self.at_once.clone();
    }

    // ---- requests

    /// A request may be answered by what comes; whether it is for a line, which the engine does not see to.
    pub fn expect(&mut self, request: &Request) -> bool {
        if request.what == RequestKind::Effect(Effect::Receive) {
            self.receives.insert(request.seq, first_text(&request.args));
        }
        let is_line = is_line(&request.what);
        if is_line {
            self.lines.push_back(request.seq);
        }
        is_line
    }

    /// Whether a request is for a line that has no answer yet.
    pub fn is_for_a_line(&self, seq: u64) -> bool {
        self.lines.contains(&seq)
    }

    /// A request has its answer.
    pub fn answered(&mut self, seq: u64) {
        self.receives.remove(seq);
    }

    /// A request has its answer of the past, or nobody waits for it any more.
    pub fn forget(&mut self, seq: u64) {
        self.receives.remove(seq);
        self.lines.retain(|known| *known != seq);
    }

    // ---- what comes

    /// An answer has come at a time; it is taken in when it is its turn. An activity may have sent something.
    pub fn deliver(&mut self, seq: u64, result: Result<Data, ErrorData>, sends: Vec<Request>, time: i64) {
        let came = Came { time, is_mail: false, number: self.delivered };
        self.delivered += 1;
        let before = self.inbox.insert(came, Delivery { seq, result, sends });
        debug_assert!(before.is_none(), "two answers have come at one place");
    }

    /// What a request asked for is done, in the turn in which it was made.
    pub fn deliver_at_once(&mut self, seq: u64) {
        self.at_once.push_back(seq);
    }

    /// Takes the answers of the process that were not taken in.
    pub fn take_inbox(&mut self) -> BTreeMap<Came, Delivery> {
        std::mem::take(&mut self.inbox)
    }

    /// Whether an answer of the process is there.
    pub fn has_delivered(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether something is there that the process alone has, and that is gone if the instance is read again.
    pub fn is_in_memory_alone(&self) -> bool {
        !self.inbox.is_empty() || !self.at_once.is_empty()
    }

    /// Whether lines are to be answered first of all.
    pub fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether an answer is there that would be taken in, or what ends the instance or holds it up.
    pub fn has_answer(&self) -> bool {
        !self.inbox.is_empty()
            || !self.at_once.is_empty()
            || !self.lines.is_empty()
            || !self.mail.answers.is_empty()
            || !self.mail.control.is_empty()
            || self.receives.first_event(&self.mail).is_some()
    }

    /// Whether what ends the instance or holds it up comes before everything else that waits.
    pub fn is_control_first(&self) -> bool {
        let Some(control) = self.mail.control.front() else { return true };
        let is_first = self.first().is_none_or(|first| control.came() < first.came());
        self.at_once.is_empty() && self.lines.is_empty() && is_first
    }

    /// What of all that waits came first, but for what ends the instance or holds it up.
    fn first(&self) -> Option<First> {
        let delivered = self.inbox.first_key_value().map(|(came, _)| First::Delivered(*came));
        let answer = self.mail.answers.front().map(|mail| First::Answer(mail.came()));
        let event = self.receives.first_event(&self.mail).map(|(came, seq)| First::Event(came, seq));
        if event.is_some() && fault::is_in(Fault::EventsBeforeTimers) {
            return event;
        }
        [delivered, answer, event].into_iter().flatten().min_by_key(First::came)
    }

    /// The next answer: of what is done at once, else the first of all that has come. Of a line the answer is that it
    /// leaves, so it is put with the others that do.
    pub fn next_answer(
        &mut self,
        record: &InstanceRecord,
        open: &Requests,
        leaving: &mut Vec<Line>,
    ) -> Option<Delivery> {
        if let Some(seq) = self.lines.pop_front() {
            let line = Line::of_request(&open.get(&seq)?.request)?;
            let result = line.map(|line| leaving.push(line)).and_then(|()| answered());
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
                        && (*life == record.life || fault::is_in(Fault::AnswersReachOtherLives))
                        && *execution == record.execution
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

/// The first of a list of arguments, as text.
pub(super) fn first_text(args: &Data) -> String {
    args.items().first().map(format::display).unwrap_or_default()
}
