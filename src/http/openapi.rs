//! The description of the interface in the OpenAPI format.

use axum::Router;
use axum::http::header;
use axum::routing::get;

use super::service::Service;

/// The description, a file of its own. `tests/http.rs` compares it with the routes.
pub const DOCUMENT: &str = include_str!("openapi.json");

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT) }))
}
