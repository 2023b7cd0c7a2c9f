//! The host of one of several partitions: what others send to it, and whether it may act.

use crate::engine::{Event, Incoming, Placement, StepId, Waiter};
use crate::kv::{Arrival, Receipt, Source};

use super::command::{Command, Reply};
use super::effects::{unique, unknown};
use super::offers::{Attempt, CallOf, Finished, Offer, Offers};
use super::settings::HostError;
use super::workers::Job;
use super::{Answer, Host, Lease, Message};

impl Host {
    /// Makes the store one of several partitions. Call this first.
    pub fn place(&mut self, placement: Placement) {
        self.engine.placement = Some(placement);
    }

    /// Whether outputs may leave: another process may have the store by now if the lease is over.
    pub(super) fn may_act(&self) -> bool {
        self.settings.lease.as_ref().is_none_or(Lease::holds)
    }

    /// Carries a command out. If partitions were split and another one has to, nothing is done, and
    /// the command goes there.
    pub(super) fn command(&mut self, command: Command, to: Answer) -> Result<(), HostError> {
        if !self.is_elsewhere(&command) {
            return self.serving().carry_out(command, to);
        }
        match (&to, &self.settings.router) {
            (Answer::Here(_), Some(router)) => router.pass(command, to),
            _ => self.serving().reply(to, Reply::Moved),
        }
        Ok(())
    }

    /// Gives the commands that have come and were not begun back to the router. Call this when the host
    /// has ended, and nothing more comes.
    pub fn give_back(&mut self) {
        let Some(router) = self.settings.router.clone() else { return };
        while let Ok(message) = self.messages.try_recv() {
            if let Message::Client { command, reply } = message {
                router.pass(command, reply);
            }
        }
    }

    fn is_elsewhere(&self, command: &Command) -> bool {
        let placement = self.engine.placement.as_ref();
        placement.is_some_and(|placement| !command.all_concerned().iter().all(|at| placement.has(at)))
    }

    /// Takes in something that was sent to the partition of this host.
    pub(super) fn arrival(&mut self, arrival: Arrival) -> Result<(), HostError> {
        match arrival.receipt.source {
            Source::Partition(_) => self.feed(Event::Arrive { incoming: Incoming::read(&arrival)? }),
            Source::Client => {
                let to = Answer::Stored(arrival.receipt);
                match Command::from_stored(&arrival.body) {
                    Some(Command::Finish(finished)) => self.finish(arrival.receipt, *finished),
                    Some(command) if self.is_elsewhere(&command) => self.serving().reply(to, Reply::Moved),
                    Some(Command::CallOf(call)) => self.call_of(*call, to),
                    Some(command) => self.serving().carry_out(command, to)?,
                    None => {
                        let reason = "the worker does not understand the client, which is of another version";
                        self.serving().reply(to, Reply::Refused(reason.into()));
                    }
                }
            }
        }
        Ok(())
    }

    // ---- activities that other processes run

    /// Offers an activity that waits for a thread to other processes.
    pub(super) fn offer(&mut self, job: Job) {
        // Nobody waits for an activity that was abandoned.
        let Some(step) = self.performers.activities.offer(job.ticket) else { return };
        let Job { ticket, code, name, args, identity, permissions } = job;
        if let Some(attempt) = Attempt::of(step)
            && let Some(Offers(market)) = &self.settings.offers
        {
            let (program, key) = (code.hash, identity.key);
            market.offer(ticket, Offer { attempt, program, name, args, key, permissions });
        }
    }

    /// Takes the offer of an activity back, if it is offered.
    pub(super) fn withdraw(&mut self, step: &StepId) {
        if let Some(ticket) = self.performers.activities.ticket(step)
            && self.performers.activities.is_offered(ticket)
            && let Some(Offers(market)) = &self.settings.offers
        {
            market.withdraw(ticket);
        }
    }

    /// Takes the result of an activity that another process has run. The batch that stores the
    /// result also consumes the message, so the result is taken once.
    fn finish(&mut self, receipt: Receipt, finished: Finished) {
        self.engine.consumes(receipt);
        // The attempt may have been given up, or its instance may not be in memory yet. Then it is
        // made again.
        let step = finished.attempt.step();
        let Some(ticket) = self.performers.activities.finished(&step) else { return };
        let (result, sends) = match finished.sends() {
            Some(sends) => (finished.result, sends),
            None => (Err(unknown("activity")), Vec::new()),
        };
        if let Some(step) = self.performers.activity_done(ticket, &result) {
            self.feed(Event::Answer { step, result, sends });
        }
    }

    /// Calls an entity for an activity that another process runs.
    fn call_of(&mut self, call: CallOf, to: Answer) {
        let step = call.attempt.step();
        if self.performers.activities.ticket(&step).is_none() {
            return self.serving().reply(to, Reply::Refused("nobody waits for the activity".into()));
        }
        let caller = Waiter::activity(&unique());
        self.performers.activities.distant_call(&caller.instance, to);
        let permissions = self.settings.permissions.and(&call.permissions);
        let CallOf { entity, operation, args, .. } = call;
        self.feed(Event::ActivityCall { caller, step, entity, operation, args, permissions });
    }
}
