//! The URL of a database, with what the environment adds, as `psql` does.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::pgpass;
use super::tls::{Tls, Trust};

/// The beginnings of a database's URL.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// The longest wait for a connection to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time after which a server that acknowledges nothing counts as unreachable.
const SILENCE: Duration = Duration::from_secs(15);

/// A text that is no URL of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUrl {
    /// The URL without its password.
    pub url: String,
    pub reason: String,
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no URL of a database: {}", self.url, self.reason)
    }
}

impl std::error::Error for BadUrl {}

/// The URL of a database. Its text never has the password.
#[derive(Clone)]
pub struct Url {
    config: Config,
    tls: Tls,
    shown: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({})", self.shown)
    }
}

/// The variables of the environment that count.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Url {
    /// Whether a text is meant to be a URL, and not the path of a folder.
    pub fn is_meant(text: &str) -> bool {
        let scheme = text.split("://").next().unwrap_or("");
        scheme.len() < text.len()
            && !scheme.is_empty()
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    }

    /// Reads a URL, with this process's environment.
    pub fn parse(text: &str) -> Result<Url, BadUrl> {
        Url::parse_in(text, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Reads a URL, with an environment.
    pub fn parse_in(text: &str, environment: Environment<'_>) -> Result<Url, BadUrl> {
        let shown = without_password(text);
        let bad = |reason: String| BadUrl { url: shown.clone(), reason };
        if !SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(bad("it must begin with `postgres://`".into()));
        }
        let (mut own, base) = own_parameters(text).map_err(bad)?;
        let mut config: Config = base.parse().map_err(|error| bad(reason(&error)))?;
        for (name, variable) in [("sslmode", "PGSSLMODE"), ("sslrootcert", "PGSSLROOTCERT")] {
            if own.iter().all(|(known, _)| known != name)
                && let Some(value) = environment(variable)
            {
                own.push((name.into(), value));
            }
        }
        complete(&mut config, environment);
        let splits = |host: &Host| matches!(host, Host::Tcp(name) if name.contains('@'));
        if config.get_hosts().iter().any(splits) {
            return Err(bad("an `@` in a password is written as `%40`".into()));
        }
        let is_local = config.get_hosts().iter().all(is_local);
        let tls = chosen(&own, is_local).map_err(bad)?;
        config.ssl_mode(match tls {
            Tls::Never => SslMode::Disable,
            Tls::IfOffered => SslMode::Prefer,
            Tls::Always(_) => SslMode::Require,
        });
        Ok(Url { config, tls, shown })
    }

    /// Returns what a connection needs.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Returns the name of the database.
    pub fn database(&self) -> String {
        let name = self.config.get_dbname().or(self.config.get_user());
        name.unwrap_or("of the user's name").to_string()
    }

    /// Returns the server's hosts, for messages.
    pub fn server(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => path.join(format!(".s.PGSQL.{port}")).display().to_string(),
            }
        });
        hosts.collect::<Vec<_>>().join(", ")
    }
}

/// Returns a URL without the password, wherever that is.
fn without_password(text: &str) -> String {
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let begin = base.find("://").map_or(0, |at| at + 3);
    // A password that is not encoded may have a slash in it.
    let base = match base[begin..].rfind('@') {
        Some(at) => {
            let user = base[begin..begin + at].split(':').next().unwrap_or("");
            format!("{}{user}{}", &base[..begin], &base[begin + at..])
        }
        None => base.to_string(),
    };
    let kept = query.map(|query| {
        let kept = query.split('&').filter(|pair| !pair.to_ascii_lowercase().starts_with("password"));
        kept.collect::<Vec<_>>().join("&")
    });
    match kept.filter(|kept| !kept.is_empty()) {
        Some(kept) => format!("{base}?{kept}"),
        None => base,
    }
}

