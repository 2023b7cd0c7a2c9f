//! The host, as other threads of its process reach it.

use std::sync::mpsc::Sender;

use tokio::sync::oneshot::{Receiver, channel};

use super::{Command, Message, Reply};

/// Asks a host, and stops it. Clones reach the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    sender: Sender<Message>,
}

impl Handle {
    pub(super) fn new(sender: Sender<Message>) -> Handle {
        Handle { sender }
    }

    /// Has a command carried out. The reply comes when it is durable; an error instead when the host has ended.
    pub fn ask(&self, command: Command) -> Receiver<Reply> {
        let (reply, answer) = channel();
        // A host that has ended drops the question, which is what the receiver sees.
        let _ = self.sender.send(Message::Client { command, reply });
        answer
    }

    /// Lets who runs the host look again whether what it waits for is so.
    pub fn wake(&self) {
        let _ = self.sender.send(Message::Wake);
    }

    /// Asks the host to stop between two steps.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Interrupt);
    }
}
