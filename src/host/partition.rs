//! The host of one of several partitions: what others send to it, and whether it may act.

use crate::engine::{Event, Incoming, Placement};
use crate::kv::{Arrival, Source};

use super::command::{Command, Reply};
use super::settings::HostError;
use super::{Answer, Host, Lease};

impl Host {
    /// Makes the store one of several partitions. Call this first.
    pub fn place(&mut self, placement: Placement) {
        self.engine.placement = Some(placement);
    }

    /// Whether outputs may leave: another process may have the store by now if the lease is over.
    pub(super) fn may_act(&self) -> bool {
        self.settings.lease.as_ref().is_none_or(Lease::holds)
    }

    /// Whether another partition carries a command out, since partitions were split.
    fn is_elsewhere(&self, command: &Command) -> bool {
        let concerns = command.concerns();
        self.engine.placement.as_ref().zip(concerns).is_some_and(|(placement, at)| !placement.has(&at))
    }

    /// Takes in something that was sent to the partition of this host.
    pub(super) fn arrival(&mut self, arrival: Arrival) -> Result<(), HostError> {
        match arrival.receipt.source {
            Source::Partition(_) => self.feed(Event::Arrive { incoming: Incoming::read(&arrival)? }),
            Source::Client => {
                let to = Answer::Stored(arrival.receipt);
                match Command::from_stored(&arrival.body) {
                    Some(command) if self.is_elsewhere(&command) => self.serving().reply(to, Reply::Moved),
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
}
