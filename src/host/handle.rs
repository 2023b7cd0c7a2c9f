//! The access of other threads to the host.

use std::sync::mpsc::Sender;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot::{Receiver, channel};

use crate::kv::Arrival;

use super::{Answer, Command, FromGuest, Message, Reply};

/// The means to send commands to a host, and to stop it. Clones reach the same host.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: Sender<Message>,
    /// The number of commands that wait.
    queue: Gauge,
}

impl Handle {
    pub(super) fn new(sender: Sender<Message>, queue: Gauge) -> Handle {
        Handle { sender, queue }
    }

    /// Returns a handle whose messages come to the receiver.
    pub(crate) fn channel() -> (Handle, std::sync::mpsc::Receiver<Message>) {
        let (sender, messages) = std::sync::mpsc::channel();
        (Handle { sender, queue: Gauge::default() }, messages)
    }

    /// Passes a command on, with the receiver of its reply.
    pub(crate) fn pass(&self, command: Command, reply: Answer) {
        self.queue.inc();
        let _ = self.sender.send(Message::Client { command, reply });
    }

    /// Sends a command. The reply comes when it is durable. The receiver gets an error if the host
    /// has ended.
    pub fn ask(&self, command: Command) -> Receiver<Reply> {
        let (reply, answer) = channel();
        self.queue.inc();
        // A host that has ended drops the command, which the receiver sees.
        let _ = self.sender.send(Message::Client { command, reply: Answer::Here(reply) });
        answer
    }

    /// Passes on something that was sent to the host's partition. Each arrival is passed on once.
    pub fn arrive(&self, arrival: Arrival) {
        let _ = self.sender.send(Message::Arrival(arrival));
    }

    /// Passes on the message of a guest.
    pub(crate) fn tell(&self, message: FromGuest) {
        let _ = self.sender.send(Message::Guest(message));
    }

    /// Makes the loop check again whether the condition of its caller holds.
    pub fn wake(&self) {
        let _ = self.sender.send(Message::Wake);
    }

    /// Asks the host to stop between two steps.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Interrupt);
    }
}
