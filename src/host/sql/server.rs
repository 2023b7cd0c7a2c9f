//! PostgreSQL servers: the URL of one, and the connections to it.
//!
//! Invariant: a connection goes only to an address that was checked. The name of a server is looked
//! up once for each connection.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Config, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::machine::ErrorData;
use crate::machine::error::type_error;
use crate::machine::sql::{self, Database};
use crate::permissions::{Capability, Permissions, Target};
use crate::store::postgres::tls;

use super::super::at::{At, Reach};
use super::super::http::{blocking, permitted};
use super::super::pipes::Patience;
use super::super::walk::Last;
use super::error::{Tried, Trouble, TroubleKind, lost, of_postgres};
use super::wire::Wire;

/// The port of PostgreSQL.
const PORT: u16 = 5432;
/// The time limit for a connection to one address, with its greeting.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// A server, as a URL describes it.
pub(super) struct Server {
    at: Host,
    config: Config,
    verify: Verify,
    /// The file with the certificates of authorities.
    roots: Option<String>,
    /// The server in messages: its host and port, and nothing else of the URL.
    pub shown: String,
}

enum Host {
    Tcp {
        target: Target,
        host: String,
    },
    /// A socket in a folder of this machine.
    Socket(PathBuf),
}

/// What the certificate of a server must show.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verify {
    /// Nothing: the connection is encrypted, with whoever answers.
    Nothing,
    /// That an authority has signed it.
    Authority,
    /// The authority, and the name of the server.
    Name,
}

/// The place that a connection was made to, so that a statement of it can be cancelled.
#[derive(Clone)]
pub(super) enum Found {
    Tcp(std::net::SocketAddr),
    Socket(PathBuf),
}

/// The encryption of a connection to a server of a name.
#[derive(Clone)]
pub(super) struct Tls {
    make: MakeRustlsConnect,
    host: String,
}

impl Tls {
    /// Returns the connector of one connection.
    pub(super) fn connector(&self) -> Result<Connector, String> {
        let mut make = self.make.clone();
        MakeTlsConnect::<Wire>::make_tls_connect(&mut make, &self.host).map_err(|error| error.to_string())
    }
}

pub(super) type Connector = <MakeRustlsConnect as MakeTlsConnect<Wire>>::TlsConnect;

/// A connection, and what it takes to cancel a statement of it.
pub(super) struct Raw {
    pub client: Client,
    pub found: Found,
    pub tls: Option<Tls>,
}

fn unfit(reason: impl std::fmt::Display) -> ErrorData {
    type_error(format!("the URL of the database: {reason}")).into()
}

/// The parameters that a URL may have.
const KNOWN: &str =
    "`sslmode`, `sslrootcert`, `application_name`, `options`, `host`, `port`, `user`, `password`, `dbname`";

/// What the parameters of a URL say about the connection.
#[derive(Default)]
struct Asked {
    tls: Option<(SslMode, Verify)>,
    /// The file with the certificates of authorities.
    roots: Option<String>,
    /// The folder of a socket.
    folder: Option<String>,
}

impl Asked {
    /// Reads the parameters of a URL. Some of them set parts of the URL, or of the configuration.
    fn of(url: &mut Url, config: &mut Config) -> Result<Asked, ErrorData> {
        let mut asked = Asked::default();
        let mut is_of_the_system = false;
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        for (name, value) in pairs {
            match name.as_str() {
                "sslmode" => asked.tls = Some(mode(&value)?),
                "sslrootcert" if value == "system" => is_of_the_system = true,
                "sslrootcert" => asked.roots = Some(value),
                "application_name" => drop(config.application_name(value)),
                "options" => drop(config.options(value)),
                "user" => drop(config.user(value)),
                "password" => drop(config.password(value)),
                "dbname" => drop(config.dbname(value)),
                "host" if value.starts_with('/') => asked.folder = Some(value),
                "host" => url.set_host(Some(&value)).map_err(unfit)?,
                "port" => {
                    let port = value.parse().map_err(|_| unfit(format!("`{value}` is no port")))?;
                    url.set_port(Some(port)).map_err(|()| unfit("it has no host, and so no port"))?;
                }
                other => return Err(unfit(format!("`{other}` is not a parameter; those are {KNOWN}"))),
            }
        }
        if is_of_the_system {
            // Anybody can have a certificate of those authorities.
            match asked.tls.get_or_insert((SslMode::Require, Verify::Name)) {
                (_, Verify::Name) => {}
                _ => return Err(unfit("`sslrootcert=system` needs `sslmode=verify-full`")),
            }
        }
        Ok(asked)
    }
}

