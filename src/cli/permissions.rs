//! What programs may do outside, from the command line and from `durable.toml`.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::host::permissions::Permissions;

use super::arguments::May;
use super::problem::Problem;
use super::{STORE, USAGE};

/// The file that a folder's own settings are in.
const FILE: &str = "durable.toml";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    permissions: Table,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

/// What is permitted: what the command line says, and where it says nothing of it, the file in this folder. What either
/// denies is denied.
pub fn permissions(may: &May) -> Result<Arc<Permissions>, Problem> {
    let table = match std::fs::read_to_string(FILE) {
        Ok(text) => read(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
        Err(error) => {
            return Err(Problem::new(STORE, format!("{FILE} can't be read: {}", crate::os::reason(&error))));
        }
    };
    let allow = if may.allow.is_empty() { &table.allow } else { &may.allow };
    let deny: Vec<String> = may.deny.iter().chain(&table.deny).cloned().collect();
    match Permissions::of(allow, &deny) {
        Ok(permissions) => Ok(Arc::new(permissions)),
        Err(reason) => Err(Problem::new(USAGE, reason)
            .hint("write it like `--allow net=api.example.com,fs=data,env`, or in durable.toml `allow = [\"fs=data\"]`")),
    }
}

fn read(text: &str) -> Result<Table, Problem> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Problem::new(USAGE, format!("{}:{line}: {}", Path::new(FILE).display(), error.message()))
            .hint("it has one table: `[permissions]` with `allow` and `deny`, lists of texts")
    })?;
    Ok(file.permissions)
}
