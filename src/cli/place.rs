//! The place of a store: a folder, or a database.

use std::path::Path;
use std::time::Duration;

use crate::cluster::{Client, LAYOUT};
use crate::store::postgres::{Cluster, Patience, Url};

use super::USAGE;
use super::problem::{Problem, note};

/// The time for which a command tries to reach the server of the database.
pub const REACH: Duration = Duration::from_secs(5);
/// The usual lease.
pub const LEASE: Duration = Duration::from_secs(10);

/// Returns the URL of a store in a database, or `None` if the store is a folder.
pub fn url(store: &Path) -> Result<Option<Url>, Problem> {
    let Some(text) = store.to_str().filter(|text| Url::is_meant(text)) else { return Ok(None) };
    match Url::parse(text) {
        Ok(url) => Ok(Some(url)),
        Err(bad) => Err(Problem::new(USAGE, bad.to_string())
            .hint("a URL is like postgres://user@host:5432/database?sslmode=verify-full")),
    }
}

/// Opens a cluster for a command.
pub fn open(url: &Url) -> Result<Cluster, Problem> {
    Ok(Cluster::open(url, LAYOUT, &Patience::of(REACH))?)
}

/// Returns a client of a cluster.
pub fn client(url: &Url) -> Result<Client, Problem> {
    Ok(Client::new(open(url)?, note))
}

/// Returns a name of this process for people: the machine, and the number of the process.
pub fn process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}:{}", std::process::id())
}
