//! The store whose instances are debugged: a folder, the process that has it, a database, or an
//! export.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::api::{Answer, Queries, Query, QueryError};
use crate::archive;
use crate::kv::MemoryTree;
use crate::kv::Store;

use super::super::STORE;
use super::super::access;
use super::super::place;
use super::super::problem::Problem;

/// A store that is only read.
pub struct Target(Box<dyn Queries>);

impl Target {
    /// Opens a folder, the URL of a database, or the file of an export. Nothing in it changes: a store that another process
    /// uses is asked through that process, and one that was left by a crash is only looked at.
    pub fn open(path: &Path) -> Result<Target, Problem> {
        // The beginning of a URL may be the name of a folder here.
        match place::url(path)?.is_none() && path.is_file() {
            true => export(path).map(Target),
            false => access::read(path).map(Target),
        }
    }
}

/// Reads an export into memory.
fn export(path: &Path) -> Result<Box<dyn Queries>, Problem> {
    let file = File::open(path).map_err(|error| {
        let reason = crate::os::reason(&error);
        Problem::new(STORE, format!("{} can't be read: {reason}", path.display()))
    })?;
    let incoming = archive::read(BufReader::new(file))?;
    let mut tree = MemoryTree::default();
    let batch =
        incoming.batch(&tree).map_err(|refusal| Problem::from(archive::ArchiveError::from(refusal)))?;
    tree.commit(&batch)?;
    Ok(Box::new(tree))
}

impl Queries for Target {
    fn query(&self, query: Query) -> Result<Answer, QueryError> {
        self.0.query(query)
    }
}
