//! Rules from one command line or one file: lists of allowed and denied things.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::capability::{Capability, Grant, Item, Side};
use super::grants::grants;
use super::net::Target;
use super::{Verdict, programs};

/// The rules of one command line or one file.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The allowed things; `None` allows everything.
    allowed: Option<Vec<Grant>>,
    denied: Vec<Grant>,
    /// Whether the rules were read from the record of an instance.
    recorded: bool,
}

/// The stored form of rules. Each grant is written as after `--allow` and `--deny`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredRules {
    allow: Option<Vec<String>>,
    deny: Vec<String>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Rules) -> bool {
        (&self.allowed, &self.denied) == (&other.allowed, &other.denied)
    }
}

impl Eq for Rules {}

impl Hash for Rules {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.allowed, &self.denied).hash(state);
    }
}

impl Rules {
    /// Reads lists. Returns `None` if they restrict nothing.
    pub(super) fn of(allow: &[String], deny: &[String]) -> Result<Option<Rules>, String> {
        let allowed = match allow {
            [] => None,
            lists => Some(grants(lists, Side::Allow)?),
        };
        let denied = grants(deny, Side::Deny)?;
        let restricts = allowed.is_some() || !denied.is_empty();
        Ok(restricts.then_some(Rules { allowed, denied, recorded: false }))
    }

    pub(super) fn is_recorded(&self) -> bool {
        self.recorded
    }

    pub(super) fn describe(&self) -> String {
        let list = |word: &str, grants: &[Grant]| {
            let all: Vec<String> = grants.iter().map(Grant::to_string).collect();
            format!("--{word} {}", all.join(","))
        };
        let allowed = self.allowed.as_ref().map(|grants| list("allow", grants));
        let denied = (!self.denied.is_empty()).then(|| list("deny", &self.denied));
        allowed.into_iter().chain(denied).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn is_whole(&self, capability: Capability) -> bool {
        let allows = |grants: &Vec<Grant>| {
            grants.iter().any(|grant| grant.capability == capability && grant.item == Item::All)
        };
        self.allowed.as_ref().is_none_or(allows)
            && !self.denied.iter().any(|grant| grant.capability == capability)
    }

    fn verdict(
        &self,
        capability: Capability,
        allows: impl Fn(&Item) -> bool,
        denies: impl Fn(&Item) -> bool,
    ) -> Verdict {
        let has = |grants: &[Grant], covers: &dyn Fn(&Item) -> bool| {
            let mut own = grants.iter().filter(|grant| grant.capability == capability);
            own.any(|grant| grant.item == Item::All || covers(&grant.item))
        };
        if has(&self.denied, &denies) {
            return Verdict::Denied;
        }
        match self.allowed.as_deref().is_none_or(|grants| has(grants, &allows)) {
            true => Verdict::Permitted,
            false => Verdict::NotAllowed,
        }
    }

    pub(super) fn verdict_of_name(&self, name: &str) -> Verdict {
        let covers = |item: &Item| match item {
            Item::Name(known) => known == name,
            Item::Names(beginning) => name.starts_with(beginning.as_str()),
            _ => false,
        };
        self.verdict(Capability::Env, covers, covers)
    }

    pub(super) fn verdict_of_path(&self, capability: Capability, real: &Path) -> Verdict {
        let covers = |item: &Item| matches!(item, Item::Path(listed) if real.starts_with(listed));
        self.verdict(capability, covers, covers)
    }

    /// Returns a path that must stay when a folder is removed: a denied path below the folder, or a
    /// program there that may be run.
    pub(super) fn kept_below(&self, folder: &Path) -> Option<&Path> {
        let denied = self.denied.iter().filter(|grant| grant.capability == Capability::Write);
        let run = self.allowed.iter().flatten().filter(|grant| grant.capability == Capability::Exec);
        denied.chain(run).find_map(|grant| match &grant.item {
            Item::Path(path) | Item::Program(path) if path.starts_with(folder) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Returns whether a file is one of the programs that `allow` lists.
    pub(super) fn runs(&self, real: &Path) -> bool {
        self.allowed.iter().flatten().any(|grant| match &grant.item {
            Item::Program(program) => {
                program == real || program.canonicalize().is_ok_and(|found| found == real)
            }
            _ => false,
        })
    }

    pub(super) fn verdict_of_host(&self, target: &Target) -> Verdict {
        let allows = |item: &Item| matches!(item, Item::Host(pattern) if pattern.may_allow(target));
        let denies =
            |item: &Item| matches!(item, Item::Host(pattern) if pattern.denies(target, target.address()));
        self.verdict(Capability::Net, allows, denies)
    }

    pub(super) fn verdict_of_address(&self, target: &Target, address: IpAddr) -> Verdict {
        let allows = |item: &Item| matches!(item, Item::Host(pattern) if pattern.allows(target, address));
        let denies =
            |item: &Item| matches!(item, Item::Host(pattern) if pattern.denies(target, Some(address)));
        self.verdict(Capability::Net, allows, denies)
    }

    pub(super) fn verdict_of_program(&self, name: &str, found: Option<&Path>) -> Verdict {
        let allows = |item: &Item| matches!(item, Item::Program(listed) if found == Some(listed.as_path()));
        let denies = |item: &Item| match item {
            Item::Program(listed) => found.is_some_and(|found| programs::is_same(listed, found)),
            Item::ProgramName(listed) => {
                let named = |path: &Path| path.file_name().is_some_and(|name| name == listed.as_str());
                named(Path::new(name))
                    || found.is_some_and(|found| {
                        named(found) || found.canonicalize().is_ok_and(|real| named(&real))
                    })
            }
            _ => false,
        };
        self.verdict(Capability::Exec, allows, denies)
    }
}

impl From<&Rules> for StoredRules {
    fn from(rules: &Rules) -> StoredRules {
        let texts = |grants: &[Grant]| grants.iter().map(Grant::to_string).collect();
        StoredRules { allow: rules.allowed.as_deref().map(texts), deny: texts(&rules.denied) }
    }
}

impl TryFrom<&StoredRules> for Rules {
    type Error = String;

    fn try_from(stored: &StoredRules) -> Result<Rules, String> {
        let grants =
            |texts: &[String]| texts.iter().map(|text| Grant::recorded(text)).collect::<Result<Vec<_>, _>>();
        let allowed = stored.allow.as_deref().map(grants).transpose()?;
        Ok(Rules { allowed, denied: grants(&stored.deny)?, recorded: true })
    }
}
