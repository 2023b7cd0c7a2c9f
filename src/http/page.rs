//! The page for people: files that are part of the program.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::input::Path;
use super::problem::Problem;
use super::service::Service;

macro_rules! files {
    ($($name:literal => $kind:literal),* $(,)?) => {
        /// The files by name, with their types.
        const FILES: &[(&str, &str, &[u8])] =
            &[$(($name, $kind, include_bytes!(concat!("../../page/", $name)))),*];
    };
}

files! {
    "index.html" => "text/html; charset=utf-8",
    "style.css" => "text/css; charset=utf-8",
    "api.js" => "text/javascript; charset=utf-8",
    "cluster.js" => "text/javascript; charset=utf-8",
    "diff.js" => "text/javascript; charset=utf-8",
    "dom.js" => "text/javascript; charset=utf-8",
    "entities.js" => "text/javascript; charset=utf-8",
    "entity.js" => "text/javascript; charset=utf-8",
    "instance.js" => "text/javascript; charset=utf-8",
    "instances.js" => "text/javascript; charset=utf-8",
    "kept.js" => "text/javascript; charset=utf-8",
    "moments.js" => "text/javascript; charset=utf-8",
    "operations.js" => "text/javascript; charset=utf-8",
    "programs.js" => "text/javascript; charset=utf-8",
    "source.js" => "text/javascript; charset=utf-8",
    "timeline.js" => "text/javascript; charset=utf-8",
    "main.js" => "text/javascript; charset=utf-8",
}

pub fn routes() -> Router<Service> {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/page/{name}", get(|Path(name): Path<String>| async move { file(&name) }))
}

fn file(name: &str) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, bytes)) => ([(header::CONTENT_TYPE, *kind)], *bytes).into_response(),
        None => {
            Problem::new(StatusCode::NOT_FOUND, "unknown_route", "the page has no such file").into_response()
        }
    }
}
