//! `durable cluster`, workers, and the commands that reach a store in PostgreSQL.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::api::{Command, HostSession, Queries, Reply};
use crate::cluster::{Client, LAYOUT, Private, Router, Stopper, Worker, WorkerOptions};
use crate::engine::query::InstanceFilter;
use crate::engine::{InstanceRecord, placement};
use crate::host::Settings;
use crate::http::{Options, Service};
use crate::store::postgres::{Cluster, Patience, Url};

use super::access::{self, Access};
use super::arguments::{ClusterView, InStore, One, Run, Serve};
use super::outcome::{Shows, outcome};
use super::problem::{Problem, note, unreadable};
use super::run::finish;
use super::script::{Script, choose};
use super::{INTERRUPTED, STORE, USAGE, print, serve, table};

/// The time for which a command tries to reach the server of the database.
const REACH: Duration = Duration::from_secs(5);
/// The usual lease.
const LEASE: Duration = Duration::from_secs(10);
/// The shortest lease of a worker.
const SHORTEST: Duration = Duration::from_secs(1);

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

/// Waits for the end of an instance of a cluster, and shows its outcome.
pub fn wait(url: &Url, one: &One) -> Result<u8, Problem> {
    let mut store = Access::Cluster(Box::new(client(url)?));
    access::known(&store, &one.id)?;
    match store.ask(Command::Wait(one.id.clone()))? {
        Reply::Ended => outcome(&store, &one.id, one.json, Shows::Results),
        Reply::Refused(reason) => Err(unreadable(reason)),
        _ => Err(access::unknown(&one.id)),
    }
}

/// Runs a script in a partition that this process owns alone. If another process has the partition
/// of the script's unfinished run, this one waits for its end.
pub fn run(url: &Url, run: &Run, script: Script) -> Result<u8, Problem> {
    open(url)?;
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
        return wait(url, &One { id, json: run.json, store: InStore { store: run.store.store.clone() } });
    };
    let id = match &known {
        Some(known) => known.id.clone(),
        None => format!("{name}!{}", private.partition()),
    };
    let settings =
        Settings { lease: Some(private.lease()), ..super::run::settings(run, script.permissions.clone()) };
    let mut session = HostSession::new(private.store(&patience)?, settings);
    session.host.place(private.placement());
    session.host.recover(Some(&id))?;
    let shows = super::run::enter(&mut session.host, run, script, &id, known)?;
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

/// Runs a worker of a cluster until the process is stopped.
pub fn serve(url: &Url, serve: &Serve) -> Result<u8, Problem> {
    let tls = serve::checked(&serve.http)?;
    let lease = match &serve.lease {
        Some(text) => super::clients::duration(text)?,
        None => LEASE.as_nanos() as i64,
    };
    let lease = Duration::from_nanos(u64::try_from(lease).unwrap_or_default());
    if lease < SHORTEST {
        return Err(Problem::new(USAGE, "a lease is at least one second long").hint("the default is 10s"));
    }
    // A wrong URL is an error at once; a server that goes away later is waited for.
    let risks = open(url)?.risks()?;
    for risk in risks {
        note(&format!(
            "the server runs with `{risk} = off`: a crash of its machine may lose what was acknowledged"
        ));
    }
    let patience = Patience::endless();
    let cluster = Cluster::open(url, LAYOUT, &patience)?;
    let address = match serve.address {
        Some(address) => address,
        None => SocketAddr::new(own_address(url), 0),
    };
    let options = WorkerOptions {
        name: process(),
        address,
        lease,
        settings: serve::settings(serve)?,
        folder: folder(),
        patience: patience.clone(),
    };
    let mut worker = Worker::enroll(cluster.clone(), options)?;
    stop_on_signals(worker.stopper(), patience);
    let http = match serve.http.http {
        Some(_) => {
            let handle = Router::begin(Client::new(cluster, note), &worker).map_err(|error| {
                Problem::new(STORE, format!("no thread for clients: {}", crate::os::reason(&error)))
            })?;
            let folder = folder().ok_or_else(|| {
                Problem::new(STORE, "there is no folder for the tokens").hint("give `--http-token-file FILE`")
            })?;
            let reads = worker.reads();
            let begin = move |options: Options| Service::new(handle, reads, options);
            let callbacks = |callbacks| worker.make_callbacks(callbacks);
            serve::begin_http(&serve.http, tls, begin, callbacks, &folder)?
        }
        None => None,
    };
    match &http {
        Some(http) => note(&format!("listening on {}", http.url)),
        None => note(&format!("serving {url}")),
    }
    let result = worker.run();
    drop(http);
    result?;
    Ok(0)
}

