//! Hosts, addresses, ranges and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use reqwest::Url;

/// The target of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    host: Host,
    port: u16,
    shown: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Returns the target of a URL, or `None` if the URL has no host or no port.
    pub fn of(url: &Url) -> Option<Target> {
        let text = url.host_str()?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let host = match bare.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(bare.trim_end_matches('.').to_ascii_lowercase()),
        };
        let shown = url.port().map_or_else(|| text.to_string(), |port| format!("{text}:{port}"));
        let is_postgres = matches!(url.scheme(), "postgres" | "postgresql");
        let port = url.port_or_known_default().or(is_postgres.then_some(5432))?;
        Some(Target { host, port, shown })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the target as written in a URL.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Returns the target's address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        }
    }
}

/// A pattern of one or several hosts, with one port or all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Hosts {
    Name(String),
    /// All names below a name.
    Below(String),
    /// An address, or a range of addresses.
    Range(IpNet),
}

impl Pattern {
    /// Reads `a.com`, `*.a.com`, `10.0.0.1`, `10.0.0.0/8`, `::1` or `[fe80::/10]`, with or without
    /// `:PORT`, which needs brackets after an IPv6 address. An error says why the pattern can match
    /// nothing.
    pub(super) fn parse(text: &str) -> Result<Pattern, String> {
        if text.contains("://") {
            return Err("can match nothing: it is a URL, and hosts are listed, like `example.com` or `example.com:443`".into());
        }
        if text == "*" || text == "*:*" {
            return Err("stands for every host: write `net`".into());
        }
        if let Some(range) = range(text) {
            return Ok(Pattern { hosts: Hosts::Range(range), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(self::port(port)?)),
        };
        if let Some(range) = range(host) {
            return Ok(Pattern { hosts: Hosts::Range(range), port });
        }
        if host.starts_with('[') || host.contains(':') {
            return Err("can match nothing: it is not an address; one with a port is `[::1]:80`".into());
        }
        if host.contains('/') {
            return Err(
                "can match nothing: it is neither a host nor a range of addresses like `10.0.0.0/8`".into()
            );
        }
        let (name, is_below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
        let hosts = match (canonical(name)?, is_below) {
            (Host::Name(name), true) => Hosts::Below(format!(".{name}")),
            (Host::Name(name), false) => Hosts::Name(name),
            (Host::Address(address), false) => Hosts::Range(address.to_canonical().into()),
            (Host::Address(_), true) => {
                return Err("can match nothing: an address has nothing below it".into());
            }
        };
        Ok(Pattern { hosts, port })
    }

    /// Returns whether the pattern allows a target, or may allow it once its address is known.
    pub(super) fn may_allow(&self, target: &Target) -> bool {
        match (&self.hosts, target.address()) {
            (_, Some(address)) => self.allows(target, address),
            (Hosts::Range(_), None) => self.is_of(target.port),
            (_, None) => self.names(target),
        }
    }

    /// Returns whether the pattern allows a target at an address.
    pub(super) fn allows(&self, target: &Target, address: IpAddr) -> bool {
        match &self.hosts {
            Hosts::Range(range) => {
                self.is_of(target.port) && forms(address).iter().any(|form| range.contains(form))
            }
            _ => self.names(target),
        }
    }

    /// Returns whether the pattern denies a target, whose address may be unknown. All addresses of
    /// this machine itself count as one.
    pub(super) fn denies(&self, target: &Target, address: Option<IpAddr>) -> bool {
        if !self.is_of(target.port) {
            return false;
        }
        let is_here = address.is_some_and(is_of_this_machine)
            || matches!(&target.host, Host::Name(name) if is_localhost(name));
        match &self.hosts {
            Hosts::Range(range) => {
                let covers = |address| forms(address).iter().any(|form| range.contains(form));
                address.is_some_and(covers) || (is_here && is_of_this_machine(range.network()))
            }
            Hosts::Name(name) if is_localhost(name) => is_here,
            _ => self.names(target),
        }
    }

    fn is_of(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    fn names(&self, target: &Target) -> bool {
        let Host::Name(name) = &target.host else { return false };
        self.is_of(target.port)
            && match &self.hosts {
                Hosts::Name(own) => own == name,
                Hosts::Below(end) => name.ends_with(end.as_str()),
                Hosts::Range(_) => false,
            }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.hosts {
            Hosts::Name(name) => name.clone(),
            Hosts::Below(end) => format!("*{end}"),
            Hosts::Range(range) if range.prefix_len() == range.max_prefix_len() => range.addr().to_string(),
            Hosts::Range(range) => range.to_string(),
        };
        match self.port {
            None => write!(f, "{host}"),
            Some(port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some(port) => write!(f, "{host}:{port}"),
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("can match nothing: `{text}` is not a port")),
        Ok(port) => Ok(port),
    }
}

/// Reads an address or a range, with or without brackets. IPv6 forms of IPv4 addresses become IPv4.
fn range(text: &str) -> Option<IpNet> {
    let bare = match text.strip_prefix('[') {
        None => text.to_string(),
        Some(rest) => match rest.split_once(']')? {
            // `[fe80::]/10` is allowed too.
            (address, after) if after.is_empty() || after.starts_with('/') => format!("{address}{after}"),
            _ => return None,
        },
    };
    let net: IpNet = match bare.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => bare.parse::<IpNet>().ok()?.trunc(),
    };
    let mapped = match net {
        IpNet::V6(net) if net.prefix_len() >= 96 => {
            net.addr().to_ipv4_mapped().and_then(|address| Ipv4Net::new(address, net.prefix_len() - 96).ok())
        }
        _ => None,
    };
    Some(mapped.map_or(net, IpNet::V4))
}

/// Returns a host's name in the form that requests have.
fn canonical(name: &str) -> Result<Host, String> {
    let bad = || "can match nothing: it is not the name of a host".to_string();
    if name.is_empty()
        || name.contains(['/', '\\', '@', '?', '#', '*', '%', ':'])
        || name.contains(char::is_whitespace)
    {
        return Err(bad());
    }
    let url = Url::parse(&format!("http://{name}/")).map_err(|_| bad())?;
    Target::of(&url)
        .map(|target| target.host)
        // No host has a name with an empty part. One dot may end a name.
        .filter(|host| matches!(host, Host::Address(_)) || !has_empty_part(&url))
        .ok_or_else(bad)
}

fn has_empty_part(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host).split('.').any(str::is_empty)
}

/// Returns an address in all forms that reach the same host.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    if let IpAddr::V6(v6) = address {
        let embedded = match v6.segments() {
            // The network (RFC 6052) or the system translates these to IPv4.
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0xffff, high, low] => Some((high, low)),
            _ => None,
        };
        forms.extend(
            embedded.map(|(high, low)| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))),
        );
    }
    forms
}

/// Returns whether an address is this machine on every network: a loopback or unspecified address.
fn is_of_this_machine(address: IpAddr) -> bool {
    forms(address).iter().any(|form| {
        form.is_loopback()
            || form.is_unspecified()
            || matches!(form, IpAddr::V6(v6) if *v6 == Ipv6Addr::LOCALHOST)
    })
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}
