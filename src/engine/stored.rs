//! The encoding of stored values: the version of a form, and a value in that form.
//!
//! Invariant: this module knows no stored type. Each type names its forms in earlier versions by
//! [`Stored`]; `before` and `earlier` have these forms.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::internal::sure;

/// The version of the forms that are written.
const VERSION: u8 = 4;
/// The version before.
pub(super) const BEFORE: u8 = 3;
/// The version before that.
pub(super) const EARLIER: u8 = 2;

/// The size in bytes that most encoded values do not exceed.
pub(super) const MOST: usize = 128;

/// Encodes a value, preceded by the version of its form.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(MOST);
    out.push(VERSION);
    append(out, value)
}

/// A type that is stored with its version.
pub(super) trait Stored: DeserializeOwned {
    /// The type's form in the version before.
    type Before: DeserializeOwned + Into<Self>;
    /// The type's form in the version before that.
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

/// Decodes the first part of a value in the form of this version.
pub(super) fn beginning<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, body) => take(body).map(|(value, _)| value),
        _ => None,
    }
}

/// Appends a value to other bytes.
pub(super) fn append<T: Serialize>(out: Vec<u8>, value: &T) -> Vec<u8> {
    sure(postcard::to_extend(value, out), "writing to memory does not fail")
}

/// Decodes a value that takes all of the bytes.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    take(bytes).and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// Decodes a value from the beginning of the bytes, and returns it with the rest.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).ok()
}
