//! What programs may do outside: read and write files, reach hosts, run other programs, read variables of the environment.
//!
//! Invariant: permissions are a conjunction of rules, and rules are only ever added. What a process adds to those of an
//! instance can take something away and never gives something back.

mod capability;
mod net;
mod paths;
mod programs;
mod rules;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machine::{ErrorData, Value};

pub use capability::Capability;
pub use net::Target;
pub use paths::real;
use rules::{Rules, StoredRules};

/// The file that has the settings of a folder. No restricted program writes one.
pub const SETTINGS: &str = "durable.toml";
/// The folder that has a store, unless another one is named. No restricted program looks into one.
pub const STORE: &str = ".durable";

/// What is allowed and what is denied. What is denied is so even where it is allowed as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<StoredRules>", into = "Vec<StoredRules>")]
pub struct Permissions(Option<Arc<Vec<Rules>>>);

impl Permissions {
    /// Reads lists as they are written after `--allow` and `--deny`: `net=a.com,b.com,read=data`. Without any `allow` all
    /// is allowed. Names of programs and relative paths are resolved now.
    ///
    /// # Errors
    ///
    /// What is wrong with the lists, in words.
    pub fn of(allow: &[String], deny: &[String]) -> Result<Permissions, String> {
        Ok(Rules::of(allow, deny)?
            .map_or_else(Permissions::default, |rules| Permissions(Some(Arc::new(vec![rules])))))
    }

    /// Whether all is allowed.
    pub fn are_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns what both permit.
    pub fn and(&self, other: &Permissions) -> Permissions {
        match (&self.0, &other.0) {
            (_, None) => self.clone(),
            (None, _) => other.clone(),
            (Some(own), Some(others)) => {
                let new: Vec<Rules> = others.iter().filter(|rules| !own.contains(rules)).cloned().collect();
                match new.is_empty() {
                    true => self.clone(),
                    false => Permissions(Some(Arc::new(own.iter().cloned().chain(new).collect()))),
                }
            }
        }
    }

    /// Returns the rules as they are written after `--allow` and `--deny`, for people.
    pub fn describe(&self) -> Vec<String> {
        self.rules().iter().map(Rules::describe).collect()
    }

    fn rules(&self) -> &[Rules] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether a capability is neither limited to some nor denied in part.
    pub fn is_whole(&self, capability: Capability) -> bool {
        self.rules().iter().all(|rules| rules.is_whole(capability))
    }

    /// Whether a variable of the environment may be read; the error otherwise.
    pub fn check_variable(&self, name: &str) -> Result<(), ErrorData> {
        self.check(Capability::Env, name, |rules| rules.verdict_of_name(name))
    }

    /// Whether a file may be read or written. `real` is its path without links, and `shown` as the program named it.
    /// `store` is the folder of the store that the program is in.
    pub fn check_path(
        &self,
        capability: Capability,
        real: &Path,
        shown: &str,
        store: Option<&Path>,
    ) -> Result<(), ErrorData> {
        if self.are_all() {
            return Ok(());
        }
        self.check(capability, shown, |rules| rules.verdict_of_path(capability, real))?;
        let belongs = store.is_some_and(|store| real.starts_with(store))
            || real.components().any(|part| part.as_os_str() == STORE)
            || paths::is_of_a_store(real);
        if belongs {
            let reason = format!("`{shown}` belongs to a store; restricted programs can't use one as files");
            return Err(refused(capability, shown, reason));
        }
        if paths::is_of_the_system(capability, real) {
            return self.check_system(capability, shown);
        }
        if capability == Capability::Write {
            let is_settings = real.file_name().is_some_and(|name| name.eq_ignore_ascii_case(SETTINGS));
            if is_settings {
                let reason =
                    format!("`{shown}` says what programs may do; restricted programs can't write it");
                return Err(refused(capability, shown, reason));
            }
            if self.rules().iter().any(|rules| rules.runs(real)) {
                let reason =
                    format!("`{shown}` is a program that `exec` allows; whoever may run it can't write it");
                return Err(refused(capability, shown, reason));
            }
        }
        Ok(())
    }

    /// Whether what shows or steers the system itself may be used: only without restrictions.
    pub fn check_system(&self, capability: Capability, shown: &str) -> Result<(), ErrorData> {
        if self.are_all() {
            return Ok(());
        }
        let reason = format!("`{shown}` shows or steers the system; restricted programs can't use it");
        Err(refused(capability, shown, reason))
    }

    /// Whether a folder may be removed with all that is in it; the error says what in it must stay.
    pub fn check_removal(&self, real: &Path, shown: &str, store: Option<&Path>) -> Result<(), ErrorData> {
        if self.are_all() {
            return Ok(());
        }
        self.check_path(Capability::Write, real, shown, store)?;
        let kept = self.rules().iter().find_map(|rules| rules.kept_below(real).map(Path::to_path_buf));
        let kept = kept.or_else(|| store.filter(|store| store.starts_with(real)).map(Path::to_path_buf));
        match kept {
            None => Ok(()),
            Some(kept) => {
                let kept = kept.strip_prefix(real).unwrap_or(&kept).display().to_string();
                let reason = format!("`{shown}` holds `{kept}`, which may not be written");
                Err(refused(Capability::Write, shown, reason))
            }
        }
    }

