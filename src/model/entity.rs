//! An entity: its state, its holder, and the messages that wait for it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::machine::{Data, EntityId};

use super::evaluate::{Done, Evaluator, Moment, Stop};
use super::instance::{Anomaly, Out, reply, send, sent};
use super::message::{EntityName, Mail, Message, Name, Waiter, answer};
use super::part::Part;
use super::program::Mutation;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entity {
    /// The state; `None` before the first change and after a deletion.
    pub state: Option<Part<Data>>,
    pub holder: Option<Waiter>,
    /// The messages that wait for their turn.
    pub queue: VecDeque<Mail>,
    /// The messages that the holder has sent since it holds the entity.
    pub lane: VecDeque<Mail>,
}

impl Entity {
    /// Whether the entity is as new, with no state, holder or messages.
    pub fn is_untouched(&self) -> bool {
        *self == Entity::default()
    }

    /// Takes in a message. A request waits for its turn. The end of a critical section, or of the
    /// wait for one, takes effect at once.
    pub fn arrive(&mut self, mail: &Mail) -> Vec<Out> {
        match &**mail {
            Message::Call { caller, within: true, .. }
                if self.holder.as_ref().is_some_and(|holder| holder.is_of(caller)) =>
            {
                self.lane.push_back(mail.clone());
            }
            Message::Release { owner } => self.release(owner),
            Message::Withdraw { owner, set, at } => {
                let asks = |mail: &Mail| matches!(&**mail, Message::Lock { owner: o, .. } if o == owner);
                if self.queue.iter().any(asks) {
                    // The request has come this far and no further.
                    self.queue.retain(|mail| !asks(mail));
                    return Vec::new();
                }
                self.release(owner);
                return pass_on(set, *at, |set, at| Message::Withdraw { owner: owner.clone(), set, at });
            }
            _ => self.queue.push_back(mail.clone()),
        }
        Vec::new()
    }

    fn release(&mut self, owner: &Waiter) {
        if self.holder.as_ref() == Some(owner) {
            self.holder = None;
            // What the holder sent during the section comes before everything else.
            while let Some(message) = self.lane.pop_back() {
                self.queue.push_front(message);
            }
        }
    }

    /// Returns the message whose turn it is.
    pub fn next(&self) -> Option<&Message> {
        match self.holder {
            Some(_) => self.lane.front().map(|mail| &**mail),
            None => self.queue.front().map(|mail| &**mail),
        }
    }

    fn take(&mut self) -> Option<Mail> {
        match self.holder {
            Some(_) => self.lane.pop_front(),
            None => self.queue.pop_front(),
        }
    }

    /// Gives a critical section's request its turn: the request holds the entity and goes on to the
    /// next.
    pub fn acquire(&mut self) -> Vec<Out> {
        let Some(mail) = self.take() else { return Vec::new() };
        let Message::Lock { owner, set, at } = &*mail else { return Vec::new() };
        self.holder = Some(owner.clone());
        match at + 1 < set.len() {
            true => pass_on(set, *at, |set, at| Message::Lock { owner: owner.clone(), set, at }),
            false => vec![reply(owner, answer(Ok(Data::null())))],
        }
    }

    /// Returns the possible outcomes of the operation whose turn it is.
    pub fn operations(
        &self,
        me: &EntityId,
        evaluator: &mut Evaluator<'_>,
        now: &Moment,
    ) -> Result<std::rc::Rc<Vec<Done>>, Stop> {
        match self.next() {
            Some(
                Message::Call { operation, args, key, .. } | Message::Signal { operation, args, key, .. },
            ) => evaluator.operate(me, operation, args, self.state.as_ref(), key, now),
            _ => Err(Stop::Fault(format!("{me} has no operation to run"))),
        }
    }

    /// Runs the operation whose turn it is, with one of its outcomes. The state, the reply and the
    /// messages take effect together; after an error, only the error does.
    pub fn operate(
        &mut self,
        me: &EntityId,
        done: &Done,
        evaluator: &mut Evaluator<'_>,
    ) -> Result<Vec<Out>, Stop> {
        let Some(mail) = self.take() else { return Ok(Vec::new()) };
        if evaluator.program.mutation == Mutation::OperationStays && self.state.is_none() {
            self.queue.push_front(mail.clone());
        }
        let (Message::Call { key, .. } | Message::Signal { key, .. }) = &*mail else {
            return Err(Stop::Fault(format!("{me} runs {}", *mail)));
        };
        if let Some(state) = &done.state {
            self.state = state.clone();
        }
        let Some(result) = done.result.clone() else { return Ok(Vec::new()) };
        let mut outs = sent(evaluator.program.naming, None, key, &done.sends)?;
        match &*mail {
            Message::Call { caller, .. } => outs.push(reply(caller, result)),
            Message::Signal { operation, .. } if result.is_err() => {
                let what = format!("signal {me}.{operation}");
                outs.push(Out::Anomaly(Anomaly::Lost { what, error: result }));
            }
            _ => {}
        }
        Ok(outs)
    }
}

/// Returns a message for the next entity of a set, if there is one.
fn pass_on(
    set: &Arc<[EntityName]>,
    at: usize,
    message: impl Fn(Arc<[EntityName]>, usize) -> Message,
) -> Vec<Out> {
    let next = set.get(at + 1).cloned();
    let to_next = |next| send(Name::Entity(next), message(set.clone(), at + 1));
    next.map(to_next).into_iter().collect()
}
