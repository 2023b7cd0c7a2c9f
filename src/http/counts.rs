//! The route for the numbers of instances.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value as Body;

use super::guard::Reader;
use super::input::Params;
use super::instances::Listed;
use super::problem::Problem;
use super::service::Service;

pub fn routes() -> Router<Service> {
    Router::new().route("/instances/counts", get(counts))
}

async fn counts(
    _: Reader,
    State(service): State<Service>,
    Params(listed): Params<Listed>,
) -> Result<Json<Body>, Problem> {
    let wanted = listed.filter()?;
    let counts = service.counts().clone();
    if let Some(known) = counts.known(&wanted) {
        return Ok(Json(known));
    }
    service.catalog(move |catalog| Json(counts.count(catalog, wanted))).await
}