    /// Whether a program in a folder may import a file; the error says why not. What is in its own folder and below is part of
    /// the program, unless it is denied.
    pub fn check_import(&self, path: &Path, folder: &Path) -> Result<(), String> {
        if self.are_all() {
            return Ok(());
        }
        let real = real(path);
        let is_own = real.starts_with(self::real(folder));
        let shown = path.display().to_string();
        let refused = self.check(Capability::Read, &shown, |rules| {
            match rules.verdict_of_path(Capability::Read, &real) {
                Verdict::NotAllowed if is_own => Verdict::Permitted,
                verdict => verdict,
            }
        });
        refused.map_err(|error| crate::machine::error::message(&error.value.decode()))
    }

    /// Whether a host may be asked for, before its name is looked up. An address is judged for good.
    pub fn check_host(&self, target: &Target) -> Result<(), ErrorData> {
        self.check(Capability::Net, target.shown(), |rules| rules.verdict_of_host(target))
    }

    /// Whether a connection may go to an address that a host's name stands for.
    pub fn check_address(&self, target: &Target, address: IpAddr) -> Result<(), ErrorData> {
        self.check(Capability::Net, target.shown(), |rules| rules.verdict_of_address(target, address))
    }

    /// The program that a name stands for, when it may be run with such variables from such a folder: its path, or none
    /// when any may be run and the system looks for it.
    pub fn program(
        &self,
        program: &str,
        dir: Option<&str>,
        variables: &[(String, String)],
    ) -> Result<Option<PathBuf>, ErrorData> {
        if self.is_whole(Capability::Exec) {
            return Ok(None);
        }
        let found = programs::locate(program, dir);
        self.check(Capability::Exec, program, |rules| rules.verdict_of_program(program, found.as_deref()))?;
        if let Some((name, _)) = variables.iter().find(|(name, _)| programs::chooses_code(name)) {
            let reason = format!(
                "`{name}` chooses what `{program}` runs, and is set only by programs that may run all: `--allow exec`"
            );
            return Err(refused(Capability::Exec, name, reason));
        }
        Ok(Some(found.unwrap_or_else(|| PathBuf::from(program))))
    }

    /// Whether a program that is run finds a variable of this process's environment.
    pub fn hands_on(&self, name: &str) -> bool {
        self.is_whole(Capability::Env) || programs::is_usual(name) || self.check_variable(name).is_ok()
    }

    fn check(
        &self,
        capability: Capability,
        what: &str,
        verdict: impl Fn(&Rules) -> Verdict,
    ) -> Result<(), ErrorData> {
        let name = capability.name();
        for rules in self.rules() {
            let verdict = verdict(rules);
            let (reason, flag) = match (verdict, rules.is_recorded()) {
                (Verdict::Permitted, _) => continue,
                (Verdict::Denied, false) => {
                    (format!("`{what}` is denied: `--deny {name}` or the `deny` of durable.toml"), None)
                }
                (Verdict::NotAllowed, false) => {
                    let flag = format!("--allow {name}={what}");
                    (format!("`{what}` is not allowed; `{flag}` would allow it"), Some(flag))
                }
                (_, true) => {
                    let kept = rules.describe();
                    (
                        format!(
                            "`{what}` is not permitted by the restrictions that the instance keeps: {kept}"
                        ),
                        None,
                    )
                }
            };
            return Err(with_flag(capability, what, reason, flag));
        }
        Ok(())
    }
}

/// What rules say of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Permitted,
    NotAllowed,
    Denied,
}

fn refused(capability: Capability, what: &str, reason: String) -> ErrorData {
    with_flag(capability, what, reason, None)
}

fn with_flag(capability: Capability, what: &str, reason: String, flag: Option<String>) -> ErrorData {
    let more = [
        ("capability", Value::str(capability.name())),
        ("what", Value::str(what)),
        ("flag", flag.map_or(Value::Null, Value::str)),
    ];
    ErrorData::with("not_permitted", reason, more)
}

impl From<Permissions> for Vec<StoredRules> {
    fn from(permissions: Permissions) -> Vec<StoredRules> {
        permissions.rules().iter().map(StoredRules::from).collect()
    }
}

impl TryFrom<Vec<StoredRules>> for Permissions {
    type Error = String;

    fn try_from(stored: Vec<StoredRules>) -> Result<Permissions, String> {
        if stored.is_empty() {
            return Ok(Permissions::default());
        }
        let rules = stored.iter().map(Rules::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Permissions(Some(Arc::new(rules))))
    }
}

#[cfg(test)]
mod tests;
