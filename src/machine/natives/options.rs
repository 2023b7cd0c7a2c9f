//! The options of effects and activities, read from records.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::MAX_TEXT;
use super::super::data::Data;
use super::super::error::{Fail, type_error};
use super::super::ids::IfExists;
use super::super::json_text::Big;
use super::super::value::{Record, Value, intern};
use crate::check::closest;

/// A retry policy, with the timeout of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The greatest number of attempts.
    pub times: u32,
    /// Whether a policy was given at all.
    pub limited: bool,
    /// The pause before the second attempt, in nanoseconds.
    pub first: i64,
    /// The ratio of each pause to the one before.
    pub factor: f64,
    /// The longest pause, in nanoseconds.
    pub max: i64,
    /// The kinds of errors that are not retried.
    pub except: Vec<String>,
    /// Whether a function of the program decides which errors are retried.
    pub asks: bool,
    /// The part of a pause that is random, from 0 to 1.
    pub jitter: f64,
    /// The time limit for all attempts together, in nanoseconds.
    pub within: Option<i64>,
    /// The time limit for one attempt, in nanoseconds.
    pub timeout: Option<i64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::standard()
    }
}

impl Policy {
    /// Returns the policy of an activity that has none: one attempt without a time limit.
    pub const fn standard() -> Policy {
        Policy {
            times: 1,
            limited: false,
            first: 1_000_000_000,
            factor: 2.0,
            max: i64::MAX,
            except: Vec::new(),
            asks: false,
            jitter: 0.0,
            within: None,
            timeout: None,
        }
    }
}

/// The kinds of errors that are mistakes in the program. A retry would fail the same way.
const MISTAKES: &[&str] = &[
    "type_error",
    "arity",
    "missing_field",
    "missing_method",
    "index_out_of_range",
    "no_match",
    "overflow",
    "division_by_zero",
    "domain_error",
    "empty",
    "uninitialised",
    "context",
    "critical_section",
    "not_permitted",
    "unknown_entity",
    "unknown_operation",
];

impl Policy {
    /// Returns the pause after a failed attempt, in nanoseconds. Attempts count from 1. The random
    /// part depends on `seed` and the attempt alone.
    pub fn pause(&self, attempt: u32, seed: u64) -> i64 {
        if self.first == 0 {
            return 0;
        }
        let pause = self.first as f64 * self.factor.powi(attempt.saturating_sub(1).min(100_000) as i32);
        let pause = if pause >= self.max as f64 { self.max } else { pause as i64 };
        if self.jitter == 0.0 {
            return pause;
        }
        let drawn = xxh3_64_with_seed(&attempt.to_le_bytes(), seed) >> 11;
        let part = drawn as f64 / (1u64 << 53) as f64;
        (pause as f64 * (1.0 - self.jitter * part)) as i64
    }

    /// Returns whether an error is retried. Where `when` decides, the result is preliminary.
    pub fn tries_again(&self, error: &Value) -> bool {
        let kind = match error {
            Value::Record(record) => match record.get_str("kind") {
                Some(Value::Str(kind)) => kind.as_str(),
                _ => "",
            },
            Value::Str(text) => text.as_str(),
            _ => "",
        };
        let is_mistake = matches!(error, Value::Record(_)) && MISTAKES.contains(&kind);
        kind != "cancelled" && !self.except.iter().any(|known| known == kind) && (self.asks || !is_mistake)
    }
}

pub(super) fn fields<'a>(value: &'a Value, what: &str, known: &[&str]) -> Result<Option<&'a Record>, Fail> {
    let record = match value {
        Value::Null | Value::Missing => return Ok(None),
        Value::Record(record) => record,
        other => {
            let like = match what {
                "`retry`" => ", like {times: 3, first: 1s}",
                "`par_map`" => ", like {limit: 8}",
                _ => "",
            };
            let found = other.a_kind();
            return Err(type_error(format!("the options of {what} are a record{like}, not {found}")));
        }
    };
    for name in record.keys().names() {
        // The library passes such options to the machine.
        let is_internal = name.starts_with('$');
        if !known.contains(&&**name) && !is_internal {
            let near = closest(name, known.iter().copied());
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let known = match known {
                [one] => format!("its option is {one}"),
                several => format!("its options are {}", several.join(", ")),
            };
            return Err(type_error(format!("{what} has no option `{name}`{near} ({known})")));
        }
    }
    Ok(Some(record))
}

