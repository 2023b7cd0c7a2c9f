//! Natives for checksums, signatures, base64 and UUIDs.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use sha2::digest::FixedOutput;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::super::error::{Fail, fail, type_error};
use super::super::operate as op;
use super::super::value::Value;
use super::super::{format, secret, work};
use super::options::{self, Algorithm};
use super::{Native, text};

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "hash" => |args| {
            let algorithm = Algorithm::named(text(&args[1])?.as_str());
            let algorithm = algorithm.ok_or_else(|| fail("internal", "a checksum of no known kind"))?;
            let bytes = octets(&args[0])?;
            work::done(bytes.len().saturating_mul(4));
            Ok(Value::str(match algorithm {
                Algorithm::Sha256 => hex::encode(Sha256::digest(bytes)),
                Algorithm::Sha384 => hex::encode(Sha384::digest(bytes)),
                Algorithm::Sha512 => hex::encode(Sha512::digest(bytes)),
            }))
        },
        "hmac" => |args| {
            let options = args.get(2).cloned().unwrap_or_default();
            sign(&args[0], &args[1], &options)
        },
        "base64_encode" => |args| {
            let url = args.get(1).map_or(Ok(false), options::base64)?;
            let bytes = octets(&args[0])?;
            op::reserve_text(bytes.len().div_ceil(3).saturating_mul(4))?;
            work::done(bytes.len());
            Ok(Value::str(if url { IN_URLS.encode(bytes) } else { PADDED.encode(bytes) }))
        },
        "base64_decode" => |args| {
            let digits = text(&args[0])?.as_str();
            op::reserve_text(digits.len())?;
            work::done(digits.len());
            let of_urls = memchr::memchr2(b'-', b'_', digits.as_bytes()).is_some();
            let engine = if of_urls { IN_URLS } else { PADDED };
            engine.decode(digits).map(Value::bytes).map_err(|error| {
                fail("parse_error", format!("not base64: {}", error.to_string().to_lowercase()))
            })
        },
        "uuid_v7" => |args| {
            let Value::Instant(now) = args[0] else { return Err(super::wrong("an instant", &args[0])) };
            version_7(now, text(&args[1])?.as_str())
        },
        _ => return None,
    })
}

/// Both read texts with and without padding.
const READ: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PADDED: GeneralPurpose = GeneralPurpose::new(&STANDARD, READ);
const IN_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, READ.with_encode_padding(false));

fn octets(value: &Value) -> Result<&[u8], Fail> {
    match value {
        Value::Str(text) => Ok(text.as_str().as_bytes()),
        Value::Bytes(blob) => Ok(&blob.bytes),
        other if secret::is(other) => Err(secret::misused("checksum")),
        other => Err(super::wrong("a string or bytes", other)),
    }
}

/// Checks what is to be signed, and the options, where only the process knows the key.
pub fn check(value: &Value, options: &Value) -> Result<(), Fail> {
    options::hmac(options)?;
    octets(value).map(|_| ())
}

/// Returns the signature of a string or bytes.
pub fn sign(key: &Value, value: &Value, options: &Value) -> Result<Value, Fail> {
    let algorithm = options::hmac(options)?;
    let (key, bytes) = (octets(key)?, octets(value)?);
    work::done(key.len().saturating_add(bytes.len()).saturating_mul(4));
    match algorithm {
        Algorithm::Sha256 => signed::<Hmac<Sha256>>(key, bytes),
        Algorithm::Sha384 => signed::<Hmac<Sha384>>(key, bytes),
        Algorithm::Sha512 => signed::<Hmac<Sha512>>(key, bytes),
    }
}

fn signed<M: Mac + hmac::digest::KeyInit + FixedOutput>(key: &[u8], bytes: &[u8]) -> Result<Value, Fail> {
    let mut mac =
        <M as Mac>::new_from_slice(key).map_err(|_| type_error("a key of this length signs nothing"))?;
    Mac::update(&mut mac, bytes);
    Ok(Value::str(hex::encode(mac.finalize_fixed())))
}

/// Returns a version 7 UUID (RFC 9562): the milliseconds since 1970, and the random bits of a
/// version 4 UUID.
fn version_7(now: i64, random: &str) -> Result<Value, Fail> {
    let is_uuid = random.len() == 36
        && random.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if !is_uuid {
        let shown = format::brief(&Value::str(random));
        return Err(type_error(format!("a UUID was expected, not {shown}")));
    }
    let millis = u64::try_from(now / 1_000_000)
        .map_err(|_| fail("domain_error", "a UUID of version 7 has a time from 1970 on"))?;
    let time = format!("{millis:012x}");
    Ok(Value::str(format!("{}-{}-7{}", &time[..8], &time[8..], &random[15..])))
}
