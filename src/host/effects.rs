//! Effects that are executed at once, since they take no time and change nothing outside.

use crate::builtins::{Effect, databases, engine, files, lines, looks, messages, outside, programs, sleep};
use crate::engine::StepId;
use crate::machine::natives::hashes;
use crate::machine::{Data, ErrorData, Value, secret, zones};
use crate::permissions::Permissions;

use super::{Clock, EffectResult, Settings, callbacks, clock, data};

/// Executes an effect of an instance or an entity.
pub(super) fn at_once(
    settings: &Settings,
    step: &StepId,
    effect: Effect,
    args: &Data,
    permissions: &Permissions,
) -> EffectResult {
    if effect == Effect::CallbackUrl {
        return settings.callbacks.url(step, args);
    }
    let permissions = settings.permissions.and(permissions);
    immediate(effect, args, &permissions, &settings.clock).unwrap_or_else(|| Err(unknown(effect.name())))
}

/// Executes an effect, if it is of this kind.
pub(crate) fn immediate(
    effect: Effect,
    args: &Data,
    permissions: &Permissions,
    clock: &Clock,
) -> Option<EffectResult> {
    let value = match effect {
        Effect::Now => Value::Instant(clock.now()),
        Effect::Random => match entropy::<8>() {
            Ok(bytes) => Value::float((u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64),
            Err(error) => return Some(Err(error)),
        },
        Effect::RandomInt => match (&args.items()[..], entropy::<16>()) {
            (_, Err(error)) => return Some(Err(error)),
            ([Value::Int(low), Value::Int(high)], Ok(bytes)) => {
                // These are 128 random bits over at most 2^64 values. So the probabilities of two
                // values differ by at most 2^-64 of either.
                let count = (*high as i128 - *low as i128) as u128 + 1;
                let offset = u128::from_le_bytes(bytes) % count;
                Value::Int((*low as i128 + offset as i128) as i64)
            }
            _ => Value::Null,
        },
        Effect::Uuid => match entropy::<16>() {
            Ok(bytes) => Value::str(uuid(bytes)),
            Err(error) => return Some(Err(error)),
        },
        Effect::Env => match &args.items()[..] {
            [Value::Str(name)] => match permissions.check_variable(name.as_str()) {
                Ok(()) => variable(name.as_str()),
                Err(refused) => return Some(Err(refused)),
            },
            _ => Value::Null,
        },
        Effect::Secret => match &args.items()[..] {
            // The secret exists now. Its value is read when an effect needs it.
            [Value::Str(name)] => match read_secret(name.as_str(), permissions) {
                Ok(_) => secret::named(name.as_str()),
                Err(error) => return Some(Err(error)),
            },
            _ => Value::Null,
        },
        // The result tells nothing of the key, which stays in this process.
        Effect::HashHmac => match &args.items()[..] {
            [key, value, options] => {
                let key = secret::revealed(key, &mut |name| read_secret(name, permissions));
                match key.and_then(|key| Ok(hashes::sign(&key, value, options)?)) {
                    Ok(signature) => signature,
                    Err(error) => return Some(Err(error)),
                }
            }
            _ => Value::Null,
        },
        Effect::TimeZone => match &args.items()[..] {
            [Value::Str(name)] => match zones::named(name.as_str()) {
                Ok(zone) => zone,
                Err(error) => return Some(Err(error)),
            },
            _ => Value::Null,
        },
        Effect::CallbackUrl => return Some(Err(callbacks::no_server())),
        looks!() => {
            let why = format!("`{effect}` is possible in a test, a property or a mock only");
            return Some(Err(ErrorData::new("context", why)));
        }
        // These effects leave the process.
        lines!() | outside!() | files!() | programs!() | databases!() => return None,
        // The engine handles these effects, and the loop handles the sleep of an activity.
        sleep!() | engine!() | messages!() => return None,
    };
    Some(data(&value))
}

/// Returns the error of an effect that cannot be executed.
pub(crate) fn unknown(name: &str) -> ErrorData {
    ErrorData::new("internal", format!("`{name}` is not an effect that can be carried out"))
}

/// Returns the value of a secret, if the program may read it.
fn read_secret(name: &str, permissions: &Permissions) -> Result<String, ErrorData> {
    permissions.check_variable(name)?;
    let value = match variable(name) {
        Value::Str(text) => Some(text.as_str().to_string()),
        _ => None,
    };
    value.ok_or_else(|| {
        let message =
            format!("there is no secret `{name}`: the environment of this process has no such variable");
        ErrorData::with("no_secret", message, [("name", Value::str(name))])
    })
}

/// The values of the secrets that an effect got, which its errors must not contain.
pub(crate) type Revealed = Vec<String>;

/// Returns the arguments of an effect with the values of the secrets in them.
pub(crate) fn reveal(args: Data, permissions: &Permissions) -> Result<(Data, Revealed), ErrorData> {
    // The content of a file may be long, and seldom has a secret in it.
    let mask = secret::MASK.as_bytes();
    let may_hold = mask.first().is_some_and(|first| memchr::memchr(*first, &args.0).is_some());
    if !may_hold || memchr::memmem::find(&args.0, mask).is_none() {
        return Ok((args, Vec::new()));
    }
    let value = args.decode();
    if !secret::holds(&value) {
        return Ok((args, Vec::new()));
    }
    let mut revealed = Vec::new();
    let value = secret::revealed(&value, &mut |name| {
        let text = read_secret(name, permissions)?;
        revealed.push(text.clone());
        Ok(text)
    })?;
    Ok((data(&value)?, revealed))
}

/// Returns the outcome of an effect, without the values of secrets in its error.
pub(crate) fn hidden(outcome: EffectResult, revealed: &Revealed) -> EffectResult {
    outcome.map_err(|error| match revealed.is_empty() {
        true => error,
        false => {
            let value = Data::encode(&without(&error.value.decode(), revealed, 0));
            ErrorData { value: value.unwrap_or_else(|_| Data::null()), trace: error.trace }
        }
    })
}

/// Returns a value with the secrets in its texts masked.
fn without(value: &Value, revealed: &Revealed, depth: usize) -> Value {
    const MOST_LEVELS: usize = 100;
    match value {
        Value::Str(text) => {
            let hide = |text: String, hidden: &String| match hidden.is_empty() {
                true => text,
                false => text.replace(hidden.as_str(), secret::MASK),
            };
            Value::str(revealed.iter().fold(text.as_str().to_string(), hide))
        }
        Value::Record(record) if depth < MOST_LEVELS => {
            let fields = record.iter().map(|(name, value)| (&**name, without(value, revealed, depth + 1)));
            Value::record(fields)
        }
        Value::List(list) if depth < MOST_LEVELS => {
            Value::list(list.as_slice().iter().map(|item| without(item, revealed, depth + 1)).collect())
        }
        other => other.clone(),
    }
}

fn variable(name: &str) -> Value {
    // The system's functions do not accept these names.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Value::Null;
    }
    match std::env::var_os(name) {
        Some(value) => Value::str(value.to_string_lossy().into_owned()),
        None => Value::Null,
    }
}

fn entropy<const N: usize>() -> Result<[u8; N], ErrorData> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map(|()| bytes)
        .map_err(|error| ErrorData::new("io_error", format!("the system gives no random numbers: {error}")))
}

/// Returns a text that is unique.
pub(crate) fn unique() -> String {
    match entropy::<16>() {
        Ok(bytes) => uuid(bytes),
        // Without random numbers, the time and the process id must do.
        Err(_) => format!("{:x}-{:x}", clock::now(), std::process::id()),
    }
}

/// Returns a version 4 UUID (RFC 9562).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    uuid_text(bytes)
}

/// Returns the text of a UUID.
pub(super) fn uuid_text(bytes: [u8; 16]) -> String {
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
