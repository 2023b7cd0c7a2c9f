//! The arguments of the effects on databases: handles, statements, parameters and options.
//!
//! Invariant: what is read here is plain data that any thread may have. A handle is a record: of a
//! database its URL, and of a transaction its name.

use url::Url;

use super::super::data::Data;
use super::super::error::{Fail, type_error};
use super::super::json;
use super::super::json_text::{self, Big};
use super::super::secret;
use super::super::value::{Record, Value, intern};
use super::options::{duration, fields, flag, given, size, unfit};
use super::{Native, list};
use crate::builtins::Effect;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "sql_connect" => |args| connect(&args[0], &args[1]),
        _ => return None,
    })
}

/// The default time limit of a statement or a transaction: 30 seconds.
const TIMEOUT: i64 = 30_000_000_000;
/// The default limit on rows.
const ROWS: u64 = 100_000;
/// The default limit on the size of a result, in bytes.
const SIZE: u64 = 64 << 20;
/// The default limit on connections.
const CONNECTIONS: usize = 10;
/// The limit on the nesting of lists in a parameter.
const MOST_LEVELS: usize = 6;

/// A database that a program named.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    pub url: String,
    /// The password, if it is not in the URL.
    pub password: Option<String>,
    /// The limit on connections of this process to the database.
    pub connections: usize,
}

/// What a statement runs on.
pub enum On {
    Database(Database),
    /// A transaction, by its name.
    Transaction(String),
}

/// The limits of a statement or a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The time limit in nanoseconds.
    pub timeout: i64,
    pub max_rows: u64,
    pub max_size: u64,
}

/// The options of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub limits: Limits,
    /// Whether the database keeps the result, so that a repeated attempt gets it.
    pub once: bool,
    /// The key of the result, if the program chose one.
    pub key: Option<String>,
    /// The isolation level, if it is not the database's own default.
    pub isolation: Option<&'static str>,
}

/// A statement with its parameters.
#[derive(Clone, Debug)]
pub struct Statement {
    pub text: String,
    pub params: Vec<Datum>,
    /// The number of rows that the statement must give or change, if the program says so.
    pub rows: Option<u64>,
}

/// A parameter or a result of a database, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Instant(i64),
    /// Nanoseconds.
    Duration(i64),
    /// The elements, and for a parameter their JSON.
    List(Vec<Datum>, Option<String>),
    /// A value in JSON.
    Json(String),
}

impl Datum {
    /// Reads a parameter. `name` is its name in messages.
    fn of(value: &Value, name: &str, depth: usize) -> Result<Datum, Fail> {
        Ok(match value {
            Value::Null => Datum::Null,
            Value::Bool(b) => Datum::Bool(b.get()),
            Value::Int(n) => Datum::Int(*n),
            Value::Float(x) => Datum::Float(x.get()),
            Value::Str(text) => Datum::Text(text.as_str().to_string()),
            Value::Bytes(blob) => Datum::Bytes(blob.bytes.clone()),
            Value::Instant(nanos) => Datum::Instant(*nanos),
            Value::Duration(nanos) => Datum::Duration(*nanos),
            Value::List(list) => {
                let json = (depth < 2).then(|| json::encode(value, json::Style::Plain, None).ok()).flatten();
                let element = |item| match depth < MOST_LEVELS {
                    true => Datum::of(item, name, depth + 1),
                    // JSON may be deeper than arrays.
                    false => Ok(Datum::Null),
                };
                Datum::List(list.as_slice().iter().map(element).collect::<Result<_, _>>()?, json)
            }
            Value::Record(_) => Datum::Json(json::encode(value, json::Style::Plain, None)?),
            other => {
                return Err(type_error(format!("{name} is {}, which no database has", other.a_kind())));
            }
        })
    }

