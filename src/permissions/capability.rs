//! Capabilities, which are kinds of things outside, and grants for single things.

use std::fmt;
use std::path::PathBuf;

use super::net::Pattern;

/// A kind of thing outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    Read,
    Write,
    Net,
    Exec,
    Env,
}

const ALL: [Capability; 5] =
    [Capability::Read, Capability::Write, Capability::Net, Capability::Exec, Capability::Env];

impl Capability {
    /// Returns the word for the capability after `--allow` and `--deny`.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Read => "read",
            Capability::Write => "write",
            Capability::Net => "net",
            Capability::Exec => "exec",
            Capability::Env => "env",
        }
    }

    /// Returns the word for the things that are listed after `=`.
    pub(super) fn lists(self) -> &'static str {
        match self {
            Capability::Read | Capability::Write => "paths",
            Capability::Net => "hosts",
            Capability::Exec => "programs",
            Capability::Env => "names",
        }
    }

    /// Returns the capabilities that a word stands for: `fs` is both `read` and `write`.
    pub(super) fn named(word: &str) -> &'static [Capability] {
        match word {
            "fs" => &[Capability::Read, Capability::Write],
            word => ALL.iter().position(|known| known.name() == word).map_or(&[], |at| &ALL[at..=at]),
        }
    }
}

/// A listed thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Item {
    /// Everything of the kind.
    All,
    /// A file, or a folder with its content, as a path without links.
    Path(PathBuf),
    Host(Pattern),
    /// A program, as a path whose folder has no links.
    Program(PathBuf),
    /// Every program of a name, in any folder.
    ProgramName(String),
    Name(String),
    /// Every name with a prefix.
    Names(String),
}

/// A capability for everything or for one thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Grant {
    pub capability: Capability,
    pub item: Item,
}

/// The side of a list: allowed or denied. Denied items cover more than allowed ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Allow,
    Deny,
}

/// Reads a listed variable of the environment.
pub(super) fn variable(text: &str) -> Result<Item, String> {
    let (name, is_beginning) = text.strip_suffix('*').map_or((text, false), |name| (name, true));
    if name.is_empty() {
        return Err("stands for every variable: write `env`".into());
    }
    if name.contains(['=', '\0', '*']) || name.contains(char::is_whitespace) {
        return Err("can't be the name of a variable".into());
    }
    Ok(if is_beginning { Item::Names(name.into()) } else { Item::Name(name.into()) })
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.capability.name();
        match &self.item {
            Item::All => write!(f, "{name}"),
            Item::Path(path) | Item::Program(path) => write!(f, "{name}={}", path.display()),
            Item::Host(pattern) => write!(f, "{name}={pattern}"),
            Item::ProgramName(text) | Item::Name(text) => write!(f, "{name}={text}"),
            Item::Names(beginning) => write!(f, "{name}={beginning}*"),
        }
    }
}

impl Grant {
    /// Reads a recorded grant, which is one resolved thing.
    pub(super) fn recorded(text: &str) -> Result<Grant, String> {
        let unreadable = || format!("`{text}` is no recorded permission");
        let (word, rest) = text.split_once('=').map_or((text, None), |(word, rest)| (word, Some(rest)));
        let capability = *ALL.iter().find(|known| known.name() == word).ok_or_else(unreadable)?;
        let item = match (capability, rest) {
            (_, None) => Item::All,
            (Capability::Read | Capability::Write, Some(path)) => Item::Path(path.into()),
            (Capability::Net, Some(host)) => Item::Host(Pattern::parse(host)?),
            (Capability::Exec, Some(program)) if program.starts_with('/') => Item::Program(program.into()),
            (Capability::Exec, Some(name)) => Item::ProgramName(name.into()),
            (Capability::Env, Some(name)) => variable(name)?,
        };
        Ok(Grant { capability, item })
    }
}
