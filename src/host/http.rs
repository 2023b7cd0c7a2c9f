//! HTTP requests, by reqwest.
//!
//! A request goes only to addresses that were checked. A name is looked up once, and the connection
//! goes to one of the addresses found. The code here follows redirects, each as a request of its
//! own.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use tokio::io::AsyncWriteExt;
use url::form_urlencoded::Serializer;

use crate::machine::io_options::{FormPart, Http, PartContent, http};
use crate::machine::{Data, ErrorData, Value, json, retry_wait};
use crate::permissions::{Capability, Permissions, Target};

use super::at::{At, Reach, Unfinished};
use super::pipes::Patience;
use super::threads::no_threads;
use super::walk::Last;
use super::{EffectResult, data, text_or_bytes};

/// A request that is ready to be sent, as plain data for any thread.
pub(crate) struct Call {
    method: String,
    url: String,
    body: Body,
    content_type: Option<&'static str>,
    options: Http,
    /// The path of the file that gets the body of the response.
    into: Option<String>,
    reach: Reach,
}

/// The body of a request, which may be sent more than once.
#[derive(Clone)]
enum Body {
    None,
    Bytes(Bytes),
    Parts(Arc<Vec<FormPart>>),
}

/// The largest number of files in one body, which are all open while it is sent.
const MOST_PARTS: usize = 16;
/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// Reads the arguments of a request, or of a download if there is a path to put the body at.
pub(crate) fn prepare(args: &Data, is_download: bool, reach: Reach) -> Result<Call, ErrorData> {
    let args = args.items();
    let words = |at: usize| match args.get(at) {
        Some(Value::Str(text)) => text.as_str().to_string(),
        _ => String::new(),
    };
    let bad = |fail: crate::machine::error::Fail| {
        ErrorData::new("type_error", crate::machine::error::title(&fail.value))
    };
    let null = Value::Null;
    if is_download {
        let options = http(args.get(2).unwrap_or(&null), &null, "`http.download`").map_err(bad)?;
        let (method, body) = ("GET".to_string(), Body::None);
        let into = Some(words(1));
        return Ok(Call { method, url: words(0), body, content_type: None, options, into, reach });
    }
    let given = args.get(2).unwrap_or(&null);
    let mut options = http(args.get(3).unwrap_or(&null), given, "`http`").map_err(bad)?;
    let (body, content_type) = match given {
        Value::Null => match (options.form.take(), options.multipart.take()) {
            (Some(form), _) => {
                let text = Serializer::new(String::new()).extend_pairs(form).finish();
                (Body::Bytes(text.into()), Some(FORM))
            }
            // The type has the boundary of the parts, and is set with them.
            (None, Some(parts)) => {
                let is_file = |part: &&FormPart| matches!(part.content, PartContent::File(_));
                if parts.iter().filter(is_file).count() > MOST_PARTS {
                    let text =
                        format!("a body of more than {MOST_PARTS} files: send them one after the other");
                    return Err(ErrorData::new("limit", text));
                }
                (Body::Parts(Arc::new(parts)), None)
            }
            (None, None) => (Body::None, None),
        },
        Value::Str(text) => {
            (Body::Bytes(text.as_str().to_string().into()), Some("text/plain; charset=utf-8"))
        }
        Value::Bytes(blob) => (Body::Bytes(blob.bytes.clone().into()), Some("application/octet-stream")),
        other => {
            let text = json::encode(other, json::Style::Plain, None).map_err(bad)?;
            (Body::Bytes(text.into()), Some("application/json"))
        }
    };
    Ok(Call { method: words(0), url: words(1), body, content_type, options, into: None, reach })
}

/// The largest number of clients that are kept: one for each set of permissions and each port.
const MOST_CLIENTS: usize = 64;

/// The programs that share a client's connections, which may all reach the same hosts.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Whose {
    Everybody,
    Restricted(Permissions, u16),
}