/// Returns the parameters that this module reads, and the URL without them.
fn own_parameters(text: &str) -> Result<(Vec<(String, String)>, String), String> {
    let Some((base, query)) = text.split_once('?') else { return Ok((Vec::new(), text.to_string())) };
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("the parameter `{pair}` has no value"))?;
        match name {
            "sslmode" | "sslrootcert" => {
                let value = percent_decode_str(value).decode_utf8();
                let value = value.map_err(|_| format!("the value of `{name}` is not UTF-8"))?;
                own.push((name.to_string(), value.into_owned()));
            }
            _ => others.push(pair),
        }
    }
    let base = if others.is_empty() { base.to_string() } else { format!("{base}?{}", others.join("&")) };
    Ok((own, base))
}

/// Returns why the library refuses a URL.
fn reason(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}

/// Adds what the environment says, and what holds for all connections.
fn complete(config: &mut Config, environment: Environment<'_>) {
    if config.get_hosts().is_empty() {
        match environment("PGHOST") {
            Some(host) => config.host(host),
            None if Path::new("/var/run/postgresql").is_dir() => config.host("/var/run/postgresql"),
            None => config.host("localhost"),
        };
    }
    if config.get_ports().is_empty()
        && let Some(port) = environment("PGPORT").and_then(|port| port.parse().ok())
    {
        config.port(port);
    }
    if config.get_user().is_none()
        && let Some(user) = environment("PGUSER").or_else(system_user)
    {
        config.user(user);
    }
    if config.get_dbname().is_none()
        && let Some(name) = environment("PGDATABASE")
    {
        config.dbname(name);
    }
    if config.get_password().is_none() {
        let password = environment("PGPASSWORD").or_else(|| stored_password(config, environment));
        if let Some(password) = password {
            config.password(password);
        }
    }
    if config.get_application_name().is_none() {
        config.application_name("durable");
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE / 3).keepalives_interval(SILENCE / 6).keepalives_retries(4);
    }
}

fn system_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok()??;
    Some(user.name)
}

