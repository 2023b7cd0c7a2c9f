//! The options of effects and activities, read from records.

use super::super::error::{Fail, fail, type_error};
use super::super::value::{Record, Value};
use crate::check::closest;

/// How an activity is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all.
    pub times: u32,
    /// The pause before the second attempt, in nanoseconds.
    pub first: i64,
    /// By how much each pause is longer than the one before.
    pub factor: f64,
    /// The longest pause, in nanoseconds.
    pub max: i64,
    /// How long one attempt may take, in nanoseconds.
    pub timeout: Option<i64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { times: 1, first: 1_000_000_000, factor: 2.0, max: i64::MAX, timeout: None }
    }
}

impl Policy {
    /// The pause after a failed attempt, in nanoseconds; attempts count from 1.
    pub fn pause(&self, attempt: u32) -> i64 {
        let pause = self.first as f64 * self.factor.powi(attempt.saturating_sub(1).min(1000) as i32);
        if pause >= self.max as f64 { self.max } else { (pause as i64).max(0) }
    }
}

fn fields<'a>(value: &'a Value, what: &str, known: &[&str]) -> Result<Option<&'a Record>, Fail> {
    let record = match value {
        Value::Null | Value::Missing => return Ok(None),
        Value::Record(record) => record,
        other => {
            let like = match what {
                "`retry`" => ", like {times: 3, first: 1s}",
                _ => "",
            };
            let found = other.a_kind();
            return Err(type_error(format!("the options of {what} are a record{like}, not {found}")));
        }
    };
    for name in record.keys().names() {
        if !known.contains(&&**name) {
            let hint = match closest(name, known.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; the options are {}", known.join(", ")),
            };
            return Err(fail("type_error", format!("{what} has no option `{name}`{hint}")));
        }
    }
    Ok(Some(record))
}

fn duration(record: &Record, name: &str) -> Result<Option<i64>, Fail> {
    match record.get_str(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Duration(n)) if *n >= 0 => Ok(Some(*n)),
        Some(other) => {
            Err(type_error(format!("option `{name}` is a duration, like 5s, not {}", other.a_kind())))
        }
    }
}

/// Reads the options of an activity.
pub fn policy(options: &Value) -> Result<Policy, Fail> {
    let mut policy = Policy::default();
    let Some(record) = fields(options, "an activity", &["retry", "timeout"])? else { return Ok(policy) };
    policy.timeout = duration(record, "timeout")?;
    let retry = record.get_str("retry").unwrap_or(&Value::Null);
    if let Some(retry) = fields(retry, "`retry`", &["times", "first", "factor", "max"])? {
        policy.times = match retry.get_str("times") {
            None => 3,
            Some(Value::Int(n)) if *n >= 1 => u32::try_from(*n).unwrap_or(u32::MAX),
            Some(other) => {
                return Err(type_error(format!(
                    "`times` is an int from 1 on, not {}",
                    super::super::format::brief(other)
                )));
            }
        };
        policy.first = duration(retry, "first")?.unwrap_or(policy.first);
        policy.max = duration(retry, "max")?.unwrap_or(policy.max);
        policy.factor = match retry.get_str("factor") {
            None => policy.factor,
            Some(Value::Int(n)) if *n >= 1 => *n as f64,
            Some(Value::Float(x)) if x.get() >= 1.0 && x.get().is_finite() => x.get(),
            Some(other) => {
                return Err(type_error(format!(
                    "`factor` is a number from 1 on, not {}",
                    super::super::format::brief(other)
                )));
            }
        };
    }
    Ok(policy)
}

/// How an orchestration is called or started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Child {
    /// The instance's id; one is made when there is none.
    pub id: Option<String>,
    /// How long a call waits for the child before it is terminated, in nanoseconds.
    pub timeout: Option<i64>,
    /// It goes on when its caller ends, gives up or is terminated.
    pub detached: bool,
}

fn flag(record: &Record, name: &str) -> Result<Option<bool>, Fail> {
    match record.get_str(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag.get())),
        Some(other) => Err(type_error(format!("option `{name}` is true or false, not {}", other.a_kind()))),
    }
}