    /// Returns the kind in messages.
    pub fn a_kind(&self) -> &'static str {
        match self {
            Datum::Null => "null",
            Datum::Bool(_) => "a bool",
            Datum::Int(_) => "an int",
            Datum::Float(_) => "a float",
            Datum::Text(_) => "a string",
            Datum::Bytes(_) => "bytes",
            Datum::Instant(_) => "an instant",
            Datum::Duration(_) => "a duration",
            Datum::List(..) => "a list",
            Datum::Json(_) => "a record",
        }
    }

    /// Returns about how many bytes the value takes.
    pub fn size(&self) -> u64 {
        let more = match self {
            Datum::Text(text) | Datum::Json(text) => text.len() as u64,
            Datum::Bytes(bytes) => bytes.len() as u64,
            Datum::List(items, _) => items.iter().map(Datum::size).sum(),
            _ => 0,
        };
        more + 16
    }

    /// Returns the value for the program. Ints of JSON that do not fit become text.
    pub fn into_value(self) -> Value {
        match self {
            Datum::Null => Value::Null,
            Datum::Bool(b) => Value::bool(b),
            Datum::Int(n) => Value::Int(n),
            Datum::Float(x) => Value::float(x),
            Datum::Text(text) => Value::str(text),
            Datum::Bytes(bytes) => Value::bytes(bytes),
            Datum::Instant(nanos) => Value::Instant(nanos),
            Datum::Duration(nanos) => Value::Duration(nanos),
            Datum::List(items, _) => Value::list(items.into_iter().map(Datum::into_value).collect()),
            // What this language can't read as JSON stays text.
            Datum::Json(text) => json_text::read(&text, Big::Text).unwrap_or_else(|_| Value::str(text)),
        }
    }
}

/// Makes the handle of a database: a record of its URL and options. Nothing is connected.
fn connect(url: &Value, options: &Value) -> Result<Value, Fail> {
    let known = &["password", "connections"];
    let record = fields(options, "`sql.connect`", known)?;
    match url {
        Value::Str(text) => kind_of_url(text.as_str())?,
        // The value of a secret is known only where it is used.
        secret if secret::is(secret) => {}
        other => {
            return Err(type_error(format!("`sql.connect` takes a URL, not {}", other.a_kind())));
        }
    }
    let mut handle = Record::default();
    handle.set(intern("url"), url.clone());
    for (name, value) in record.into_iter().flat_map(Record::iter) {
        handle.set(name.clone(), value.clone());
    }
    let handle = Value::Record(handle.into());
    on(&masked(&handle)).map(|_| handle)
}

/// Reads the URL of a server. Without a host, it is this machine.
pub fn server_url(text: &str) -> Result<Url, url::ParseError> {
    let Some(begin) = text.find("://").map(|at| at + 3) else { return Url::parse(text) };
    let end = text[begin..].find(['/', '?', '#']).map_or(text.len(), |at| begin + at);
    match &text[begin..end] {
        authority if authority.is_empty() || authority.ends_with('@') => {
            Url::parse(&format!("{}localhost{}", &text[..end], &text[end..]))
        }
        _ => Url::parse(text),
    }
}

/// Checks that a text is the URL of a database.
fn kind_of_url(text: &str) -> Result<(), Fail> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let hint = match scheme {
        "sqlite" => return Ok(()),
        "postgres" | "postgresql" => match server_url(text) {
            Ok(_) => return Ok(()),
            Err(error) => format!("this one can't be read: {error}"),
        },
        "mysql" | "mariadb" | "mssql" | "oracle" | "mongodb" | "redis" => {
            format!("`{scheme}` is not among the databases that are there")
        }
        _ => "this is none".to_string(),
    };
    // The text itself may have a password in it.
    Err(type_error(format!("a database has a URL like postgres://user@host/name or sqlite:data.db; {hint}")))
}

fn masked(value: &Value) -> Value {
    secret::masked(std::slice::from_ref(value)).pop().unwrap_or_default()
}

/// Reads a handle.
pub fn on(value: &Value) -> Result<On, Fail> {
    let none = || {
        let found = value.a_kind();
        type_error(format!("a database was expected, not {found}: `sql.connect(url)` makes one"))
    };
    let Value::Record(handle) = value else { return Err(none()) };
    if let Some(Value::Str(name)) = handle.get_str("transaction") {
        return Ok(On::Transaction(name.as_str().to_string()));
    }
    let Some(Value::Str(url)) = handle.get_str("url") else { return Err(none()) };
    let password = match given(handle, "password") {
        None => None,
        Some(Value::Str(text)) => Some(text.as_str().to_string()),
        Some(other) => return Err(unfit("password", "a string or a secret", other)),
    };
    let connections = match given(handle, "connections") {
        None => CONNECTIONS,
        Some(Value::Int(count)) if (1..=1_000).contains(count) => *count as usize,
        Some(other) => return Err(unfit("connections", "an int from 1 to 1,000", other)),
    };
    Ok(On::Database(Database { url: url.as_str().to_string(), password, connections }))
}

