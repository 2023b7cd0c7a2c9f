//! The place where output appears: this process's terminal, or the guest of a root.
//!
//! Invariant: output of a root that has a guest does not appear here. What the guest leaves does,
//! once.

use std::sync::Arc;

use crate::builtins::Effect;
use crate::engine::{Address, Ending, Event, Line, StepId, read_record};
use crate::machine::{Data, ErrorData, format};

use super::effect_call::{EffectCall, Owner};
use super::guests::{FromGuest, GuestDesk, Left};
use super::outgoing::Writing;
use super::run::Host;
use super::running::Running;
use super::settings::HostError;

/// A line, or the error that there is none.
type WrittenLine = Result<Line, ErrorData>;
/// A line that no guest shows.
type Returned = Option<(Writing, WrittenLine)>;

impl Host {
    /// Returns the desk of the guests, for the threads of clients.
    pub fn guest_desk(&self) -> GuestDesk {
        self.guests.desk()
    }

    /// Hands a line to the guest that shows it. Gives back a line that is to appear here, and an
    /// error in its place.
    pub(super) fn write_for_guest(
        &mut self,
        writing: Writing,
        line: WrittenLine,
    ) -> Result<Returned, HostError> {
        let line = match line {
            Ok(line) => line,
            error => return Ok(Some((writing, error))),
        };
        let Some(root) = self.root_with_guest(&writing)? else { return Ok(Some((writing, Ok(line)))) };
        if let Some(left) = self.guests.show(&root, writing, line) {
            let text =
                format!("{root} prints faster than its terminal shows: what is not shown there follows");
            self.terminal.log("warn", &text);
            self.takes_over(left)?;
        }
        Ok(None)
    }

    /// Tells the guest of an instance how the instance ended. Returns whether there is a guest.
    pub(super) fn end_of_guest(&mut self, instance: &str, ending: &Ending) -> bool {
        let why = match ending {
            Ending::Nondeterminism(_) => {
                Some(format!("nondeterminism: {instance} does not do what its history holds"))
            }
            Ending::Incompatible(reason) => Some(format!("{instance} can't go on: {reason}")),
            _ => None,
        };
        self.guests.end(instance, why)
    }

    /// Has a guest carry out an effect that reads input. Gives other effects back.
    pub(super) fn input_of_guest(&mut self, call: EffectCall) -> Result<Option<EffectCall>, HostError> {
        if call.effect != Effect::Input || self.guests.is_empty() {
            return Ok(Some(call));
        }
        let Some(root) = self.root_of(&call.owner)?.filter(|root| self.guests.has(root)) else {
            return Ok(Some(call));
        };
        let prompt = call.args.items().first().map(format::display).unwrap_or_default();
        let ticket = self.performers.ticket();
        match self.guests.input(&root, ticket, prompt) {
            Some(line) => {
                let answered = self.performers.answer(call.owner, line);
                self.answer(answered);
            }
            None => {
                let running = Running { owner: call.owner, abort: None, reads_input: false };
                self.performers.effects.begin(ticket, running);
            }
        }
        Ok(None)
    }

    /// Handles a message of a guest.
    pub(super) fn guest(&mut self, message: FromGuest) -> Result<(), HostError> {
        match message {
            FromGuest::Confirms { guest, count } => {
                for writing in self.guests.confirmed(&guest, count) {
                    self.is_out(writing);
                }
            }
            FromGuest::Input { guest, ticket, line } => {
                self.guests.has_read(&guest, ticket);
                if self.performers.effects.has(ticket) {
                    let answered = self.performers.done(ticket, line, &mut self.terminal);
                    self.answer(answered);
                } else {
                    self.guests.keep(&guest, line);
                }
            }
            FromGuest::Gone { guest } => {
                let left = self.guests.gone(&guest);
                self.takes_over(left)?;
            }
        }
        Ok(())
    }

    /// Shows what a guest has left.
    fn takes_over(&mut self, left: Left) -> Result<(), HostError> {
        let Left { shown, lines, inputs } = left;
        for (_, line) in &lines {
            self.terminal.line(line).map_err(HostError::Output)?;
        }
        self.terminal.flush().map_err(HostError::Output)?;
        for writing in shown.into_iter().chain(lines.into_iter().map(|(writing, _)| writing)) {
            self.is_out(writing);
        }
        for (ticket, prompt) in inputs {
            if self.performers.effects.has(ticket)
                && let Some(line) = self.terminal.input(ticket, &prompt, &self.performers.messages)
            {
                let answered = self.performers.done(ticket, line, &mut self.terminal);
                self.answer(answered);
            }
        }
        Ok(())
    }

    /// Tells the party that waits for a line that the line is out.
    fn is_out(&mut self, writing: Writing) {
        match writing {
            Writing::Run(run) => self.feed(Event::LinesOut { run, count: 1 }),
            Writing::Effect(owner) => {
                let answered = self.performers.answer(owner, Ok(Data::null()));
                self.answer(answered);
            }
        }
    }

    /// Returns the root of a line, if a guest shows the root's output.
    fn root_with_guest(&mut self, writing: &Writing) -> Result<Option<Arc<str>>, HostError> {
        if self.guests.is_empty() {
            return Ok(None);
        }
        let root = match writing {
            Writing::Run(run) => match self.engine.instance_of_lines(*run) {
                Some(id) => self.root_of_instance(&id)?,
                None => None,
            },
            Writing::Effect(owner) => self.root_of(owner)?,
        };
        Ok(root.filter(|root| self.guests.has(root)))
    }

    /// Returns the root of the instance or the operation that an effect belongs to.
    fn root_of(&mut self, owner: &Owner) -> Result<Option<Arc<str>>, HostError> {
        let step: Option<&StepId> = match owner {
            Owner::Step(step) => Some(step),
            Owner::Activity(ticket) => self.performers.activities.step(*ticket),
        };
        match step.map(|step| step.owner.clone()) {
            Some(Address::Instance(id)) => self.root_of_instance(&id),
            Some(Address::Entity(entity)) => Ok(Some(self.engine.root_of_entity(&entity))),
            None => Ok(None),
        }
    }

    fn root_of_instance(&self, id: &str) -> Result<Option<Arc<str>>, HostError> {
        if let Some(root) = self.engine.root_of(id) {
            return Ok(Some(root));
        }
        let record = read_record(&self.committer.view(), id)?;
        Ok(record.map(|record| Arc::from(record.root.as_str())))
    }
}