/// Returns the value of an option, if it is given and not null.
pub(super) fn given<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    record.get_str(name).filter(|value| !matches!(value, Value::Null))
}

/// Returns the error of an option of the wrong kind or out of range.
pub(super) fn unfit(name: &str, wanted: &str, found: &Value) -> Fail {
    type_error(format!("option `{name}` is {wanted}, not {}", super::super::format::brief(found)))
}

pub(super) fn duration(record: &Record, name: &str) -> Result<Option<i64>, Fail> {
    match given(record, name) {
        None => Ok(None),
        Some(Value::Duration(n)) if *n >= 0 => Ok(Some(*n)),
        Some(negative @ Value::Duration(_)) => Err(unfit(name, "a duration that is not negative", negative)),
        Some(other) => {
            Err(type_error(format!("option `{name}` is a duration, like 5s, not {}", other.a_kind())))
        }
    }
}

/// Returns the options of an activity that was called. Calls have been checked; options that an
/// earlier version let through, and that are refused now, count as none.
pub fn recorded_policy(options: &Data) -> Policy {
    policy(&options.decode()).unwrap_or_default()
}

/// Returns the options of an orchestration that was called, as [`recorded_policy`] does.
pub fn recorded_child(options: &Data) -> Child {
    child(&options.decode()).unwrap_or_default()
}

/// Reads the options of an activity.
pub fn policy(options: &Value) -> Result<Policy, Fail> {
    let Some(record) = fields(options, "an activity", &["retry", "timeout"])? else {
        return Ok(Policy::default());
    };
    let timeout = duration(record, "timeout")?;
    let policy = match given(record, "retry") {
        Some(given) => retry(given)?,
        None => Policy::default(),
    };
    Ok(Policy { timeout, ..policy })
}

/// The names of the options of `retry`.
pub const RETRY: &[&str] = &["times", "first", "factor", "max", "except", "when", "jitter", "within"];

/// Reads the options of `retry`. Null gives the default policy, of 3 attempts.
pub fn retry(value: &Value) -> Result<Policy, Fail> {
    let mut policy = Policy { times: 3, limited: true, ..Policy::default() };
    let Some(retry) = fields(value, "`retry`", RETRY)? else { return Ok(policy) };
    match given(retry, "times") {
        None => {}
        Some(Value::Int(n)) if *n >= 1 => policy.times = u32::try_from(*n).unwrap_or(u32::MAX),
        Some(other) => return Err(unfit("times", "an int from 1 on", other)),
    }
    policy.first = duration(retry, "first")?.unwrap_or(policy.first);
    policy.max = duration(retry, "max")?.unwrap_or(policy.max);
    policy.within = duration(retry, "within")?;
    match given(retry, "factor") {
        None => {}
        Some(Value::Int(n)) if *n >= 1 => policy.factor = *n as f64,
        Some(Value::Float(x)) if x.get() >= 1.0 && x.get().is_finite() => policy.factor = x.get(),
        Some(other) => return Err(unfit("factor", "a number from 1 on", other)),
    }
    match given(retry, "jitter") {
        None | Some(Value::Int(0)) => {}
        Some(Value::Int(1)) => policy.jitter = 1.0,
        Some(Value::Float(x)) if (0.0..=1.0).contains(&x.get()) => policy.jitter = x.get(),
        Some(other) => return Err(unfit("jitter", "a number from 0 to 1", other)),
    }
    match given(retry, "except") {
        None => {}
        Some(Value::List(kinds)) => {
            for kind in kinds.as_slice() {
                match kind {
                    Value::Str(kind) => policy.except.push(kind.as_str().to_string()),
                    other => return Err(unfit("except", "a list of kinds, which are strings", other)),
                }
            }
        }
        Some(other) => return Err(unfit("except", "a list of kinds of errors, like [\"declined\"]", other)),
    }
    match given(retry, "when") {
        None => {}
        // In options that are data, `true` stands for the function.
        Some(Value::Function(_) | Value::Builtin(_)) => policy.asks = true,
        Some(Value::Bool(yes)) if yes.get() => policy.asks = true,
        Some(other) => return Err(unfit("when", "a function of an error", other)),
    }
    Ok(policy)
}

