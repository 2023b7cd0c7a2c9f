//! Verification that a store has everything that was written, and that every history can be read.

use crate::api::{Queries, QueryError};
use crate::engine::query::InstanceFilter;
use crate::kv::Read;
use crate::store::DiskStore;
use crate::store::postgres::Cluster;

use super::error::ArchiveError;

/// The outcome of a verification.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    pub instances: u64,
    pub keys: u64,
    pub bytes: u64,
    /// The error of each history that can't be read.
    pub unreadable: Vec<QueryError>,
    /// What is wrong with the tables of a cluster, in words.
    pub irregular: Vec<String>,
}

/// Adds up the digest of a store, and reads the history of every instance.
pub fn verify(store: &DiskStore) -> Result<Verification, ArchiveError> {
    let report = store.verify()?;
    let mut verified = Verification { keys: report.keys, bytes: report.bytes, ..Verification::default() };
    verified.read_histories(store)?;
    Ok(verified)
}

/// Checks that the tables of a cluster fit its partitions, and reads everything in it. Workers may
/// go on meanwhile: one state of the cluster is read.
pub fn verify_cluster(cluster: &Cluster) -> Result<Verification, ArchiveError> {
    let snapshot = cluster.snapshot()?;
    let mut verified = Verification { irregular: cluster.irregularities()?, ..Verification::default() };
    snapshot.scan(b"", &mut |key, value| {
        verified.keys += 1;
        verified.bytes += (key.len() + value.len()) as u64;
        true
    })?;
    verified.read_histories(&snapshot)?;
    Ok(verified)
}

impl Verification {
    fn read_histories(&mut self, store: &dyn Queries) -> Result<(), ArchiveError> {
        store.each_instances(&InstanceFilter::default(), &mut |page, _| {
            for record in page {
                self.instances += 1;
                self.unreadable.extend(store.history(&record.id).err());
            }
            true
        })?;
        Ok(())
    }
}
