//! The answers and messages that wait for an instance, and the order in which it takes them in.
//!
//! The engine answers its own requests in the turn that made them. Everything else came at a time
//! ([`Came`]), and is taken in in the order of these times.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::builtins::Effect;
use crate::machine::{Cancellation, Data, ErrorData, Request, RequestKind, format};

use super::entry::Postmark;
use super::fault::{self, Fault};
use super::inbox::Inbox;
use super::mailbox::Mailbox;
use super::message::{Came, Mail, Message};
use super::open::Requests;
use super::outbox::{Line, answered, is_line};
use super::receives::Receives;
use super::record::InstanceRecord;

/// An answer that has come, with the requests that an activity sent.
#[derive(Clone)]
pub(super) struct Delivery {
    pub seq: u64,
    pub result: Result<Data, ErrorData>,
    pub sends: Vec<Request>,
    /// The place of the message that brought the answer; `None` for an answer of the process.
    pub came: Option<Postmark>,
}

/// Everything that has come for an instance, and the requests that it may answer.
///
/// Invariant: the requests in `receives` and `lines` are open. No two answers of the process have
/// come at the same place in the order.
#[derive(Default)]
pub(super) struct Arrivals {
    /// The requests that wait for an event.
    receives: Receives,
    /// The requests for a line, which are answered at once.
    lines: VecDeque<u64>,
    /// The requests that the engine itself has carried out. Their answers are part of the turn that
    /// asked.
    at_once: VecDeque<u64>,
    /// The answers of this process, in the order in which they are taken in.
    inbox: Inbox<Delivery>,
    /// The number of answers that this process has delivered so far.
    delivered: u64,
    pub mail: Mailbox,
    /// The mail that was taken in since the engine last asked.
    pub taken: Vec<Rc<Mail>>,
}

/// An arrival that an instance takes in.
pub(super) enum Arrival {
    Answer(Delivery),
    Cancellation(Box<Cancellation>),
}

/// The first of all arrivals for an instance.
enum First {
    Delivered(Came),
    Answer(Came),
    Cancel(Came),
    /// An event, and the request that takes it.
    Event(Came, u64),
}

impl First {
    fn came(&self) -> Came {
        match self {
            First::Delivered(came) | First::Answer(came) | First::Cancel(came) | First::Event(came, _) => {
                *came
            }
        }
    }
}

impl Arrivals {
    /// Returns the arrivals for the next execution: the mail, and nothing that was for a request.
    pub fn continued(self) -> Arrivals {
        Arrivals { mail: self.mail, taken: self.taken, ..Arrivals::default() }
    }

    /// Copies the arrivals to an instance that is replayed in the place of this one.
    pub fn copy_to(&self, into: &mut Arrivals) {
        into.mail = self.mail.clone();
        (into.inbox, into.delivered) = (self.inbox.clone(), self.delivered);
        into.at_once = self.at_once.clone();
    }

    // ---- requests

    /// Notes a new request that an arrival may answer. Returns whether it is for a line, which the
    /// engine does not dispatch.
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

    /// Notes that a request has its answer.
    pub fn answered(&mut self, seq: u64) {
        self.receives.remove(seq);
    }

    /// Forgets a request that history answers, or whose answer nobody waits for any more.
    pub fn forget(&mut self, seq: u64) {
        self.receives.remove(seq);
        self.lines.retain(|known| *known != seq);
    }

    // ---- arrivals

    /// Adds an answer that came at a time, with the requests that an activity sent. The instance
    /// takes it in in the order of arrivals.
    pub fn deliver(&mut self, seq: u64, result: Result<Data, ErrorData>, sends: Vec<Request>, time: i64) {
        let came = Came { time, is_mail: false, number: self.delivered };
        self.delivered += 1;
        self.inbox.insert(came, Delivery { seq, result, sends, came: None });
    }

    /// Notes that a request is done in the turn that made it.
    pub fn deliver_at_once(&mut self, seq: u64) {
        self.at_once.push_back(seq);
    }

    /// Takes the answers of the process that the instance has not taken in.
    pub fn take_inbox(&mut self) -> Vec<(Came, Delivery)> {
        self.inbox.take()
    }

