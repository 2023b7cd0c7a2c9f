//! HTTP requests, by reqwest.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, redirect};

use crate::machine::options::{Http, http};
use crate::machine::{Data, ErrorData, Value, json};

use super::permissions::{Capability, Permissions, host};
use super::{Outcome, data, text_or_bytes};

/// A request that is ready to be sent: plain data, for any thread.
pub(crate) struct Call {
    method: String,
    url: String,
    body: Option<Vec<u8>>,
    content_type: Option<&'static str>,
    options: Http,
}

/// Reads the arguments of a request.
pub(crate) fn prepare(args: &Data) -> Result<Call, ErrorData> {
    let args = args.items();
    let words = |at: usize| match args.get(at) {
        Some(Value::Str(text)) => text.as_str().to_string(),
        _ => String::new(),
    };
    let bad = |fail: crate::machine::error::Fail| {
        ErrorData::new("type_error", crate::machine::error::title(&fail.value))
    };
    let options = http(args.get(3).unwrap_or(&Value::Null)).map_err(bad)?;
    let (body, content_type) = match args.get(2) {
        None | Some(Value::Null) => (None, None),
        Some(Value::Str(text)) => {
            (Some(text.as_str().as_bytes().to_vec()), Some("text/plain; charset=utf-8"))
        }
        Some(Value::Bytes(blob)) => (Some(blob.bytes.clone()), Some("application/octet-stream")),
        Some(other) => {
            let text = json::encode(other, json::Style::Plain, None).map_err(bad)?;
            (Some(text.into_bytes()), Some("application/json"))
        }
    };
    Ok(Call { method: words(0), url: words(1), body, content_type, options })
}

/// Makes the client that all requests with the usual number of redirects share. A redirect goes only where a request may.
pub(crate) fn client(redirects: u32, permissions: &Arc<Permissions>) -> Result<Client, ErrorData> {
    let permissions = permissions.clone();
    let follow = move |attempt: redirect::Attempt<'_>| {
        if attempt.previous().len() > redirects as usize {
            return attempt.error("too many redirects");
        }
        match permissions.check(Capability::Net, &host(attempt.url().as_str())) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused.title()),
        }
    };

    Client::builder()
        .user_agent(concat!("durable/", env!("CARGO_PKG_VERSION")))
        .redirect(match redirects {
            0 => redirect::Policy::none(),
            _ => redirect::Policy::custom(follow),
        })
        .connect_timeout(Duration::from_secs(30))
        .pool_max_idle_per_host(64)
        .build()
        .map_err(|error| ErrorData::new("http_error", format!("HTTP is not available: {error}")))
}

/// Redirects that the shared client follows.
pub(crate) const USUAL_REDIRECTS: u32 = 10;

impl Call {
    pub(crate) fn redirects(&self) -> u32 {
        self.options.redirects
    }

    /// Sends the request and reads the whole response.
    pub(crate) async fn send(self, client: Client) -> Outcome {
        let url = self.url.clone();
        let timeout = self.options.timeout;
        let limit = Duration::from_nanos(u64::try_from(timeout).unwrap_or(0));
        match tokio::time::timeout(limit, self.exchange(client)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let after = crate::machine::format::duration(timeout);
                Err(failed("timeout", format!("no whole response from {url} within {after}"), &url))
            }
        }
    }

    async fn exchange(self, client: Client) -> Outcome {
        let url = self.url;
        let problem =
            |error: &reqwest::Error| failed("http_error", format!("{url}: {}", reason(error)), &url);
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| failed("http_error", format!("`{}` is not an HTTP method", self.method), &url))?;
        let mut request = client.request(method, &url);
        if !self.options.query.is_empty() {
            request = request.query(&self.options.query);
        }
        let mut typed = false;
        for (name, value) in &self.options.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            let Some((name, value)) = header else {
                return Err(failed("http_error", format!("`{name}` is not a header that can be sent"), &url));
            };
            typed |= name == CONTENT_TYPE;
            request = request.header(name, value);
        }
        if let Some(body) = self.body {
            if let Some(kind) = self.content_type.filter(|_| !typed) {
                request = request.header(CONTENT_TYPE, kind);
            }
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(|error| problem(&error))?;
        let status = response.status().as_u16();
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            match headers.iter_mut().find(|(known, _)| known == name.as_str()) {
                Some((_, known)) => *known = format!("{known}, {value}"),
                None => headers.push((name.to_string(), value)),
            }
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| problem(&error))? {
            body.extend_from_slice(&part);
            if body.len() as u64 > self.options.max_size {
                let text = format!(
                    "{url}: the body is larger than {} bytes; option `max_size` allows more",
                    self.options.max_size
                );
                return Err(failed("http_error", text, &url));
            }
        }
        let headers = headers.iter().map(|(name, value)| (name.as_str(), Value::str(value.as_str())));
        data(&Value::record([
            ("status", Value::Int(i64::from(status))),
            ("headers", Value::record(headers)),
            ("body", text_or_bytes(body)),
        ]))
    }
}

fn failed(kind: &str, message: String, url: &str) -> ErrorData {
    ErrorData::with(kind, message, [("url", Value::str(url))])
}

/// The innermost cause, which says what is wrong in the plainest words.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    crate::os::reason(&cause)
}
