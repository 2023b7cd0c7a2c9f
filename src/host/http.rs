//! HTTP requests, by reqwest.
//!
//! A request goes only to addresses that were checked. A name is looked up once, and the connection
//! goes to one of the addresses found. The code here follows redirects, each as a request of its
//! own.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue, LOCATION, USER_AGENT,
};
use reqwest::{Client, Method, Response, StatusCode, Url, redirect};

use crate::machine::options::{Http, http};
use crate::machine::{Data, ErrorData, Value, json};
use crate::permissions::{Capability, Permissions, Target};

use super::{EffectResult, data, text_or_bytes};

/// A request that is ready to be sent, as plain data for any thread.
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
fn permitted(
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
    body: Option<Vec<u8>>,
}

impl Call {
    /// Sends the request and reads the whole response.
    pub(crate) async fn send(self, clients: HttpClients, permissions: Permissions) -> EffectResult {
        let url = self.url.clone();
        let timeout = self.options.timeout;
        let limit = Duration::from_nanos(u64::try_from(timeout).unwrap_or(0));
        match tokio::time::timeout(limit, self.exchange(clients, permissions)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let after = crate::machine::format::duration(timeout);
                Err(failed("timeout", format!("no whole response from {url} within {after}"), &url))
            }
        }
    }

    async fn exchange(self, clients: HttpClients, permissions: Permissions) -> EffectResult {
        let (url, options) = (self.url.clone(), self.options.clone());
        let mut hop = self.first()?;
        let mut redirects = 0;
        let mut response = loop {
            let response = hop.send(&clients, &permissions, &url).await?;
            match hop.next(&response).filter(|_| options.redirects > 0) {
                None => break response,
                Some(_) if redirects >= options.redirects => {
                    return Err(failed("http_error", format!("{url}: too many redirects"), &url));
                }
                Some(next) => {
                    hop = next.map_err(|reason| failed("http_error", format!("{url}: {reason}"), &url))?;
                    redirects += 1;
                }
            }
        };
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
        while let Some(part) = response.chunk().await.map_err(|error| problem(&error, &url))? {
            body.extend_from_slice(&part);
            if body.len() as u64 > options.max_size {
                let text = format!(
                    "{url}: the body is larger than {} bytes; option `max_size` allows more",
                    options.max_size
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

    fn first(self) -> Result<Hop, ErrorData> {
        let bad = |reason: String| failed("http_error", reason, &self.url);
        let method = Method::from_bytes(self.method.as_bytes())
            .map_err(|_| bad(format!("`{}` is not an HTTP method", self.method)))?;
        let mut url = Url::parse(&self.url).map_err(|error| bad(format!("{}: {error}", self.url)))?;
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
        Ok(Hop { method, url, headers, body: self.body })
    }
}

impl Hop {
    /// Sends the request, if it may go there. `asked` is the URL that the program asked for.
    async fn send(
        &self,
        clients: &HttpClients,
        permissions: &Permissions,
        asked: &str,
    ) -> Result<Response, ErrorData> {
        if !matches!(self.url.scheme(), "http" | "https") {
            let text = format!("{asked}: `{}` is not HTTP", self.url.scheme());
            return Err(failed("http_error", text, asked));
        }
        let target = Target::of(&self.url)
            .ok_or_else(|| failed("http_error", format!("{asked}: it names no host"), asked))?;
        permissions.check_host(&target)?;
        let client = clients.of(permissions, &target)?;
        let mut request = client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
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
            (method, body) = (Method::GET, None);
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
            None => return failed("http_error", format!("{url}: {}", crate::os::reason(&cause)), url),
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
