//! Messages on the socket between a client and the process that has the store, in both directions.

use std::fmt::Debug;

use durable::api::{Request, Response, receive, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::memory::within;

/// Receives messages in the direction that the first byte selects.
///
/// Receiving gives a message or an error, and takes no more memory than the bytes allow. A message
/// survives a round trip.
pub fn run(bytes: &[u8]) {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 4 {
        0 => message::<Request>(&framed(bytes)),
        1 => message::<Response>(&framed(bytes)),
        2 => message::<Request>(bytes),
        _ => message::<Response>(bytes),
    }
}

/// Returns bytes with their length in front.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat()
}

fn message<T: Serialize + DeserializeOwned + Debug>(bytes: &[u8]) {
    let mut rest = bytes;
    let most = (1 << 20) + 2_000 * bytes.len();
    // The bytes may hold several messages.
    while let Ok(message) = within(most, || receive::<T>(&mut rest)) {
        let mut sent = Vec::new();
        send(&mut sent, &message).expect("it is short");
        let mut left = &sent[..];
        let again: T = receive(&mut left).expect("what was sent is received");
        assert!(left.is_empty(), "it is longer than it says");
        assert_eq!(format!("{again:?}"), format!("{message:?}"));
        let mut twice = Vec::new();
        send(&mut twice, &again).expect("it is short");
        assert_eq!(twice, sent);
        // A truncated message is an error.
        assert!(receive::<T>(&mut &sent[..sent.len() - 1]).is_err());
    }
}
