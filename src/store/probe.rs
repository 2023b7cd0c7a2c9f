//! Doors to what reads the store's files, for fuzzing alone (`fuzz/`): bytes go in as parts of these files, as if they fitted their
//! checksums.

pub use super::raw::probe as raw;
pub use super::wal::probe as wal;

/// The commits, the sum and the last batch of a record's body; none when the bytes are no such body.
pub fn record(body: &[u8]) -> Option<(u64, u128, wal::Written)> {
    let (record, last) = super::record::decode(body).ok()?;
    Some((record.commits, record.sum, last.before))
}
