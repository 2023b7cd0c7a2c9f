//! Metrics in the text format of Prometheus.
//!
//! Labels come from fixed sets: those of `measures`, statuses, and functions of the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Queries;
use crate::engine::query::{self, EntityFilter};
use crate::engine::{Lifecycle, Message};
use crate::host::{self, Measures};

use super::catalog::Wanted;
use super::guard::Reader;
use super::measures::Metrics;
use super::problem::Problem;
use super::service::Service;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Instances {
    function: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Function {
    function: String,
}

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
}

/// Whether the host takes commands and the store can be read.
async fn ready(State(service): State<Service>) -> Result<&'static str, Problem> {
    service.ask(|reads| Ok(reads.ask(|_| ())?)).await?;
    Ok("ready\n")
}

/// What is counted when somebody asks.
struct Counted {
    instances: BTreeMap<(Arc<str>, &'static str), i64>,
    begun: Vec<(Arc<str>, u64)>,
    ended: Vec<((Arc<str>, Lifecycle), u64)>,
}

async fn metrics(_: Reader, State(service): State<Service>) -> Result<Response, Problem> {
    let counted = service
        .catalog(|catalog| {
            let mut instances: BTreeMap<(Arc<str>, &'static str), i64> = BTreeMap::new();
            catalog.each(&Wanted::default(), |_, _, item| {
                *instances.entry((item.function.clone(), item.lifecycle.word())).or_default() += 1;
            });
            let begun = catalog.begun.iter().map(|(function, count)| (function.clone(), *count)).collect();
            let ended = catalog.ended.iter().map(|(which, count)| (which.clone(), *count)).collect();
            Counted { instances, begun, ended }
        })
        .await?;
    let folder = service.options().folder.clone();
    let (bytes, mail, locks) = service
        .ask(move |reads| {
            let mail = reads.ask(query::waiting_mail)??;
            let filter = EntityFilter { name: None, locked: true };
            let mut since = Vec::new();
            reads.each_entities(&filter, &mut |page| {
                since.extend(page.iter().flat_map(|view| &view.mail).filter_map(
                    |mail| match &mail.message {
                        Message::Lock { since, .. } => Some(*since),
                        _ => None,
                    },
                ));
                true
            })?;
            Ok((size(&folder), mail, since))
        })
        .await?;
    let mut registry = Registry::with_prefix("durable");
    instances(&mut registry, counted);
    gauge(&mut registry, "mail_waiting", "Messages that wait for instances and entities", mail);
    gauge(&mut registry, "lock_waiting", "Critical sections that wait for entities", locks.len() as u64);
    let longest = locks.iter().min().map_or(0, |since| host::now().saturating_sub(*since).max(0));
    let wait = Gauge::<f64, AtomicU64>::default();
    wait.set(Duration::from_nanos(longest.cast_unsigned()).as_secs_f64());
    let help = "The longest time that a critical section has waited so far";
    registry.register_with_unit("lock_longest_wait", help, Unit::Seconds, wait);
    let size = Gauge::<i64>::default();
    size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    registry.register_with_unit("store", "The size of the store's files", Unit::Bytes, size);
    let applied = Counter::<u64>::default();
    applied.inc_by(service.reads().commits());
    registry.register("commits", "Batches that were written since the process began", applied);
    of_host(&mut registry, service.reads().measures());
    of_server(&mut registry, service.metrics());
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Problem::unreadable(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn instances(registry: &mut Registry, counted: Counted) {
    let instances = Family::<Instances, Gauge>::default();
    for ((function, status), count) in counted.instances {
        instances.get_or_create(&Instances { function: function.to_string(), status }).set(count);
    }
    registry.register("instances", "Instances in the store", instances);
    let started = Family::<Function, Counter>::default();
    for (function, count) in counted.begun {
        started.get_or_create(&Function { function: function.to_string() }).inc_by(count);
    }
    registry.register("started", "Instances that have begun", started);
    let ended = Family::<Instances, Counter>::default();
    for ((function, lifecycle), count) in counted.ended {
        let which = Instances { function: function.to_string(), status: lifecycle.word() };
        ended.get_or_create(&which).inc_by(count);
    }
    registry.register("ended", "Instances that have ended", ended);
}

fn of_host(registry: &mut Registry, measures: &Measures) {
    let mut timed = |name: &str, help: &str, histogram: &Histogram| {
        registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    };
    timed("commit", "The time to write a batch and make it durable", &measures.commits);
    timed("timer_lag", "The time by which timers were late", &measures.timer_lag);
    timed("replay", "The time to read an instance back and replay its history", &measures.replays);
    let help = "The time of activities, and of effects on the outside, by kind";
    registry.register_with_unit("step", help, Unit::Seconds, measures.steps.clone());
    registry.register("retries", "Attempts after the first ones", measures.retries.clone());
    registry.register("engine_queue", "Commands that wait for the engine", measures.queue.clone());
}

fn of_server(registry: &mut Registry, metrics: &Metrics) {
    registry.register("http_requests", "Requests by route, method and code", metrics.requests.clone());
    let help = "The time of requests until the head of the response";
    registry.register_with_unit("http_request", help, Unit::Seconds, metrics.seconds.clone());
    registry.register("http_streams", "Open streams of changes", metrics.streams.clone());
}

/// Returns the size of the files of a folder, in bytes. Files that go meanwhile count nothing.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
