//! `durable serve` on a store in a database: a worker.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Client, LAYOUT, Router, Worker, WorkerOptions};
use crate::http::{Options, Service};
use crate::store::postgres::{Cluster, Patience, Url};

use super::arguments::Serve;
use super::clients::duration;
use super::place::{LEASE, open, process};
use super::problem::{Problem, note};
use super::run::on_signals;
use super::{INTERRUPTED, STORE, USAGE, database, serve};

/// The shortest lease of a worker.
const SHORTEST: Duration = Duration::from_secs(1);

/// Runs a worker of a cluster until the process is stopped.
pub fn serve(url: &Url, serve: &Serve) -> Result<u8, Problem> {
    let _exporter = super::telemetry::begin(&serve.telemetry)?;
    let tls = serve::checked(&serve.http)?;
    let lease = match &serve.lease {
        Some(text) => duration(text)?,
        None => LEASE.as_nanos() as i64,
    };
    let lease = Duration::from_nanos(u64::try_from(lease).unwrap_or_default());
    if lease < SHORTEST {
        return Err(Problem::new(USAGE, "a lease is at least one second long").hint("the default is 10s"));
    }
    // A wrong URL is an error at once; a server that goes away later is waited for.
    database::warn(&open(url)?)?;
    let patience = Patience::endless().telling(note);
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
    let stopper = worker.stopper();
    on_signals(move |number| {
        if number > 0 {
            std::process::exit(i32::from(INTERRUPTED));
        }
        stopper.stop();
        patience.give_up();
    });
    let http = match serve.http.http {
        Some(_) => {
            let handle = Router::begin(Client::new(cluster.clone(), note), &mut worker).map_err(|error| {
                Problem::new(STORE, format!("no thread for clients: {}", crate::os::reason(&error)))
            })?;
            let folder = folder().ok_or_else(|| {
                Problem::new(STORE, "there is no folder for the tokens").hint("give `--http-token-file FILE`")
            })?;
            let reads = worker.reads();
            let begin = move |options: Options| Service::of_worker(handle, reads, options, cluster);
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