/// Reads the options of `task.par_map`, and returns the limit on concurrent calls.
pub fn par_map(options: &Value) -> Result<i64, Fail> {
    let Some(record) = fields(options, "`par_map`", &["limit"])? else { return Ok(8) };
    match given(record, "limit") {
        None => Ok(8),
        Some(Value::Int(n)) if *n >= 1 => Ok(*n),
        Some(other) => Err(unfit("limit", "an int from 1 on", other)),
    }
}

/// Reads the options of `receive`, and returns its time limit in nanoseconds.
pub fn receive(options: &Value) -> Result<Option<i64>, Fail> {
    let Some(record) = fields(options, "`receive`", &["timeout"])? else { return Ok(None) };
    duration(record, "timeout")
}

/// Reads the options of `all`, and returns whether it waits for every task.
pub fn all(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`all`", &["wait"])? else { return Ok(false) };
    Ok(flag(record, "wait")?.unwrap_or(false))
}

/// Checks a time limit.
pub fn limit(value: &Value) -> Result<(), Fail> {
    match value {
        Value::Duration(n) if *n >= 0 => Ok(()),
        Value::Duration(_) => Err(type_error(format!(
            "a time limit is a duration that is not negative, not {}",
            super::super::format::brief(value)
        ))),
        other => Err(type_error(format!("a time limit is a duration, like 5s, not {}", other.a_kind()))),
    }
}

/// The options of `json.parse`.
#[derive(Default)]
pub struct Json {
    /// The treatment of an int that does not fit in 64 bits.
    pub big: Big,
    /// Whether `{"$duration": "5s"}` and the like are read as the values that they stand for.
    pub tagged: bool,
}

/// Reads the options of `json.parse`.
pub fn json(options: &Value, what: &str) -> Result<Json, Fail> {
    let mut json = Json::default();
    let Some(record) = fields(options, what, &["big", "tagged"])? else { return Ok(json) };
    json.big = match given(record, "big") {
        None => Big::Error,
        Some(Value::Str(how)) if how.as_str() == "string" => Big::Text,
        Some(Value::Str(how)) if how.as_str() == "float" => Big::Float,
        Some(other) => return Err(unfit("big", "\"string\" or \"float\"", other)),
    };
    json.tagged = flag(record, "tagged")?.unwrap_or(false);
    Ok(json)
}

/// Reads the options of `json.encode`, and returns whether values that JSON lacks are tagged.
pub fn json_encode(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`json.encode`", &["tagged"])? else { return Ok(false) };
    Ok(flag(record, "tagged")?.unwrap_or(false))
}

/// Reads the options of `sort` and `sort_by`, and returns whether the order is descending.
pub fn sort(options: &Value, what: &str) -> Result<bool, Fail> {
    if options.is_function() {
        let message = match what {
            "`sort`" => {
                "`xs.sort()` takes no function: `xs.sort_by(fn x => …)` sorts by what the function gives for \
                 each, `xs.sort_with(fn (a, b) => …)` by what it says of two"
            }
            _ => "`sort_by` takes one function; `xs.sort_with(fn (a, b) => …)` sorts by what it says of two",
        };
        return Err(type_error(message));
    }
    let Some(record) = fields(options, what, &["descending"])? else { return Ok(false) };
    Ok(flag(record, "descending")?.unwrap_or(false))
}