/// The clients that send requests, created when needed.
#[derive(Clone, Default)]
pub(crate) struct HttpClients(Arc<Mutex<HashMap<Whose, Client>>>);

impl HttpClients {
    fn of(&self, permissions: &Permissions, target: &Target) -> Result<Client, ErrorData> {
        let is_free = permissions.is_whole(Capability::Net);
        let whose = match is_free {
            true => Whose::Everybody,
            false => Whose::Restricted(permissions.clone(), target.port()),
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&whose) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("durable/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(64);
        if !is_free {
            // A proxy would connect to any address.
            let permissions = permissions.clone();
            builder = builder.no_proxy().dns_resolver(Arc::new(Checked { permissions, port: target.port() }));
        }
        let client = builder
            .build()
            .map_err(|error| ErrorData::new("http_error", format!("HTTP is not available: {error}")))?;
        if clients.len() >= MOST_CLIENTS {
            clients.clear();
        }
        clients.insert(whose, client.clone());
        Ok(client)
    }
}

/// A resolver that returns only the addresses that may be reached.
struct Checked {
    permissions: Permissions,
    port: u16,
}

/// The error that all addresses of a name are refused.
#[derive(Debug)]
struct Refused(ErrorData);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.title())
    }
}

impl Error for Refused {}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (permissions, port) = (self.permissions.clone(), self.port);
        Box::pin(async move {
            let name = name.as_str().to_string();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), port)).await?.collect();
            let target = Url::parse(&format!("http://{name}:{port}/")).ok().and_then(|url| Target::of(&url));
            let target = target.ok_or_else(|| format!("`{name}` is not the name of a host"))?;
            match permitted(&permissions, &target, found) {
                Ok(permitted) => Ok(Box::new(permitted.into_iter()) as Addrs),
                Err(error) => Err(Refused(error).into()),
            }
        })
    }
}

