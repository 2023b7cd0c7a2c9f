//! The access of other threads to the host.

use std::sync::mpsc::Sender;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot::{Receiver, channel};

use super::{Command, FromGuest, Message, Reply};

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

    /// Sends a command. The reply comes when it is durable. The receiver gets an error if the host
    /// has ended.
    pub fn ask(&self, command: Command) -> Receiver<Reply> {
        let (reply, answer) = channel();
        self.queue.inc();
        // A host that has ended drops the command, which the receiver sees.
        let _ = self.sender.send(Message::Client { command, reply });
        answer
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
