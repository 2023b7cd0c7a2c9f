//! Entry points to the readers of the store's files, for fuzzing alone (`fuzz/`). They take bytes
//! as parts of these files, as if the bytes fitted their checksums.

pub use super::raw::probe as raw;
pub use super::wal::probe as wal;

/// Returns the commits, the sum and the last batch of a record's body, or `None` if the bytes are
/// not a body.
pub fn record(body: &[u8]) -> Option<(u64, u128, wal::Written)> {
    let (record, last) = super::record::decode(body).ok()?;
    Some((record.commits, record.sum, last.before))
}