/// Reads the mode of encryption.
fn mode(value: &str) -> Result<(SslMode, Verify), ErrorData> {
    Ok(match value {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Authority),
        "verify-full" => (SslMode::Require, Verify::Name),
        other => {
            return Err(unfit(format!(
                "`sslmode` is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, not `{other}`"
            )));
        }
    })
}

impl Server {
    /// Reads the URL of a database.
    pub(super) fn of(database: &Database) -> Result<Server, ErrorData> {
        let mut url = sql::server_url(&database.url).map_err(unfit)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(unfit("it begins with postgres:// or sqlite:"));
        }
        let mut config = Config::new();
        config.application_name("durable");
        let decoded =
            |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(unfit);
        if !url.username().is_empty() {
            config.user(decoded(url.username())?);
        }
        if let Some(password) = url.password() {
            config.password(decoded(password)?);
        }
        let name = decoded(url.path().trim_start_matches('/'))?;
        if !name.is_empty() {
            config.dbname(name);
        }
        let Asked { tls, roots, folder } = Asked::of(&mut url, &mut config)?;
        if let Some(password) = &database.password {
            config.password(password);
        }
        let port = url.port().unwrap_or(PORT);
        if let Some(folder) = folder {
            let path = PathBuf::from(folder).join(format!(".s.PGSQL.{port}"));
            let shown = path.display().to_string();
            config.ssl_mode(SslMode::Disable);
            return Ok(Server {
                at: Host::Socket(path),
                config,
                verify: Verify::Nothing,
                roots: None,
                shown,
            });
        }
        let target = Target::of(&url).ok_or_else(|| unfit("it names no host"))?;
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = decoded(host)?;
        // Without a word about it, a connection to another machine needs the right certificate.
        let is_here =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (mode, verify) = tls.unwrap_or(match is_here && roots.is_none() {
            true => (SslMode::Disable, Verify::Nothing),
            false => (SslMode::Require, Verify::Name),
        });
        config.ssl_mode(mode);
        let shown = format!("{}:{port}", url.host_str().unwrap_or_default());
        Ok(Server { at: Host::Tcp { target, host }, config, verify, roots, shown })
    }

    /// Connects to one of the addresses that the permissions allow.
    pub(super) async fn connect(&self, reach: &Reach) -> Tried<Raw> {
        match &self.at {
            Host::Socket(path) => {
                let (shown, reach) = (path.display().to_string(), reach.clone());
                let real = blocking(move || socket(&shown, &reach)).await??;
                self.greet(Found::Socket(real), None).await
            }
            Host::Tcp { target, host } => {
                let tls = self.tls(host, reach).await?;
                let mut last = lost(&self.shown, "the name has no address");
                for address in self.addresses(target, host, &reach.permissions).await? {
                    match self.greet(Found::Tcp(address), tls.clone()).await {
                        Err(trouble) if trouble.kind == TroubleKind::Lost => last = trouble,
                        other => return other,
                    }
                }
                Err(last)
            }
        }
    }

    async fn addresses(
        &self,
        target: &Target,
        host: &str,
        permissions: &Permissions,
    ) -> Tried<Vec<std::net::SocketAddr>> {
        permissions.check_host(target)?;
        let found = tokio::net::lookup_host((host, target.port())).await;
        let found = found.map_err(|error| lost(&self.shown, &crate::os::reason(&error)))?;
        Ok(permitted(permissions, target, found.collect())?)
    }

    async fn tls(&self, host: &str, reach: &Reach) -> Tried<Option<Tls>> {
        if self.config.get_ssl_mode() == SslMode::Disable {
            return Ok(None);
        }
        let file = match self.roots.clone() {
            None => None,
            Some(path) => {
                let (shown, reach) = (path.clone(), reach.clone());
                Some((path, blocking(move || certificates(&shown, &reach)).await??))
            }
        };
        // libpq verifies the authority when a file of certificates is given.
        let verify = match (self.verify, &file) {
            (Verify::Nothing, Some(_)) if self.config.get_ssl_mode() == SslMode::Require => Verify::Authority,
            (verify, _) => verify,
        };
        let make = blocking(move || {
            let roots = || tls::roots(file.as_ref().map(|(path, pem)| (path.as_str(), pem.as_slice())));
            tls::verifying(match verify {
                Verify::Nothing => tls::Verify::Nothing,
                Verify::Authority => tls::Verify::Authority(roots()?),
                Verify::Name => tls::Verify::Name(roots()?),
            })
        });
        let make = make.await?.map_err(|reason| Trouble::from(unfit(reason)))?;
        Ok(Some(Tls { make, host: host.to_string() }))
    }

    /// Greets a server at a place.
    async fn greet(&self, found: Found, tls: Option<Tls>) -> Tried<Raw> {
        let greeted = tokio::time::timeout(CONNECT_TIME, async {
            let wire = found.open().await.map_err(|error| {
                lost(&self.shown, &format!("could not connect: {}", crate::os::reason(&error)))
            })?;
            match tls.clone() {
                None => self.drive(self.config.connect_raw(wire, NoTls).await),
                Some(tls) => {
                    let connector = tls.connector().map_err(|reason| lost(&self.shown, &reason))?;
                    self.drive(self.config.connect_raw(wire, connector).await)
                }
            }
        });
        match greeted.await {
            Ok(client) => Ok(Raw { client: client?, found, tls }),
            Err(_) => Err(lost(&self.shown, "could not connect: no answer")),
        }
    }

    /// Starts the task that carries the messages of a connection.
    fn drive<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        connected: Result<(Client, Connection<Wire, T>), tokio_postgres::Error>,
    ) -> Tried<Client> {
        let (client, connection) = connected.map_err(|error| {
            let is_of_the_server = error.as_db_error().is_some();
            let trouble = of_postgres(error, &self.shown);
            match is_of_the_server || trouble.kind == TroubleKind::Lost {
                true => trouble,
                // A greeting that failed is a connection that could not be made.
                false => lost(&self.shown, &title(&trouble.error)),
            }
        })?;
        // Its errors come to the client as well.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }
}

fn title(error: &ErrorData) -> String {
    crate::machine::error::message(&error.value.decode())
}

impl Found {
    pub(super) async fn open(&self) -> std::io::Result<Wire> {
        Ok(match self {
            Found::Socket(path) => Wire::Socket(UnixStream::connect(path).await?),
            Found::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Wire::Tcp(stream)
            }
        })
    }
}

/// Returns the path of a socket without links, if the program may read and write it.
fn socket(shown: &str, reach: &Reach) -> Result<PathBuf, ErrorData> {
    let at = At::of(shown, reach, Patience::None);
    let place = at.place(Capability::Read, Last::Followed);
    let place = place.and_then(|place| at.check(Capability::Write, &place.real).map(|()| place));
    place.map(|place| place.real).map_err(|failure| failure.of_regular("connect to", shown))
}

/// Reads the certificates of authorities.
fn certificates(path: &str, reach: &Reach) -> Result<Vec<u8>, ErrorData> {
    use std::io::Read;
    let opened = At::of(path, reach, Patience::None).open_regular();
    let read = opened.and_then(|mut file| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    read.map_err(|failure| failure.of_regular("read", path))
}
