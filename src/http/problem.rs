//! Errors as `application/problem+json`: a kind, a title, and where useful a reason and a hint.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use crate::api::QueryError;
use crate::machine::ErrorData;
use crate::machine::error;

/// The answer to a request that can't be carried out.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: String,
    hint: Option<String>,
    more: Vec<(&'static str, Json)>,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, title: impl Into<String>) -> Problem {
        Problem { status, kind, title: title.into(), hint: None, more: Vec::new() }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a field.
    pub fn with(mut self, name: &'static str, value: Json) -> Problem {
        self.more.push((name, value));
        self
    }

    /// The request is not well formed.
    pub fn bad(title: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", title)
    }

    pub fn no_instance(id: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "unknown_instance", format!("there is no instance `{id}`"))
    }

    pub fn no_function(name: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "unknown_function", format!("no function `{name}` is deployed"))
            .hint("`durable deploy FILE` makes the orchestrations of a file known")
    }

    pub fn ended(id: &str) -> Problem {
        Problem::new(StatusCode::GONE, "ended", format!("{id} has ended already"))
    }

    /// The state of the store does not permit the command, for this reason.
    pub fn refused(reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PRECONDITION_FAILED, "refused", reason)
    }

    /// An id belongs to another instance.
    pub fn taken(failure: &ErrorData) -> Problem {
        let title = error::message(&failure.value.decode());
        Problem::new(StatusCode::CONFLICT, "id_taken", title)
            .hint("leave `id` out, or write another one, or `if_exists` of `join` or `replace`")
    }

    /// The host has ended.
    pub fn stopped() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server is about to end")
    }

    /// Something in the store can't be read.
    pub fn unreadable(reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", reason)
            .hint("`durable store verify` says what is damaged")
    }

    /// The database of a cluster does not answer, for this reason.
    pub fn away(reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_database", reason)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn title(&self) -> &str {
        &self.title
    }

    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Problem {
        match error {
            QueryError::Lost { .. } => Problem::stopped(),
            error => Problem::unreadable(error.to_string()),
        }
    }
}

impl From<crate::engine::ReadError> for Problem {
    fn from(error: crate::engine::ReadError) -> Problem {
        Problem::unreadable(error.to_string())
    }
}

impl From<crate::host::Ended> for Problem {
    fn from(_: crate::host::Ended) -> Problem {
        Problem::stopped()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("about:blank#{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "kind": self.kind,
        });
        if let Some(hint) = self.hint {
            body["hint"] = json!(hint);
        }
        for (name, value) in self.more {
            body[name] = value;
        }
        let head = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, head, body.to_string()).into_response()
    }
}
