//! Effects that are done where they are asked for: they take no time and leave nothing outside.

use crate::builtins::looks;
use crate::machine::{Data, ErrorData, Value};
use crate::permissions::Permissions;

use super::{Clock, Outcome, clock, data};

/// Does an effect at once, if it is of that kind.
pub(crate) fn immediate(
    name: &str,
    args: &Data,
    permissions: &Permissions,
    clock: &Clock,
) -> Option<Outcome> {
    let value = match name {
        "now" => Value::Instant(clock.now()),
        "random" => match entropy::<8>() {
            Ok(bytes) => Value::float((u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64),
            Err(error) => return Some(Err(error)),
        },
        "random_int" => match (&args.items()[..], entropy::<16>()) {
            (_, Err(error)) => return Some(Err(error)),
            ([Value::Int(low), Value::Int(high)], Ok(bytes)) => {
                // 128 random bits over at most 2^64 values: no value is likelier than another by more than 2^-64.
                let count = (*high as i128 - *low as i128) as u128 + 1;
                let offset = u128::from_le_bytes(bytes) % count;
                Value::Int((*low as i128 + offset as i128) as i64)
            }
            _ => Value::Null,
        },
        "uuid" => match entropy::<16>() {
            Ok(bytes) => Value::str(uuid(bytes)),
            Err(error) => return Some(Err(error)),
        },
        "env" => match &args.items()[..] {
            [Value::Str(name)] => match permissions.check_variable(name.as_str()) {
                Ok(()) => variable(name.as_str()),
                Err(refused) => return Some(Err(refused)),
            },
            _ => Value::Null,
        },
        name if looks(name) => {
            let why = format!("`{name}` is possible in a test, a property or a mock only");
            return Some(Err(ErrorData::new("context", why)));
        }
        _ => return None,
    };
    Some(data(&value))
}

fn variable(name: &str) -> Value {
    // Names with these can't be asked for.
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

/// A text that no other one is like.
pub(crate) fn unique() -> String {
    match entropy::<16>() {
        Ok(bytes) => uuid(bytes),
        // Without random numbers, the time and the process have to do.
        Err(_) => format!("{:x}-{:x}", clock::now(), std::process::id()),
    }
}

/// A version 4 UUID (RFC 9562).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
