//! Metrics in the text format of Prometheus.
//!
//! Labels come from fixed sets: routes, methods, codes, statuses and functions of the store. No
//! request can make a new label.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::catalog::Wanted;
use super::guard::Reader;
use super::problem::Problem;
use super::service::Service;

/// The measurements of a server.
pub struct Metrics {
    requests: Family<Request, Counter>,
    seconds: Histogram,
    streams: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let seconds = Histogram::new(exponential_buckets(0.000_25, 4.0, 9));
        Metrics { requests: Family::default(), seconds, streams: Gauge::default() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: String,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Instances {
    function: String,
    status: &'static str,
}

/// A stream of events, which counts as long as it exists.
pub struct Streaming {
    streams: Gauge,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.streams.dec();
    }
}

impl Metrics {
    /// Notes the answer to a request.
    pub fn answered(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let request = Request { route: route.unwrap_or("none").to_string(), method, code: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts a stream of events.
    pub fn stream(&self) -> Streaming {
        self.streams.inc();
        Streaming { streams: self.streams.clone() }
    }
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
