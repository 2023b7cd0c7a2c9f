//! Hints: datagrams between workers and clients that say where to look.
//!
//! A hint carries no data and no authority: the receiver only looks earlier at what it would look
//! at anyway. So a hint may be lost, forged or sent twice, and nothing is encrypted.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::store::postgres::WorkerState;

/// The first bytes of a hint.
const MARK: &[u8; 4] = b"dur1";
/// The time after which the thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(500);

/// Something that a receiver should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Something was sent to a partition of the receiver.
    Mail,
    /// The owners of partitions have changed.
    Owners,
    /// Activities are offered to all workers.
    Tasks,
}

impl Hint {
    fn byte(self) -> u8 {
        match self {
            Hint::Mail => 1,
            Hint::Owners => 2,
            Hint::Tasks => 3,
        }
    }

    fn read(bytes: &[u8]) -> Option<Hint> {
        match bytes.strip_prefix(MARK)? {
            [1] => Some(Hint::Mail),
            [2] => Some(Hint::Owners),
            [3] => Some(Hint::Tasks),
            _ => None,
        }
    }
}

/// A socket that sends hints, and may receive them.
#[derive(Clone)]
pub(super) struct Hints {
    socket: Arc<UdpSocket>,
    ends: Arc<AtomicBool>,
}

impl Hints {
    /// Binds a socket. Port 0 takes any free port.
    pub fn open(address: SocketAddr) -> io::Result<Hints> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(Hints { socket: Arc::new(socket), ends: Arc::default() })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a hint. A failure only means that the receiver looks later.
    pub fn send(&self, to: SocketAddr, hint: Hint) {
        let mut bytes = MARK.to_vec();
        bytes.push(hint.byte());
        let _ = self.socket.send_to(&bytes, to);
    }

    /// Sends a hint to workers, as far as they are alive.
    pub fn tell<'a>(&self, workers: impl IntoIterator<Item = &'a WorkerState>, hint: Hint) {
        for address in workers.into_iter().filter_map(WorkerState::reached_at) {
            self.send(address, hint);
        }
    }

    /// Passes hints on, on a thread of its own, until [`Hints::end`].
    pub fn listen(&self, take: impl Fn(Hint) + Send + 'static) -> io::Result<()> {
        let hints = self.clone();
        let listen = move || {
            let mut bytes = [0; 16];
            while !hints.ends.load(Ordering::Acquire) {
                match hints.socket.recv_from(&mut bytes) {
                    Ok((length, _)) => {
                        if let Some(hint) = Hint::read(&bytes[..length]) {
                            take(hint);
                        }
                    }
                    Err(error) if is_pause(&error) => {}
                    // The address of an earlier hint can't be reached, for example.
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        };
        thread::Builder::new().name("hints".into()).spawn(listen)?;
        Ok(())
    }

    pub fn end(&self) {
        self.ends.store(true, Ordering::Release);
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn hints_arrive_and_noise_is_ignored() {
        let local: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let (one, other) = (Hints::open(local).expect("a socket"), Hints::open(local).expect("a socket"));
        let (sender, taken) = channel();
        let listening = other.listen(move |hint| {
            let _ = sender.send(hint);
        });
        listening.expect("a thread");
        let to = other.address().expect("an address");
        for noise in [&b""[..], b"dur1", b"dur1\x09", b"dur1\x01\x01", b"GET / HTTP/1.1"] {
            one.socket.send_to(noise, to).expect("sent");
        }
        one.send(to, Hint::Owners);
        one.send(to, Hint::Mail);
        assert_eq!((taken.recv(), taken.recv()), (Ok(Hint::Owners), Ok(Hint::Mail)));
        other.end();
    }
}
