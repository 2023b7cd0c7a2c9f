//! What programs may do outside: reach hosts, use files, run other programs, read variables of the environment.

use std::path::{Component, Path, PathBuf};

use crate::machine::{Data, ErrorData, Value};

/// A kind of what is outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    Net,
    Fs,
    Exec,
    Env,
}

const ALL: [Capability; 4] = [Capability::Net, Capability::Fs, Capability::Exec, Capability::Env];

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Capability::Net => "net",
            Capability::Fs => "fs",
            Capability::Exec => "exec",
            Capability::Env => "env",
        }
    }

    /// What its `=` lists.
    fn lists(self) -> &'static str {
        match self {
            Capability::Net => "hosts",
            Capability::Fs => "paths",
            Capability::Exec => "programs",
            Capability::Env => "names",
        }
    }
}

/// A capability, whole or only for some hosts, paths, programs or names.
#[derive(Clone, Debug, PartialEq)]
struct Grant {
    capability: Capability,
    /// None for all.
    only: Option<Vec<String>>,
}

/// What is allowed and what is denied. What is denied is so even where it is allowed as well.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permissions {
    /// None for all.
    allowed: Option<Vec<Grant>>,
    denied: Vec<Grant>,
}

impl Permissions {
    /// From lists as they are written after `--allow` and `--deny`: `net=a.com,b.com,fs=data`. Without any `allow` all
    /// is allowed. An error says what is wrong.
    pub fn of(allow: &[String], deny: &[String]) -> Result<Permissions, String> {
        let allowed = match allow {
            [] => None,
            lists => Some(grants(lists)?),
        };
        Ok(Permissions { allowed, denied: grants(deny)? })
    }

    /// Whether all is allowed.
    pub fn are_all(&self) -> bool {
        self.allowed.is_none() && self.denied.is_empty()
    }

    /// Whether a host, a path, a program or a name may be used; the error otherwise.
    pub fn check(&self, capability: Capability, what: &str) -> Result<(), ErrorData> {
        let has = |grants: &[Grant]| {
            grants.iter().filter(|grant| grant.capability == capability).any(|grant| match &grant.only {
                None => true,
                Some(only) => only.iter().any(|known| covers(capability, known, what)),
            })
        };
        let allowed = self.allowed.as_deref().is_none_or(has);
        let denied = has(&self.denied);
        if allowed && !denied {
            return Ok(());
        }
        let flag = format!("--allow {}={what}", capability.name());
        let reason = match denied {
            true => {
                format!("`{what}` is denied: `--deny {}` or the `deny` of durable.toml", capability.name())
            }
            false => format!("`{what}` is not allowed; `{flag}` would allow it"),
        };
        let more = [
            ("capability", Value::str(capability.name())),
            ("what", Value::str(what)),
            ("flag", if denied { Value::Null } else { Value::str(flag) }),
        ];
        Err(ErrorData::with("not_permitted", reason, more))
    }

    /// Whether an effect may be done; the error otherwise.
    pub fn permit(&self, effect: &str, args: &Data) -> Result<(), ErrorData> {
        if self.are_all() {
            return Ok(());
        }
        let args = args.items();
        let text = |at: usize| match args.get(at) {
            Some(Value::Str(text)) => text.as_str().to_string(),
            _ => String::new(),
        };
        match effect {
            "http" => self.check(Capability::Net, &host(&text(1))),
            "exec" => self.check(Capability::Exec, &text(0)),
            "env" => self.check(Capability::Env, &text(0)),
            name if name.starts_with("fs_") => self.check(Capability::Fs, &text(0)),
            _ => Ok(()),
        }
    }
}

/// The host of a URL, with its port where that is written.
pub fn host(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(url) => match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_string(),
            (None, _) => url.to_string(),
        },
        Err(_) => url.to_string(),
    }
}