/// An algorithm for checksums and signatures.
#[derive(Clone, Copy, PartialEq)]
pub enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    pub fn named(name: &str) -> Option<Algorithm> {
        Some(match name {
            "sha256" => Algorithm::Sha256,
            "sha384" => Algorithm::Sha384,
            "sha512" => Algorithm::Sha512,
            _ => return None,
        })
    }
}

/// Reads the options of `hash.hmac`.
pub fn hmac(options: &Value) -> Result<Algorithm, Fail> {
    let Some(record) = fields(options, "`hash.hmac`", &["algorithm"])? else { return Ok(Algorithm::Sha256) };
    match given(record, "algorithm") {
        None => Ok(Algorithm::Sha256),
        Some(given) => match given {
            Value::Str(name) => Algorithm::named(name.as_str()),
            _ => None,
        }
        .ok_or_else(|| unfit("algorithm", "\"sha256\", \"sha384\" or \"sha512\"", given)),
    }
}

/// Reads the options of `base64.encode`, and returns whether the text is for URLs.
pub fn base64(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`base64.encode`", &["url"])? else { return Ok(false) };
    Ok(flag(record, "url")?.unwrap_or(false))
}

/// The time at which a started instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Later {
    /// So many nanoseconds after its start.
    After(i64),
    /// At this instant.
    At(i64),
}

impl Later {
    /// Returns the instant at which an instance begins that is started at `now`; `None` if it
    /// begins at once.
    pub fn due(self, now: i64) -> Option<i64> {
        let due = match self {
            Later::After(duration) => now.saturating_add(duration),
            Later::At(instant) => instant,
        };
        Some(due).filter(|due| *due > now)
    }
}

/// The name of the option in which a start keeps when the instance begins.
const LATER: &str = "$later";

/// Adds to the options of a start when the instance begins: after a duration or at an instant, or
/// `at` an instant only.
pub fn beginning_later(options: &Value, when: &Value, at: bool) -> Result<Value, Fail> {
    match when {
        Value::Instant(_) => {}
        Value::Duration(_) if !at => {}
        other if at => return Err(type_error(format!("`at` takes an instant, not {}", other.a_kind()))),
        other => {
            let found = other.a_kind();
            return Err(type_error(format!("`after` takes a duration or an instant, not {found}")));
        }
    }
    let mut record = match options {
        Value::Record(record) => (**record).clone(),
        _ => Record::default(),
    };
    record.set(intern(LATER), when.clone());
    Ok(Value::Record(std::rc::Rc::new(record)))
}

/// The options of a call or a start of an orchestration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Child {
    /// The instance's id; `None` for an automatic one.
    pub id: Option<String>,
    /// The time after which a call terminates the child, in nanoseconds.
    pub timeout: Option<i64>,
    /// Whether the child goes on when its caller ends, gives up or is terminated.
    pub detached: bool,
    /// The behaviour if there is already an instance of the id.
    pub if_exists: IfExists,
    /// The number of the attempt of a call with `retry`, from 1; 0 for a call without.
    pub attempt: u32,
    /// The time at which a started instance begins; `None` for at once.
    pub later: Option<Later>,
}

pub(super) fn flag(record: &Record, name: &str) -> Result<Option<bool>, Fail> {
    match record.get_str(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag.get())),
        Some(other) => Err(type_error(format!("option `{name}` is true or false, not {}", other.a_kind()))),
    }
}

/// The names of the options of an orchestration.
const CHILD: &[&str] = &["id", "if_exists", "timeout", "detached", "retry"];

