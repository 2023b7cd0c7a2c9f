//! The record of a store's commits: what the store must hold, and what undoes its last batch.
//!
//! A record consists of the format (four bytes), a checksum of the rest (eight bytes), and the
//! rest: the number of commits, the sum after them, the sum of the pairs that the last batch puts,
//! and the keys of that batch with their earlier values.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::internal::sure;
use crate::kv::StoreError;

use super::change::shared;

/// The format of stores that this version writes. The two formats before differ in what the engine
/// keeps in a store; their records are the same.
pub const FORMAT: u32 = 5;

/// The first format whose records can undo a batch.
pub(super) const UNDOES: u32 = 3;

/// A key with its value, or `None` if it has no value.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// The required contents of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The number of committed batches.
    pub commits: u64,
    /// The sum of everything that the store holds.
    pub sum: u128,
}

/// The last batch, as described by the record that was written before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Last {
    /// The sum of the pairs that the batch puts.
    pub added: u128,
    /// The keys of the batch, each with its earlier value.
    pub before: Vec<Write>,
}

/// Returns the hash of a key with its value, which the sum adds up.
pub(super) fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

/// A write as it is stored in a list: the number of bytes that its key shares with the key before,
/// the rest of the key, and the value.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    shared: usize,
    #[serde(borrow)]
    rest: &'a [u8],
    #[serde(borrow)]
    value: Option<&'a [u8]>,
}

/// Encodes a record, which is written before its batch. The batch puts pairs of the sum `added`,
/// and `before` has its keys with their present values.
pub(super) fn encode<'a>(
    record: Record,
    added: u128,
    before: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Vec<u8> {
    let numbers = (record.commits, record.sum.to_le_bytes(), added.to_le_bytes());
    let mut body = bytes(&numbers);
    let mut last: &[u8] = &[];
    for (key, value) in before {
        let shared = shared(last, key);
        let packed = Packed { shared, rest: &key[shared..], value };
        body = sure(postcard::to_extend(&packed, body), "writing to memory does not fail");
        last = key;
    }
    [&FORMAT.to_le_bytes()[..], &xxh3_64(&body).to_le_bytes(), &body].concat()
}

/// Returns the encoded form of numbers.
pub(super) fn bytes(numbers: &impl Serialize) -> Vec<u8> {
    sure(postcard::to_stdvec(numbers), "writing to memory does not fail")
}

/// Splits the bytes of a record into the format and the body, and checks the body against its
/// checksum.
pub(super) fn format_and_body(bytes: &[u8]) -> Result<(u32, &[u8]), StoreError> {
    let (format, body) = bytes.split_first_chunk::<4>().ok_or_else(unreadable)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Err(StoreError::Newer { found: format, known: FORMAT });
    }
    Ok((format, checked(body).ok_or_else(unreadable)?))
}

/// Decodes a record's body of this format.
pub(super) fn decode(body: &[u8]) -> Result<(Record, Last), StoreError> {
    let read = || {
        let ((commits, sum, added), rest) =
            postcard::take_from_bytes::<(u64, [u8; 16], [u8; 16])>(body).ok()?;
        let record = Record { commits, sum: u128::from_le_bytes(sum) };
        Some((record, Last { added: u128::from_le_bytes(added), before: unpack(rest)? }))
    };
    read().ok_or_else(unreadable)
}

/// Decodes a list of writes; returns `None` if the bytes are not such a list.
pub(super) fn unpack(mut bytes: &[u8]) -> Option<Vec<Write>> {
    let mut writes: Vec<Write> = Vec::new();
    while !bytes.is_empty() {
        let (packed, rest) = postcard::take_from_bytes::<Packed<'_>>(bytes).ok()?;
        let before = writes.last().map_or(&[][..], |(key, _)| key);
        let key = [before.get(..packed.shared)?, packed.rest].concat();
        writes.push((key, packed.value.map(<[u8]>::to_vec)));
        bytes = rest;
    }
    Some(writes)
}

/// Returns the bytes after a checksum, or `None` if they do not fit the checksum.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (check, body) = bytes.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*check) == xxh3_64(body)).then_some(body)
}

pub(super) fn unreadable() -> StoreError {
    StoreError::Damaged { what: "the record of its commits is not readable".into() }
}
