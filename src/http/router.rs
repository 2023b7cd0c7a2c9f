//! All routes of a server.

use axum::Router;
use axum::middleware::from_fn_with_state;

use super::service::Service;
use super::{
    azure, changes, counts, debug, entities, guard, history, instances, metrics, openapi, operations, page,
    programs, workers,
};

/// Returns the routes of a server, with their guards.
pub fn router(service: Service) -> Router {
    let api = Router::new()
        .merge(instances::routes())
        .merge(counts::routes())
        .merge(history::routes())
        .merge(debug::routes())
        .merge(entities::routes())
        .merge(operations::routes())
        .merge(programs::routes())
        .merge(workers::routes())
        .merge(changes::routes())
        .merge(openapi::routes());
    Router::new()
        .nest("/api/v1", api)
        .merge(azure::routes())
        .merge(metrics::routes())
        .merge(page::routes())
        .fallback(guard::nothing_here)
        .method_not_allowed_fallback(guard::wrong_method)
        .layer(from_fn_with_state(service.clone(), guard::guard))
        .with_state(service)
}