/// Reads the options of an orchestration. Later attempts of a call with an id get ids of their own.
pub fn child(options: &Value) -> Result<Child, Fail> {
    let Some(record) = fields(options, "an orchestration", CHILD)? else {
        return Ok(Child::default());
    };
    let attempt = match record.get_str("$attempt") {
        Some(Value::Int(n)) => u32::try_from(*n).unwrap_or(u32::MAX),
        _ => 0,
    };
    if given(record, "retry").is_some() {
        return Err(type_error("option `retry` is for calls: what is started is not waited for"));
    }
    let id = match record.get_str("id") {
        None | Some(Value::Null) => None,
        Some(Value::Str(id)) => match super::super::bad_id(id.as_str()) {
            None if attempt > 1 => Some(format!("{}:attempt-{attempt}", id.as_str())),
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
    let if_exists = match record.get_str("if_exists") {
        None | Some(Value::Null) => IfExists::Join,
        Some(given) => match given {
            Value::Str(name) => IfExists::named(name.as_str()),
            _ => None,
        }
        .ok_or_else(|| {
            let given = super::super::format::brief(given);
            type_error(format!("option `if_exists` is \"join\", \"fail\" or \"replace\", not {given}"))
        })?,
    };
    let detached = flag(record, "detached")?.unwrap_or(false);
    let later = match record.get_str(LATER) {
        Some(Value::Duration(duration)) => Some(Later::After(*duration)),
        Some(Value::Instant(instant)) => Some(Later::At(*instant)),
        _ => None,
    };
    Ok(Child { id, timeout, detached, if_exists, attempt, later })
}

/// Reads the options of `terminate`, and returns whether the children end too.
pub fn terminate(options: &Value) -> Result<bool, Fail> {
    let Some(record) = fields(options, "`terminate`", &["children"])? else { return Ok(true) };
    Ok(flag(record, "children")?.unwrap_or(true))
}

/// The time that a cancelled instance has for its clean-up, in nanoseconds, unless the caller of
/// `cancel` says otherwise.
pub const GRACE: i64 = 30_000_000_000;

/// Reads the options of `cancel` for an instance, and returns the reason and the grace period in
/// nanoseconds.
pub fn cancel(options: &Value) -> Result<(Value, i64), Fail> {
    let Some(record) = fields(options, "`cancel`", &["reason", "grace"])? else {
        return Ok((Value::Null, GRACE));
    };
    let reason = record.get_str("reason").cloned().unwrap_or(Value::Null);
    Ok((reason, duration(record, "grace")?.unwrap_or(GRACE)))
}

/// Reads the options of `lock`, and returns its timeout in nanoseconds.
pub fn lock(options: &Value) -> Result<Option<i64>, Fail> {
    let Some(record) = fields(options, "`lock`", &["timeout"])? else { return Ok(None) };
    duration(record, "timeout")
}

/// Reads the options of a function whose only option is the largest size of its result, in bytes.
pub fn max_size(options: &Value, what: &str) -> Result<usize, Fail> {
    const USUAL: usize = 64 << 20;
    let Some(record) = fields(options, what, &["max_size"])? else { return Ok(USUAL) };
    Ok(size(record)?.unwrap_or(USUAL))
}

/// Reads option `max_size` of a result in memory, in bytes.
pub(super) fn size(record: &Record) -> Result<Option<usize>, Fail> {
    match given(record, "max_size") {
        None => Ok(None),
        Some(Value::Int(size)) if (1..=MAX_TEXT as i64).contains(size) => Ok(Some(*size as usize)),
        Some(other) => Err(unfit("max_size", "a number of bytes from 1 to 268,435,456", other)),
    }
}

/// Checks the options of a function of the library that reads them itself: its name, and the names
/// of its options.
pub fn check(options: &Value, what: &Value, known: &Value) -> Result<(), Fail> {
    let names: Vec<&str> = match known {
        Value::List(list) => list.as_slice().iter().filter_map(as_str).collect(),
        _ => Vec::new(),
    };
    fields(options, as_str(what).unwrap_or_default(), &names).map(|_| ())
}

fn as_str(value: &Value) -> Option<&str> {
    match value {
        Value::Str(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Returns the name in a list that is most like another, if one is alike.
pub fn nearest<'a>(name: &Value, known: &'a Value) -> Option<&'a str> {
    let Value::List(list) = known else { return None };
    closest(as_str(name)?, list.as_slice().iter().filter_map(as_str))
}