/// Reads the handle of a database, which is not that of a transaction.
pub fn database(value: &Value) -> Result<Database, Fail> {
    match on(value)? {
        On::Database(database) => Ok(database),
        On::Transaction(_) => {
            Err(type_error("a transaction has no transactions within it; `savepoint` marks a place in it"))
        }
    }
}

/// Checks the arguments of an effect on a database.
pub fn check(effect: Effect, args: &[Value]) -> Result<(), Fail> {
    let masked = secret::masked(args);
    match effect {
        Effect::SqlQuery | Effect::SqlExecute => {
            let on = on(&masked[0])?;
            let statement = statement(&masked[1], &masked[2])?;
            refuse(&statement.text, matches!(on, On::Transaction(_)))?;
            limits(&masked[3], effect == Effect::SqlQuery).map(|_| ())
        }
        Effect::SqlTransaction => {
            database(&masked[0])?;
            for statement in statements(&masked[1])? {
                refuse(&statement.text, true)?;
            }
            plan(&masked[2]).map(|_| ())
        }
        Effect::SqlBegin => {
            database(&masked[0])?;
            plan(&masked[1]).map(|_| ())
        }
        Effect::SqlCommit | Effect::SqlRollback => on(&masked[0]).map(|_| ()),
        _ => Ok(()),
    }
}

/// Reads a statement and its parameters.
pub fn statement(text: &Value, params: &Value) -> Result<Statement, Fail> {
    let Value::Str(text) = text else {
        return Err(type_error(format!("a statement is a string, not {}", text.a_kind())));
    };
    let Value::List(params) = params else {
        let found = params.a_kind();
        return Err(type_error(format!("the parameters of a statement are a list, not {found}")));
    };
    let params = params.as_slice().iter().enumerate();
    let params = params.map(|(at, value)| Datum::of(value, &format!("the parameter ${}", at + 1), 0));
    Ok(Statement { text: text.as_str().to_string(), params: params.collect::<Result<_, _>>()?, rows: None })
}

/// Reads the statements of a transaction.
pub fn statements(value: &Value) -> Result<Vec<Statement>, Fail> {
    let none = Value::list(Vec::new());
    let one = |item: &Value| match item {
        Value::Str(_) => statement(item, &none),
        Value::List(parts) => match parts.as_slice() {
            [text] => statement(text, &none),
            [text, params] => statement(text, params),
            _ => Err(type_error("a statement in a list is [text, parameters]")),
        },
        Value::Record(_) => {
            let Some(record) = fields(item, "a statement", &["text", "params", "rows"])? else {
                return Err(type_error("a statement is a string"));
            };
            let text = given(record, "text").unwrap_or(&Value::Null);
            let mut found = statement(text, given(record, "params").unwrap_or(&none))?;
            found.rows = match given(record, "rows") {
                None => None,
                Some(Value::Int(rows)) if *rows >= 0 => Some(*rows as u64),
                Some(other) => return Err(unfit("rows", "a number of rows", other)),
            };
            Ok(found)
        }
        other => Err(type_error(format!(
            "a statement is a string, [text, parameters] or {{text, params, rows}}, not {}",
            other.a_kind()
        ))),
    };
    list(value)?.as_slice().iter().map(one).collect()
}

/// Reads the options of a statement.
pub fn limits(options: &Value, gives_rows: bool) -> Result<Limits, Fail> {
    let known: &[&str] = if gives_rows { &["timeout", "max_rows", "max_size"] } else { &["timeout"] };
    let what = if gives_rows { "`sql.query`" } else { "`sql.execute`" };
    limits_of(fields(options, what, known)?)
}

fn limits_of(record: Option<&Record>) -> Result<Limits, Fail> {
    let mut limits = Limits { timeout: TIMEOUT, max_rows: ROWS, max_size: SIZE };
    let Some(record) = record else { return Ok(limits) };
    limits.timeout = duration(record, "timeout")?.unwrap_or(TIMEOUT);
    match given(record, "max_rows") {
        None => {}
        Some(Value::Int(rows)) if *rows >= 0 => limits.max_rows = *rows as u64,
        Some(other) => return Err(unfit("max_rows", "a number of rows", other)),
    }
    limits.max_size = size(record)?.map_or(SIZE, |size| size as u64);
    Ok(limits)
}

/// The isolation levels that a program may ask for.
const ISOLATION: [&str; 3] = ["read committed", "repeatable read", "serializable"];