/// Reads the options of an orchestration.
pub fn child(options: &Value) -> Result<Child, Fail> {
    let Some(record) = fields(options, "an orchestration", &["id", "timeout", "detached"])? else {
        return Ok(Child::default());
    };
    let id = match record.get_str("id") {
        None | Some(Value::Null) => None,
        Some(Value::Str(id)) => match super::super::bad_id(id.as_str()) {
            None => Some(id.as_str().to_string()),
            Some(reason) => {
                return Err(type_error(format!(
                    "{} can't be an id: {reason}",
                    super::super::format::brief(&Value::Str(id.clone()))
                )));
            }
        },
        Some(other) => return Err(type_error(format!("option `id` is a string, not {}", other.a_kind()))),
    };
    let timeout = duration(record, "timeout")?;
    Ok(Child { id, timeout, detached: flag(record, "detached")?.unwrap_or(false) })
}

/// Reads the options of `terminate`: whether its children end too.
pub fn terminate(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`terminate`", &["children"])? else { return Ok(true) };
    Ok(flag(record, "children")?.unwrap_or(true))
}

/// Reads the options of `lock`: how long it waits, in nanoseconds.
pub fn lock(options: &Value) -> Result<Option<i64>, Fail> {
    let Some(record) = fields(options, "`lock`", &["timeout"])? else { return Ok(None) };
    duration(record, "timeout")
}

/// The options of `exec`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exec {
    pub dir: Option<String>,
    pub env: Vec<(String, String)>,
    pub input: Vec<u8>,
    pub timeout: Option<i64>,
}

/// Reads the options of `exec`.
pub fn exec(options: &Value) -> Result<Exec, Fail> {
    let mut out = Exec::default();
    let Some(record) = fields(options, "`exec`", &["dir", "env", "input", "timeout"])? else {
        return Ok(out);
    };
    out.timeout = duration(record, "timeout")?;
    match record.get_str("dir") {
        None | Some(Value::Null) => {}
        Some(dir) => out.dir = Some(super::text(dir)?.as_str().to_string()),
    }
    if let Some(env) = record.get_str("env") {
        for (name, value) in super::record(env)?.iter() {
            out.env.push((name.to_string(), super::text(value)?.as_str().to_string()));
        }
    }
    match record.get_str("input") {
        None | Some(Value::Null) => {}
        Some(Value::Bytes(blob)) => out.input = blob.bytes.clone(),
        Some(other) => out.input = super::text(other)?.as_str().as_bytes().to_vec(),
    }
    Ok(out)
}

/// The options of `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub headers: Vec<(String, String)>,
    pub timeout: i64,
    /// The largest body that is read, in bytes.
    pub max_size: u64,
    pub redirects: u32,
    pub query: Vec<(String, String)>,
}

/// Reads the options of `http`.
pub fn http(options: &Value) -> Result<Http, Fail> {
    let mut out = Http {
        headers: Vec::new(),
        timeout: 30_000_000_000,
        max_size: 64 << 20,
        redirects: 10,
        query: Vec::new(),
    };
    let known = &["headers", "timeout", "max_size", "redirects", "query"];
    let Some(record) = fields(options, "`http`", known)? else { return Ok(out) };
    out.timeout = duration(record, "timeout")?.unwrap_or(out.timeout);
    if let Some(headers) = record.get_str("headers") {
        for (name, value) in super::record(headers)?.iter() {
            out.headers.push((name.to_string(), super::super::format::to_text(value)?));
        }
    }
    if let Some(query) = record.get_str("query") {
        for (name, value) in super::record(query)?.iter() {
            out.query.push((name.to_string(), super::super::format::to_text(value)?));
        }
    }
    if let Some(size) = record.get_str("max_size") {
        out.max_size = super::int(size)?.max(0) as u64;
    }
    if let Some(redirects) = record.get_str("redirects") {
        out.redirects = super::int(redirects)?.clamp(0, 100) as u32;
    }
    Ok(out)
}
