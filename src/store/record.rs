//! The record of a store's commits: what it must hold, and what undoes its last batch.
//!
//! Its bytes are the format as four bytes, a checksum of the rest as eight, and the rest: the number of commits, the sum after
//! them, the sum of what the last batch puts, and that batch's keys with the values that they had before.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::internal::sure;
use crate::kv::StoreError;

use super::change::shared;

/// The format of stores that this version writes. The two before differ in what the engine keeps in them, and their
/// records are read as those of this one.
pub const FORMAT: u32 = 5;

/// The first format whose records have what undoes a batch.
pub(super) const UNDOES: u32 = 3;

/// A key, and its value if it has one.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// What a store must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// How many batches were committed.
    pub commits: u64,
    /// The sum of everything that it holds.
    pub sum: u128,
}

/// The last batch, as the record that went before it tells of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Last {
    /// The sum of what it puts.
    pub added: u128,
    /// Its keys, each with the value that it had before.
    pub before: Vec<Write>,
}

/// What the sum is made of: a hash of a key with its value.
pub(super) fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

/// A write in a list of them: how many bytes its key shares with the one before, the others, and the value.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    shared: usize,
    #[serde(borrow)]
    rest: &'a [u8],
    #[serde(borrow)]
    value: Option<&'a [u8]>,
}

/// The bytes of a record, before a batch that puts values of the sum `added`; `before` are its keys with the values that they
/// have.
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

/// The bytes of numbers.
pub(super) fn bytes(numbers: &impl Serialize) -> Vec<u8> {
    sure(postcard::to_stdvec(numbers), "writing to memory does not fail")
}

/// The format of a record's bytes, and what its checksum stands for.
pub(super) fn format_and_body(bytes: &[u8]) -> Result<(u32, &[u8]), StoreError> {
    let (format, body) = bytes.split_first_chunk::<4>().ok_or_else(unreadable)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Err(StoreError::Newer { found: format, known: FORMAT });
    }
    Ok((format, checked(body).ok_or_else(unreadable)?))
}

/// What a body of this format says.
pub(super) fn decode(body: &[u8]) -> Result<(Record, Last), StoreError> {
    let read = || {
        let ((commits, sum, added), rest) =
            postcard::take_from_bytes::<(u64, [u8; 16], [u8; 16])>(body).ok()?;
        let record = Record { commits, sum: u128::from_le_bytes(sum) };
        Some((record, Last { added: u128::from_le_bytes(added), before: unpack(rest)? }))
    };
    read().ok_or_else(unreadable)
}

/// The writes of such bytes; none when they are something else.
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

/// What comes after the checksum of it.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (check, body) = bytes.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*check) == xxh3_64(body)).then_some(body)
}

pub(super) fn unreadable() -> StoreError {
    StoreError::Damaged { what: "the record of its commits is not readable".into() }
}