/// Stops a worker when the process is asked to.
fn stop_on_signals(stopper: Stopper, patience: Patience) {
    let signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]);
    // Without a handler the signals end the process, which loses nothing either.
    let Ok(mut signals) = signals else { return };
    let watch = move || {
        for (number, _) in signals.forever().enumerate() {
            if number > 0 {
                std::process::exit(i32::from(INTERRUPTED));
            }
            stopper.stop();
            patience.give_up();
        }
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(watch);
}

/// Returns a name of this process for people: the machine, and the number of the process.
fn process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}:{}", std::process::id())
}

/// Returns the address of this machine by which others on the way to the database reach it.
fn own_address(url: &Url) -> IpAddr {
    let any = IpAddr::from([127, 0, 0, 1]);
    let server = url.server();
    let first = server.split([',', ' ']).next().unwrap_or_default();
    // The system only chooses a way; nothing is sent.
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0));
    let chosen = socket.and_then(|socket| {
        socket.connect(first)?;
        socket.local_addr()
    });
    chosen.map_or(any, |address| address.ip())
}

/// Returns the folder of this user for what the machine knows of clusters.
fn folder() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = state.or_else(home)?.join("durable");
    crate::os::make_private_folder(&folder).ok()?;
    Some(folder)
}

/// Shows the workers and the partitions of a cluster.
pub fn cluster(view: ClusterView) -> Result<u8, Problem> {
    let Some(url) = url(&view.store.store)? else {
        return Err(Problem::new(USAGE, "a store in a folder has no workers and one partition")
            .hint("give the URL of a database: --store postgres://user@host/database"));
    };
    let cluster = open(&url)?;
    let overview = cluster.overview()?;
    let waiting: std::collections::BTreeMap<_, _> = cluster.waiting()?.into_iter().collect();
    let name_of =
        |id: &str| overview.workers.iter().find(|worker| worker.id == id).map(|worker| &worker.name);
    let owned =
        |id: &str| overview.partitions.iter().filter(|state| state.owner.as_deref() == Some(id)).count();
    if view.json {
        let workers: Vec<_> = overview
            .workers
            .iter()
            .map(|worker| {
                json!({
                    "id": worker.id, "name": worker.name, "address": worker.address, "version": worker.version,
                    "alive": worker.rest.is_some(),
                    "lease_left_ms": worker.rest.map(|rest| rest.as_millis() as u64),
                    "partitions": owned(&worker.id),
                })
            })
            .collect();
        let partitions: Vec<_> = overview
            .partitions
            .iter()
            .map(|state| {
                json!({
                    "partition": state.partition, "first_slot": state.slots.start, "end_slot": state.slots.end,
                    "owner": state.owner, "epoch": state.epoch, "commits": state.commits,
                    "waiting": waiting.get(&state.partition).copied().unwrap_or(0),
                })
            })
            .collect();
        let all = json!({
            "id": cluster.about().id, "workers": workers, "partitions": partitions,
            "bytes": cluster.size_bytes()?,
        });
        print(&format!("{all}\n"))?;
        return Ok(0);
    }
    let rows: Vec<Vec<String>> = overview
        .workers
        .iter()
        .map(|worker| {
            let lease = match worker.rest {
                Some(rest) => format!("{:.1} s left", rest.as_secs_f64()),
                None => "over".to_string(),
            };
            let address = worker.address.clone();
            vec![worker.name.clone(), address, worker.version.clone(), owned(&worker.id).to_string(), lease]
        })
        .collect();
    let workers = table::table(&["worker", "address", "version", "partitions", "lease"], &rows);
    let rows: Vec<Vec<String>> = overview
        .partitions
        .iter()
        .map(|state| {
            let owner = match &state.owner {
                Some(owner) => name_of(owner).map_or("a worker that is gone", String::as_str),
                None => "nobody",
            };
            let slots = match state.slots.is_empty() {
                true => "private".to_string(),
                false => format!("{}..{}", state.slots.start, state.slots.end),
            };
            vec![
                state.partition.to_string(),
                slots,
                owner.to_string(),
                state.epoch.to_string(),
                state.commits.to_string(),
                waiting.get(&state.partition).copied().unwrap_or(0).to_string(),
            ]
        })
        .collect();
    let partitions = table::table(&["partition", "slots", "owner", "epoch", "commits", "waiting"], &rows);
    print(&format!("{workers}\n{partitions}"))?;
    if overview.workers.iter().all(|worker| worker.rest.is_none()) {
        note(&format!("no worker is alive; `durable serve --store {url}` starts one"));
    }
    Ok(0)
}
