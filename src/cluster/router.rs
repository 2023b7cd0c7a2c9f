//! Commands of this process to all partitions: those of partitions that are owned here go to their
//! hosts, and the others through the database.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::Command;
use crate::host::{Answer, Handle, Message, Reply};

use super::client::{Client, ClientError};
use super::postman::Postman;
use super::worker::Worker;

/// The most commands that wait for answers in the database at once.
const MOST: usize = 1024;
/// The time after which a command looks again for room.
const PAUSE: Duration = Duration::from_millis(5);

/// Reaches all partitions of a cluster from this process.
pub struct Router {
    client: Client,
    postman: Postman,
    /// The number of commands that wait for answers in the database.
    waiting: AtomicUsize,
}

impl Router {
    /// Returns a handle for the clients of a worker's process. Call this before [`Worker::run`].
    pub fn begin(client: Client, worker: &mut Worker) -> io::Result<Handle> {
        let (handle, messages) = Handle::channel();
        let (client, postman) = (client.with(worker.owners()), worker.postman());
        let router = Arc::new(Router { client, postman, waiting: AtomicUsize::new(0) });
        let route = move || {
            for message in messages {
                if let Message::Client { command, reply: Answer::Here(reply) } = message {
                    Router::route(&router, command, reply);
                }
            }
        };
        thread::Builder::new().name("router".into()).spawn(route)?;
        worker.route_by(handle.clone());
        Ok(handle)
    }

    fn route(router: &Arc<Router>, command: Command, reply: oneshot::Sender<Reply>) {
        let command = match command {
            several @ (Command::Purge { .. } | Command::Upgrade(_)) => several,
            command => match router.client.placed(command) {
                Ok((to, command)) => match router.postman.handle(to) {
                    Some(host) => return host.pass(command, Answer::Here(reply)),
                    None => command,
                },
                Err(error) => return give(reply, Err(error)),
            },
        };
        while router.waiting.load(Ordering::Acquire) >= MOST {
            thread::sleep(PAUSE);
        }
        router.waiting.fetch_add(1, Ordering::AcqRel);
        let asking = router.clone();
        let ask = move || {
            let answer = asking.client.ask(command);
            asking.waiting.fetch_sub(1, Ordering::AcqRel);
            give(reply, answer);
        };
        if thread::Builder::new().name("command".into()).spawn(ask).is_err() {
            // The asker sees that there is no answer.
            router.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn give(reply: oneshot::Sender<Reply>, answer: Result<Reply, ClientError>) {
    // The asker may be gone.
    let _ = reply.send(answer.unwrap_or_else(|error| Reply::Refused(error.to_string())));
}
