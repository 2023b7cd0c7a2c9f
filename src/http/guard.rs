//! The checks of every request before its route: the host, the origin, and the token; and the
//! headers of every response.
//!
//! Invariant: a handler that needs rights takes a [`Caller`], which exists only for a caller that
//! has them. No handler looks at tokens itself, except those of links with codes.

use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::Scope;
use super::problem::Problem;
use super::service::Service;

/// The headers of every response.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The names of this machine that are always accepted.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Checks a request, passes it on, and completes the response.
pub async fn guard(State(service): State<Service>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_string());
    let mut response = match check(&service, &method, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    service.metrics().answered(route.as_deref(), &method, response.status(), began.elapsed());
    response
}

fn check(service: &Service, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let host = one(headers, header::HOST.as_str())?.unwrap_or("");
    if !is_own(service, host) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "wrong_host",
            "the server is not reached by this name",
        )
        .hint("`durable serve --http-host NAME` accepts another name"));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let foreign = |what: &str| {
        Problem::new(StatusCode::FORBIDDEN, "foreign_page", format!("{what} of another site may not write"))
    };
    if let Some(origin) = one(headers, header::ORIGIN.as_str())? {
        let site = origin.split_once("://").map_or("", |(_, site)| site);
        if site != host {
            return Err(foreign("a page"));
        }
    }
    match one(headers, "sec-fetch-site")? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(foreign("a request")),
    }
}

/// Returns a header that may be given once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Problem::bad(format!("the header `{name}` is given twice")));
    }
    match first.map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Problem::bad(format!("the header `{name}` is not readable"))),
    }
}

/// Whether a host, perhaps with a port, is a name of this server.
fn is_own(service: &Service, host: &str) -> bool {
    let name = match host.rfind(':') {
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    OWN_NAMES.contains(&name.as_str()) || service.options().hosts.contains(&name)
}

/// Returns the origin by which a request reached the server: the scheme, the host and the port.
pub fn origin(service: &Service, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("{}://{host}", if service.options().secure { "https" } else { "http" })
}

/// Returns the token of a request.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A caller that has the rights of a scope, given as its number.
pub struct Caller<const SCOPE: u8>;

/// A caller that may look at everything.
pub type Reader = Caller<{ Scope::Read as u8 }>;
/// A caller that may work with instances.
pub type Operator = Caller<{ Scope::Operate as u8 }>;
/// A caller that may deploy and purge.
pub type Admin = Caller<{ Scope::Admin as u8 }>;

impl<const SCOPE: u8> FromRequestParts<Service> for Caller<SCOPE> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let wanted = Scope::ALL[usize::from(SCOPE)];
        allow(service, token(&parts.headers), wanted).map(|()| Caller)
    }
}

/// Checks that a token has the rights of a scope. `None` means that no token was given.
pub fn allow(service: &Service, token: Option<&str>, wanted: Scope) -> Result<(), Problem> {
    let Some(token) = token else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "no_token", "a token is needed")
            .hint("send `Authorization: Bearer TOKEN`; the tokens are in the file `token` of the store"));
    };
    match service.keys().scope(token) {
        None => {
            Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong_token", "this is not a token of the store"))
        }
        Some(scope) if scope < wanted => {
            let title = format!("the token for `{}` does not permit this", scope.word());
            Err(Problem::new(StatusCode::FORBIDDEN, "not_permitted", title))
        }
        Some(_) => Ok(()),
    }
}

/// Answers requests for which there is no route.
pub async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_route", "there is nothing at this path")
        .hint("/api/v1/openapi.json describes all routes")
}

/// Answers requests whose route has other methods.
pub async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path has other methods")
}
