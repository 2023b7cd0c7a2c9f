//! Metrics in the text format of Prometheus.
//!
//! Labels come from fixed sets: those of `measures`, statuses, and functions of the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

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
use prometheus_client::registry::{Registry, Unit};

use super::catalog::Wanted;
use super::guard::Reader;
use super::problem::Problem;
use super::service::Service;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Instances {
    function: String,
    status: &'static str,
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

async fn metrics(_: Reader, State(service): State<Service>) -> Result<Response, Problem> {
    let counts = service
        .catalog(|catalog| {
            let mut counts: BTreeMap<(Arc<str>, &'static str), i64> = BTreeMap::new();
            catalog.each(&Wanted::default(), |_, _, item| {
                *counts.entry((item.function.clone(), item.lifecycle.word())).or_default() += 1;
            });
            counts
        })
        .await?;
    let folder = service.options().folder.clone();
    let bytes = service.ask(move |_| Ok(size(&folder))).await?;
    let mut registry = Registry::with_prefix("durable");
    let instances = Family::<Instances, Gauge>::default();
    for ((function, status), count) in counts {
        instances.get_or_create(&Instances { function: function.to_string(), status }).set(count);
    }
    registry.register("instances", "Instances in the store", instances);
    let size = Gauge::<i64>::default();
    size.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    registry.register_with_unit("store", "The size of the store's files", Unit::Bytes, size);
    let applied = Counter::<u64>::default();
    applied.inc_by(service.reads().commits());
    registry.register("commits", "Batches that were written since the process began", applied);
    let metrics = service.metrics();
    registry.register("http_requests", "Requests by route, method and code", metrics.requests.clone());
    registry.register_with_unit(
        "http_request",
        "The time of requests until the head of the response",
        Unit::Seconds,
        metrics.seconds.clone(),
    );
    registry.register("http_streams", "Open streams of changes", metrics.streams.clone());
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Problem::unreadable(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
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
