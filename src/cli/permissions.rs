//! The permissions of programs, from the command line and from `durable.toml`.

use serde::Deserialize;
use std::path::Path;

use crate::permissions::{Permissions, SETTINGS as FILE};

use super::arguments::May;
use super::problem::Problem;
use super::{STORE, USAGE};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    permissions: Table,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The allowed targets; `None` if the file does not say, which differs from an empty list.
    allow: Option<Vec<String>>,
    #[serde(default)]
    deny: Vec<String>,
}

/// Returns the permissions. The command line's `--allow` replaces the list in the current folder's
/// file, and `--deny` adds to the file's list.
pub fn permissions(may: &May) -> Result<Permissions, Problem> {
    let table = match std::fs::read_to_string(FILE) {
        Ok(text) => read(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
        Err(error) => {
            return Err(Problem::new(STORE, format!("{FILE} can't be read: {}", crate::os::reason(&error))));
        }
    };
    let allow = match (&may.allow[..], table.allow) {
        ([], None) => Vec::new(),
        // An empty list allows nothing.
        ([], Some(allow)) => [vec![String::new()], allow].concat(),
        (allow, _) => allow.to_vec(),
    };
    let deny: Vec<String> = may.deny.iter().chain(&table.deny).cloned().collect();
    Permissions::of(&allow, &deny).map_err(|reason| {
        Problem::new(USAGE, reason).hint(
            "write it like `--allow net=api.example.com,read=data,env=HOME`, or in durable.toml `allow = [\"read=data\"]`",
        )
    })
}

fn read(text: &str) -> Result<Table, Problem> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Problem::new(USAGE, format!("{}:{line}: {}", Path::new(FILE).display(), error.message()))
            .hint("it has one table: `[permissions]` with `allow` and `deny`, lists of texts")
    })?;
    Ok(file.permissions)
}
