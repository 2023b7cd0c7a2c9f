//! `durable store init` and `durable store adopt`: the schema of a cluster, and a restored database.

use std::path::Path;

use crate::cluster::raise;
use crate::store::postgres::{Cluster, Init, Patience, Right, Url};

use super::USAGE;
use super::arguments::{Adopt, InitStore};
use super::place::{self, REACH};
use super::problem::{Problem, note};

/// Reads a URL, which must be one.
fn url(text: &str) -> Result<Url, Problem> {
    let is_none = || {
        Problem::new(USAGE, format!("`{text}` is no URL of a database"))
            .hint("a URL is like postgres://user@host:5432/database")
    };
    place::url(Path::new(text))?.ok_or_else(is_none)
}

/// Warns of settings of the server that put acknowledged data at risk.
pub fn warn(cluster: &Cluster) -> Result<(), Problem> {
    for setting in cluster.risks()? {
        note(&format!(
            "warning: `{setting}` of the server is off: a crash of the server may lose what was acknowledged"
        ));
    }
    Ok(())
}

/// Makes the schema of a cluster, or gives the cluster more partitions, and gives rights to roles.
pub fn init(asked: InitStore) -> Result<u8, Problem> {
    let url = url(&asked.url)?;
    let InitStore { partitions, worker, client, reader, .. } = asked;
    let all = [(Right::Worker, worker), (Right::Client, client), (Right::Reader, reader)];
    let grants = all.into_iter().flat_map(|(right, roles)| roles.into_iter().map(move |role| (right, role)));
    let grants: Vec<(Right, String)> = grants.collect();
    let made = Cluster::init(&url, &Init { partitions, grants: grants.clone() }, &Patience::of(REACH))?;
    let of = |count| if count == 1 { "1 partition".to_string() } else { format!("{count} partitions") };
    let known = made.about.partitions;
    note(&match partitions.filter(|wanted| *wanted > known) {
        Some(wanted) => {
            let raised = raise(&place::open(&url)?, wanted)?;
            format!("the store in {url} has {} now, after {}", of(raised.now), raised.before)
        }
        None if made.was_there => format!("{url} has a store of {} already", of(known)),
        None => format!("made a store of {} in {url}", of(known)),
    });
    for (right, role) in grants {
        let what = match right {
            Right::Worker => "workers",
            Right::Client => "clients",
            Right::Reader => "readers",
        };
        note(&format!("{role} has the rights of {what}"));
    }
    warn(&place::open(&url)?)?;
    Ok(0)
}

/// Accepts the state of a database that was restored to an earlier time.
pub fn adopt(asked: Adopt) -> Result<u8, Problem> {
    let url = url(&asked.url)?;
    place::open(&url)?.adopt()?;
    note(&format!("the state of {url} counts now; workers take its partitions anew"));
    Ok(0)
}