fn grants(lists: &[String]) -> Result<Vec<Grant>, String> {
    let mut grants: Vec<Grant> = Vec::new();
    for list in lists {
        // What follows a comma is another of the same kind, unless it names a kind.
        let mut lists_on = false;
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, first) =
                part.split_once('=').map_or((part, None), |(name, first)| (name, Some(first)));
            let capability = ALL.into_iter().find(|known| known.name() == name);
            match (capability, first) {
                (Some(capability), Some("")) => {
                    return Err(format!("`{name}=` lists no {}", capability.lists()));
                }
                (Some(capability), first) => {
                    grants.push(Grant { capability, only: first.map(|first| vec![first.to_string()]) });
                    lists_on = first.is_some();
                }
                (None, None) if lists_on => {
                    if let Some(only) = grants.last_mut().and_then(|grant| grant.only.as_mut()) {
                        only.push(part.to_string());
                    }
                }
                _ => {
                    return Err(format!(
                        "`{name}` is nothing that can be allowed: it is net, fs, exec or env"
                    ));
                }
            }
        }
    }
    Ok(grants)
}

/// Whether what was listed stands for what is used.
fn covers(capability: Capability, listed: &str, used: &str) -> bool {
    match capability {
        Capability::Env => listed == used,
        Capability::Exec => {
            listed == used
                || (!listed.contains('/') && Path::new(used).file_name().is_some_and(|name| name == listed))
        }
        Capability::Fs => real(used).starts_with(real(listed)),
        Capability::Net => {
            let (listed, used) = (listed.to_ascii_lowercase(), used.to_ascii_lowercase());
            let name = match used.rsplit_once(':') {
                Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
                _ => used.as_str(),
            };
            let end = listed.strip_prefix('*').filter(|end| end.starts_with('.'));
            listed == used || listed == name || end.is_some_and(|end| name.ends_with(end))
        }
    }
}

/// A path as the system would follow it: whole, without `..`, and without links as far as it exists.
fn real(path: &str) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    let mut rest: Vec<std::ffi::OsString> = Vec::new();
    let mut known = whole.clone();
    let mut found = loop {
        if let Ok(found) = known.canonicalize() {
            break found;
        }
        match (known.file_name(), known.parent()) {
            (Some(name), Some(parent)) => {
                rest.push(name.to_os_string());
                known = parent.to_path_buf();
            }
            // It ends in `..` below what does not exist.
            (None, Some(parent)) => {
                rest.push("..".into());
                known = parent.to_path_buf();
            }
            _ => break known,
        }
    };
    for part in rest.iter().rev() {
        match Path::new(part).components().next() {
            Some(Component::ParentDir) => {
                found.pop();
            }
            _ => found.push(part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allow: &[&str], deny: &[&str], capability: Capability, what: &str) -> bool {
        let owned = |list: &[&str]| list.iter().map(|part| part.to_string()).collect::<Vec<_>>();
        let permissions = Permissions::of(&owned(allow), &owned(deny)).expect("they can be read");
        permissions.check(capability, what).is_ok()
    }

    #[test]
    fn lists_go_on_until_another_kind_is_named() {
        use Capability::*;
        assert!(permits(&[], &[], Net, "a.com"));
        assert!(permits(&["net=a.com,b.com,env"], &[], Net, "b.com:8080"));
        assert!(!permits(&["net=a.com,b.com,env"], &[], Net, "c.com"));
        assert!(permits(&["net=a.com,b.com,env"], &[], Env, "HOME"));
        assert!(!permits(&["net=a.com"], &[], Fs, "x"));
        assert!(
            permits(&["net=*.a.com"], &[], Net, "x.a.com") && !permits(&["net=*.a.com"], &[], Net, "xa.com")
        );
        assert!(
            !permits(&["net"], &["net=a.com"], Net, "A.com")
                && permits(&["net"], &["net=a.com"], Net, "b.com")
        );
        assert!(!permits(&[], &["exec"], Exec, "ls") && permits(&["exec=git"], &[], Exec, "/usr/bin/git"));
        assert!(Permissions::of(&["nett".into()], &[]).is_err());
        assert!(Permissions::of(&["fs=".into()], &[]).is_err());
    }

    #[test]
    fn paths_are_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path).display().to_string();
        std::fs::create_dir(at("data")).expect("a folder");
        std::os::unix::fs::symlink("/", at("data/root")).expect("a link");
        let allow = format!("fs={}", at("data"));
        let may = |path: &str| permits(&[&allow], &[], Capability::Fs, &at(path));
        assert!(may("data") && may("data/new/file.txt") && may("data/x/../y"));
        assert!(
            !may("data2") && !may("data/../other") && !may("data/root/etc/passwd") && !may("data/no/../../z")
        );
    }
}
