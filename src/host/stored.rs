//! The form in which commands, replies and offers are stored for other processes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the form. Processes of other versions do not understand what is stored.
pub const STORED_VERSION: u32 = 1;

pub(super) fn stored(value: &impl Serialize) -> Vec<u8> {
    let bytes = postcard::to_extend(value, STORED_VERSION.to_le_bytes().to_vec());
    crate::internal::sure(bytes, "writing to memory does not fail")
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (version, rest) = bytes.split_first_chunk::<4>()?;
    let is_known = u32::from_le_bytes(*version) == STORED_VERSION;
    is_known.then(|| postcard::from_bytes(rest).ok()).flatten()
}