    /// Whether an answer of the process waits.
    pub fn has_delivered(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Whether an arrival exists in this process alone. It would be lost if the instance were read
    /// from the store again.
    pub fn is_in_memory_alone(&self) -> bool {
        !self.inbox.is_empty() || !self.at_once.is_empty()
    }

    /// Whether requests for lines wait, which are answered first of all.
    pub fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether something waits to be taken in: an answer, an event, or a message that cancels, ends
    /// or suspends the instance.
    pub fn has_answer(&self) -> bool {
        !self.inbox.is_empty()
            || !self.at_once.is_empty()
            || !self.lines.is_empty()
            || !self.mail.answers.is_empty()
            || !self.mail.cancels.is_empty()
            || !self.mail.control.is_empty()
            || self.receives.first_event(&self.mail).is_some()
    }

    /// Whether the first message that ends or suspends the instance comes before everything else
    /// that waits, or there is no such message.
    pub fn is_control_first(&self) -> bool {
        let Some(control) = self.mail.control.front() else { return true };
        let is_first = self.first().is_none_or(|first| control.came() < first.came());
        self.at_once.is_empty() && self.lines.is_empty() && is_first
    }

    /// Whether the next arrival to take in is a cancellation.
    pub fn is_cancellation_next(&self) -> bool {
        let waits_for_others = self.at_once.is_empty() && self.lines.is_empty();
        waits_for_others && matches!(self.first(), Some(First::Cancel(_)))
    }

    /// Returns the first of all arrivals, except messages that end or suspend the instance.
    fn first(&self) -> Option<First> {
        let delivered = self.inbox.first().map(First::Delivered);
        let answer = self.mail.answers.front().map(|mail| First::Answer(mail.came()));
        let event = self.receives.first_event(&self.mail).map(|(came, seq)| First::Event(came, seq));
        if event.is_some() && fault::is_in(Fault::EventsBeforeTimers) {
            return event;
        }
        let cancel = self.mail.cancels.front().map(|mail| First::Cancel(mail.came()));
        earlier(earlier(delivered, answer), earlier(cancel, event))
    }

    /// Takes the next arrival: the answer of a line, else that of a request done at once, else the
    /// first of all arrivals. The answer to a line says that the line leaves, so the line joins
    /// `leaving`.
    pub fn next(
        &mut self,
        record: &InstanceRecord,
        open: &Requests,
        leaving: &mut Vec<Line>,
    ) -> Option<Arrival> {
        let answer =
            |seq, result, came| Some(Arrival::Answer(Delivery { seq, result, sends: Vec::new(), came }));
        if let Some(seq) = self.lines.pop_front() {
            let line = Line::of_request(&open.get(&seq)?.request)?;
            let result = line.map(|line| leaving.push(line)).and_then(|()| answered());
            return answer(seq, result, None);
        }
        if let Some(seq) = self.at_once.pop_front() {
            return answer(seq, Ok(Data::null()), None);
        }
        loop {
            match self.first()? {
                First::Delivered(_) => return self.inbox.pop_first().map(Arrival::Answer),
                First::Answer(_) => {
                    let mail = self.mail.answers.pop_front()?;
                    self.taken.push(mail.clone());
                    if let Message::Answer { life, execution, seq, result } = &mail.message
                        && (*life == record.life || fault::is_in(Fault::AnswersReachOtherLives))
                        && *execution == record.execution
                    {
                        return answer(*seq, result.clone(), Some(mail.postmark()));
                    }
                }
                First::Cancel(_) => {
                    let mail = self.mail.cancels.pop_front()?;
                    self.taken.push(mail.clone());
                    if let Message::Cancel { what, of } = &mail.message
                        && (of.is_none() || *of == record.parent)
                    {
                        return Some(Arrival::Cancellation(what.clone()));
                    }
                }
                First::Event(_, seq) => {
                    let mail = self.mail.take_event(self.receives.name(seq)?)?;
                    self.taken.push(mail.clone());
                    let Message::Event { payload, .. } = &mail.message else { return None };
                    return answer(seq, Ok(payload.clone()), Some(mail.postmark()));
                }
            }
        }
    }
}

/// Returns the earlier of two arrivals.
fn earlier(one: Option<First>, other: Option<First>) -> Option<First> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.came() < one.came() { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Returns the first of a list of arguments, as text.
pub(super) fn first_text(args: &Data) -> String {
    args.items().first().map(format::display).unwrap_or_default()
}