/// Reads the options of a transaction.
pub fn plan(options: &Value) -> Result<Plan, Fail> {
    let known = &["timeout", "max_rows", "max_size", "once", "key", "isolation"];
    let record = fields(options, "`sql.transaction`", known)?;
    let mut plan = Plan { limits: limits_of(record)?, once: true, key: None, isolation: None };
    let Some(record) = record else { return Ok(plan) };
    plan.once = flag(record, "once")?.unwrap_or(true);
    plan.key = match given(record, "key") {
        None => None,
        Some(Value::Str(key)) if !key.as_str().is_empty() => Some(key.as_str().to_string()),
        Some(other) => return Err(unfit("key", "a string that is not empty", other)),
    };
    plan.isolation = match given(record, "isolation") {
        None => None,
        Some(value) => {
            let is_given = |known: &&str| matches!(value, Value::Str(text) if text.as_str() == *known);
            let wanted = "\"read committed\", \"repeatable read\" or \"serializable\"";
            Some(ISOLATION.into_iter().find(is_given).ok_or_else(|| unfit("isolation", wanted, value))?)
        }
    };
    Ok(plan)
}

/// Returns the arguments of a transaction with its key as one more. Other effects keep theirs.
pub fn keyed(effect: Effect, args: Data, key: impl FnOnce() -> String) -> Data {
    if !matches!(effect, Effect::SqlTransaction | Effect::SqlBegin) {
        return args;
    }
    let mut items = args.items();
    items.push(Value::str(key()));
    // A text more can make the arguments too large; then the effect finds no key, and says so.
    Data::encode(&Value::list(items)).unwrap_or(args)
}

/// Returns the first words of a statement in lower case, without comments before them. Comments of
/// PostgreSQL have others in them, and those of SQLite do not.
fn words(text: &str, nests: bool) -> (String, String) {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest, nests);
        } else {
            break;
        }
    }
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = rest.split(|c: char| !is_of_a_word(c)).filter(|word| !word.is_empty());
    let first = if rest.starts_with(is_of_a_word) { parts.next().unwrap_or("") } else { "" };
    (first.to_ascii_lowercase(), parts.next().unwrap_or("").to_ascii_lowercase())
}

/// Returns the text after a comment.
fn after_comment(text: &str, nests: bool) -> &str {
    let (bytes, mut depth, mut at) = (text.as_bytes(), 0, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" if nests || depth == 0 => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return &text[at..];
        }
    }
    ""
}

/// Refuses statements that begin or end transactions, since connections are shared.
fn refuse(text: &str, within: bool) -> Result<(), Fail> {
    refuse_words(words(text, true), within)?;
    refuse_words(words(text, false), within)
}

fn refuse_words((first, second): (String, String), within: bool) -> Result<(), Fail> {
    let ends = match first.as_str() {
        "begin" | "start" | "commit" | "end" | "abort" => true,
        "rollback" => !within || second != "to",
        "savepoint" | "release" => !within,
        "prepare" => second == "transaction",
        "copy" => {
            return Err(type_error("`copy` is not there: `insert` takes rows, and `query` gives them"));
        }
        _ => return Ok(()),
    };
    match ends {
        true if within => Err(type_error(format!(
            "`{first}` can't be a statement of a transaction, which ends by itself: with its last statement, or with an error"
        ))),
        true => Err(type_error(format!(
            "`{first}` has no effect on other statements, which may go over other connections; use `db.transaction`"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_of_a_statement_are_found_behind_comments() {
        let first = |text: &str| words(text, true).0;
        assert_eq!(first("  Select 1"), "select");
        assert_eq!(first("-- a\n/* b /* c */ d */ BEGIN;"), "begin");
        assert_eq!(first("(select 1)"), "");
        assert_eq!(first("/* never ends"), "");
        assert_eq!(words("rollback  to savepoint a", true).1, "to");
        assert_eq!(words("/* a /* b */ commit", false).0, "commit");
    }

    #[test]
    fn statements_that_end_transactions_are_refused() {
        for text in [
            "commit",
            "BEGIN",
            "end",
            "rollback",
            "/**/ abort",
            "start transaction",
            "prepare transaction 'a'",
            "/* a /* b */ commit",
        ] {
            assert!(refuse(text, true).is_err(), "{text}");
            assert!(refuse(text, false).is_err(), "{text}");
        }
        for text in ["savepoint a", "release a", "rollback to a"] {
            assert!(refuse(text, true).is_ok(), "{text}");
            assert!(refuse(text, false).is_err(), "{text}");
        }
        assert!(refuse("select 'commit'", true).is_ok());
    }
}
