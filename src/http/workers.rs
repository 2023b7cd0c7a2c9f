//! The route for the workers and the partitions of a cluster.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value as Body, json};
use tokio::task::spawn_blocking;

use crate::cluster;

use super::guard::Reader;
use super::problem::Problem;
use super::service::Service;

pub fn routes() -> Router<Service> {
    Router::new().route("/cluster", get(overview))
}

/// Answers with the workers and the partitions. A store in a folder has neither.
async fn overview(_: Reader, State(service): State<Service>) -> Result<Json<Body>, Problem> {
    let Some(cluster) = service.cluster().cloned() else {
        return Ok(Json(json!({"id": null, "workers": [], "partitions": [], "bytes": null})));
    };
    let found = spawn_blocking(move || cluster::overview(&cluster)).await.map_err(|_| Problem::stopped())?;
    found.map(Json).map_err(|error| Problem::away(error.to_string()))
}
