//! Verification that a store has everything that was written, and that every history can be read.

use crate::api::{Queries, QueryError};
use crate::engine::query::InstanceFilter;
use crate::store::DiskStore;

use super::error::ArchiveError;

/// The outcome of a verification.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    pub instances: u64,
    pub keys: u64,
    pub bytes: u64,
    /// The error of each history that can't be read.
    pub unreadable: Vec<QueryError>,
}

/// Adds up the digest of a store, and reads the history of every instance.
pub fn verify(store: &DiskStore) -> Result<Verification, ArchiveError> {
    let report = store.verify()?;
    let mut verified =
        Verification { instances: 0, keys: report.keys, bytes: report.bytes, unreadable: Vec::new() };
    store.each_instances(&InstanceFilter::default(), &mut |page, _| {
        for record in page {
            verified.instances += 1;
            verified.unreadable.extend(store.history(&record.id).err());
        }
        true
    })?;
    Ok(verified)
}
