//! The contents of requests: JSON bodies and query parameters. Every mistake is a [`Problem`].

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::machine::{Data, Value, error, json as values};

use super::problem::Problem;

/// The largest size of a body, in bytes.
pub const MOST_BYTES: usize = 16 << 20;

/// The time limit for a body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body as JSON. An empty body counts as `null`.
pub struct Input<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Input<T>, Problem> {
        let text = or_null(text(request.into_body()).await?);
        // Serde would take a list for the fields of an object.
        if text.trim_start().starts_with('[') {
            return Err(Problem::bad("the body is a list, and not an object"));
        }
        serde_json::from_str(&text).map(Input).map_err(|error| {
            let what = match error.classify() {
                serde_json::error::Category::Data => "the body does not have the expected fields",
                _ => "the body is not JSON",
            };
            Problem::bad(format!("{what}: {error}"))
        })
    }
}

/// Reads an object within a body, and no list in its place.
pub fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let fields: Option<serde_json::Map<String, serde_json::Value>> = Option::deserialize(deserializer)?;
    fields.map(|fields| serde_json::from_value(fields.into()).map_err(de::Error::custom)).transpose()
}

/// Reads a body as data; an empty body is null. `what` names the body in an error.
pub async fn payload(body: Body, what: &str) -> Result<Data, Problem> {
    data(&or_null(text(body).await?), what)
}

fn or_null(text: String) -> String {
    if text.trim().is_empty() { "null".into() } else { text }
}

/// Reads a body as text.
pub async fn text(body: Body) -> Result<String, Problem> {
    let bytes = tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BYTES)).await;
    let bytes = bytes.map_err(|_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "a body arrives within 30 seconds")
    })?;
    let bytes = bytes.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "a body has at most 16 MiB");
        }
        Problem::bad(format!("the body ends early: {error}"))
    })?;
    String::from_utf8(bytes.into()).map_err(|_| Problem::bad("the body is not UTF-8"))
}

/// The parameters of a URL, after the question mark.
pub struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, Problem> {
        let query = parts.uri.query().unwrap_or("");
        serde_urlencoded::from_str(query)
            .map(Params)
            .map_err(|error| Problem::bad(format!("the parameters of the URL are wrong: {error}")))
    }
}

/// The variable parts of a path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Problem> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::bad(format!("the path is wrong: {}", error.body_text())))?;
        Ok(Path(value))
    }
}

/// JSON that becomes data, in the lossless form: `{"$duration": "5s"}` is a duration.
pub struct Given(Box<RawValue>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Given, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Given)
    }
}

impl Given {
    /// Returns the data. `what` names the value in an error.
    pub fn data(&self, what: &str) -> Result<Data, Problem> {
        data(self.0.get(), what)
    }

    /// Returns a list of arguments. `what` names the value in an error.
    pub fn list(&self, what: &str) -> Result<Data, Problem> {
        let data = self.data(what)?;
        match data.decode() {
            Value::List(_) => Ok(data),
            _ => Err(Problem::bad(format!("{what} is not a list"))),
        }
    }
}

/// Returns the list of arguments in a body's `args`. Without these, the list is empty.
pub fn arguments(given: Option<&Given>) -> Result<Data, Problem> {
    given.map_or_else(|| Ok(Data::of(&Value::list(Vec::new()))), |args| args.list("args"))
}

/// Reads a text as data. `what` names the text in an error.
pub fn data(text: &str, what: &str) -> Result<Data, Problem> {
    values::to_data(text).map_err(|fail| Problem::bad(format!("{what}: {}", error::message(&fail.value))))
}

/// An instant of a parameter, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct At(pub i64);

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = At::read(&text);
        read.ok_or_else(|| de::Error::custom(format!("`{text}` is not an instant like 2026-03-01T12:00:00Z")))
    }
}

impl At {
    /// Reads an instant. One beyond the times of a store becomes the nearest of these.
    pub fn read(text: &str) -> Option<At> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        let nanos = instant.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into());
        i64::try_from(nanos).ok().map(At)
    }
}