/// Looks the password up in the file of passwords, which must be readable by its owner alone.
fn stored_password(config: &Config, environment: Environment<'_>) -> Option<String> {
    let path = match environment("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(environment("HOME")?).join(".pgpass"),
    };
    if !crate::os::is_private(&path) {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(_) => "localhost".into(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user()?;
    pgpass::password(&text, [&host, &port, config.get_dbname().unwrap_or(user), user])
}

/// Whether a host is this machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Returns the TLS that the parameters ask for. Without any, a connection to another machine needs
/// the server's certificate to be right.
fn chosen(own: &[(String, String)], is_local: bool) -> Result<Tls, String> {
    let find = |name: &str| own.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let roots = find("sslrootcert").filter(|path| *path != "system").map(PathBuf::from);
    let trust = |has_name| match has_name {
        true => Trust::Name { roots: roots.clone() },
        false => Trust::Chain { roots: roots.clone() },
    };
    Ok(match find("sslmode") {
        None if is_local && find("sslrootcert").is_none() => Tls::Never,
        // Anybody can have a certificate of those authorities.
        Some(mode) if find("sslrootcert") == Some("system") && mode != "verify-full" => {
            return Err("`sslrootcert=system` needs `sslmode=verify-full`".into());
        }
        None | Some("verify-full") => Tls::Always(trust(true)),
        Some("verify-ca") => Tls::Always(trust(false)),
        // With roots, `psql` checks the certificate as well.
        Some("require") if roots.is_some() => Tls::Always(trust(false)),
        Some("require") => Tls::Always(Trust::Anyone),
        Some("prefer" | "allow") => Tls::IfOffered,
        Some("disable") => Tls::Never,
        Some(other) => {
            return Err(format!(
                "`sslmode` is `{other}`, and can be `disable`, `prefer`, `require`, `verify-ca` or `verify-full`"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Url, BadUrl> {
        Url::parse_in(text, &|name| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    fn tls(text: &str, environment: &[(&str, &str)]) -> Tls {
        parse(text, environment).expect("a URL").tls
    }

    /// Without a word on TLS, another machine must show a certificate for its name.
    #[test]
    fn only_this_machine_needs_no_tls() {
        let name = |roots: Option<&str>| Tls::Always(Trust::Name { roots: roots.map(PathBuf::from) });
        let chain = |roots: Option<&str>| Tls::Always(Trust::Chain { roots: roots.map(PathBuf::from) });
        for local in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpg"] {
            assert_eq!(tls(&format!("postgres://ann@{local}/db"), &[]), Tls::Never, "{local}");
        }
        assert_eq!(tls("postgres://db.example.org/x", &[]), name(None));
        assert_eq!(tls("postgresql://10.0.0.1/x?sslrootcert=%2Fca", &[]), name(Some("/ca")));
        assert_eq!(tls("postgres://localhost/x?sslrootcert=ca", &[]), name(Some("ca")));
        assert_eq!(tls("postgres://db/x?sslmode=verify-ca", &[("PGSSLROOTCERT", "ca")]), chain(Some("ca")));
        assert_eq!(tls("postgres://db/x?sslmode=require", &[]), Tls::Always(Trust::Anyone));
        assert_eq!(tls("postgres://db/x", &[("PGSSLMODE", "disable")]), Tls::Never);
        assert_eq!(tls("postgres://db/x?sslmode=prefer", &[("PGSSLMODE", "disable")]), Tls::IfOffered);
        assert_eq!(tls("postgres://db/x?sslrootcert=system&sslmode=verify-full", &[]), name(None));
    }

    /// The environment says what the URL leaves out, as for `psql`.
    #[test]
    fn the_environment_completes_the_url() {
        let environment = [
            ("PGHOST", "db"),
            ("PGPORT", "6"),
            ("PGUSER", "ann"),
            ("PGDATABASE", "shop"),
            ("PGPASSWORD", "pw"),
        ];
        let url = parse("postgres://", &environment).expect("a URL");
        assert_eq!((url.server(), url.database()), ("db:6".into(), "shop".into()));
        assert_eq!((url.config.get_user(), url.config.get_password()), (Some("ann"), Some(&b"pw"[..])));
        let url = parse("postgres://bob:x@h:7/y", &environment).expect("a URL");
        assert_eq!((url.server(), url.database()), ("h:7".into(), "y".into()));
        assert_eq!((url.config.get_user(), url.config.get_password()), (Some("bob"), Some(&b"x"[..])));
    }

    /// No text of a URL has its password, right or wrong.
    #[test]
    fn passwords_are_not_shown() {
        for text in [
            "postgres://ann:sec/ret@h/db",
            "postgres://ann:s@ecret@h/db",
            "postgres://ann@h/db?password=secret",
            "postgres://ann:secret@h:port/db",
            "postgre://ann:secret@h/db",
            "postgres://ann:secret@h/db?sslmode=maybe",
            "postgres://ann:secret@h/db?nothing=x",
        ] {
            let shown = match parse(text, &[]) {
                Ok(url) => format!("{url} {url:?} {}", url.server()),
                Err(error) => error.to_string(),
            };
            let has = ["secret", "sec/ret", "ecret"].iter().any(|password| shown.contains(password));
            assert!(!has && shown.contains("//ann@h"), "{shown}");
        }
    }

    /// A text with a scheme is meant to be a URL.
    #[test]
    fn a_wrong_url_says_what_is_wrong() {
        for (text, reason) in [
            ("mysql://h/db", "must begin with `postgres://`"),
            ("postgres://h:port/db", "port"),
            ("postgres://h/db?sslmode=maybe", "`sslmode` is `maybe`"),
            ("postgres://h/db?nothing=1", "nothing"),
            ("postgres://h/db?nothing", "has no value"),
        ] {
            assert!(Url::is_meant(text));
            let error = parse(text, &[]).expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
        for folder in [".durable", "/var/lib/x", "a:b", "C:\\x", "://x"] {
            assert!(!Url::is_meant(folder), "{folder}");
        }
    }
}
