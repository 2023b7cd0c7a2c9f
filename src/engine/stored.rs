//! The bytes of what is stored: a value, with the version of its form before it.
//!
//! Invariant: this module knows no stored thing. Each says by [`Stored`] which forms earlier versions gave it; `before` and
//! `earlier` have these forms.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::internal::sure;

/// The version of the forms that are written.
const VERSION: u8 = 4;
/// The version before.
pub(super) const BEFORE: u8 = 3;
/// The version before that.
pub(super) const EARLIER: u8 = 2;

/// Bytes that most of what is encoded takes no more than.
pub(super) const MOST: usize = 128;

/// A value with the version of its form before it.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(MOST);
    out.push(VERSION);
    append(out, value)
}

/// Something that is stored with its version.
pub(super) trait Stored: DeserializeOwned {
    /// Its form in the version before.
    type Before: DeserializeOwned + Into<Self>;
    /// Its form in the version before that.
    type Earlier: DeserializeOwned + Into<Self>;
}

pub(super) fn decode<T: Stored>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, body) => read(body),
        (&BEFORE, body) => read::<T::Before>(body).map(Into::into),
        (&EARLIER, body) => read::<T::Earlier>(body).map(Into::into),
        _ => None,
    }
}

/// A value after other bytes.
pub(super) fn append<T: Serialize>(out: Vec<u8>, value: &T) -> Vec<u8> {
    sure(postcard::to_extend(value, out), "writing to memory does not fail")
}

/// A value that is all of these bytes.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    take(bytes).and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// What bytes begin with, and the others.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).ok()
}