/// Returns the addresses of a name that a connection may go to. Returns an error if there are
/// addresses and none is permitted.
pub(super) fn permitted(
    permissions: &Permissions,
    target: &Target,
    found: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, ErrorData> {
    let mut permitted = Vec::new();
    let mut refused = None;
    for address in found {
        match permissions.check_address(target, address.ip()) {
            Ok(()) => permitted.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match (permitted.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        _ => Ok(permitted),
    }
}

/// The headers that are kept when a redirect leads to another host, since they say nothing about
/// the sender.
const HARMLESS: [HeaderName; 5] = [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT];

/// A single request: the first one, or one that a redirect leads to.
struct Hop {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Body,
}

/// A response, and how long it asks to wait before the next request.
struct Exchanged {
    outcome: EffectResult,
    wait: Option<Duration>,
}

impl Call {
    /// Returns the number of files that the request opens, beside its connection.
    pub(crate) fn files(&self) -> u32 {
        let parts = match &self.body {
            Body::Parts(parts) => {
                parts.iter().filter(|part| matches!(part.content, PartContent::File(_))).count()
            }
            Body::None | Body::Bytes(_) => 0,
        };
        parts as u32 + u32::from(self.into.is_some())
    }

    /// Sends the request and reads the whole response. A response that asks to wait is waited for,
    /// as far as the options allow.
    pub(crate) async fn send(self, clients: HttpClients) -> EffectResult {
        if let Some(path) = self.into.clone() {
            // Nothing is asked for that could not be written.
            let reach = self.reach.clone();
            blocking(move || may_write(&path, &reach)).await??;
        }
        let timeout = self.options.timeout;
        let limit = Duration::from_nanos(u64::try_from(timeout).unwrap_or(0));
        let mut patience = Duration::from_nanos(u64::try_from(self.options.retry_after).unwrap_or(0));
        loop {
            let exchanged = match tokio::time::timeout(limit, self.exchange(&clients)).await {
                Ok(exchanged) => exchanged?,
                Err(_) => {
                    let (url, after) = (&self.url, crate::machine::format::duration(timeout));
                    return Err(failed(
                        "timeout",
                        format!("no whole response from {url} within {after}"),
                        url,
                    ));
                }
            };
            match exchanged.wait.filter(|wait| *wait <= patience) {
                // A server that asks for no time at all is given a moment.
                Some(wait) if !patience.is_zero() => {
                    let wait = wait.max(Duration::from_millis(100));
                    patience = patience.saturating_sub(wait);
                    tokio::time::sleep(wait).await;
                }
                _ => return exchanged.outcome,
            }
        }
    }

    async fn exchange(&self, clients: &HttpClients) -> Result<Exchanged, ErrorData> {
        let (url, options) = (self.url.as_str(), &self.options);
        let mut hop = self.first()?;
        let mut redirects = 0;
        let response = loop {
            let response = hop.send(clients, &self.reach, url).await?;
            match hop.next(&response).filter(|_| options.redirects > 0) {
                None => break response,
                Some(_) if redirects >= options.redirects => {
                    return Err(failed("http_error", format!("{url}: too many redirects"), url));
                }
                Some(next) => {
                    hop = next.map_err(|reason| failed("http_error", format!("{url}: {reason}"), url))?;
                    redirects += 1;
                }
            }
        };
        let status = response.status();
        let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let wait = header(RETRY_AFTER).filter(|_| asks).and_then(|after| retry_wait(after, header(DATE)));
        let wait = wait.map(|nanos| Duration::from_nanos(nanos.cast_unsigned()));
        let headers = headers_of(response.headers());
        let content = match &self.into {
            Some(path) if status.is_success() => ("size", self.save(response, path).await?),
            into => {
                // What is no file is kept in memory.
                let most = if into.is_some() { ERROR_BODY } else { options.max_size };
                ("body", Content::Body(self.body(response, most).await?))
            }
        };
        let content = match content {
            (name, Content::Body(bytes)) => (name, text_or_bytes(bytes)),
            (name, Content::Size(size)) => (name, Value::Int(size as i64)),
        };
        let headers = headers.into_iter().map(|(name, mut values)| {
            let value = match values.len() {
                1 => Value::str(values.swap_remove(0)),
                _ => Value::list(values.into_iter().map(Value::str).collect()),
            };
            (name, value)
        });
        let headers: Vec<(String, Value)> = headers.collect();
        let headers = Value::record(headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let status = ("status", Value::Int(i64::from(status.as_u16())));
        Ok(Exchanged { outcome: data(&Value::record([status, ("headers", headers), content])), wait })
    }

    /// Reads a body of at most `most` bytes.
    async fn body(&self, mut response: Response, most: u64) -> Result<Vec<u8>, ErrorData> {
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| problem(&error, &self.url))? {
            body.extend_from_slice(&part);
            if body.len() as u64 > most {
                return Err(self.too_large(most));
            }
        }
        Ok(body)
    }

    /// Writes a body to a file as it comes. The file gets its name when it is whole.
    async fn save(&self, mut response: Response, path: &str) -> Result<Content, ErrorData> {
        let (shown, reach) = (path.to_string(), self.reach.clone());
        let begun = blocking(move || begin_file(&shown, &reach)).await?;
        let (unfinished, file) = begun?;
        let mut file = tokio::fs::File::from_std(file);
        let unwritten = |error: std::io::Error| {
            let more = [("path", Value::str(path)), ("reason", Value::str("other"))];
            let reason = crate::os::reason(&error);
            ErrorData::with("io_error", format!("could not write {path}: {reason}"), more)
        };
        let mut size: u64 = 0;
        while let Some(part) = response.chunk().await.map_err(|error| problem(&error, &self.url))? {
            size += part.len() as u64;
            if size > self.options.max_size {
                return Err(self.too_large(self.options.max_size));
            }
            file.write_all(&part).await.map_err(unwritten)?;
        }
        file.flush().await.map_err(unwritten)?;
        let (file, shown) = (file.into_std().await, path.to_string());
        let finished = blocking(move || {
            unfinished.finish(&file, None).map_err(|failure| failure.of_regular("write", &shown))
        });
        finished.await??;
        Ok(Content::Size(size))
    }

    fn too_large(&self, most: u64) -> ErrorData {
        let url = &self.url;
        let text = format!("{url}: the body is larger than {most} bytes; option `max_size` allows more");
        failed("http_error", text, url)
    }

    fn first(&self) -> Result<Hop, ErrorData> {
        let bad = |reason: String| failed("http_error", reason, &self.url);
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| bad(format!("`{}` is not an HTTP method", self.method)))?;
        let mut url = Url::parse(&self.url).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => no_scheme(&self.url),
            other => bad(format!("{}: {other}", self.url)),
        })?;
        if !self.options.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.options.query);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.options.headers {
            let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
            let Some((name, value)) = header else {
                return Err(bad(format!("`{name}` is not a header that can be sent")));
            };
            headers.append(name, value);
        }
        if let Some(kind) = self.content_type.filter(|_| !headers.contains_key(CONTENT_TYPE)) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        Ok(Hop { method, url, headers, body: self.body.clone() })
    }
}

