//! `durable run` on a store in a database: the process owns a partition for its script.

use crate::api::{End, HostSession, Queries};
use crate::cluster::{Client, LAYOUT, Private};
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, placement};
use crate::host::{HostError, Settings};
use crate::kv::StoreError;
use crate::store::postgres::{Cluster, Patience, Url};

use super::access::{self, Access};
use super::arguments::{Run, WhenThere};
use super::outcome::{Shows, wait_by};
use super::place::{self, LEASE, process};
use super::problem::{Problem, note};
use super::run::{ended, enter, script, settings, stop_on_signals};
use super::script::{Script, choose};

/// Runs a script in a partition that this process owns alone. If another process has the partition
/// of the script's unfinished run, this one waits for its end.
pub fn run(url: &Url, mut run: Run) -> Result<u8, Problem> {
    let _exporter = super::telemetry::begin(&run.telemetry)?;
    run.id.as_deref().map_or(Ok(()), access::own_id)?;
    let script = script(&run)?;
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
    let Some(mut private) = Private::take(&cluster, partition, &process, LEASE)? else {
        let id = known.map_or(name, |known| known.id);
        note(&format!("another process runs {id}; waiting for it"));
        return wait_by(Access::Cluster(Box::new(store)), &id, run.json, Shows::Results);
    };
    let id = match &known {
        Some(known) => known.id.clone(),
        None => format!("{name}!{}", private.partition()),
    };
    let mut known = known;
    let code = loop {
        let settings =
            Settings { lease: Some(private.lease()), ..settings(&run, script.permissions.clone()) };
        let mut session = HostSession::new(private.store(&patience)?, settings);
        session.host.place(private.placement());
        let (ran, shows) = match work(&mut session, &private, (&run, &script), &id, known) {
            Ok(worked) => worked,
            Err(problem) => break Err(problem),
        };
        let Err(HostError::Store(StoreError::Fenced { .. })) = &ran else {
            break ended(session, ran, &[id], run.json, shows);
        };
        // Partitions were split, or this process stood still for longer than its lease.
        session.close()?;
        if !private.again()? {
            note(&format!("another process goes on with {id}; waiting for it"));
            return wait_by(Access::Cluster(Box::new(store)), &id, run.json, Shows::Results);
        }
        known = store.instance(&id)?;
        if known.as_ref().is_some_and(|known| !known.status.is_ended()) {
            // This run has begun it.
            run.if_exists = WhenThere::Join;
        }
    };
    private.end()?;
    code
}

/// Recovers the partition, and works on the script until it has ended or something prevents that.
fn work(
    session: &mut HostSession,
    private: &Private,
    (run, script): (&Run, &Script),
    id: &str,
    known: Option<InstanceRecord>,
) -> Result<(Result<End, HostError>, Shows), Problem> {
    session.host.recover(Some(id))?;
    let shows = enter(&mut session.host, run, script.clone(), id, known)?;
    private.pass_on(session.host.handle());
    stop_on_signals(&session.host);
    Ok((session.run(), shows))
}

/// Returns the script's instance of an id, with or without the number of its partition.
fn pinned(store: &Client, id: &str) -> Result<Option<InstanceRecord>, Problem> {
    if let Some(known) = store.instance(id)? {
        return Ok(Some(known));
    }
    let filter = InstanceFilter { prefix: format!("{id}!"), ..InstanceFilter::default() };
    Ok(access::instances(store, &filter)?.into_iter().find(|record| !record.id.contains(':')))
}
