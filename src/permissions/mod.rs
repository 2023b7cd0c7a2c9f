//! The permissions of programs: to read and write files, reach hosts, run other programs, and read
//! variables of the environment.
//!
//! Invariant: permissions are a conjunction of rules, and rules are only ever added. The rules that
//! a process adds to those of an instance can take permissions away, and never give any back.

mod capability;
mod grants;
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

/// The file with the settings of a folder. A restricted program can't write it.
pub const SETTINGS: &str = "durable.toml";
/// The default folder of a store. A restricted program can't access it.
pub const STORE: &str = ".durable";

/// The allowed and the denied things. A thing that is both is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<StoredRules>", into = "Vec<StoredRules>")]
pub struct Permissions(Option<Arc<Vec<Rules>>>);

impl Permissions {
    /// Reads lists as written after `--allow` and `--deny`: `net=a.com,b.com,read=data`. Without
    /// any `allow`, everything is allowed. Names of programs and relative paths are resolved now.
    ///
    /// # Errors
    ///
    /// A description of the mistake in the lists.
    pub fn of(allow: &[String], deny: &[String]) -> Result<Permissions, String> {
        Ok(Rules::of(allow, deny)?
            .map_or_else(Permissions::default, |rules| Permissions(Some(Arc::new(vec![rules])))))
    }

    /// Returns whether everything is allowed.
    pub fn are_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the permissions that both grant.
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

    /// Returns the rules as written after `--allow` and `--deny`, for people.
    pub fn describe(&self) -> Vec<String> {
        self.rules().iter().map(Rules::describe).collect()
    }

    fn rules(&self) -> &[Rules] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Returns whether a capability is neither restricted by `allow` nor denied in part.
    pub fn is_whole(&self, capability: Capability) -> bool {
        self.rules().iter().all(|rules| rules.is_whole(capability))
    }

    /// Checks that a variable of the environment may be read.
    pub fn check_variable(&self, name: &str) -> Result<(), ErrorData> {
        self.check(Capability::Env, name, |rules| rules.verdict_of_name(name))
    }

    /// Checks that a file may be read or written. `real` is its path without links, and `shown` its
    /// name in the program. `store` is the folder of the program's store.
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

    /// Refuses a file that shows or controls the system, unless the program is unrestricted.
    pub fn check_system(&self, capability: Capability, shown: &str) -> Result<(), ErrorData> {
        if self.are_all() {
            return Ok(());
        }
        let reason = format!("`{shown}` shows or steers the system; restricted programs can't use it");
        Err(refused(capability, shown, reason))
    }

    /// Checks that a folder may be removed with its content. The error names the content that must
    /// stay.
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

    /// Checks that a program in a folder may import a file. The error says why not. The files in
    /// and below the program's own folder belong to the program, unless they are denied.
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

    /// Checks that a host may be reached, before its name is looked up. The result for an address
    /// is final.
    pub fn check_host(&self, target: &Target) -> Result<(), ErrorData> {
        self.check(Capability::Net, target.shown(), |rules| rules.verdict_of_host(target))
    }

    /// Checks that a connection may go to an address of a host.
    pub fn check_address(&self, target: &Target, address: IpAddr) -> Result<(), ErrorData> {
        self.check(Capability::Net, target.shown(), |rules| rules.verdict_of_address(target, address))
    }

    /// Returns the path of a program that may be run from the folder `dir` with these variables.
    /// Returns `None` if all programs may be run, so that the system looks for the program.
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

    /// Returns whether a child process gets a variable of this process's environment.
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

/// The verdict of rules on one thing.
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
