//! The schema of a cluster: made once, and checked whenever a cluster is opened.

use tokio_postgres::Row;

use crate::kv::{Cause, StoreError};

use super::connection::{Connection, Failure};
use super::failure::is_of_schema;
use super::patience::Patience;
use super::pool::{Pool, READS, Rows};
use super::reader::column;
use super::scope::SLOTS;
use super::url::Url;

/// The version of the schema.
pub const FORMAT: u32 = 1;
/// The number of partitions of a new cluster, unless another one is asked for.
pub const PARTITIONS: u32 = 64;

const TABLES: &str = include_str!("schema.sql");
const FUNCTIONS: &str = include_str!("functions.sql");

const ABOUT: &str = "select id::text, format, partitions, incarnation from durable.cluster";
const SETTINGS: &str = "select name, setting from pg_settings
    where name in ('synchronous_commit', 'fsync', 'full_page_writes') and setting = 'off' order by name";

/// What a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The identity, which a copy of the database has as well.
    pub id: String,
    pub partitions: u32,
    pub incarnation: u64,
}

/// The rights that a role can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Everything that a worker does.
    Worker,
    /// To ask for instances and to send requests.
    Client,
    /// To ask for instances.
    Reader,
}

/// The options of a new schema.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// The number of partitions of a new store. A store that is there has as many, or fewer: more
    /// are made by [`Cluster::raise`](super::Cluster::raise).
    pub partitions: Option<u32>,
    pub grants: Vec<(Right, String)>,
}

/// The outcome of [`init`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub about: About,
    /// Whether the schema was there before.
    pub was_there: bool,
}

/// Makes the schema if the database has none, and gives rights.
pub(super) fn init(url: &Url, init: &Init, patience: &Patience) -> Result<Made, StoreError> {
    let pool = Pool::new(url.clone(), patience.clone(), READS);
    let made = match about(&pool) {
        Ok(_) => false,
        Err(StoreError::NoSchema { .. }) => make(&pool, init)?,
        Err(error) => return Err(error),
    };
    let about = about(&pool)?;
    if let Some(partitions) = init.partitions.filter(|partitions| *partitions < about.partitions) {
        return Err(fewer(url, about.partitions, partitions));
    }
    if !made {
        pool.with("make a store in", |connection| in_transaction(connection, &[FUNCTIONS, CLOSED]))?;
    }
    for (right, role) in &init.grants {
        let grants = grants(*right, role);
        pool.with("give rights in", |connection| in_transaction(connection, &[&grants]))?;
    }
    Ok(Made { about, was_there: !made })
}

/// Returns the error that a store has more partitions than are asked for.
pub(super) fn fewer(url: &Url, known: u32, wanted: u32) -> StoreError {
    let source = Cause::new(format!("it has {known} partitions, and they can become more and not fewer"));
    let hint = "leave `--partitions` out; an export can be imported into a store with fewer".to_string();
    StoreError::Refused { what: format!("give the store in {url} {wanted} partitions"), source, hint }
}

/// Functions are everybody's until that is taken back.
const CLOSED: &str = "revoke execute on all functions in schema durable from public;";

/// Makes the schema. Returns false if another process made it meanwhile.
fn make(pool: &Pool, init: &Init) -> Result<bool, StoreError> {
    let partitions = init.partitions.unwrap_or(PARTITIONS).clamp(1, SLOTS);
    let parts: Vec<String> = (0..partitions)
        .map(|part| format!("({part}, {}, {})", part * SLOTS / partitions, (part + 1) * SLOTS / partitions))
        .collect();
    let rows = format!(
        "insert into durable.cluster (format, partitions) values ({FORMAT}, {partitions});
         insert into durable.part (part, lo, hi) values {};",
        parts.join(", ")
    );
    let made = pool.with("make a store in", |connection| {
        match in_transaction(connection, &[TABLES, FUNCTIONS, CLOSED, &rows]) {
            Err(Failure::Sql(error)) if error.code().is_some_and(|code| code.code() == "42P06") => Ok(false),
            made => made.map(|()| true),
        }
    })?;
    Ok(made)
}

/// Lets one process at a time make or change a schema. Two that did so at once would fail at rows of
/// PostgreSQL's own tables.
const ALONE: &str = "select pg_advisory_xact_lock(hashtext('durable'));";

fn in_transaction(connection: &mut Connection, statements: &[&str]) -> Result<(), Failure> {
    let statements = format!("{ALONE}\n{}", statements.join("\n"));
    connection.transaction("begin", |connection| connection.execute(&statements))
}

/// Returns the statements that give a role a right.
fn grants(right: Right, role: &str) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let (tables, functions) = match right {
        Right::Worker => ("all tables in schema durable", Some("all functions in schema durable")),
        Right::Client => (
            "durable.cluster, durable.worker, durable.part, durable.commits, durable.kv, durable.queue, durable.answer",
            Some("function durable.number, durable.send, durable.forget"),
        ),
        Right::Reader => (
            "durable.cluster, durable.worker, durable.part, durable.commits, durable.kv, durable.queue",
            None,
        ),
    };
    let mut all = format!("grant usage on schema durable to {role}; grant select on {tables} to {role};");
    if let Some(functions) = functions {
        all += &format!(" grant execute on {functions} to {role};");
    }
    all
}

/// Returns what the cluster is. Fails if there is none, or one of another format.
pub(super) fn about(pool: &Pool) -> Result<About, StoreError> {
    let url = &pool.url;
    let rows = pool.with("read from", |connection| match connection.rows(ABOUT, &[]) {
        Err(Failure::Sql(error)) if error.code().is_some_and(is_of_schema) => {
            Err(Failure::Store(StoreError::NoSchema { url: url.to_string() }))
        }
        rows => rows,
    })?;
    let Some(row) = rows.first() else {
        return Err(StoreError::Damaged { what: format!("the table `durable.cluster` of {url} is empty") });
    };
    let found = number(row, 1)? as u32;
    check(found)?;
    Ok(About {
        id: column(row, 0)?,
        partitions: number(row, 2)? as u32,
        incarnation: column::<i64>(row, 3)? as u64,
    })
}

/// Returns an error if a schema's format is not the one of this version.
pub(super) fn check(found: u32) -> Result<(), StoreError> {
    match found.cmp(&FORMAT) {
        std::cmp::Ordering::Less => Err(StoreError::Older { found, known: FORMAT }),
        std::cmp::Ordering::Greater => Err(StoreError::Newer { found, known: FORMAT }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn number(row: &Row, at: usize) -> Result<i32, StoreError> {
    column(row, at)
}

/// Returns the settings of the server without which acknowledged data may be lost.
pub(super) fn risks(pool: &Pool) -> Result<Vec<String>, StoreError> {
    let rows = pool.rows("read the settings of", SETTINGS, &[])?;
    rows.iter().map(|row| column(row, 0)).collect()
}