impl Hop {
    /// Sends the request, if it may go there. `asked` is the URL that the program asked for.
    async fn send(&self, clients: &HttpClients, reach: &Reach, asked: &str) -> Result<Response, ErrorData> {
        let permissions = &reach.permissions;
        if !matches!(self.url.scheme(), "http" | "https") {
            return Err(no_scheme(asked));
        }
        let target = Target::of(&self.url)
            .ok_or_else(|| failed("http_error", format!("{asked}: it names no host"), asked))?;
        permissions.check_host(&target)?;
        let client = clients.of(permissions, &target)?;
        let mut request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        match &self.body {
            Body::None => {}
            Body::Bytes(bytes) => request = request.body(bytes.clone()),
            Body::Parts(parts) => request = request.multipart(form(parts, reach).await?),
        }
        request.send().await.map_err(|error| problem(&error, asked))
    }

    /// Returns the request that a response redirects to, or `None` if the response is no redirect.
    /// An error says why the redirect cannot be followed.
    fn next(&self, response: &Response) -> Option<Result<Hop, String>> {
        let status = response.status();
        let is_redirect = matches!(
            status,
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
        let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
        let Ok(mut url) = self.url.join(&location) else {
            return Some(Err(format!("it is redirected to `{location}`, which is not a URL")));
        };
        if url.fragment().is_none() {
            url.set_fragment(self.url.fragment());
        }
        let (mut method, mut headers) = (self.method.clone(), self.headers.clone());
        let mut body = self.body.clone();
        let becomes_get = match status {
            StatusCode::SEE_OTHER => method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => method == Method::POST,
            _ => false,
        };
        if becomes_get {
            (method, body) = (Method::GET, Body::None);
            for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
                headers.remove(name);
            }
        }
        if url.origin() != self.url.origin() {
            let kept = |name: &HeaderName| HARMLESS.contains(name);
            let others: Vec<HeaderName> = headers.keys().filter(|name| !kept(name)).cloned().collect();
            for name in others {
                headers.remove(name);
            }
        }
        Some(Ok(Hop { method, url, headers, body }))
    }
}

fn failed(kind: &str, message: String, url: &str) -> ErrorData {
    ErrorData::with(kind, message, [("url", Value::str(url))])
}

fn no_scheme(url: &str) -> ErrorData {
    failed("http_error", format!("{url}: a URL begins with http:// or https://"), url)
}

/// Returns the headers with their values, each name once.
fn headers_of(headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let values = |name: &HeaderName| headers.get_all(name).iter().map(text).collect();
    headers.keys().map(|name| (name.to_string(), values(name))).collect()
}

/// The part of a response that a program gets beside the status and the headers.
enum Content {
    Body(Vec<u8>),
    /// The size of the body, which is in a file.
    Size(u64),
}

