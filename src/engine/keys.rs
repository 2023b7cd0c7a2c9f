//! Where things are in a store.
//!
//! | key | value |
//! |---|---|
//! | `i/` id | an [`InstanceRecord`](super::InstanceRecord) |
//! | `h/` id `00` number | a [`Chunk`](super::Chunk) of the instance's history; numbers are eight bytes, big-endian |
//! | `p/` hash | a [`StoredProgram`](super::StoredProgram): names of modules and the hashes of their texts |
//! | `t/` hash | a source text |
//!
//! Keys that begin with `!` are the store's own.

/// Instance ids are at most this long, in bytes.
pub const MAX_ID: usize = 200;

pub const INSTANCES: &[u8] = b"i/";
pub const HISTORY: &[u8] = b"h/";
pub const PROGRAMS: &[u8] = b"p/";
pub const TEXTS: &[u8] = b"t/";

/// Why an id can't be one, if so: ids are 1 to 200 bytes of printable text without spaces.
pub fn bad_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("an id has at least one character")
    } else if id.len() > MAX_ID {
        Some("an id has at most 200 bytes")
    } else if id.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("an id has no spaces and no control characters")
    } else {
        None
    }
}

fn joined(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

pub fn instance(id: &str) -> Vec<u8> {
    joined(INSTANCES, id.as_bytes())
}

/// The prefix of an instance's history.
pub fn history(id: &str) -> Vec<u8> {
    let mut key = joined(HISTORY, id.as_bytes());
    key.push(0);
    key
}

pub fn chunk(id: &str, number: u64) -> Vec<u8> {
    let mut key = history(id);
    key.extend(number.to_be_bytes());
    key
}

/// The instance and number of a chunk's key.
pub fn parse_chunk(key: &[u8]) -> Option<(&str, u64)> {
    let rest = key.strip_prefix(HISTORY)?;
    let (id, number) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
    let id = std::str::from_utf8(id.strip_suffix(&[0])?).ok()?;
    Some((id, u64::from_be_bytes(number.try_into().ok()?)))
}

pub fn program(hash: &[u8; 32]) -> Vec<u8> {
    joined(PROGRAMS, hash)
}

pub fn text(hash: &[u8; 32]) -> Vec<u8> {
    joined(TEXTS, hash)
}
