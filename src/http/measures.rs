//! The measurements that a server makes of itself.
//!
//! Labels come from fixed sets: routes, methods and codes. No request can make a new label.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// The measurements of a server.
pub struct Metrics {
    pub requests: Family<Request, Counter>,
    /// The seconds of requests until the head of the response.
    pub seconds: Histogram,
    /// The open streams of changes.
    pub streams: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let seconds = Histogram::new(exponential_buckets(0.000_25, 4.0, 9));
        Metrics { requests: Family::default(), seconds, streams: Gauge::default() }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Request {
    route: String,
    method: &'static str,
    code: u16,
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
