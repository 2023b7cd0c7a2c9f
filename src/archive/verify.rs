//! Verification: everything in a store is read, and is what was written.

use crate::api::{Queries, QueryError};
use crate::engine::query::InstanceFilter;
use crate::store::DiskStore;

use super::error::ArchiveError;

/// What a store has that was read as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    pub instances: u64,
    pub keys: u64,
    pub bytes: u64,
    /// Why histories can't be read, one for each such history.
    pub unreadable: Vec<QueryError>,
}

/// Checks that a store has everything that was written, and reads the history of every instance.
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
