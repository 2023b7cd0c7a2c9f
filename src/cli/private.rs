//! `durable run` on a store in a database: the process owns a partition for its script.

use crate::api::{HostSession, Queries};
use crate::cluster::{Client, LAYOUT, Private};
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, placement};
use crate::host::Settings;
use crate::store::postgres::{Cluster, Patience, Url};

use super::STORE;
use super::access::{self, Access};
use super::arguments::Run;
use super::outcome::{Shows, wait_by};
use super::place::{self, LEASE, process};
use super::problem::{Problem, note};
use super::run::{enter, finish, script, settings};
use super::script::choose;

/// Runs a script in a partition that this process owns alone. If another process has the partition
/// of the script's unfinished run, this one waits for its end.
pub fn run(url: &Url, run: &Run) -> Result<u8, Problem> {
    let _exporter = super::telemetry::begin(&run.telemetry)?;
    run.id.as_deref().map_or(Ok(()), access::own_id)?;
    let script = script(run)?;
    place::open(url)?;
    let patience = Patience::endless();
    let cluster = Cluster::open(url, LAYOUT, &patience)?;
    let store = Client::new(cluster.clone(), note);
    let (name, known) = match &run.id {
        Some(id) => (id.clone(), pinned(&store, id)?),
        None => choose(&store, &script.file, &script.args, &script.image)?,
    };
    let partition = known.as_ref().and_then(|known| placement::pin(&known.id));
    let process = process();
    let Some(private) = Private::take(&cluster, partition, &process, LEASE)? else {
        let id = known.map_or(name, |known| known.id);
        note(&format!("another process runs {id}; waiting for it"));
        return wait_by(Access::Cluster(Box::new(store)), &id, run.json, Shows::Results);
    };
    let id = match &known {
        Some(known) => known.id.clone(),
        None => format!("{name}!{}", private.partition()),
    };
    let settings = Settings { lease: Some(private.lease()), ..settings(run, script.permissions.clone()) };
    let mut session = HostSession::new(private.store(&patience)?, settings);
    session.host.place(private.placement());
    session.host.recover(Some(&id))?;
    let shows = enter(&mut session.host, run, script, &id, known)?;
    private.pass_on(session.host.handle()).map_err(|error| {
        Problem::new(STORE, format!("no thread for messages: {}", crate::os::reason(&error)))
    })?;
    let code = finish(session, &[id], run.json, shows);
    private.end()?;
    code
}

/// Returns the script's instance of an id, with or without the number of its partition.
fn pinned(store: &Client, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    if let Some(known) = store.instance(id)? {
        return Ok(Some(known));
    }
    let filter = InstanceFilter { prefix: format!("{id}!"), ..InstanceFilter::default() };
    Ok(access::instances(store, &filter)?.into_iter().find(|record| !record.id.contains(':')))
}