/// The largest body of a response that is not saved, since it is an error.
const ERROR_BODY: u64 = 64 << 20;

/// Runs work that may block on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorData> {
    tokio::task::spawn_blocking(work).await.map_err(|error| no_threads(&error.to_string()))
}

fn may_write(path: &str, reach: &Reach) -> Result<(), ErrorData> {
    let place = At::of(path, reach, Patience::None).place(Capability::Write, Last::Followed);
    place.map(|_| ()).map_err(|failure| failure.of_regular("write", path))
}

fn begin_file(path: &str, reach: &Reach) -> Result<(Unfinished, File), ErrorData> {
    let at = At::of(path, reach, Patience::None);
    let begun = at.place(Capability::Write, Last::Followed).and_then(Unfinished::begin);
    begun.map_err(|failure| failure.of_regular("write", path))
}

/// Makes a body of several parts. Files are read while they are sent.
async fn form(parts: &[FormPart], reach: &Reach) -> Result<Form, ErrorData> {
    let mut form = Form::new();
    for part in parts {
        let (mut made, mut name) = match &part.content {
            PartContent::Bytes(bytes) => (Part::bytes(bytes.clone()), None),
            PartContent::File(path) => {
                let (shown, reach) = (path.clone(), reach.clone());
                let opened = blocking(move || {
                    let file = At::of(&shown, &reach, Patience::None).open_regular();
                    let sized = file.and_then(|file| Ok((file.metadata()?.len(), file)));
                    sized.map_err(|failure| failure.of_regular("read", &shown))
                });
                let (size, file) = opened.await??;
                let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
                (Part::stream_with_length(tokio::fs::File::from_std(file), size), name)
            }
        };
        name = part.name.clone().or(name);
        if let Some(name) = name {
            made = made.file_name(name);
        }
        if let Some(kind) = &part.kind {
            let bad = |_| ErrorData::new("type_error", format!("`{kind}` is not a media type"));
            made = made.mime_str(kind).map_err(bad)?;
        }
        form = form.part(part.field.clone(), made);
    }
    Ok(form)
}

/// Returns the error of a request. It is the refusal, if an address is not permitted.
fn problem(error: &reqwest::Error, url: &str) -> ErrorData {
    let mut cause: &dyn Error = error;
    loop {
        if let Some(Refused(refused)) = cause.downcast_ref() {
            return refused.clone();
        }
        match cause.source() {
            Some(inner) => cause = inner,
            // The innermost cause is the clearest.
            None => {
                let reason = crate::os::reason(&cause);
                // This is how the TLS library says that the first bytes are not TLS.
                let is_plain = url.starts_with("https:") && reason.contains("invalidcontenttype");
                let reason = match is_plain {
                    true => "the server does not speak TLS; with http:// it may answer".to_string(),
                    false => reason,
                };
                return failed("http_error", format!("{url}: {reason}"), url);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection to an allowed name goes only to allowed addresses.
    #[test]
    fn a_name_leads_to_permitted_addresses_alone() {
        let denied = ["net=127.0.0.1".to_string(), "net=10.0.0.0/8".to_string()];
        let permissions = Permissions::of(&[], &denied).expect("rules");
        let url = Url::parse("http://service.example:80/").expect("a URL");
        let target = Target::of(&url).expect("a host");
        assert!(permissions.check_host(&target).is_ok());
        let address = |text: &str| SocketAddr::new(text.parse().expect("an address"), 80);
        let [here, inner, outer] = ["127.0.0.1", "10.1.2.3", "93.184.216.34"].map(address);
        assert_eq!(permitted(&permissions, &target, vec![here, outer, inner]), Ok(vec![outer]));
        assert!(permitted(&permissions, &target, vec![here, inner]).is_err());
        assert_eq!(permitted(&permissions, &target, Vec::new()), Ok(Vec::new()));
    }
}
